"""What the model says of a run, at the two moments when it is asked: the run starts, and an attempt failed.

    first seen queued or started ──► `run`: will this attempt fail?
                                 └─► how long will it take?
    finished with a failure      ──► why?
                                 └─► its lines get the outcome, then `retry`: would another attempt fail?

A prediction is kept as it was made first, so a run is judged by what was known when it was queued
(`ml.history.Run.judged_at`). One whose start was missed is scored when it has finished, with what was known
at that moment, so that a condition has something to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from gateway import lines as work
from gateway.lines import Held
from gateway.scoring import Models
from ml import cause_features, history
from ml.diagnosis import Judge
from ml.forecast import Forecaster
from ml.predict import Predictor
from pipewright.events import (
    Band,
    CauseKind,
    DurationForecast,
    FailureCause,
    Phase,
    Prediction,
    Retry,
)
from pipewright.runtime import logs
from pipewright.store import said
from pipewright.store.records import Attempt, Forecast, Judged, PredictionKind, Run, Scored

Forecasts = Mapping[PredictionKind, Scored]

log = logs.get(__name__)

_OPPOSITE: Mapping[str, Band] = {"low": "high", "medium": "medium", "high": "low", "unsure": "unsure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A run that a delivery told of, its merged row, and what of it may be asked of a model."""

    row: Run
    phase: Phase
    predictor: Predictor | None
    forecaster: Forecaster | None = None
    judge: Judge | None = None

    @property
    def outcome(self) -> history.Outcome | None:
        """What its lines of work get."""
        return work.outcome_of(self.row) if self.phase == "finished" else None

    def wants(self, made: Forecasts) -> bool:
        """Whether the attempt is to be scored."""
        return self.predictor is not None and "run" not in made and self._open

    def wants_duration(self, made: Mapping[Attempt, Forecast]) -> bool:
        """Whether its duration is to be forecast."""
        return self.forecaster is not None and self.row.key not in made and self._open

    def wants_cause(self, made: Mapping[Attempt, Judged]) -> bool:
        """Whether it is to be judged why it failed."""
        failed = self.outcome is not None and self.outcome.failed
        return self.judge is not None and self.row.key not in made and failed

    @property
    def _open(self) -> bool:
        """Not what comes late of a run that has ended since."""
        return self.phase == "finished" or self.row.phase != "finished"


