"""Dead letters on the real database: what is proved and not understood is kept, seen, replayed, discarded."""

import asyncio
import copy
import json
import sys

import psycopg
import pytest

from gateway import deadletters
from pipewright.store import roles, schema
from pipewright.store.deadletters import Room
from tests.contract.gateway.conftest import gone, token_of
from tests.contract.gateway.test_gateway_connectors import BUILD, mapping, send

LATE = {**BUILD, "id": "d-2", "jobs": [{"id": "unit", "state": "late", "at": "canary-soon"}]}
"""Its time is none: the canary must not come out."""
RULE = copy.deepcopy(mapping()["webhook"])
RULE["lookup"]["outcome"]["late"] = "success"
MENDED = copy.deepcopy(RULE)
MENDED["events"][0]["map"]["startedAt"] = MENDED["events"][0]["map"]["finishedAt"] = "1769848200"


@pytest.fixture
async def acme(world, tenant):
    """A connector that takes LATE for a build, and does not understand its time."""
    return await world.hook(tenant, name="acme", connector="generic", config={"webhook": RULE})


def path(tenant, rest="", name="acme"):
    return f"/v1/namespaces/{tenant.namespace}/integrations/{name}/deadletters{rest}"


async def mend(world, hook, section=MENDED):
    await world.runner.execute(
        "UPDATE pipewright.routes SET config = %s WHERE hook_id = %s",
        [json.dumps({"webhook": section}), hook.id],
    )
    await world.parts.directory.load(["routes"])


async def listed(world, tenant):
    return (await world.rest("GET", path(tenant))).body["items"]


async def verdicts(world, tenant):
    answer = await world.rest("GET", f"/v1/namespaces/{tenant.namespace}/integrations/acme/deliveries")
    return {item["id"]: item["outcome"] for item in answer.body["items"]}


async def jobs(tenant):
    return await tenant.rows("SELECT provider_id, outcome FROM pipewright.jobs ORDER BY provider_id")


def count(world, outcome):
    name = "pipewright_gateway_dead_letters_total"
    return world.parts.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


async def test_what_is_not_understood_is_acknowledged_listed_and_kept_sealed(world, tenant, acme):
    before = count(world, "kept")
    answer = await send(world, acme, LATE)
    assert answer.status == 202
    assert answer.body == {"refused": "build: finishedAt: is no time that is known here"}
    assert await verdicts(world, tenant) == {"d-2": "refused"}
    [letter] = await listed(world, tenant)
    assert {key: letter[key] for key in ("id", "event", "reason", "refusals")} == {
        "id": "d-2",
        "event": "build",
        "reason": "build: finishedAt: is no time that is known here",
        "refusals": 1,
    }
    [(sealed,)] = await tenant.rows("SELECT sealed FROM pipewright.dead_letters")
    assert b"canary" not in bytes(sealed)
    assert acme.secret.encode() not in bytes(sealed)
    assert "canary" not in str(await tenant.rows("SELECT reason FROM pipewright.deliveries"))
    assert await jobs(tenant) == []
    assert count(world, "kept") == before + 1


async def test_what_came_is_shown_without_its_proof(world, tenant, acme):
    await send(world, acme, LATE)
    answer = await world.rest("GET", path(tenant, "/d-2/payload"))
    assert answer.status == 200
    assert json.loads(answer.body["body"]) == LATE
    assert answer.body["encoding"] == "text"
    assert answer.body["headers"]["content-type"] == "application/json"
    assert acme.secret not in json.dumps(answer.body)
    assert (await world.rest("GET", path(tenant, "/d-9/payload"))).status == 404


async def test_a_replay_with_a_mended_mapping_stores_it_once_and_the_letter_is_gone(world, tenant, acme):
    await send(world, acme, LATE)
    still = await world.rest("POST", path(tenant, "/d-2/replay"))
    assert still.body == {"outcome": "refused"}
    assert [letter["refusals"] for letter in await listed(world, tenant)] == [2]
    again, stored = count(world, "again"), count(world, "stored")
    await mend(world, acme)
    answer = await world.rest("POST", path(tenant, "/d-2/replay"))
    assert answer.body == {"outcome": "stored"}
    assert await jobs(tenant) == [("unit", "success")]
    assert await listed(world, tenant) == []
    assert await verdicts(world, tenant) == {"d-2": "stored"}
    assert (count(world, "again"), count(world, "stored")) == (again, stored + 1)
    assert (await world.rest("POST", path(tenant, "/d-2/replay"))).status == 404
    assert (await send(world, acme, LATE)).body == {"duplicate": True}


