"""Model: a prediction that is trained on the tenant's own history, evaluated honestly, and served."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from pipewright.api.meta import (
    AGE,
    MESSAGE,
    Base,
    Between,
    Column,
    Count,
    Digest,
    DnsLabel,
    Duration,
    Matching,
    Resource,
    Rule,
    Ruled,
    Status,
    Time,
    condition_columns,
    immutable,
    parse_duration,
    rules,
    shorter,
)
from pipewright.api.v1alpha1.model_compute import Compute
from pipewright.api.v1alpha1.model_search import Search, SearchResult


def _cron_field(value: str, *, names: str = "") -> str:
    """Return the pattern of one cron field whose numbers match ``value``: lists of ranges with steps."""
    one = f"({value}|{names})" if names else f"({value})"
    item = rf"(\*|{one}(-{one})?)(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


CRON_PATTERN = (
    "^"
    + " ".join(
        (
            _cron_field("[0-5]?[0-9]"),
            _cron_field("[01]?[0-9]|2[0-3]"),
            _cron_field("0?[1-9]|[12][0-9]|3[01]"),
            _cron_field("0?[1-9]|1[0-2]", names="JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"),
            _cron_field("[0-7]", names="SUN|MON|TUE|WED|THU|FRI|SAT"),
        )
    )
    + "$"
)
"""Minute, hour, day of month, month, day of week, one space between; names in capitals."""

Cron = Annotated[
    str,
    Field(max_length=100),
    Matching(
        CRON_PATTERN,
        "schedule must have five cron fields: minute hour day-of-month month day-of-week, e.g. 0 3 * * *",
    ),
]
TimeZone = Annotated[
    str,
    Field(max_length=64),
    Matching(
        r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
        "timeZone must be a name of the IANA time zone database, e.g. Europe/Berlin",
    ),
]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]

_GATES = {
    "RunFailure": ("maxFalsePositiveRate", "minAccuracy", "minGainOverBaseline", "maxCalibrationError"),
    "Duration": ("minPinballGain", "maxCoverageError"),
    "FailureCause": ("minAccuracy", "minGainOverBaseline", "maxCalibrationError"),
}
"""Task → the gates that it has."""


def _only(task: str) -> Rule:
    """A model of this task asks for its own gates only."""
    others = dict.fromkeys(gate for gates in _GATES.values() for gate in gates if gate not in _GATES[task])
    none = " && ".join(f"!has(self.evaluation.gates.{gate})" for gate in others)
    return Rule(
        cel=f"self.task != '{task}' || !has(self.evaluation) || !has(self.evaluation.gates) || ({none})",
        message=f"the task {task} has the gates {_listed(_GATES[task])}, and no others",
    )


_CAUSES_DO_NOT_DRIFT = Rule(
    cel="self.task != 'FailureCause' || !has(self.training) || !has(self.training.maxDrift)",
    message="drift is not measured for the task FailureCause: leave training.maxDrift out, and train by"
    " schedule or onNewRuns",
)


_ONLY_FAILURES_ARE_SEARCHED = Rule(
    cel="self.task == 'RunFailure' || !has(self.training) || !has(self.training.search)",
    message="other settings are tried for the task RunFailure only: leave training.search out",
)


_ONLY_FAILURES_ARE_POOLED = Rule(
    cel="self.task == 'RunFailure' || !has(self.pool)",
    message="runs are pooled for the task RunFailure only: leave pool out",
)
_A_POOL_TRAINS_ON_THE_PLATFORM = Rule(
    cel="!has(self.pool) || !has(self.training) || !has(self.training.compute)"
    " || !has(self.training.compute.kubeRay)",
    message="a Model with a pool is not trained by kubeRay, in a namespace whose owners could read the runs"
    " of other tenants there: leave pool out, or name a cluster in training.compute.cluster",
)


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


class Data(Base):
    """Which part of the history the model learns from."""

    window: Annotated[Duration, Between("1d", "730d")] = parse_duration("90d")
    """How far back the training data reaches, 1d to 730d."""
    min_runs: Annotated[int, Field(ge=50, le=1_000_000)] = 500
    """How many finished runs the window must hold before a training starts."""
    integrations: Annotated[
        tuple[DnsLabel, ...],
        Field(max_length=50, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """The Integrations of this namespace whose runs count; all of them when empty."""


class Hyperparameters(Base):
    """Settings of the learner; each has a tried default."""

    num_leaves: Annotated[int, Field(ge=2, le=64)] | None = None
    """The most leaves that one tree may have."""
    learning_rate: Annotated[float, Field(ge=0.001, le=0.5)] | None = None
    """How much each tree corrects those before it."""
    trees: Annotated[int, Field(ge=10, le=1000)] | None = None
    """The most trees; training stops earlier when the validation part no longer gains."""
    min_child: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """The fewest runs that a leaf may stand for."""


_SEARCH_ENDS_IN_TIME = Rule(
    cel="!has(self.search) || !has(self.search.timeout)"
    f" || {shorter('self.search.timeout', 'self.deadline')}",
    message="search.timeout must be shorter than deadline: the model is trained and tested after the search",
    field_path=".search.timeout",
)


class Training(Base):
    """When and how the model is trained."""

    model_config = ConfigDict(json_schema_extra=rules(_SEARCH_ENDS_IN_TIME))

    schedule: Cron | None = None
    """When to train again, as five cron fields, e.g. 0 3 * * *; without it only the first comes by itself."""
    on_new_runs: Annotated[int, Field(ge=50, le=1_000_000)] | None = None
    """Also train, once an hour at most, when so many runs passed or failed since the last training began."""
    max_drift: Annotated[float, Field(ge=0.05, le=10)] | None = None
    """Also train, once a day at most, when the population stability index exceeds this, e.g. 0.25."""
    time_zone: TimeZone = "Etc/UTC"
    """The IANA time zone in which the schedule is read, e.g. Europe/Berlin."""
    deadline: Annotated[Duration, Between("1m", "24h")] = parse_duration("30m")
    """How long one training may take before it is stopped and counts as failed, 1m to 24h."""
    retries: Annotated[int, Field(ge=0, le=5)] = 2
    """How often a training is repeated that failed for a technical reason; refused by a gate is not one."""
    hyperparameters: Hyperparameters = Hyperparameters()
    """Settings of the learner; each has a tried default."""
    search: Search | None = None
    """RunFailure: try other settings, too; those of hyperparameters stay fixed. None when absent."""
    compute: Compute | None = None
    """Where trainings run; on the first Ray cluster of the operator's settings when absent."""


