"""Drone: its REST API with a user's token, webhooks with an HTTP signature.

https://docs.drone.io/api/overview/, https://docs.drone.io/webhooks/overview/
"""

from __future__ import annotations

import base64
import hashlib
import time
from datetime import UTC, datetime
from email.utils import format_datetime

from aiohttp import web

from dev.systems import pages, proofs
from dev.systems.engine import LOG, Asked, Event, Sent, Simulator, System

_BUILDS = "/api/repos/acme/shop/builds"
_BUILD = _BUILDS + r"/(?P<number>\d+)"
_TOKEN = "simulated"  # noqa: S105
_NEW = 99


def system() -> System:
    """Drone."""
    return System(
        name="drone",
        credentials={"token": _TOKEN},
        admits=proofs.has_header("authorization", f"Bearer {_TOKEN}"),
        refusal=lambda: web.json_response({"message": "Unauthorized"}, status=401),
        sign=_sign,
        routes=[
            ("GET", "/api/user", lambda _sim, _asked: web.json_response({"login": "ada"})),
            ("GET", _BUILDS, _builds),
            ("POST", _BUILD, _restart),
            ("DELETE", _BUILD, _cancel),
            ("GET", _BUILD + r"/logs/(?P<stage>\d+)/(?P<step>\d+)", _log),
        ],
    )


def _sign(event: Event, secret: str) -> Sent:
    body = proofs.compact(event.body)
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    date = format_datetime(datetime.now(UTC), usegmt=True)
    signed = proofs.hmac_base64(secret, f"date: {date}\ndigest: SHA-256={digest}".encode())
    headers = {
        "Content-Type": "application/json",
        "X-Drone-Event": event.name,
        "Date": date,
        "Digest": f"SHA-256={digest}",
        "Signature": (f'keyId="hmac-key",algorithm="hmac-sha256",headers="date digest",signature="{signed}"'),
    }
    return Sent(headers=headers, body=body)


def _builds(sim: Simulator, asked: Asked) -> web.Response:
    recorded = sim.answers[asked.path]
    # The newest come first: a page of what runs just now.
    items = [
        {**recorded[0], "status": "running", "finished": 0, "created": int(time.time())}
    ] * 100 + recorded
    return web.json_response(pages.numbered(asked, items, size="per_page", default=25))


def _restart(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"restart {asked.at['number']}")
    sim.happens("build-created", build__id=7000 + _NEW, build__number=_NEW)
    return web.json_response({"id": 7000 + _NEW, "number": _NEW, "status": "pending"})


def _cancel(sim: Simulator, asked: Asked) -> web.Response:
    number = int(asked.at["number"])
    sim.done.append(f"cancel {number}")
    sim.happens("build-killed", build__id=7000 + number, build__number=number)
    return web.Response(status=204)


def _log(_: Simulator, __: Asked) -> web.Response:
    lines = LOG.splitlines(keepends=True)
    return web.json_response([{"pos": number, "out": line, "time": 0} for number, line in enumerate(lines)])
