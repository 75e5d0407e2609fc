"""Buildkite: how a delivery is proved, and what its actions ask for."""

import hashlib
import hmac
import json
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

BUILDKITE: Manifest = catalogue.load()["buildkite"]
VERIFIER = cast("Verifier", cast("Webhook", BUILDKITE.webhook).verify)
NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
BODY = b'{"event":"build.finished"}'
BUILD = {"project": "acme/shop", "number": "118"}
JOB = BUILD | {"job": "0199f3a2-8a40-4b1f-8d7c-6b5a4e3d2c1b"}
PLACE = "/v2/organizations/acme/pipelines/shop/builds/118"
STATE = {"id": "b", "state": "scheduled", "web_url": "https://buildkite.com/acme/shop/builds/119"}


def signed(body: bytes = BODY, *, at: datetime = NOW, secret: str = "s3cret") -> str:
    moment = str(int(at.timestamp()))
    mac = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"timestamp={moment},signature={mac}"


def check(**headers: str) -> None:
    VERIFIER.check(Claim(headers=headers, body=BODY, secrets=[Secret("s3cret")], now=NOW))


@pytest.mark.parametrize(
    "headers", [{"x-buildkite-signature": signed()}, {"x-buildkite-token": "s3cret"}], ids=["signed", "token"]
)
def test_a_delivery_is_proved_by_a_signature_or_the_token(headers: dict[str, str]) -> None:
    check(**headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-buildkite-signature": signed(b"{}")},
        {"x-buildkite-signature": signed(at=datetime(2026, 5, 4, 8, 54, tzinfo=UTC))},
        {"x-buildkite-token": "other"},
        {"x-buildkite-signature": signed(secret="other"), "x-buildkite-token": "s3cret"},
    ],
    ids=["nothing", "another body", "too old", "another token", "a wrong signature with the token"],
)
def test_what_is_not_proved_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureRefused):
        check(**headers)


@pytest.mark.parametrize(
    ("action", "inputs", "method", "path", "answer", "outputs"),
    [
        ("rebuild", BUILD, "PUT", f"{PLACE}/rebuild", STATE, {"id": "b", "status": "scheduled"}),
        ("cancel-build", BUILD, "PUT", f"{PLACE}/cancel", STATE, {"id": "b", "status": "scheduled"}),
        ("retry-job", JOB, "PUT", f"{PLACE}/jobs/{JOB['job']}/retry", STATE, {"status": "scheduled"}),
    ],
)  # fmt: skip
async def test_an_action_is_one_request(
    action: str,
    inputs: dict[str, str],
    method: str,
    path: str,
    answer: Any,
    outputs: dict[str, str],
    provider: Any,
    client: Outbound,
) -> None:
    provider.on(path, answer)
    account = Account(config={"baseUrl": provider.url}, credentials={"token": Secret("bkua_x")})
    found = await actions.perform(BUILDKITE, action, inputs=inputs, account=account, client=client)
    assert {name: found[name] for name in outputs} == outputs
    (seen,) = provider.seen
    assert (seen.method, seen.path, seen.headers["Authorization"]) == (method, path, "Bearer bkua_x")


async def test_scopes_that_a_token_lacks_are_told(provider: Any, client: Outbound) -> None:
    provider.on("/v2/access-token", {"uuid": "u", "scopes": ["read_builds", "read_user"]})
    account = Account(config={"baseUrl": provider.url}, credentials={"token": Secret("bkua_x")})
    found = await actions.check(BUILDKITE, account=account, client=client)
    assert found is not None
    assert found.missing == ("write_builds", "read_build_logs")


@pytest.mark.parametrize("project", ["shop", "acme/shop/more", "acme/..%2Fx", "acme/", "/shop"])
def test_what_is_no_pipeline_is_refused(project: str) -> None:
    with pytest.raises(ConfigError, match="project must match"):
        BUILDKITE.actions["rebuild"].parse(json.loads(json.dumps(BUILD)) | {"project": project})
