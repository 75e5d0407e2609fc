"""Request bodies, read with a hard limit in bytes and in time: nobody makes this process swell or wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.requests import ClientDisconnect, Request

from gateway.problems import Problem

PATIENCE = 10.0
"""Seconds for a whole small body, and for each part of a long one."""
SLOWEST = 64 * 1024
"""Bytes in a second that a long body must have come with, after the first seconds."""


def check_length(request: Request, *, limit: int) -> None:
    """Refuse by the Content-Length alone, before anything is read.

    Raises:
        Problem: 413, or 400 for a length that is no number.
    """
    given = request.headers.get("content-length")
    if given is None:
        return
    if not given.isascii() or not given.isdigit():
        raise Problem(400, "BadRequest", "the header Content-Length must be a number")
    if len(given) > 15 or int(given) > limit:
        raise too_large(limit)


async def whole(request: Request, *, limit: int, take: Callable[[int], None] = lambda _size: None) -> bytes:
    """The body; `take` is told of each part's bytes, and may refuse them.

    Raises:
        Problem: 413, it has more than `limit` bytes (no more are read); 408, it came too slowly.
    """
    check_length(request, limit=limit)
    parts, size, more = list[bytes](), 0, True
    try:
        async with asyncio.timeout(PATIENCE):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Problem(400, "BadRequest", "the body is cut short")
                part, more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                if size > limit:
                    raise too_large(limit)
                take(len(part))
                parts.append(part)
    except TimeoutError:
        raise _too_slow() from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def lines(request: Request, *, limit: int, longest: int) -> AsyncIterator[bytes]:
    """The body's lines without their ends, as they come; the last one needs no line break.

    Raises:
        Problem: 413, the body or a line is too long; 408, it came too slowly.
    """
    check_length(request, limit=limit)
    size, number, rest = 0, 1, b""
    async for part in _parts(request):
        size += len(part)
        if size > limit:
            raise too_large(limit)
        *found, rest = (rest + part).split(b"\n")
        for line in found:
            if len(line) > longest:
                raise _line_too_long(number, longest)
            yield line
            number += 1
        if len(rest) > longest:
            raise _line_too_long(number, longest)
    if rest:
        yield rest


async def _parts(request: Request) -> AsyncIterator[bytes]:
    stream, now = request.stream(), asyncio.get_running_loop().time
    begun, size = now(), 0
    while True:
        try:
            async with asyncio.timeout_at(min(now(), begun + size / SLOWEST) + PATIENCE):
                part = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _too_slow() from None
        except ClientDisconnect:
            raise Problem(400, "BadRequest", "the body is cut short") from None
        size += len(part)
        yield part


def too_large(limit: int) -> Problem:
    """413. The connection is closed: what the client still sends is not read."""
    return Problem(
        413, "TooLarge", f"the body has more than {limit} bytes", headers={"Connection": "close"}, limit=limit
    )


def _line_too_long(number: int, longest: int) -> Problem:
    return Problem(413, "TooLarge", f"line {number} has more than {longest} bytes", line=number)


def _too_slow() -> Problem:
    return Problem(408, "Timeout", "the body came too slowly", headers={"Connection": "close"})
