"""The provider simulator: a small GitHub on loopback, so that healing has something to heal.

    python -m dev.provider --port 0 --state <folder>

It speaks the REST endpoints that the `github` connector uses, under one bearer token, and delivers signed
webhooks to the hooks that were registered, by its API or under `/_sim`, where lies what only a test or the
demo may ask:

    POST /_sim/hooks       {"url", "secret", "project"?}: where the webhooks of a project (or of all) go
    POST /_sim/runs        {"attempts": [[run record, job records…], …], "delay"?}: plays attempt 1; a
                           re-run plays the next one (the last one for ever); `delay` in seconds
    POST /_sim/history     {"records": [run record, job records…, …]}: finished before any webhook was there;
                           GET …/actions/runs lists them
    POST /_sim/deliver     [{"event", "payload"}, …]: sends these as they are, in their order
    POST /_sim/redeliver   {"id"}: the same delivery again (GitHub itself never retries)
    POST /_sim/faults      {"path", "status"?, "headers"?, "body"?, "delay"?, "bytes"?, "times"?}: see `Fault`
    GET  /_sim/{runs,deliveries,calls,comments,hooks}    what happened, for exactly-once checks

The folder holds `token` (made if missing) and, once it listens, `address`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import json
import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from dev import files
from dev.provider_history import History
from dev.provider_hooks import Deliveries, Hook, HookApi
from dev.provider_runs import Runs

Handler = Callable[[web.Request], Awaitable[web.Response]]

_RUNS = "/repos/{owner}/{repo}/actions/runs"
_RUN = r"/repos/{owner}/{repo}/actions/runs/{run:[0-9]+}"
_COMMENTS = r"/repos/{owner}/{repo}/commits/{sha:[0-9a-f]{40,64}}/comments"
_MAX_BODY = 64 * 1024 * 1024


@dataclass(kw_only=True)
class Fault:
    """What the next `times` calls to a path are answered with, instead of what they ask."""

    path: str
    """A regular expression that the whole path matches."""
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    delay: float = 0.0
    """Seconds before the answer."""
    bytes: int = 0
    """Answer with this many bytes of JSON."""
    times: int = 1
    after: bool = False
    """Carry the call out first: the effect is there, the answer is not."""

    async def answer(self) -> web.Response:
        """The answer, after its delay."""
        await asyncio.sleep(self.delay)
        if self.bytes:
            return web.json_response({"filler": "x" * self.bytes}, status=self.status, headers=self.headers)
        body = {"message": f"simulated {self.status}"} if self.body is None else self.body
        return web.json_response(body, status=self.status, headers=self.headers)


class Provider:
    """The simulator's routes and what they remember."""

    def __init__(self, *, token: str) -> None:
        self._token = token
        self.deliveries = Deliveries()
        self.runs = Runs(self.deliveries)
        self._history = History()
        self._comments: list[dict[str, Any]] = []
        self._calls: list[dict[str, Any]] = []
        self._faults: list[Fault] = []

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(middlewares=[self._guard], client_max_size=_MAX_BODY)
        application.router.add_get("/rate_limit", self._rate_limit)
        application.router.add_get(_RUN, self._run)
        for path, listed in (
            (_RUNS, self._history.runs),
            (f"{_RUN}/jobs", self._history.jobs),
            (f"{_RUN}/attempts/{{attempt:[0-9]+}}", self._history.attempt),
        ):
            application.router.add_get(path, self._listing(listed))
        application.router.add_post(f"{_RUN}/rerun-failed-jobs", self._rerun)
        application.router.add_post(_COMMENTS, self._comment)
        HookApi(self.deliveries).add_routes(application.router)
        application.router.add_post("/_sim/hooks", self._sim_hooks)
        application.router.add_post("/_sim/runs", self._sim_runs)
        application.router.add_post("/_sim/history", self._sim_history)
        application.router.add_post("/_sim/deliver", self._sim_deliver)
        application.router.add_post("/_sim/redeliver", self._sim_redeliver)
        application.router.add_post("/_sim/faults", self._sim_faults)
        application.router.add_get("/_sim/{what:runs|deliveries|calls|comments|hooks}", self._sim_list)
        application.on_cleanup.append(self._stop)
        return application

    async def _stop(self, _: web.Application) -> None:
        await self.runs.close()
        await self.deliveries.close()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The token, the list of calls, and the faults that were asked for."""
        simulator = request.path.startswith("/_sim/")
        if not hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {self._token}"):
            answer: web.StreamResponse = _message(401, "Bad credentials")
        elif not simulator and (fault := self._fault(request.path)):
            if fault.after:
                await handler(request)
            answer = await fault.answer()
        else:
            try:
                answer = await handler(request)
            except web.HTTPException as refused:
                answer = _message(refused.status, refused.reason)
        if not simulator:
            self._calls.append({"method": request.method, "path": request.path, "status": answer.status})
        return answer

    def _fault(self, path: str) -> Fault | None:
        for fault in self._faults:
            if fault.times > 0 and re.fullmatch(fault.path, path):
                fault.times -= 1
                return fault
        return None

    # --- what GitHub has --------------------------------------------------------------------------------

    async def _rate_limit(self, _: web.Request) -> web.Response:
        limit = {"limit": 5000, "remaining": 4999, "used": 1, "reset": 0}
        return web.json_response({"resources": {"core": limit}, "rate": limit})

    async def _run(self, request: web.Request) -> web.Response:
        run = self.runs.find(_project(request), request.match_info["run"])
        return web.json_response(run.shown) if run else _message(404, "Not Found")

    def _listing(self, listed: Callable[[web.Request, str], web.Response]) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            return listed(request, _project(request))

        return answer

    async def _rerun(self, request: web.Request) -> web.Response:
        run = self.runs.find(_project(request), request.match_info["run"])
        if run is None:
            return _message(404, "Not Found")
        if run.playing:
            return _message(403, "This workflow is already running")
        self.runs.play(run)
        return web.json_response({}, status=201)

    async def _comment(self, request: web.Request) -> web.Response:
        text = (await _document(request)).get("body")
        if not isinstance(text, str) or not text.strip():
            return _message(422, "Validation Failed")
        project, sha, number = _project(request), request.match_info["sha"], len(self._comments) + 1
        url = f"https://github.com/{project}/commit/{sha}#commitcomment-{number}"
        comment = {"id": number, "html_url": url, "commit_id": sha, "body": text, "project": project}
        self._comments.append(comment)
        return web.json_response(comment, status=201)

    # --- what only tests and the demo ask ---------------------------------------------------------------

    async def _sim_hooks(self, request: web.Request) -> web.Response:
        self.deliveries.register(Hook(**await _document(request)))
        return web.json_response({}, status=201)

    async def _sim_runs(self, request: web.Request) -> web.Response:
        document = await _document(request)
        run = self.runs.add(document["attempts"], delay=float(document.get("delay", 0.05)))
        self.runs.play(run)
        return web.json_response({"id": run.id}, status=201)

    async def _sim_history(self, request: web.Request) -> web.Response:
        self._history.add((await _document(request))["records"])
        return web.json_response({}, status=201)

    async def _sim_deliver(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        statuses: dict[str, int] = {}
        for entry in wanted:
            for code in await self.deliveries.send(entry["event"], entry["payload"]):
                statuses[str(code)] = statuses.get(str(code), 0) + 1
        return web.json_response({"statuses": statuses})

    async def _sim_redeliver(self, request: web.Request) -> web.Response:
        codes = await self.deliveries.again((await _document(request))["id"])
        return web.json_response({"statuses": codes}) if codes else _message(404, "Not Found")

    async def _sim_faults(self, request: web.Request) -> web.Response:
        self._faults.append(Fault(**await _document(request)))
        return web.json_response({}, status=201)

    async def _sim_list(self, request: web.Request) -> web.Response:
        found = {
            "runs": [run.summary for run in self.runs.all],
            "deliveries": self.deliveries.summary,
            "calls": self._calls,
            "comments": self._comments,
            "hooks": self.deliveries.every_hook,
        }
        return web.json_response(found[request.match_info["what"]])


def _project(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['repo']}"


async def _document(request: web.Request) -> dict[str, Any]:
    try:
        found = await request.json()
    except json.JSONDecodeError:
        raise web.HTTPBadRequest(reason="Problems parsing JSON") from None
    if not isinstance(found, dict):
        raise web.HTTPBadRequest(reason="Body should be a JSON object")
    return found


def _message(status: int, text: str) -> web.Response:
    """An error in GitHub's shape."""
    return web.json_response({"message": text, "status": str(status)}, status=status)


async def serve(*, port: int, folder: Path) -> None:
    """Serve on loopback until SIGTERM or SIGINT; port 0 takes a free one."""
    provider = Provider(token=files.secret(folder / "token"))
    runner = web.AppRunner(provider.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    host, taken = runner.addresses[0][:2]
    files.write(folder / "address", f"http://{host}:{taken}")
    print(f"provider simulator listens on http://{host}:{taken}", flush=True)
    stopped = asyncio.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(wanted, stopped.set)
    await stopped.wait()
    await runner.cleanup()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.provider", description="A small GitHub on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--state", type=Path, required=True, help="folder for the token and the address")
    arguments = parser.parse_args()
    arguments.state.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(port=arguments.port, folder=arguments.state))


if __name__ == "__main__":
    main()
