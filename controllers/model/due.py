"""When a Model is to be trained, and why: by its schedule, by trouble, by what is new. Pure.

Whatever asks first has its turn; at a turn of the schedule with nothing new to learn from nothing begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controllers.model import objects, pooling
from controllers.model.observed import Observed, Unknown
from ml import contract
from pipewright import cron, errors, runner_facts
from pipewright.api.v1alpha1 import Model
from pipewright.training_facts import Pointer, RunCount, Training

BACKOFF = timedelta(seconds=10)
MAX_BACKOFF = timedelta(minutes=10)
"""The waits between attempts that failed for a technical reason: four times as long each time."""

BETWEEN_DRIFTS = timedelta(days=1)
"""Drift trains no sooner after the training before: the next version may meet the same runs."""
BETWEEN_NEW_RUNS = timedelta(hours=1)
"""However many runs end, a model is not trained on their account more often."""
BETWEEN_POOLS = timedelta(days=1)
"""What is to replace a pooled version is not made more often where its gates refuse it."""
BETWEEN_LOSSES = timedelta(days=1)
"""A lost version is not made anew more often: something goes on deleting it, or the gates refuse it."""
LEAST_PREDICTIONS = 200
"""Of fewer the index says chance: over ten classes it is about 9 / n where nothing has moved at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A training that is asked for."""

    at: datetime
    cause: str = ""
    """Why, where the schedule does not say it."""


def turn(model: Model, observed: Observed, *, now: datetime) -> Turn | None:
    """The next training by what happened so far; None: none comes by itself. Raises errors.Stalled."""
    trainings = observed.trainings
    if isinstance(trainings, Unknown):
        return None
    last = trainings[0] if trainings else None
    none = observed.pointer is None or is_unreadable(observed.pointer, trainings)
    if none and (last is None or last.recipe != objects.recipe(model)):
        return Turn(at=now)  # the first one, or the first since the spec, or this release, asks for another
    if last is None:
        assert observed.pointer is not None
        by_schedule = schedule(model, after=observed.pointer.promoted_at)
        return Turn(at=by_schedule) if by_schedule is not None else None
    by_schedule = schedule(model, after=seen_to(model, last))
    asked = (
        _retry(model, trainings),
        Turn(at=by_schedule) if by_schedule is not None else None,
        _loss(observed, last, now=now),
        _spoilt(model, observed, trainings, now=now),
        _new_runs(model, observed, last),
        _drift(model, observed, last),
        _pool(model, observed, last, now=now),
    )
    return min((each for each in asked if each is not None), key=lambda each: each.at, default=None)


def schedule(model: Model, *, after: datetime) -> datetime | None:
    """When the schedule asks for a training next; None without a schedule. Raises errors.Stalled."""
    training = model.spec.training
    if training.schedule is None:
        return None
    return cron.next_after(training.schedule, zone=training.time_zone, after=after)


def scheduled_until(model: Model, at: datetime) -> datetime | None:
    """The schedule's last turn up to and with this moment; None without a schedule. Raises errors.Stalled."""
    training = model.spec.training
    if training.schedule is None:
        return None
    return cron.last_before(training.schedule, zone=training.time_zone, before=at + timedelta(microseconds=1))


def seen_to(model: Model, last: Training) -> datetime:
    """Until when the schedule's turns are seen to: trained, or passed over."""
    skipped = model.status.last_skipped
    return max(last.started_at, skipped.turn) if skipped is not None else last.started_at


def overdue(model: Model, observed: Observed, *, now: datetime) -> datetime | None:
    """Since when a training is due that only trouble keeps from beginning; None: there is none.

    A tenant that is suspended, and runs or Integrations that are not there yet, are no trouble.
    """
    tenant, trainings, runs = observed.tenant, observed.trainings, pooling.runs(model, observed)
    if model.deleting or tenant is None or tenant.state == runner_facts.SUSPENDED:
        return None
    if isinstance(trainings, Unknown):
        told = model.status.next_training_at
        return told if told is not None and told <= now else None
    few = runs is None or (isinstance(runs, RunCount) and runs.rows < model.spec.data.min_runs)
    if few or (trainings and trainings[0].running):
        return None
    try:
        asked = turn(model, observed, now=now)
    except errors.Stalled:
        return None
    return asked.at if asked is not None and asked.at <= now else None


