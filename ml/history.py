"""What is remembered of finished runs: for each line of work, its last outcomes.

A run belongs to a few lines, from the narrowest (its pipeline on its branch with its trigger) upwards to all
that its Integration tells of. When it finishes, its outcome is inserted into each of them; when another
starts, the lines say what was known. The gateway keeps a line as one row of the tenant's database, training
replays them from the data window: the rules are here, once. Only success and failure are outcomes; a
cancelled or skipped run says nothing about the code.

A run is judged by what was known at one moment, `Run.judged_at`, in the gateway and in training alike.
"""

import bisect
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

Row = Sequence[Any]
"""An outcome as a line keeps it: run, attempt, sha, started, finished, failed, project, pipeline."""

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
"""Made once: `json.dumps` makes one for each call."""

LIMIT = 50
"""How many outcomes a line remembers."""

SCOPES = ("pipeline", "branch", "ref", "event", "actor", "project", "integration", "commit")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One finished attempt of a run. Times are seconds since the epoch."""

    run: str
    attempt: int
    sha: str
    started_at: float
    finished_at: float
    failed: bool
    project: str = ""
    pipeline: str = ""
    """What ran, as `Run.work` names it; empty in outcomes that were kept before this was."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known of an attempt before it runs. Times are seconds since the epoch.

    `integration` is the UID of the Integration that told of it: two providers may have projects of one name.
    `branch`, `actor` and `sha` are empty where the provider does not tell; `actor` is a surrogate id. `job`
    is set where single jobs are judged, `parent` (the commit before this one) and `change` (sizes of the
    change, by name) where they are known.
    """

    integration: str
    project: str
    pipeline: str
    event: str
    branch: str
    actor: str
    sha: str
    run_id: str
    attempt: int
    started_at: float
    queued_at: float | None = None
    job: str = ""
    parent: str = ""
    change: Mapping[str, float] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def work(self) -> str:
        """What runs: the pipeline, and the job where single jobs are judged."""
        return f"{self.pipeline} / {self.job}" if self.job else self.pipeline

    @property
    def judged_at(self) -> float:
        """The moment of the prediction: only what had finished by then counts.

        A first attempt is judged when it is queued, for that is when the gateway hears of it, and what is
        said then stands. A later one is judged when it starts: some providers keep the first attempt's
        creation time for it, and then even the failure that made somebody run it again would not count. (The
        gateway may hear of it while it waits, and judges it then: seconds before, and nothing else differs.)
        """
        if self.attempt > 1 or self.queued_at is None:
            return self.started_at
        # Clocks disagree by seconds: what comes after the start was not known before it.
        return min(self.queued_at, self.started_at)


def names(run: Run) -> dict[str, tuple[str, ...]]:
    """The lines of work that the run belongs to: scope → the names that make up the line's key.

    A scope of which a name is unknown is left out. The Integration's UID comes first: two providers may have
    projects of one name. `commit` joins sibling pipelines and earlier attempts on the same revision.
    """
    project = (run.integration, run.project)
    work = (*project, run.pipeline, run.job) if run.job else (*project, run.pipeline)
    found = {"integration": (run.integration,), "project": project}
    if run.pipeline:
        found["pipeline"] = work
    if run.branch:
        found["branch"] = (*work, run.branch)
    if run.event:
        found["event"] = (*work, run.event)
    if run.branch and run.event:
        found["ref"] = (*work, run.branch, run.event)
    if run.actor:
        found["actor"] = (*project, run.actor)
    if run.sha:
        found["commit"] = (*project, run.sha)
    return found


def lines(run: Run) -> dict[str, str]:
    """The lines of work that the run belongs to: scope → key.

    A key is the JSON text of its names, so that no two different lists of names share a key.
    """
    return {scope: _JSON.encode(parts) for scope, parts in names(run).items()}


def insert(history: Sequence[Outcome], outcome: Outcome) -> tuple[Outcome, ...]:
    """The line with `outcome` in its place; the same outcome again changes nothing, whatever the order.

    A line is sorted by the time of finish, then run and attempt, holds one outcome for each attempt (the one
    inserted last wins) and the last `LIMIT` of them.
    """
    kept = [known for known in history if known.run != outcome.run or known.attempt != outcome.attempt]
    if kept and _order(outcome) < _order(kept[-1]):
        bisect.insort(kept, outcome, key=_order)
    else:
        kept.append(outcome)
    return tuple(kept[-LIMIT:])


def insert_row(rows: Sequence[Row], row: Row) -> list[Row]:
    """`insert` for a line as it is kept: who only remembers need not understand it."""
    kept = [known for known in rows if known[0] != row[0] or known[1] != row[1]]
    if kept and _row_order(row) < _row_order(kept[-1]):
        bisect.insort(kept, row, key=_row_order)
    else:
        kept.append(row)
    return kept[-LIMIT:]


def visible(history: Sequence[Outcome], *, at: float) -> Sequence[Outcome]:
    """The outcomes known at the time `at`: those that had finished by then. The line must be sorted."""
    if not history or history[-1].finished_at <= at:
        return history
    return history[: bisect.bisect_right(history, at, key=lambda known: known.finished_at)]


def known(run: Run, lines: Mapping[str, Sequence[Outcome]]) -> dict[str, Sequence[Outcome]]:
    """All lines of a run as they were known when it is judged, scope by scope.

    Earlier attempts of the run itself stand in the `commit` line only: a re-run is judged by what its branch
    and pipeline did before, and by its first attempt apart from that. So a flaky test on a green branch looks
    unlike a branch that is broken.
    """
    seen = {scope: visible(outcomes, at=run.judged_at) for scope, outcomes in lines.items()}
    if run.attempt == 1:
        return seen
    return {
        scope: outcomes if scope == "commit" else [each for each in outcomes if each.run != run.run_id]
        for scope, outcomes in seen.items()
    }


def next_attempt(run: Run, *, at: float) -> Run:
    """The re-run of a finished attempt, starting at `at`; score it with lines that hold the failed attempt.

    P(a re-run would pass) = 1 - P(failure) of this run.
    """
    return dataclasses.replace(run, attempt=run.attempt + 1, started_at=at, queued_at=None)


def encode(history: Sequence[Outcome]) -> str:
    """The line as compact JSON, as the tenant's database keeps it."""
    return encode_rows([row_of(outcome) for outcome in history])


