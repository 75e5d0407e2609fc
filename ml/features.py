"""What the model sees of a run: one pure function, used by the gateway (online) and by training (offline).

Every number is known when the run is judged (`Run.judged_at`: before it starts, so neither how long it waits
nor how long it takes is one of them). An outcome counts only if it had finished by then, a missing one is
NaN, which LightGBM splits on as it is. Features: recent results of each line of work the run belongs to, what
happened on its commit and on the commit before it, how long it usually takes, trouble of the last hour across
the projects, when it comes, and the sizes of its change where they are known.
"""

import hashlib
import math
import operator
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ml import history
from ml.history import Outcome, Run

NAN = math.nan
ALPHA = 0.2
"""Weight of the newest result in the exponentially weighted failure rate."""
HOUR = 3600.0
NEWEST = 15
"""Runs whose durations say how long it usually takes."""

LINE_SCOPES = ("pipeline", "branch", "ref", "event", "actor")
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
WIDE_SCOPES = ("project", "integration")
WIDE_FEATURES = ("known", "streak", "rate10", "rate50", "hours_since_failure")
"""Of lines in which many kinds of work meet; the single last results say little there."""
RUN_FEATURES = (
    "attempt",
    "previous_attempt_failed",
    "earlier_attempts_failed",
    "siblings_failed",
    "siblings_passed",
    "same_failed",
    "same_passed",
    "parent_failed",
    "parent_siblings_failed",
    "pipeline_retry_pass_rate",
    "pipeline_flaky_rate",
    "usual_minutes",
    "last_took",
    "trouble_runs",
    "trouble_rate",
    "trouble_projects",
    "hour",
    "weekday",
)
NAMES = (
    *(f"{scope}_{name}" for scope in LINE_SCOPES for name in LINE_FEATURES),
    *(f"{scope}_{name}" for scope in WIDE_SCOPES for name in WIDE_FEATURES),
    *RUN_FEATURES,
)
"""The features in the order in which `features` returns them; sizes of the change follow them."""

SCHEMA = hashlib.sha256(("3:" + ",".join(NAMES)).encode()).hexdigest()[:12]
"""Names this set of features; a model of another set is refused. The number before the names is raised when a
feature changes its meaning but not its name."""

_WIDE = operator.itemgetter(*(LINE_FEATURES.index(name) for name in WIDE_FEATURES))
_WEIGHTS = [
    [(1 - ALPHA) ** (count - 1 - at) * (ALPHA if at else 1.0) for at in range(count)]
    for count in range(history.LIMIT + 1)
]
"""Of the results of a line of so many, oldest first: the moving average, begun with the first result."""


def features(run: Run, lines: Mapping[str, Sequence[Outcome]], *, change: Sequence[str] = ()) -> list[float]:
    """The features of the run, given its lines of work (scope → outcomes as `history.insert` keeps them).

    `parent` among them is the `commit` line of the commit before. `change` names the sizes of the change that
    are wanted after the features of `NAMES`.
    """
    seen = history.known(run, lines)
    row: list[float] = []
    for scope in LINE_SCOPES:
        row += line_features(seen.get(scope, ()), at=run.judged_at)
    for scope in WIDE_SCOPES:
        row += _WIDE(line_features(seen.get(scope, ()), at=run.judged_at))
    pipeline = seen.get("pipeline", ())
    row += commit_features(run, seen.get("commit", ()))
    row += parent_features(run, seen.get("parent", ()))
    row += (retry_pass_rate(pipeline), flaky_rate(pipeline))
    row += duration_features(pipeline)
    row += trouble_features(seen.get("integration", ()), at=run.judged_at)
    moment = datetime.fromtimestamp(run.judged_at, UTC)
    row += (moment.hour + moment.minute / 60, float(moment.weekday()))
    return row + [run.change.get(name, NAN) for name in change] if change else row


