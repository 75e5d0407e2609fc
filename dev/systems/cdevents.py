"""A source of CDEvents, in CloudEvents' binary mode and signed as Pipewright asks for: it has no API.

https://cdevents.dev/docs/cloudevents-binding/
"""

from __future__ import annotations

import uuid

from aiohttp import web

from dev.systems import proofs
from dev.systems.engine import Event, Sent, System


def system() -> System:
    """A source of CDEvents."""
    return System(
        name="cdevents",
        credentials={},
        admits=lambda _: False,
        refusal=lambda: web.Response(status=404),
        sign=_sign,
        routes=[],
    )


def _sign(event: Event, secret: str) -> Sent:
    body, context = proofs.compact(event.body), event.body["context"]
    headers = {
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": str(uuid.uuid4()),
        "ce-source": context["source"],
        "ce-type": context["type"],
        "X-Signature-256": f"sha256={proofs.hmac_hex(secret, body)}",
    }
    return Sent(headers=headers, body=body)
