"""Taking a Tenant away: what refuses it, what it waits for, what may be abandoned, what the status tells."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.plan import plan_teardown
from controllers.tenant.rules import deletion_plan, teardown
from pipewright import errors
from pipewright.api.v1alpha1 import Tenant
from pipewright.api.v1alpha1.deletion import DeletionPlan
from pipewright.facts import Dump, Login
from pipewright.plan import Failure, Results
from tests.unit.controllers.test_tenant_plan import (
    COMPLETE,
    DATABASE,
    DELETING,
    GOING,
    ID,
    REGISTRATION,
    RETAINING,
    RUN,
    UID,
    sentences,
    tenant,
)

SILENT = Unknown(reason="Unreachable", message="no answer")
EMPTY = replace(GOING, namespaces={"team-a": None}, children={})
"""The namespaces are gone."""
PROTECTED = tenant(deleting=True, deletionPolicy="Delete", deletionProtection=True)


def going(manifest: Any, **more: Any) -> Any:
    metadata = {**manifest["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", **more}
    return {**manifest, "metadata": metadata}


def annotated(subject: Tenant, text: str) -> Tenant:
    metadata = {"name": "team-a", "uid": UID, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    metadata |= {"annotations": {"pipewright.dev/abandon": text}}  # type: ignore[dict-item]
    return Tenant.parse({"metadata": metadata, "spec": subject.spec.dump()})


def told(subject: Tenant, observed: Observed, results: Results | None = None) -> DeletionPlan:
    plan = deletion_plan.project(subject, observed, results or Results())
    assert plan is not None
    return plan


@pytest.mark.parametrize("observed", [Observed(gateway_key="key"), COMPLETE, GOING, EMPTY])
def test_a_protected_tenant_stays_as_it_is(observed: Observed) -> None:
    plan = plan_teardown(PROTECTED, observed)
    assert sentences(plan) == []
    [fact] = plan.facts
    assert (fact.reason, fact.stalled) == ("DeletionProtected", True)
    assert '{"spec":{"deletionProtection":false}}' in fact.message
    plan_told = told(PROTECTED, observed)
    assert plan_told.stage == "Refused"
    assert [blocker.reason for blocker in plan_told.blockers] == ["DeletionProtected"]


ORDER = {
    "Freeze": replace(GOING, registration=REGISTRATION, resources=(RUN,)),
    "Resources": replace(GOING, resources=(RUN,)),
    "Namespaces": GOING,
    "Database": EMPTY,
    "Secrets": replace(EMPTY, database=None),
    "Registry": replace(EMPTY, database=None, secret_access=None),
}


@pytest.mark.parametrize("stage", ORDER)
def test_the_stage_that_it_is_in_is_told(stage: str) -> None:
    assert told(DELETING, ORDER[stage]).stage == stage


def test_access_goes_before_the_logins_when_the_data_stay() -> None:
    assert told(RETAINING, GOING).stage == "Access"
    assert told(RETAINING, replace(GOING, children={})).stage == "Database"


def test_what_goes_is_listed_with_its_kinds_and_the_class_of_its_size() -> None:
    observed = replace(GOING, resources=(RUN, RUN, {**RUN, "kind": "Workflow"}), database_bytes=8 * 1024**2)
    plan = told(DELETING, observed).dump()
    assert plan == {
        "policy": "Delete",
        "stage": "Resources",
        "namespaces": [{"name": "team-a", "fate": "Goes"}],
        "resources": [
            {"kind": "Integration", "count": 2, "fate": "Goes"},
            {"kind": "Workflow", "count": 1, "fate": "Goes"},
        ],
        "database": {"name": f"pw_{ID}", "fate": "Goes", "size": "Under100Mi"},
        "secrets": [{"path": f"{ID}/platform", "fate": "Goes"}, {"path": f"{ID}/user", "fate": "Goes"}],
        "blockers": [],
    }


def test_what_is_kept_is_told_to_stay() -> None:
    plan = told(RETAINING, replace(GOING, resources=(RUN,)))
    fates = {part.fate for part in (*plan.namespaces, *plan.resources, *plan.secrets)}
    assert (fates, plan.database and plan.database.fate) == ({"Stays"}, "Stays")


def test_an_adopted_namespace_is_told_to_stay_whatever_the_policy() -> None:
    found = GOING.namespaces["team-a"]
    assert found is not None
    mark = {"annotations": {"pipewright.dev/adopted": "true"}}
    adopted = {**found, "metadata": {**found["metadata"], **mark}}
    plan = told(DELETING, replace(GOING, namespaces={"team-a": adopted}, children={}, connections={}))
    assert [(it.name, it.fate) for it in plan.namespaces] == [("team-a", "Stays")]
    assert plan.database
    assert plan.database.fate == "Goes"


SIZES = {0: "Under100Mi", 100 * 2**20: "Under1Gi", 2**30: "Under10Gi", 99 * 2**30: "Under100Gi"}
SIZES |= {100 * 2**30: "Over100Gi", None: None}  # type: ignore[dict-item]


@pytest.mark.parametrize("bytes_", SIZES)
def test_a_size_is_a_class_so_that_it_does_not_flutter(bytes_: int | None) -> None:
    database = told(DELETING, replace(GOING, database_bytes=bytes_)).database
    assert database is not None
    assert database.size == SIZES[bytes_]  # type: ignore[index]


def test_nobody_elses_namespace_or_database_is_told_to_go() -> None:
    foreign = {"metadata": {"name": "team-a", "uid": "foreign"}}
    observed = replace(
        GOING,
        namespaces={"team-a": foreign},
        registration=replace(REGISTRATION, state="Deleting", namespaces={}),
        database=replace(DATABASE, owner_uid="someone-else"),
    )
    plan = told(DELETING, observed)
    assert (plan.namespaces, plan.database) == ((), None)


@pytest.mark.parametrize("state", ["Deleted", "Retained"])
def test_a_tenant_that_is_taken_away_has_no_plan_any_more(state: str) -> None:
    observed = replace(GOING, registration=replace(REGISTRATION, state=state))
    assert deletion_plan.project(DELETING, observed, Results()) is None
    assert deletion_plan.project(DELETING, Observed(gateway_key="key"), Results()) is None


WAITS: dict[str, tuple[Observed, str, str]] = {
    "a namespace says what still lies in it": (
        replace(
            GOING,
            namespaces={
                "team-a": going(COMPLETE.namespaces["team-a"])
                | {
                    "status": {
                        "conditions": [
                            {
                                "type": "NamespaceFinalizersRemaining",
                                "status": "True",
                                "message": "x in 1 pod",
                            },
                            {"type": "NamespaceContentRemaining", "status": "False", "message": "nothing"},
                        ]
                    }
                }
            },
        ),
        "namespaces",
        "waits until each namespace is gone: Namespace team-a (x in 1 pod)",
    ),
    "a custom resource says whose finalizer holds it": (
        replace(GOING, resources=(going(RUN, finalizers=["a.b/c"]),)),
        "namespaces",
        "waits until each custom resource is gone: Integration team-a/github (finalizers a.b/c)",
    ),
    "PostgreSQL does not answer": (
        replace(EMPTY, database=SILENT),
        "database",
        "no answer; if it is gone for good, annotate the Tenant with pipewright.dev/abandon=database",
    ),
    "Vault does not answer": (
        replace(EMPTY, database=None, secret_access=SILENT),
        "secrets",
        "no answer; if it is gone for good, annotate the Tenant with pipewright.dev/abandon=secrets",
    ),
}


@pytest.mark.parametrize("sentence", WAITS)
def test_it_says_exactly_what_it_waits_for(sentence: str) -> None:
    observed, part, message = WAITS[sentence]
    plan = plan_teardown(DELETING, observed)
    assert plan.is_empty
    assert plan.check_after is not None
    [blocker] = told(DELETING, observed).blockers
    assert (blocker.part, blocker.message) == (part, message)


def test_what_failed_is_a_blocker_too() -> None:
    trouble = Failure(serves="DatabaseReady", action="DropDatabase", error=errors.Unreachable("no answer"))
    [blocker] = told(DELETING, EMPTY, Results(failures=(trouble,))).blockers
    assert (blocker.part, blocker.reason, blocker.message) == ("database", "Unreachable", "no answer")


# --- the final dump -------------------------------------------------------------------------------------

DUMPING = tenant(deleting=True, deletionPolicy="Delete")
DUMP = Dump(
    path=f"{ID}/dumps/{UID}.dump", sha256="a" * 64, bytes=9, taken_at=datetime(2026, 1, 1, tzinfo=UTC)
)
CLOSED = replace(DATABASE, logins={"app_a": Login(enabled=False, version=1)})
DUMPED = replace(GOING, registration=replace(REGISTRATION, state="Deleting", dump=DUMP), database=CLOSED)

DUMPS: dict[str, tuple[Observed, list[str]]] = {
    "nobody can write any more when it is taken, and the namespaces are still there": (
        GOING,
        ["disable database logins", "dump the database"],
    ),
    "a dump that a crash cut short is taken again": (
        replace(GOING, database=CLOSED),
        ["dump the database"],
    ),
    "with the dump in the registry the namespaces go": (DUMPED, ["delete Namespace team-a"]),
    "custom resources go before": (replace(GOING, resources=(RUN,)), ["delete Integration team-a/github"]),
    "a database that was never finished has nothing to dump": (
        replace(GOING, database=replace(DATABASE, owner_uid=None)),
        ["delete Namespace team-a"],
    ),
    "somebody else's database is not read": (
        replace(GOING, database=replace(DATABASE, owner_uid="someone-else")),
        ["delete Namespace team-a"],
    ),
    "a tenant without a database has none": (replace(GOING, database=None), ["delete Namespace team-a"]),
}


@pytest.mark.parametrize("sentence", DUMPS)
def test_final_dump(sentence: str) -> None:
    observed, expected = DUMPS[sentence]
    assert sentences(plan_teardown(DUMPING, observed)) == expected


def test_without_the_means_to_dump_nothing_is_dropped_and_the_way_out_is_told() -> None:
    observed = replace(GOING, dump_missing="there is no pg_dump")
    plan = plan_teardown(DUMPING, observed)
    assert plan.is_empty
    assert plan.check_after is not None
    [blocker] = told(DUMPING, observed).blockers
    assert (blocker.part, blocker.reason) == ("database", "FinalDumpImpossible")
    assert "there is no pg_dump" in blocker.message
    assert "spec.finalDump to Skip" in blocker.message
    assert sentences(plan_teardown(DELETING, observed)) == ["delete Namespace team-a"]


def test_the_last_dump_is_told_with_what_proves_it() -> None:
    plan = told(DUMPING, DUMPED)
    assert plan.stage == "Namespaces"
    assert plan.last_dump is not None
    assert plan.last_dump.dump() == {
        "path": f"{ID}/dumps/{UID}.dump",
        "sha256": "a" * 64,
        "bytes": 9,
        "takenAt": "2026-01-01T00:00:00Z",
    }


def test_what_is_kept_needs_no_dump() -> None:
    assert "dump" not in " ".join(sentences(plan_teardown(RETAINING, replace(GOING, children={}))))


# --- what may be left behind ----------------------------------------------------------------------------

VAULT_GONE = replace(EMPTY, database=None, secret_access=SILENT)


def test_a_vault_that_is_gone_for_good_can_be_left_behind() -> None:
    assert sentences(plan_teardown(annotated(DELETING, "secrets"), VAULT_GONE)) == [
        "drop the database",
        "mark the tenant Deleted, abandoning secrets",
    ]


def test_a_database_server_that_is_gone_for_good_can_be_left_behind() -> None:
    observed = replace(EMPTY, database=SILENT, secret_access=None)
    assert sentences(plan_teardown(annotated(DELETING, "secrets, database"), observed)) == [
        "revoke access to the tenant's Vault path",
        "purge the tenant's Vault path",
        "mark the tenant Deleted, abandoning database",
    ]


def test_what_answers_is_taken_away_whatever_the_annotation_says() -> None:
    subject = annotated(DELETING, "secrets,database")
    assert sentences(plan_teardown(subject, EMPTY)) == ["drop the database"]


@pytest.mark.parametrize("text", ["", "vault", "Secrets", "secrets-and-more"])
def test_only_the_part_by_its_name_is_abandoned(text: str) -> None:
    assert sentences(plan_teardown(annotated(DELETING, text), VAULT_GONE)) == []


@pytest.mark.parametrize("observed", [VAULT_GONE, replace(EMPTY, database=SILENT)])
def test_what_is_kept_is_never_abandoned_with_a_way_in(observed: Observed) -> None:
    subject = annotated(RETAINING, "secrets,database")
    plan = plan_teardown(subject, observed)
    assert plan.is_empty
    assert "abandon" not in plan.facts[0].message
    assert teardown.current(subject, observed) is not None
