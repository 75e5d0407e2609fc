"""The routes: what each may be asked by whom, and what it answers. Work is done in the rooms behind.

A caller is authorised for exactly the subresource that the route is; a namespace that is no tenant's is 404
only after that, so that nobody learns which names are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from gateway import cause_report, cursors, problems
from gateway import lines as work
from gateway.calls import Call, Name, may, parts_of, route_of
from gateway.cause_schemas import CauseBody, RecordedCause
from gateway.duration_schemas import DurationBody, RecordedDuration
from gateway.problems import Problem
from gateway.schemas import (
    ArtifactBody,
    DecisionBody,
    DeliveryAnswer,
    DeliveryBody,
    ImportedBody,
    ModelRef,
    Page,
    PredictionBody,
    ProblemBody,
    RecordedPrediction,
    RunToScore,
)
from ml import cause_features
from ml import history as ml_history
from ml.diagnosis import Judge
from ml.forecast import Forecaster
from pipewright.records import SEVERITIES, DetailType
from pipewright.store import artifacts, decisions, history, said
from pipewright.store.records import Artifact, Decision, Delivery, Forecast, ModelPointer, Scored

Limit = Annotated[int, Query(ge=1, le=200, description="How many items, at most.")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next` of the page before.")]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": ProblemBody, "description": words}
    for code, words in {
        401: "No valid token.",
        403: "Not allowed.",
        404: "Not there.",
        409: "The tenant is suspended; only reads are answered.",
        429: "Too many calls of this tenant are under way; Retry-After says when.",
        503: "Not now; Retry-After says when.",
    }.items()
}


HOOK = "/hooks/{hook_id}"

hooks = APIRouter(tags=["hooks"])
rest = APIRouter(prefix="/v1/namespaces/{namespace}", responses=PROBLEMS)


# --- hooks ------------------------------------------------------------------------------------------------


@hooks.post(
    HOOK,
    status_code=202,
    responses={
        200: {"model": DeliveryAnswer, "description": "Taken before; nothing changed."},
        202: {"model": DeliveryAnswer, "description": "Durable, or nothing in it to keep."},
        401: {"model": ProblemBody, "description": "Not signed, or wrongly."},
        404: {"model": ProblemBody, "description": "No such webhook."},
        413: {"model": ProblemBody, "description": "Too big."},
        429: {
            "model": ProblemBody,
            "description": "Too many of this tenant are under way; Retry-After says when.",
        },
        422: {"model": ProblemBody, "description": "Not understood, and no room to keep it."},
        503: {"model": ProblemBody, "description": "Deliver again later."},
    },
    summary="Take a provider's delivery",
)
async def receive_delivery(
    hook_id: Annotated[str, Path(description="The opaque id of an Integration's webhook.")], request: Request
) -> Response:
    """Verified by its signature over the raw body, stored durably, then answered; again, it is 200."""
    answer = await parts_of(request).hooks.receive(hook_id, request)
    return Response(orjson.dumps(answer.body), answer.status, media_type="application/json")


# --- models -----------------------------------------------------------------------------------------------


@rest.post("/models/{name}/predictions", tags=["models"], summary="Ask how a run ends, or how long it takes")
async def predict(
    name: Name,
    run: RunToScore,
    call: Annotated[Call, Depends(may("create", "models", "predictions"))],
) -> PredictionBody | DurationBody | CauseBody:
    """By the model's task. Said by the active version and what is known of the run's lines now; not kept."""
    pointer = pointer_of(call, name)
    model = await call.parts.models.find(pointer)
    if model is None:
        raise problems.unavailable("ModelNotLoaded", "the model's file could not be loaded yet", after=5)
    asked = asked_of(call, run)
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        lines = await work.read(conn, asked)
    if isinstance(model, Judge):
        failure = cause_features.failure(asked, lines, run.failed_jobs, log=run.log)
        found = await call.parts.models.diagnose(model, failure)
        return cause_report.cause_of(found, model=name)
    if isinstance(model, Forecaster):
        forecast = await call.parts.models.forecast(model, asked, lines)
        if forecast is None:
            raise Problem(
                409,
                "NothingKnown",
                "no run of this pipeline, its project or its Integration is known that took a known time:"
                " import the history, or wait for the first runs",
            )
        return DurationBody(
            p50=forecast.p50,
            p90=forecast.p90,
            p95=forecast.p95,
            reasons=forecast.reasons,
            model=ModelRef(name=name, version=forecast.version),
        )
    scored = await call.parts.models.score(model, asked, lines, kind="asked")
    return PredictionBody(
        probability=scored.probability,
        band=scored.band,
        reasons=scored.reasons,
        model=ModelRef(name=name, version=scored.version),
    )


@rest.get("/models/{name}/predictions", tags=["models"], summary="List recent predictions")
async def list_predictions(
    name: Name,
    call: Annotated[Call, Depends(may("get", "models", "predictions"))],
    run: Annotated[str | None, Query(max_length=64, description="Only of this run of the provider.")] = None,
    limit: Limit = 50,
) -> Page[RecordedPrediction] | Page[RecordedDuration] | Page[RecordedCause]:
    """The newest predictions that versions of the model made for the namespace's Integrations."""
    pointer = pointer_of(call, name)
    integrations = integrations_of(call)
    wanted: dict[str, Any] = {
        "integrations": list(integrations),
        "versions": [pointer.version, pointer.artifact_sha256[:12]],
        "model_uid": pointer.model_uid,
        "run": run,
        "limit": limit,
    }
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        if pointer.task == "Duration":
            made = await said.FORECASTS.recent(conn, **wanted)
            forecasts = tuple(_duration(each, model=name, integrations=integrations) for each in made)
            return Page[RecordedDuration](items=forecasts, next=None)
        if pointer.task == "FailureCause":
            judged = await said.CAUSES.recent(conn, **wanted)
            told = tuple(cause_report.recorded(it, model=name, integrations=integrations) for it in judged)
            return Page[RecordedCause](items=told, next=None)
        found = await said.PREDICTIONS.recent(conn, **wanted)
    items = tuple(
        _prediction(scored, model=name, integration=integrations[scored.integration]) for scored in found
    )
    return Page[RecordedPrediction](items=items, next=None)


