"""Suspending a Tenant and letting it in again: what is planned, what is told, and what comes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controllers.tenant import status
from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.plan import plan_tenant
from controllers.tenant.rules import suspension
from pipewright import conditions
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Database, Login
from pipewright.plan import Results
from tests.unit.controllers import test_tenant_rotation as rotation
from tests.unit.controllers.test_tenant_crash import World
from tests.unit.controllers.test_tenant_crash import tenant as living
from tests.unit.controllers.test_tenant_plan import (
    ACCESS,
    COMPLETE,
    DATABASE,
    NOW,
    PLAIN,
    REGISTRATION,
    UID,
    sentences,
    tenant,
)

SUSPENDED = tenant(suspended=True)
STOP = ["mark the tenant Suspended", "suspend the tenant's database logins"]
REVOKE = "revoke access to the tenant's Vault path"
RESUME = ["resume the tenant's database logins", "mark the tenant Active"]


def shut(database: Database, *, word: Any = "Suspended") -> Database:
    """The tenant's own logins are shut, ours are not."""
    own = {
        purpose: replace(database.logins[purpose], enabled=False, suspension=word)
        for purpose in ("app_a", "app_b", "readonly")
        if database.logins[purpose].enabled
    }
    return replace(database, logins={**database.logins, **own})


STOPPED = replace(
    COMPLETE,
    registration=replace(REGISTRATION, state="Suspended"),
    database=shut(DATABASE),
    secret_access=None,
)
SILENT = Unknown(reason="Unreachable", message="Vault did not answer")
FOREIGN = replace(DATABASE, owner_uid="another-uid")


PLANS: dict[str, tuple[Tenant, Observed, list[str]]] = {
    "the switch stops all parts in one pass": (SUSPENDED, COMPLETE, [*STOP, REVOKE]),
    "when all are stopped there is nothing to do": (SUSPENDED, STOPPED, []),
    "sessions that a crash left are ended": (
        SUSPENDED,
        replace(STOPPED, database=shut(DATABASE, word="Ending")),
        [STOP[1]],
    ),
    "half a way into Vault is taken away, too": (
        SUSPENDED,
        replace(STOPPED, secret_access=replace(ACCESS, policy="")),
        [REVOKE],
    ),
    "a Vault that does not answer holds the other parts not up": (
        SUSPENDED,
        replace(COMPLETE, secret_access=SILENT),
        STOP,
    ),
    "a database that does not answer holds the other parts not up": (
        SUSPENDED,
        replace(COMPLETE, database=SILENT),
        [STOP[0], REVOKE],
    ),
    "another Tenant's database is left alone": (
        SUSPENDED,
        replace(COMPLETE, database=FOREIGN),
        [STOP[0], REVOKE],
    ),
    "a restore is ended before its mark is taken away": (
        SUSPENDED,
        replace(
            COMPLETE,
            registration=replace(REGISTRATION, state="Restoring", previous_uids=("another-uid",)),
            database=FOREIGN,
            secret_access=None,
        ),
        ["hand the secrets over", "renew the credentials of version 1", "hand the database over"],
    ),
    "a login that an administrator let in is shut again": (
        SUSPENDED,
        replace(
            STOPPED,
            database=replace(
                shut(DATABASE), logins={**shut(DATABASE).logins, "app_a": DATABASE.logins["app_a"]}
            ),
        ),
        [STOP[1]],
    ),
    "passwords of a suspended tenant are set without letting it in": (
        SUSPENDED,
        replace(
            STOPPED,
            database=replace(
                shut(DATABASE), logins={**DATABASE.logins, "app_a": Login(enabled=False, version=None)}
            ),
        ),
        [STOP[1], "set database logins at credential version 1"],
    ),
    "the switch back lets all parts in again": (
        PLAIN,
        STOPPED,
        [*RESUME, "grant access to the tenant's Vault path"],
    ),
    "a login that was shut for another reason does not come back": (
        PLAIN,
        replace(
            COMPLETE,
            database=replace(
                DATABASE,
                logins={
                    **DATABASE.logins,
                    "app_b": Login(enabled=False, version=0, refused_at=NOW),
                },
            ),
        ),
        [],
    ),
}


@pytest.mark.parametrize("sentence", PLANS)
def test_plan(sentence: str) -> None:
    subject, observed, expected = PLANS[sentence]
    assert sorted(sentences(plan_tenant(subject, observed, NOW))) == sorted(expected)


def test_the_passwords_that_are_set_meanwhile_stay_shut() -> None:
    observed = replace(
        STOPPED,
        database=replace(
            shut(DATABASE), logins={**shut(DATABASE).logins, "runner": Login(enabled=False, version=None)}
        ),
    )
    [action] = plan_tenant(SUSPENDED, observed, NOW)
    assert getattr(action, "suspended", None) is True


# --- rotation -----------------------------------------------------------------------------------------

LATE = rotation.after(days=2)
ASKED = "2026-06-03T11:00:00Z"


def test_the_period_waits_for_the_resume_and_the_annotation_does_not() -> None:
    observed = replace(
        rotation.world(),
        registration=replace(rotation.REGISTRATION, state="Suspended"),
        database=shut(rotation.database(2, enabled=False, refused_at=rotation.ISSUED)),
        secret_access=None,
    )
    daily = rotation.DAILY
    assert sentences(plan_tenant(stopped(daily), observed, LATE)) == []
    assert plan_tenant(stopped(daily), observed, LATE).check_after is None
    asked = rotation.tenant(asked=ASKED, every="24h", overlap="1h")
    assert sentences(plan_tenant(stopped(asked), observed, LATE)) == ["rotate credential version 2"]


