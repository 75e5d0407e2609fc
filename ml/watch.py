"""What ran otherwise than usual: jobs and runners, by duration, queue time and failure rate.

Pure, over finished jobs in the order of their finish; the tests are those of `ml.anomaly`. Three shapes: an
`outlier` is one job that took far longer than others of its name; a `shift` is a time that has risen or
fallen for good; an `incident` is a failure rate that has risen. What is usual is what was known before, so a
change tells itself once, and then is the usual.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

from ml import anomaly
from ml.anomaly import Cusum, FailureCusum, Usual

Of = Literal["job", "runner"]
Measure = Literal["duration", "queue", "failureRate"]
Shape = Literal["outlier", "shift", "incident"]

KEPT = 100
"""Times of a line that are compared with."""
LAG = 10
"""The newest times, which a shift may have touched already, are not what is usual."""
EVERY = 5
"""After so many more times what is usual is computed anew."""
SLOWER = 2.0
"""An outlier is told where it also took so many times as long as usual."""
MATTERS = 10.0
"""Seconds: a time that differs by less is not worth a word."""
CAP = 2.0
"""By how much the evidence of an incident may exceed its limit: so it ends when results are good again."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A finished job. Times are seconds since the epoch."""

    id: str
    run: str
    project: str
    pipeline: str
    name: str
    runner: str
    """What was asked of the machine; empty where nobody tells."""
    failed: bool | None
    """None: it ended as neither passed nor failed."""
    queued_at: float | None
    started_at: float | None
    finished_at: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """Something that was otherwise than usual."""

    of: Of
    key: tuple[str, ...]
    """Of a job project, pipeline and name; of a runner what was asked of it."""
    measure: Measure
    shape: Shape
    at: float
    """When it was certain."""
    since: float
    """When it began."""
    until: float | None
    """When an incident was over; None: it lasts, or the word makes no sense."""
    usual: float
    """Seconds, or of a failure rate a share."""
    found: float
    """The same, since it began."""
    job: str = ""
    run: str = ""
    """The job that shows it, and its run."""


def find(jobs: Iterable[Job], *, since: float) -> list[Anomaly]:
    """What was unusual from `since` on, the newest first; the jobs before say what is usual."""
    times: dict[tuple[Of, Measure, tuple[str, ...]], _Times] = {}
    rates: dict[tuple[Of, tuple[str, ...]], _Rate] = {}
    found: list[Anomaly] = []
    for job in jobs:
        keys: list[tuple[Of, tuple[str, ...]]] = [("job", (job.project, job.pipeline, job.name))]
        if job.runner:
            keys.append(("runner", (job.runner,)))
        for of, key in keys:
            if job.failed is not None:
                rates.setdefault((of, key), _Rate(of, key)).add(job)
            for measure, seconds in _times(job, of):
                line = times.setdefault((of, measure, key), _Times(of, key, measure))
                found += line.add(job, seconds)
    found += [each for rate in rates.values() for each in rate.incidents()]
    return sorted((each for each in found if each.at >= since), key=lambda each: (-each.at, each.key))


def _times(job: Job, of: Of) -> list[tuple[Measure, float]]:
    """How long a job of its name takes, and how long one waits for its runner (or is waited for by name)."""
    if job.started_at is None:
        return []
    found: list[tuple[Measure, float]] = []
    if of == "job" and job.failed is not None:
        found.append(("duration", job.finished_at - job.started_at))
    if job.queued_at is not None:
        found.append(("queue", job.started_at - job.queued_at))
    return [(measure, seconds) for measure, seconds in found if seconds > 0]


