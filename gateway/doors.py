"""A short way in for what comes most: webhooks. FastAPI describes their route and takes longer for a request
than verifying and mapping it does, so their paths are found here, and everything else goes on to it.

It is the same function either way, and answers the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import problems
from gateway.problems import Problem
from pipewright import errors
from pipewright.runtime import logs

log = logs.get(__name__)

Door = Callable[[str, Request], Awaitable[Response]]
"""Takes the last segment of the path, and the request."""


@dataclass(frozen=True, slots=True)
class _Route:
    """What the log and the metrics call it: never the path."""

    path: str


class Doors:
    """ASGI middleware: answers `POST` to the doors' paths."""

    def __init__(self, app: ASGIApp, *, doors: Mapping[str, Door]) -> None:
        """`doors`: by the path's template, whose last segment is the only variable one."""
        self._app = app
        self._doors = {path.partition("{")[0]: (_Route(path), door) for path, door in doors.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it go on."""
        if scope["type"] == "http" and scope["method"] == "POST":
            before, slash, rest = scope["path"].rpartition("/")
            found = self._doors.get(before + slash)
            if found is not None and rest:
                scope["route"], door = found
                response = await _answer(door, rest, Request(scope, receive))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _answer(door: Door, rest: str, request: Request) -> Response:
    try:
        return await door(rest, request)
    except Problem as problem:
        return problem.response()
    except (errors.BackendError, errors.Waiting, errors.Stalled) as error:
        return trouble(error)


def trouble(error: Exception) -> Response:
    """The answer to a request that one of `pipewright.errors` ended."""
    log.warning("a request could not be answered", **logs.describe(error))
    return problems.from_error(error).response()
