"""Provider payloads verified and mapped in this process: per second of CPU, all fixtures of the catalogue."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from connectors import catalogue, mapping
from connectors.manifest import Manifest
from connectors.mapping import Ignored
from connectors.verify import Claim
from connectors.verify.hmac_body import HmacBody
from connectors.webhook import Webhook
from pipewright.events import EventType, Record
from pipewright.expressions import Template
from pipewright.ports import Secret

FIXTURES = Path(catalogue.__file__).with_name("catalogue") / "fixtures"
SECRET = "the benchmark's"
PROOF = "x-signature-256"
SCHEME = HmacBody.parse({"header": PROOF, "prefix": "sha256="}, Template)
"""One for all: what their own verifiers cost more or less is not what is measured."""
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A provider's delivery, and what reads it."""

    connector: str
    webhook: Webhook
    config: dict[str, Any]
    headers: dict[str, str]
    body: bytes


def given() -> list[Given]:
    """Every webhook fixture of the catalogue that says something of a run or a job."""
    found = []
    for name, manifest in catalogue.load().items():
        for path in sorted((FIXTURES / name).glob("*.json")):
            found += _read(name, manifest, json.loads(path.read_text()))
    return found


def _read(name: str, manifest: Manifest, fixture: dict[str, Any]) -> list[Given]:
    config = manifest.completed(fixture.get("config", {}))
    webhook = manifest.webhook_of(config)
    if webhook is None:
        return []
    kind, body = "application/json", json.dumps(fixture["body"], separators=(",", ":")).encode()
    if "json" not in webhook.body.accepts:
        kind, body = "application/x-www-form-urlencoded", urlencode({webhook.body.field: body}).encode()
    headers = {"content-type": kind, **fixture.get("headers", {})}
    for source, value in ((webhook.delivery, "d-1"), (webhook.event, fixture["event"])):
        if source.header:
            headers.setdefault(source.header, value)
    headers[PROOF] = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    made = Given(
        connector=name, webhook=webhook, config=dict(manifest.plain(config)), headers=headers, body=body
    )
    return [] if isinstance(ours(made), Ignored) else [made]


def ours(it: Given) -> list[tuple[EventType, Record]] | Ignored:
    """Signature, document, identity, records: what the gateway does before it stores."""
    _verify(it)
    opened = mapping.open_delivery(it.webhook, headers=it.headers, raw=it.body)
    identity = mapping.identify(it.webhook, opened, it.config)
    return mapping.map_delivery(it.webhook, opened, event=identity.event, config=it.config)


def bare(it: Given) -> Any:
    """Signature and document only."""
    _verify(it)
    return json.loads(it.body) if it.body[:1] == b"{" else parse_qs(it.body)


def _verify(it: Given) -> None:
    claim = Claim(headers=it.headers, body=it.body, secrets=(Secret(SECRET),), now=NOW, config={}, source="")
    SCHEME.check(claim)


def rate(work: Callable[[Given], Any], some: Sequence[Given], *, seconds: float) -> float:
    """How many of them a core does in a second, by CPU time, each as often as the others."""
    began, count = time.process_time(), 0
    while time.process_time() - began < seconds:
        for each in some:
            work(each)
        count += len(some)
    return count / (time.process_time() - began)