async def test_a_redelivery_that_is_understood_takes_the_letter_away(world, tenant, acme):
    await send(world, acme, LATE)
    assert (await send(world, acme, LATE)).status == 202
    assert [letter["refusals"] for letter in await listed(world, tenant)] == [2]
    await mend(world, acme)
    assert (await send(world, acme, LATE)).body == {"accepted": True}
    assert await listed(world, tenant) == []
    assert await verdicts(world, tenant) == {"d-2": "stored"}


async def test_all_are_replayed_in_pages_and_counted(world, tenant, acme):
    for number in range(3):
        await send(world, acme, {**LATE, "id": f"d-{number}"})
    await send(world, acme, {**LATE, "id": "d-odd", "build": None})
    await mend(world, acme)
    first = await world.rest("POST", path(tenant, "/replay?limit=3"))
    assert first.body["outcomes"] == {"stored": 3}
    rest = await world.rest("POST", path(tenant, f"/replay?limit=3&cursor={first.body['next']}"))
    assert rest.body == {"outcomes": {"refused": 1}, "next": None}
    assert [letter["id"] for letter in await listed(world, tenant)] == ["d-odd"]


async def test_a_letter_is_replayed_once_however_many_ask(world, tenant, acme):
    await send(world, acme, LATE)
    await mend(world, acme)
    answers = await asyncio.gather(
        *(world.rest("POST", path(tenant, "/d-2/replay"), token=f"a{n}") for n in range(5))
    )
    outcomes = [answer.body.get("outcome") for answer in answers if answer.status == 200]
    assert outcomes.count("stored") == 1
    assert set(outcomes) <= {"stored", "duplicate"}
    assert {answer.status for answer in answers} <= {200, 404, 503}
    assert await tenant.rows("SELECT count(*) FROM pipewright.events") == [(1,)]


async def test_one_and_all_are_discarded_and_stay_listed_as_refused(world, tenant, acme):
    for number in range(3):
        await send(world, acme, {**LATE, "id": f"d-{number}"})
    assert (await world.rest("DELETE", path(tenant, "/d-1"))).body == {"discarded": 1}
    assert (await world.rest("DELETE", path(tenant, "/d-1"))).body == {"discarded": 0}
    assert (await world.rest("DELETE", path(tenant))).body == {"discarded": 2}
    assert await listed(world, tenant) == []
    assert set((await verdicts(world, tenant)).values()) == {"refused"}


async def test_of_another_integration_nothing_is_seen_or_touched(world, tenant, acme):
    other = await world.hook(tenant, name="other", connector="generic", config={"webhook": RULE})
    await send(world, acme, LATE)
    assert (await world.rest("GET", path(tenant, name="other"))).body["items"] == []
    assert (await world.rest("GET", path(tenant, "/d-2/payload", name="other"))).status == 404
    assert (await world.rest("DELETE", path(tenant, name="other"))).body == {"discarded": 0}
    assert other.tenant is tenant
    assert len(await listed(world, tenant)) == 1


async def test_where_there_is_no_room_the_provider_is_told_and_nothing_is_listed(
    world, tenant, acme, monkeypatch
):
    monkeypatch.setattr(deadletters, "ROOM", Room(letters=1, bytes=10**6))
    assert (await send(world, acme, LATE)).status == 202
    full = await send(world, acme, {**LATE, "id": "d-3"})
    assert (full.status, full.body["reason"]) == (422, "NotUnderstood")
    assert full.body["detail"].startswith("build: finishedAt: is no time that is known here; it is not kept")
    assert await verdicts(world, tenant) == {"d-2": "refused"}
    assert (await send(world, acme, LATE)).status == 202  # again the same takes no room
    monkeypatch.setattr(deadletters, "ROOM", Room(letters=10, bytes=300))
    assert (
        await send(world, acme, {**LATE, "id": "d-3", "pad": "".join(map(str, range(900)))})
    ).status == 422


async def test_one_that_was_parked_is_kept_after_the_resume_and_holds_up_nobody(
    world, tenant, acme, state, kept, eventually, monkeypatch
):
    await state(tenant, "Suspended")
    assert (await send(world, acme, LATE)).body == {"accepted": True, "parked": True}
    await send(world, acme, {**LATE, "id": "d-3"})
    await send(world, acme, {**BUILD, "id": "d-4"})
    refused = await world.rest("POST", path(tenant, "/d-2/replay"))
    assert (refused.status, refused.body["reason"]) == (409, "TenantSuspended")
    monkeypatch.setattr(deadletters, "ROOM", Room(letters=1, bytes=10**6))
    await state(tenant, "Active")
    await eventually(lambda: jobs(tenant))
    await eventually(lambda: gone(kept, tenant))
    assert [letter["id"] for letter in await listed(world, tenant)] == ["d-2"]
    assert await verdicts(world, tenant) == {"d-2": "refused", "d-3": "refused", "d-4": "stored"}


