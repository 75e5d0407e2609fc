"""Azure Pipelines: builds by the REST API 7.1 with a personal access token, service hooks by basic auth.

https://learn.microsoft.com/rest/api/azure/devops/build/, https://learn.microsoft.com/azure/devops/service-hooks/
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from dev.systems import pages, proofs
from dev.systems.engine import LOG, Asked, Event, Sent, Simulator, System

_PROJECT = r"/acme/(?P<project>[0-9a-f-]{36})"
_BUILDS = _PROJECT + "/_apis/build/builds"
_BUILD = _BUILDS + r"/(?P<run>\d+)"
_TESTS = _PROJECT + "/_apis/test"
_TOKEN = "simulated-pat"  # noqa: S105
_NEW = 950


def system() -> System:
    """Azure Pipelines."""
    return System(
        name="azure-pipelines",
        credentials={"token": _TOKEN},
        admits=proofs.has_header("authorization", proofs.basic("", _TOKEN)),
        refusal=_refusal,
        sign=_sign,
        routes=[
            (
                "GET",
                "/acme/_apis/projects",
                lambda _sim, _asked: web.json_response({"count": 0, "value": []}),
            ),
            ("GET", _BUILDS, _builds),
            ("GET", _BUILD + "/timeline", _timeline),
            ("GET", _BUILD + r"/logs/(?P<log>\d+)", _log),
            ("GET", _TESTS + "/runs", _test_runs),
            ("GET", _TESTS + r"/Runs/\d+/results", _test_results),
            ("PATCH", _BUILD, _cancel),
            ("PATCH", _BUILD + "/stages/(?P<stage>[A-Za-z0-9_]+)", _retry),
            ("POST", _PROJECT + r"/_apis/pipelines/(?P<pipeline>\d+)/runs", _run),
        ],
    )


def _refusal() -> web.Response:
    # Without X-TFS-FedAuthRedirect it would be a redirect to the page to sign in at.
    return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="https://dev.azure.com/"'})


def _sign(event: Event, secret: str) -> Sent:
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "VSServices/19.225",
        "Authorization": proofs.basic("pipewright", secret),
    }
    return Sent(headers=headers, body=proofs.compact(event.body))


def _builds(sim: Simulator, asked: Asked) -> web.Response:
    since, until = (datetime.fromisoformat(asked.query[name]) for name in ("minTime", "maxTime"))
    found = [
        item
        for item in sim.answers[asked.path]["value"]
        if since <= datetime.fromisoformat(item["finishTime"]) <= until
    ]
    page, token = pages.after_token(sim, found, asked.query.get("continuationToken", ""))
    headers = {"x-ms-continuationtoken": token} if token else {}
    return web.json_response({"count": len(page), "value": page}, headers=headers)


def _timeline(sim: Simulator, asked: Asked) -> web.Response:
    records = sim.answers[asked.path].get("records", [])
    logged = [{**record, "log": {"id": number}} for number, record in enumerate(records, 1)]
    return web.json_response({"records": logged} if logged else {})


def _log(_: Simulator, asked: Asked) -> web.Response:
    if asked.headers.get("accept") != "text/plain":
        return web.json_response({"count": 1, "value": LOG.splitlines()})
    return web.Response(text=f"log {asked.at['log']}\n{LOG}")


def _test_runs(sim: Simulator, asked: Asked) -> web.Response:
    """The sample has the answers by the build that is asked for."""
    wanted = f"{asked.path}?{urlencode({'buildUri': asked.query['buildUri']})}&"
    found = (answer["value"] for place, answer in sim.answers.items() if place.startswith(wanted))
    return _portion(asked, next(found, []))


def _test_results(sim: Simulator, asked: Asked) -> web.Response:
    return _portion(asked, sim.answers[asked.path]["value"])


def _portion(asked: Asked, items: list[Any]) -> web.Response:
    skip, top = int(asked.query["$skip"]), int(asked.query["$top"])
    page = items[skip : skip + top]
    return web.json_response({"count": len(page), "value": page})


def _happens(sim: Simulator, sample: str, **changes: object) -> None:
    sim.happens(sample, id=str(uuid.uuid4()), **changes)


def _cancel(sim: Simulator, asked: Asked) -> web.Response:
    run, wanted = int(asked.at["run"]), asked.body.get("status")
    if wanted != "cancelling":
        return web.json_response({"message": f"The status {wanted} cannot be set."}, status=400)
    sim.done.append(f"cancel {run}")
    _happens(sim, "build-canceled-while-it-waited", resource__id=run)
    return web.json_response({"id": run, "status": "cancelling"})


def _retry(sim: Simulator, asked: Asked) -> web.Response:
    run = int(asked.at["run"])
    sim.done.append(f"{asked.body['state']} {run} {asked.at['stage']}")
    _happens(sim, "run-in-progress", resource__run__id=run)
    _happens(sim, "build-succeeded", resource__id=run)
    return web.Response(status=204)


def _run(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"run {asked.at['pipeline']}")
    _happens(sim, "run-in-progress", resource__run__id=_NEW)
    web_url = f"https://dev.azure.com/acme/_build/results?buildId={_NEW}"
    return web.json_response({"id": _NEW, "state": "inProgress", "_links": {"web": {"href": web_url}}})
