"""Bodies of a model's report: what OpenAPI says of them is made from these sentences."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import Field

from gateway.report_frame import ReportFrame, TrainingFrame
from gateway.schemas import Answer


class BinBody(Answer):
    """Runs whose probabilities lie in one tenth of the scale."""

    predicted: float = Field(description="Their mean probability of failure.")
    observed: float = Field(description="The share of them that failed.")
    rows: int


class DecileBody(Answer):
    """A tenth of the held-out runs, by rising probability."""

    least: float = Field(description="The smallest probability among them.")
    rows: int
    failures: int


class DayBody(Answer):
    """The runs of one day (UTC)."""

    day: date
    rows: int
    failures: int
    flagged: int = Field(description="How many were called failures.")
    found: int = Field(description="How many of the failures were.")


class MetricsBody(Answer):
    """How good a predictor was; the positive class is failure, null is a share of nothing."""

    accuracy: float
    false_positive_rate: float | None
    recall: float | None
    precision: float | None
    auc: float | None
    brier: float
    calibration_error: float
    first_failure_recall: float | None
    repeat_failure_recall: float | None
    coverage: float = Field(description="The share of runs for which the answer was not unsure.")
    selective_accuracy: float | None = Field(description="The accuracy among those.")
    rows: int
    failures: int


class CurvesBody(Answer):
    """What can be drawn of a predictor."""

    calibration: tuple[BinBody, ...]
    deciles: tuple[DecileBody, ...]
    days: tuple[DayBody, ...]


class PooledBody(Answer):
    """What a version was made of that learned from the runs of several tenants."""

    tenants: int = Field(description="The own one counted; never whose they are.")
    runs: int
    own_runs: int


class HeldOutBody(Answer):
    """How the version did on the newest runs of its data window, which it was not trained on."""

    metrics: MetricsBody
    baselines: dict[str, MetricsBody] = Field(description="alwaysPass and lastOutcome, on the same runs.")
    curves: CurvesBody | None = Field(
        description="Null for a version that was trained before there were any."
    )
    rows: int = Field(description="Runs in the data window, the trained ones and the held-out ones.")
    data_from: datetime | None
    data_to: datetime | None
    pooled: PooledBody | None = Field(
        default=None, description="Null for a version that learned from its own tenant's runs alone."
    )


class JudgedBody(Answer):
    """How predictions turned out."""

    predictions: int
    judged: int = Field(description="Of these, runs that have passed or failed by now.")
    failures: int
    flagged: int = Field(description="Judged runs that were called failures (band high).")
    accuracy: float | None
    false_positive_rate: float | None
    recall: float | None
    precision: float | None
    calibration_error: float | None
    coverage: float | None = Field(description="The share of judged runs whose band was not unsure.")


class LiveBody(JudgedBody):
    """How the version did on runs that it was asked about when they started."""

    since: datetime = Field(description="When it was promoted, or 30 days ago.")
    population_stability_index: float | None = Field(
        description="How far the probabilities have moved from those of the held-out runs: below 0.1 hardly, "
        "above 0.25 much; null where either is missing."
    )
    calibration: tuple[BinBody, ...]
    days: tuple[DayBody, ...]


class SearchBody(Answer):
    """What a search for hyperparameters found on the part of the window that is learned from."""

    trials: int = Field(description="How many settings were judged, the defaults among them.")
    asked: int = Field(description="How many were asked for; fewer were judged when the time was over.")
    loss: float = Field(description="Log loss of the best settings; less is better.")
    default_loss: float = Field(description="The same of the defaults.")
    hyperparameters: dict[str, float] = Field(description="The best settings, by the learner's names.")
    seconds: float
    by: str = Field(description="RayTune, or Job: one trial after another in the job's own process.")


class TrainingBody(TrainingFrame):
    """One training of the model."""

    accuracy: float | None
    false_positive_rate: float | None
    recall: float | None
    search: SearchBody | None = Field(default=None, description="Null where none was asked for.")


class ModelReportBody(ReportFrame):
    """The active version of a model: how it was judged, how it does, how it came to be."""

    held_out: HeldOutBody | None = Field(description="Null where the training is not on record any more.")
    live: LiveBody
    control: JudgedBody | None = Field(
        description="Of these, the runs on which nothing is done by their prediction; null where there are "
        "to be none."
    )
    trainings: tuple[TrainingBody, ...] = Field(description="The last ten, the newest first.")
