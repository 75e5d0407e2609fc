"""The CI history of a company that does not exist: what the demo imports, trains on and heals.

Runs are made from causes, not from a coin: a commit breaks a branch until somebody repairs it, a test is
flaky and passes when it is run again, a provider's outage fails everything for an hour, a push overtakes a
run and cancels it. Rates are fitted to what public GitHub Actions histories show (about a sixth of the runs
fail, a ninth is cancelled, several pipelines run for a commit); no row of theirs is here. The same seed gives
the same history.

A record is a line of the history import (NDJSON): a `run` for each attempt, followed by its `job`s.
"""

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from dev.github_payloads import Record, github_deliveries, github_events

__all__ = ["Record", "Story", "github_deliveries", "github_events", "history", "story"]

DAYS = 75
RUNS = 6000
OUTAGES = 5
CANCELLED = 0.11
QUIET = timedelta(days=4)
"""Before the end of the history no outage and no broken main: the story after it is about a flaky test."""
HOURS = (1, 1, 1, 1, 1, 2, 4, 8, 18, 30, 34, 32, 22, 30, 36, 34, 28, 18, 10, 6, 5, 4, 3, 2)
"""How busy each hour of a working day is (UTC)."""
WEEKEND = 0.12
"""How busy a Saturday or a Sunday is, compared with a working day."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A pipeline: its jobs with their minutes, and how it fails."""

    name: str
    jobs: Mapping[str, float]
    flaky: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Job → how often it fails for no reason of the code."""
    hit: float = 0.95
    """How likely it notices that the code is broken."""
    only_main: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A repository with its pipelines; `care` scales how often its people break things."""

    name: str
    pipelines: Sequence[Pipeline]
    share: float
    care: float
    people: Sequence[str]


CI = Pipeline(
    name="ci", jobs={"lint": 1.5, "test (3.11)": 6, "test (3.13)": 6.5}, flaky={"test (3.13)": 0.01}
)
BUILD = Pipeline(name="build", jobs={"compile": 5, "unit": 4}, flaky={"unit": 0.01})
FLAKY_E2E = Pipeline(
    name="e2e",
    jobs={"browsers (chromium)": 9, "browsers (firefox)": 11, "checkout flow": 14},
    flaky={"checkout flow": 0.16},
)
E2E = Pipeline(name="e2e", jobs={"browsers (chromium)": 7, "refund flow": 10}, flaky={"refund flow": 0.07})
DEPLOY = Pipeline(
    name="deploy", jobs={"image": 4, "rollout": 5}, flaky={"rollout": 0.02}, hit=0.6, only_main=True
)

