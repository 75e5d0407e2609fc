"""Imported history: the same rows as webhooks give, the wrong line by its number, part by part."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from dev import simulator
from gateway import history

UNTIL = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
RUNS = """SELECT provider_id, attempt, project, branch, phase, outcome, failed_jobs, jobs
FROM pipewright.runs ORDER BY 1, 2"""
NOTHING = dict.fromkeys(
    ("runs", "jobs", "steps", "tests", "commits", "deployments", "passedOver", "lines"), 0
)
LINES = "SELECT scope, key, outcomes FROM pipewright.lines ORDER BY 1, 2"


def ndjson(records):
    return "\n".join(json.dumps(record) for record in records).encode()


@pytest.fixture(scope="module")
def records():
    return list(simulator.history(until=UNTIL, seed=11, runs=300))


@pytest.fixture
async def whole(world, tenant):
    """An Integration of all the company's projects."""
    return await world.hook(
        tenant, projects=[project.name for project in simulator.ORGANISATION], name="whole"
    )


def path_of(tenant, name="whole"):
    return f"/v1/namespaces/{tenant.namespace}/integrations/{name}/history"


async def test_the_same_file_twice_gives_the_same_rows(world, whole, tenant, records):
    first = await world.rest("POST", path_of(tenant), data=ndjson(records))
    assert first.status == 200
    runs = [record for record in records if record["type"] == "run"]
    assert (first.body["runs"], first.body["jobs"]) == (len(runs), len(records) - len(runs))
    before = await tenant.rows(RUNS), await tenant.rows(LINES)
    assert len(before[0]) == len(runs)
    again = await world.ask(
        "POST",
        path_of(tenant),
        data=ndjson(records),
        headers={"Authorization": "Bearer e30.616461.c2ln", "Idempotency-Key": "import-1"},
    )
    assert again.body == first.body
    assert (await tenant.rows(RUNS), await tenant.rows(LINES)) == before


async def test_an_imported_history_gives_the_lines_that_its_webhooks_would_have_given(world, records):
    some = [record for record in records if record["project"] == "acme/shop"][:120]
    projects = ["acme/shop"]
    imported, delivered = await world.tenant(), await world.tenant()
    await world.hook(imported, projects=projects, name="whole")
    assert (await world.rest("POST", path_of(imported), data=ndjson(some))).status == 200
    hook = await world.hook(delivered, projects=projects)
    for _, name, payload in simulator.github_deliveries(some):
        assert (await world.deliver(hook, name, payload)).status == 202
    assert await imported.rows(RUNS) == await delivered.rows(RUNS)
    # Actors' surrogates are random, so their lines differ by name only.
    assert [(scope, outcomes) for scope, _, outcomes in await imported.rows(LINES) if scope != "actor"] == [
        (scope, outcomes) for scope, _, outcomes in await delivered.rows(LINES) if scope != "actor"
    ]


async def test_the_order_of_the_file_does_not_matter(world, records):
    forwards, backwards = await world.tenant(), await world.tenant()
    for tenant, given in ((forwards, records), (backwards, records[::-1])):
        await world.hook(tenant, projects=[p.name for p in simulator.ORGANISATION], name="whole")
        assert (await world.rest("POST", path_of(tenant), data=ndjson(given))).status == 200
    assert await forwards.rows(RUNS) == await backwards.rows(RUNS)


GOOD = {
    "type": "run", "project": "acme/shop", "pipeline": "ci", "id": "1", "attempt": 1, "outcome": "success",
    "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z",
}  # fmt: skip
WRONG = {
    "not JSON": (b"{", "line 2: must be a JSON object in UTF-8"),
    "a list": (b"[]", "line 2: record: must be a JSON object, got a list"),
    "not UTF-8": (b'{"type": "\xff"}', "line 2: must be a JSON object in UTF-8"),
    "NaN": (b'{"attempt": NaN}', "line 2: must be a JSON object in UTF-8"),
    "no attempt": (json.dumps({**GOOD, "attempt": None}).encode(), "line 2: attempt: is required"),
    "a foreign project": (
        json.dumps({**GOOD, "project": "acme/other"}).encode(),
        "line 2: project: is not among the Integration's projects",
    ),
    "nested too deeply": (b"[" * 30_000, "line 2: must be a JSON object in UTF-8"),
}


@pytest.mark.parametrize(("line", "detail"), WRONG.values(), ids=WRONG)
async def test_a_wrong_line_is_named_and_nothing_is_written(world, hook, tenant, line, detail):
    data = b"\n".join([json.dumps(GOOD).encode(), line, json.dumps({**GOOD, "id": "2"}).encode()])
    answer = await world.rest("POST", path_of(tenant, "github"), data=data)
    assert (answer.status, answer.body["line"], answer.body["detail"]) == (422, 2, detail)
    assert await tenant.rows("SELECT count(*) FROM pipewright.runs") == [(0,)]


async def test_blank_lines_and_a_missing_last_line_break_are_fine(world, hook, tenant):
    data = b"\n\n" + json.dumps(GOOD).encode() + b"\r\n\n" + json.dumps({**GOOD, "id": "2"}).encode()
    answer = await world.rest("POST", path_of(tenant, "github"), data=data)
    assert (answer.status, answer.body) == (200, NOTHING | {"runs": 2, "jobs": 0, "lines": 3})


