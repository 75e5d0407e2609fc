"""Three kinds of trouble, and who acts on each.

    Exception
    ├── Waiting          not yet: the world is on its way; look again after a while
    ├── Stalled          stop: only a change by the user (of a spec, a Secret, another object) can help
    │   └── OwnedByOther     the thing is there and belongs to somebody else: never touched
    └── anything else    a surprise: retried with backoff, shown in a condition
        ├── Unreachable      a server did not answer, or answered that it cannot now
        ├── Forbidden        our own identity lacks a right: an installation problem
        ├── IsolationBroken  a tenant could reach what is another's
        └── Conflict         somebody changed the thing between our look and our write

Backends translate their vendor's exceptions into these once; what is left is a bug and shows as `Internal`.
Messages are read by users: they name what, where and the next step, and never carry a secret.
"""

from __future__ import annotations

from datetime import timedelta


class Waiting(Exception):
    """Not ready yet, and nobody needs to act: look again after `after`."""

    def __init__(self, reason: str, message: str, *, after: timedelta = timedelta(seconds=5)) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.after = after


class Stalled(Exception):
    """Nothing will change until a person changes something: no retry."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class OwnedByOther(Stalled):
    """The thing we would write carries another owner's mark."""

    def __init__(self, message: str) -> None:
        super().__init__("OwnedByOther", message)


class BackendError(Exception):
    """A backend's own trouble, already translated: safe to show, retried with backoff."""

    reason = "BackendFailed"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unreachable(BackendError):
    """The server did not answer, or is sealed, starting or overloaded."""

    reason = "Unreachable"


class Forbidden(BackendError):
    """The server refused our identity: the installation grants too little."""

    reason = "Forbidden"


class IsolationBroken(BackendError):
    """A tenant's own credentials opened what is another's: a person must look at once."""

    reason = "IsolationBroken"


class Conflict(BackendError):
    """The thing changed between our look and our write: look again."""

    reason = "Conflict"


def explain(error: BaseException) -> tuple[str, str]:
    """Reason and message for a condition. Errors that are not ours are named by class only.

    The text of a foreign exception may hold a connection string or a request body, so it goes to no
    condition; the log has the traceback's place, not its values.
    """
    match error:
        case Waiting() | Stalled() | BackendError():
            return error.reason, error.message
        case _:
            return "Internal", f"an unexpected {type(error).__name__}; the operator's log has the traceback"