@dataclass(slots=True)
class Book:
    """The predictions and lines of work of several runs: read once, gone on with run by run, written once."""

    made: dict[Attempt, dict[PredictionKind, Scored]]
    lines: Held
    durations: dict[Attempt, Forecast] = field(default_factory=dict)
    causes: dict[Attempt, Judged] = field(default_factory=dict)
    new: list[Scored] = field(default_factory=list)
    new_durations: list[Forecast] = field(default_factory=list)
    new_causes: list[Judged] = field(default_factory=list)

    def of(self, attempt: Attempt) -> Forecasts:
        """The predictions of an attempt."""
        return self.made.get(attempt, {})

    def duration_of(self, attempt: Attempt) -> Forecast | None:
        """How long the attempt was said to take."""
        return self.durations.get(attempt)

    def cause_of(self, attempt: Attempt) -> Judged | None:
        """Why the attempt was said to have failed."""
        return self.causes.get(attempt)

    async def follow(self, told: Told, *, models: Models, now: datetime) -> None:
        """Do what a delivery about this run asks for."""
        made = self.made.setdefault(told.row.key, {})
        run, outcome = work.run_of(told.row), told.outcome
        if told.wants(made):
            await self._score("run", told, run, models=models, now=now)
        if told.wants_duration(self.durations):
            await self._forecast(told, run, models=models, now=now)
        if told.wants_cause(self.causes):
            await self._judge(told, run, models=models, now=now)
        if outcome is None:
            return
        self.lines.insert(run, outcome)
        if outcome.failed and told.predictor is not None and "retry" not in made:
            again = history.next_attempt(run, at=outcome.finished_at)
            await self._score("retry", told, again, models=models, now=now)

    async def write(self, conn: psycopg.AsyncConnection) -> None:
        """Keep what is new."""
        await self.lines.write(conn)
        await said.PREDICTIONS.record(conn, self.new)
        await said.FORECASTS.record(conn, self.new_durations)
        await said.CAUSES.record(conn, self.new_causes)

    async def _forecast(self, told: Told, run: history.Run, *, models: Models, now: datetime) -> None:
        assert told.forecaster is not None, "somebody is asked"
        row, forecaster = told.row, told.forecaster
        try:
            found = await models.forecast(forecaster, run, self.lines.of(run))
        except Exception as error:  # noqa: BLE001 - a model that fails must not cost the delivery
            log.error("a duration could not be forecast", version=forecaster.version, **logs.describe(error))
            return
        if found is None:
            return
        made = Forecast(
            integration=row.integration,
            provider_id=row.provider_id,
            attempt=row.attempt,
            p50=found.p50,
            p90=found.p90,
            p95=found.p95,
            reasons=found.reasons,
            model_version=found.version,
            made_at=now,
        )
        self.durations[row.key] = made
        self.new_durations.append(made)

    async def _judge(self, told: Told, run: history.Run, *, models: Models, now: datetime) -> None:
        assert told.judge is not None, "somebody is asked"
        row, judge = told.row, told.judge
        failure = cause_features.failure(run, self.lines.of(run), row.failed_jobs)
        try:
            found = await models.diagnose(judge, failure)
        except Exception as error:  # noqa: BLE001 - a model that fails must not cost the delivery
            log.error("a failure could not be judged", version=judge.version, **logs.describe(error))
            return
        made = Judged(
            integration=row.integration,
            provider_id=row.provider_id,
            attempt=row.attempt,
            kind=found.kind,
            category=found.category or "",
            owner=found.owner or "",
            recipe=found.recipe or "",
            transient=found.transient,
            reasons=found.reasons,
            model_version=found.version,
            made_at=now,
        )
        self.causes[row.key] = made
        self.new_causes.append(made)

    async def _score(
        self, kind: PredictionKind, told: Told, run: history.Run, *, models: Models, now: datetime
    ) -> None:
        assert told.predictor is not None, "somebody is asked"
        row, predictor = told.row, told.predictor
        try:
            prediction = await models.score(predictor, run, self.lines.of(run), kind=kind)
        except Exception as error:  # noqa: BLE001 - a model that fails must not cost the delivery
            log.error("a run could not be scored", version=predictor.version, **logs.describe(error))
            return
        scored = Scored(
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
        self.made[row.key][kind] = scored
        self.new.append(scored)


async def open_book(
    conn: psycopg.AsyncConnection,
    told: Sequence[Told],
    *,
    asked: Iterable[Attempt] = (),
    timed: Iterable[Attempt] = (),
    judged: Iterable[Attempt] = (),
) -> Book:
    """What is known of these runs, for each to be followed; and the predictions of the attempts `asked`.

    `timed`: those of which the forecasts of durations are asked, `judged`: the causes.
    """
    attempts = {each.row.key for each in told if each.predictor is not None} | set(asked)
    made: dict[Attempt, dict[PredictionKind, Scored]] = {}
    for scored in await said.PREDICTIONS.find(conn, attempts):
        made.setdefault(scored.key, {})[scored.kind] = scored
    forecast = {each.row.key for each in told if each.forecaster is not None} | set(timed)
    known = {each.key: each for each in await said.FORECASTS.find(conn, forecast)}
    broken = {each.row.key for each in told if each.judge is not None} | set(judged)
    why = {each.key: each for each in await said.CAUSES.find(conn, broken)}
    written = [work.run_of(each.row) for each in told if each.outcome is not None]
    read = [
        work.run_of(each.row)
        for each in told
        if each.outcome is None and (each.wants(made.get(each.row.key, {})) or each.wants_duration(known))
    ]
    return Book(made, await work.hold(conn, written=written, read=read), known, why)


def as_prediction(
    made: Forecasts, duration: Forecast | None = None, cause: Judged | None = None
) -> Prediction | None:
    """The predictions of an attempt as conditions see them; None when there is none."""
    run, again = made.get("run"), made.get("retry")
    lasts = _as_duration(duration) if duration is not None else None
    why = _as_cause(cause) if cause is not None else None
    if run is None:
        return Prediction(duration=lasts, cause=why) if lasts is not None or why is not None else None
    return Prediction(
        probability=run.probability,
        band=_band(run.band),
        reasons=run.reasons,
        model=run.model_version,
        retry=Retry(probability=1 - again.probability, band=_OPPOSITE[again.band]) if again else None,
        duration=lasts,
        cause=why,
    )


def _as_duration(made: Forecast) -> DurationForecast:
    return DurationForecast(
        p50=made.p50, p90=made.p90, p95=made.p95, reasons=made.reasons, model=made.model_version
    )


def _as_cause(made: Judged) -> FailureCause:
    return FailureCause(
        kind=_kind(made.kind),
        category=made.category or None,
        owner=made.owner or None,
        recipe=made.recipe or None,
        transient=made.transient,
        reasons=made.reasons,
        model=made.model_version,
    )


def _kind(text: str) -> CauseKind:
    match text:
        case "infra" | "flaky" | "code" | "config":
            return text
        case _:
            return "unsure"


def _band(text: str) -> Band:
    match text:
        case "low" | "medium" | "high":
            return text
        case _:
            return "unsure"
