"""Where a model's file is read: below the artifact store's address of the settings, and nowhere else."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ml import transfer
from ml.transfer import TransferFailed
from pipewright import artifact_store, errors
from pipewright.backends.artifacts import FileArtifacts
from pipewright.settings import Artifacts
from pipewright.store.records import ModelPointer

if TYPE_CHECKING:
    from pipewright.backends.artifacts.bucket import S3Artifacts

READ_SECONDS = 5.0
"""For each silence of the store. Whoever loads tries again, later each time."""

Read = Callable[[ModelPointer], bytes]


def reader(settings: Artifacts) -> Read:
    """A function that reads the file of a pointer; called in a thread.

    The address in the pointer is a row of a database: it must not lead out of the store.
    """
    store = artifact_store.of(settings)
    return _of_folder(settings.url) if isinstance(store, FileArtifacts) else _of_bucket(store)


def _of_bucket(store: S3Artifacts) -> Read:
    def read(pointer: ModelPointer) -> bytes:
        try:
            content = store.read(pointer.artifact_uri)
        except errors.BackendError as error:
            raise TransferFailed(error.message) from None
        if content is None:
            raise TransferFailed(f"{transfer.shown(pointer.artifact_uri)} is not there")
        return content

    return read


def _of_folder(base: str) -> Read:
    root = _parts(base)

    def read(pointer: ModelPointer) -> bytes:
        scheme, host, path = _parts(pointer.artifact_uri)
        inside = path.startswith(root[2].rstrip("/") + "/") and (scheme, host) == root[:2]
        if not inside:
            raise TransferFailed(f"{transfer.shown(pointer.artifact_uri)} is not in the artifact store")
        return transfer.get(pointer.artifact_uri, timeout=READ_SECONDS, tries=1)

    return read


def _parts(uri: str) -> tuple[str, str, str]:
    parts = urlsplit(uri)
    return parts.scheme, parts.netloc, posixpath.normpath(unquote(parts.path) or "/")
