"""Our fields of a Kubernetes object: what we want, compared with what the API server has. Pure.

A steady state makes no write, and a dry-run apply is a write too, so drift is found by comparing. The server
adds defaults and other people add fields: both are no drift. A field that we no longer want is found by the
hash of what we applied last, which lies in an annotation. Who changed a field is read from what the API
server notes of the owners of fields (`metadata.managedFields`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipewright.plan import Manifest

APPLIED = "pipewright.dev/applied"
"""Annotation: hash of the manifest that we applied last."""

MANAGER = "pipewright"
"""Our field manager, by whose name the API server notes which fields are ours."""
SHOWN = 8
"""So many fields are named in one sentence."""

Path = tuple[str, ...]

_EXACT = {"NetworkPolicy": ("spec",), "RoleBinding": ("roleRef", "subjects")}
"""Kind → fields in which what others add is drift too: there it would let somebody in."""

_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
_FACTORS = {"": Decimal(1), "m": Decimal("0.001")}
_FACTORS |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)}
_FACTORS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A field that somebody else changed. `manager` is None where the API server does not know who."""

    path: Path
    manager: str | None = None
    at: str | None = None

    def __str__(self) -> str:
        who = f" by {self.manager}" if self.manager else ""
        # to the minute: in a quarrel each correction would be news otherwise
        when = f" at {self.at[:16]}Z" if self.at else ""
        return f"{'.'.join(self.path)} was changed{who}{when}"


def stamped(manifest: Manifest) -> dict[str, Any]:
    """The manifest with its own hash as an annotation."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), APPLIED: digest}
    return {**manifest, "metadata": metadata}


def drifted(wanted: Manifest, found: Manifest) -> bool:
    """Whether a field that we name differs in `found`, or one that we named once is no longer wanted."""
    return bool(differences(wanted, found))


def differences(wanted: Manifest, found: Manifest) -> tuple[Path, ...]:
    """The fields that differ, as paths; a list differs as a whole."""
    exact = _EXACT.get(str(wanted.get("kind")), ())
    return tuple(
        path for key, value in wanted.items() for path in _differ(found.get(key), value, (key,), exact)
    )


def told(paths: Iterable[Path]) -> str:
    """Field names in words, for Events and conditions: without the stamp, a few of them, never a value."""
    shown = [".".join(path) for path in paths if path[-1] != APPLIED]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more


def changed_by_others(wanted: Manifest, found: Manifest) -> tuple[Change, ...]:
    """What differs because of somebody else, and who that was; nothing when our own wish has changed.

    The API server notes who owns a field. Nobody owns a field that was removed, so with an unchanged wish
    (its stamp is still there) an unowned difference is somebody's too.
    """
    paths = [path for path in differences(wanted, found) if path[-1] != APPLIED]
    others = [entry for entry in _entries(found) if entry.get("manager") != MANAGER]
    changes = [_change(path, others) for path in paths]
    same_wish = _stamp(wanted) == _stamp(found)
    return tuple(change for change in changes if change.manager or same_wish)


def left_over(wanted: Manifest, found: Manifest, *, field: str) -> tuple[str, ...]:
    """Labels or annotations that we alone set once and no longer want. `field` says which of the two."""
    keep = {*(wanted["metadata"].get(field) or {}), "kubernetes.io/metadata.name", APPLIED}
    ours, theirs = set[str](), set[str]()
    for entry in _entries(found):
        owned = _node(entry, ("metadata", field)) or {}
        (ours if entry.get("manager") == MANAGER else theirs).update(
            key.removeprefix("f:") for key in owned if key.startswith("f:")
        )
    return tuple(sorted((ours - theirs - keep) & set(found["metadata"].get(field) or {})))


def _stamp(manifest: Manifest) -> Any:
    return (manifest["metadata"].get("annotations") or {}).get(APPLIED)


def _entries(found: Manifest) -> Iterable[Mapping[str, Any]]:
    return (entry for entry in found["metadata"].get("managedFields") or () if not entry.get("subresource"))


def _change(path: Path, others: Iterable[Mapping[str, Any]]) -> Change:
    owners = [entry for entry in others if _node(entry, path) is not None]
    last = max(owners, key=lambda entry: str(entry.get("time", "")), default=None)
    if last is None:
        return Change(path=path)
    return Change(path=path, manager=str(last.get("manager", "")), at=str(last.get("time", "")))


def _node(entry: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """What the entry owns at this path; empty when it owns it, or what it lies in, as a whole."""
    node: Mapping[str, Any] | None = entry.get("fieldsV1") or {}
    for key in path:
        node = (node or {}).get(f"f:{key}")
        if not node:
            break
    return node


def _differ(found: Any, wanted: Any, path: Path, exact: Sequence[str]) -> Iterable[Path]:
    if not isinstance(wanted, dict):
        if not _covers(found, wanted, exact=path[0] in exact):
            yield path
        return
    there = found or {}  # the server drops what is empty
    if not isinstance(there, dict):
        yield path
        return
    for key, value in wanted.items():
        yield from _differ(there.get(key), value, (*path, key), exact)
    if path[0] in exact:
        yield from ((*path, key) for key, value in there.items() if key not in wanted and value)


def _covers(found: Any, wanted: Any, *, exact: bool = False) -> bool:
    if isinstance(wanted, dict):
        # the server drops what is empty
        there = found or {}
        return (
            isinstance(there, dict)
            and all(_covers(there.get(key), value, exact=exact) for key, value in wanted.items())
            and not (exact and any(value for key, value in there.items() if key not in wanted))
        )
    if isinstance(wanted, list | tuple):
        found = found or []
        return len(found) == len(wanted) and all(
            _covers(one, other, exact=exact) for one, other in zip(found, wanted, strict=True)
        )
    return bool(found == wanted) or _same_quantity(found, wanted)


def _same_quantity(found: Any, wanted: Any) -> bool:
    left, right = quantity(found), quantity(wanted)
    return left is not None and left == right


def quantity(value: Any) -> Decimal | None:
    """What a Kubernetes quantity means (resource.Quantity: the server rewrites 1000m as 1); else None."""
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    return Decimal(match[1]) * _FACTORS[match[2] or ""] if match else None
