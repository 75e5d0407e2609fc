"""The artifact store that the settings name: a folder, or a bucket."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipewright.backends.artifacts import FileArtifacts
from pipewright.ports import Secret
from pipewright.settings import Artifacts, SettingsError, read_secret

if TYPE_CHECKING:
    from pipewright.backends.artifacts.bucket import S3Artifacts


def of(settings: Artifacts) -> FileArtifacts | S3Artifacts:
    """The store.

    Raises:
        SettingsError: its address is none.
    """
    try:
        return _bucket(settings) if settings.is_bucket else FileArtifacts(settings.url)
    except ValueError as wrong:
        raise SettingsError(f"artifacts.url: {wrong}") from None


def _bucket(settings: Artifacts) -> S3Artifacts:
    # 15 MB of library, for those who have a bucket
    from pipewright.backends.artifacts.bucket import S3Access, S3Artifacts

    key, secret = settings.access_key_id_file, settings.secret_access_key_file
    credentials = partial(_read, key, secret) if key is not None and secret is not None else None
    access = S3Access(region=settings.region, endpoint=settings.endpoint, credentials=credentials)
    return S3Artifacts(settings.url, access)


def _read(key: Path, secret: Path) -> tuple[Secret, Secret]:
    return Secret(read_secret(key)), Secret(read_secret(secret))
