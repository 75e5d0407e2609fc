"""`ports.HistoryImport`: the memory twin and the adapter at a real gateway keep the same contract."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipewright import errors
from pipewright.backends.runner import imports
from pipewright.backends.runner.imports import GatewayImport
from pipewright.backends.runner.memory import MemoryImport
from pipewright.events import JobRecord, RunRecord

BEGIN = datetime(2026, 2, 1, tzinfo=UTC)


def run(number: int, *, outcome: str = "success", **changes: Any) -> RunRecord:
    finished = {"started_at": BEGIN, "finished_at": BEGIN + timedelta(minutes=5)}
    said = {"project": "acme/shop", "pipeline": "ci", "attempt": 1, "phase": "finished", "outcome": outcome}
    return RunRecord(id=str(number), **(said | finished | changes))


def job(number: int, *, of: int) -> JobRecord:
    finished = {"started_at": BEGIN, "finished_at": BEGIN + timedelta(minutes=4)}
    return JobRecord(
        project="acme/shop",
        run=str(of),
        attempt=1,
        id=str(number),
        name="unit",
        phase="finished",
        outcome="success",
        **finished,
    )


class Gateway:
    """A real gateway with an Integration `github`, and the runner's way to it."""

    def __init__(self, world, tenant, port):
        self._world, self._tenant, self.port = world, tenant, port
        self.namespace = tenant.namespace

    async def stored(self):
        rows = await self._tenant.rows("SELECT provider_id, outcome FROM pipewright.runs ORDER BY 1")
        jobs = await self._tenant.rows("SELECT provider_id FROM pipewright.jobs ORDER BY 1")
        return [tuple(row) for row in rows], len(jobs)


class Memory:
    """The memory twin."""

    namespace = "acme"

    def __init__(self):
        self.port = MemoryImport({("acme", "github")})

    async def stored(self):
        found = self.port.stored.get(("acme", "github"), {})
        runs = sorted((each.id, each.outcome) for (kind, *_), each in found.items() if kind == "pipelinerun")
        return runs, len(found) - len(runs)


@pytest.fixture
async def token_file(tmp_path):
    path = tmp_path / "gateway.jwt"
    path.write_text("e30.72756e6e6572.c2ln\n")  # as RememberingCluster reads it: runner
    return path


@pytest.fixture(params=["memory", "gateway"])
async def side(request, world, token_file):
    if request.param == "memory":
        yield Memory()
        return
    tenant = await world.tenant()
    await world.hook(tenant, projects=["acme/shop"], name="github")
    port = GatewayImport(world.url, token_file=token_file)
    yield Gateway(world, tenant, port)
    await port.close()


async def send(side, *records, integration="github"):
    await side.port.send(namespace=side.namespace, integration=integration, records=records)


async def test_records_are_stored_when_it_returns(side):
    await send(side, run(1), job(11, of=1), run(2, outcome="failure"))
    assert await side.stored() == ([("1", "success"), ("2", "failure")], 1)


async def test_twice_is_once(side):
    for _ in range(2):
        await send(side, run(1), job(11, of=1))
    assert await side.stored() == ([("1", "success")], 1)


async def test_many_are_all_stored_however_they_are_sent(side, monkeypatch):
    monkeypatch.setattr(imports, "BODY", 700)
    await send(side, *(record for number in range(1, 6) for record in (run(number), job(number, of=number))))
    assert await side.stored() == ([(str(number), "success") for number in range(1, 6)], 5)


async def test_nothing_is_nothing(side):
    await send(side)
    assert await side.stored() == ([], 0)


async def test_an_integration_that_the_gateway_does_not_know_yet_is_waited_for(side):
    with pytest.raises(errors.Waiting) as waiting:
        await send(side, run(1), integration="other")
    assert waiting.value.after == timedelta(seconds=30)


# --- what only a real gateway can do ------------------------------------------------------------------


@pytest.fixture
async def home(world):
    tenant = await world.tenant()
    await world.hook(tenant, projects=["acme/shop"], name="github")
    return tenant


async def refused(world, home, token, *records):
    """What comes of sending with this token's file."""
    port = GatewayImport(world.url, token_file=token)
    try:
        with pytest.raises(Exception) as trouble:
            await port.send(namespace=home.namespace, integration="github", records=records or (run(1),))
    finally:
        await port.close()
    return trouble.value


async def test_a_token_that_is_not_the_runners_is_forbidden_and_not_told(world, home, tmp_path):
    for name in ("bad-canary", "somebody:elsewhere"):
        token = tmp_path / "token"
        token.write_text(f"e30.{name.encode().hex()}.c2ln")
        trouble = await refused(world, home, token)
        assert isinstance(trouble, errors.Forbidden)
        assert token.read_text() not in str(trouble)


async def test_without_a_token_nothing_is_sent(world, home, tmp_path):
    trouble = await refused(world, home, None)
    assert (type(trouble), trouble.reason) == (errors.Stalled, "NotConfigured")
    assert isinstance(await refused(world, home, tmp_path / "absent"), errors.Unreachable)


async def test_records_that_the_gateway_refuses_are_stalled(world, home, token_file):
    future = datetime.now(UTC) + timedelta(days=2)
    trouble = await refused(world, home, token_file, run(1, started_at=future, finished_at=future))
    assert (type(trouble), trouble.reason) == (errors.Stalled, "HistoryRefused")


async def test_a_gateway_that_is_not_there_is_unreachable(home, token_file):
    port = GatewayImport("http://127.0.0.1:1", token_file=token_file)
    with pytest.raises(errors.Unreachable, match="the gateway did not answer"):
        await port.send(namespace=home.namespace, integration="github", records=[run(1)])
    await port.close()