async def test_one_that_does_not_open_is_told_and_stays(world, tenant, acme):
    await send(world, acme, LATE)
    await send(world, acme, {**LATE, "id": "d-3"})
    async with tenant.connect() as conn:
        await conn.execute("UPDATE pipewright.dead_letters SET sealed = '\\x01' WHERE delivery_id = 'd-2'")
    await mend(world, acme)
    answer = await world.rest("POST", path(tenant, "/replay"))
    assert answer.body["outcomes"] == {"failed": 1, "stored": 1}
    assert [letter["id"] for letter in await listed(world, tenant)] == ["d-2"]


async def test_a_database_that_is_still_to_be_upgraded_has_no_place_for_them(world, tenant, acme):
    owner = schema.migrator(world.server.migrator_dsn, database=roles.database(tenant.id))
    async with await psycopg.AsyncConnection.connect(owner, autocommit=True) as conn:
        await conn.execute("DROP TABLE pipewright.dead_letters")
    answer = await send(world, acme, LATE)
    assert (answer.status, answer.body["reason"]) == (422, "NotUnderstood")
    assert "still to be upgraded" in answer.body["detail"]
    assert await verdicts(world, tenant) == {}
    waiting = await world.rest("GET", path(tenant))
    assert (waiting.status, waiting.body["reason"]) == (503, "NotReady")
    assert (await send(world, acme, BUILD)).body == {"accepted": True}


@pytest.mark.parametrize("id_", ["a b", "%00", "x" * 129])
async def test_an_id_that_is_none_is_refused(world, tenant, acme, id_):
    assert (await world.rest("POST", path(tenant, f"/{id_}/replay"))).status in (404, 422)


# --- from a shell ------------------------------------------------------------------------------------------


@pytest.fixture
def shell(world, tenant, tmp_path):
    """Runs a command as people do; its status, its lines, and what it says of trouble."""
    file = tmp_path / "token"
    file.write_text(token_of("ada"))

    async def run(*arguments):
        given = ["--gateway", world.url, "--token-file", str(file), *arguments]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipewright.cli", *given,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode, out.decode().splitlines(), err.decode()

    return run


async def test_from_a_shell_they_are_listed_shown_replayed_and_discarded(world, tenant, acme, shell):
    await send(world, acme, LATE)
    await send(world, acme, {**LATE, "id": "d-3"})
    name = f"{tenant.namespace}/acme"
    code, lines, _ = await shell("deliveries", "list", name)
    assert (code, len(lines)) == (0, 3)
    assert "refused  build  d-3" in lines[1]
    code, lines, _ = await shell("dead-letters", "list", name)
    assert lines[1].endswith("1  build  d-2  build: finishedAt: is no time that is known here")
    code, lines, _ = await shell("dead-letters", "payload", name, "d-2")
    assert json.loads(json.loads(lines[0])["body"]) == LATE
    assert (await shell("dead-letters", "replay", name, "d-2"))[:2] == (1, ['{"refused": 1}'])
    await mend(world, acme)
    assert (await shell("dead-letters", "replay", name, "d-2"))[:2] == (0, ['{"stored": 1}'])
    assert (await shell("dead-letters", "replay", name, "--all"))[:2] == (0, ['{"stored": 1}'])
    assert (await shell("dead-letters", "discard", name, "--all"))[:2] == (0, ['{"discarded": 0}'])


async def test_from_a_shell_a_refusal_is_told(world, tenant, acme, shell):
    code, _, err = await shell("dead-letters", "payload", f"{tenant.namespace}/acme", "d-9")
    assert (code, err) == (
        1,
        "pipewright: 404: there is no dead letter of this id; perhaps it was replayed\n",
    )
    code, _, err = await shell("dead-letters", "list", "nobody")
    assert (code, err) == (1, "pipewright: nobody: name the Integration as namespace/name\n")
    code, _, err = await shell("dead-letters", "replay", f"{tenant.namespace}/acme")
    assert (code, err) == (2, "pipewright: give the id of one, or --all\n")
    for ambiguous in (("d-2", "--all"), ("",)):
        assert (await shell("dead-letters", "discard", f"{tenant.namespace}/acme", *ambiguous))[0] == 2
    code, _, err = await shell("--gateway", "http://gateway.example", "deliveries", "list", "a/b")
    assert (code, err) == (
        1, "pipewright: http://gateway.example: the gateway's address must begin with https://\n",
    )  # fmt: skip
