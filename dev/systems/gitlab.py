"""GitLab: pipelines and jobs by the REST API v4, webhooks with a secret token.

https://docs.gitlab.com/api/pipelines/, https://docs.gitlab.com/user/project/integrations/webhooks/
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from aiohttp import web

from dev.systems import pages, proofs
from dev.systems.engine import Asked, Event, Sent, Simulator, System, log_text

_PROJECT = r"/api/v4/projects/(?P<project>[^/]+)"
_PIPELINE = _PROJECT + r"/pipelines/(?P<run>\d+)"
_TOKEN = "glpat-simulated"  # noqa: S105


def system() -> System:
    """GitLab."""
    return System(
        name="gitlab",
        credentials={"token": _TOKEN},
        admits=proofs.has_header("authorization", f"Bearer {_TOKEN}"),
        refusal=lambda: web.json_response({"message": "401 Unauthorized"}, status=401),
        sign=_sign,
        routes=[
            ("GET", "/api/v4/personal_access_tokens/self", _self),
            ("GET", _PROJECT + "/pipelines", _pipelines),
            ("GET", _PIPELINE + "/jobs", _jobs),
            ("POST", _PIPELINE + "/retry", _retry),
            ("POST", _PIPELINE + "/cancel", _cancel),
            ("POST", _PROJECT + r"/jobs/(?P<job>\d+)/retry", _retry_job),
            ("GET", _PROJECT + r"/jobs/\d+/trace", log_text),
        ],
    )


def _sign(event: Event, secret: str) -> Sent:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitLab/18.0.0",
        "Idempotency-Key": str(uuid.uuid4()),
        "X-Gitlab-Event": event.name,
        "X-Gitlab-Event-UUID": str(uuid.uuid4()),
        "X-Gitlab-Token": secret,
    }
    return Sent(headers=headers, body=proofs.compact(event.body))


def _self(sim: Simulator, _: Asked) -> web.Response:
    return web.json_response({"id": 1, "name": "pipewright", "active": True, "scopes": sim.scopes or ["api"]})


def _pipelines(sim: Simulator, asked: Asked) -> web.Response:
    since, until = (datetime.fromisoformat(asked.query[name]) for name in ("updated_after", "updated_before"))
    found = [
        item
        for item in sim.answers[asked.path]
        if since <= datetime.fromisoformat(item["updated_at"]) <= until
    ]
    return pages.linked(sim, asked, found)


def _jobs(sim: Simulator, asked: Asked) -> web.Response:
    return pages.linked(sim, asked, sim.answers[asked.path])


def _changed(sim: Simulator, asked: Asked, status: str) -> web.Response:
    url = f"https://gitlab.com/acme/web/shop/-/pipelines/{asked.at['run']}"
    unrecorded = {"id": int(asked.at["run"]), "web_url": url}
    pipeline: dict[str, Any] = sim.answers.setdefault(asked.path.rpartition("/")[0], unrecorded)
    pipeline["status"] = status
    return web.json_response(pipeline, status=201)


def _retry(sim: Simulator, asked: Asked) -> web.Response:
    run = int(asked.at["run"])
    sim.done.append(f"retry {run}")
    sim.happens("pipeline-running", object_attributes__id=run)
    sim.happens("pipeline-passed-after-a-retry", object_attributes__id=run)
    return _changed(sim, asked, "running")


def _cancel(sim: Simulator, asked: Asked) -> web.Response:
    run = int(asked.at["run"])
    sim.done.append(f"cancel {run}")
    sim.happens("pipeline-of-a-merge-request-cancelled", object_attributes__id=run)
    return _changed(sim, asked, "canceled")


def _retry_job(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"retry job {asked.at['job']}")
    sim.happens("job-failed", build_id=9001, build_status="running", build_finished_at=None, pipeline_id=302)
    url = "https://gitlab.com/acme/web/shop/-/jobs/9001"
    return web.json_response({"id": 9001, "status": "pending", "web_url": url}, status=201)
