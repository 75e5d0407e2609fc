"""Reads and writes the few files of a training job: file:// paths, or presigned http(s) addresses.

A presigned address is a credential (its query carries the signature): messages show it without the query.
"""

import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

TRIES = 4
TIMEOUT = 60.0


class TransferFailed(Exception):
    """A file could not be read or written; says where (without the signature) and why."""


def get(uri: str, *, timeout: float = TIMEOUT, tries: int = TRIES) -> bytes:
    """The content at `uri`; `timeout` in seconds for each silence of a try. Raises TransferFailed."""
    if urlsplit(uri).scheme != "file":
        return _http(uri, "GET", None, timeout=timeout, tries=tries)
    try:
        return _path(uri).read_bytes()
    except OSError as error:
        raise TransferFailed(f"cannot read {uri}: {error.strerror}") from None


def put(uri: str, content: bytes) -> None:
    """Store `content` at `uri`; a file is there whole or not at all. Raises TransferFailed."""
    if urlsplit(uri).scheme != "file":
        _http(uri, "PUT", content)
        return
    path = _path(uri)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise TransferFailed(f"cannot write {uri}: {error.strerror}") from None


def shown(uri: str) -> str:
    """The address as it may appear in messages and logs: without user, query and fragment."""
    parts = urlsplit(uri)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))


def _http(
    uri: str, method: str, content: bytes | None, *, timeout: float = TIMEOUT, tries: int = TRIES
) -> bytes:
    """One request, repeated when the server is unreachable or answers 5xx or 429."""
    problem = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(0.2 * 4**attempt)
        request = urllib.request.Request(uri, data=content, method=method)  # noqa: S310 - scheme checked in contract
        if content is not None:
            request.add_header("Content-Type", "application/octet-stream")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - as above
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                break
        except urllib.error.URLError as error:
            problem = str(error.reason)
        except (http.client.HTTPException, OSError) as error:
            problem = type(error).__name__
    raise TransferFailed(f"{method} {shown(uri)}: {problem}")
