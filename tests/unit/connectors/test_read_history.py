"""`ports.Actions.read_history` over the wire: a bounded part, and what trouble leaves of it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import sync
from connectors.outbound import Outbound
from connectors.sync import Batch, Cursor
from pipewright.backends.runner import actions as backend
from pipewright.backends.runner.actions import ConnectorActions
from pipewright.ports import Secret
from pipewright.runner_facts import HistoryPart

RUNS = "/repos/acme/shop/actions/runs"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def run(number: int, *, at: str = "2026-01-01T10:00:00Z") -> dict[str, Any]:
    return {
        "id": number,
        "name": "CI",
        "path": ".github/workflows/ci.yml",
        "head_branch": "main",
        "head_sha": "5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665",
        "run_number": number,
        "run_attempt": 1,
        "event": "push",
        "status": "completed",
        "conclusion": "success",
        "created_at": at,
        "run_started_at": at,
        "updated_at": at,
        "html_url": "https://github.com/acme/shop/actions/runs/1",
    }


def serve(provider: Any, *runs: dict[str, Any]) -> None:
    provider.on(RUNS, {"total_count": len(runs), "workflow_runs": list(runs)})
    for each in runs:
        provider.on(f"{RUNS}/{each['id']}/jobs", {"jobs": []})


async def read(
    provider: Any, client: Outbound, *, cursor: str = "", token: str = "canary-token"
) -> HistoryPart:
    return await ConnectorActions(client).read_history(
        connector="github",
        config={"baseUrl": provider.url},
        credentials={"token": Secret(token)},
        project="acme/shop",
        since=SINCE,
        until=SINCE + timedelta(days=2),
        cursor=cursor,
    )


async def test_all_of_a_short_history_is_one_part(provider: Any, client: Outbound) -> None:
    serve(provider, run(1), run(2))
    part = await read(provider, client)
    assert ([record.id for record in part.records], part.cursor, part.trouble) == (["1", "2"], None, None)


async def test_a_long_one_comes_in_parts(
    provider: Any, client: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "HISTORY_PAGES", 2)
    serve(provider, run(1), run(2), run(3))
    found: list[str] = []
    cursor: str | None = ""
    parts = 0
    while cursor is not None:
        part = await read(provider, client, cursor=cursor)
        found += [record.id for record in part.records]
        cursor, parts = part.cursor, parts + 1
        assert parts < 10
    assert (found, parts) == (["1", "2", "3"], 4)


@pytest.mark.parametrize(
    ("status", "headers", "reason", "after"),
    [
        (429, {"Retry-After": "17"}, "ProviderBusy", timedelta(seconds=17)),
        (500, {}, "Unreachable", timedelta(minutes=5)),
        (401, {}, "CredentialsRefused", timedelta(minutes=5)),
    ],
)
async def test_trouble_leaves_what_was_read_and_says_when_to_come_again(
    provider: Any, client: Outbound, status: int, headers: dict[str, str], reason: str, after: timedelta
) -> None:
    serve(provider, run(1))
    provider.on(RUNS, {"total_count": 2, "workflow_runs": [run(1), run(2)]})
    provider._answers[RUNS].pop(0)
    provider.on(f"{RUNS}/2/jobs", {"message": "canary-token"}, status=status, headers=headers)
    part = await read(provider, client)
    assert [record.id for record in part.records] == ["1"]
    assert part.cursor
    assert part.trouble is not None
    assert (part.trouble.reason, part.trouble.after) == (reason, after)
    assert "canary" not in part.trouble.message


async def test_a_run_that_takes_too_long_is_given_up_and_those_before_it_are_kept(
    provider: Any, client: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = Cursor(since=SINCE, until=SINCE + timedelta(days=1), done=1)

    async def slow(*_: Any, **__: Any) -> AsyncIterator[Batch]:
        yield Batch(records=(), refused=(), cursor=after)
        await asyncio.Event().wait()

    monkeypatch.setattr(sync, "history", slow)
    monkeypatch.setattr(backend, "HISTORY_LONGEST", 0.05)
    part = await read(provider, client)
    assert part.cursor == after.text()
    assert part.trouble is not None
    assert (part.trouble.reason, part.trouble.after) == ("Unreachable", timedelta(minutes=5))


async def test_what_is_not_understood_is_left_out_and_told(provider: Any, client: Outbound) -> None:
    serve(provider, run(1), *({**run(number), "head_sha": [number] * 99} for number in range(2, 9)))
    part = await read(provider, client)
    assert [record.id for record in part.records] == ["1"]
    assert 0 < len(part.left_out) <= 5
    assert all(note.startswith("run: sha") and len(note) <= 200 for note in part.left_out)


async def test_what_lies_in_the_future_is_left_out(provider: Any, client: Outbound) -> None:
    ahead = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    serve(provider, run(1), run(2, at=ahead))
    part = await read(provider, client)
    assert [record.id for record in part.records] == ["1"]


async def test_without_a_token_nothing_is_asked(provider: Any, client: Outbound) -> None:
    part = await read(provider, client, token="", cursor="kept")
    assert (part.records, part.cursor) == ((), "kept")
    assert part.trouble is not None
    assert part.trouble.reason == "CredentialsRefused"
    assert provider.seen == []
