"""Pools: who shares, who is trained on what others share, and what is left when one of them leaves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from controllers.model import objects, pooling
from controllers.model.observed import Member, Observed, Pool, Result, Unknown
from controllers.model.plan import plan_model, plan_teardown
from ml import contract
from pipewright import conditions, errors
from pipewright.actions import model as act
from pipewright.api.v1alpha1 import Model
from pipewright.backends.memory_training import MemoryCompute, MemoryWindows
from pipewright.runner_facts import TenantRef
from pipewright.training_facts import (
    ExportedWindow,
    JobStatus,
    LentWindows,
    PoolWindow,
    RunCount,
    Training,
)
from tests.unit.controllers.test_model_plan import NOW, SHA, TENANT, finished, pointer, report
from tests.unit.controllers.test_model_reconcile import (
    WRITES,
    Counted,
    World,
    _count,
    _until_it_rests,
    state,
)

UID = "11111111-2222-3333-4444-555555555555"
OTHER_UID = "99999999-8888-4777-8666-555555555555"
OTHER = TenantRef(id="zyxwvutsrqpn", uid="other-tenant-uid", name="globex", state="Active", server="main")


def model(
    *, uid: str = UID, namespace: str = "acme", pool: str | None = "ci", deleting: bool = False, **spec: Any
) -> Model:
    metadata = {"name": "run-failure", "namespace": namespace, "uid": uid, "generation": 1}
    if deleting:
        metadata["deletionTimestamp"] = "2026-03-10T00:00:00Z"
    return Model.parse({"metadata": metadata, "spec": {"task": "RunFailure", "pool": pool, **spec}})


# --- plans ----------------------------------------------------------------------------------------------

SUBJECT = model()
NIGHTLY = model(training={"schedule": "0 3 * * *"})
KEY = pooling.key(UID, other_uid=OTHER_UID)
LENT = LentWindows(
    folder="file:///a/pools/m",
    windows=(PoolWindow(key=KEY, uri="file:///a/pools/m/1-x.parquet", sha256="e" * 64, rows=900),),
)


def count(rows: int, *, heard: int | None = None) -> RunCount:
    return RunCount(rows=rows, heard=rows if heard is None else heard, ended=0)


def member(rows: int = 900, *, key: str = KEY, heard: int | None = None) -> Member:
    since = NOW - timedelta(days=90)
    return Member(key=key, tenant=OTHER, since=since, integrations=None, runs=count(rows, heard=heard))


def pool(*members: Member, consenting: set[str] | None = None) -> Pool:
    keys = {each.key for each in members} if consenting is None else consenting
    return Pool(is_allowed=True, consenting=frozenset(keys), members=members)


def seen(*trainings: Training, runs: Any, **other: Any) -> Observed:
    counted = count(runs) if isinstance(runs, int) else runs
    values: dict[str, Any] = {"tenant": TENANT, "trainings": trainings, "runs": counted, **other}
    return Observed(**values)


def attempt(
    number: int = 1, outcome: str = "Passed", *, lent: LentWindows | None = LENT, **other: Any
) -> Training:
    told = contract.Pooled(tenants=2, rows=940, own_rows=40) if lent else None
    made = None if outcome == "Failed" else report(outcome=outcome, submission_id=f"s{number}", pooled=told)
    values = {"report": made, "of": SUBJECT, **other}
    return dataclasses.replace(finished(number, outcome, **values), lent=lent)


def running(**other: Any) -> Training:
    return dataclasses.replace(
        attempt(), phase="Submitted", outcome=None, finished_at=None, report=None, **other
    )


POOLED = attempt()
OWN_FAILED = attempt(
    2, "GatesFailed", lent=None, report=report(outcome="GatesFailed", artifact_sha256="d" * 64)
)
ACTIVE = {"pointer": pointer(POOLED)}
ALONE = Pool(is_allowed=True, consenting=frozenset())
REFUSED = Pool(is_allowed=False)
DOWN = Unknown(reason="BackendFailed", message="who is in the pool ci could not be read (Unreachable)")
BEGIN = "export the data window and begin training, attempt"
WITH = "with the runs of other members of its pool"
LEFT = "a member has left the pool"

PLANS: dict[str, tuple[Model, Observed, list[str]]] = {
    "few runs of its own are enough with the pool's": (
        SUBJECT, seen(runs=40, pool=pool(member())), [f"{BEGIN} 1, {WITH}"],
    ),
    "none of its own, too": (SUBJECT, seen(runs=0, pool=pool(member())), [f"{BEGIN} 1, {WITH}"]),
    "all of them together must be enough": (SUBJECT, seen(runs=40, pool=pool(member(459))), []),
    "exactly enough is enough": (SUBJECT, seen(runs=40, pool=pool(member(460))), [f"{BEGIN} 1, {WITH}"]),
    "enough of its own are trained on alone": (
        SUBJECT, seen(runs=500, pool=pool(member())), [f"{BEGIN} 1"],
    ),
    "where its Tenant does not allow it nothing begins": (SUBJECT, seen(runs=40, pool=REFUSED), []),
    "nor where nobody else shares": (SUBJECT, seen(runs=40, pool=ALONE), []),
    "nor before it is known who does": (SUBJECT, seen(runs=40, pool=DOWN), []),
    "but with runs of its own nobody has to know": (SUBJECT, seen(runs=500, pool=DOWN), [f"{BEGIN} 1"]),
    "a Model without a pool waits": (model(pool=None), seen(runs=40), []),
    "a pooled version rests while all stays as it is": (
        SUBJECT, seen(POOLED, runs=40, pool=pool(member()), **ACTIVE), [],
    ),
    "a member that joins is no reason by itself": (
        SUBJECT, seen(POOLED, runs=40, pool=pool(member(), member(key="other")), **ACTIVE), [],
    ),
    "when it has enough of its own it is trained on these at once": (
        SUBJECT, seen(POOLED, runs=500, pool=pool(member()), **ACTIVE), [f"{BEGIN} 2: {pooling.OWN}"],
    ),
    "also where the pooled one missed its gates": (
        SUBJECT,
        seen(attempt(1, "GatesFailed"), runs=500, pool=pool(member())),
        [f"{BEGIN} 2: {pooling.OWN}"],
    ),
    "one of its own that misses its gates is not tried again at once": (
        SUBJECT, seen(OWN_FAILED, POOLED, runs=500, pool=pool(member()), **ACTIVE), [],
    ),
    "but after a day": (
        SUBJECT,
        seen(
            dataclasses.replace(OWN_FAILED, started_at=NOW - timedelta(days=1)),
            POOLED, runs=500, pool=pool(member()), **ACTIVE,
        ),
        [f"{BEGIN} 3: {pooling.OWN}"],
    ),
    "unless nothing is new": (
        SUBJECT,
        seen(
            dataclasses.replace(OWN_FAILED, started_at=NOW - timedelta(days=1)),
            POOLED, runs=count(500, heard=0), pool=pool(member()), **ACTIVE,
        ),
        [],
    ),
    "what learned from one that left is made anew at once": (
        SUBJECT,
        seen(POOLED, runs=40, pool=pool(member(key="other")), **ACTIVE),
        [f"{BEGIN} 2, {WITH}: {LEFT}"],
    ),
    "one that is suspended has not left": (
        SUBJECT, seen(POOLED, runs=40, pool=pool(consenting={KEY}), **ACTIVE), [],
    ),
    "where too little is left it waits, with the version that it has": (
        SUBJECT, seen(POOLED, runs=40, pool=ALONE, **ACTIVE), [],
    ),
    "so it does when its own Tenant has left": (SUBJECT, seen(POOLED, runs=40, pool=REFUSED, **ACTIVE), []),
    "its own Tenant's leaving trains it on its own runs, where they are enough": (
        SUBJECT, seen(POOLED, runs=500, pool=REFUSED, **ACTIVE), [f"{BEGIN} 2: {LEFT}"],
    ),
    "and so does a spec that names no pool any more": (
        model(pool=None), seen(POOLED, runs=500, **ACTIVE), [f"{BEGIN} 2: {LEFT}"],
    ),
    "while it is not known who is there nobody has left": (
        SUBJECT, seen(POOLED, runs=40, pool=DOWN, **ACTIVE), [],
    ),
    "a job that learns from one that left is stopped": (
        SUBJECT,
        seen(running(), runs=None, pool=ALONE, job=JobStatus(phase="Running")),
        ["stop training, attempt 1"],
    ),
    "and closed when it has stopped, whatever it wrote": (
        SUBJECT,
        seen(
            running(), runs=None, pool=ALONE, job=JobStatus(phase="Succeeded"),
            result=Result(report=report(), artifact_sha256=SHA),
        ),
        [
            (
                "note training, attempt 1, as Failed: PoolChanged: a member has left the pool while it was"
                " trained on"
            )
        ],
    ),
    "one that was not yet submitted never is": (
        SUBJECT,
        seen(running(), runs=None, pool=REFUSED),
        [
            (
                "note training, attempt 1, as Failed: PoolChanged: a member has left the pool while it was"
                " trained on"
            )
        ],
    ),
    "a job whose members are all there goes on": (
        SUBJECT, seen(running(), runs=None, pool=pool(consenting={KEY}), job=JobStatus(phase="Running")), [],
    ),
    "a version that passed and learned from one that left is not promoted": (
        SUBJECT, seen(POOLED, runs=40, pool=ALONE), [],
    ),
    "one whose members are there is": (
        SUBJECT, seen(POOLED, runs=40, pool=pool(member())), ["promote version bbbbbbbbbbbb"],
    ),
    "the own version replaces the pooled one when it passes": (
        SUBJECT,
        seen(
            attempt(2, lent=None, report=report(artifact_sha256="d" * 64)), POOLED,
            runs=500, pool=pool(member()), **ACTIVE,
        ),
        ["promote version dddddddddddd"],
    ),
    "a turn of the schedule with nothing new in the whole pool is passed over": (
        NIGHTLY,
        seen(
            attempt(of=NIGHTLY, ago=timedelta(days=1)), runs=count(40, heard=0),
            pool=pool(member(heard=0)), **ACTIVE,
        ),
        [
            (
                "skip the training of 2026-03-10 03:00 UTC: nothing was heard of runs that passed or failed"
                " since attempt 1"
            )
        ],
    ),
    "what others have heard is new": (
        NIGHTLY,
        seen(
            attempt(of=NIGHTLY, ago=timedelta(days=1)), runs=count(40, heard=0),
            pool=pool(member(heard=5)), **ACTIVE,
        ),
        [f"{BEGIN} 2, {WITH}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("subject", "observed", "wanted"), PLANS.values(), ids=PLANS.keys())
def test_plans(subject: Model, observed: Observed, wanted: list[str]) -> None:
    assert [str(action) for action in plan_model(subject, observed, now=NOW)] == wanted


def test_a_name_in_a_pool_says_nothing_and_is_another_for_each_that_asks() -> None:
    assert OTHER_UID not in KEY
    assert len({KEY, pooling.key(OTHER_UID, other_uid=UID), pooling.key("a", other_uid=OTHER_UID)}) == 3


def test_the_pool_is_part_of_the_recipe_and_without_one_it_is_what_it_was() -> None:
    assert objects.recipe(SUBJECT) != objects.recipe(model(pool="other")) != objects.recipe(model(pool=None))


def test_what_was_lent_goes_before_the_outcome_is_written_and_with_the_model() -> None:
    plan = plan_model(SUBJECT, seen(running(), runs=None, pool=ALONE), now=NOW)
    (finish,) = [it for it in plan if isinstance(it, act.FinishTraining)]
    assert finish.lent == LENT.folder
    gone = Observed(tenant=None, has_lent=True)
    assert [str(it) for it in plan_teardown(SUBJECT, gone, now=NOW)] == [
        "delete the windows that a pool lent"
    ]


# --- the story on ports in memory -----------------------------------------------------------------------


def window(text: str, *, rows: int) -> tuple[ExportedWindow, int]:
    content = text.encode()
    return ExportedWindow(content=content, sha256=hashlib.sha256(content).hexdigest(), rows=rows), rows


class Broken(MemoryWindows):
    """The other tenant's database is counted in and then down."""

    async def export(self, tenant: TenantRef, **asked: Any) -> ExportedWindow:
        if tenant.id == OTHER.id:
            raise errors.Unreachable(f"the database of {tenant.name} ({tenant.id}) does not answer")
        return await super().export(tenant, **asked)