ORGANISATION = (
    Project(
        name="acme/shop",
        pipelines=(CI, FLAKY_E2E, DEPLOY),
        share=0.42,
        care=1.0,
        people=("ada", "grace", "linus"),
    ),
    Project(
        name="acme/payments", pipelines=(BUILD, E2E), share=0.28, care=1.3, people=("margaret", "ken", "ada")
    ),
    Project(name="acme/search", pipelines=(CI, DEPLOY), share=0.2, care=0.8, people=("barbara", "dennis")),
    Project(name="acme/docs", pipelines=(BUILD,), share=0.1, care=0.4, people=("grace", "barbara")),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A run to heal: its records, and what the provider would answer to a re-run."""

    first: Sequence[Record]
    """Attempt 1, failed in a job known to be flaky: the run record, then its jobs."""
    second: Sequence[Record]
    """Attempt 2, which passes: what the provider does when it is asked to re-run the failed jobs."""


@dataclasses.dataclass(slots=True)
class _Branch:
    name: str
    actor: str
    pushes_left: int
    broken: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Push:
    project: Project
    branch: str
    actor: str
    sha: str
    at: datetime
    broken: bool
    trigger: str


class _Company:
    """The state from which a history is drawn: branches, counters, outages."""

    def __init__(self, *, seed: int, start: datetime, until: datetime) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a simulation, nothing secret
        self.until = until
        self.branches: dict[str, list[_Branch]] = {}
        self.main_broken: dict[str, bool] = {}
        self.numbers: dict[tuple[str, str], int] = {}
        self.run_id = 7_100_000_000 + self.dice.randrange(10**6)
        self.job_id = 21_000_000_000 + self.dice.randrange(10**6)
        length = (until - start).total_seconds()
        quiet = max(0.0, length - QUIET.total_seconds())
        starts = [start + timedelta(seconds=self.dice.uniform(0, quiet)) for _ in range(OUTAGES)]
        self.outages = [(at, at + timedelta(minutes=self.dice.uniform(40, 90))) for at in sorted(starts)]

    def in_outage(self, at: datetime) -> bool:
        return any(begin <= at < end for begin, end in self.outages)

    def push(self, at: datetime) -> _Push:
        """Somebody pushes: mostly to a feature branch, at times to main; code may break or be repaired."""
        project = self.dice.choices(ORGANISATION, weights=[each.share for each in ORGANISATION])[0]
        sha = f"{self.dice.getrandbits(160):040x}"
        if self.dice.random() < 0.3:
            broken = self._next_state(
                self.main_broken.get(project.name, False), breaks=0.012 * project.care, mends=0.12
            )
            broken = broken and at < self.until - QUIET
            self.main_broken[project.name] = broken
            actor = self.dice.choice(project.people)
            return _Push(
                project=project, branch="main", actor=actor, sha=sha, at=at, broken=broken, trigger="push"
            )
        branch = self._feature_branch(project)
        branch.broken = self._next_state(branch.broken, breaks=0.04 * project.care, mends=0.12)
        return _Push(
            project=project, branch=branch.name, actor=branch.actor, sha=sha, at=at, broken=branch.broken,
            trigger="pull_request",
        )  # fmt: skip

    def _next_state(self, broken: bool, *, breaks: float, mends: float) -> bool:
        return self.dice.random() >= mends if broken else self.dice.random() < breaks

    def _feature_branch(self, project: Project) -> _Branch:
        """An open branch of the project, or a new one; a branch is closed after its last push."""
        open_branches = self.branches.setdefault(project.name, [])
        if len(open_branches) < 3 or self.dice.random() < 0.12:
            words = ("cart", "login", "cache", "retry", "search", "invoice", "theme", "queue", "export")
            kind, word = self.dice.choice(("feature", "fix")), self.dice.choice(words)
            name = f"{kind}/{word}-{self.dice.randrange(100, 999)}"
            pushes = self.dice.randint(3, 14)
            open_branches.append(
                _Branch(name=name, actor=self.dice.choice(project.people), pushes_left=pushes)
            )
        branch = self.dice.choice(open_branches)
        branch.pushes_left -= 1
        if branch.pushes_left <= 0:
            open_branches.remove(branch)
        return branch

    def runs(self, push: _Push) -> Iterator[list[Record]]:
        """The attempts of all pipelines that run for the push, each with its jobs."""
        for pipeline in push.project.pipelines:
            if pipeline.only_main and push.branch != "main":
                continue
            self.run_id += self.dice.randint(1, 900)
            key = (push.project.name, pipeline.name)
            self.numbers[key] = self.numbers.get(key, 0) + 1
            queued = push.at + timedelta(seconds=self.dice.uniform(1, 6))
            yield from self._attempts(push, pipeline, queued=queued, number=self.numbers[key])

    def _attempts(
        self, push: _Push, pipeline: Pipeline, *, queued: datetime, number: int
    ) -> Iterator[list[Record]]:
        """Attempt after attempt, as long as somebody presses "re-run"."""
        run_id = str(self.run_id)
        for attempt in range(1, 4):
            failed = self._failing_jobs(push, pipeline, at=queued, attempt=attempt)
            outcome = self._outcome(failed, attempt=attempt)
            records = self.attempt(
                push, pipeline, run_id=run_id, number=number, attempt=attempt, queued=queued,
                outcome=outcome, failed=failed,
            )  # fmt: skip
            finished = _time(records[0]["finishedAt"])
            if finished > self.until:
                return
            yield records
            if outcome != "failure" or self.dice.random() >= self._patience(push, pipeline, failed):
                return
            queued = finished + timedelta(minutes=self.dice.lognormvariate(2.2, 0.9))

    def _failing_jobs(self, push: _Push, pipeline: Pipeline, *, at: datetime, attempt: int) -> list[str]:
        """The jobs that fail, and so why: an outage, broken code, or a flaky test."""
        jobs = list(pipeline.jobs)
        if self.in_outage(at) and self.dice.random() < 0.85:
            return jobs[: self.dice.randint(1, len(jobs))]
        # The same commit must fail again in the same pipeline: drawn from the commit, not from the dice.
        luck = random.Random(f"{push.sha}/{pipeline.name}")  # noqa: S311 - as above
        if push.broken and luck.random() < pipeline.hit:
            return [luck.choice(jobs)]
        # A re-run has its machine to itself: a flaky test fails seldom twice.
        calm = 1.0 if attempt == 1 else 0.4
        return [job for job, rate in pipeline.flaky.items() if self.dice.random() < rate * calm]

    def _outcome(self, failed: Sequence[str], *, attempt: int) -> str:
        if attempt == 1 and self.dice.random() < CANCELLED:
            return "cancel"
        if attempt == 1 and self.dice.random() < 0.012:
            return self.dice.choice(("error", "skip"))
        return "failure" if failed else "success"

    def _patience(self, push: _Push, pipeline: Pipeline, failed: Sequence[str]) -> float:
        """How likely somebody re-runs: people know their flaky jobs, and hope at times without reason."""
        known_flaky = any(pipeline.flaky.get(job, 0) > 0.03 for job in failed)
        return 0.95 if known_flaky and not push.broken else 0.05

    def attempt(
        self, push: _Push, pipeline: Pipeline, *, run_id: str, number: int, attempt: int, queued: datetime,
        outcome: str, failed: Sequence[str],
    ) -> list[Record]:  # fmt: skip
        """The records of one attempt: the run, then its jobs, which run side by side."""
        wait = self.dice.lognormvariate(2.3, 0.7) * (4 if self.in_outage(queued) else 1)
        started = queued + timedelta(seconds=wait)
        common = {"project": push.project.name, "run": run_id, "attempt": attempt}
        jobs: list[Record] = []
        for name, minutes in pipeline.jobs.items():
            result = _job_outcome(name, outcome=outcome, failed=failed)
            if result is None:
                continue
            began = started + timedelta(seconds=self.dice.uniform(1, 8))
            share = self.dice.uniform(0.3, 1) if result in ("failure", "cancel") else 1.0
            ended = began + timedelta(minutes=minutes * share * self.dice.lognormvariate(0, 0.18))
            self.job_id += self.dice.randint(1, 90)
            jobs.append(
                {
                    "type": "job", **common, "id": str(self.job_id), "name": name, "outcome": result,
                    "runner": f"GitHub Actions {self.dice.randint(1, 40)}", "labels": ["ubuntu-latest"],
                    "queuedAt": _text(queued), "startedAt": _text(began), "finishedAt": _text(ended),
                }
            )  # fmt: skip
        ends = [_time(job["finishedAt"]) for job in jobs] or [started + timedelta(seconds=3)]
        run = {
            "type": "run", "project": push.project.name, "pipeline": pipeline.name, "id": run_id,
            "attempt": attempt, "number": number, "trigger": push.trigger, "branch": push.branch,
            "sha": push.sha, "actor": push.actor, "phase": "finished", "outcome": outcome,
            "queuedAt": _text(queued), "startedAt": _text(started),
            "finishedAt": _text(max(ends) + timedelta(seconds=2)),
            "url": f"https://github.com/{push.project.name}/actions/runs/{run_id}",
        }  # fmt: skip
        return [run, *jobs]


ANCHOR = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A Monday morning."""
_MOMENTS = ("queuedAt", "startedAt", "finishedAt")


def history(*, until: datetime, seed: int = 7, days: int = DAYS, runs: int = RUNS) -> Iterator[Record]:
    """About `runs` attempts of runs in the `days` before `until`, all finished by then, in order of start.

    A run record is followed by the records of its jobs.
    """
    start = until - timedelta(days=days)
    company = _Company(seed=seed, start=start, until=until)
    attempts: list[list[Record]] = []
    # A push starts two runs on average, and one run in nine is run again.
    for at in _push_times(company.dice, start=start, until=until, count=int(runs / 2.05)):
        attempts.extend(company.runs(company.push(at)))
    attempts.sort(key=lambda records: (records[0]["startedAt"], records[0]["id"]))
    for records in attempts:
        yield from records


def recent(*, until: datetime, runs: int = RUNS) -> Iterator[Record]:
    """The same history whenever it is asked for: made up to one moment, and moved by whole days.

    It ends less than two days before `until`. What a model learns from it, and whether that passes its
    gates, does not hang on the hour at which somebody tries it.
    """
    days = timedelta(days=(until - ANCHOR).days)
    for record in history(until=ANCHOR, runs=runs):
        yield record | {name: _text(_time(record[name]) + days) for name in _MOMENTS if record[name]}


def story(*, at: datetime, seed: int = 7, project: str = "acme/shop") -> Story:
    """A run of the project's e2e on main that fails at `at` in its known-flaky job; run again, it passes."""
    (about,) = (each for each in ORGANISATION if each.name == project)
    (pipeline,) = (each for each in about.pipelines if each.name == "e2e")
    (flaky,) = pipeline.flaky
    company = _Company(seed=seed + 1_000_003, start=at, until=at + timedelta(days=1))
    company.run_id += 900_000_000
    company.job_id += 900_000_000
    company.outages = []
    push = _Push(
        project=about,
        branch="main",
        actor=about.people[0],
        sha=f"{company.dice.getrandbits(160):040x}",
        at=at,
        broken=False,
        trigger="push",
    )
    attempts = []
    queued = at
    for attempt, failed in ((1, [flaky]), (2, [])):
        records = company.attempt(
            push, pipeline, run_id=str(company.run_id), number=100_001, attempt=attempt, queued=queued,
            outcome="failure" if failed else "success", failed=failed,
        )  # fmt: skip
        attempts.append(records)
        queued = _time(records[0]["finishedAt"]) + timedelta(minutes=1)
    return Story(first=attempts[0], second=attempts[1])


def _push_times(dice: random.Random, *, start: datetime, until: datetime, count: int) -> list[datetime]:
    """When pushes happen: working hours, few at night and at weekends."""
    hours = [start + timedelta(hours=index) for index in range(int((until - start).total_seconds() // 3600))]
    weights = [HOURS[hour.hour] * (WEEKEND if hour.weekday() >= 5 else 1) for hour in hours]
    chosen = dice.choices(hours, weights=weights, k=count)
    return sorted(hour + timedelta(seconds=dice.uniform(0, 3600)) for hour in chosen)


def _job_outcome(name: str, *, outcome: str, failed: Sequence[str]) -> str | None:
    """A job's outcome in a run with that outcome; None where the job did not start."""
    if outcome in ("error", "skip"):
        return None
    if outcome == "cancel":
        return "cancel"
    return "failure" if name in failed else "success"


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
