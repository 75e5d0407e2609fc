"""A Model's pool: who takes part, who is to be trained on it, and what withdrawing means. Pure.

Two opt-ins for each: the Model names the pool, and its Tenant has it among its modelPools. A Model with
enough runs of its own learns from these alone. One with fewer learns from the other members' as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from controllers.model.observed import Member, Observed, Pool, Unknown
from pipewright.actions.model import Contribution
from pipewright.api.v1alpha1 import Model
from pipewright.plan import Fact
from pipewright.training_facts import KUBE_RAY, Pointer, RunCount, Training

IN_POOL = "InPool"
"""The condition; told where the spec names a pool."""
MOST_MEMBERS = 32
"""Other tenants that one training learns from."""
LOOK = timedelta(minutes=5)
"""When to look again who is in the pool, where that matters: others' objects are not watched."""
WAITS = timedelta(minutes=1)
"""The same of one that waits for runs: counting them asks each member's database."""

LEFT = "PoolChanged: a member has left the pool"
OWN = "there are enough runs of its own by now: the pool is not needed any more"


def key(model_uid: str, *, other_uid: str) -> str:
    """What a model knows another by: not to be traced to it, and another one for each that asks.

    UIDs are random, and no tenant sees another's.
    """
    return hashlib.sha256(f"{model_uid}|{other_uid}".encode()).hexdigest()[:20]


def is_on_platform(compute: str) -> bool:
    """Whether a training there is out of its tenant's sight: only such a one is lent anything."""
    return compute != KUBE_RAY


def matters(model: Model, observed: Observed) -> bool:
    """Whether anything hangs on who the members are; else they are not even looked for."""
    trainings = observed.trainings
    if model.spec.pool is None or isinstance(trainings, Unknown):
        return False
    last = trainings[0] if trainings else None
    if last is not None and last.running:
        return last.lent is not None
    return is_needy(model, observed) or is_pooled(last) or is_pooled(made(observed.pointer, trainings))


def is_needy(model: Model, observed: Observed) -> bool:
    """Whether it has fewer runs of its own than it needs."""
    return isinstance(observed.runs, RunCount) and observed.runs.rows < model.spec.data.min_runs


def is_pooled(training: Training | None) -> bool:
    """Whether it learned, or learns, from others' runs."""
    return training is not None and training.lent is not None


def made(pointer: Pointer | None, trainings: Sequence[Training]) -> Training | None:
    """The training that made the active version; None: it is not known any more."""
    if pointer is None:
        return None
    return next((it for it in trainings if it.artifact_uri == pointer.artifact_uri), None)


def has_left(observed: Observed, training: Training | None) -> bool:
    """Whether it learned from somebody who is in the pool no more, or is not in it itself any more."""
    if training is None or training.lent is None or isinstance(observed.pool, Unknown):
        return False
    if observed.pool is None or not observed.pool.is_allowed:
        return True
    consenting = observed.pool.consenting
    return consenting is not None and not training.lent.keys <= consenting


def runs(model: Model, observed: Observed) -> RunCount | Unknown | None:
    """How many runs the next training learns from: its own, or where these are too few all of the pool."""
    own, pool = observed.runs, observed.pool
    if not isinstance(own, RunCount) or not is_needy(model, observed):
        return own
    if isinstance(pool, Unknown):
        return pool
    given = [each.runs for each in gives(model, observed)]
    return RunCount(
        rows=own.rows + sum(each.rows for each in given),
        heard=own.heard + sum(each.heard for each in given),
        ended=own.ended,
    )


def gives(model: Model, observed: Observed) -> tuple[Member, ...]:
    """Who gives runs to the next training; nobody where its own runs are enough."""
    pool = observed.pool
    if not isinstance(pool, Pool) or not pool.is_allowed or not is_needy(model, observed):
        return ()
    return pool.members


def contributions(members: Sequence[Member]) -> tuple[Contribution, ...]:
    """What they give, as a training takes it."""
    return tuple(
        Contribution(key=it.key, tenant=it.tenant, since=it.since, integrations=it.integrations)
        for it in members
    )


def is_changed(model: Model, observed: Observed, last: Training) -> bool:
    """Whether the next training would learn from others than the last one did."""
    before = last.lent.keys if last.lent is not None else frozenset()
    return before != {each.key for each in gives(model, observed)}


def turn(
    model: Model, observed: Observed, last: Training, *, now: datetime, again: timedelta
) -> tuple[datetime, str] | None:
    """When its pool, or doing without it, asks for a training, and why.

    What learned from somebody who left is made anew at once, and so is the first version of its own. Where
    that version misses its gates it is tried again after `again`.
    """
    assert not isinstance(observed.trainings, Unknown)
    active = made(observed.pointer, observed.trainings)
    enough = isinstance(observed.runs, RunCount) and not is_needy(model, observed)
    for each in (last, active):
        cause = LEFT.partition(": ")[2] if has_left(observed, each) else OWN
        if is_pooled(each) and (enough or has_left(observed, each)):
            return (now if each is last else last.started_at + again), cause
    return None


def fact(model: Model, observed: Observed) -> Fact | None:
    """The condition. It names no other tenant, and how many there are only the version says."""
    name, pool = model.spec.pool, observed.pool
    if name is None or observed.tenant is None or pool is None:
        return None
    if isinstance(pool, Unknown):
        return Fact(type=IN_POOL, status=None, reason=pool.reason, message=pool.message)
    if not pool.is_allowed:
        message = (
            f"the Tenant {observed.tenant.name} has no {name} in spec.modelPools, so no run is shared either"
            " way: ask the platform team to add it, or take pool out of this spec"
        )
        return Fact(type=IN_POOL, status=False, reason="NotAllowed", message=message)
    message = f"runs are shared with the other members of the pool {name}"
    return Fact(type=IN_POOL, status=True, reason="Member", message=message)
