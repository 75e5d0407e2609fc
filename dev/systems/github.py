"""GitHub Actions: REST API 2022-11-28 with a token, signed webhooks.

https://docs.github.com/rest/actions/workflow-runs, https://docs.github.com/webhooks
"""

from __future__ import annotations

import uuid
from datetime import datetime

from aiohttp import web

from dev.systems import pages, proofs
from dev.systems.engine import LOG, Asked, Event, Sent, Simulator, System

_REPOSITORY = "/repos/acme/shop"
_RUNS = _REPOSITORY + "/actions/runs"
_RUN = _RUNS + r"/(?P<run>\d+)"
_JOB = _REPOSITORY + r"/actions/jobs/(?P<job>\d+)"
_TOKEN = "ghp_simulated"  # noqa: S105
_STORAGE = "/storage/job-logs.txt"


def system() -> System:
    """GitHub."""
    return System(
        name="github",
        credentials={"token": _TOKEN},
        admits=proofs.has_header("authorization", f"Bearer {_TOKEN}"),
        refusal=lambda: web.json_response({"message": "Bad credentials", "status": "401"}, status=401),
        sign=_sign,
        open=frozenset({_STORAGE}),
        routes=[
            ("GET", "/rate_limit", _limit),
            ("GET", _RUNS, _runs),
            ("GET", _RUN + "/jobs", _jobs),
            ("POST", _RUN + "/(?P<what>rerun|rerun-failed-jobs)", _rerun),
            ("POST", _RUN + "/cancel", _cancel),
            ("POST", _JOB + "/rerun", _rerun_job),
            ("GET", _JOB + "/logs", _log),
            ("GET", _STORAGE, _storage),
            ("POST", _REPOSITORY + "/commits/(?P<sha>[0-9a-f]{40})/comments", _comment),
        ],
    )


def _sign(event: Event, secret: str) -> Sent:
    body = proofs.compact(event.body)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/simulated",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-GitHub-Event": event.name,
        "X-Hub-Signature-256": f"sha256={proofs.hmac_hex(secret, body)}",
    }
    return Sent(headers=headers, body=body)


def _limit(sim: Simulator, _: Asked) -> web.Response:
    # Only classic tokens have scopes.
    headers = {"X-OAuth-Scopes": ", ".join(sim.scopes)} if sim.scopes else {}
    return web.json_response({"rate": {"limit": 5000, "remaining": 4999}}, headers=headers)


def _runs(sim: Simulator, asked: Asked) -> web.Response:
    begin, _, end = asked.query["created"].partition("..")
    since, until = datetime.fromisoformat(begin), datetime.fromisoformat(end)
    found = [
        run
        for run in sim.answers[asked.path]["workflow_runs"]
        if since <= datetime.fromisoformat(run["created_at"]) <= until
    ]
    return pages.linked(
        sim, asked, found, wrap=lambda page: {"total_count": len(found), "workflow_runs": page}
    )


def _jobs(sim: Simulator, asked: Asked) -> web.Response:
    jobs = sim.answers[asked.path]["jobs"]
    return pages.linked(sim, asked, jobs, wrap=lambda page: {"total_count": len(jobs), "jobs": page})


def _again(sim: Simulator, run: int) -> web.Response:
    again = {"workflow_run__id": run, "workflow_run__run_attempt": 2}
    sim.happens("run-in-progress", **again)
    sim.happens("run-second-attempt-passed", **again)
    return web.json_response({}, status=201)


def _rerun(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"{asked.at['what']} {asked.at['run']}")
    return _again(sim, int(asked.at["run"]))


def _rerun_job(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"rerun job {asked.at['job']}")
    return _again(sim, 4003)


def _cancel(sim: Simulator, asked: Asked) -> web.Response:
    run = int(asked.at["run"])
    sim.done.append(f"cancel {run}")
    sim.happens("run-failed", workflow_run__id=run, workflow_run__conclusion="cancelled")
    return web.json_response({}, status=202)


def _log(sim: Simulator, _: Asked) -> web.Response:
    return web.Response(status=302, headers={"Location": f"{sim.url}{_STORAGE}?sig=simulated"})


def _storage(_: Simulator, asked: Asked) -> web.Response:
    if "authorization" in asked.headers:
        return web.Response(status=400, text="<Error><Code>InvalidAuthenticationInfo</Code></Error>")
    return web.Response(text=LOG)


def _comment(sim: Simulator, asked: Asked) -> web.Response:
    sim.done.append(f"comment {asked.body['body']}")
    url = f"https://github.com/acme/shop/commit/{asked.at['sha']}#commitcomment-1"
    return web.json_response({"id": 1, "html_url": url}, status=201)
