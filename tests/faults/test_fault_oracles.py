"""The oracles on values: each says nothing of a clean run, and finds what was planted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dev.faults import oracles
from dev.faults.oracles import Reference
from dev.faults.world import Everybody
from dev.faults.writes import Transaction, Write

UID, OTHER = "11111111-2222-3333-4444-555555555555", "66666666-2222-3333-4444-555555555555"
ID = "abcdefghjkmn"
LEARNED = oracles.reference(
    {"/ready": "True", "/uid": "one", "/pods": 3},
    {"/ready": "True", "/uid": "two", "/pods": 3},
    counts=Counter({"create Namespace": 1}),
    audit=Counter({"RegisterTenant": 1}),
)


def everybody(**other: Any) -> Everybody:
    known: dict[str, Any] = {
        "registry": {ID: (UID, "Active")},
        "tenants": frozenset({UID}),
        "places": {"databases": frozenset({ID}), "policies": frozenset({ID})},
        "owners": frozenset({(f"pw_{ID}", ID, UID)}),
    }
    return Everybody(**(known | other))


def write(label: str, *, tag: str = "INSERT 0 1") -> Write:
    return Write(number=1, system="postgres", label=label, occurrence=1, tag=tag)


def test_the_mask_is_what_differs_between_two_clean_runs() -> None:
    assert LEARNED.random == {"/uid"}
    assert not list(oracles.end_state(LEARNED, {"/ready": "True", "/uid": "three", "/pods": 3}))


@pytest.mark.parametrize(
    "found",
    [
        {"/ready": "False", "/uid": "x", "/pods": 3},
        {"/ready": "True", "/uid": "x"},
        {"/ready": "True", "/uid": "x", "/pods": 3, "/more": 1},
    ],
    ids=["another value", "something missing", "something more"],
)
def test_another_end_state_breaks_o1(found: dict[str, Any]) -> None:
    assert [it.oracle for it in oracles.end_state(LEARNED, found)] == ["O1"]


@pytest.mark.parametrize("found", [{"create Namespace": 2}, {}], ids=["twice", "never"])
def test_another_count_breaks_o2(found: dict[str, int]) -> None:
    assert not list(oracles.counts(LEARNED.counts, {"create Namespace": 1}))
    assert [it.oracle for it in oracles.counts(LEARNED.counts, found)] == ["O2"]


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ({"tenants": frozenset()}, "its Tenant is gone"),
        ({"tenants": frozenset(), "registry": {ID: (UID, "Suspended")}}, "its Tenant is gone"),
        ({"places": {"databases": frozenset({ID, "zzzzzzzzzzzz"})}}, "databases have zzzzzzzzzzzz"),
        (
            {
                "registry": {ID: (UID, "Retained")},
                "tenants": frozenset(),
                "places": {"databases": frozenset({ID}), "policies": frozenset({ID})},
            },
            "policies have",
        ),
    ],
    ids=[
        "the Tenant is gone",
        "a suspended Tenant is gone",
        "a database of nobody",
        "a retained tenant's policy",
    ],
)
def test_an_orphan_breaks_o3(planted: dict[str, Any], says: str) -> None:
    assert not list(oracles.orphans(everybody()))
    found = list(oracles.orphans(everybody(**planted)))
    assert any(says in it.how for it in found), found


@pytest.mark.parametrize(
    "owner", [(f"pw_{ID}", ID, OTHER), ("pw_x", "zzzzzzzzzzzz", UID)], ids=["another UID", "an unknown id"]
)
def test_a_foreign_mark_breaks_o4(owner: tuple[str, str, str]) -> None:
    assert not list(oracles.owners(everybody()))
    assert [it.oracle for it in oracles.owners(everybody(owners=frozenset({owner})))] == ["O4"]


@pytest.mark.parametrize(("looks", "broken"), [([0, 0], []), ([3, 0], []), ([0, 2], ["O5"]), ([], ["O5"])])
def test_writes_in_the_last_look_break_o5(looks: list[int], broken: list[str]) -> None:
    assert [it.oracle for it in oracles.rest(looks)] == broken


@pytest.mark.parametrize("text", ["password=s3cr3t-value", "czNjcjN0LXZhbHVl"], ids=["plain", "in base64"])
def test_a_secret_in_a_text_breaks_o7(text: str) -> None:
    assert not list(oracles.secrets(["s3cr3t-value"], {"a log": "nothing of it"}))
    assert [it.how for it in oracles.secrets(["s3cr3t-value"], {"a log": text})] == ["a password is in a log"]


def told(
    rows: list[tuple[str, str]],
    wanted: Reference = LEARNED,
    *transactions: Transaction,
    state: str = "Active",
) -> list[str]:
    found = oracles.audit(wanted.audit, rows, transactions=transactions, namespaces=[], state=state)
    return [it.how for it in found]


def test_a_trail_with_another_count_or_state_breaks_o8() -> None:
    assert not told([("RegisterTenant", "a on main")])
    assert told([])
    assert told([("RegisterTenant", "a on main"), ("RegisterTenant", "a on main")])
    assert told([("RegisterTenant", "a on main")], state="Deleting")


def test_a_namespace_that_was_bound_without_a_line_breaks_o8() -> None:
    rows = [("BindNamespace", f"a {OTHER}")]
    bound = oracles.audit({"BindNamespace": 1}, rows, transactions=[], namespaces=[UID], state=None)
    assert [it.oracle for it in bound] == ["O8"]


def test_a_change_of_the_registry_without_a_line_in_its_transaction_breaks_o8() -> None:
    change = write("pipewright: INSERT INTO pipewright.registry (id) VALUES ($1)")
    line = write("pipewright: INSERT INTO pipewright.audit (tenant_id) VALUES ($1)")
    nothing = write("pipewright: INSERT INTO pipewright.registry (id) VALUES ($1)", tag="INSERT 0 0")
    assert list(oracles.untold([Transaction(database="pipewright", writes=(change,))]))
    assert not list(oracles.untold([Transaction(database="pipewright", writes=(change, line))]))
    assert not list(oracles.untold([Transaction(database="pipewright", writes=(nothing,))]))


def test_what_postgresql_made_counts_once_it_is_committed_and_was_not_there() -> None:
    done = (
        write("postgres: CREATE ROLE pw_<id>_app NOLOGIN", tag="CREATE ROLE"),
        write("postgres: CREATE SCHEMA IF NOT EXISTS app AUTHORIZATION x", tag="skipped"),
        write("postgres: DROP DATABASE IF EXISTS pw_<id> WITH (FORCE)", tag="DROP DATABASE"),
        write("postgres: ALTER ROLE pw_<id>_app NOLOGIN", tag="ALTER ROLE"),
    )
    found = oracles.committed([Transaction(database="postgres", writes=done)])
    assert found == {"CREATE ROLE pw_<id>_app": 1, "DROP DATABASE pw_<id>": 1}
