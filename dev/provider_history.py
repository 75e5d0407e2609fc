"""What the provider simulator lists: finished runs and their jobs, in pages, as GitHub's API does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from aiohttp import web

from dev.github_payloads import Record, github_events

MOST = 1000
"""Runs that GitHub lists of those that a filter finds."""


class History:
    """Runs that no webhook told of, each attempt with its jobs."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, int, int], Record] = {}
        """By project, run and attempt: GitHub's workflow_run."""
        self._jobs: dict[tuple[str, int], list[Record]] = {}
        """By project and run: GitHub's workflow_job."""

    def add(self, records: Iterable[Record]) -> None:
        """Take records as an imported history has them: a run before its jobs."""
        runs: dict[tuple[str, int], Record] = {}
        for record in records:
            project = record["project"]
            if record["type"] == "run":
                runs[record["id"], record["attempt"]] = record
                shown = github_events(record)[-1][1]["workflow_run"]
                self._runs[project, shown["id"], shown["run_attempt"]] = shown
            else:
                run = runs[record["run"], record["attempt"]]
                job = github_events(record, run=run)[-1][1]["workflow_job"]
                self._jobs.setdefault((project, job["run_id"]), []).append(job)

    def runs(self, request: web.Request, project: str) -> web.Response:
        """The last attempt of each run that was made in the time of the parameter `created`, newest first."""
        last = {run: shown for (owner, run, _), shown in sorted(self._runs.items()) if owner == project}
        begin, _, end = request.query.get("created", "").partition("..")
        found = [
            shown
            for shown in last.values()
            if not begin or _time(begin) <= _time(shown["created_at"]) <= _time(end or begin)
        ]
        found.sort(key=lambda shown: (shown["created_at"], shown["id"]), reverse=True)
        return _page(request, "workflow_runs", found[:MOST], count=len(found))

    def jobs(self, request: web.Request, project: str) -> web.Response:
        """The jobs of all attempts."""
        found = self._jobs.get((project, int(request.match_info["run"])), [])
        return _page(request, "jobs", found, count=len(found))

    def attempt(self, request: web.Request, project: str) -> web.Response:
        """One attempt, with the address of the one before it."""
        run, number = int(request.match_info["run"]), int(request.match_info["attempt"])
        shown = self._runs.get((project, run, number))
        if shown is None:
            return web.json_response({"message": "Not Found", "status": "404"}, status=404)
        before = f"{request.url.origin()}/repos/{project}/actions/runs/{run}/attempts/{number - 1}"
        return web.json_response({**shown, "previous_attempt_url": before if number > 1 else None})


def _page(request: web.Request, name: str, found: list[Any], *, count: int) -> web.Response:
    size = max(1, min(100, int(request.query.get("per_page", "30"))))
    number = max(1, int(request.query.get("page", "1")))
    headers = {}
    if number * size < len(found):
        following = request.url.update_query(page=str(number + 1))
        headers["Link"] = f'<{following}>; rel="next"'
    items = found[(number - 1) * size : number * size]
    return web.json_response({"total_count": count, name: items}, headers=headers)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
