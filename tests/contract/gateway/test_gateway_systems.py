"""Every CI system end to end: a simulator of it, a real gateway on a real database, and the runner's way out.

simulator ──webhook──► gateway ──► history ◄── runs and jobs as the system has them
    ▲                                 ▲
    └── check, actions ── runner ── backfill
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors import catalogue, docs, overview
from connectors.outbound import Outbound
from dev.systems import SYSTEMS, Simulator, proofs, prow
from dev.systems.engine import LOG, event_of, sample_of
from pipewright.backends.runner.actions import ConnectorActions
from pipewright.backends.runner.imports import GatewayImport
from pipewright.ports import Secret
from pipewright.store import details
from tests.contract.gateway.systems import STORIES, Done, Story

CI = [name for name, each in catalogue.load().items() if each.category == "ci" and name != "generic"]
SECRET = "what both sides of a webhook know"
SINCE = datetime(2026, 1, 5, tzinfo=UTC)
ROWS = {
    "run": "SELECT provider_id, attempt, project, pipeline, branch, sha, phase, outcome, started_at,"
    " finished_at FROM pipewright.runs WHERE integration = %s",
    "job": "SELECT provider_id, attempt, project, run_id, name, branch, sha, phase, outcome, started_at,"
    " finished_at FROM pipewright.jobs WHERE integration = %s",
    "step": "SELECT job_id || '/' || number, attempt, project, run_id, name, outcome, started_at, finished_at"
    " FROM pipewright.steps WHERE integration = %s",
    "test": "SELECT provider_id, attempt, project, pipeline, run_id, job_id, suite, name, branch, sha,"
    " outcome, started_at, finished_at FROM pipewright.tests WHERE integration = %s",
}
NAMES = {
    "run": ("project", "pipeline", "branch", "sha", "phase", "outcome", "startedAt", "finishedAt"),
    "job": ("project", "run", "name", "branch", "sha", "phase", "outcome", "startedAt", "finishedAt"),
    "step": ("project", "run", "name", "outcome", "startedAt", "finishedAt"),
    "test": (
        "project", "pipeline", "run", "job", "suite", "name", "branch", "sha", "outcome", "startedAt",
        "finishedAt",
    ),
}  # fmt: skip
Key = tuple[str, str, int]


@dataclasses.dataclass(frozen=True)
class Place:
    """What all systems share."""

    sims: Mapping[str, Simulator]
    world: Any
    tenant: Any
    actions: ConnectorActions
    imports: GatewayImport


@dataclasses.dataclass(frozen=True)
class Bench:
    """One system beside what all share."""

    name: str
    story: Story
    sim: Simulator
    place: Place
    hook: Any
    config: Mapping[str, Any]

    @property
    def account(self) -> dict[str, Any]:
        """How the runner calls it."""
        secret = {key: Secret(value) for key, value in self.sim.system.credentials.items()}
        return {"connector": self.name, "config": self.config, "credentials": secret}

    @property
    def stranger(self) -> dict[str, Any]:
        """The same with credentials that are none."""
        return {**self.account, "credentials": dict.fromkeys(self.sim.system.credentials, Secret("wrong"))}

    async def rows(self) -> dict[Key, tuple[Any, ...]]:
        """What the history has of this system, by kind, id and attempt."""
        return {
            (kind, row[0], row[1]): row[2:]
            for kind, query in ROWS.items()
            for row in await self.place.tenant.rows(query, self.hook.uid)
        }


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner's token, as RememberingCluster reads it."""
    path = tmp_path_factory.mktemp("runner") / "token"
    path.write_text("e30.72756e6e6572.c2ln\n")
    return path


@pytest.fixture(scope="module")
async def place(serve, token_file) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        sims = {
            name: await stack.enter_async_context(Simulator(make()).running())
            for name, make in SYSTEMS.items()
        }
        allow = [sim.url.removeprefix("http://") for sim in sims.values()]
        known = dict(catalogue.load())
        # Google's keys are where its simulator has them.
        keys = dataclasses.replace(known["prow"].webhook.verify, jwks_url=sims["prow"].url + prow.KEYS)
        known["prow"] = dataclasses.replace(
            known["prow"], webhook=dataclasses.replace(known["prow"].webhook, verify=keys)
        )
        world = await stack.enter_async_context(serve(connectors=known, allow=allow))
        client = await stack.enter_async_context(Outbound(allow=allow))
        imports = GatewayImport(world.url, token_file=token_file)
        stack.push_async_callback(imports.close)
        yield Place(sims, world, await world.tenant(), ConnectorActions(client), imports)


