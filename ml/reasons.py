"""Why the model says what it says, in words: the facts behind its largest contributions.

A contribution (LightGBM's pred_contrib, Lundberg and Lee's SHAP values) tells how far a feature moved the
answer; the sentence states only the fact that the feature was computed from, so that a user can check it.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from ml import features, history
from ml.history import Outcome, Run

MOST = 3

FEW = 20
"""Fewer known results than this are worth saying."""

PLACES: Mapping[str, str] = {
    "pipeline": "of this pipeline",
    "branch": "on this branch",
    "ref": "on this branch with the same trigger",
    "event": "of this pipeline with the same trigger",
    "actor": "by this author",
    "project": "in this project",
    "integration": "across the projects",
}


def reasons(run: Run, lines: Mapping[str, Sequence[Outcome]], contributions: Sequence[float]) -> list[str]:
    """At most three sentences, the weightiest first, for what moved the answer the way it went.

    `contributions` has a number for each of `features.NAMES` (without the bias). The same input gives the
    same sentences.
    """
    direction = 1.0 if sum(contributions) >= 0 else -1.0
    weights = {
        group: direction * sum([contributions[each] for each in members]) for group, members in GROUPS.items()
    }
    seen = history.known(run, lines)
    found: list[str] = []
    for group in sorted(GROUPS, key=lambda group: (-weights[group], GROUPS[group][0])):
        if weights[group] <= 0 or len(found) == MOST:
            break
        strongest = max(GROUPS[group], key=lambda index: direction * contributions[index])
        sentence = _sentence(features.NAMES[strongest], run, seen)
        if sentence and sentence not in found:
            found.append(sentence)
    return found


def _group(name: str) -> str:
    """Features that tell the same fact: one sentence for the results of a line is enough."""
    scope, _, feature = name.partition("_")
    if scope not in PLACES or feature not in LINE_SENTENCES:
        return RUN_SENTENCES[name].__name__
    return f"{scope} time" if feature.startswith("hours") else f"{scope} results"


def _sentence(name: str, run: Run, seen: Mapping[str, Sequence[Outcome]]) -> str | None:
    """The fact behind a feature; None where there is none to state."""
    scope, _, feature = name.partition("_")
    if scope in PLACES and feature in LINE_SENTENCES:
        outcomes = seen.get(scope, ())
        if not outcomes:
            return f"nothing is known yet {PLACES[scope]}" if feature == "known" else None
        return LINE_SENTENCES[feature](scope, outcomes, run.judged_at)
    return RUN_SENTENCES[name](run, seen)


def _streak(scope: str, outcomes: Sequence[Outcome], _at: float) -> str:
    length = features.streak([outcome.failed for outcome in outcomes])
    result = "failed" if length > 0 else "passed"
    if abs(length) == 1:
        return f"the last run {PLACES[scope]} {result}"
    return f"the last {abs(length)} runs {PLACES[scope]} {result}"


def _rate(newest: int) -> Callable[[str, Sequence[Outcome], float], str | None]:
    def sentence(scope: str, outcomes: Sequence[Outcome], _at: float) -> str | None:
        window = outcomes[-newest:]
        failures = sum(outcome.failed for outcome in window)
        if len(window) == 1:
            return None
        share = {0: "none", len(window): "all"}.get(failures, str(failures))
        return f"{share} of the last {len(window)} runs {PLACES[scope]} failed"

    return sentence


def _hours_since_result(scope: str, outcomes: Sequence[Outcome], at: float) -> str:
    return f"the last run {PLACES[scope]} finished {_ago(at - outcomes[-1].finished_at)} ago"


def _hours_since_failure(scope: str, outcomes: Sequence[Outcome], at: float) -> str:
    finished = features.last_failure(outcomes)
    if math.isnan(finished):
        return f"none of the last {len(outcomes)} runs {PLACES[scope]} failed"
    return f"the last failure {PLACES[scope]} was {_ago(at - finished)} ago"


def _flips(scope: str, outcomes: Sequence[Outcome], _at: float) -> str:
    window = [outcome.failed for outcome in outcomes[-20:]]
    count = sum(left != right for left, right in itertools.pairwise(window))
    times = "time" if count == 1 else "times"
    return f"results {PLACES[scope]} changed {count} {times} within the last {_runs(len(window))}"


def _known(scope: str, outcomes: Sequence[Outcome], _at: float) -> str | None:
    if len(outcomes) >= FEW:
        return None
    return f"only {_runs(len(outcomes))} {PLACES[scope]} {'is' if len(outcomes) == 1 else 'are'} known"


def _failure_streak(scope: str, outcomes: Sequence[Outcome], at: float) -> str | None:
    mean = dict(zip(features.LINE_FEATURES, features.line_features(outcomes, at=at), strict=True))
    length = mean["mean_failure_streak"]
    return None if math.isnan(length) else f"failures {PLACES[scope]} came {length:.1f} in a row on average"


LINE_SENTENCES: Mapping[str, Callable[[str, Sequence[Outcome], float], str | None]] = {
    "known": _known,
    "last1": _streak,
    "last2": _rate(2),
    "last3": _rate(3),
    "streak": _streak,
    "ewma": _rate(10),
    "rate5": _rate(5),
    "rate10": _rate(10),
    "rate20": _rate(20),
    "rate50": _rate(50),
    "hours_since_result": _hours_since_result,
    "hours_since_failure": _hours_since_failure,
    "flip_rate20": _flips,
    "mean_failure_streak": _failure_streak,
}


def _attempts(run: Run, seen: Mapping[str, Sequence[Outcome]]) -> str | None:
    earlier = features.earlier_attempts(run, seen.get("commit", ()))
    if run.attempt == 1:
        return "this is the run's first attempt"
    if not earlier:
        return f"this is attempt {run.attempt} of the run"
    return (
        f"this is attempt {run.attempt} of the run, {sum(earlier)} of {len(earlier)} known before it failed"
    )


def _siblings(run: Run, seen: Mapping[str, Sequence[Outcome]]) -> str:
    results = features.sibling_results(run, seen.get("commit", ()))
    if not results:
        return "no other run on this commit has finished"
    red = sorted({known.pipeline for known in results if known.failed and known.pipeline != run.work} - {""})
    if len(red) == 1:
        return f"{red[0]} failed on this commit"
    others = f"{len(results)} other {_plural(len(results), 'run')}"
    return f"{sum(known.failed for known in results)} of {others} on this commit failed"


def _same(run: Run, seen: Mapping[str, Sequence[Outcome]]) -> str | None:
    results = features.sibling_results(run, seen.get("commit", ()))
    same = [known.failed for known in results if known.pipeline == run.work]
    if not same:
        return None
    return f"{sum(same)} of {_runs(len(same))} of this pipeline on this commit failed"


def _parent(run: Run, seen: Mapping[str, Sequence[Outcome]]) -> str | None:
    outcomes = seen.get("parent", ())
    same = [known.failed for known in outcomes if known.pipeline == run.work]
    if same:
        return f"this pipeline {'failed' if same[-1] else 'passed'} on the commit before"
    if not outcomes:
        return None
    return f"{sum(known.failed for known in outcomes)} of {_runs(len(outcomes))} on the commit before failed"


def _usual(_run: Run, seen: Mapping[str, Sequence[Outcome]]) -> str | None:
    usual, _ = features.duration_features(seen.get("pipeline", ()))
    return None if math.isnan(usual) else f"runs of this pipeline usually take {_ago(60 * usual)}"


def _last_took(_run: Run, seen: Mapping[str, Sequence[Outcome]]) -> str | None:
    _, ratio = features.duration_features(seen.get("pipeline", ()))
    return (
        None if math.isnan(ratio) else f"the last run of this pipeline took {ratio:.1f} times the usual time"
    )


def _trouble(run: Run, seen: Mapping[str, Sequence[Outcome]]) -> str | None:
    count, rate, places = features.trouble_features(seen.get("integration", ()), at=run.judged_at)
    if not count:
        return "no run across the projects finished within the last hour"
    red = f"{round(count * rate)} of {_runs(int(count))} across the projects failed within the last hour"
    return f"{red}, in {int(places)} projects" if places > 1 else red


def _retries(_run: Run, seen: Mapping[str, Sequence[Outcome]]) -> str | None:
    passed, count = features.retries(seen.get("pipeline", ()))
    return f"{passed} of {count} recent re-runs of this pipeline passed" if count else None


def _flaky(_run: Run, seen: Mapping[str, Sequence[Outcome]]) -> str | None:
    both, red = features.flaky_commits(seen.get("pipeline", ()))
    if not red:
        return None
    return f"{both} of {red} {_plural(red, 'commit')} on which this pipeline failed recently passed there too"


def _clock(run: Run, _seen: Mapping[str, Sequence[Outcome]]) -> str:
    moment = datetime.fromtimestamp(run.judged_at, UTC)
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    return f"it came on a {days[moment.weekday()]} at {moment:%H:%M} UTC"


RUN_SENTENCES: Mapping[str, Callable[[Run, Mapping[str, Sequence[Outcome]]], str | None]] = {
    "attempt": _attempts,
    "previous_attempt_failed": _attempts,
    "earlier_attempts_failed": _attempts,
    "siblings_failed": _siblings,
    "siblings_passed": _siblings,
    "same_failed": _same,
    "same_passed": _same,
    "parent_failed": _parent,
    "parent_siblings_failed": _parent,
    "usual_minutes": _usual,
    "last_took": _last_took,
    "trouble_runs": _trouble,
    "trouble_rate": _trouble,
    "trouble_projects": _trouble,
    "pipeline_retry_pass_rate": _retries,
    "pipeline_flaky_rate": _flaky,
    "hour": _clock,
    "weekday": _clock,
}


def _groups() -> Mapping[str, Sequence[int]]:
    found: dict[str, list[int]] = {}
    for index, name in enumerate(features.NAMES):
        found.setdefault(_group(name), []).append(index)
    return found


GROUPS = _groups()
"""Places in `features.NAMES` by the fact that they tell: made once, a prediction has no time for it."""


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {_plural(count, unit)}"
    return f"{int(seconds)} {_plural(int(seconds), 'second')}"


def _runs(count: int) -> str:
    return f"{count} {_plural(count, 'run')}"


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"