def tenant_of(tenant: TenantRef, *, pools: list[str], **metadata: str) -> dict[str, Any]:
    return {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": tenant.name, "uid": tenant.uid, **metadata},
        "spec": {"modelPools": pools},
    }


async def world(*, mine: bool = True, theirs: bool = True, asks: bool = True, **metadata: Any) -> World:
    """Acme with few runs and Globex with many; both opt in on both sides, unless it is said otherwise."""
    made = World()
    made.directory.tenants["globex"] = OTHER
    made.windows.of = {TENANT.id: window("acme's", rows=40), OTHER.id: window("globex's", rows=900)}
    for tenant, allowed, more in ((TENANT, mine, {}), (OTHER, theirs, metadata)):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": tenant.name}}
        await made.cluster.create(namespace)
        await made.cluster.create(tenant_of(tenant, pools=["ci"] if allowed else [], **more))
    other = model(uid=OTHER_UID, namespace="globex", pool="ci" if asks else None).dump()
    await made.cluster.create(other)
    return made


def said(subject: Model, aspect: str) -> tuple[str, str]:
    found = conditions.find(subject.status.conditions, aspect)
    assert found is not None
    return found.status, found.reason


async def test_it_is_trained_on_both_and_the_others_window_is_in_nobodys_place_and_goes() -> None:
    subject = await world()
    lent: list[str] = []
    train = subject.train

    def looking(job: contract.TrainingJob) -> bool:
        lent.extend(url for url in subject.artifacts.files if "/pools/" in url)
        assert [subject.artifacts.files[each.uri] for each in job.pool] == [b"globex's"]
        assert subject.artifacts.files[job.window_uri] == b"acme's"
        return train(job)

    subject.compute = MemoryCompute(looking)
    ready = await subject.settle(SUBJECT)
    assert said(ready, "Ready") == ("True", "Active")
    assert said(ready, "InPool") == ("True", "Member")
    assert len(lent) == 1
    assert lent[0].startswith(f"file:///memory/pools/{UID}/1-")
    assert [url for url in subject.artifacts.files if "pools" in url] == []
    assert not [url for url in subject.artifacts.files if OTHER.id in url]
    (kept,) = await subject.trainings.latest(TENANT, model_uid=UID)
    assert kept.lent is not None
    assert kept.lent.keys == {KEY}


