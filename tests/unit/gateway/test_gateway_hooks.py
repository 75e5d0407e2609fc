"""A delivery at the gateway's door: its headers, and its proof, by a provider's key where one is needed."""

import base64
import dataclasses
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from starlette.requests import Request

from connectors import catalogue, verify
from gateway.hooks import Hooks, _headers, _told
from gateway.problems import Problem
from pipewright import errors, expressions
from pipewright.expressions import Template
from pipewright.ports import Secret
from pipewright.store.records import Route

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)
GITHUB = catalogue.load()["github"]
# The example of GitHub's "Validating webhook deliveries".
SIGNED = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
NAMED = {"x-github-delivery": "1", "x-github-event": "ping"}
ROUTE = Route(
    hook_id="h", tenant_id="t", namespace="n", integration="i", integration_uid="u", connector="github"
)


class Keys:
    """One secret for every webhook, and one public key at every address."""

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key
        self.asked: list[str] = []

    def webhook_secrets(self, _route: Route) -> tuple[Secret, ...]:
        return (Secret("It's a Secret to Everybody"),)

    async def get(self, url: str, *, newer: bool = False) -> bytes:
        self.asked.append(url)
        if self.key is None:
            raise errors.Unreachable("the provider is down")
        return self.key


class At:
    """A clock that stands."""

    def now(self) -> datetime:
        return NOW


def hooks(keys: Keys) -> Hooks:
    unused = cast("Any", None)
    return Hooks(
        directory=unused, databases=unused, keys=cast("Any", keys), provider_keys=keys, catalogue={},
        models=unused, dispatcher=unused, spool=unused, lanes=unused, room=unused, groups=unused, clock=At(),
        metrics=unused, max_body=1,
    )  # fmt: skip


def request(*headers: tuple[str, str]) -> Request:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return Request({"type": "http", "headers": raw})


def test_a_header_that_came_twice_is_one() -> None:
    found = _headers(request(("X-A", "1"), ("x-b", "2"), ("x-a", "3"), ("X-A", "1")))
    assert found == {"x-a": "1, 3, 1", "x-b": "2"}


async def test_githubs_example_is_accepted_and_nothing_is_fetched() -> None:
    keys = Keys()
    headers = {**NAMED, "x-hub-signature-256": SIGNED}
    await hooks(keys)._verify(_told(ROUTE, GITHUB), headers=headers, body=b"Hello, World!", source="")
    assert keys.asked == []


@pytest.mark.parametrize("signature", ["", "sha256=00", f"{SIGNED}, {SIGNED}"])
async def test_what_is_not_signed_is_answered_401(signature: str) -> None:
    headers = {**NAMED, "x-hub-signature-256": signature}
    told = _told(ROUTE, GITHUB)
    with pytest.raises(Problem) as refused:
        await hooks(Keys())._verify(told, headers=headers, body=b"Hello, World!", source="")
    assert (refused.value.status, refused.value.reason) == (401, "SignatureRefused")


async def test_a_key_is_fetched_from_where_the_config_says() -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signature = base64.b64encode(private.sign(b"body", padding.PKCS1v15(), hashes.SHA256())).decode()
    options = {"header": "S", "algorithm": "sha256", "keyUrl": "${{ config.baseUrl }}/key"}
    kind = verify.KINDS["rsa"](options, lambda source: Template(source, expressions.inputs()))
    told = _told(ROUTE, GITHUB)
    told = dataclasses.replace(told, webhook=dataclasses.replace(told.webhook, verify=kind))
    keys = Keys(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    given: Any = {"headers": {**NAMED, "s": signature}, "body": b"body", "source": ""}
    await hooks(keys)._verify(told, **given)
    assert keys.asked == ["https://api.github.com/key"]
    with pytest.raises(errors.Unreachable):
        await hooks(Keys())._verify(told, **given)
