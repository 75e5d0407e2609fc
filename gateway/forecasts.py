"""What the model says of a run, at the two moments when it is asked: the run starts, and an attempt failed.

    first seen queued or started ──► `run`: will this attempt fail?
    finished with a failure      ──► its lines get the outcome, then `retry`: would another attempt fail?

A prediction is kept as it was made first, so a run is judged by what was known when it was queued
(`ml.history.Run.judged_at`). One whose start was missed is scored when it has finished, with what was known
at that moment, so that a condition has something to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import psycopg

from gateway import lines as work
from gateway.lines import Lines
from gateway.scoring import Models
from ml import history
from ml.predict import Predictor
from pipewright.events import Band, Phase, Prediction, Retry
from pipewright.runtime import logs
from pipewright.store import predictions
from pipewright.store.records import PredictionKind, Run, Scored

Forecasts = Mapping[PredictionKind, Scored]

log = logs.get(__name__)

_OPPOSITE: Mapping[str, Band] = {"low": "high", "medium": "medium", "high": "low", "unsure": "unsure"}


async def follow(
    conn: psycopg.AsyncConnection,
    row: Run,
    *,
    phase: Phase,
    predictor: Predictor | None,
    models: Models,
    now: datetime,
) -> Forecasts:
    """Do what a delivery about the run `row` in this `phase` asks for; all predictions of that attempt."""
    found = await predictions.find(
        conn, integration=row.integration, run_id=row.provider_id, attempt=row.attempt
    )
    made = dict(found)
    run, outcome = work.run_of(row), work.outcome_of(row) if phase == "finished" else None
    wanted = predictor is not None and "run" not in made and (phase == "finished" or row.phase != "finished")
    if not wanted and outcome is None:
        return made
    lines = await work.read(conn, run, lock=outcome is not None)
    if wanted and predictor is not None:
        scored = await _score("run", row, run, lines, predictor=predictor, models=models, now=now)
        made |= {"run": scored} if scored else {}
    if outcome is not None:
        lines = await work.insert(conn, run, lines, outcome)
        if outcome.failed and predictor is not None and "retry" not in made:
            again = history.next_attempt(run, at=outcome.finished_at)
            scored = await _score("retry", row, again, lines, predictor=predictor, models=models, now=now)
            made |= {"retry": scored} if scored else {}
    for kind, kept in made.items():
        if kind not in found:
            await predictions.record(conn, kept)
    return made


async def _score(
    kind: PredictionKind,
    row: Run,
    run: history.Run,
    lines: Lines,
    *,
    predictor: Predictor,
    models: Models,
    now: datetime,
) -> Scored | None:
    try:
        prediction = await models.score(predictor, run, lines, kind=kind)
    except Exception as error:  # noqa: BLE001 - a model that fails must not cost the delivery
        log.error("a run could not be scored", version=predictor.version, **logs.describe(error))
        return None
    return Scored(
        integration=row.integration,
        provider_id=row.provider_id,
        attempt=row.attempt,
        kind=kind,
        probability=prediction.probability,
        band=prediction.band,
        reasons=prediction.reasons,
        model_version=prediction.version,
        scored_at=now,
    )


def as_prediction(made: Forecasts) -> Prediction | None:
    """The predictions of an attempt as conditions see them; None when the run itself was not scored."""
    run, again = made.get("run"), made.get("retry")
    if run is None:
        return None
    return Prediction(
        probability=run.probability,
        band=_band(run.band),
        reasons=run.reasons,
        model=run.model_version,
        retry=Retry(probability=1 - again.probability, band=_OPPOSITE[again.band]) if again else None,
    )


def _band(text: str) -> Band:
    match text:
        case "low" | "medium" | "high":
            return text
        case _:
            return "unsure"
