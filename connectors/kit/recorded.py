"""A provider that answers from a sample and notes what it was asked: nothing leaves the process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self
from urllib.parse import urlsplit

from connectors.calls import Account
from connectors.manifest import Manifest
from connectors.outbound import Answer, Outbound
from pipewright.ports import Secret

ORIGIN: Final = "https://provider.example"
"""Where the provider is, for a connector whose settings have a baseUrl."""
CANARY: Final = "canary-"
"""How every credential begins: it must come out nowhere."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    url: str
    body: Any
    """Its JSON; None: none was sent."""

    def told(self, origin: str) -> dict[str, Any]:
        """As a sample has it: another host than the provider's stays in the path."""
        path = self.url.removeprefix(origin)
        body = {"body": self.body} if self.body is not None else {}
        return {"method": self.method, "path": path, **body}


@dataclass(slots=True)
class FixedClock:
    """A time that stands still: `ports.Clock`."""

    time: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        """The time."""
        return self.time


class Recorded(Outbound):
    """An HTTP client whose answers are given beforehand."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self._by_path: dict[str, Any] = {}
        self._in_order: list[Answer] = []

    @classmethod
    def by_path(cls, answers: Mapping[str, Any], *, origin: str) -> Self:
        """Answers by path, with the query or without it; anything else is 404."""
        made = cls()
        made._by_path = json.loads(json.dumps(dict(answers)).replace("{base}", origin))
        return made

    @classmethod
    def in_order(cls, answers: Sequence[Mapping[str, Any]]) -> Self:
        """These answers, one for each request; then 404."""
        made = cls()
        made._in_order = [_answer(each) for each in answers]
        return made

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout: float,
        max_bytes: int,
    ) -> Answer:
        """The next answer, cut as one over the wire would be."""
        self.asked.append(Asked(method, url, json.loads(body) if body else None))
        found = self._in_order.pop(0) if self._in_order else self._at(url)
        complete = len(found.body) <= max_bytes
        return Answer(
            status=found.status, headers=found.headers, body=found.body[:max_bytes], complete=complete
        )

    def _at(self, url: str) -> Answer:
        parts = urlsplit(url)
        for path in (f"{parts.path}?{parts.query}", parts.path):
            if path in self._by_path:
                return _answer({"status": 200, "body": self._by_path[path]})
        return _answer({"status": 404, "body": {"message": "Not Found"}})


def _answer(said: Mapping[str, Any]) -> Answer:
    body = (
        said["text"].encode()
        if "text" in said
        else json.dumps(said["body"]).encode()
        if "body" in said
        else b""
    )
    headers = {name.lower(): value for name, value in said.get("headers", {}).items()}
    return Answer(status=said["status"], headers=headers, body=body, complete=True)


def account(manifest: Manifest, config: Mapping[str, Any], *, at_origin: bool) -> Account:
    """An account with a canary for each credential of the first way to authenticate."""
    assert manifest.http is not None, "only one that is called has an account"
    given = dict(config)
    if at_origin and "baseUrl" in manifest.config["properties"]:
        given["baseUrl"] = ORIGIN
    fields = manifest.http.auths[0].fields
    return Account(config=given, credentials={name: Secret(f"{CANARY}{name}") for name in fields})
