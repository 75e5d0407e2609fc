"""Buildkite: REST API v2 with an API access token, webhooks signed with time.

https://buildkite.com/docs/apis/rest-api/builds, https://buildkite.com/docs/apis/webhooks/pipelines
"""

from __future__ import annotations

import time
from datetime import datetime

from aiohttp import web

from dev.systems import pages, proofs
from dev.systems.engine import LOG, Asked, Event, Sent, Simulator, System

_BUILDS = "/v2/organizations/acme/pipelines/shop/builds"
_BUILD = _BUILDS + r"/(?P<number>\d+)"
_TOKEN = "bkua_simulated"  # noqa: S105
_NEW = "0199f3a2-0000-4000-8000-000000000099"
_ALL = ["read_builds", "write_builds", "read_build_logs"]


def system() -> System:
    """Buildkite."""
    return System(
        name="buildkite",
        credentials={"token": _TOKEN},
        admits=proofs.has_header("authorization", f"Bearer {_TOKEN}"),
        refusal=lambda: web.json_response({"message": "Authentication required"}, status=401),
        sign=_sign,
        busy={"RateLimit-Remaining": "0", "RateLimit-Reset": "7"},
        routes=[
            ("GET", "/v2/access-token", lambda sim, _: web.json_response({"scopes": sim.scopes or _ALL})),
            ("GET", _BUILDS, _builds),
            ("PUT", _BUILD + "/rebuild", _rebuild),
            ("PUT", _BUILD + "/cancel", _cancel),
            ("PUT", _BUILD + "/jobs/(?P<job>[0-9a-f-]+)/retry", _retry),
            ("GET", _BUILD + "/jobs/(?P<job>[0-9a-f-]+)/log", _log),
        ],
    )


def _sign(event: Event, secret: str) -> Sent:
    body, moment = proofs.compact(event.body), int(time.time())
    signed = proofs.hmac_hex(secret, f"{moment}.".encode() + body)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Buildkite-Request",
        "X-Buildkite-Event": event.name,
        "X-Buildkite-Signature": f"timestamp={moment},signature={signed}",
    }
    return Sent(headers=headers, body=body)


def _builds(sim: Simulator, asked: Asked) -> web.Response:
    since, until = (datetime.fromisoformat(asked.query[name]) for name in ("created_from", "created_to"))
    found = [
        item
        for item in sim.answers[asked.path]
        if since <= datetime.fromisoformat(item["created_at"]) < until
    ]
    return pages.linked(sim, asked, found)


def _told(number: int, state: str, id_: str = _NEW) -> web.Response:
    url = f"https://buildkite.com/acme/shop/builds/{number}"
    return web.json_response({"id": id_, "number": number, "state": state, "web_url": url})


def _rebuild(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"rebuild {asked.at['number']}")
    sim.happens("build-scheduled", build__id=_NEW, build__number=99)
    return _told(99, "scheduled")


def _cancel(sim: Simulator, asked: Asked) -> web.Response:
    number = int(asked.at["number"])
    sim.done.append(f"cancel {number}")
    sim.happens("build-cancelled", build__id=_NEW, build__number=number)
    return _told(number, "canceling")


def _retry(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"retry {asked.at['job']}")
    sim.happens("job-scheduled", job__id=_NEW)
    return _told(int(asked.at["number"]), "scheduled")


def _log(_: Simulator, asked: Asked) -> web.Response:
    if asked.headers.get("accept") == "text/plain":
        return web.Response(text=LOG)
    return web.json_response({"content": LOG, "size": len(LOG), "header_times": []})
