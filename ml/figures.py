"""How good a model was, in figures: what a training measured on the held-out runs and its report carries.

Each figure tells its bounds; `ml.contract` refuses a report that lies outside of them when it reads one.
Standard library only, as `ml.contract`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """The bounds of a number, both within."""

    least: float
    most: float


Share = Annotated[float, Between(least=0, most=1)]
"""A part of something, or a probability."""
Seconds = Annotated[float, Between(least=0, most=86_400)]
"""Of runs that take a day at most: what took longer is not judged."""
Count = Annotated[int, Between(least=0, most=2**53 - 1)]
"""Of runs; up to what every reader of JSON keeps exact."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How a predictor did on the held-out runs; the positive class is failure. None: nothing to divide by."""

    accuracy: Share
    false_positive_rate: Share | None
    """Share of the passed runs that were called failures."""
    recall: Share | None
    """Share of the failures that were called failures."""
    precision: Share | None
    auc: Share | None
    brier: Share
    calibration_error: Share
    """Expected calibration error over ten bins of equal width."""
    first_failure_recall: Share | None
    """Recall among failures whose line of work was not red before: the hard ones."""
    repeat_failure_recall: Share | None = None
    """Recall among the other failures."""
    coverage: Share
    """Share of the runs for which the answer was not "unsure"."""
    selective_accuracy: Share | None
    """Accuracy among those."""
    rows: Count
    failures: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Runs whose predicted probabilities lie in one tenth of the scale."""

    predicted: Share
    """Their mean probability of failure."""
    observed: Share
    """The share of them that failed."""
    rows: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Decile:
    """A tenth of the runs, by rising probability."""

    least: Share
    """The smallest probability among them."""
    rows: Count
    failures: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The runs that started on one day (UTC)."""

    day: str
    rows: Count
    failures: Count
    flagged: Count
    """How many were called failures."""
    found: Count
    """How many of the failures were."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What a page draws of a predictor."""

    calibration: tuple[Bin, ...]
    """Tenths of the scale that have runs."""
    deciles: tuple[Decile, ...]
    days: tuple[Day, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuantileMetrics:
    """How one quantile of the duration did."""

    quantile: Share
    pinball_loss: Seconds
    """Mean, in seconds: what the quantile minimises."""
    covered: Share
    """Share of the runs that took no longer; equal to the quantile when it is calibrated."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DurationMetrics:
    """How forecasts of durations did on the held-out runs."""

    pinball_loss: Seconds
    """Mean over runs and quantiles, in seconds."""
    coverage_error: Share
    """The largest gap between a quantile and the share that it covered."""
    median_error: Seconds
    """Mean distance between the median and what it was, in seconds."""
    quantiles: tuple[QuantileMetrics, ...]
    rows: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DurationDay:
    """The runs that started on one day (UTC)."""

    day: str
    rows: Count
    within: Count
    """How many took no longer than the 90 % quantile."""
    median_error: Seconds
    """In seconds."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """What a training of durations measured on the held-out runs."""

    metrics: DurationMetrics
    baselines: Mapping[str, DurationMetrics]
    """`recentRuns`: quantiles of the line's last 50; `lastRun`: as long as the run before."""
    classes: tuple[Count, ...]
    """How many runs lay up to the first quantile, from there to the next, and so on; drift is told by it."""
    days: tuple[DurationDay, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CauseMetrics:
    """How good it was said of held-out failures whether another attempt passes; that it does is positive."""

    accuracy: Share
    """Share that was called right, from an even chance on."""
    auc: Share | None
    brier: Share
    calibration_error: Share
    coverage: Share
    """Share of which the model was sure: at least 70 % either way."""
    selective_accuracy: Share | None
    """Accuracy among those."""
    rows: Count
    transient: Count
    """How many passed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Causes:
    """What a training of causes measured on the held-out failures."""

    metrics: CauseMetrics
    baselines: Mapping[str, CauseMetrics]
    """`majority`: what is more frequent; `lineRate`: how often re-runs of the pipeline passed."""


Figures = Metrics | DurationMetrics | CauseMetrics
"""How good a model was, by its task."""
