"""Causes as REST shows them, and the report of a model of causes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from gateway import report_frame
from gateway.cause_schemas import (
    CauseBinBody,
    CauseBody,
    CauseHeldOutBody,
    CauseLiveBody,
    CauseReportBody,
    CauseTrainingBody,
    RecordedCause,
)
from gateway.schemas import ModelRef
from ml import contract, curves
from ml.causes import SURE
from ml.diagnosis import Diagnosis
from pipewright.store.causes import Rerun
from pipewright.store.records import Judged, ModelPointer, Training

Advice = Literal["run it again", "do not run it again", "unsure"]


def cause_of(found: Diagnosis, *, model: str) -> CauseBody:
    """A diagnosis that was asked for."""
    return CauseBody(
        kind=found.kind,
        category=found.category,
        owner=found.owner,
        recipe=found.recipe,
        transient=found.transient,
        advice=advice(found.transient),
        reasons=found.reasons,
        model=ModelRef(name=model, version=found.version),
    )


def recorded(made: Judged, *, model: str, integrations: Mapping[str, str]) -> RecordedCause:
    """One that is kept. `integrations`: UID → name."""
    values: dict[str, Any] = {
        "kind": made.kind,
        "category": made.category or None,
        "owner": made.owner or None,
        "recipe": made.recipe or None,
        "transient": made.transient,
        "advice": advice(made.transient),
        "reasons": made.reasons,
        "model": ModelRef(name=model, version=made.model_version),
        "integration": integrations[made.integration],
        "run": made.provider_id,
        "attempt": made.attempt,
        "made_at": made.made_at,
    }
    return RecordedCause(**values)


def advice(transient: float) -> Advice:
    """Whether to run it again."""
    if transient >= SURE:
        return "run it again"
    return "do not run it again" if transient <= 1 - SURE else "unsure"


def body(
    pointer: ModelPointer,
    *,
    report: contract.Report | None,
    reruns: Sequence[Rerun],
    trainings: Sequence[tuple[Training, contract.Report | None]],
    since: datetime,
) -> CauseReportBody:
    """The report."""
    causes = report.causes if report else None
    return CauseReportBody(
        **report_frame.head(pointer),
        held_out=(
            CauseHeldOutBody.model_validate(report_frame.held_out(report, causes))
            if report and causes
            else None
        ),
        live=live(reruns, since=since),
        trainings=tuple(
            CauseTrainingBody.model_validate(report_frame.training(each, told, "accuracy", "auc"))
            for each, told in trainings
        ),
    )


def live(reruns: Sequence[Rerun], *, since: datetime) -> CauseLiveBody:
    """What the counts say: the formulas of `ml.cause_train`, over counts instead of rows."""
    kinds: Counter[str] = Counter()
    for each in reruns:
        kinds[each.kind] += each.rows
    judged = [each for each in reruns if each.passed is not None]
    rows = sum(each.rows for each in judged)
    return CauseLiveBody(
        since=since,
        causes=kinds.total(),
        kinds=dict(sorted(kinds.items())),
        judged=rows,
        passed=sum(each.rows for each in judged if each.passed),
        accuracy=sum(each.right for each in judged) / rows if rows else None,
        brier=sum(each.squares for each in judged) / rows if rows else None,
        calibration=_bins(judged),
    )


def _bins(judged: Sequence[Rerun]) -> tuple[CauseBinBody, ...]:
    made = []
    for at in range(curves.BINS):
        here = [each for each in judged if each.bin == at]
        if rows := sum(each.rows for each in here):
            passed = sum(each.rows for each in here if each.passed)
            said = sum(each.total for each in here)
            made.append(CauseBinBody(predicted=said / rows, passed=passed / rows, rows=rows))
    return tuple(made)
