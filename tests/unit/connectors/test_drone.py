"""Drone: how a delivery is proved, and what its actions ask for."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from connectors import actions, catalogue
from connectors.calls import Account
from connectors.manifest import Manifest
from connectors.mistakes import ConfigError
from connectors.outbound import Outbound
from connectors.verify import Claim, SignatureRefused, Verifier
from connectors.webhook import Webhook
from pipewright.ports import Secret

DRONE: Manifest = catalogue.load()["drone"]
VERIFIER = cast("Verifier", cast("Webhook", DRONE.webhook).verify)
NOW = datetime(2026, 5, 4, 9, 6, 20, tzinfo=UTC)
BODY = b'{"action":"completed"}'
BUILD = {"project": "acme/shop", "number": "42"}
PLACE = "/api/repos/acme/shop/builds/42"
LINES = [{"pos": at, "out": f"line {at}\n", "time": at} for at in range(12)]


def signed(
    body: bytes = BODY, *, key: bytes = b"5e1f", date: str = "Mon, 04 May 2026 09:06:00 GMT"
) -> dict[str, str]:
    """The headers as Drone sends them."""
    digest = "SHA-256=" + base64.b64encode(hashlib.sha256(body).digest()).decode()
    message = f"date: {date}\ndigest: {digest}".encode()
    mac = base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
    signature = f'keyId="hmac-key",algorithm="hmac-sha256",signature="{mac}",headers="date digest"'
    return {"date": date, "digest": digest, "signature": signature}


def check(headers: dict[str, str]) -> None:
    VERIFIER.check(Claim(headers=headers, body=BODY, secrets=[Secret("5e1f")], now=NOW))


def test_a_delivery_is_signed_with_the_secret_as_it_is() -> None:
    check(signed())
    with pytest.raises(SignatureRefused, match="the signature is wrong"):
        check(signed(key=base64.b64decode("5e1f")))


@pytest.mark.parametrize(
    "headers", [{}, signed(b"{}"), signed(date="Mon, 04 May 2026 09:00:00 GMT")], ids=["none", "body", "old"]
)
def test_what_is_not_proved_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureRefused):
        check(headers)


@pytest.mark.parametrize(
    ("action", "inputs", "method", "path", "answer", "outputs"),
    [
        (
            "restart-build", BUILD, "POST", PLACE, {"id": 7002, "number": 43, "status": "pending"},
            {"id": "7002", "number": "43", "status": "pending"},
        ),
        ("cancel-build", BUILD, "DELETE", PLACE, "", {"status": 200}),
        (
            "read-log", BUILD | {"stage": "1", "step": "2"}, "GET", f"{PLACE}/logs/1/2", LINES,
            {"tail": "".join(f"line {at}\n" for at in range(2, 12))},
        ),
        (
            "read-log", BUILD | {"stage": "1", "step": "2"}, "GET", f"{PLACE}/logs/1/2",
            [{"out": "x" * 3000}], {"tail": "x" * 1000},
        ),
        ("read-log", BUILD | {"stage": "1", "step": "9"}, "GET", f"{PLACE}/logs/1/9", [], {"tail": ""}),
    ],
)  # fmt: skip
async def test_an_action_is_one_request(
    action: str,
    inputs: dict[str, str],
    method: str,
    path: str,
    answer: Any,
    outputs: dict[str, Any],
    provider: Any,
    client: Outbound,
) -> None:
    provider.on(path, answer)
    account = Account(config={"baseUrl": provider.url}, credentials={"token": Secret("t")})
    found = await actions.perform(DRONE, action, inputs=inputs, account=account, client=client)
    assert found == outputs
    (seen,) = provider.seen
    assert (seen.method, seen.path, seen.headers["Authorization"]) == (method, path, "Bearer t")


def test_the_servers_address_must_be_told() -> None:
    with pytest.raises(ConfigError, match="baseUrl is required"):
        DRONE.configure({})
