"""The artifact store as a folder: `file://` addresses, for one machine or a shared file system.

Ray's workers write here, too, and are trusted less than we are: an address is followed only to what really
lies inside the folder, and no file is read beyond a size.
"""

from __future__ import annotations

import asyncio
import errno
import glob
import os
import shutil
import stat
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar
from urllib.parse import quote, unquote, urlsplit

from pipewright import errors
from pipewright.backends.artifacts import parts as parts_of

T = TypeVar("T")

_NO_FILE = frozenset({errno.ELOOP, errno.ENXIO})
"""What opening a link or a socket answers; a pipe opens at once and is then seen not to be a file."""


class FileArtifacts:
    """`pipewright.ports.training.Artifacts` below one folder, named by its `file://` address."""

    def __init__(self, url: str, *, max_bytes: int = parts_of.MAX_BYTES) -> None:
        parts = urlsplit(url)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError("the artifact store must be a file:///absolute/path")
        self._root = Path(unquote(parts.path)).resolve()
        self._max_bytes = max_bytes

    def url_for(self, *parts: str) -> str:
        """The address of a file or folder below the store. ValueError when a part is no plain name."""
        for part in parts:
            parts_of.check(part)
        return f"file://{quote(str(self._root.joinpath(*parts)))}"

    async def put(self, url: str, content: bytes) -> None:
        """Write a file beside its place, then move it there."""
        path = self._path(url)
        await asyncio.to_thread(_guarded, f"write {path.name}", lambda: _put(path, content))

    async def stream(self, url: str, content: AsyncIterator[bytes]) -> None:
        """Write a file piece by piece beside its place, then move it there; for this user's eyes only."""
        path = self._path(url)
        what, draft = f"write {path.name}", path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        handle = await asyncio.to_thread(_guarded, what, lambda: _open_draft(draft))
        try:
            with os.fdopen(handle, "wb") as file:
                async for piece in content:
                    await asyncio.to_thread(_guarded, what, partial(file.write, piece))
                await asyncio.to_thread(_guarded, what, partial(_sync, file))
            await asyncio.to_thread(_guarded, what, lambda: draft.replace(path))
        finally:
            draft.unlink(missing_ok=True)

    async def get(self, url: str) -> bytes | None:
        """A file's content; None when it is not there."""
        path = self._path(url)
        return await asyncio.to_thread(_guarded, f"read {path.name}", lambda: self._get(path))

    async def exists(self, url: str) -> bool:
        """Whether a file or folder is there."""
        path = self._path(url)
        return await asyncio.to_thread(_guarded, f"look at {path.name}", path.exists)

    async def delete(self, url: str) -> None:
        """Delete a file, or a folder with what lies in it."""
        path = self._path(url)
        if path == self._root:
            raise ValueError("the whole artifact store is never deleted")
        await asyncio.to_thread(_guarded, f"delete {path.name}", lambda: _delete(path))

    async def lend(self, url: str, *, to: Literal["read", "write"], lasting: timedelta) -> str:
        """The address itself: whoever runs on this machine may follow it."""
        self._path(url)
        return url

    def _path(self, url: str) -> Path:
        """The place that an address names. Symbolic links must not lead out of the store."""
        parts = urlsplit(url)
        path = Path(unquote(parts.path))
        inside = path.is_relative_to(self._root) and ".." not in path.parts
        if parts.scheme != "file" or not inside or not _resolved(path).is_relative_to(self._root):
            raise errors.BackendError("an address leads out of the artifact store: it is not followed")
        return path

    def _get(self, path: Path) -> bytes | None:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as broken:
            if broken.errno in _NO_FILE:
                raise _no_file(path) from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise _no_file(path)
            with os.fdopen(handle, "rb", closefd=False) as file:
                content = file.read(self._max_bytes + 1)
        finally:
            os.close(handle)
        if len(content) > self._max_bytes:
            raise errors.BackendError(f"artifact store: {path.name} is larger than {self._max_bytes} bytes")
        return content


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links that lead in a circle
        raise errors.BackendError(f"artifact store: the place of {path.name} cannot be followed") from None


def _no_file(path: Path) -> errors.BackendError:
    return errors.BackendError(f"artifact store: {path.name} is no plain file")


def _guarded(what: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except PermissionError:
        raise errors.Forbidden(f"artifact store: {what}: this process has no right to") from None
    except OSError as broken:
        raise errors.Unreachable(f"artifact store: {what}: {broken.strerror}") from None


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _open_draft(draft: Path) -> int:
    """A new draft. Those of the same file that a killed process left are removed: nobody else would."""
    draft.parent.mkdir(parents=True, exist_ok=True)
    for left in draft.parent.glob(f"{glob.escape(draft.stem)}.*"):
        left.unlink(missing_ok=True)
    return os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