class _Times:
    """The times of one line, and what was unusual of the newest."""

    def __init__(self, of: Of, key: tuple[str, ...], measure: Measure) -> None:
        self._of, self._key, self._measure = of, key, measure
        self._seconds: list[tuple[float, float]] = []
        self._usual: Usual | None = None
        self._age = 0
        self._state = Cusum()

    def add(self, job: Job, seconds: float) -> list[Anomaly]:
        """Compare with what was usual before, and remember."""
        found = self._compare(job, seconds)
        self._seconds.append((job.finished_at, seconds))
        del self._seconds[: -KEPT - LAG]
        self._age += 1
        return found

    def _compare(self, job: Job, seconds: float) -> list[Anomaly]:
        if self._usual is None or self._age >= EVERY:
            self._age = 0
            known = [each for _, each in self._seconds]
            self._usual = anomaly.usual(known[:-LAG] if len(known) >= LAG + anomaly.LEAST else known)
        if self._usual is None:
            return []
        usual, z = self._usual, self._usual.z(seconds)
        self._state = self._state.step(z)
        if direction := self._state.shifted:
            return self._shift(job, seconds, usual, up=direction > 0)
        apart = seconds - usual.seconds
        if z > anomaly.OUTLIER and seconds >= SLOWER * usual.seconds and apart >= MATTERS:
            return [self._told(job, "outlier", usual.seconds, seconds, since=job.finished_at)]
        return []

    def _shift(self, job: Job, seconds: float, usual: Usual, *, up: bool) -> list[Anomaly]:
        """The newest times are the usual ones from here on, or one shift would be told again and again."""
        newest = [*self._seconds[1 - anomaly.LEAST :], (job.finished_at, seconds)]
        self._state, self._usual = Cusum(), None
        self._seconds = newest[:-1]
        now = sorted(each for _, each in newest)[len(newest) // 2]
        if abs(now - usual.seconds) < MATTERS or (now > usual.seconds) != up:
            return []
        return [self._told(job, "shift", usual.seconds, now, since=newest[0][0])]

    def _told(self, job: Job, shape: Shape, usual: float, found: float, *, since: float) -> Anomaly:
        return Anomaly(
            of=self._of, key=self._key, measure=self._measure, shape=shape, at=job.finished_at, since=since,
            until=None, usual=usual, found=found, job=job.id, run=job.run,
        )  # fmt: skip


class _Rate:
    """The results of one line, and the times in which it failed more often than usual."""

    def __init__(self, of: Of, key: tuple[str, ...]) -> None:
        self._of, self._key = of, key
        self._state = FailureCusum()
        self._failed = self._total = 0
        self._recent: list[tuple[float, bool]] = []
        self._incidents: list[Anomaly] = []
        self._lasts = False

    def add(self, job: Job) -> None:
        """Weigh a result against the usual rate, which is known before it."""
        failed = bool(job.failed)
        usual = (self._failed + 1) / (self._total + 6)
        state = self._state.step(failed=failed, usual=usual)
        self._state = dataclasses.replace(state, score=min(state.score, anomaly.RATE_LIMIT + CAP))
        self._recent.append((job.finished_at, failed))
        del self._recent[: -max(self._state.since, 1)]
        if self._state.risen and not self._lasts:
            self._begin(job)
        elif self._lasts and not self._state.risen:
            self._lasts = False
            self._incidents[-1] = dataclasses.replace(self._incidents[-1], until=job.finished_at)
        if not self._lasts:  # what fails in an incident is not the usual
            self._failed, self._total = self._failed + failed, self._total + 1

    def incidents(self) -> Sequence[Anomaly]:
        """What was told."""
        return self._incidents

    def _begin(self, job: Job) -> None:
        """Tell it beside the rate before the evidence began to grow."""
        self._lasts = True
        failed, count = sum(failed for _, failed in self._recent), len(self._recent)
        before, total = self._failed - (failed - bool(job.failed)), self._total - (count - 1)
        usual, share = (before + 1) / (total + 6), failed / count
        self._incidents.append(
            _incident(self._of, self._key, job, since=self._recent[0][0], usual=usual, found=share)
        )


def _incident(of: Of, key: tuple[str, ...], job: Job, *, since: float, usual: float, found: float) -> Anomaly:
    return Anomaly(
        of=of, key=key, measure="failureRate", shape="incident", at=job.finished_at, since=since, until=None,
        usual=usual, found=found, job=job.id, run=job.run,
    )  # fmt: skip
