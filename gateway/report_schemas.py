"""Bodies of the routes over history: what OpenAPI says of them is made from these sentences."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from gateway.schemas import Answer
from pipewright.records import Outcome, Phase


class _Lived(Answer):
    phase: Phase
    outcome: Outcome = Field(description="Empty until finished.")
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    seen_at: datetime = Field(description="When the provider last told something of it.")


class RunBody(_Lived):
    """One attempt of a provider's run."""

    run: str = Field(validation_alias="provider_id", description="The provider's id of the run.")
    attempt: int
    number: int
    project: str
    pipeline: str
    trigger: str
    branch: str
    sha: str
    actor: str = Field(description="Who caused it, as a surrogate; empty where nobody is known.")
    url: str
    jobs: int = Field(description="How many of its jobs are known.")
    failed_jobs: tuple[str, ...] = Field(description="Names of those that failed or broke, sorted.")


class JobBody(_Lived):
    """One job of an attempt of a run."""

    job: str = Field(validation_alias="provider_id", description="The provider's id of the job.")
    run: str = Field(validation_alias="run_id", description="The provider's id of its run.")
    attempt: int = Field(description="Of the run.")
    project: str
    pipeline: str = Field(description="Empty where neither the job nor its run told.")
    name: str
    branch: str
    sha: str
    runner: str = Field(description="The machine's name.")
    labels: tuple[str, ...] = Field(description="What was asked of the machine.")


class TrendBody(Answer):
    """Runs that finished in an hour or on a day."""

    at: datetime = Field(description="The beginning of the hour or day.")
    finished: int = Field(description="Attempts, whatever their outcome.")
    succeeded: int
    failed: int = Field(description="Outcome failure: what was run says no.")
    broken: int = Field(description="Outcome error: it could not be run.")
    cancelled: int
    skipped: int
    reruns: int = Field(description="Of them, attempts after the first.")
    failure_rate: float | None = Field(description="(failed + broken) / (succeeded + failed + broken).")
    mean_seconds: float | None = Field(description="From start to finish.")
    longest_seconds: float
    mean_queue_seconds: float | None = Field(description="From the queue to the start.")


class FailingJobBody(Answer):
    """A job that failed."""

    project: str
    pipeline: str
    name: str
    finished: int
    failed: int = Field(description="Failed or broken.")
    failure_rate: float | None
    mean_seconds: float | None
    last_day: date = Field(description="On which it failed.")


class ProductivityBody(Answer):
    """What the people of a project got through."""

    project: str
    days: int = Field(description="With finished runs; the other figures are of these.")
    mean_people: float = Field(description="People whose runs finished on a day.")
    commits: int = Field(description="Commits of each day, added up.")
    finished: int
    succeeded: int
    failed: int = Field(description="Failed or broken.")
    reruns: int
    run_seconds: float = Field(description="From start to finish, added up.")
    queue_seconds: float = Field(description="From the queue to the start, added up.")


class RepairBody(Answer):
    """A pipeline on a branch that was red and became green."""

    project: str
    pipeline: str
    branch: str
    repairs: int = Field(description="Times that it became green.")
    mean_seconds: float = Field(description="MTTR: from the first failure to the next success.")
    longest_seconds: float


class TimeToGreenBody(Answer):
    """Commits on which a pipeline failed and then succeeded."""

    project: str
    pipeline: str
    commits: int
    mean_seconds: float = Field(description="From the first failure to the success after it.")
    longest_seconds: float


class FlakyJobBody(Answer):
    """A job that both failed and succeeded on the same commit."""

    project: str
    pipeline: str
    name: str
    commits: int = Field(description="On which it disagreed with itself.")
    failures: int
    successes: int
    last_at: datetime


class FlakyTestBody(FlakyJobBody):
    """A test that both failed and succeeded on the same commit."""

    suite: str


class RateBody(Answer):
    """A rate, and the interval in which it lies with 95 %."""

    mean: float
    low: float
    high: float
    total: int = Field(description="Observations of its own.")


class RetryBody(Answer):
    """How a job ends that is run again on a commit."""

    project: str
    pipeline: str
    name: str
    commits: int = Field(description="On which it ended more than once.")
    disagreed: int = Field(description="Of them, those on which it both passed and failed.")
    flaky: RateBody = Field(description="How often it gives two answers on a commit.")
    reruns: int = Field(description="Times that it ran after it had failed on the commit.")
    passed: int
    passes: RateBody = Field(description="How often it passes then.")
    machine_minutes: float = Field(description="Of failures on commits on which it disagreed.")
    wait_minutes: float = Field(
        description="From the first failure on such a commit to the pass after it, an hour at most each."
    )


class RecommendationBody(Answer):
    """One step that saves money."""

    project: str
    pipeline: str
    name: str
    category: str
    saves: float = Field(description="In the currency of the prices, in a time as long as the one looked at.")
    text: str


class AnomalyBody(Answer):
    """Something that ran otherwise than usual."""

    of: Literal["job", "runner"]
    key: tuple[str, ...] = Field(
        description="Of a job its project, pipeline and name; of a runner its labels, sorted and joined."
    )
    measure: Literal["duration", "queue", "failureRate"]
    shape: Literal["outlier", "shift", "incident"] = Field(
        description="outlier: one job took far longer. shift: times have risen or fallen for good. incident: "
        "failures have become more frequent."
    )
    at: datetime = Field(description="When it was certain.")
    since: datetime = Field(description="About when it began.")
    until: datetime | None = Field(description="When an incident was over; else null.")
    usual: float = Field(description="Before it: seconds, or a share of a failure rate.")
    found: float = Field(description="The same, of it.")
    job: str = Field(description="The provider's id of the job that shows it.")
    run: str = Field(description="The provider's id of that job's run.")


class CostBody(Answer):
    """What runners cost."""

    key: str = Field(description="The project, pipeline or runner.")
    jobs: int
    minutes: Decimal
    currency: str | None = Field(description="null: what follows has no price.")
    cost: Decimal | None


class PriceBody(Answer):
    """What a minute of a runner costs from a day on."""

    runner: Annotated[
        str,
        Field(
            max_length=400,
            pattern=r"^[^\x00]*$",
            description="The job's labels, sorted, joined by comma and space; empty: jobs without labels.",
        ),
    ]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", description="ISO 4217, such as EUR.")]
    per_minute: Annotated[Decimal, Field(ge=0, le=100_000, max_digits=12, decimal_places=6)]
    valid_from: date


class PricesBody(Answer):
    """Prices to add, or to replace where one of that runner and day is there."""

    prices: Annotated[tuple[PriceBody, ...], Field(min_length=1, max_length=200)]
