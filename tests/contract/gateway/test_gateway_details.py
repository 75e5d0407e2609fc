"""Steps, tests, commits and deployments at the gateway, on the real database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pyarrow.dataset as ds
import pytest
from pyarrow import fs

from pipewright import records
from pipewright.store import details, export, retention, roles, schema

SHA = "a" * 40
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=3)
MIDNIGHT = NOON.replace(hour=0)


def at(minutes: float, start: datetime = NOON) -> str:
    return (start + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def job_payload(steps: list[dict[str, Any]], *, job: int = 70) -> dict[str, Any]:
    return {
        "action": "completed",
        "workflow_job": {
            "id": job, "run_id": 7, "run_attempt": 1, "head_branch": "main", "head_sha": SHA, "name": "test",
            "conclusion": "failure", "created_at": at(0), "started_at": at(1), "completed_at": at(9),
            "labels": [], "steps": steps,
        },
        "repository": {"full_name": "acme/shop"},
        "sender": {"login": "ada"},
    }  # fmt: skip


def step(number: int, end: str, conclusion: str = "success") -> dict[str, Any]:
    return {
        "number": number, "name": f"step {number}", "status": "completed", "conclusion": conclusion,
        "started_at": at(1), "completed_at": end,
    }  # fmt: skip


async def listed(world: Any, tenant: Any, what: str, **query: Any) -> list[dict[str, Any]]:
    """All pages of a list."""
    url, found, cursor = f"/v1/namespaces/{tenant.namespace}/integrations/github/{what}", [], None
    while True:
        answer = await world.rest("GET", url, params={**query, **({"cursor": cursor} if cursor else {})})
        assert answer.status == 200, answer.body
        found += answer.body["items"]
        cursor = answer.body["next"]
        if cursor is None:
            return found


async def imported(world: Any, tenant: Any, *lines: dict[str, Any]) -> Any:
    body = "\n".join(json.dumps(line) for line in lines)
    url = f"/v1/namespaces/{tenant.namespace}/integrations/github/history"
    return await world.rest("POST", url, data=body.encode())


async def test_a_jobs_steps_are_kept_once_whatever_day_they_are_told_under(world, tenant, hook):
    before, after = at(-0.005, MIDNIGHT), at(0, MIDNIGHT)
    told = [step(1, at(2)), step(2, before, "failure"), step(3, at(4))]
    assert (await world.deliver(hook, "workflow_job", job_payload(told))).status == 202
    # the provider's REST API rounds: a second later it is the other day
    told[1]["completed_at"] = after
    assert (await world.deliver(hook, "workflow_job", job_payload(told))).status == 202
    parts = "SELECT tableoid::regclass::text, number, outcome FROM pipewright.steps ORDER BY number"
    rows = await tenant.rows(parts)
    days = [f"pipewright.steps_{day:%Y%m%d}" for day in (NOON, NOON - timedelta(days=1), NOON)]
    assert rows == [(days[0], 1, "success"), (days[1], 2, "failure"), (days[2], 3, "success")]

    seen = await listed(world, tenant, "steps", limit=1)
    assert [(each["number"], each["finishedAt"]) for each in seen] == [(3, at(4)), (1, at(2)), (2, after)]
    assert [each["number"] for each in await listed(world, tenant, "steps", run="7", outcome="failure")] == [
        2
    ]
    assert await listed(world, tenant, "steps", since=after, until=at(3)) == [seen[1], seen[2]]
    assert await listed(world, tenant, "steps", job="71") == []


async def test_a_delivery_without_them_makes_no_partition(world, tenant, hook, github):
    answer = await world.deliver(hook, "workflow_run", github("completed", conclusion="success"))
    assert answer.status == 202
    made = "SELECT count(*) FROM pg_inherits WHERE inhparent = ANY(%s::regclass[])"
    assert await tenant.rows(made, ["pipewright.steps", "pipewright.tests"]) == [(0,)]


async def test_a_push_and_the_merge_of_its_change_are_one_commit_on_the_branch(world, tenant, hook):
    common = {"repository": {"full_name": "acme/shop"}, "sender": {"login": "bob"}}
    push = {
        "ref": "refs/heads/main", "deleted": False,
        "commits": [{"id": SHA, "timestamp": at(0), "url": "", "author": {"username": "ada"}}],
        **common,
    }  # fmt: skip
    merged = {
        "action": "closed", "number": 12,
        "pull_request": {
            "merged": True, "merged_at": at(1), "merge_commit_sha": SHA, "base": {"ref": "main"},
            "html_url": "https://x.example/12", "user": {"login": "ada"},
        },
        **common,
    }  # fmt: skip
    for event, payload in (("pull_request", merged), ("push", push)):
        assert (await world.deliver(hook, event, payload)).status == 202
    [commit] = await listed(world, tenant, "commits", sha=SHA)
    [(surrogate,)] = await tenant.rows("SELECT surrogate FROM pipewright.actors WHERE login = 'ada'")
    assert (commit["change"], commit["actor"], commit["at"]) == ("12", surrogate, at(0))
    erasures = f"/v1/namespaces/{tenant.namespace}/integrations/github/erasures"
    assert (await world.rest("POST", erasures, json={"login": "ada"})).body["known"]
    [commit] = await listed(world, tenant, "commits", change="12")
    assert commit["actor"] not in ("", surrogate)


async def test_a_deployment_goes_through_its_phases_in_any_order(world, tenant, hook):
    def told(state: str, minute: int) -> dict[str, Any]:
        return {
            "deployment": {
                "id": 91, "sha": SHA, "ref": "main", "environment": "production", "created_at": at(0),
                "creator": {"login": "ada"},
            },
            "deployment_status": {"state": state, "created_at": at(minute), "target_url": ""},
            "repository": {"full_name": "acme/shop"},
        }  # fmt: skip

    for state, minute in (("failure", 5), ("in_progress", 1)):
        assert (await world.deliver(hook, "deployment_status", told(state, minute))).status == 202
    [found] = await listed(world, tenant, "deployments", environment="production")
    assert {name: found[name] for name in ("phase", "outcome", "queuedAt", "startedAt", "finishedAt")} == {
        "phase": "finished", "outcome": "failure", "queuedAt": at(0), "startedAt": at(1), "finishedAt": at(5),
    }  # fmt: skip
    assert await listed(world, tenant, "deployments", phase="started") == []


def told_test(number: int, outcome: str, minute: float, **more: Any) -> dict[str, Any]:
    return {
        "type": "test", "project": "acme/shop", "id": f"t{number}", "suite": "unit", "name": "test_checkout",
        "pipeline": "ci", "run": "7", "sha": SHA, "outcome": outcome, "finishedAt": at(minute), **more,
    }  # fmt: skip


async def test_an_imported_history_has_them_and_tells_which_tests_are_flaky(world, tenant, hook, tmp_path):
    night = 12 * 60 + 5  # minutes from noon to after midnight
    lines = [
        told_test(1, "failure", 1),
        told_test(2, "success", night),
        told_test(3, "failure", 2, name="test_always_red"),
        told_test(4, "failure", 3, suite="gpu"),
        told_test(5, "success", 3, sha="b" * 40),
        told_test(6, "success", -500 * 24 * 60),
        {"type": "step", "project": "acme/shop", "run": "7", "attempt": 1, "job": "70", "number": 1,
         "name": "build", "outcome": "success", "finishedAt": at(1)},
        {"type": "commit", "project": "acme/shop", "sha": SHA, "branch": "main", "actor": "ada", "at": at(0)},
        {"type": "deployment", "project": "acme/shop", "id": "d1", "environment": "prod",
         "outcome": "success", "finishedAt": at(9)},
    ]  # fmt: skip
    answer = await imported(world, tenant, *lines)
    assert answer.body == {
        "runs": 0, "jobs": 0, "steps": 1, "tests": 6, "commits": 1, "deployments": 1, "passedOver": 1,
        "lines": 0,
    }  # fmt: skip
    assert (await imported(world, tenant, *lines)).body == answer.body
    assert len(await listed(world, tenant, "tests", limit=2)) == 5
    assert [each["test"] for each in await listed(world, tenant, "tests", suite="gpu")] == ["t4"]
    [flaky] = await listed(world, tenant, "reports/flaky-tests")
    assert flaky == {
        "project": "acme/shop", "pipeline": "ci", "suite": "unit", "name": "test_checkout", "commits": 1,
        "failures": 1, "successes": 1, "lastAt": at(night),
    }  # fmt: skip

    place, day = fs.LocalFileSystem(), NOON.date()
    with psycopg.connect(tenant.dsn("readonly"), options="-c TimeZone=UTC") as reader:
        done = export.export(reader, place, str(tmp_path), since=day, until=day + timedelta(days=1))
        written = {(table, when): rows for table, when, rows in done if rows}
    assert written == {
        ("steps", day): 1, ("tests", day): 4, ("tests", day + timedelta(days=1)): 1, ("commits", day): 1,
        ("deployments", day): 1,
    }  # fmt: skip
    assert ds.dataset(tmp_path / "commits", partitioning="hive").to_table()["actor"].to_pylist() != ["ada"]


async def test_a_day_is_made_the_evening_before_and_dropped_whole(world, tenant, hook, tenant_server):
    assert (
        await imported(world, tenant, told_test(1, "success", 0), told_test(2, "success", 24 * 60))
    ).status == 200
    parts = (
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'pipewright.tests'::regclass ORDER BY 1"
    )
    owner = schema.migrator(tenant_server.migrator_dsn, database=roles.database(tenant.id))
    first, second, third = (f"pipewright.tests_{NOON + timedelta(days=days):%Y%m%d}" for days in (0, 1, 2))
    async with tenant.connect("ingest") as ingest:
        await details.partitions_ahead(ingest, today=NOON.date() + timedelta(days=1))
        await details.partitions_ahead(ingest, today=NOON.date() + timedelta(days=20))
    assert [name for (name,) in await tenant.rows(parts)] == [first, second, third]
    async with await psycopg.AsyncConnection.connect(owner, autocommit=True) as migrator:
        for before, left in (
            (MIDNIGHT + timedelta(days=1, seconds=-1), 3),
            (MIDNIGHT + timedelta(days=1), 2),
        ):
            await retention.expire(migrator, events_before=before, runs_before=before)
            assert len(await tenant.rows(parts)) == left
    assert [each["test"] for each in await listed(world, tenant, "tests")] == ["t2"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"type": "test", "name": ""}, "name: a test has a name, a suite or both"),
        ({"type": "test", "name": "t", "outcome": "passed"}, "outcome: must be one of"),
        ({"type": "test", "name": "t", "outcome": ""}, "outcome: is required"),
        ({"type": "commit"}, "sha: is required"),
        ({"type": "deployment", "id": "d"}, "environment: is required"),
    ],
)
def test_what_lacks_something_is_refused_with_the_field(line, message):
    whole = {"project": "acme/shop", "id": "t", "outcome": "success", "finishedAt": at(0)}
    kept = whole if line["type"] == "test" else {"project": "acme/shop"}
    with pytest.raises(records.RecordError, match=message):
        records.parse_record({**kept, **line})
