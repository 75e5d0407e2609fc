"""The provider simulator's webhooks: registered as at GitHub, delivered signed, their deliveries listed."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from dev.github_payloads import Record

_ANSWER_WITHIN = aiohttp.ClientTimeout(total=10)
"""GitHub gives a receiver ten seconds."""


@dataclass(slots=True, kw_only=True)
class Hook:
    """Where webhooks go, and the secret that signs them. Without a project: those of every project."""

    url: str
    secret: str = field(repr=False)
    project: str = ""
    id: int = 0
    events: tuple[str, ...] = ("*",)
    active: bool = True
    listed: bool = False
    """It was made by GitHub's API, which then knows it."""

    def takes(self, event: str, project: str) -> bool:
        """Whether this event of this project is delivered to it."""
        wanted = "*" in self.events or event in self.events
        return self.active and wanted and self.project in ("", project)

    @property
    def shown(self) -> dict[str, Any]:
        """As GitHub's API gives it: never with the secret."""
        config = {"url": self.url, "content_type": "json", "insecure_ssl": "0", "secret": "********"}
        return {
            "type": "Repository",
            "id": self.id,
            "name": "web",
            "active": self.active,
            "events": list(self.events),
            "config": config,
        }


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One time that a delivery was sent."""

    id: int
    at: datetime
    redelivery: bool
    code: int
    """The receiver's answer; 0 for none."""


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One webhook to one hook: the same id and bytes however often it is sent."""

    id: str
    event: str
    action: str
    project: str
    run: str
    """The run's id and attempt that a `workflow_run` is about; empty and 0 for others."""
    attempt: int
    body: bytes = field(repr=False)
    hook: Hook
    attempts: list[Attempt] = field(default_factory=list)


class Deliveries:
    """The webhooks that were sent, and the one client that sends them."""

    def __init__(self) -> None:
        self._hooks: dict[int, Hook] = {}
        self._sent: dict[str, Delivery] = {}
        self._numbers = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None

    @property
    def summary(self) -> list[dict[str, Any]]:
        """Every delivery with the answers that it got."""
        return [
            {
                "id": sent.id,
                "event": sent.event,
                "action": sent.action,
                "project": sent.project,
                "run": sent.run,
                "attempt": sent.attempt,
                "url": sent.hook.url,
                "codes": [attempt.code for attempt in sent.attempts],
            }
            for sent in self._sent.values()
        ]

    @property
    def every_hook(self) -> list[dict[str, Any]]:
        """Every hook with its secret."""
        return [
            {
                "id": hook.id,
                "project": hook.project,
                "url": hook.url,
                "secret": hook.secret,
                "active": hook.active,
                "events": list(hook.events),
            }
            for hook in self._hooks.values()
        ]

    def register(self, hook: Hook) -> Hook:
        """Deliver to this hook from now on; the same address and project again changes its secret."""
        same = [old for old in self._hooks.values() if (old.url, old.project) == (hook.url, hook.project)]
        hook.id = same[0].id if same else next(self._numbers)
        self._hooks[hook.id] = hook
        return hook

    def hooks(self, project: str) -> list[Hook]:
        """A project's hooks that were made by the API."""
        return [hook for hook in self._hooks.values() if hook.listed and hook.project == project]

    def remove(self, hook: Hook) -> None:
        """Deliver nothing to it any more."""
        self._hooks.pop(hook.id, None)

    def of(self, hook: Hook) -> list[tuple[Delivery, Attempt]]:
        """Everything that was sent to a hook, the newest first."""
        sent = [each for each in self._sent.values() if each.hook.id == hook.id]
        found = [(delivery, attempt) for delivery in sent for attempt in delivery.attempts]
        return sorted(found, key=lambda pair: pair[1].id, reverse=True)

    async def send(self, event: str, payload: Record) -> list[int]:
        """Deliver a payload to every hook of its project; gives the receivers' answers."""
        project = payload.get("repository", {}).get("full_name", "")
        run = payload.get("workflow_run", {})
        body = json.dumps(payload, separators=(",", ":")).encode()
        hooks = [hook for hook in self._hooks.values() if hook.takes(event, project)]
        return [
            await self._post(
                Delivery(
                    id=str(uuid.uuid4()),
                    event=event,
                    action=payload.get("action", ""),
                    project=project,
                    run=str(run.get("id", "")),
                    attempt=run.get("run_attempt", 0),
                    body=body,
                    hook=hook,
                )
            )
            for hook in hooks
        ]

    async def again(self, delivery_id: str) -> list[int]:
        """Send a delivery once more; nothing if there is none with this id, or its hook is gone."""
        found = self._sent.get(delivery_id)
        return [await self._post(found)] if found and found.hook.id in self._hooks else []

    async def _post(self, delivery: Delivery) -> int:
        self._sent[delivery.id] = delivery
        hook = self._hooks[delivery.hook.id]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/simulated",
            "X-GitHub-Delivery": delivery.id,
            "X-GitHub-Event": delivery.event,
            "X-Hub-Signature-256": signature(hook.secret, delivery.body),
        }
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_ANSWER_WITHIN, trust_env=False)
        again, at = bool(delivery.attempts), datetime.now(UTC)
        try:
            async with self._session.post(hook.url, data=delivery.body, headers=headers) as answer:
                code = answer.status
        except (aiohttp.ClientError, TimeoutError):
            code = 0
        delivery.attempts.append(Attempt(id=next(self._numbers), at=at, redelivery=again, code=code))
        return code

    async def close(self) -> None:
        """Close the client."""
        if self._session is not None:
            await self._session.close()