class Gates(Base):
    """What a candidate must reach on runs that it has not seen; an absent gate is open."""

    max_false_positive_rate: Share | None = None
    """The largest share of passing runs that may be called failing, e.g. 0.05."""
    min_accuracy: Share | None = None
    """The smallest share of runs that must be called right, e.g. 0.85."""
    min_gain_over_baseline: Annotated[float, Field(ge=-1, le=1)] | None = None
    """How much the accuracy must exceed that of the better baseline, e.g. 0.01; may be negative."""
    max_calibration_error: Share | None = None
    """The largest gap between predicted probability and observed share, e.g. 0.1."""
    min_pinball_gain: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Duration: by which share the pinball loss must lie below the better baseline's; may be negative."""
    max_coverage_error: Share | None = None
    """Duration: the largest gap between a quantile and the share of runs that it covers, e.g. 0.1."""


class Evaluation(Base):
    """How a candidate is judged."""

    holdout: Annotated[float, Field(ge=0.05, le=0.5)] = 0.25
    """The share of the window, its newest runs, on which the candidate is judged and not trained."""
    gates: Gates = Gates()
    """What a candidate must reach there to become active."""


class Serving(Base):
    """How the active version is used."""

    default: bool = False
    """Whether this is the model that the word prediction means in this namespace; at most one may be."""
    version: (
        Annotated[
            str,
            Field(max_length=12),
            Matching(
                "^[0-9a-f]{12}$", "version must be the name of one of status.trainings, e.g. 3f8a1c09b2de"
            ),
        ]
        | None
    ) = None
    """The version that predicts, one of status.trainings that passed; the newest that passed when absent."""
    control_share: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """The share of runs, chosen by chance, on which no workflow acts by their prediction; 0 for none."""