async def test_nothing_of_the_one_says_who_the_other_is() -> None:
    subject = await world()
    model_, told = SUBJECT, []
    for _ in range(8):
        model_, outcome = await subject.step(model_)
        told += [json.dumps(model_.status.dump()), *(str(each) for each in outcome.results.done)]
    told += [contract.to_json(job) for job in subject.jobs]
    told += [repr(each) for each in await subject.trainings.latest(TENANT, model_uid=UID)]
    assert len(subject.jobs) == 1
    for secret in (OTHER.id, OTHER.uid, OTHER.name, OTHER_UID):
        assert not [each for each in told if secret in each]


async def test_a_member_that_cannot_be_read_is_told_without_its_name() -> None:
    subject = await world()
    broken = Broken(subject.windows.window, labelled=0)
    broken.of = subject.windows.of
    subject.windows = broken
    refused, outcome = await subject.step(SUBJECT)
    (failure,) = outcome.results.failures
    assert "a member of the pool could not be read" in str(failure.error)
    assert OTHER.name not in json.dumps(refused.status.dump())
    assert OTHER.id not in json.dumps(refused.status.dump())
    assert [url for url in subject.artifacts.files if "pools" in url] == []
    assert subject.jobs == []


@pytest.mark.parametrize(
    ("opted", "reason"),
    [
        ({"mine": False}, "NotAllowed"),
        ({"theirs": False}, "Member"),
        ({"asks": False}, "Member"),
        ({}, "Member"),
    ],
)
async def test_without_each_of_the_opt_ins_nothing_is_shared(opted: dict[str, Any], reason: str) -> None:
    subject = await world(**opted)
    rest = await subject.settle(SUBJECT)
    assert said(rest, "InPool")[1] == reason
    shared = [job.pool for job in subject.jobs if job.pool]
    assert bool(shared) == (not opted)
    if opted:
        assert said(rest, "Training") == ("False", "WaitingForData")


