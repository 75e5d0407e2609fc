"""The gateway's small rooms: bodies, limits, lines, keys, review answers, and what it must not import."""

import asyncio
import base64
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519

from gateway import bodies, lines, problems
from gateway.auth import Attributes, Authorizer
from gateway.keys import Keys
from gateway.limits import Lanes
from gateway.metrics import Metrics
from gateway.problems import Problem
from ml import history
from ml.history import Outcome
from pipewright import errors, names
from pipewright.backends.sealing import HpkeOpener, HpkeSealer
from pipewright.store.records import Route, Run, Tenant

KEY = b"k" * 32
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)

# --- bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "codec", "size"), [(1000, b"\x01", 200), (1, b"\x02", 40), (0, b"\x02", 40)]
)
def test_a_body_opens_with_its_key_and_place_only(count, codec, size):
    body = b'{"a": 1}' * count
    stored = bodies.seal(body, key=KEY, integration="i", delivery_id="d")
    assert stored[:1] == codec
    assert len(stored) < size
    assert body[:4] not in stored or not body
    assert bodies.unseal(stored, key=KEY, integration="i", delivery_id="d") == body
    for changed in ({"key": b"x" * 32}, {"integration": "j"}, {"delivery_id": "e"}):
        with pytest.raises(errors.BackendError):
            bodies.unseal(stored, **({"key": KEY, "integration": "i", "delivery_id": "d"} | changed))


@pytest.mark.parametrize(
    "stored", [b"", b"\x01", b"\x02" + b"x" * 40, b"\x03" + b"x" * 40, b"\x01" + b"x" * 40]
)
def test_what_is_no_stored_body_does_not_open(stored):
    with pytest.raises(errors.BackendError):
        bodies.unseal(stored, key=KEY, integration="i", delivery_id="d")


# --- limits -----------------------------------------------------------------------------------------------


async def test_a_full_lane_refuses_and_its_neighbour_does_not():
    lanes = Lanes(places=1, working=1)
    async with lanes.enter("a"):
        with pytest.raises(Problem) as refused:
            async with lanes.enter("a"):
                pass
        async with lanes.enter("b"):
            assert len(lanes) == 2
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
    assert len(lanes) == 0


async def test_who_waits_for_a_place_to_work_gets_it_or_503():
    lanes = Lanes(places=5, working=1, patience=0.05)
    async with lanes.enter("a"), lanes.work("a"), lanes.enter("a"):
        with pytest.raises(Problem):
            async with lanes.work("a"):
                pass
    async with lanes.enter("a"), lanes.work("a"):
        pass


# --- lines ------------------------------------------------------------------------------------------------

ROW = Run(
    integration="i", provider_id="100", attempt=1, project="acme/shop", pipeline="ci", number=7,
    trigger="push", branch="main", sha="abc", actor="s1", phase="finished", outcome="failure", queued_at=AT,
    started_at=AT + timedelta(seconds=30), finished_at=AT + timedelta(minutes=5), url="",
    failed_jobs=(), jobs=0, seen_at=AT,
)  # fmt: skip


def test_a_run_is_judged_at_one_moment_in_all_its_phases():
    started = replace(ROW, phase="started", finished_at=None, outcome="")
    queued = replace(started, phase="queued", started_at=None)
    assert [lines.run_of(row).judged_at for row in (queued, started, ROW)] == [AT.timestamp()] * 3


def test_a_later_attempt_is_judged_when_it_starts():
    assert lines.run_of(replace(ROW, attempt=2)).judged_at == AT.timestamp() + 30


def test_runs_of_two_integrations_have_no_line_in_common():
    gathered = {}
    lines.gather([ROW, replace(ROW, integration="j")], into=gathered)
    assert len(gathered) == 16
    assert {len(outcomes) for outcomes in gathered.values()} == {1}


@pytest.mark.parametrize("outcome", ["cancel", "error", "skip", ""])
def test_only_success_and_failure_are_remembered(outcome):
    assert lines.outcome_of(replace(ROW, outcome=outcome)) is None
    assert lines.outcome_of(ROW).failed


def test_many_outcomes_at_once_are_the_same_line_as_one_after_another():
    outcomes = [
        Outcome(
            run=str(n % 70),
            attempt=1,
            sha="",
            started_at=0,
            finished_at=float(n * 7 % 101),
            failed=n % 3 == 0,
        )
        for n in range(140)
    ]
    one_by_one = ()
    for outcome in outcomes:
        one_by_one = history.insert(one_by_one, outcome)
    latest = {each.run: each for each in outcomes}
    assert (
        lines._inserted([], list(latest.values()))
        == tuple(sorted(latest.values(), key=lambda each: (each.finished_at, each.run)))[-history.LIMIT :]
    )
    stored = json.loads(history.encode(one_by_one))
    assert lines._inserted(stored, outcomes) == lines._inserted([], outcomes)


