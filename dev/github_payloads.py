"""Turns simulated records into the webhooks that GitHub would send: workflow_run and workflow_job.

The structure is that of GitHub's "Webhook events and payloads": the fields that a consumer of runs and jobs
reads, with GitHub's names, nesting and types; most addresses of API resources are left out. Ids that a record
has not are derived from names, so that they are the same each time.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

Record = dict[str, Any]
Event = tuple[str, Record]

CONCLUSIONS = {
    "success": "success",
    "failure": "failure",
    "cancel": "cancelled",
    "error": "startup_failure",
    "skip": "skipped",
}
"""Our outcome → GitHub's conclusion."""


def github_events(record: Record, *, run: Record | None = None) -> list[Event]:
    """The webhooks of one record in their order, as (event name, payload).

    A run gives workflow_run requested, in_progress, completed; a job gives workflow_job queued, in_progress,
    completed and needs its `run` record (branch, commit and pipeline stand there). Raises ValueError without.
    """
    if record["type"] == "run":
        return [
            ("workflow_run", _run_payload(record, action)) for action in _actions(record, first="requested")
        ]
    if run is None:
        raise ValueError(f"job {record['id']} needs the record of its run {record['run']}")
    return [
        ("workflow_job", _job_payload(record, run, action)) for action in _actions(record, first="queued")
    ]


def github_deliveries(records: Sequence[Record]) -> Iterator[tuple[datetime, str, Record]]:
    """All webhooks of the records (a run before its jobs): (when, event name, payload) in order of time."""
    runs: dict[tuple[str, int], Record] = {}
    found: list[tuple[datetime, int, str, Record]] = []
    for record in records:
        if record["type"] == "run":
            runs[record["id"], record["attempt"]] = record
            run = record
        else:
            run = runs[record["run"], record["attempt"]]
        for name, payload in github_events(record, run=run):
            found.append((_when(record, payload["action"]), len(found), name, payload))
    for at, _, name, payload in sorted(found, key=lambda each: each[:2]):
        yield at, name, payload


def _actions(record: Record, *, first: str) -> list[str]:
    """What has happened to the record so far."""
    actions = [first]
    if record.get("startedAt"):
        actions.append("in_progress")
    if record.get("finishedAt"):
        actions.append("completed")
    return actions


def _when(record: Record, action: str) -> datetime:
    key = {"in_progress": "startedAt", "completed": "finishedAt"}.get(action, "queuedAt")
    return datetime.fromisoformat(record[key])


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _run_payload(run: Record, action: str) -> Record:
    done = action == "completed"
    login = run["actor"]
    return {
        "action": action,
        "workflow_run": {
            "id": int(run["id"]),
            "name": run["pipeline"],
            "node_id": f"WFR_{run['id']}",
            "head_branch": run["branch"],
            "head_sha": run["sha"],
            "path": f".github/workflows/{run['pipeline']}.yml",
            "display_title": f"Change {run['sha'][:7]}",
            "run_number": run["number"],
            "event": run["trigger"],
            "status": "queued" if action == "requested" else action,
            "conclusion": CONCLUSIONS[run["outcome"]] if done else None,
            "workflow_id": _number(run["project"], run["pipeline"]),
            "check_suite_id": _number("suite", run["id"]),
            "url": f"https://api.github.com/repos/{run['project']}/actions/runs/{run['id']}",
            "html_url": run["url"],
            "jobs_url": f"https://api.github.com/repos/{run['project']}/actions/runs/{run['id']}/jobs",
            "rerun_url": f"https://api.github.com/repos/{run['project']}/actions/runs/{run['id']}/rerun",
            "pull_requests": _pull_requests(run),
            "created_at": run["queuedAt"],
            "updated_at": _stamp(_when(run, action)),
            "run_attempt": run["attempt"],
            "run_started_at": run["queuedAt"] if action == "requested" else run["startedAt"],
            "actor": _user(login),
            "triggering_actor": _user(login),
            "head_commit": {
                "id": run["sha"],
                "tree_id": hashlib.sha1(run["sha"].encode(), usedforsecurity=False).hexdigest(),
                "message": f"Change {run['sha'][:7]}",
                "timestamp": run["queuedAt"],
                "author": {"name": login, "email": f"{login}@users.noreply.github.com"},
                "committer": {"name": "GitHub", "email": "noreply@github.com"},
            },
            "repository": _repository(run["project"]),
            "head_repository": _repository(run["project"]),
        },
        "workflow": {
            "id": _number(run["project"], run["pipeline"]),
            "name": run["pipeline"],
            "path": f".github/workflows/{run['pipeline']}.yml",
            "state": "active",
        },
        **_around(run),
    }


