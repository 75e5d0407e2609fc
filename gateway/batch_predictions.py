"""The route for predictions of many runs: one reading of their lines of work, one call of the model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from gateway import lines as work
from gateway import problems
from gateway.api import PROBLEMS, asked_of, pointer_of
from gateway.calls import Call, Name, may
from gateway.problems import Problem
from gateway.schemas import Body, ModelRef, PredictionBody, RunToScore

MOST = 100
"""Runs that may be asked about at once: what other calls of the process wait for stays short."""

rest = APIRouter(prefix="/v1/namespaces/{namespace}", responses=PROBLEMS, tags=["models"])


class RunsToScore(Body):
    """Several runs, each as it is known before it starts."""

    runs: Annotated[tuple[RunToScore, ...], Field(min_length=1, max_length=MOST)]


class PredictionsBody(Body):
    """Whether each of the runs will fail."""

    predictions: tuple[PredictionBody, ...] = Field(description="In the order in which they were asked for.")


@rest.post("/models/{name}/predictions/batch", summary="Ask whether each of several runs will fail")
async def predict_many(
    name: Name,
    batch: RunsToScore,
    call: Annotated[Call, Depends(may("create", "models", "predictions"))],
) -> PredictionsBody:
    """As one run, for up to a hundred: one version scores them all, by what is known at one moment."""
    pointer = pointer_of(call, name)
    if pointer.task != "RunFailure":
        raise Problem(
            409,
            "OtherTask",
            f"model {name} is of the task {pointer.task}: ask about one run at a time, at"
            f" /models/{name}/predictions",
        )
    predictor = await call.parts.models.get(pointer)
    if predictor is None:
        raise problems.unavailable("ModelNotLoaded", "the model's file could not be loaded yet", after=5)
    asked = [asked_of(call, run) for run in batch.runs]
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        kept = await work.read_many(conn, asked)
    found = await call.parts.models.score_many(predictor, asked, kept, kind="asked")
    model = ModelRef(name=name, version=predictor.version)
    return PredictionsBody(
        predictions=tuple(
            PredictionBody(probability=it.probability, band=it.band, reasons=it.reasons, model=model)
            for it in found
        )
    )
