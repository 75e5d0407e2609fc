"""The artifact store in an S3 bucket, or in what speaks its protocol: `s3://bucket/folder` addresses.

A training job gets presigned addresses (Signature Version 4 in the query): each is for one file, one way and
a while, so no credential of the bucket leaves this process. Imported only where a store lies in S3.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import obstore
from obstore import exceptions as refusals
from obstore.store import S3Store

from pipewright import errors
from pipewright.backends.artifacts import parts as parts_of
from pipewright.ports import Secret

if TYPE_CHECKING:
    from obstore.store import S3Credential

_METHODS: Final = {"read": "GET", "write": "PUT"}
_REREAD: Final = timedelta(minutes=5)
"""For so long the credentials of the files count, before they are read again."""
_TRIES: Final = 2
_TIMEOUT: Final = timedelta(seconds=30)
_CONNECT: Final = timedelta(seconds=5)
_PATIENCE: Final = timedelta(seconds=45)
"""For a request with its repetitions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Access:
    """How a bucket is reached."""

    region: str | None = None
    endpoint: str | None = None
    """Of what is not AWS: an https address; http only where somebody wrote it so."""
    credentials: Callable[[], tuple[Secret, Secret]] | None = None
    """Reads access key id and secret access key; None: they come from where AWS' tools have them."""


class S3Artifacts:
    """`pipewright.ports.training.Artifacts` below one prefix of one bucket."""

    def __init__(self, url: str, access: S3Access, *, max_bytes: int = parts_of.MAX_BYTES) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("the artifact store must be s3://bucket or s3://bucket/folder")
        prefix = parts.path.strip("/")
        self._base = f"s3://{parts.netloc}{f'/{prefix}' if prefix else ''}"
        self._max_bytes = max_bytes
        plain = access.endpoint is not None and access.endpoint.startswith("http://")
        self._store = S3Store(
            parts.netloc,
            prefix=prefix or None,
            config={
                **({"region": access.region} if access.region else {}),
                **({"endpoint": access.endpoint} if access.endpoint else {}),
            },
            client_options={"allow_http": plain, "timeout": _TIMEOUT, "connect_timeout": _CONNECT},
            retry_config={"max_retries": _TRIES, "retry_timeout": _PATIENCE},
            **({"credential_provider": _provider(access.credentials)} if access.credentials else {}),
        )

    def url_for(self, *parts: str) -> str:
        """The address of a file or folder below the store. ValueError when a part is no plain name."""
        for part in parts:
            parts_of.check(part)
        return "/".join((self._base, *parts))

    async def put(self, url: str, content: bytes) -> None:
        """Write a file; a bucket shows it when it is whole."""
        key = self._key(url)
        with _guarded(f"write {_name(key)}"):
            await obstore.put_async(self._store, key, content)

    async def stream(self, url: str, content: AsyncIterator[bytes]) -> None:
        """Write a file in parts; the bucket's policy says who may read it."""
        key, broken = self._key(url), list[Exception]()

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in content:
                    yield piece
            except Exception as error:
                broken.append(error)  # the library tells of it in words of its own
                raise

        with _guarded(f"write {_name(key)}", broken):
            await obstore.put_async(self._store, key, pieces())

    async def get(self, url: str) -> bytes | None:
        """A file's content; None when it is not there."""
        key = self._key(url)
        with _guarded(f"read {_name(key)}"):
            try:
                found = await obstore.get_async(self._store, key)
            except (FileNotFoundError, refusals.NotFoundError):
                return None
            self._check(key, found.meta["size"])
            return bytes(await found.bytes_async())

    def read(self, url: str) -> bytes | None:
        """`get` for whoever waits in a thread."""
        key = self._key(url)
        with _guarded(f"read {_name(key)}"):
            try:
                found = obstore.get(self._store, key)
            except (FileNotFoundError, refusals.NotFoundError):
                return None
            self._check(key, found.meta["size"])
            return bytes(found.bytes())

    async def exists(self, url: str) -> bool:
        """Whether a file is there, or any below it."""
        key = self._key(url)
        with _guarded(f"look at {_name(key)}"):
            try:
                await obstore.head_async(self._store, key)
            except (FileNotFoundError, refusals.NotFoundError):
                async for found in obstore.list(self._store, prefix=key, chunk_size=1):
                    if found:
                        return True
                return False
            return True

    async def delete(self, url: str) -> None:
        """Delete a file, and all below it."""
        key = self._key(url)
        if not key:
            raise ValueError("the whole artifact store is never deleted")
        with _guarded(f"delete {_name(key)}"):
            with suppress(FileNotFoundError, refusals.NotFoundError):
                await obstore.delete_async(self._store, key)
            async for found in obstore.list(self._store, prefix=key):
                await obstore.delete_async(self._store, [each["path"] for each in found])

    async def lend(self, url: str, *, to: Literal["read", "write"], lasting: timedelta) -> str:
        """A presigned address."""
        key = self._key(url)
        with _guarded(f"lend {_name(key)}"):
            found: str = await obstore.sign_async(self._store, _METHODS[to], key, lasting)  # type: ignore[call-overload]
            return found

    def _check(self, key: str, size: int) -> None:
        if size > self._max_bytes:
            raise errors.BackendError(f"artifact store: {_name(key)} is larger than {self._max_bytes} bytes")

    def _key(self, url: str) -> str:
        """The key below the prefix that an address names."""
        if url == self._base:
            return ""
        key = url.removeprefix(f"{self._base}/")
        if key == url or any(part in ("", ".", "..") for part in key.split("/")):
            raise errors.BackendError("an address leads out of the artifact store: it is not followed")
        return key


def _provider(read: Callable[[], tuple[Secret, Secret]]) -> Callable[[], S3Credential]:
    def credential() -> S3Credential:
        key, secret = read()
        return {
            "access_key_id": key.reveal(),
            "secret_access_key": secret.reveal(),
            "token": None,
            "expires_at": datetime.now(UTC) + _REREAD,
        }

    return credential


def _name(key: str) -> str:
    return key.rpartition("/")[2] or "the store"


@contextmanager
def _guarded(what: str, ours: Sequence[Exception] = ()) -> Iterator[None]:
    """No exception of the library gets out, nor its words: they may have an address with its signature.

    What broke on our side, in `ours`, is told as it is.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each is told in words of ours, or goes on as it is
        raise ours[0] if ours else _told(error, what) from None


def _told(error: Exception, what: str) -> Exception:
    where = f"artifact store: {what}"
    match error:
        case errors.BackendError():
            return error
        case PermissionError() | refusals.PermissionDeniedError() | refusals.UnauthenticatedError():
            return errors.Forbidden(f"{where}: the bucket refuses the credentials")
        case FileNotFoundError() | refusals.NotFoundError():
            return errors.Unreachable(f"{where}: there is no such bucket")
        case OSError() | refusals.BaseError():
            return errors.Unreachable(f"{where}: no good answer")
        case _:
            return error
