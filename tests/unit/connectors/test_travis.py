"""Travis CI: a form that its own key signs, and what its actions ask for."""

import base64
import json
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors import actions, catalogue, mapping, verify
from connectors.calls import Account
from connectors.manifest import Manifest
from connectors.outbound import Outbound
from connectors.verify import Claim, SignatureRefused
from connectors.webhook import Webhook
from pipewright.ports import Secret

TRAVIS: Manifest = catalogue.load()["travis"]
WEBHOOK = cast("Webhook", TRAVIS.webhook)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PAYLOAD = json.dumps({"id": 1, "state": "started", "message": "50 % + more & better"})
FORM = "application/x-www-form-urlencoded"


def body(payload: str = PAYLOAD) -> bytes:
    return urlencode({"payload": payload}).encode()


def signed(payload: str = PAYLOAD) -> str:
    return base64.b64encode(KEY.sign(payload.encode(), padding.PKCS1v15(), hashes.SHA1())).decode()


class Keys:
    """The API's `/config`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get(self, url: str, *, newer: bool = False) -> bytes:
        self.asked.append(url)
        pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return json.dumps({"config": {"notifications": {"webhook": {"public_key": pem}}}}).encode()


def claim(headers: dict[str, str], raw: bytes) -> Claim:
    return Claim(
        headers=headers,
        body=raw,
        secrets=[Secret("unused")],
        now=datetime(2026, 5, 4, tzinfo=UTC),
        config=TRAVIS.configure({}),
    )


async def test_the_field_of_the_form_is_what_is_signed() -> None:
    keys = Keys()
    await verify.verify(WEBHOOK.verify, claim({"signature": signed()}, body()), keys=keys)
    assert keys.asked == ["https://api.travis-ci.com/config"]
    opened = mapping.open_delivery(WEBHOOK, headers={"content-type": FORM}, raw=body())
    assert opened.body["message"] == "50 % + more & better"
    assert mapping.identify(WEBHOOK, opened).event == "build"


@pytest.mark.parametrize(
    ("headers", "raw"),
    [({}, body()), ({"signature": signed()}, body("{}")), ({"signature": "AAAA"}, body())],
    ids=["nothing", "another payload", "another signature"],
)
async def test_what_is_not_proved_is_refused(headers: dict[str, str], raw: bytes) -> None:
    with pytest.raises(SignatureRefused):
        await verify.verify(WEBHOOK.verify, claim(headers, raw), keys=Keys())


PENDING = {"@type": "pending", "state_change": "restart", "resource_type": "build"}


@pytest.mark.parametrize(
    ("action", "inputs", "method", "path", "answer", "outputs"),
    [
        ("restart-build", {"run": "81"}, "POST", "/build/81/restart", PENDING, {"status": 202}),
        ("cancel-build", {"run": "81"}, "POST", "/build/81/cancel", PENDING, {"status": 202}),
        ("restart-job", {"job": "91"}, "POST", "/job/91/restart", PENDING, {"status": 202}),
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
    provider.on(path, answer, status=202 if method == "POST" else 200)
    account = Account(config={"baseUrl": provider.url}, credentials={"token": Secret("t")})
    assert await actions.perform(TRAVIS, action, inputs=inputs, account=account, client=client) == outputs
    (seen,) = provider.seen
    assert (seen.method, seen.path) == (method, path)
    assert (seen.headers["Authorization"], seen.headers["Travis-API-Version"]) == ("token t", "3")
