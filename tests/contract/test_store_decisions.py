"""Decisions and their outbox on the real server."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from pipewright.store import decisions
from pipewright.store.records import Decision

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
MANIFEST = {"kind": "WorkflowRun", "metadata": {"name": "heal-1"}}


@pytest.fixture
def decision(integration: str) -> Decision:
    return Decision(
        workflow_uid=str(uuid4()),
        integration=integration,
        delivery_id="d-1",
        revision="r1",
        namespace=f"ns-{integration[:8]}",
        workflow="heal",
        fired=True,
        reason="prediction.retry.probability is 0.93",
        event={"type": "pipelinerun.finished", "integration": "github", "run": {"id": "100", "attempt": 1}},
        prediction={"probability": 0.1, "reasons": ["the branch is green"]},
        run_name="heal-1",
        decided_at=AT,
    )


@pytest.fixture
async def outbox(place, decision: Decision):
    """A connection to a tenant's database of one's own outbox: other tests' rows are dispatched first."""
    async with place.connect("ingest") as conn:
        await conn.execute("UPDATE pipewright.outbox SET dispatched_at = now() WHERE dispatched_at IS NULL")
        yield conn


async def test_a_decision_is_kept_once_and_read_back_whole(
    outbox: psycopg.AsyncConnection, decision: Decision
) -> None:
    assert await decisions.record(outbox, decision, manifest=MANIFEST) is True
    assert await decisions.record(outbox, replace(decision, fired=False), manifest=MANIFEST) is False
    (found,) = await decisions.page(outbox, namespace=decision.namespace, workflow="heal")
    assert found.id
    assert replace(found, id=None) == decision
    assert len(await decisions.claim_outbox(outbox, now=AT)) == 1


EVENT = {
    "type": "pipelinerun.finished",
    "integration": "github",
    "run": {"id": "100", "attempt": 1},
    "job": None,
}
OTHERS = {
    "another attempt": {**EVENT, "run": {"id": "100", "attempt": 2}},
    "another run": {**EVENT, "run": {"id": "101", "attempt": 1}},
    "another type of event": {**EVENT, "type": "pipelinerun.started"},
    "a job of the run": {**EVENT, "job": {"id": "7"}},
}


async def test_a_workflow_fires_once_for_an_attempt_whatever_the_delivery_is_called(
    outbox: psycopg.AsyncConnection, decision: Decision
) -> None:
    first = replace(decision, event=EVENT)
    assert await decisions.fire(outbox, first, manifest=MANIFEST) is True
    again = replace(first, delivery_id="d-2", revision="r2", run_name="heal-2")
    assert await decisions.fire(outbox, again, manifest=MANIFEST) is False
    (kept, _) = await decisions.page(outbox, namespace=decision.namespace, workflow="heal")
    assert (kept.delivery_id, kept.fired, kept.run_name) == ("d-2", False, None)
    assert kept.reason == "already fired for this attempt"
    assert len(await decisions.claim_outbox(outbox, now=AT)) == 1


@pytest.mark.parametrize("event", OTHERS.values(), ids=OTHERS)
async def test_fires_on_its_own(outbox: psycopg.AsyncConnection, decision: Decision, event) -> None:
    await decisions.fire(outbox, replace(decision, event=EVENT), manifest=MANIFEST)
    assert await decisions.fire(outbox, replace(decision, delivery_id="d-2", event=event), manifest=MANIFEST)


async def test_of_two_deliveries_of_an_event_at_once_one_fires(
    outbox: psycopg.AsyncConnection, place, decision: Decision
) -> None:
    async with place.connect("ingest") as other:
        async with outbox.transaction():
            assert await decisions.fire(outbox, decision, manifest=MANIFEST)
            second = replace(decision, delivery_id="d-2")
            waiting = asyncio.create_task(decisions.fire(other, second, manifest=MANIFEST))
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            assert not done
        assert await waiting is False