NOT_MEMBERS = {
    "another Tenant of the same name": {"uid": "new"},
    "a Tenant that is being deleted": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("metadata", NOT_MEMBERS.values(), ids=NOT_MEMBERS.keys())
async def test_a_tenant_is_known_by_its_uid_and_a_deleted_one_has_left(metadata: dict[str, Any]) -> None:
    subject = await world(**metadata)
    rest = await subject.settle(SUBJECT)
    assert said(rest, "Training") == ("False", "WaitingForData")
    assert subject.jobs == []


async def test_other_models_of_its_own_tenant_and_a_second_one_of_another_count_once() -> None:
    subject = await world()
    for uid, namespace in (("11111111-aaaa", "acme"), ("99999999-bbbb", "globex")):
        second = model(uid=uid, namespace=namespace).dump()
        second["metadata"]["name"] = "second"
        await subject.cluster.create(second)
    await subject.settle(SUBJECT)
    (job,) = subject.jobs
    assert len(job.pool) == 1


async def test_the_pooled_version_says_so_and_its_own_replaces_it() -> None:
    subject = await world()
    told = contract.Pooled(tenants=2, rows=940, own_rows=40)
    train = subject.train

    def telling(job: contract.TrainingJob) -> bool:
        done = train(job)
        found = contract.from_json(contract.Report, subject.artifacts.files[job.report_uri])
        found = dataclasses.replace(found, pooled=told if job.pool else None)
        subject.artifacts.files[job.report_uri] = contract.to_json(found).encode()
        return done

    subject.compute = MemoryCompute(telling)
    ready = await subject.settle(SUBJECT)
    first = ready.status.dump()["active"]
    assert first["pooled"] == {"tenants": 2, "runs": 940, "ownRuns": 40}
    subject.windows.of[TENANT.id] = window("acme's, more", rows=500)
    own = (await subject.settle(ready)).status.dump()
    assert own["active"]["version"] != first["version"]
    assert "pooled" not in own["active"]
    assert [bool(job.pool) for job in subject.jobs] == [True, False]


async def test_one_that_leaves_is_in_no_later_training() -> None:
    subject = await world()
    ready = await subject.settle(SUBJECT)
    await subject.cluster.apply(tenant_of(OTHER, pools=[]))
    rest = await subject.settle(ready)
    assert said(rest, "Training") == ("False", "WaitingForData")
    assert said(rest, "Ready") == ("True", "Active")
    assert len(subject.jobs) == 1


async def test_the_same_runs_of_all_are_the_same_submission() -> None:
    ids = []
    for _ in range(2):
        subject = await world()
        await subject.settle(SUBJECT)
        ids += [job.submission_id for job in subject.jobs]
    other = await world()
    other.windows.of[OTHER.id] = window("globex's, later", rows=901)
    await other.settle(SUBJECT)
    assert ids[0] == ids[1] != other.jobs[0].submission_id


async def life(*, deleting: bool, kill_after: int | None = None) -> Counted:
    """A pooled version and one of its own; the process is killed once, after so many writes."""
    subject = await world()
    counted = Counted(subject)
    for port, method in WRITES:
        _count(counted, getattr(subject, port), method, kill_after)
    ready = await _until_it_rests(subject, SUBJECT)
    subject.windows.of[TENANT.id] = window("acme's, more", rows=500)
    await _until_it_rests(subject, ready)
    if deleting:
        await _until_it_rests(subject, model(deleting=True))
    return counted


@pytest.mark.parametrize("deleting", [False, True])
async def test_killed_after_any_write_it_ends_in_the_same_state_and_nothing_lent_is_left(
    deleting: bool,
) -> None:
    undisturbed = await life(deleting=deleting)
    told = state(undisturbed.world)
    assert [outcome for *_, outcome in told["trainings"]] == ["Passed", "Passed"]
    assert not [url for url in told["files"] if "/pools/" in url]
    for number in range(1, undisturbed.counted + 1):
        disturbed = await life(deleting=deleting, kill_after=number)
        assert state(disturbed.world) == told, f"killed after write {number}"
