"""The key that wraps a tenant's data key: when it is rotated, and that the data key survives every crash."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.rules import data_key
from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import WrappingKey
from tests.unit.controllers import test_tenant_crash as crash
from tests.unit.controllers.test_tenant_plan import (
    COMPLETE,
    NOW,
    PLAIN,
    REGISTRATION,
    UID,
    plan_tenant,
    sentences,
)

DAY = timedelta(days=1)
ROTATE = ["rotate the wrapping key of version 3", "wrap the data key by the newest wrapping key"]
REWRAP = ROTATE[1:]


def asking(text: str) -> Tenant:
    metadata = {"name": "team-a", "uid": UID, "generation": 1}
    metadata |= {"annotations": {names.ROTATE_DATA_KEY_ANNOTATION: text}}  # type: ignore[dict-item]
    return Tenant.parse({"metadata": metadata, "spec": {}})


def seen(
    *, wrapped_by: str | None = "vault:v3", age: timedelta = DAY, every: timedelta | None = None
) -> Observed:
    return replace(
        COMPLETE,
        registration=replace(REGISTRATION, wrapped_by=wrapped_by),
        wrapping_key=WrappingKey(version=3, at=NOW - age),
        wrapping_key_every=every,
        scheme="vault",
    )


PLANS: dict[str, tuple[Tenant, Observed, list[str]]] = {
    "nothing is due when nobody set a period": (PLAIN, seen(age=900 * DAY), []),
    "a young key stays": (PLAIN, seen(every=2 * DAY), []),
    "an old one gets a successor, which wraps": (PLAIN, seen(every=DAY), ROTATE),
    "an annotation asks for it": (asking((NOW - DAY / 2).isoformat()), seen(), ROTATE),
    "what was asked before the key was made is done": (asking((NOW - 2 * DAY).isoformat()), seen(), []),
    "a key of the second in which it was asked for is the answer": (
        asking((NOW - DAY + timedelta(milliseconds=700)).isoformat()),
        seen(),
        [],
    ),
    "an annotation that is no time asks for nothing": (asking("now"), seen(), []),
    "an older version is wrapped anew before anything is rotated": (
        PLAIN,
        seen(wrapped_by="vault:v2", every=DAY),
        REWRAP,
    ),
    "the tenth version is newer than the third": (PLAIN, seen(wrapped_by="vault:v10"), []),
    "without a data key there is nothing to wrap": (PLAIN, seen(wrapped_by=None, every=DAY), []),
}


@pytest.mark.parametrize("sentence", PLANS)
def test_plan(sentence: str) -> None:
    subject, observed, expected = PLANS[sentence]
    assert sentences(plan_tenant(subject, observed)) == expected


def test_it_is_looked_at_again_when_it_is_due() -> None:
    assert plan_tenant(PLAIN, seen(every=3 * DAY)).check_after == 2 * DAY


def test_a_vault_that_does_not_answer_is_said() -> None:
    silent = replace(seen(every=DAY), wrapping_key=Unknown(reason="Unreachable", message="no answer"))
    plan = plan_tenant(PLAIN, silent)
    assert sentences(plan) == []
    assert ("SecretsReady", False) in {(fact.type, fact.status) for fact in plan.facts}


def test_an_idle_look_does_not_ask_for_the_key() -> None:
    registration = replace(REGISTRATION, wrapped_by="vault:v1")
    assert not data_key.is_looked_at(PLAIN, registration, None)
    assert data_key.is_looked_at(PLAIN, registration, DAY)
    assert data_key.is_looked_at(asking("x"), registration, None)
    assert not data_key.is_looked_at(PLAIN, REGISTRATION, DAY)


def test_secrets_that_lie_in_the_other_place_are_not_generated_anew() -> None:
    observed = replace(seen(), scheme="kubernetes", credential_version=None, secret_access=None)
    plan = plan_tenant(PLAIN, observed)
    assert sentences(plan) == []
    told = {fact.type: (fact.reason, fact.stalled) for fact in plan.facts}
    assert told["SecretsReady"] == told["DatabaseReady"] == ("SecretsElsewhere", True)


def old(world: crash.World) -> None:
    """Make the clock that keys are made by one of the year before."""
    world.keys.now = lambda: datetime(2025, 6, 1, tzinfo=UTC)


def annotated() -> Tenant:
    document: dict[str, Any] = {
        "metadata": {
            "name": "team-a",
            "uid": crash.UID,
            "generation": 1,
            "annotations": {names.ROTATE_DATA_KEY_ANNOTATION: "2025-12-01T00:00:00Z"},
        },
        "spec": {"deletionPolicy": "Retain", "quota": {"pods": 3}},
    }
    return Tenant.parse(document)


async def rotated(*, at: int = 0, before: bool = False) -> tuple[int, str]:
    """Rotate with the process killed at one of the writes; how many there were, and what wraps the key."""
    world = crash.World()
    old(world)
    await world.settle(crash.tenant())
    found = await world.registry.find(uid=crash.UID)
    assert found is not None
    first = await world.registry.wrapped_data_key(found.id)
    assert first is not None
    key = await world.keys.open(found.id, first)
    world.keys.now = lambda: datetime(2026, 1, 1, tzinfo=UTC)
    world.fuse.count, world.fuse.at, world.fuse.before = 0, at, before
    await world.settle(annotated())
    writes = world.fuse.count
    wrapped = await world.registry.wrapped_data_key(found.id)
    assert wrapped is not None
    assert await world.keys.open(found.id, wrapped) == key
    newest = await world.keys.newest(found.id)
    assert newest is not None
    assert newest.version == 2
    return writes, wrapped.rpartition(":")[0]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_a_rotation_that_is_cut_short_is_finished_once(before: bool) -> None:
    writes, wrapped_by = await rotated()
    assert (writes, wrapped_by) == (2, "memory:v2")
    for at in range(1, writes + 1):
        _, wrapped_by = await rotated(at=at, before=before)
        assert wrapped_by == "memory:v2"
