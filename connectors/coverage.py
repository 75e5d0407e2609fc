"""What of a CI system a manifest covers, and why it has not the rest. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from connectors import webhook

Data = Mapping[str, Any]

KINDS: Final = ("run", "job", "step", "test", "commit", "deployment")
"""Of records, in the order in which they are told of."""
ACTIONS: Final = {
    "rerun": ("rerun-", "retry-", "restart-", "rebuild", "build", "run-"),
    "cancel": ("cancel-", "stop"),
    "log": ("read-log",),
}
"""How the names of actions begin that do this."""
PARTS: Final = ("webhook", "backfill", "steps", "tests", *ACTIONS)
OWN: Final = "of your own mapping"
"""How a webhook is told of that the Integration's config describes."""


def covers(data: Data, part: str) -> str:
    """How the manifest covers a part, in words; empty where it does not."""
    match part:
        case "webhook":
            return _plural(_told(data))
        case "backfill":
            return _plural(_listed(data)) or ("yes" if "sync" in data else "")
        case "steps" | "tests":
            kind, told = part.removesuffix("s"), _told(data)
            own = (
                OWN in told and kind in webhook.schema()["$defs"]["eventRule"]["properties"]["record"]["enum"]
            )
            ways = {"webhook": own or kind in told, "backfill": kind in _listed(data)}
            return ", ".join(way for way, has in ways.items() if has)
        case _:
            return ", ".join(name for name in data.get("actions", {}) if name.startswith(ACTIONS[part]))


def lacking(data: Data) -> dict[str, str]:
    """The parts that are not covered, each with the manifest's reason; empty where it gives none."""
    reasons = data["metadata"].get("lacks", {})
    return {part: reasons.get(part, "") for part in PARTS if not covers(data, part)}


def _plural(kinds: set[str]) -> str:
    return OWN if OWN in kinds else ", ".join(f"{kind}s" for kind in KINDS if kind in kinds)


def _told(data: Data) -> set[str]:
    hook = data.get("webhook", {})
    return {OWN} if "config" in hook else {rule.get("record", "") for rule in hook.get("events", ())}


def _listed(data: Data) -> set[str]:
    return set(_records(data.get("sync", {}).get("list", {})))


def _records(listing: Data) -> Iterator[str]:
    """What the items of a list, and those of the lists within it, are."""
    yield from (rule["record"] for rule in listing.get("records", ()))
    for each in listing.get("each", ()):
        yield from _records(each)