# --- keys -------------------------------------------------------------------------------------------------

_PRIVATE = x25519.X25519PrivateKey.generate()
OPENER = HpkeOpener(base64.b64encode(_PRIVATE.private_bytes_raw()).decode())
SEALER = HpkeSealer(base64.b64encode(_PRIVATE.public_key().public_bytes_raw()).decode())
BUNDLE = {
    "host": "db", "port": 5432, "dbname": "pw_a", "user": "pw_a_ingest", "password": "canary pass'word",
    "dataKey": base64.b64encode(KEY).decode(),
}  # fmt: skip


def tenant(bundle, tenant_id="aaaaaaaaaaaa"):
    return Tenant(
        id=tenant_id, uid="u", name="acme", server="main", state="Active", namespaces={}, bundle=bundle
    )


def sealed(value, tenant_id="aaaaaaaaaaaa"):
    return SEALER.seal(json.dumps(value).encode(), context=names.bundle_context(tenant_id))


def test_a_bundle_gives_the_login_and_the_data_key_and_shows_neither():
    access = Keys(OPENER).access(tenant(sealed(BUNDLE)))
    assert access.data_key == KEY
    assert "canary" in access.dsn.reveal()
    assert "canary" not in repr(access)
    assert "kkk" not in repr(access)


def test_a_bundle_of_a_rotation_gives_the_password_of_before_too():
    access = Keys(OPENER).access(tenant(sealed({**BUNDLE, "previousPassword": "canary-before"})))
    assert access.previous_dsn is not None
    assert "canary-before" in access.previous_dsn.reveal()
    assert "canary" not in repr(access)
    assert Keys(OPENER).access(tenant(sealed({**BUNDLE, "previousPassword": None}))).previous_dsn is None


BAD_BUNDLES = {
    "sealed for another tenant": sealed(BUNDLE, "bbbbbbbbbbbb"),
    "no password": sealed({key: value for key, value in BUNDLE.items() if key != "password"}),
    "a short key": sealed({**BUNDLE, "dataKey": "QUJD"}),
    "a list": sealed([]),
    "garbage": b"garbage",
}


@pytest.mark.parametrize("bundle", BAD_BUNDLES.values(), ids=BAD_BUNDLES)
def test_a_bundle_that_is_wrong_says_so_without_its_content(bundle):
    with pytest.raises(errors.BackendError) as refused:
        Keys(OPENER).access(tenant(bundle))
    assert "canary" not in str(refused.value)


def test_a_webhook_without_a_secret_has_none_and_one_of_another_route_does_not_open():
    route = Route(
        hook_id="h" * 32,
        tenant_id="t",
        namespace="n",
        integration="i",
        integration_uid="u",
        connector="github",
    )
    assert Keys(OPENER).webhook_secrets(route) == ()
    stolen = SEALER.seal(b'{"secrets": ["s"]}', context="pipewright/route/" + "x" * 32)
    with pytest.raises(errors.BackendError):
        Keys(OPENER).webhook_secrets(replace(route, sealed_secret=stolen))


# --- callers ----------------------------------------------------------------------------------------------

WANTED = Attributes(verb="get", namespace="n", resource="workflows", subresource="decisions", name="w")
USER = {"username": "ada", "groups": ["g"]}


class Reviews:
    def __init__(self, token_status, allowed=True):
        self.token_status, self.allowed, self.asked = token_status, allowed, []

    async def review(self, manifest):
        self.asked.append(manifest)
        if manifest["kind"] == "TokenReview":
            return {"status": self.token_status}
        return {"status": {"allowed": self.allowed}}


NOT_AUTHENTICATED = {
    "not authenticated": {"authenticated": False},
    "no status at all": {},
    "authenticated for nobody in particular": {"authenticated": True, "user": USER},
    "authenticated for another audience": {"authenticated": True, "user": USER, "audiences": ["vault"]},
    "authenticated without a name": {"authenticated": True, "user": {}, "audiences": ["pipewright"]},
    "authenticated in a word": {"authenticated": "true", "user": USER, "audiences": ["pipewright"]},
}