async def test_a_line_that_is_too_long_is_413(world, hook, tenant):
    answer = await world.rest("POST", path_of(tenant, "github"), data=b"x" * 70_000)
    assert (answer.status, answer.body["line"]) == (413, 1)


async def test_an_import_after_webhooks_does_not_undo_them(world, hook, tenant, github):
    await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"))
    older = {
        "type": "run", "project": "acme/shop", "pipeline": "ci", "id": "7", "attempt": 1, "branch": "main",
        "startedAt": "2026-03-01T12:00:00Z",
    }  # fmt: skip
    assert (await world.rest("POST", path_of(tenant, "github"), data=ndjson([older]))).status == 200
    assert await tenant.rows("SELECT phase, outcome FROM pipewright.runs") == [("finished", "failure")]


async def test_an_unknown_integration_is_404(world, tenant):
    assert (await world.rest("POST", path_of(tenant, "nobody"), data=b"")).status == 404


# --- part by part -----------------------------------------------------------------------------------------


def run(number, actor=""):
    return {**GOOD, "id": str(number), "actor": actor, "finishedAt": f"2026-01-01T00:{number:02d}:00Z"}


@asynccontextmanager
async def somebody_adds(tenant, login):
    """Another transaction writes this person: whoever needs them too waits for its end."""
    async with tenant.connect() as conn, conn.transaction(force_rollback=True):
        await conn.execute("INSERT INTO pipewright.actors (provider, login) VALUES ('github', %s)", [login])
        yield


def stored(tenant, count):
    async def fact():
        return await tenant.rows("SELECT count(*) FROM pipewright.runs") == [(count,)]

    return fact


async def test_an_import_in_parts_gives_the_rows_and_lines_of_one_part(world, records, monkeypatch):
    found = []
    for size in (2000, 70):
        monkeypatch.setattr(history, "BATCH", size)
        tenant = await world.tenant()
        await world.hook(tenant, projects=[p.name for p in simulator.ORGANISATION], name="whole")
        answer = await world.rest("POST", path_of(tenant), data=ndjson(records))
        lines = [(scope, outcomes) for scope, _, outcomes in await tenant.rows(LINES) if scope != "actor"]
        found.append((answer.status, answer.body, await tenant.rows(RUNS), lines))
    assert found[0] == found[1]
    assert found[0][0] == 200


async def test_a_webhook_is_stored_while_an_import_of_its_integration_is_under_way(
    world, hook, tenant, github, eventually, monkeypatch
):
    monkeypatch.setattr(history, "BATCH", 2)
    data = ndjson([run(1), run(2), run(3, "ada"), run(4)])
    async with somebody_adds(tenant, "ada"):
        importing = asyncio.create_task(world.rest("POST", path_of(tenant, "github"), data=data))
        await eventually(stored(tenant, 2))
        assert (await world.deliver(hook, "workflow_run", github("requested", run=9))).status == 202
        assert not importing.done()
    assert (await importing).body == NOTHING | {"runs": 4, "jobs": 0, "lines": 4}
    assert await stored(tenant, 5)()


async def test_an_import_that_breaks_says_up_to_which_line_it_is_stored_and_is_completed_by_another(
    world, proxied, eventually, monkeypatch
):
    monkeypatch.setattr(history, "BATCH", 2)
    tenant = await world.tenant(port=proxied.port)
    await world.hook(tenant)
    data = b"\n" + ndjson([run(1), run(2), run(3, "ada"), run(4)])
    async with somebody_adds(tenant, "ada"):
        importing = asyncio.create_task(world.rest("POST", path_of(tenant, "github"), data=data))
        await eventually(stored(tenant, 2))
        await proxied.down()
        broken = await importing
    assert (broken.status, broken.body["reason"], broken.body["stored"]) == (503, "Unreachable", 3)
    assert broken.body["detail"].endswith("; it is stored up to line 3")
    nothing = await world.rest("POST", path_of(tenant, "github"), data=data)
    assert (nothing.status, nothing.body["stored"]) == (503, 0)
    await proxied.up()
    again = await world.rest("POST", path_of(tenant, "github"), data=data)
    assert (again.status, again.body) == (200, NOTHING | {"runs": 4, "jobs": 0, "lines": 4})
    assert await stored(tenant, 4)()
    [(outcomes,)] = await tenant.rows("SELECT outcomes FROM pipewright.lines WHERE scope = 'project'")
    assert [outcome[0] for outcome in outcomes] == ["1", "2", "3", "4"]


async def first_line(world, path, length):
    """What a body of this length is answered before it is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    token = "Authorization: Bearer e30.616461.c2ln"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{token}\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(5):
        answer = await reader.readline()
    writer.close()
    return answer


async def test_how_large_hooks_and_imports_may_be_is_a_setting(serve, github):
    async with serve(gateway={"hookBodyBytes": 1024, "importBodyBytes": 2048}) as world:
        tenant = await world.tenant()
        hook = await world.hook(tenant)
        assert b" 413 " in await first_line(world, path_of(tenant, "github"), 2049)
        assert (await world.rest("POST", path_of(tenant, "github"), data=b"\n" * 2048)).status == 200
        assert b" 413 " in await first_line(world, f"/hooks/{hook.id}", 1025)
        assert (await world.deliver(hook, "ping", {"zen": "x"})).status == 202
