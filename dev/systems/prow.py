"""Prow: Deck without a login, and its reporter's messages as Google Pub/Sub pushes them.

https://docs.prow.k8s.io/docs/components/core/deck/, https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
"""

from __future__ import annotations

import base64
import copy
import json
import time

from aiohttp import web
from cryptography.hazmat.primitives import hashes

from dev.systems import proofs
from dev.systems.engine import LOG, Asked, Event, Sent, Simulator, System

AUDIENCE = "pipewright"
ACCOUNT = "prow-push@acme-ci.iam.gserviceaccount.com"
KEYS = "/oauth2/v3/certs"
"""Where Google's keys are in its place."""


def system() -> System:
    """Prow, and as much of Google as it needs."""
    return System(
        name="prow",
        credentials={},
        admits=lambda _: True,
        refusal=lambda: web.Response(status=401),
        sign=_sign,
        routes=[
            ("GET", "/", lambda _sim, _asked: web.Response(text="<html>", content_type="text/html")),
            ("GET", "/log", _log),
            ("GET", KEYS, _keys),
        ],
    )


def _sign(event: Event, secret: str) -> Sent:
    """Nothing is shared with Google: another secret stands for another key than its own."""
    body = copy.deepcopy(event.body)
    data = body["message"]["data"]
    body["message"]["data"] = base64.b64encode(proofs.compact(data)).decode()
    moment = int(time.time())
    claims = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "email": ACCOUNT,
        "email_verified": True,
        "iat": moment,
        "exp": moment + 3600,
    }
    head = {"alg": "RS256", "kid": "simulated", "typ": "JWT"}
    signed = ".".join(proofs.base64url(json.dumps(part).encode()) for part in (head, claims))
    proof = proofs.base64url(proofs.rsa_signature(secret, signed.encode(), hashes.SHA256()))
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {signed}.{proof}"}
    return Sent(headers=headers, body=proofs.compact(body))


def _keys(sim: Simulator, _: Asked) -> web.Response:
    secret = sim.entered[1]
    numbers = proofs.key(secret).public_key().public_numbers()
    modulus, exponent = (
        proofs.base64url(number.to_bytes((number.bit_length() + 7) // 8)) for number in (numbers.n, numbers.e)
    )
    public = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "simulated", "n": modulus, "e": exponent}
    return web.json_response({"keys": [public]})


def _log(_: Simulator, asked: Asked) -> web.Response:
    if not asked.query.get("job") or not asked.query.get("id"):
        return web.Response(status=400, text="missing job or id")
    return web.Response(text=LOG)
