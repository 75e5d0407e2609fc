"""Two tenants and a pool on real servers: nothing is shared before both let it, nor after one has left."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.parts import Ray
from dev.stack import Stack
from ml import contract
from tests.e2e.test_training import GATES, Models, file_of, jobs_of, simulated
from tests.e2e.test_training_bucket import predicted

pytestmark = pytest.mark.ray

POOL = "ci"
SPEC: dict[str, Any] = {"evaluation": {"gates": GATES}, "data": {"minRuns": 500}}


class Member(Models):
    """A tenant with one Model that asks for the pool, or does not."""

    def __init__(self, stack: Stack, tenant: dict[str, Any], eventually: Any) -> None:
        super().__init__(stack, tenant, eventually)
        self.eventually = eventually
        self.tenant_uid = tenant["metadata"]["uid"]

    def wish(self, *, pool: str | None = POOL, minutes: int = 30) -> None:
        """Apply the Model; another deadline makes it another generation."""
        asked = {"pool": pool} if pool is not None else {}
        self.apply(**SPEC, **asked, training={"deadline": f"{minutes}m"})

    def looked_at(self, reason: str, *, within: float = 60) -> Any:
        """The status, once the Model as it is now was looked at, and the training says this."""

        def so() -> Any:
            found = self.get()
            training = self.condition("Training")
            now = training.get("observedGeneration") == found["metadata"]["generation"]
            return found["status"] if now and training["reason"] == reason else None

        return self.eventually(so, within=within, says=f"Training is {reason}: {self.status()}")

    def trained(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM pipewright.trainings ORDER BY attempt")


@pytest.fixture
def pair(tenants: Any, stack: Stack, ray_head: Ray, eventually: Any) -> Iterator[tuple[Member, Member]]:
    """One with many runs, one with few; neither Tenant lets its Models share."""
    made = [Member(stack, tenants.ready(), eventually) for _ in range(2)]
    yield made[0], made[1]
    for each in made:
        each.kubectl.run("delete", "models", "--all", "-n", each.namespace, "--timeout=60s")


def test_few_runs_are_trained_with_those_of_the_pool_once_both_sides_let_it(
    pair: tuple[Member, Member], tenants: Any, stack: Stack, ray_head: Ray
) -> None:
    many, few = pair
    runs = simulated()
    many.bring(runs)
    own = few.bring(runs[-40:])
    many.wish()
    many.wait("Ready", "Active", within=150)
    assert many.condition("InPool")["reason"] == "NotAllowed"
    few.wish()
    few.looked_at("WaitingForData")
    assert few.condition("InPool")["reason"] == "NotAllowed"

    # one of the two Tenants alone, either way round
    tenants.apply(few.namespace, modelPools=[POOL])
    few.wish(minutes=31)
    few.looked_at("WaitingForData")
    assert few.condition("InPool")["reason"] == "Member"
    tenants.apply(few.namespace)
    tenants.apply(many.namespace, modelPools=[POOL])
    few.wish(minutes=32)
    few.looked_at("WaitingForData")
    assert few.condition("InPool")["reason"] == "NotAllowed"

    # both Tenants, but one Model does not ask
    tenants.apply(few.namespace, modelPools=[POOL])
    many.wish(pool=None)
    few.wish(minutes=33)
    few.looked_at("WaitingForData")
    assert few.trained() == []
    assert jobs_of(ray_head, few.tenant_id) == []

    many.wish()
    few.wish(minutes=34)
    status = few.wait("Ready", "Active", within=150)
    pooled = status["active"]["pooled"]
    assert (pooled["tenants"], status["dataset"]["rows"]) == (2, pooled["runs"])
    assert 0 < pooled["ownRuns"] <= own
    assert pooled["runs"] > 1000 + pooled["ownRuns"]
    assert "pooled" not in many.status()["active"]
    it_predicts(few, stack)
    it_names_nobody(few, many, ray_head)
    one_leaves_and_it_waits_for_runs_of_its_own(few, many, tenants)
    few.bring(runs)
    few.wish(minutes=36)
    few.eventually(lambda: "pooled" not in few.status()["active"], within=150, says="a version of its own")
    assert few.status()["active"]["version"] != status["active"]["version"]


def it_predicts(few: Member, stack: Stack) -> None:
    account = f"--serviceaccount={few.namespace}:default"
    few.kubectl.run(
        *("create", "rolebinding", "asks", "--clusterrole=cluster-admin", account, "-n", few.namespace)
    )
    answer = few.eventually(lambda: predicted(few, stack), within=30, says="the gateway predicts")
    assert 0 <= answer["probability"] <= 1
    assert answer["model"]["version"] == few.status()["active"]["version"]


def it_names_nobody(few: Member, many: Member, ray_head: Ray) -> None:
    """Nothing that the one has, or that its job was told, says who the other is; the lent files are gone."""
    events = few.kubectl.run("get", "events", "-n", few.namespace, "-o", "json")
    rows = json.dumps(few.trained(), default=str)
    (job,) = jobs_of(ray_head, few.tenant_id)
    variable = job["runtime_env"]["env_vars"][contract.JOB_VARIABLE]
    told = contract.from_json(contract.TrainingJob, base64.b64decode(variable))
    assert len(told.pool) == 1
    names = (many.namespace, many.tenant_id, many.tenant_uid, many.get()["metadata"]["uid"])
    for what in (json.dumps(few.get()), str(events), rows, json.dumps(job), contract.to_json(told)):
        assert not [name for name in names if name in what]
    assert not Path(file_of(told.pool[0].uri)).exists()
    assert not Path(file_of(told.pool[0].uri)).parent.exists()


def one_leaves_and_it_waits_for_runs_of_its_own(few: Member, many: Member, tenants: Any) -> None:
    tenants.apply(many.namespace)
    few.wish(minutes=35)
    status = few.looked_at("WaitingForData")
    assert few.condition("Ready")["reason"] == "Active", "it goes on with what it has"
    assert len(few.trained()) == 1
    assert status["active"]["pooled"]["tenants"] == 2
