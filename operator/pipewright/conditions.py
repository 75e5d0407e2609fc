"""Pure condition arithmetic: what a plan said and what came of it, as the conditions of a status.

The rules of kstatus hold: `Ready` sums up, `Reconciling` and `Stalled` are abnormal when True and always
present, so that a client can tell "on its way" from "a person must act". A transition time changes with the
status only, and the messages carry no times or counts, so an unchanged world gives an unchanged status.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

from pipewright import errors
from pipewright.api.meta import Condition, now_without_fraction
from pipewright.plan import Fact, Plan, Results

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
PROGRESSING = "Progressing"
"""The reason while changes are being made."""
INVALID_SPEC = "InvalidSpec"
"""The reason of a spec that cannot be read: the one trouble that ends an object of a bounded kind."""


def project(
    previous: Sequence[Condition],
    *,
    types: Sequence[str],
    plan: Plan[Any],
    results: Results,
    generation: int,
    now: datetime,
    summary: str = READY,
    apart: Collection[str] = (),
    beside: Sequence[Fact] = (),
    instead: Fact | None = None,
) -> tuple[Condition, ...]:
    """The conditions after one reconcile.

    Args:
        previous: what the status had.
        types: the kind's own aspects, in the order in which they are told.
        plan: what was to be done; its facts speak for the aspects it left alone.
        results: what came of it.
        generation: the spec's generation that was looked at.
        now: the time, for transitions.
        summary: the condition that sums up the aspects.
        apart: aspects that the summary says nothing of.
        beside: conditions that are told as they are and count for nothing in the summary.
        instead: what the summary says whatever the aspects say.
    """
    before = {condition.type: condition for condition in previous}
    facts = [*_aspects(types, plan, results, before)]
    counted = [fact for fact in facts if fact.type not in apart]
    ends = (_reconciling(plan, results), _stalled(facts, results))
    facts = [instead or _summary(summary, counted), *facts, *beside, *ends]
    return tuple(
        _condition(fact, before=before.get(fact.type), generation=generation, now=now) for fact in facts
    )


def failed(
    previous: Sequence[Condition],
    error: Exception,
    *,
    generation: int,
    now: datetime,
    summary: str = READY,
    bounded: bool = False,
) -> tuple[Condition, ...]:
    """The conditions when a reconcile ended in an error of its own: aspects stay, the summary turns False.

    The summary of a `bounded` kind is its end, and trouble is none: it becomes Unknown, or stays as it was
    when the end was told already. A spec that cannot be read is the end.
    """
    reason, message = errors.explain(error)
    stalled = isinstance(error, errors.Stalled)
    ends = not bounded or (stalled and reason == INVALID_SPEC)
    news = Fact(type=summary, status=False if ends else None, reason=reason, message=message)
    last = find(previous, summary)
    if bounded and last is not None and last.status != "Unknown":
        news = _fact(last)
    facts = {
        summary: news,
        RECONCILING: Fact(
            type=RECONCILING, status=not stalled, reason=reason, message="" if stalled else message
        ),
        STALLED: Fact(type=STALLED, status=stalled, reason=reason, message=message if stalled else ""),
    }
    before = {condition.type: condition for condition in previous}
    kept = [condition for condition in previous if condition.type not in facts]
    told = [
        _condition(fact, before=before.get(fact.type), generation=generation, now=now)
        for fact in facts.values()
    ]
    return (told[0], *kept, *told[1:])


def find(conditions: Iterable[Condition], aspect: str) -> Condition | None:
    """The condition of this type."""
    return next((condition for condition in conditions if condition.type == aspect), None)


def is_true(conditions: Iterable[Condition], aspect: str) -> bool:
    """Whether the condition of this type is there and True."""
    found = find(conditions, aspect)
    return found is not None and found.status == "True"


def _aspects(
    types: Sequence[str], plan: Plan[Any], results: Results, before: dict[str, Condition]
) -> Iterable[Fact]:
    failures = {failure.serves: failure for failure in results.failures if not failure.quiet}
    # what is being done speaks before what was found right beside it
    working = {chain.serves: chain for chain in plan.chains}
    facts: dict[str, Fact] = {}
    for fact in plan.facts:
        if fact.type not in facts or facts[fact.type].status is True:
            facts[fact.type] = fact
    for aspect in types:
        if aspect in failures:
            reason, message = errors.explain(failures[aspect].error)
            yield Fact(type=aspect, status=False, reason=reason, message=message)
        elif aspect in working:
            actions = "; ".join(str(action) for action in working[aspect].actions)
            yield Fact(type=aspect, status=False, reason="Progressing", message=actions[:1000])
        elif aspect in facts:
            yield facts[aspect]
        elif aspect in before:
            yield _fact(before[aspect])
        else:
            yield Fact(
                type=aspect, status=None, reason="NotYetChecked", message="comes after what is before it"
            )


def _fact(condition: Condition) -> Fact:
    status = {"True": True, "False": False}.get(condition.status)
    return Fact(type=condition.type, status=status, reason=condition.reason, message=condition.message)


def _summary(name: str, aspects: Sequence[Fact]) -> Fact:
    # what is False explains more than what is merely not yet known
    for wanted in (False, None):
        for fact in aspects:
            if fact.status is wanted:
                return Fact(
                    type=name, status=False, reason=fact.reason, message=f"{fact.type}: {fact.message}"
                )
    return Fact(type=name, status=True, reason=name, message="everything that the spec asks for is there")


def _reconciling(plan: Plan[Any], results: Results) -> Fact:
    told = [failure for failure in results.failures if not failure.quiet]
    retried = [failure for failure in told if not isinstance(failure.error, errors.Stalled)]
    if retried:
        reason, message = errors.explain(retried[0].error)
        return Fact(type=RECONCILING, status=True, reason=reason, message=message)
    if not plan.is_empty and not told:
        return Fact(type=RECONCILING, status=True, reason=PROGRESSING, message="changes are being made")
    return Fact(type=RECONCILING, status=False, reason="Idle", message="")


def _stalled(aspects: Sequence[Fact], results: Results) -> Fact:
    for failure in results.failures:
        if isinstance(failure.error, errors.Stalled) and not failure.quiet:
            return Fact(type=STALLED, status=True, reason=failure.error.reason, message=failure.error.message)
    for fact in aspects:
        if fact.stalled:
            return Fact(type=STALLED, status=True, reason=fact.reason, message=fact.message)
    return Fact(type=STALLED, status=False, reason="NotStalled", message="")


_WORDS: dict[bool | None, Literal["True", "False", "Unknown"]] = {
    True: "True",
    False: "False",
    None: "Unknown",
}


def _condition(fact: Fact, *, before: Condition | None, generation: int, now: datetime) -> Condition:
    status = _WORDS[fact.status]
    unchanged = before is not None and before.status == status
    return Condition(
        type=fact.type,
        status=status,
        reason=fact.reason,
        message=fact.message,
        last_transition_time=before.last_transition_time
        if before is not None and unchanged
        else now_without_fraction(now),
        observed_generation=generation,
    )
