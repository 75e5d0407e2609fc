"""Bodies about durations: what OpenAPI says of them is made from these sentences. All in seconds."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import Field

from gateway.report_frame import ReportFrame, TrainingFrame
from gateway.schemas import Answer, ModelRef


class _Quantiles(Answer):
    p50: float = Field(description="Seconds from the start; half of such runs take longer.")
    p90: float = Field(description="One of ten takes longer.")
    p95: float = Field(description="One of twenty takes longer.")
    reasons: tuple[str, ...] = Field(description="What the forecast rests on.")
    model: ModelRef


class DurationBody(_Quantiles):
    """How long the run will take."""


class RecordedDuration(_Quantiles):
    """A forecast that was made and kept."""

    integration: str
    run: str = Field(description="The provider's run id.")
    attempt: int
    made_at: datetime


class QuantileBody(Answer):
    """How one quantile did."""

    quantile: float
    pinball_loss: float = Field(description="Mean, in seconds: what the quantile minimises.")
    covered: float = Field(description="The share of runs that took no longer; the quantile if calibrated.")


class DurationMetricsBody(Answer):
    """How good forecasts of durations were."""

    pinball_loss: float = Field(description="Mean over runs and quantiles, in seconds; less is better.")
    coverage_error: float = Field(description="The largest gap between a quantile and what it covered.")
    median_error: float = Field(description="Mean distance between the median and what it was, in seconds.")
    quantiles: tuple[QuantileBody, ...]
    rows: int


class DurationDayBody(Answer):
    """The runs of one day (UTC)."""

    day: date
    rows: int
    within: int = Field(description="How many took no longer than the 90 % quantile.")
    median_error: float | None = Field(description="In seconds; null where no run has ended.")


class DurationHeldOutBody(Answer):
    """How the version did on the newest runs of its data window, which it was not trained on."""

    metrics: DurationMetricsBody
    baselines: dict[str, DurationMetricsBody] = Field(
        description="On the same runs: recentRuns, the quantiles of the pipeline's last 50 runs, and lastRun,"
        " as long as the run before."
    )
    days: tuple[DurationDayBody, ...]
    rows: int = Field(description="Runs in the data window, the trained ones and the held-out ones.")
    data_from: datetime | None
    data_to: datetime | None


class DurationLiveBody(Answer):
    """How the version did on runs that it was asked about when they started."""

    since: datetime = Field(description="When it was promoted, or 30 days ago.")
    forecasts: int
    judged: int = Field(description="Of these, runs that have passed or failed by now, in a known time.")
    pinball_loss: float | None
    median_error: float | None
    covered: dict[str, float] = Field(
        description="By p50, p90 and p95, the share that took no longer; empty before a run has ended."
    )
    population_stability_index: float | None = Field(
        description="How far the shares between the quantiles are from those of the held-out runs: below 0.1 "
        "hardly, above 0.25 much; null where either is missing."
    )
    days: tuple[DurationDayBody, ...]


class SlowRunBody(Answer):
    """A run that took longer than nineteen of twenty such runs were said to."""

    integration: str
    run: str = Field(description="The provider's run id.")
    attempt: int
    project: str
    pipeline: str
    branch: str
    seconds: float
    p50: float
    p95: float
    finished_at: datetime
    url: str


class DurationTrainingBody(TrainingFrame):
    """One training of the model."""

    pinball_loss: float | None
    coverage_error: float | None


class DurationReportBody(ReportFrame):
    """The active version of a model of durations: how it was judged, how it does, how it came to be."""

    held_out: DurationHeldOutBody | None = Field(
        description="Null where the training is not on record any more."
    )
    live: DurationLiveBody
    slow: tuple[SlowRunBody, ...] = Field(
        description="The last runs that took longer than their 95 % quantile, at most 20."
    )
    trainings: tuple[DurationTrainingBody, ...] = Field(description="The last ten, the newest first.")
