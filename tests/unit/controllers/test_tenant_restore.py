"""A Tenant that takes the place of one that is gone: a table of sentences, what was seen → what is done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controllers.tenant.observed import Observed, Origin, Unknown
from controllers.tenant.plan import plan_teardown
from tests.unit.controllers.test_tenant_plan import (
    COMPLETE,
    DATABASE,
    ID,
    REGISTRATION,
    plan_tenant,
    sentences,
    tenant,
)

OLD = "99999999-0000-0000-0000-000000000000"
OLDER = "88888888-0000-0000-0000-000000000000"
SUBJECT = tenant(restoreFrom=ID)
RETAINED = replace(REGISTRATION, uid=OLD, name="team-old", state="Retained", namespaces={})
RESTORING = replace(REGISTRATION, state="Restoring", previous_uids=(OLDER, OLD))
SILENT = Unknown(reason="Unreachable", message="no answer")


def origin(owner: Any = None, *, served: bool = True, **changes: Any) -> Observed:
    found = Origin(registration=replace(RETAINED, **changes), owner=owner, served=served)
    return Observed(gateway_key="key", origin=found)


def owner(**metadata: Any) -> Any:
    return {"kind": "Tenant", "metadata": {"name": "team-old", "uid": OLD, **metadata}}


@pytest.mark.parametrize("state", ["Retained", "Active", "Deleting", "Restoring"])
def test_what_nobody_owns_any_more_is_bound(state: str) -> None:
    """Active: the cluster was restored, and the Tenant came back under another UID."""
    assert sentences(plan_tenant(SUBJECT, origin(state=state))) == [f"bind tenant {ID} to team-a"]


REFUSED: dict[str, tuple[Observed, str, bool, str]] = {
    "an id that nobody had": (Observed(gateway_key="key"), "RestoreUnknownId", True, f"the id {ID}"),
    "data that are gone": (origin(state="Deleted"), "RestoreDeleted", True, "deleted for good"),
    "a living owner": (
        origin(owner(), state="Active"),
        "RestoreStillOwned",
        True,
        "team-old, which is alive: delete that one first",
    ),
    "an owner on its way": (
        origin(owner(deletionTimestamp="2026-01-01T00:00:00Z"), state="Deleting"),
        "RestoreStillOwned",
        False,
        "team-old, which is being deleted",
    ),
    "a server that is not served": (origin(served=False), "UnknownServer", True, "server main"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_it_says_why_it_cannot_be_bound(sentence: str) -> None:
    observed, reason, stalled, says = REFUSED[sentence]
    plan = plan_tenant(SUBJECT, observed)
    assert plan.is_empty
    [fact] = plan.facts
    assert (fact.reason, fact.stalled) == (reason, stalled)
    assert says in fact.message
    # nobody tells us when the other Tenant goes
    assert (plan.check_after is not None) == (reason == "RestoreStillOwned")


def test_what_was_never_bound_is_deletable_at_once() -> None:
    deleting = tenant(deleting=True, restoreFrom=ID, deletionPolicy="Delete")
    assert sentences(plan_teardown(deleting, origin(owner()))) == []


CLAIMS: dict[str, tuple[Observed, list[str]]] = {
    "the database's mark comes last, after new passwords": (
        replace(COMPLETE, registration=RESTORING, database=replace(DATABASE, owner_uid=OLD)),
        ["hand the secrets over", "renew the credentials of version 1", "hand the database over"],
    ),
    "a mark of the owner before the last, whose restore was cut short, counts too": (
        replace(COMPLETE, registration=RESTORING, database=replace(DATABASE, owner_uid=OLDER)),
        ["hand the secrets over", "renew the credentials of version 1", "hand the database over"],
    ),
    "credentials that Vault lost are issued later": (
        replace(
            COMPLETE,
            registration=RESTORING,
            database=replace(DATABASE, owner_uid=OLD),
            credential_version=None,
        ),
        ["hand the secrets over", "hand the database over"],
    ),
    "with its mark the database is made ready as any other": (
        replace(COMPLETE, registration=RESTORING, database=replace(DATABASE, logins={})),
        ["set database logins at credential version 1"],
    ),
    "when all is there it is Active": (
        replace(COMPLETE, registration=RESTORING),
        ["mark the tenant Active"],
    ),
    "namespaces go on while the server is silent": (
        replace(COMPLETE, registration=RESTORING, database=SILENT, namespaces={"team-a": None}, children={}),
        [
            "create and bind Namespace team-a",
            "apply ServiceAccount team-a/pipewright",
            *(
                f"apply NetworkPolicy team-a/pipewright-{it}"
                for it in ("default-deny", "allow-dns", "same-tenant")
            ),
            *(f"apply RoleBinding team-a/pipewright-{it}" for it in ("provisioner", "runner")),
        ],
    ),
}


@pytest.mark.parametrize("sentence", CLAIMS)
def test_claim(sentence: str) -> None:
    observed, expected = CLAIMS[sentence]
    assert sentences(plan_tenant(SUBJECT, observed)) == expected


STUCK: dict[str, tuple[Observed, str]] = {
    "an empty database in the place of the lost one is never made": (
        replace(COMPLETE, registration=RESTORING, database=None),
        "RestoreWithoutDatabase",
    ),
    "a database of a stranger is never touched": (
        replace(COMPLETE, registration=RESTORING, database=replace(DATABASE, owner_uid="someone-else")),
        "DatabaseOwnedByOther",
    ),
    "a silent Vault is waited for before the database is touched": (
        replace(
            COMPLETE,
            registration=RESTORING,
            database=replace(DATABASE, owner_uid=OLD),
            credential_version=SILENT,
        ),
        "Unreachable",
    ),
}


@pytest.mark.parametrize("sentence", STUCK)
def test_it_says_what_is_missing(sentence: str) -> None:
    observed, reason = STUCK[sentence]
    plan = plan_tenant(SUBJECT, observed)
    assert sentences(plan) == []
    assert reason in {fact.reason for fact in plan.facts}


def test_only_a_restore_takes_over_another_uids_mark() -> None:
    plan = plan_tenant(SUBJECT, replace(COMPLETE, database=replace(DATABASE, owner_uid=OLD)))
    assert sentences(plan) == []
    assert "DatabaseOwnedByOther" in {fact.reason for fact in plan.facts}


def test_a_restore_that_is_deleted_half_way_takes_over_first_and_leaves_no_mark_behind() -> None:
    deleting = tenant(deleting=True, restoreFrom=ID)
    going = replace(RESTORING, state="Deleting")
    half = replace(COMPLETE, registration=going, children={}, database=replace(DATABASE, owner_uid=OLD))
    assert sentences(plan_teardown(deleting, half)) == ["hand the database over"]
    rest = replace(half, database=None, secret_access=None)
    assert sentences(plan_teardown(deleting, rest)) == [
        "disable database logins",
        "hand the secrets over",
        "revoke access to the tenant's Vault path",
        "mark the tenant Retained",
    ]