@pytest.fixture
async def bench(request: pytest.FixtureRequest, place: Place) -> Bench:
    name: str = request.param
    story, sim, manifest = STORIES[name], place.sims[name], catalogue.load()[name]
    at_simulator = {"baseUrl": sim.url} if "baseUrl" in manifest.config["properties"] else {}
    config = {**at_simulator, **story.config}
    hook = await place.world.hook(
        place.tenant, name=name, connector=name, config=config, projects=story.projects, secrets_=[SECRET]
    )
    sim.hook(f"{place.world.url}/hooks/{hook.id}", SECRET)
    return Bench(name=name, story=story, sim=sim, place=place, hook=hook, config=config)


def told(records: list[Mapping[str, Any]]) -> dict[Key, Mapping[str, Any]]:
    """The last word on each run and job, and on each step and test that is not too old to be kept."""
    oldest = datetime.now(UTC) - details.LONGEST
    return {
        (
            each["type"],
            each["id"] if "id" in each else f"{each['job']}/{each['number']}",
            each["attempt"],
        ): each
        for each in records
        if each["type"] in ("run", "job")
        or (each["type"] in ("step", "test") and datetime.fromisoformat(each["finishedAt"]) > oldest)
    }


def same(row: tuple[Any, ...], record: Mapping[str, Any]) -> bool:
    """Whether a row says what a record says of what it names."""
    found = dict(zip(NAMES[record["type"]], row, strict=True))
    for name, value in record.items():
        if name not in found or (value == "" and name != "outcome"):
            continue
        wanted = datetime.fromisoformat(value) if name.endswith("At") else value
        if found[name] != wanted:
            return False
    return True


@pytest.mark.parametrize("bench", CI, indirect=True)
async def test_a_ci_system_is_connected_read_heard_and_acted_on(bench: Bench) -> None:
    await the_credentials_are_checked(bench)
    await the_history_is_read(bench)
    await webhooks_become_rows(bench)
    await what_others_send_is_refused(bench)
    for action, done in bench.story.actions.items():
        await an_action_is_done(bench, action, done)
    assert bench.story.actions.keys() == catalogue.load()[bench.name].actions.keys()


async def the_credentials_are_checked(bench: Bench) -> None:
    if catalogue.load()[bench.name].check is None:
        return
    actions, story = bench.place.actions, bench.story
    good = await actions.check(**bench.account)
    assert good.accepted, good.message
    if not bench.sim.system.credentials:
        assert good.reason == "NotNeeded"
        return
    refused = await actions.check(**bench.stranger)
    assert (refused.accepted, refused.reason) == (False, "CredentialsRefused")
    if story.narrow:
        bench.sim.scopes = list(story.narrow)
        narrow = await actions.check(**bench.account)
        bench.sim.scopes = []
        assert (narrow.accepted, narrow.reason) == (False, "ScopesMissing")
        assert f"lacks the scopes {story.missing}:" in narrow.message


async def the_history_is_read(bench: Bench) -> None:
    """Page by page, with one answer that asks to wait in between; what is there is what the system has."""
    story, sim = bench.story, bench.sim
    if not story.history:
        return
    first = len(sim.asked)
    sim.busy_in = min(2, story.pages)
    cursor: str | None = ""
    waits = []
    while cursor is not None:
        part = await bench.place.actions.read_history(
            **bench.account,
            project=story.projects[0],
            since=SINCE,
            until=SINCE + timedelta(days=1),
            cursor=cursor,
        )
        await bench.place.imports.send(
            namespace=bench.place.tenant.namespace, integration=bench.name, records=part.records
        )
        assert part.left_out == ()
        if part.trouble is not None:
            waits.append((part.trouble.reason, part.trouble.after))
        cursor = part.cursor
    assert waits == [("ProviderBusy", timedelta(seconds=7))]
    outer = sim.asked[first].split()[1]
    assert sum(f" {outer} 200" in line for line in sim.asked[first:]) >= story.pages, sim.asked[first:]
    wanted, rows = told(sample_of(bench.name, f"sync/{story.history}")["records"]), await bench.rows()
    assert rows.keys() == wanted.keys()
    assert [key for key in wanted if not same(rows[key], wanted[key])] == []