def _job_payload(job: Record, run: Record, action: str) -> Record:
    done, queued = action == "completed", action == "queued"
    result = CONCLUSIONS[job["outcome"]] if done else None
    return {
        "action": action,
        "workflow_job": {
            "id": int(job["id"]),
            "run_id": int(job["run"]),
            "run_attempt": job["attempt"],
            "run_url": f"https://api.github.com/repos/{job['project']}/actions/runs/{job['run']}",
            "node_id": f"CR_{job['id']}",
            "workflow_name": run["pipeline"],
            "head_branch": run["branch"],
            "head_sha": run["sha"],
            "url": f"https://api.github.com/repos/{job['project']}/actions/jobs/{job['id']}",
            "html_url": f"{run['url']}/job/{job['id']}",
            "status": action,
            "conclusion": result,
            "created_at": job["queuedAt"],
            "started_at": job["queuedAt"] if queued else job["startedAt"],
            "completed_at": job["finishedAt"] if done else None,
            "name": job["name"],
            "steps": [] if queued else [_step(job, result=result)],
            "labels": job["labels"],
            "runner_id": None if queued else _number("runner", job["runner"]),
            "runner_name": None if queued else job["runner"],
            "runner_group_id": None if queued else 2,
            "runner_group_name": None if queued else "GitHub Actions",
        },
        **_around(run),
    }


def _step(job: Record, *, result: str | None) -> Record:
    return {
        "name": f"Run {job['name']}",
        "status": "completed" if result else "in_progress",
        "conclusion": result,
        "number": 1,
        "started_at": job["startedAt"],
        "completed_at": job["finishedAt"] if result else None,
    }


def _pull_requests(run: Record) -> list[Record]:
    if run["trigger"] != "pull_request":
        return []
    project = {"id": _number(run["project"]), "name": run["project"].partition("/")[2]}
    return [
        {
            "id": _number(run["project"], run["branch"], "pull"),
            "number": _number(run["project"], run["branch"]) % 9000 + 1,
            "head": {"ref": run["branch"], "sha": run["sha"], "repo": project},
            "base": {"ref": "main", "repo": project},
        }
    ]


def _around(run: Record) -> Record:
    owner = run["project"].partition("/")[0]
    return {
        "repository": {**_repository(run["project"]), "default_branch": "main"},
        "organization": {"login": owner, "id": _number(owner)},
        "sender": _user(run["actor"]),
    }


def _repository(project: str) -> Record:
    owner, _, name = project.partition("/")
    return {
        "id": _number(project),
        "name": name,
        "full_name": project,
        "private": True,
        "owner": _user(owner, kind="Organization"),
        "html_url": f"https://github.com/{project}",
        "url": f"https://api.github.com/repos/{project}",
    }


def _user(login: str, *, kind: str = "User") -> Record:
    return {
        "login": login,
        "id": _number("user", login),
        "type": kind,
        "html_url": f"https://github.com/{login}",
        "url": f"https://api.github.com/users/{login}",
    }


def _number(*names: str) -> int:
    """An id derived from names: always the same, nine digits at most."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:4], "big") % 900_000_000 + 1
