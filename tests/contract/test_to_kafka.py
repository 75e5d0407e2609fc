"""A tenant's history in a topic of Kafka, by the tenant's own login, read from the wire by a consumer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dev import ports
from pipewright.records import (
    CommitRecord,
    DeploymentRecord,
    JobRecord,
    RunRecord,
    StepRecord,
    TestRecord,
)
from pipewright.store import details, history, to_kafka
from tests.contract.brokers import Broker
from tests.contract.conftest import Place

INTEGRATION = "00000000-0000-0000-0000-000000000001"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ENDED: dict[str, Any] = {
    "phase": "finished", "started_at": NOON - timedelta(minutes=5), "finished_at": NOON,
}  # fmt: skip
RUN: dict[str, Any] = {"project": "acme/shop", "pipeline": "ci", "branch": "main", "actor": "octocat"}


async def tell(place: Place, runs: list[RunRecord], jobs: list[JobRecord], others: list[Any]) -> None:
    async with place.connect("ingest") as conn, conn.transaction():
        known = await history.surrogates(conn, provider="github", logins=["octocat"])
        told: dict[str, Any] = {"integration": INTEGRATION, "seen_at": NOON}
        await history.upsert_runs(conn, runs, actors=known, **told)
        await history.upsert_jobs(conn, jobs, **told)
        for other in others:
            await details.merge_rows(conn, details.rows([other], actors=known, **told))


async def tell_all(place: Place) -> None:
    """Two attempts of a run and what belongs to them; what has not finished; and what finished at one."""
    runs = [
        RunRecord(**RUN, id="7", attempt=1, outcome="failure", **ENDED),
        RunRecord(**RUN, id="7", attempt=2, outcome="success", **ENDED | {"finished_at": NOON + 9 * SECOND}),
        RunRecord(**RUN, id="8", attempt=1, phase="started", started_at=NOON),
        RunRecord(**RUN, id="9", attempt=1, outcome="failure", **ENDED | {"finished_at": NOON + HOUR}),
    ]
    job = JobRecord(
        project="acme/shop",
        run="7",
        attempt=1,
        id="70",
        name="unit",
        labels=("x64",),
        outcome="failure",
        **ENDED,
    )
    common: dict[str, Any] = {"project": "acme/shop", "run": "7", "outcome": "failure"}
    others = [
        StepRecord(**common, attempt=1, job="70", number=2, name="make test", finished_at=NOON),
        TestRecord(**common, id="t-1", name="adds", finished_at=NOON),
        CommitRecord(project="acme/shop", sha="a1", branch="main", actor="octocat", at=NOON),
        DeploymentRecord(
            **common, id="d-1", environment="production", url=f"https://ci.example/{'x' * 1000}", **ENDED
        ),
    ]
    await tell(place, runs, [job], others)


SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def run(
    place: Place, folder: Path, broker: Broker, topic: str, *more: str, says: Mapping[str, str] | None = None
) -> int:
    dsn, file = folder / "uri", folder / "kafka.properties"
    dsn.write_text(place.dsn("readonly").reveal() + "\n")
    given = broker.properties() if says is None else says
    file.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    until = (NOON + timedelta(minutes=1)).isoformat()
    asked = [
        "--dsn-file",
        str(dsn),
        "--brokers",
        broker.address,
        "--topic",
        topic,
        "--config-file",
        str(file),
    ]
    return to_kafka.main([*asked, "--until", until, *more])


async def test_what_finished_is_in_the_topic_and_again_the_same(
    fresh_place: Place, tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    await tell_all(fresh_place)
    assert run(fresh_place, tmp_path, broker, "ci") == 0
    assert capsys.readouterr().out == "1 jobs, 2 runs, 1 deployments\n"
    sent = broker.messages("ci")
    assert {message.headers for message in sent} == {
        (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
    }
    events = broker.events("ci")
    assert [event["partitionkey"].encode() for event in events] == [message.key for message in sent]
    line = [event for event in events if not event["subject"].startswith("deployment/")]
    assert [event["subject"] for event in line] == ["job/70", "run/7/1", "run/7/2"]
    assert len({event["partitionkey"] for event in line}) == 1
    [job, first, second] = [event["data"] for event in line]
    assert (job["pipeline"], job["run"], job["labels"]) == ("ci", "7", ["x64"])
    assert (first["outcome"], second["outcome"]) == ("failure", "success")
    assert len(first["actor"]) == 16
    assert b"octocat" not in b"".join(message.value for message in sent)

    assert run(fresh_place, tmp_path, broker, "again") == 0
    assert run(fresh_place, tmp_path, broker, "again") == 0
    twice = broker.messages("again")
    assert sorted(message.value for message in twice) == sorted(2 * [message.value for message in sent])


async def test_all_kinds_and_any_time_can_be_asked_for(
    fresh_place: Place, tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    await tell_all(fresh_place)
    kinds = ["step", "test", "job", "run", "commit", "deployment"]
    asked = ["--kinds", ",".join(kinds), "--since", NOON.isoformat()]
    assert run(fresh_place, tmp_path, broker, "all-kinds", *asked) == 0
    assert capsys.readouterr().out == ("1 steps, 1 tests, 1 jobs, 2 runs, 1 commits, 1 deployments\n")
    found = {event["subject"]: event for event in broker.events("all-kinds")}
    assert found.keys() == {
        "step/70/2", "test/t-1", "job/70", "run/7/1", "run/7/2", "commit/a1/acme/shop/main", "deployment/d-1",
    }  # fmt: skip
    keys = {found[name]["partitionkey"] for name in ("step/70/2", "test/t-1", "job/70", "run/7/1")}
    assert len(keys) == 1
    nothing = ["--since", NOON.isoformat(), "--until", NOON.isoformat()]
    assert run(fresh_place, tmp_path, broker, "all-kinds", *nothing) == 0
    assert capsys.readouterr().out == "0 jobs, 0 runs, 0 deployments\n"
    assert len(broker.messages("all-kinds")) == 7


async def test_what_was_appended_without_an_answer_is_not_there_twice(
    fresh_place: Place, tmp_path: Path, broker: Broker
) -> None:
    await tell_all(fresh_place)
    assert run(fresh_place, tmp_path, broker, "appended-unsaid") == 0
    assert sorted(event["subject"] for event in broker.events("appended-unsaid")) == [
        "deployment/d-1", "job/70", "run/7/1", "run/7/2",
    ]  # fmt: skip


async def test_more_than_the_producer_holds_is_sent_in_the_order_of_the_line(
    fresh_place: Place, tmp_path: Path, broker: Broker
) -> None:
    runs = [
        RunRecord(**RUN, id=f"{number:04}", attempt=1, outcome="success", **ENDED | {
            "finished_at": NOON - timedelta(minutes=5) + number * timedelta(milliseconds=100)
        })
        for number in range(1200)
    ]  # fmt: skip
    await tell(fresh_place, runs, [], [])
    little = {"queue.buffering.max.messages": "50", "compression.type": "lz4"}
    assert run(fresh_place, tmp_path, broker, "many", says=little) == 0
    assert [event["data"]["id"] for event in broker.events("many")] == [
        f"{number:04}" for number in range(1200)
    ]


async def test_a_broker_that_refuses_is_told(
    fresh_place: Place, tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    await tell_all(fresh_place)
    assert run(fresh_place, tmp_path, broker, "refused") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "did not take the events for the topic refused: Broker: Topic authorization failed" in told.err
    assert run(fresh_place, tmp_path, broker, "no-such-topic") == 1
    assert "topic no-such-topic: Broker: Unknown topic or partition" in capsys.readouterr().err
    assert run(fresh_place, tmp_path, broker, "ci", says={"message.max.bytes": "1000"}) == 1
    assert "Message size too large" in capsys.readouterr().err


async def test_with_tls_and_a_password_its_own_topic_is_there_and_no_other(
    fresh_place: Place, tmp_path: Path, guarded_broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    await tell_all(fresh_place)
    assert run(fresh_place, tmp_path, guarded_broker, "ci") == 0
    assert len(guarded_broker.messages("ci")) == 4
    assert run(fresh_place, tmp_path, guarded_broker, "others") == 1
    assert "topic others: Broker: Topic authorization failed" in capsys.readouterr().err

    wrong = guarded_broker.properties(password="s3cret")
    assert run(fresh_place, tmp_path, guarded_broker, "ci", says=wrong) == 1
    told = capsys.readouterr()
    assert "no broker of 127.0.0.1:" in told.err
    assert "uthentication" in told.err
    assert "s3cret" not in told.out + told.err
    unknown = {name: value for name, value in wrong.items() if name != "ssl.ca.location"}
    assert run(fresh_place, tmp_path, guarded_broker, "ci", says=unknown) == 1
    assert "certificate" in capsys.readouterr().err


async def test_nobody_there_is_told(
    fresh_place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_kafka, "ANSWER", 2.0)
    assert run(fresh_place, tmp_path, Broker(port=ports.free()), "ci") == 1
    assert "no broker of 127.0.0.1:" in capsys.readouterr().err