async def webhooks_become_rows(bench: Bench) -> None:
    samples = [sample_of(bench.name, name) for name in bench.story.deliveries]
    codes = [await bench.sim.send(event_of(bench.name, name)) for name in bench.story.deliveries]
    assert codes == [202] * len(samples)
    wanted, rows = told([each["record"] for one in samples for each in one["records"]]), await bench.rows()
    assert [key for key in wanted if key not in rows or not same(rows[key], wanted[key])] == []
    assert {kind for kind, _, _ in wanted} >= {"run"}


async def what_others_send_is_refused(bench: Bench) -> None:
    before = await bench.rows()
    count = "SELECT count(*) FROM pipewright.deliveries WHERE integration = %s"
    deliveries = await bench.place.tenant.rows(count, bench.hook.uid)
    event = event_of(bench.name, bench.story.deliveries[0])
    assert await bench.sim.send(event, secret="what an attacker knows") == 401
    assert await bench.place.tenant.rows(count, bench.hook.uid) == deliveries
    assert await bench.rows() == before


async def an_action_is_done(bench: Bench, action: str, done: Done) -> None:
    if bench.sim.system.credentials:
        refused = await bench.place.actions.perform(**bench.stranger, action=action, inputs=done.inputs)
        assert (refused.phase, bench.sim.done.count(done.did)) == ("Failed", 0), refused.message
    performed = await bench.place.actions.perform(**bench.account, action=action, inputs=done.inputs)
    assert performed.phase == "Succeeded", performed.message
    if action == "read-log":
        tail = performed.result["tail"]
        assert LOG.endswith(tail)
        assert 100 < len(tail) <= 4000
    assert dict(performed.result).items() >= done.result.items()
    if done.did:
        assert bench.sim.done[-1] == done.did
    await bench.sim.settle()
    assert set(bench.sim.codes) <= {202, 401}
    if done.then is not None:
        kind, id_, phase, outcome = done.then
        row = dict(zip(NAMES[kind], (await bench.rows())[kind, id_, done.attempt], strict=True))
        assert (row["phase"], row["outcome"]) == (phase, outcome)


PUSHES: Mapping[str, tuple[str, Callable[[str, bytes], dict[str, str]]]] = {
    "acr": ("pushed", lambda secret, _: {"Authorization": f"Bearer {secret}"}),
    "artifactory": ("pushed", lambda secret, raw: {"X-JFrog-Event-Auth": proofs.hmac_hex(secret, raw)}),
    "docker-hub": ("push", lambda *_: {}),
    "ecr": ("pushed", lambda secret, _: {"X-Api-Key": secret}),
    "harbor": ("pushed", lambda secret, _: {"Authorization": secret}),
    "quay": ("pushed", lambda *_: {}),
}
"""Registries that sign with what a gateway has at hand: a sample, and the headers that prove it."""


@pytest.mark.parametrize("name", PUSHES)
async def test_a_registrys_push_is_kept_and_one_that_nobody_signed_is_not(place: Place, name: str) -> None:
    (sample, sign), world = PUSHES[name], place.world
    data = sample_of(name, sample)
    event, config = event_of(name, sample), data.get("config", {})
    raw = proofs.compact(event.body)
    projects = [each["record"]["project"] for each in data["records"]]
    common = {"connector": name, "config": config, "projects": projects, "secrets_": [SECRET]}
    strict = await world.hook(place.tenant, name=name, **common)
    hook = strict
    if not sign(SECRET, raw):
        hook = await world.hook(place.tenant, name=f"{name}-open", allow_unsigned=True, **common)

    async def deliver(to: Any, secret: str) -> int:
        headers = {"Content-Type": "application/json", **sign(secret, raw)}
        answer = await world.ask("POST", f"/hooks/{to.id}", data=raw, headers=headers)
        return int(answer.status)

    kept = "SELECT event, project, repository, tag, digest FROM pipewright.artifacts WHERE integration = %s"
    assert await deliver(strict, "what an attacker knows") == 401
    assert await place.tenant.rows(kept, strict.uid) == []
    assert await deliver(hook, SECRET) == 202
    names = ("event", "project", "repository", "tag", "digest")
    wanted = {tuple(each["record"][field] for field in names) for each in data["records"]}
    assert set(await place.tenant.rows(kept, hook.uid)) == wanted


def test_a_story_is_told_of_every_ci_system_and_its_page_says_so() -> None:
    says = f"Tried end to end {overview.TRIED['simulator']}"
    tried = {page.stem for page in (docs.CHECKOUT / docs.PLACE).glob("*.md") if says in page.read_text()}
    assert set(CI) == set(STORIES) == set(SYSTEMS) == tried
