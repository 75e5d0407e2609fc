"""The judges, pure: values in, sentences out. No sentence: nothing is broken.

O1 end state · O2 creates and deletes · O3 orphans · O4 owners · O5 rest · O6 time · O7 secrets · O8 audit
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dev.faults.world import Everybody, State
from dev.faults.writes import Transaction

ORACLES = ("O1", "O2", "O3", "O4", "O5", "O6", "O7", "O8")
_MISSING = "(absent)"

_LIVE_ONLY = ("policies", "Vault roles", "database roles")
"""What a retained tenant has not any more."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One oracle that a fault broke, and how."""

    oracle: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What two undisturbed runs of a story had in common."""

    state: State
    random: frozenset[str]
    """Paths whose values differed between the two."""
    counts: Counter[str]
    audit: Counter[str]


def reference(one: State, two: State, *, counts: Counter[str], audit: Counter[str]) -> Reference:
    """Learn the mask: what differs between two clean runs says nothing."""
    differing = {path for path in one.keys() | two.keys() if one.get(path) != two.get(path)}
    return Reference(state=one, random=frozenset(differing), counts=counts, audit=audit)


def end_state(wanted: Reference, found: State) -> Iterator[Broken]:
    """O1: the end state is the reference's."""
    for path in sorted(wanted.state.keys() | found.keys()):
        before, now = wanted.state.get(path, _MISSING), found.get(path, _MISSING)
        if path not in wanted.random and before != now:
            yield Broken("O1", f"{path} is {now!r}, not {before!r}")


def counts(wanted: Mapping[str, int], found: Mapping[str, int]) -> Iterator[Broken]:
    """O2: each object was created and deleted as often as in the reference."""
    for key in sorted(wanted.keys() | found.keys()):
        before, now = wanted.get(key, 0), found.get(key, 0)
        if before != now:
            yield Broken("O2", f"{key}: {now} times, not {before}")


def orphans(now: Everybody) -> Iterator[Broken]:
    """O3: what there is belongs to a tenant that there is, or to one that was retained."""
    live = {tenant_id for tenant_id, (uid, _) in now.registry.items() if uid in now.tenants}
    retained = {tenant_id for tenant_id, (_, state) in now.registry.items() if state == "Retained"}
    for place, ids in now.places.items():
        for tenant_id in sorted(ids - live - (set() if place in _LIVE_ONLY else retained)):
            yield Broken("O3", f"{place} have {tenant_id}, which no tenant is")
    for tenant_id, (uid, state) in now.registry.items():
        if uid not in now.tenants and state not in ("Retained", "Deleted"):
            yield Broken("O3", f"the registry has {tenant_id} as {state}, and its Tenant is gone")


def owners(now: Everybody) -> Iterator[Broken]:
    """O4: what carries an id carries the UID that the registry has for it."""
    for thing, tenant_id, uid in sorted(now.owners):
        expected = now.registry.get(tenant_id, ("", ""))[0]
        if uid != expected:
            yield Broken("O4", f"{thing} carries the UID {uid}, and {tenant_id} is {expected or 'nobody'}'s")


def rest(looks: Sequence[int]) -> Iterator[Broken]:
    """O5: after the last change there is nothing left to write, however often it looks."""
    if not looks or looks[-1]:
        yield Broken("O5", f"writes in the looks after it was done: {list(looks)}")


def secrets(values: Sequence[str], places: Mapping[str, str]) -> Iterator[Broken]:
    """O7: the generated values are in none of these texts, plain or in base64."""
    for place, text in places.items():
        for value in values:
            forms = (value, base64.b64encode(value.encode()).decode())
            if any(form in text for form in forms):
                yield Broken("O7", f"a password is in {place}")


def audit(
    wanted: Mapping[str, int],
    rows: Sequence[tuple[str, str]],
    *,
    transactions: Sequence[Transaction],
    namespaces: Sequence[str],
    state: str | None,
) -> Iterator[Broken]:
    """O8: the trail is that of the reference, and agrees with what the proxy and the audit log saw.

    rows: (action, detail) in their order. namespaces: UIDs that the registry has. state: the registry's.
    """
    found = Counter(action for action, _ in rows)
    for action in sorted(wanted.keys() | found.keys()):
        if wanted.get(action, 0) != found[action]:
            yield Broken("O8", f"{found[action]} lines say {action}, not {wanted.get(action, 0)}")
    for uid in namespaces:
        if not any(action == "BindNamespace" and uid in detail for action, detail in rows):
            yield Broken("O8", f"no line says that the namespace {uid} was bound")
    marks = [detail for action, detail in rows if action == "MarkTenant"]
    if state is not None and (marks[-1] if marks else "Active") != state:
        yield Broken("O8", f"the registry says {state}, the trail {marks}")
    yield from untold(transactions)


def untold(transactions: Sequence[Transaction]) -> Iterator[Broken]:
    """O8: no transaction changed the registry without a line in the trail."""
    for transaction in transactions:
        if transaction.database != "pipewright":
            continue
        labels = [write.label for write in transaction.writes if not write.tag.endswith(" 0")]
        changed = [label for label in labels if "pipewright.registry" in label]
        if changed and not any("INTO pipewright.audit" in label for label in labels):
            yield Broken("O8", f"committed without a line in the audit trail: {changed}")


def committed(transactions: Sequence[Transaction]) -> Counter[str]:
    """What PostgreSQL created and dropped, by the proxy's record of what was committed."""
    found: Counter[str] = Counter()
    for transaction in transactions:
        for write in transaction.writes:
            statement = write.label.partition(": ")[2]
            words = statement.replace("IF NOT EXISTS ", "").replace("IF EXISTS ", "").split()
            skipped = write.tag == "skipped" or write.tag.endswith(" 0")
            if words[0] in ("CREATE", "DROP") and not skipped:
                found[" ".join(words[:3])] += 1
            if statement.startswith("INSERT INTO pipewright.registry") and not skipped:
                found[" ".join(words[:3])] += 1
    return found


def first(broken: Sequence[Broken], most: int = 6) -> list[dict[str, Any]]:
    """The first few as plain data, for the report."""
    return [{"oracle": it.oracle, "how": it.how[:400]} for it in broken[:most]]
