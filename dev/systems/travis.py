"""Travis CI: API v3 with a user's token, webhooks in a form that its own key signs.

https://developer.travis-ci.com/, https://docs.travis-ci.com/user/notifications/#verifying-webhook-requests
"""

from __future__ import annotations

import base64
from urllib.parse import urlencode

from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization

from dev.systems import proofs
from dev.systems.engine import Asked, Event, Sent, Simulator, System, log_text

_BUILD = r"/build/(?P<run>\d+)"
_JOB = r"/job/(?P<job>\d+)"
_TOKEN = "simulated"  # noqa: S105
_LATER = "2026-02-01T00:00:00Z"


def system() -> System:
    """Travis CI."""
    return System(
        name="travis",
        credentials={"token": _TOKEN},
        admits=proofs.has_header("authorization", f"token {_TOKEN}"),
        refusal=lambda: web.json_response(
            {"@type": "error", "error_type": "login_required", "error_message": "login required"}, status=403
        ),
        sign=_sign,
        open=frozenset({"/config"}),
        routes=[
            ("GET", "/config", _config),
            ("GET", "/user", lambda _sim, _asked: web.json_response({"@type": "user", "login": "ada"})),
            ("GET", "/repo/acme%2Fshop/builds", _builds),
            ("POST", _BUILD + "/restart", _restart),
            ("POST", _BUILD + "/cancel", _cancel),
            ("POST", _JOB + "/restart", _restart_job),
            ("GET", _JOB + r"/log\.txt", log_text),
        ],
    )


def _sign(event: Event, secret: str) -> Sent:
    """Nothing is shared with Travis CI: another secret stands for another key than its own."""
    payload = proofs.compact(event.body)
    # Travis CI has nothing better than SHA-1.
    signed = proofs.rsa_signature(secret, payload, hashes.SHA1())  # noqa: S303
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Signature": base64.b64encode(signed).decode(),
        "Travis-Repo-Slug": "acme/shop",
    }
    return Sent(headers=headers, body=urlencode({"payload": payload.decode()}).encode())


def _config(sim: Simulator, _: Asked) -> web.Response:
    secret = sim.entered[1]
    pem = (
        proofs.key(secret)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return web.json_response({"config": {"notifications": {"webhook": {"public_key": pem.decode()}}}})


def _builds(sim: Simulator, asked: Asked) -> web.Response:
    recorded = sim.answers[asked.path]["builds"]
    # The newest come first: a page of those that are too new.
    items = [{**recorded[0], "finished_at": _LATER, "jobs": []}] * 25 + recorded
    offset, limit = (int(asked.query[name]) for name in ("offset", "limit"))
    wanted = asked.query["state"].split(",")
    found = [item for item in items if item["state"] in wanted]
    return web.json_response({"@type": "builds", "builds": found[offset : offset + limit]})


def _pending() -> web.Response:
    return web.json_response({"@type": "pending", "state_change": "restart"}, status=202)


def _restart(sim: Simulator, asked: Asked) -> web.Response:
    run = int(asked.at["run"])
    sim.done.append(f"restart {run}")
    sim.happens("build-started", id=run)
    sim.happens("build-passed", id=run)
    return _pending()


def _cancel(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"cancel {asked.at['run']}")
    sim.happens("build-cancelled", id=int(asked.at["run"]))
    return _pending()


def _restart_job(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"restart job {asked.at['job']}")
    sim.happens("build-started", started_at="2026-05-04T10:00:00Z")
    return _pending()
