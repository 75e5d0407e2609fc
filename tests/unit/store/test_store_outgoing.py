"""Rows of history as CloudEvents: what names them, what keeps their order, and that a gateway reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors import batches, catalogue, mapping
from connectors.mapping import Ignored
from connectors.webhook import Webhook
from pipewright import records
from pipewright.store import outgoing

UID = "0199f3a2-0000-4000-8000-000000000001"
BEGUN, DONE = datetime(2026, 3, 2, 11, 55, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC)
TIMES = {"queued_at": None, "started_at": BEGUN, "finished_at": DONE}
RUN: dict[str, Any] = {
    "integration": UID, "line": ["line", "ci", "main"], "project": "acme/shop", "pipeline": "ci", "id": "7",
    "attempt": 2, "number": 70, "trigger": "push", "branch": "main", "sha": "a1", "actor": "5f0c2b1d9e8f7a6b",
    "phase": "finished", "outcome": "failure", "url": "https://ci.example/7", **TIMES,
}  # fmt: skip
JOB: dict[str, Any] = {
    "integration": UID, "line": ["line", "ci", "main"], "project": "acme/shop", "pipeline": "ci", "run": "7",
    "attempt": 2, "id": "70", "name": "unit", "branch": "main", "sha": "a1", "phase": "finished",
    "outcome": "failure", "runner": "r-1", "labels": ["x64", "linux"], **TIMES,
}  # fmt: skip
STEP: dict[str, Any] = {
    "integration": UID, "line": ["line", "ci", "main"], "project": "acme/shop", "run": "7", "attempt": 2,
    "job": "70", "number": 3, "name": "make test", "outcome": "failure", "started_at": None,
    "finished_at": DONE,
}  # fmt: skip
TEST: dict[str, Any] = {
    "integration": UID, "line": ["line", "ci", "main"], "project": "acme/shop", "id": "t-1", "suite": "unit",
    "name": "adds", "pipeline": "", "run": "7", "attempt": 2, "job": "70", "branch": "", "sha": "a1",
    "outcome": "failure", "started_at": None, "finished_at": DONE, "url": "",
}  # fmt: skip
COMMIT: dict[str, Any] = {
    "integration": UID, "line": ["commits", "main"], "project": "acme/shop", "sha": "a1", "branch": "main",
    "change": "12", "actor": "", "parents": ["a0"], "at": DONE, "url": "",
}  # fmt: skip
DEPLOYMENT: dict[str, Any] = {
    "integration": UID, "line": ["deployments", "production", "shop"], "operation": "deployed",
    "project": "acme/shop", "id": "d-1", "environment": "production", "service": "shop", "pipeline": "",
    "run": "7", "branch": "main", "sha": "a1", "actor": "", "phase": "finished", "outcome": "success",
    "url": "", **TIMES,
}  # fmt: skip
ROWS = {"run": RUN, "job": JOB, "step": STEP, "test": TEST, "commit": COMMIT, "deployment": DEPLOYMENT}


def test_there_is_a_row_of_each_kind_here() -> None:
    assert ROWS.keys() == outgoing.KINDS.keys()


def test_an_event_is_whole() -> None:
    assert json.loads(outgoing.event("run", RUN).structured()) == {
        "specversion": "1.0",
        "id": "5ce5fcaa91134d20d7baa3b11944b554",
        "source": "urn:uuid:0199f3a2-0000-4000-8000-000000000001",
        "type": "dev.pipewright.record",
        "subject": "run/7/2",
        "time": "2026-03-02T12:00:00Z",
        "datacontenttype": "application/json",
        "partitionkey": "6776515beb51280a1b4ad1e38d799181",
        "data": {
            "type": "run", "project": "acme/shop", "pipeline": "ci", "id": "7", "attempt": 2, "number": 70,
            "trigger": "push", "branch": "main", "sha": "a1", "actor": "5f0c2b1d9e8f7a6b",
            "phase": "finished", "outcome": "failure", "startedAt": "2026-03-02T11:55:00Z",
            "finishedAt": "2026-03-02T12:00:00Z", "url": "https://ci.example/7",
        },
    }  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_what_is_sent_again_is_the_same_event_and_what_was_corrected_is_another(kind: str) -> None:
    row = ROWS[kind]
    first, corrected = (
        outgoing.event(kind, row),
        outgoing.event(kind, row | {"sha": "b2", "outcome": "error"}),
    )
    assert outgoing.event(kind, dict(reversed(row.items()))).structured() == first.structured()
    assert first.id != corrected.id
    if kind != "commit":  # a commit is named by its sha
        assert first.subject == corrected.subject
    assert first.partitionkey == corrected.partitionkey


def test_a_line_of_work_has_one_key() -> None:
    keys = {kind: outgoing.event(kind, row).partitionkey for kind, row in ROWS.items()}
    assert keys["run"] == keys["job"] == keys["step"] == keys["test"]
    assert len({keys["run"], keys["commit"], keys["deployment"]}) == 3
    elsewhere: list[dict[str, Any]] = [
        {"line": ["line", "ci", "feature"]}, {"line": ["line", "cd", "main"]}, {"project": "acme/other"},
        {"integration": UID.replace("1", "2")}, {"line": ["line", "c", "imain"]},
    ]  # fmt: skip
    others = {outgoing.event("run", RUN | change).partitionkey for change in elsewhere}
    assert len(others | {keys["run"]}) == 6


def test_a_gateway_takes_all_kinds_joined_to_a_batch() -> None:
    webhook = catalogue.load()["cdevents"].webhook
    assert isinstance(webhook, Webhook)
    sent = [outgoing.event(kind, row) for kind, row in ROWS.items()]
    body = b"[" + b",".join(event.structured() for event in sent) + b"]"
    parts = batches.split(webhook, headers={"content-type": "application/cloudevents-batch+json"}, raw=body)
    assert parts is not None
    for event, part in zip(sent, parts, strict=True):
        opened = mapping.open_delivery(webhook, headers=part.headers, raw=part.raw, parsed=part.document)
        said = mapping.map_delivery(webhook, opened, event=mapping.identify(webhook, opened).event)
        assert not isinstance(said, Ignored)
        assert [records.record_json(record) for _, record in said] == [event.data]