@pytest.mark.parametrize("status", NOT_AUTHENTICATED.values(), ids=NOT_AUTHENTICATED)
async def test_is_401(status):
    authorizer = Authorizer(cluster=Reviews(status), audience="pipewright", metrics=Metrics())
    with pytest.raises(Problem) as refused:
        await authorizer.admit("Bearer t.t.t", WANTED)
    assert refused.value.status == 401


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer  ",
        "Basic YTpi",
        "Bearer é",
        "Bearer opaque",
        "Bearer a.b",
        "Bearer a.b.c d",
        "Bearer a.b." + "x" * 20_000,
    ],
)
async def test_without_a_token_nobody_is_asked(header):
    cluster = Reviews({})
    with pytest.raises(Problem) as refused:
        await Authorizer(cluster=cluster, audience="pipewright", metrics=Metrics()).admit(header, WANTED)
    assert (refused.value.status, cluster.asked) == (401, [])


async def test_the_same_question_is_asked_once_in_ten_seconds():
    now = 0.0
    cluster = Reviews({"authenticated": True, "user": USER, "audiences": ["pipewright"]})
    authorizer = Authorizer(cluster=cluster, audience="pipewright", metrics=Metrics(), clock=lambda: now)
    for _ in range(3):
        assert (await authorizer.admit("Bearer t.t.t", WANTED)).username == "ada"
    assert len(cluster.asked) == 2
    other = Attributes(verb="get", namespace="m", resource="workflows", subresource="decisions", name="w")
    await authorizer.admit("Bearer t.t.t", other)
    assert len(cluster.asked) == 3
    now = 11.0
    await authorizer.admit("Bearer t.t.t", WANTED)
    assert len(cluster.asked) == 5


async def test_tokens_never_seen_valid_take_no_place_of_those_that_were():
    class Slow(Reviews):
        async def review(self, manifest):
            if manifest["kind"] == "TokenReview" and manifest["spec"]["token"] != "t.t.t":
                await asyncio.Event().wait()
            return await super().review(manifest)

    now = 0.0
    cluster = Slow({"authenticated": True, "user": USER, "audiences": ["pipewright"]})
    authorizer = Authorizer(cluster=cluster, audience="pipewright", metrics=Metrics(), clock=lambda: now)
    await authorizer.admit("Bearer t.t.t", WANTED)
    now = 11.0
    strangers = [asyncio.create_task(authorizer.admit(f"Bearer x.{n}.x", WANTED)) for n in range(50)]
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        assert (await authorizer.admit("Bearer t.t.t", WANTED)).username == "ada"
    for task in strangers:
        task.cancel()


async def test_of_a_reviewers_own_trouble_the_caller_learns_503_only():
    class Refusing:
        async def review(self, _manifest):
            raise errors.Forbidden("we may not ask")

    with pytest.raises(Problem) as refused:
        await Authorizer(cluster=Refusing(), audience="pipewright", metrics=Metrics()).admit(
            "Bearer t.t.t", WANTED
        )
    assert refused.value.status == 503
    assert "may not ask" not in refused.value.detail


# --- problems ---------------------------------------------------------------------------------------------

TROUBLES = {
    "an absent server": (errors.Unreachable("db at 10.0.0.1"), 503, "10"),
    "a lost race": (errors.Conflict("row 7 of runs"), 503, "1"),
    "a right that we lack": (errors.Forbidden("no SELECT"), 503, "10"),
    "something that comes": (errors.Waiting("R", "m", after=timedelta(seconds=3)), 503, "3"),
    "a surprise": (ValueError("canary"), 500, None),
}


@pytest.mark.parametrize(("error", "status", "after"), TROUBLES.values(), ids=TROUBLES)
def test_as_a_problem(error, status, after):
    problem = problems.from_error(error)
    assert (problem.status, problem.headers.get("Retry-After")) == (status, after)
    assert str(error) not in problem.detail


# --- imports ----------------------------------------------------------------------------------------------


def test_importing_the_gateway_imports_neither_kopf_nor_hvac():
    code = (
        "import sys, gateway.app, gateway.parts, pipewright.backends.kubernetes;"
        "print(sorted({'kopf', 'hvac', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_cancelled_wait_leaves_no_trace_in_its_lane():
    lanes = Lanes(places=2, working=1)
    async with lanes.enter("a"), lanes.work("a"):

        async def waiting():
            async with lanes.enter("a"), lanes.work("a"):
                pass

        task = asyncio.create_task(waiting())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(lanes) == 0