def signature(secret: str, body: bytes) -> str:
    """The value of X-Hub-Signature-256."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


# --- GitHub's API -----------------------------------------------------------------------------------------


class HookApi:
    """GitHub's endpoints for a repository's webhooks."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        hooks = "/repos/{owner}/{repo}/hooks"
        one = hooks + "/{hook:[0-9]+}"
        router.add_get(hooks, self._list)
        router.add_post(hooks, self._create)
        router.add_patch(one, self._update)
        router.add_delete(one, self._delete)
        router.add_get(f"{one}/deliveries", self._list_deliveries)
        router.add_post(one + "/deliveries/{delivery:[0-9]+}/attempts", self._redeliver)

    async def _list(self, request: web.Request) -> web.Response:
        found = [hook.shown for hook in self._deliveries.hooks(_project(request))]
        return _page(request, found, "page", lambda item, number: str(number + 1))

    async def _create(self, request: web.Request) -> web.Response:
        given, project = await request.json(), _project(request)
        config = given.get("config", {})
        if given.get("name") != "web" or not config.get("url"):
            return _refused("Validation Failed")
        if any(hook.url == config["url"] for hook in self._deliveries.hooks(project)):
            return _refused("Hook already exists on this repository")
        hook = Hook(url=config["url"], secret=config.get("secret", ""), project=project, listed=True)
        hook.events, hook.active = tuple(given.get("events", ["push"])), given.get("active", True)
        return web.json_response(self._deliveries.register(hook).shown, status=201)

    async def _update(self, request: web.Request) -> web.Response:
        hook, given = self._found(request), await request.json()
        config = given.get("config", {})
        hook.url, hook.secret = config.get("url", hook.url), config.get("secret", hook.secret)
        hook.events = tuple(given.get("events", hook.events))
        hook.active = given.get("active", hook.active)
        return web.json_response(hook.shown)

    async def _delete(self, request: web.Request) -> web.Response:
        self._deliveries.remove(self._found(request))
        return web.Response(status=204)

    async def _list_deliveries(self, request: web.Request) -> web.Response:
        hook = self._found(request)
        found = [_shown(delivery, attempt) for delivery, attempt in self._deliveries.of(hook)]
        return _page(request, found, "cursor", lambda item, _number: str(item["id"]))

    async def _redeliver(self, request: web.Request) -> web.Response:
        hook, wanted = self._found(request), int(request.match_info["delivery"])
        for delivery, attempt in self._deliveries.of(hook):
            if attempt.id == wanted:
                await self._deliveries.again(delivery.id)
                return web.json_response({}, status=202)
        raise web.HTTPNotFound(reason="Not Found")

    def _found(self, request: web.Request) -> Hook:
        number = int(request.match_info["hook"])
        for hook in self._deliveries.hooks(_project(request)):
            if hook.id == number:
                return hook
        raise web.HTTPNotFound(reason="Not Found")


def _project(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['repo']}"


def _shown(delivery: Delivery, attempt: Attempt) -> dict[str, Any]:
    """A delivery in GitHub's list."""
    return {
        "id": attempt.id,
        "guid": delivery.id,
        "delivered_at": attempt.at.isoformat().replace("+00:00", "Z"),
        "redelivery": attempt.redelivery,
        "status": "OK" if 200 <= attempt.code < 300 else f"Invalid HTTP Response: {attempt.code}",
        "status_code": attempt.code,
        "event": delivery.event,
        "action": delivery.action or None,
    }


def _page(
    request: web.Request, found: list[dict[str, Any]], parameter: str, following: Callable[[Any, int], str]
) -> web.Response:
    """A part of a list, and where the next one is: by its number, or by the item that it begins with."""
    size = max(1, min(100, int(request.query.get("per_page", "30"))))
    told, number = request.query.get(parameter, ""), 1
    begin = 0
    if parameter == "page":
        number = int(told or "1")
        begin = (number - 1) * size
    elif told:
        begin = next((at for at, item in enumerate(found) if str(item["id"]) == told), len(found))
    headers = {}
    if begin + size < len(found):
        url = request.url.update_query({parameter: following(found[begin + size], number)})
        headers["Link"] = f'<{url}>; rel="next"'
    return web.json_response(found[begin : begin + size], headers=headers)


def _refused(text: str) -> web.Response:
    return web.json_response({"message": text, "status": "422"}, status=422)
