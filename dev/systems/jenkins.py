"""Jenkins: its remote access API with an API token, and the Notification plugin.

https://www.jenkins.io/doc/book/using/remote-access-api/, https://plugins.jenkins.io/notification/
"""

from __future__ import annotations

from aiohttp import web

from dev.systems import proofs
from dev.systems.engine import Asked, Event, Sent, Simulator, System, log_text

_JOB = r"/job/(?P<job>.+)"
_BUILD = _JOB + r"/(?P<number>\d+)"
_USER, _TOKEN = "pipewright", "11simulated"


def system() -> System:
    """Jenkins."""
    return System(
        name="jenkins",
        credentials={"username": _USER, "token": _TOKEN},
        admits=proofs.has_header("authorization", proofs.basic(_USER, _TOKEN)),
        refusal=lambda: web.Response(
            status=401, text="<html>", headers={"WWW-Authenticate": 'Basic realm="Jenkins"'}
        ),
        sign=_sign,
        routes=[
            ("GET", "/me/api/json", lambda _sim, _asked: web.json_response({"id": _USER})),
            ("POST", _JOB + "/build(WithParameters)?", _build),
            ("POST", _BUILD + "/stop", _stop),
            ("GET", _BUILD + "/consoleText", log_text),
        ],
    )


def _sign(event: Event, secret: str) -> Sent:
    # The plugin sends what the endpoint's address has as user name and password.
    headers = {"Content-Type": "application/json", "Authorization": proofs.basic("pipewright", secret)}
    return Sent(headers=headers, body=proofs.compact(event.body))


def _build(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"build {asked.at['job']}")
    sim.happens("started", build__number=32, build__url="job/team/job/shop/32/")
    return web.Response(status=201, headers={"Location": f"{sim.url}/queue/item/190/"})


def _stop(sim: Simulator, asked: Asked) -> web.Response:
    number = int(asked.at["number"])
    sim.done.append(f"stop {number}")
    changes = {"build__number": number, "build__url": f"job/team/job/shop/{number}/"}
    sim.happens("completed-success", build__status="ABORTED", **changes)
    return web.Response(status=302, headers={"Location": "."})