class ModelSpec(Base):
    """What is predicted, from which data, how good it must be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *map(_only, _GATES),
            _CAUSES_DO_NOT_DRIFT,
            _ONLY_FAILURES_ARE_SEARCHED,
            _ONLY_FAILURES_ARE_POOLED,
            _A_POOL_TRAINS_ON_THE_PLATFORM,
        )
    )

    task: Annotated[Literal["RunFailure", "Duration", "FailureCause"], Ruled(immutable("task"))]
    """What is said of runs: RunFailure, Duration, or of failed ones FailureCause; cannot be changed later."""
    data: Data = Data()
    """Which part of the history the model learns from."""
    training: Training = Training()
    """When and how the model is trained."""
    evaluation: Evaluation = Evaluation()
    """How a candidate is judged before it may become active."""
    serving: Serving = Serving()
    """How the active version is used."""
    pool: DnsLabel | None = None
    """RunFailure: shares runs with the Models of this pool, where the Tenant's modelPools has it, too."""


class Artifact(Base):
    """The file that holds a version."""

    uri: Annotated[str, Field(max_length=1024)]
    """Where the file lies in the artifact store."""
    sha256: Digest
    """The file's SHA-256, checked before it is loaded."""


class Metrics(Base):
    """How good a version, or a baseline, was on the held-out runs; what cannot be said there is absent."""

    accuracy: Share | None = None
    """The share of runs that were called right."""
    false_positive_rate: Share | None = None
    """The share of passing runs that were called failing."""
    recall: Share | None = None
    """The share of failing runs that were called failing."""
    precision: Share | None = None
    """The share of runs called failing that failed."""
    auc: Share | None = None
    """The probability that a failing run is ranked above a passing one."""
    brier: Share | None = None
    """The mean squared error of the probability."""
    calibration_error: Share | None = None
    """The mean gap between predicted probability and observed share."""
    first_failure_recall: Share | None = None
    """The recall on failures that follow a success on the same line of work, the hard ones."""
    pinball_loss: Seconds | None = None
    """Duration: the mean pinball loss of the quantiles 50, 90 and 95 %, in seconds; less is better."""
    coverage_error: Share | None = None
    """Duration: the largest gap between a quantile and the share of runs that it covered."""
    median_error: Seconds | None = None
    """Duration: the mean distance between the median and how long runs took, in seconds."""


class PooledData(Base):
    """What a version was made of that learned from the runs of several tenants."""

    tenants: Count
    """How many tenants' runs it learned from, the own one counted; never whose."""
    runs: Count
    """How many runs of them all."""
    own_runs: Count
    """How many of these are the own tenant's."""


class Version(Base):
    """A trained version of the model."""

    version: Annotated[str, Field(min_length=1, max_length=64)]
    """The version's name, the beginning of its artifact's digest."""
    artifact: Artifact
    """The file that holds it."""
    metrics: Metrics = Metrics()
    """How good it was on the held-out runs."""
    pooled: PooledData | None = None
    """Tells that it learned from the runs of other tenants, too; absent where it did not."""


class Registered(Base):
    """A version in MLflow's registry."""

    model: Annotated[str, Field(max_length=256)]
    """The registered model: tenant, namespace and name."""
    version: Annotated[str, Field(max_length=32)]
    """The number of its version, which carries the alias of the operator's settings."""


class ActiveVersion(Version):
    """The version that predicts."""

    promoted_at: Time
    """When it became active."""
    registered: Registered | None = None
    """What it is in MLflow, where the operator's settings name one."""


class Baselines(Base):
    """How good the two simplest predictions were on the same held-out runs."""

    always_pass: Metrics | None = None
    """Every run passes."""
    last_outcome: Metrics | None = None
    """Every run ends as the one before it on the same line of work."""
    recent_runs: Metrics | None = None
    """Duration: the quantiles of the pipeline's last 50 runs."""
    last_run: Metrics | None = None
    """Duration: every run takes as long as the one before it."""
    majority: Metrics | None = None
    """FailureCause: every failure ends as most of them, when it is run again."""
    line_rate: Metrics | None = None
    """FailureCause: a failure ends as mostly those of its pipeline."""


