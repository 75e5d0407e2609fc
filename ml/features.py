"""What the model sees of a run: one pure function, used by the gateway (online) and by training (offline).

Every number is known when the run is judged (`Run.judged_at`: before it starts, so how long it waits is none
of them). An outcome counts only if it had finished by then, a missing one is NaN, which LightGBM splits on as
it is. Features: recent results of each line of work the run belongs to, what happened on its commit before,
and when it comes.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ml import history
from ml.history import Outcome, Run

NAN = math.nan
ALPHA = 0.2
"""Weight of the newest result in the exponentially weighted failure rate."""
HOUR = 3600.0

LINE_SCOPES = ("pipeline", "branch", "event", "actor", "project")
LINE_FEATURES = (
    "known",
    "last1",
    "last2",
    "last3",
    "streak",
    "ewma",
    "rate5",
    "rate10",
    "rate20",
    "rate50",
    "hours_since_result",
    "hours_since_failure",
    "flip_rate20",
    "mean_failure_streak",
)
RUN_FEATURES = (
    "attempt",
    "previous_attempt_failed",
    "earlier_attempts_failed",
    "siblings_failed",
    "siblings_passed",
    "pipeline_retry_pass_rate",
    "pipeline_flaky_rate",
    "hour",
    "weekday",
)
NAMES = (*(f"{scope}_{name}" for scope in LINE_SCOPES for name in LINE_FEATURES), *RUN_FEATURES)
"""The features in the order in which `features` returns them."""

SCHEMA = hashlib.sha256(("2:" + ",".join(NAMES)).encode()).hexdigest()[:12]
"""Names this set of features; a model of another set is refused. The number before the names is raised when a
feature changes its meaning but not its name."""


def features(run: Run, lines: Mapping[str, Sequence[Outcome]]) -> list[float]:
    """The features of the run, given its lines of work (scope → outcomes as `history.insert` keeps them)."""
    seen = history.known(run, lines)
    row: list[float] = []
    for scope in LINE_SCOPES:
        row += line_features(seen.get(scope, ()), at=run.judged_at)
    pipeline = seen.get("pipeline", ())
    row += commit_features(run, seen.get("commit", ()))
    row += (retry_pass_rate(pipeline), flaky_rate(pipeline))
    moment = datetime.fromtimestamp(run.judged_at, UTC)
    row += (moment.hour + moment.minute / 60, float(moment.weekday()))
    return row


def line_features(outcomes: Sequence[Outcome], *, at: float) -> list[float]:
    """The `LINE_FEATURES` of one line; all but `known` are NaN where it has no outcome."""
    if not outcomes:
        return [0.0, *[NAN] * (len(LINE_FEATURES) - 1)]
    failed = [outcome.failed for outcome in outcomes]
    count = len(failed)
    average, flips, stretches, before = float(failed[0]), 0, 0, False
    for index, now in enumerate(failed):
        average += ALPHA * (now - average)
        if now != before:
            stretches += now
            flips += index > count - 20 and index > 0
        before = now
    total = sum(failed)
    return [
        float(count),
        float(failed[-1]),
        float(failed[-2]) if count > 1 else NAN,
        float(failed[-3]) if count > 2 else NAN,
        float(streak(failed)),
        average,
        sum(failed[-5:]) / min(count, 5),
        sum(failed[-10:]) / min(count, 10),
        sum(failed[-20:]) / min(count, 20),
        total / count,
        (at - outcomes[-1].finished_at) / HOUR,
        (at - last_failure(outcomes)) / HOUR,
        flips / min(count - 1, 19) if count > 1 else NAN,
        total / stretches if stretches else NAN,
    ]


def streak(failed: Sequence[bool]) -> int:
    """How many of the newest results are equal: positive for failures, negative for passes, 0 for none."""
    length = 0
    for result in reversed(failed):
        if result != failed[-1]:
            break
        length += 1
    return length if length and failed[-1] else -length


def last_failure(outcomes: Sequence[Outcome]) -> float:
    """When the newest failure finished; NaN if none is known."""
    return next((outcome.finished_at for outcome in reversed(outcomes) if outcome.failed), NAN)


def commit_features(run: Run, outcomes: Sequence[Outcome]) -> list[float]:
    """Attempt number, earlier attempts of this run, newest attempts of its siblings on the commit."""
    earlier = earlier_attempts(run, outcomes)
    siblings = sibling_results(run, outcomes)
    failures = sum(siblings.values())
    return [
        float(run.attempt),
        float(earlier[-1]) if earlier else NAN,
        sum(earlier) / len(earlier) if earlier else NAN,
        float(failures),
        float(len(siblings) - failures),
    ]


def earlier_attempts(run: Run, outcomes: Sequence[Outcome]) -> list[bool]:
    """Whether each known earlier attempt of this run failed, by attempt."""
    mine = [known for known in outcomes if known.run == run.run_id and known.attempt < run.attempt]
    return [known.failed for known in sorted(mine, key=lambda known: known.attempt)]


def sibling_results(run: Run, outcomes: Sequence[Outcome]) -> dict[str, bool]:
    """Whether the newest known attempt of each other run on this commit failed."""
    newest: dict[str, Outcome] = {}
    for known in outcomes:
        if known.run != run.run_id and (known.run not in newest or newest[known.run].attempt < known.attempt):
            newest[known.run] = known
    return {name: known.failed for name, known in newest.items()}


def retries(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """(re-runs that passed, re-runs) of a line: attempts after the first."""
    again = [known.failed for known in outcomes if known.attempt > 1]
    return len(again) - sum(again), len(again)


def retry_pass_rate(outcomes: Sequence[Outcome]) -> float:
    """Share of the re-runs in a line that passed; NaN if there was none."""
    passed, count = retries(outcomes)
    return passed / count if count else NAN


def flaky_commits(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """(commits with both results, commits with a failure) of a pipeline's line: what disagrees is flaky."""
    red = {known.sha for known in outcomes if known.failed and known.sha}
    if not red:
        return 0, 0
    return len(red & {known.sha for known in outcomes if not known.failed}), len(red)


def flaky_rate(outcomes: Sequence[Outcome]) -> float:
    """Share of the commits with a failure on which the same pipeline passed too; NaN without a failure."""
    both, red = flaky_commits(outcomes)
    return both / red if red else NAN