def integrations_of(call: Call) -> Mapping[str, str]:
    """The Integrations of the namespace: UID → name."""
    routes = call.view.integrations.get(call.place, {}).values()
    return {route.integration_uid: route.integration for route in routes}


def asked_of(call: Call, run: RunToScore) -> ml_history.Run:
    """The run as the model judges it: one that starts now.

    Raises:
        Problem: 404 or 422, its Integration is not there or not clear.
    """
    return ml_history.Run(
        integration=_integration_of(call, run.integration),
        project=run.project,
        pipeline=run.pipeline,
        event=run.trigger,
        branch=run.branch,
        actor=run.actor,
        sha=run.sha,
        run_id=run.run,
        attempt=run.attempt,
        started_at=call.parts.clock.now().timestamp(),
    )


def _integration_of(call: Call, name: str) -> str:
    """The UID of the Integration whose history counts: the named one, or the only one."""
    if name:
        return route_of(call, name).integration_uid
    known = call.view.integrations.get(call.place, {})
    if len(known) > 1:
        raise Problem(422, "Invalid", f"integration: name one of {', '.join(sorted(known))}")
    return next((route.integration_uid for route in known.values()), "")


def pointer_of(call: Call, name: str) -> ModelPointer:
    """The model's active version; 404 where it has none."""
    pointer = call.view.models.get(call.place, {}).get(name)
    if pointer is None:
        raise Problem(
            404,
            "NoActiveVersion",
            f"there is no model {name} with an active version in the namespace {call.namespace};"
            f" see `kubectl -n {call.namespace} get model {name}`",
        )
    return pointer


def _prediction(scored: Scored, *, model: str, integration: str) -> RecordedPrediction:
    return RecordedPrediction(
        integration=integration,
        run=scored.provider_id,
        attempt=scored.attempt,
        kind=scored.kind,
        probability=scored.probability,
        band=scored.band,
        reasons=scored.reasons,
        model=ModelRef(name=model, version=scored.model_version),
        scored_at=scored.scored_at,
    )


def _duration(made: Forecast, *, model: str, integrations: Mapping[str, str]) -> RecordedDuration:
    return RecordedDuration(
        integration=integrations[made.integration],
        run=made.provider_id,
        attempt=made.attempt,
        p50=made.p50,
        p90=made.p90,
        p95=made.p95,
        reasons=made.reasons,
        model=ModelRef(name=model, version=made.model_version),
        made_at=made.made_at,
    )


# --- workflows --------------------------------------------------------------------------------------------