def test_the_old_login_of_an_overlap_comes_back_if_the_overlap_goes_on_and_is_retired_if_not() -> None:
    """Neither its end nor its return is forgotten."""
    old = {"enabled": False, "suspension": "Suspended", "overlap_since": rotation.after(minutes=10)}
    observed = replace(
        rotation.world(),
        registration=replace(rotation.REGISTRATION, state="Suspended"),
        database=rotation.database(2, **old),
        secret_access=None,
    )
    soon, late = rotation.after(minutes=20), rotation.after(minutes=80)
    plan = plan_tenant(stopped(rotation.DAILY), observed, soon)
    assert (sentences(plan), plan.check_after) == ([STOP[1]], timedelta(minutes=50))
    assert rotation.RETIRE in sentences(plan_tenant(stopped(rotation.DAILY), observed, late))
    assert RESUME[0] in sentences(plan_tenant(rotation.DAILY, observed, soon))


def stopped(subject: Tenant) -> Tenant:
    return subject.model_copy(update={"spec": subject.spec.model_copy(update={"suspended": True})})


# --- what is told -------------------------------------------------------------------------------------

ALL = "webhooks (kept for later), workflows and training, database logins, Vault access"
TOLD: dict[str, tuple[Tenant, Observed, tuple[str, str, str], str]] = {
    "a tenant at work": (PLAIN, COMPLETE, ("False", "NotSuspended", ""), "Ready"),
    "all is stopped": (
        SUSPENDED,
        STOPPED,
        ("True", "Suspended", f"stopped: {ALL}; set spec.suspended to false to resume"),
        "Suspended",
    ),
    "nothing is stopped yet": (
        SUSPENDED,
        COMPLETE,
        ("False", "Suspending", f"stopped: nothing yet; still to be stopped: {ALL}"),
        "Suspending",
    ),
    "Vault does not answer": (
        SUSPENDED,
        replace(STOPPED, secret_access=SILENT),
        (
            "False",
            "Suspending",
            f"stopped: {ALL.removesuffix(', Vault access')}; still to be stopped: Vault access",
        ),
        "Suspending",
    ),
    "there is no Vault": (
        SUSPENDED,
        replace(STOPPED, without_vault=True, wanted_access=None),
        (
            "True",
            "Suspended",
            f"stopped: {ALL.removesuffix(', Vault access')}; set spec.suspended to false to resume",
        ),
        "Suspended",
    ),
    "the Vault that it was made with is not to be reached": (
        SUSPENDED,
        replace(
            STOPPED,
            registration=replace(STOPPED.registration or REGISTRATION, wrapped_by="vault:1"),
            scheme="kubernetes",
            without_vault=True,
            wanted_access=None,
        ),
        (
            "False",
            "Suspending",
            f"stopped: {ALL.removesuffix(', Vault access')}; still to be stopped: Vault access",
        ),
        "Suspending",
    ),
    "it is being resumed": (
        PLAIN,
        replace(STOPPED, secret_access=ACCESS),
        (
            "True",
            "Resuming",
            "still stopped: webhooks (kept for later), workflows and training, database logins",
        ),
        "Resuming",
    ),
}


@pytest.mark.parametrize("sentence", TOLD)
def test_what_is_told(sentence: str) -> None:
    subject, observed, expected, ready = TOLD[sentence]
    wanted = plan_tenant(subject, observed, NOW)
    told = status.project(subject, observed, wanted, Results(), now=NOW).conditions
    found = conditions.find(told, "Suspended")
    assert found is not None
    assert (found.status, found.reason, found.message) == expected
    summary = conditions.find(told, "Ready")
    assert summary is not None
    assert (summary.status, summary.reason) == ("True" if ready == "Ready" else "False", ready)
    stalled = conditions.find(told, "Stalled")
    assert stalled is not None
    assert stalled.reason == ("SecretsElsewhere" if observed.scheme == "kubernetes" else "NotStalled")


def test_what_is_not_registered_yet_is_neither() -> None:
    unknown = Observed(gateway_key="key")
    assert suspension.fact(PLAIN, unknown).reason == "NotSuspended"
    assert suspension.fact(SUSPENDED, unknown).reason == "Suspending"


async def test_it_comes_back_as_it_was() -> None:
    """The very passwords, the same rights; and suspended it rests without a write."""
    world = World()
    await world.settle(living())
    registration = await world.registry.find(uid=UID)
    assert registration is not None
    before, passwords = await world.state(UID), dict(world.passwords[registration.id])
    told = await world.settle(living(suspended=True))
    state = await world.state(UID)
    assert (state["state"], state["access"]) == ("Suspended", False)
    assert {purpose for purpose, enabled in state["logins"].items() if enabled} == {"ingest", "runner"}
    assert state["objects"] == before["objects"]
    world.fuse.count = 0
    assert await world.settle(living(suspended=True, status=told)) == told
    assert world.fuse.count == 0
    await world.settle(living(status=told))
    assert await world.state(UID) == before
    assert world.passwords[registration.id] == passwords
