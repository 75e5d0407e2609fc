"""Bodies about causes of failures: what OpenAPI says of them is made from these sentences."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from gateway.report_frame import ReportFrame, TrainingFrame
from gateway.schemas import Answer, ModelRef


class CauseBody(Answer):
    """Why a run failed, and what to do."""

    kind: Literal["infra", "flaky", "code", "config", "unsure"]
    category: str | None = Field(description="Of the taxonomy; null where no log shows one.")
    owner: str | None = Field(description="Who mends it: platform, service, team or author.")
    recipe: str | None = Field(description="What mends it.")
    transient: float = Field(description="The probability that another attempt passes.")
    advice: Literal["run it again", "do not run it again", "unsure"] = Field(
        description="Where that is at least 70 % either way."
    )
    reasons: tuple[str, ...]
    model: ModelRef


class RecordedCause(CauseBody):
    """A cause that was judged when a run failed, and kept."""

    integration: str
    run: str = Field(description="The provider's run id.")
    attempt: int
    made_at: datetime


class CauseMetricsBody(Answer):
    """How good it was said whether another attempt passes; that it does is the positive class."""

    accuracy: float
    auc: float | None
    brier: float
    calibration_error: float
    coverage: float = Field(description="The share of which the model was sure: at least 70 % either way.")
    selective_accuracy: float | None = Field(description="The accuracy among those.")
    rows: int
    transient: int = Field(description="How many passed when they were run again.")


class CauseHeldOutBody(Answer):
    """How the version did on the newest labelled failures of its window, which it was not trained on."""

    metrics: CauseMetricsBody
    baselines: dict[str, CauseMetricsBody] = Field(
        description="majority: what is more frequent. lineRate: how often re-runs of the pipeline passed."
    )
    rows: int = Field(description="Labelled failures in the window: those that were run again.")
    data_from: datetime | None
    data_to: datetime | None


class CauseBinBody(Answer):
    """Failures whose probabilities of passing lie in one tenth of the scale, and that were run again."""

    predicted: float
    passed: float = Field(description="The share of them that passed.")
    rows: int


class CauseLiveBody(Answer):
    """How the version did on runs that failed since."""

    since: datetime = Field(description="When it was promoted, or 30 days ago.")
    causes: int
    kinds: dict[str, int] = Field(description="How many of each kind.")
    judged: int = Field(description="Of the causes, those whose run has had another attempt that ended.")
    passed: int
    accuracy: float | None
    brier: float | None
    calibration: tuple[CauseBinBody, ...]


class CauseTrainingBody(TrainingFrame):
    """One training of the model."""

    accuracy: float | None
    auc: float | None


class CauseReportBody(ReportFrame):
    """The active version of a model of causes: how it was judged, how it does, how it came to be."""

    held_out: CauseHeldOutBody | None = Field(
        description="Null where the training is not on record any more."
    )
    live: CauseLiveBody
    trainings: tuple[CauseTrainingBody, ...] = Field(description="The last ten, the newest first.")