async def test_a_decision_that_did_not_fire_leaves_the_outbox_empty(
    outbox: psycopg.AsyncConnection, decision: Decision
) -> None:
    silent = replace(decision, fired=False, reason="if: false", prediction=None, run_name=None)
    assert await decisions.record(outbox, silent)
    assert await decisions.claim_outbox(outbox, now=AT) == []
    (found,) = await decisions.page(outbox, namespace=decision.namespace, workflow="heal")
    assert (found.fired, found.prediction, found.run_name) == (False, None, None)


async def test_without_the_transaction_there_is_neither_decision_nor_outbox_row(
    outbox: psycopg.AsyncConnection, decision: Decision
) -> None:
    async with outbox.transaction():
        await decisions.record(outbox, decision, manifest=MANIFEST)
        raise psycopg.Rollback
    assert await decisions.claim_outbox(outbox, now=AT) == []
    assert await decisions.page(outbox, namespace=decision.namespace, workflow="heal") == []


async def test_pages_follow_one_another_newest_first(
    outbox: psycopg.AsyncConnection, decision: Decision
) -> None:
    for number in range(5):
        await decisions.record(outbox, replace(decision, delivery_id=f"d-{number}", fired=False))
    first = await decisions.page(outbox, namespace=decision.namespace, workflow="heal", limit=2)
    rest = await decisions.page(outbox, namespace=decision.namespace, workflow="heal", before=first[-1].id)
    assert [found.delivery_id for found in first] == ["d-4", "d-3"]
    assert [found.delivery_id for found in rest] == ["d-2", "d-1", "d-0"]
    assert await decisions.page(outbox, namespace=decision.namespace, workflow="other") == []


async def test_a_decision_is_found_by_its_integrations_uid_or_name(
    outbox: psycopg.AsyncConnection, decision: Decision
) -> None:
    await decisions.record(outbox, decision)
    key = {"namespace": decision.namespace, "workflow": "heal", "revision": "r1", "delivery_id": "d-1"}
    for integration in (decision.integration, "github"):
        found = await decisions.find(outbox, **key, integration=integration)
        assert found
        assert found.reason == decision.reason
    assert await decisions.find(outbox, **key, integration="gitlab") is None


async def test_a_claimed_row_is_skipped_by_others_until_the_transaction_ends(
    outbox: psycopg.AsyncConnection, place, decision: Decision
) -> None:
    await decisions.record(outbox, decision, manifest=MANIFEST)
    async with place.connect("ingest") as other:
        async with outbox.transaction():
            (claimed,) = await decisions.claim_outbox(outbox, now=AT)
            assert (claimed.run_name, claimed.manifest, claimed.attempts) == ("heal-1", MANIFEST, 0)
            assert await decisions.claim_outbox(other, now=AT) == []
        assert len(await decisions.claim_outbox(other, now=AT)) == 1


async def test_a_dispatched_row_is_never_claimed_again(
    outbox: psycopg.AsyncConnection, decision: Decision
) -> None:
    await decisions.record(outbox, decision, manifest=MANIFEST)
    (claimed,) = await decisions.claim_outbox(outbox, now=AT)
    await decisions.mark_dispatched(outbox, claimed.id, at=AT)
    assert await decisions.claim_outbox(outbox, now=AT + timedelta(days=9)) == []


async def test_a_failed_row_waits_for_its_time(outbox: psycopg.AsyncConnection, decision: Decision) -> None:
    await decisions.record(outbox, decision, manifest=MANIFEST)
    (claimed,) = await decisions.claim_outbox(outbox, now=AT)
    later = AT + timedelta(seconds=10)
    await decisions.mark_failed(outbox, claimed.id, error="the API server is away", due_at=later)
    assert await decisions.claim_outbox(outbox, now=AT + timedelta(seconds=9)) == []
    (again,) = await decisions.claim_outbox(outbox, now=later)
    assert again.attempts == 1


async def test_a_row_is_not_due_before_its_decision(
    outbox: psycopg.AsyncConnection, decision: Decision
) -> None:
    await decisions.record(outbox, decision, manifest=MANIFEST)
    assert await decisions.claim_outbox(outbox, now=AT - timedelta(seconds=1)) == []