def is_nothing_new(model: Model, observed: Observed, last: Training) -> bool:
    """Whether the same spec would learn from the same runs again."""
    same = last.recipe == objects.recipe(model) and last.outcome != "Failed"
    whole = not observed.is_lost and observed.spoiled is None
    if pooling.is_changed(model, observed, last):
        return False
    runs = pooling.runs(model, observed)
    return same and whole and isinstance(runs, RunCount) and runs.heard == 0


def is_unreadable(pointer: Pointer, trainings: Sequence[Training]) -> bool:
    """Whether the active version was made by a release whose files this one does not read."""
    made = next((it for it in trainings if it.artifact_uri == pointer.artifact_uri), None)
    wanted = contract.FORMATS.get(pointer.task)
    return made is not None and made.report is not None and made.report.model_format != wanted


def _retry(model: Model, trainings: Sequence[Training]) -> Turn | None:
    """After technical trouble: some more attempts, the waits between them growing. Each turn anew."""
    last = trainings[0]
    begun = scheduled_until(model, last.started_at)
    failures = 0
    for training in trainings:  # the newest first
        earlier = begun is not None and training.started_at < begun
        if training.outcome != "Failed" or training.recipe != last.recipe or earlier:
            break
        failures += 1
    if failures == 0 or failures > model.spec.training.retries:
        return None
    assert last.finished_at is not None
    return Turn(at=last.finished_at + min(MAX_BACKOFF, BACKOFF * (1 << 2 * (failures - 1))))


def _loss(observed: Observed, last: Training, *, now: datetime) -> Turn | None:
    """A version whose file was lost is made anew: at once, and where that did not help once a day."""
    if not observed.is_lost or last.outcome == "Failed":  # that has its retries
        return None
    assert observed.pointer is not None
    tried = last.artifact_uri != observed.pointer.artifact_uri
    return Turn(
        at=last.started_at + BETWEEN_LOSSES if tried else now,
        cause="the active version's file is no longer in the artifact store",
    )


def _spoilt(model: Model, observed: Observed, trainings: Sequence[Training], *, now: datetime) -> Turn | None:
    """A version that passed and cannot be promoted is made anew: at once, and then once a day.

    One that a person named is not: the same data may well make another.
    """
    last = trainings[0]
    if not isinstance(observed.spoiled, str) or model.spec.serving.version or last.outcome == "Failed":
        return None
    active = observed.pointer.artifact_uri if observed.pointer is not None else None
    tried = any(
        it.artifact_uri != active
        and it.recipe == last.recipe
        and last.started_at - it.started_at < BETWEEN_LOSSES
        for it in trainings[1:2]
    )
    return Turn(at=last.started_at + BETWEEN_LOSSES if tried else now, cause=observed.spoiled)


def _new_runs(model: Model, observed: Observed, last: Training) -> Turn | None:
    wanted, runs = model.spec.training.on_new_runs, observed.runs
    if wanted is None or not isinstance(runs, RunCount) or runs.ended < wanted:
        return None
    return Turn(
        at=last.started_at + BETWEEN_NEW_RUNS,
        cause=f"{runs.ended} runs passed or failed since attempt {last.attempt} began",
    )


def _pool(model: Model, observed: Observed, last: Training, *, now: datetime) -> Turn | None:
    asked = pooling.turn(model, observed, last, now=now, again=BETWEEN_POOLS)
    if asked is None or is_nothing_new(model, observed, last):
        return None
    return Turn(at=asked[0], cause=asked[1])


def _drift(model: Model, observed: Observed, last: Training) -> Turn | None:
    allowed, found = model.spec.training.max_drift, observed.drift
    if allowed is None or not isinstance(found, float) or found <= allowed:
        return None
    if is_nothing_new(model, observed, last):
        return None
    return Turn(
        at=last.started_at + BETWEEN_DRIFTS,
        cause=f"the {'durations' if model.spec.task == 'Duration' else 'probabilities'} have drifted"
        f" (index {found:.2f})",
    )
