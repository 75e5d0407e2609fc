"""What is sent: a simulated organisation's webhooks as of GitHub, and its records as CloudEvents."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dev import simulator
from dev.github_payloads import github_deliveries
from tests.bench.ingest.world import Hook

UNDER_WAY = 64
"""Runs at the same time: a delivery of each, then the next of each."""


def attempts() -> Iterator[list[dict[str, Any]]]:
    """Runs without end, each with its jobs; no id comes twice."""
    for seed in itertools.count(1):
        held: list[dict[str, Any]] = []
        for record in simulator.history(until=datetime.now(UTC) - timedelta(hours=1), seed=seed, runs=400):
            if record["type"] == "run" and held:
                yield held
                held = []
            held.append(_numbered(record, by=seed * 10**10))
        yield held


def github() -> Iterator[tuple[str, bytes]]:
    """Webhooks, (event, body), of many runs that are under way at the same time."""
    source = attempts()
    while True:
        some = [list(github_deliveries(attempt)) for attempt in itertools.islice(source, UNDER_WAY)]
        for turn in itertools.zip_longest(*some):
            for found in turn:
                if found is not None:
                    yield found[1], json.dumps(found[2], separators=(",", ":")).encode()


def cloudevents() -> Iterator[bytes]:
    """Records in our own form as CloudEvents: runs and jobs as they were queued, started and finished."""
    source, number = attempts(), itertools.count()
    while True:
        some = [_phases(attempt) for attempt in itertools.islice(source, UNDER_WAY)]
        for turn in itertools.zip_longest(*some):
            for record in turn:
                if record is not None:
                    event = {
                        "specversion": "1.0", "type": "dev.pipewright.record", "source": "bench",
                        "id": f"{record['id']}-{next(number)}", "datacontenttype": "application/json",
                        "data": record,
                    }  # fmt: skip
                    yield json.dumps(event, separators=(",", ":")).encode()


def _phases(attempt: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for phase in ("queued", "started", "finished"):
        for record in attempt:
            left_out = {
                "queued": {"outcome", "finishedAt", "startedAt"},
                "started": {"outcome", "finishedAt"},
            }
            told = {name: value for name, value in record.items() if name not in left_out.get(phase, ())}
            if phase == "queued" and not told.get("queuedAt"):
                continue
            found.append(told | {"phase": phase})
    return found


def signed(hook: Hook, body: bytes) -> str:
    """The signature as GitHub and our own senders write it."""
    return "sha256=" + hmac.new(hook.secret.encode(), body, hashlib.sha256).hexdigest()


def message(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A request as bytes on the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: bench",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def webhook(hook: Hook, event: str, body: bytes, *, id: str, path: str = "") -> bytes:  # noqa: A002 - its name
    """A delivery of GitHub's."""
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": id,
        "X-Hub-Signature-256": signed(hook, body),
    }
    return message(path or hook.path, body, headers)


def batch(hook: Hook, events: list[bytes]) -> bytes:
    """Several CloudEvents in one body."""
    body = b"[" + b",".join(events) + b"]"
    headers = {
        "Content-Type": "application/cloudevents-batch+json",
        "X-Signature-256": signed(hook, body),
    }
    return message(hook.path, body, headers)


def _numbered(record: Mapping[str, Any], *, by: int) -> dict[str, Any]:
    found = dict(record)
    for name in ("id", "run"):
        if found.get(name):
            found[name] = str(int(found[name]) + by)
    return found
