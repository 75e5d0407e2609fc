"""Bitbucket Pipelines: REST API 2.0 with an access token, signed webhooks.

https://developer.atlassian.com/cloud/bitbucket/rest/api-group-pipelines/,
https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/
"""

from __future__ import annotations

import uuid

from aiohttp import web

from dev.systems import pages, proofs
from dev.systems.engine import LOG, Asked, Event, Sent, Simulator, System

_PIPELINES = r"/2\.0/repositories/acme/shop/pipelines"
_STEPS = _PIPELINES + r"/(?P<run>[^/]+)/steps"
_TOKEN = "ATCTT-simulated"  # noqa: S105
_STORAGE = "/storage/step.log"
_NEW = 61


def system() -> System:
    """Bitbucket."""
    return System(
        name="bitbucket",
        credentials={"token": _TOKEN},
        admits=proofs.has_header("authorization", f"Bearer {_TOKEN}"),
        refusal=lambda: _error(401, "Token is invalid, expired, or not supported for this endpoint."),
        sign=_sign,
        open=frozenset({_STORAGE}),
        routes=[
            ("GET", r"/2\.0/user", _user),
            ("GET", _PIPELINES, _pipelines),
            ("POST", _PIPELINES, _run),
            ("GET", _STEPS, _steps),
            ("GET", _STEPS + "/(?P<step>[^/]+)/log", _log),
            ("GET", _STORAGE, _storage),
            ("POST", _PIPELINES + r"/(?P<run>[^/]+)/stopPipeline", _stop),
        ],
    )


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"type": "error", "error": {"message": text}}, status=status)


def _sign(event: Event, secret: str) -> Sent:
    body = proofs.compact(event.body)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Bitbucket-Webhooks/2.0",
        "X-Attempt-Number": "1",
        "X-Event-Key": event.name,
        "X-Hub-Signature": f"sha256={proofs.hmac_hex(secret, body)}",
        "X-Request-UUID": str(uuid.uuid4()),
    }
    return Sent(headers=headers, body=body)


def _user(sim: Simulator, _: Asked) -> web.Response:
    scopes = ", ".join(sim.scopes or ["account", "repository", "pipeline:write"])
    return web.json_response({"nickname": "pipewright"}, headers={"X-OAuth-Scopes": scopes})


def _pipelines(sim: Simulator, asked: Asked) -> web.Response:
    recorded = sim.answers[asked.path]["values"]
    # A page of what runs just now comes before the rest.
    running = {**recorded[0], "state": {"name": "IN_PROGRESS"}, "completed_on": None}
    items = [running] * 100 + recorded
    page = pages.numbered(asked, items, size="pagelen", default=10)
    return web.json_response({"size": len(items), "values": page})


def _steps(sim: Simulator, asked: Asked) -> web.Response:
    page = pages.numbered(asked, sim.answers[asked.path]["values"], size="pagelen", default=10)
    return web.json_response({"values": page})


def _log(sim: Simulator, asked: Asked) -> web.Response:
    if asked.headers.get("accept") not in ("application/octet-stream", "*/*"):
        return _error(406, "Not acceptable")
    return web.Response(status=307, headers={"Location": f"{sim.url}{_STORAGE}?X-Amz-Signature=simulated"})


def _storage(_: Simulator, asked: Asked) -> web.Response:
    if "authorization" in asked.headers:
        return web.Response(status=400, text="<Error><Code>InvalidArgument</Code></Error>")
    return web.Response(text=LOG)


def _status(number: int) -> dict[str, object]:
    return {"commit_status__url": f"https://bitbucket.org/acme/shop/addon/pipelines/home#!/results/{number}"}


def _run(sim: Simulator, asked: Asked) -> web.Response:
    target = asked.body["target"]
    sim.done.append(f"run {target['ref_name']} {target['selector']['type']}")
    sim.happens("status-in-progress", **_status(_NEW))
    new = {"uuid": "{01fad871-cd21-4a80-bd59-74148dd5be61}", "build_number": _NEW}
    return web.json_response(new, status=201)


def _stop(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"stop {asked.at['run']}")
    sim.happens("status-stopped", **_status(int(asked.at["run"])))
    return web.Response(status=204)
