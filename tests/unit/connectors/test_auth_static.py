"""Secrets that go over the wire as they are: what a provider sees, and what is never sent."""

import base64
import json
from importlib import resources
from typing import Any

import pytest

from connectors import actions
from connectors.auth import KINDS
from connectors.calls import Account
from connectors.http import Http
from connectors.mistakes import ManifestError
from connectors.outbound import Outbound
from pipewright import errors
from pipewright.ports import Secret


def account(**fields: str) -> Account:
    return Account(config={}, credentials={name: Secret(value) for name, value in fields.items()})


def basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


AZURE = {"kind": "basic", "username": "", "passwordField": "token"}
JENKINS = {"kind": "basic", "usernameField": "user", "passwordField": "token"}

SENT: dict[str, tuple[dict[str, Any], dict[str, str], str, str]] = {
    # RFC 6750 §2.1
    "bearer": (
        {"kind": "bearer", "field": "token"},
        {"token": "mF_9.B5f-4.1JqM"},
        "Authorization",
        "Bearer mF_9.B5f-4.1JqM",
    ),
    # RFC 7617 §2: Aladdin and open sesame
    "basic of a credential": (
        JENKINS,
        {"user": "Aladdin", "token": "open sesame"},
        "Authorization",
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    ),
    # RFC 7617 §2.1: test and 123£ in UTF-8
    "basic beyond ASCII": (
        JENKINS,
        {"user": "test", "token": "123£"},
        "Authorization",
        "Basic dGVzdDoxMjPCow==",
    ),
    "basic without a user": (AZURE, {"token": "pat"}, "Authorization", basic(":pat")),
    "basic of a constant": (
        {"kind": "basic", "username": "x-token-auth", "passwordField": "token"},
        {"token": "app:password"},
        "Authorization",
        basic("x-token-auth:app:password"),
    ),
    "basic of the config": (
        {"kind": "basic", "username": "${{ config.user }}", "passwordField": "token"},
        {"token": "pw"},
        "Authorization",
        basic("ada:pw"),
    ),
    "a header of its own": (
        {"kind": "header", "header": "Circle-Token", "field": "token"},
        {"token": "c1"},
        "Circle-Token",
        "c1",
    ),
    "a scheme of its own": (
        {"kind": "header", "header": "Authorization", "prefix": "token ", "field": "token"},
        {"token": "t1"},
        "Authorization",
        "token t1",
    ),
}


@pytest.mark.parametrize(("auth", "fields", "header", "value"), SENT.values(), ids=SENT.keys())
async def test_a_secret_goes_over_the_wire_as_its_kind_says(
    connector: Any,
    provider: Any,
    client: Outbound,
    auth: Any,
    fields: dict[str, str],
    header: str,
    value: str,
) -> None:
    provider.on("/me")
    await actions.check(connector(auth, credentials=tuple(fields)), account=account(**fields), client=client)
    (seen,) = provider.seen
    assert (seen.method, seen.path, seen.headers[header]) == ("GET", "/me", value)
    assert [name for name in seen.headers if name in ("Authorization", "Circle-Token")] == [header]


NOT_SENT: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "no token": (SENT["bearer"][0], {"token": ""}, "the Secret lacks token"),
    "two lines": (
        SENT["a header of its own"][0],
        {"token": "canary-1\r\nX: y"},
        "field token is missing, empty or no token",
    ),
    "a space": (
        SENT["bearer"][0],
        {"token": "canary-1 canary-2"},
        "field token is missing, empty or no token",
    ),
    "a colon in the user's name": (JENKINS, {"user": "canary-1:x", "token": "t"}, "must have no colon"),
    "a password of two lines": (
        JENKINS,
        {"user": "a", "token": "canary-1\nx"},
        "field token has control characters",
    ),
    "no user": (JENKINS, {"user": " ", "token": "t"}, "the Secret lacks user"),
}


@pytest.mark.parametrize(("auth", "fields", "message"), NOT_SENT.values(), ids=NOT_SENT.keys())
async def test_a_secret_that_cannot_be_one_is_never_sent(
    connector: Any, provider: Any, client: Outbound, auth: Any, fields: dict[str, str], message: str
) -> None:
    with pytest.raises(errors.Stalled) as refused:
        await actions.check(
            connector(auth, credentials=tuple(fields)), account=account(**fields), client=client
        )
    assert refused.value.reason == "CredentialsRefused"
    assert message in refused.value.message
    assert "canary" not in refused.value.message
    assert provider.seen == []