def encode_rows(rows: Sequence[Row]) -> str:
    """`encode` for a line as it is kept."""
    return _JSON.encode(rows)


def row_of(outcome: Outcome) -> Row:
    """The outcome as a line keeps it."""
    o = outcome
    return [o.run, o.attempt, o.sha, o.started_at, o.finished_at, int(o.failed), o.project, o.pipeline]


def decode(text: str | bytes | Sequence[Sequence[object]]) -> tuple[Outcome, ...]:
    """The line from its JSON, or from the lists that a JSON column was read into. Raises ValueError."""
    rows = json.loads(text) if isinstance(text, str | bytes) else text
    try:
        return tuple(_outcome(*row) for row in rows)
    except TypeError as error:
        raise ValueError(
            f"a row of a line of work is not [run, attempt, sha, started, finished, failed, …]: {error}"
        ) from None


def _outcome(
    run: str,
    attempt: int,
    sha: str,
    started_at: float,
    finished_at: float,
    failed: int,
    project: str = "",
    pipeline: str = "",
) -> Outcome:
    return Outcome(
        run=run, attempt=attempt, sha=sha, started_at=started_at, finished_at=finished_at,
        failed=bool(failed), project=project, pipeline=pipeline,
    )  # fmt: skip


def _row_order(row: Row) -> tuple[float, str, int]:
    return row[4], row[0], row[1]


def _order(outcome: Outcome) -> tuple[float, str, int]:
    return outcome.finished_at, outcome.run, outcome.attempt
