"""A process of the Integration controller that is killed between two writes."""

from __future__ import annotations

from typing import Any

WRITES = frozenset(
    {
        "create", "replace", "apply", "publish", "withdraw", "delete", "note_registration",
        "forget_registration", "create_webhook", "update_webhook", "delete_webhook",
    }
)  # fmt: skip


class Killed(BaseException):
    """The process is gone."""


class Doomed:
    """A port whose process is killed right after its n-th write; the count is shared."""

    def __init__(self, port: Any, fate: dict[str, int]) -> None:
        self._port, self._fate = port, fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name not in WRITES:
            return found

        async def write(*args: Any, **kwargs: Any) -> Any:
            answer = await found(*args, **kwargs)
            self._fate["count"] += 1
            if self._fate["count"] == self._fate["at"]:
                raise Killed
            return answer

        return write
