"""CircleCI: API v2 with a personal token, signed outbound webhooks.

https://circleci.com/docs/api/v2/, https://circleci.com/docs/outbound-webhooks/
"""

from __future__ import annotations

import uuid

from aiohttp import web

from dev.systems import pages, proofs
from dev.systems.engine import Asked, Event, Sent, Simulator, System

_WORKFLOW = "/api/v2/workflow/(?P<run>[0-9a-f-]{36})"
_TOKEN = "CCIPAT-simulated"  # noqa: S105
_NEW = "22222222-0000-4000-8000-000000000009"


def system() -> System:
    """CircleCI."""
    return System(
        name="circleci",
        credentials={"token": _TOKEN},
        admits=proofs.has_header("circle-token", _TOKEN),
        refusal=lambda: web.json_response({"message": "You must log in first."}, status=401),
        sign=_sign,
        routes=[
            ("GET", "/api/v2/me", lambda _sim, _asked: web.json_response({"login": "pipewright"})),
            ("GET", "/api/v2/(project/.+/pipeline|pipeline/[^/]+/workflow|workflow/[^/]+/job)", _list),
            ("POST", _WORKFLOW + "/rerun", _rerun),
            ("POST", _WORKFLOW + "/cancel", _cancel),
        ],
    )


def _sign(event: Event, secret: str) -> Sent:
    body = proofs.compact(event.body)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "CircleCI-Webhook/1.0",
        "circleci-event-type": event.name,
        "circleci-signature": f"v1={proofs.hmac_hex(secret, body)}",
    }
    return Sent(headers=headers, body=body)


def _list(sim: Simulator, asked: Asked) -> web.Response:
    items = sim.answers.get(asked.path, {}).get("items")
    if items is None:
        return web.json_response({"message": "Not found"}, status=404)
    page, token = pages.after_token(sim, items, asked.query.get("page-token", ""))
    return web.json_response({"items": page, "next_page_token": token})


def _rerun(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"rerun {asked.at['run']} {'from failed' if asked.body['from_failed'] else 'whole'}")
    sim.happens("workflow-success", id=str(uuid.uuid4()), workflow__id=_NEW)
    return web.json_response({"workflow_id": _NEW}, status=202)


def _cancel(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"cancel {asked.at['run']}")
    sim.happens("workflow-canceled", id=str(uuid.uuid4()), workflow__id=asked.at["run"])
    return web.json_response({"message": "Accepted."}, status=202)
