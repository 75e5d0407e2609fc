"""The ASGI application: routes, problems instead of exceptions, probes, and the tasks behind the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from gateway import api, batch_predictions, deadletter_routes, details, doors, erasures, model_report, reports
from gateway.doors import Door, Doors
from gateway.metrics import CONTENT_TYPE
from gateway.observed import Observed
from gateway.parts import Parts
from gateway.problems import Problem
from pipewright import errors
from pipewright.runtime import logs

log = logs.get(__name__)

TITLE = "Pipewright gateway"
VERSION = "v1"
RESTART_SECONDS = 1.0
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI's own would record paths, query strings and the text of exceptions; ours is in `observed`."""


DOORS: Mapping[str, Door] = {api.HOOK: api.receive_delivery}
"""Routes that are asked too often for the framework."""


def create(parts: Parts, *, others: Mapping[str, Door] | None = None) -> FastAPI:
    """The application around these parts. Its lifespan runs the directory and the dispatcher.

    `others` are doors beside ours, for benchmarks.
    """
    app = FastAPI(
        title=TITLE,
        version=VERSION,
        description="Webhooks of CI systems in; predictions, decisions and history out.",
        docs_url=None,  # the page would load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        telemetry=_NO_TELEMETRY,
    )
    app.state.parts = parts
    app.state.tasks = {}
    app.include_router(api.hooks)
    app.include_router(api.rest)
    app.include_router(batch_predictions.rest)
    app.include_router(model_report.rest)
    app.include_router(reports.rest)
    app.include_router(details.rest)
    app.include_router(erasures.rest)
    app.include_router(deadletter_routes.rest)
    _add_probes(app)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    for ours in (errors.BackendError, errors.Waiting, errors.Stalled):
        app.add_exception_handler(ours, _trouble)
    app.add_middleware(Doors, doors={**DOORS, **(others or {})})
    app.add_middleware(
        Observed,
        metrics=parts.metrics,
        other_body=parts.limits.other_body,
        requests=parts.limits.requests,
    )
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    running: dict[str, Callable[[], Awaitable[None]]] = {
        "directory": parts.directory.run,
        "dispatcher": parts.dispatcher.run,
        "replayer": parts.replayer.run,
        "rollups": parts.rollups.run,
    }
    tasks = {name: asyncio.create_task(_forever(name, run), name=name) for name, run in running.items()}
    app.state.tasks = tasks
    try:
        yield
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await parts.models.close()
        await parts.connections.close()
        await parts.outbound.close()


async def _forever(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a task again when it ends by a mistake of ours: the requests need it."""
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the task is needed
            log.error("a task ended and is started again", task=name, **logs.describe(error))
        await asyncio.sleep(RESTART_SECONDS)


# --- problems ---------------------------------------------------------------------------------------------


async def _problem(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem.response()


async def _trouble(_request: Request, error: Exception) -> Response:
    return doors.trouble(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Where and what, never the value: a body may hold anything.
    wrong = [
        {"field": ".".join(map(str, each["loc"])), "problem": each["msg"]} for each in error.errors()[:10]
    ]
    detail = "; ".join(f"{each['field']}: {each['problem']}" for each in wrong[:3])
    return Problem(422, "Invalid", detail, errors=wrong).response()


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reasons = {404: "NotFound", 405: "MethodNotAllowed", 408: "Timeout", 413: "TooLarge"}
    problem = Problem(
        error.status_code,
        reasons.get(error.status_code, "BadRequest"),
        str(error.detail),
        headers=dict(error.headers or {}),
    )
    return problem.response()


# --- probes -----------------------------------------------------------------------------------------------


def _add_probes(app: FastAPI) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        """Whether this process works; its servers are not asked."""
        dead = {name: "the task has ended" for name, task in app.state.tasks.items() if task.done()}
        return _health(dead)

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        """Whether it may be sent requests: the directory was loaded once."""
        loaded = app.state.parts.directory.loaded
        return _health({} if loaded else {"directory": "not loaded yet"})

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        """Prometheus' exposition."""
        return Response(app.state.parts.metrics.render(), headers={"Content-Type": CONTENT_TYPE})


def _health(reasons: Mapping[str, str]) -> Response:
    if reasons:
        return JSONResponse({"status": "failing", "reasons": dict(reasons)}, 503)
    return JSONResponse({"status": "ok"})


def _openapi(app: FastAPI) -> dict[str, object]:
    """The generated description, with the one way to authenticate."""
    if app.openapi_schema is None:
        schema = get_openapi(title=TITLE, version=VERSION, description=app.description, routes=app.routes)
        schema.setdefault("components", {})["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of the cluster for our audience.",
            }
        }
        for path, operations in schema["paths"].items():
            if path.startswith("/v1/"):
                for operation in operations.values():
                    operation["security"] = [{"token": []}]
        app.openapi_schema = schema
    return app.openapi_schema