@pytest.mark.parametrize(
    ("auth", "fields", "repeated"),
    [
        (SENT["bearer"][0], {"token": "canary-1"}, "no such token: canary-1"),
        (JENKINS, {"user": "ada", "token": "canary-1"}, f"no: {basic('ada:canary-1')} canary-1"),
    ],
)
async def test_a_provider_that_repeats_the_secret_does_not_spread_it(
    connector: Any, provider: Any, client: Outbound, auth: Any, fields: dict[str, str], repeated: str
) -> None:
    provider.on("/me", {"message": repeated}, status=401)
    with pytest.raises(errors.Stalled) as refused:
        await actions.check(
            connector(auth, credentials=tuple(fields)), account=account(**fields), client=client
        )
    assert "…" in refused.value.message
    assert "canary" not in refused.value.message
    assert basic("ada:canary-1").removeprefix("Basic ") not in refused.value.message
    assert len(provider.seen) == 1, "a secret that stays the same is not sent again"


# --- several kinds, and what a manifest may not say ----------------------------------------------------

BOTH = [SENT["bearer"][0], {"kind": "basic", "usernameField": "user", "passwordField": "password"}]
FIELDS = ("token", "user", "password")


@pytest.mark.parametrize(
    ("fields", "scheme"),
    [
        ({"token": "t"}, "Bearer"),
        ({"user": "u", "password": "p"}, "Basic"),
        ({"token": "t", "user": "u", "password": "p"}, "Bearer"),
        ({"token": "", "user": "u", "password": "p"}, "Basic"),
    ],
)
async def test_of_several_kinds_the_first_is_used_whose_credentials_are_there(
    connector: Any, provider: Any, client: Outbound, fields: dict[str, str], scheme: str
) -> None:
    provider.on("/me")
    await actions.check(connector(BOTH, credentials=FIELDS), account=account(**fields), client=client)
    assert provider.seen[0].headers["Authorization"].split()[0] == scheme


@pytest.mark.parametrize(
    ("names", "lacking"),
    [
        ((), "token, or user and password"),
        (("user",), "password"),
        (("other",), "token, or user and password"),
        (("user", "password"), ""),
    ],
)
def test_what_is_missing_is_told_by_the_kind_that_was_begun(
    connector: Any, names: tuple[str, ...], lacking: str
) -> None:
    http: Http = connector(BOTH, credentials=FIELDS).http
    assert http.lacking(names) == lacking


@pytest.mark.parametrize(
    ("auth", "credentials", "message"),
    [
        ({"kind": "ntlm", "field": "token"}, ("token",), "'ntlm' is not one of ['bearer', 'basic'"),
        (AZURE | {"usernameField": "user"}, ("token", "user"), "http.auth"),
        ({"kind": "bearer", "field": "token", "prefix": "x"}, ("token",), "'prefix'"),
        ({"kind": "header", "header": "X Y", "field": "token"}, ("token",), "'X Y' does not match"),
        ({"kind": "header", "header": "X", "field": "token", "prefix": "a\nb"}, ("token",), "does not match"),
        ({"kind": "bearer", "field": "key"}, ("token",), "http.auth: no credential is called key"),
        ({"kind": "bearer", "field": "token"}, ("token", "key"), "credentials: key is used by no http.auth"),
        (
            [BOTH[0], BOTH[1] | {"username": "${{ secret }}"}],
            FIELDS,
            "http.auth",
        ),
        (
            {"kind": "basic", "username": "${{ secret.x }}", "passwordField": "token"},
            ("token",),
            "http.auth: line 1, column 11: nothing is called 'secret.x' here; there is input, config",
        ),
    ],
)
def test_a_manifest_that_names_no_proof_is_refused(
    connector: Any, auth: Any, credentials: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ManifestError) as refused:
        connector(auth, credentials=credentials)
    assert message in str(refused.value)


def test_every_kind_of_the_schema_is_implemented() -> None:
    schema = json.loads(resources.files("connectors").joinpath("schema.json").read_text())["$defs"]["auth"]
    assert schema["properties"]["kind"]["enum"] == list(KINDS)
    assert [rule["if"]["properties"]["kind"]["const"] for rule in schema["allOf"]] == list(KINDS)