class Dataset(Base):
    """The data window of the last training."""

    uri: Annotated[str, Field(max_length=1024)]
    """Where the Parquet file lies in the artifact store."""
    rows: Count
    """How many runs it holds."""
    from_: Annotated[Time, Field(alias="from")]
    """The start of its earliest run."""
    to: Time
    """The start of its latest run."""
    sha256: Digest
    """The file's SHA-256, by which a version can be traced to its data."""


class LastTraining(Base):
    """The training that ran last, or runs."""

    attempt: Annotated[int, Field(ge=1, le=1_000_000)]
    """Counts the trainings of this model."""
    submission_id: Annotated[str, Field(max_length=128)] | None = None
    """The job's id on the Ray cluster."""
    started_at: Time | None = None
    """When it was submitted."""
    finished_at: Time | None = None
    """When it ended; absent while it runs."""
    outcome: Literal["Running", "Passed", "GatesFailed", "Failed"] = "Running"
    """How it ended: Passed and active, GatesFailed and refused, or Failed for a technical reason."""
    reason: Annotated[str, Field(max_length=1024)] | None = None
    """Why it ended so, e.g. which gate, with value and limit."""
    search: SearchResult | None = None
    """What the search for hyperparameters found; absent without one."""


class PastTraining(Base):
    """A training, in short."""

    attempt: Annotated[int, Field(ge=1, le=1_000_000)]
    """Counts the trainings of this model."""
    version: Annotated[str, Field(max_length=64)] | None = None
    """What it made; absent when it made nothing, or runs."""
    started_at: Time
    """When it began."""
    outcome: Literal["Running", "Passed", "GatesFailed", "Failed"]
    """How it ended."""
    accuracy: Share | None = None
    """The share of held-out runs that the version called right."""
    pinball_loss: Seconds | None = None
    """Duration: its pinball loss on them, in seconds."""
    mlflow_run: Annotated[str, Field(max_length=64)] | None = None
    """The id of its run in MLflow, where the operator's settings name one."""


class SkippedTraining(Base):
    """A turn of the schedule that was passed over."""

    turn: Time
    """When the schedule asked for it."""
    reason: Annotated[str, Field(max_length=1024)]
    """Why, as a sentence."""


class ModelStatus(Status):
    """Which version predicts, and how good it is."""

    active: ActiveVersion | None = None
    """The version that predicts."""
    candidate: Version | None = None
    """The version that was trained last and is not active."""
    baselines: Baselines | None = None
    """How good the two simplest predictions were on the same held-out runs."""
    dataset: Dataset | None = None
    """The data window of the last training."""
    last_training: LastTraining | None = None
    """The training that ran last, or runs."""
    trainings: Annotated[tuple[PastTraining, ...], Field(max_length=10)] = ()
    """The last ten trainings, the newest first; spec.serving.version may name a version of them."""
    last_skipped: SkippedTraining | None = None
    """The last turn that was passed over because there was nothing new to learn from."""
    next_training_at: Time | None = None
    """When the schedule asks for the next training."""


class Model(Resource):
    """A prediction, trained on the tenant's own history and held to its gates."""

    kind: ClassVar[str] = "Model"
    plural: ClassVar[str] = "models"
    singular: ClassVar[str] = "model"
    short_names: ClassVar[tuple[str, ...]] = ("pml",)
    scope: ClassVar[Literal["Cluster", "Namespaced"]] = "Namespaced"
    printer_columns: ClassVar[tuple[Column, ...]] = (
        *condition_columns(),
        Column(name="Active", path=".status.active.version", description="The version that predicts."),
        AGE,
        Column(
            name="Accuracy",
            type="number",
            path=".status.active.metrics.accuracy",
            description="Accuracy of the active version on held-out runs.",
            priority=1,
        ),
        MESSAGE,
    )

    spec: ModelSpec
    """What is predicted, from which data, how good it must be."""
    status: ModelStatus = ModelStatus()
    """Which version predicts, and how good it is; written by Pipewright."""