def line_features(outcomes: Sequence[Outcome], *, at: float) -> list[float]:
    """The `LINE_FEATURES` of one line; all but `known` are NaN where it has no outcome."""
    count = len(outcomes)
    if not count:
        return [0.0, *[NAN] * (len(LINE_FEATURES) - 1)]
    # One byte for each result: counting and searching then run at the speed of C.
    failed = bytes([outcome.failed for outcome in outcomes])
    newest = failed[-20:]
    total, last = failed.count(1), failed.rfind(1)
    alike = count - 1 - failed.rfind(1 - failed[-1])
    stretches = failed.count(b"\0\1") + failed[0]
    flips = newest.count(b"\0\1") + newest.count(b"\1\0")
    return [
        float(count),
        float(failed[-1]),
        float(failed[-2]) if count > 1 else NAN,
        float(failed[-3]) if count > 2 else NAN,
        float(alike if failed[-1] else -alike),
        sum(map(operator.mul, _WEIGHTS[count], failed)),
        failed[-5:].count(1) / min(count, 5),
        failed[-10:].count(1) / min(count, 10),
        newest.count(1) / len(newest),
        total / count,
        (at - outcomes[-1].finished_at) / HOUR,
        (at - outcomes[last].finished_at) / HOUR if total else NAN,
        flips / (len(newest) - 1) if count > 1 else NAN,
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
    """Attempt number, earlier attempts of this run, newest attempts of its siblings on the commit.

    Siblings are other pipelines; this one may have run on the commit too, for another branch or event.
    """
    if not outcomes:
        return [float(run.attempt), NAN, NAN, 0.0, 0.0, 0.0, 0.0]
    earlier = earlier_attempts(run, outcomes)
    others = sibling_results(run, outcomes)
    same = [known.failed for known in others if known.pipeline == run.work]
    failures = sum(known.failed for known in others)
    red = sum(same)
    return [
        float(run.attempt),
        float(earlier[-1]) if earlier else NAN,
        sum(earlier) / len(earlier) if earlier else NAN,
        float(failures - red),
        float(len(others) - len(same) - failures + red),
        float(red),
        float(len(same) - red),
    ]


def parent_features(run: Run, outcomes: Sequence[Outcome]) -> list[float]:
    """How this pipeline ended on the commit before, and the share of the other runs that failed there."""
    same = [known.failed for known in outcomes if known.pipeline == run.work]
    others = [known.failed for known in outcomes if known.pipeline != run.work]
    return [float(same[-1]) if same else NAN, sum(others) / len(others) if others else NAN]


def duration_features(outcomes: Sequence[Outcome]) -> list[float]:
    """The median of the newest durations in minutes, and how many times that the newest run took."""
    if not outcomes:
        return [NAN, NAN]
    took = [max(0.0, known.finished_at - known.started_at) for known in outcomes[-NEWEST:]]
    newest = took[-1]
    took.sort()
    usual = took[len(took) // 2]
    return [usual / 60, newest / usual if usual else NAN]


def trouble_features(outcomes: Sequence[Outcome], *, at: float) -> list[float]:
    """Of the Integration's last hour: runs, the share that failed, and in how many projects some did."""
    recent = [known for known in outcomes if at - known.finished_at <= HOUR]
    red = [known.project for known in recent if known.failed]
    return [float(len(recent)), len(red) / len(recent) if recent else NAN, float(len(set(red)))]


def earlier_attempts(run: Run, outcomes: Sequence[Outcome]) -> list[bool]:
    """Whether each known earlier attempt of this run failed, by attempt."""
    mine = [known for known in outcomes if known.run == run.run_id and known.attempt < run.attempt]
    return [known.failed for known in sorted(mine, key=lambda known: known.attempt)]


def sibling_results(run: Run, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The newest known attempt of each other run on this commit."""
    newest: dict[str, Outcome] = {}
    for known in outcomes:
        if known.run != run.run_id and (known.run not in newest or newest[known.run].attempt < known.attempt):
            newest[known.run] = known
    return list(newest.values())


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
