"""What goes wrong, as the caller sees it: RFC 9457 problems, and nothing of the inside.

A problem has a `reason` in one word for programs and a sentence for people. Troubles of our own servers
become one of a few fixed sentences here: which server, which database and why is for the log only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response

from pipewright import errors

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is not the one asked for. `detail` is read by users: it says what to do."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """`members` are extension members of the problem, such as the line that is wrong."""
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(math.ceil(retry_after))
        self.members = members

    def response(self) -> Response:
        """The problem as an HTTP response."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
            **self.members,
        }
        return JSONResponse(body, self.status, headers=self.headers, media_type=MEDIA_TYPE)


def from_error(error: Exception) -> Problem:
    """What one of `pipewright.errors` means to a caller; anything else is an internal error."""
    match error:
        case Problem():
            return error
        case errors.Unreachable():
            return unavailable("Unreachable", "a server that this needs does not answer; try again later")
        case errors.Conflict():
            return unavailable("Conflict", "somebody else changed the same thing; try again", after=1)
        case errors.Forbidden():
            return unavailable(
                "Misconfigured", "the gateway lacks a right; the platform team sees it in the log"
            )
        case errors.Waiting():
            return unavailable("NotReady", "not ready yet; try again", after=error.after.total_seconds())
        case _:
            return Problem(500, "Internal", "an error of the gateway; its log has the request's id")


def unavailable(reason: str, detail: str, *, after: float = 10.0) -> Problem:
    """503: the same request is good later."""
    return Problem(503, reason, detail, retry_after=after)


def not_found(detail: str) -> Problem:
    """404."""
    return Problem(404, "NotFound", detail)