@rest.get("/workflows/{name}/decisions", tags=["workflows"], summary="List why a workflow fired or did not")
async def list_decisions(
    name: Name,
    call: Annotated[Call, Depends(may("get", "workflows", "decisions"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DecisionBody]:
    """The workflow's decisions on events, newest first."""
    before = cursors.number(cursor) if cursor else None
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        found = await decisions.page(
            conn, namespace=call.namespace, workflow=name, limit=limit + 1, before=before
        )
    more = len(found) > limit
    return Page(
        items=tuple(_decision(decision) for decision in found[:limit]),
        next=str(found[limit - 1].id) if more else None,
    )


def _decision(decision: Decision) -> DecisionBody:
    return DecisionBody(
        fired=decision.fired,
        reason=decision.reason,
        event=dict(decision.event),
        prediction=dict(decision.prediction) if decision.prediction is not None else None,
        revision=decision.revision,
        workflow_run=decision.run_name,
        decided_at=decision.decided_at,
    )


# --- integrations -----------------------------------------------------------------------------------------


@rest.get("/integrations/{name}/deliveries", tags=["integrations"], summary="List webhook deliveries")
async def list_deliveries(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "deliveries"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DeliveryBody]:
    """The deliveries that were taken for the Integration, newest first, and why some were not kept."""
    route = route_of(call, name)
    after = cursors.decode(cursor) if cursor else None
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        found = await history.deliveries(
            conn, integration=route.integration_uid, limit=limit + 1, after=after
        )
    items = tuple(_delivery(delivery) for delivery in found[:limit])
    return Page(items=items, next=cursors.encode(found[limit - 1]) if len(found) > limit else None)


def _delivery(delivery: Delivery) -> DeliveryBody:
    return DeliveryBody(
        id=delivery.delivery_id,
        event=delivery.event,
        received_at=delivery.received_at,
        outcome=delivery.outcome,
        reason=delivery.reason,
    )


@rest.get("/integrations/{name}/artifacts", tags=["integrations"], summary="List artifacts of a registry")
async def list_artifacts(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "artifacts"))],
    repository: Annotated[str | None, Query(max_length=255, description="Only of this repository.")] = None,
    event: Annotated[
        Literal["published", "deleted", "scanned"] | None, Query(description="Only this change.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ArtifactBody]:
    """What the registry told of its artifacts: pushes, deletions and scans, last told first."""
    route = route_of(call, name)
    before = cursors.number(cursor) if cursor else None
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        found = await artifacts.page(
            conn,
            integration=route.integration_uid,
            repository=repository,
            event=event,
            limit=limit + 1,
            before=before,
        )
    more = len(found) > limit
    items = tuple(_artifact(artifact) for artifact in found[:limit])
    return Page(items=items, next=str(found[limit - 1].id) if more else None)


def _artifact(artifact: Artifact) -> ArtifactBody:
    counts = {name: getattr(artifact, name) for name in SEVERITIES} if artifact.event == "scanned" else {}
    return ArtifactBody.model_validate(
        {
            "event": artifact.event,
            "project": artifact.project,
            "repository": artifact.repository,
            "tag": artifact.tag,
            "digest": artifact.digest,
            "media_type": artifact.media_type,
            "actor": artifact.actor,
            "at": artifact.at,
            "outcome": artifact.outcome,
            "vulnerabilities": counts,
            "url": artifact.url,
            "delivery": artifact.delivery_id,
        }
    )


@rest.post(
    "/integrations/{name}/history",
    tags=["integrations"],
    summary="Import runs, jobs and what belongs to them",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
            "description": "A record on each line, as docs/integration.md describes them.",
        }
    },
)
async def import_history(
    name: Name,
    request: Request,
    call: Annotated[Call, Depends(may("create", "integrations", "history", lane=False))],
    _idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            max_length=255,
            description="Accepted and not needed: records are keyed by the provider's ids, so the same "
            "body again changes nothing.",
        ),
    ] = None,
) -> ImportedBody:
    """All lines are checked first: the first that is wrong is named, and then nothing was written.

    They are stored part by part. Where a server fails midway, `stored` in the problem is the number of the
    line up to which they are. The same body again completes it: what is stored already does not change.
    """
    imported = await call.parts.imports.receive(route_of(call, name), request)
    counts = {f"{kind}s": imported.records.get(kind, 0) for kind in ("run", "job", *get_args(DetailType))}
    return ImportedBody(**counts, passed_over=imported.passed_over, lines=imported.lines)
