"""Where a model's file is read: below the artifact store's address of the settings, and nowhere else."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from ml import transfer
from ml.transfer import TransferFailed
from pipewright.store.records import ModelPointer

READ_SECONDS = 5.0
"""For each silence of the store. Whoever loads tries again, later each time."""


def reader(base: str) -> Callable[[ModelPointer], bytes]:
    """A function that reads the file of a pointer.

    The address in the pointer is a row of a database: it must not lead out of the store.
    """
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
