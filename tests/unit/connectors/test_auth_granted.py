"""Kinds that are granted a token for a while: what is asked for it, how long it is kept, and who gets it."""

import asyncio
import base64
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwk, jwt

from connectors import actions
from connectors.actions import OutcomeUnknown
from connectors.auth import Tokens
from connectors.auth.tokens import Token
from connectors.calls import Account
from connectors.outbound import Outbound
from pipewright import errors
from pipewright.ports import Secret

KEY = jwk.RSAKey.generate_key(2048)
PEM = KEY.as_pem(private=True).decode()
OTHER_PEM = jwk.RSAKey.generate_key(2048).as_pem(private=True).decode()
SHORT_PEM = (
    rsa.generate_private_key(65537, 1024)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
CANARY = "canary/sécret+1"

OAUTH = {
    "kind": "oauth2ClientCredentials",
    "tokenUrl": "${{ config.tokenUrl }}",
    "clientIdField": "clientId",
    "clientSecretField": "clientSecret",
    "scope": "builds ${{ config.user }}",
}
GOOGLE = {
    "kind": "googleServiceAccount",
    "keyField": "key",
    "scope": "https://www.googleapis.com/auth/cloud-platform",
    "tokenUrl": "${{ config.tokenUrl }}",
}
APP = {
    "kind": "githubApp",
    "appIdField": "appId",
    "installationIdField": "installationId",
    "privateKeyField": "privateKey",
}
SERVICE_ACCOUNT = json.dumps(
    {
        "type": "service_account",
        "client_email": "ci@acme.iam.gserviceaccount.com",
        "private_key_id": "k1",
        "private_key": PEM,
        "token_uri": "https://elsewhere.example/token",
    }
)
GRANTS = "/app/installations/42/access_tokens"

# kind: (manifest's auth, the Secret's fields, where a token is asked for, an answer with the token `name`)
KINDS: dict[str, tuple[dict[str, Any], dict[str, str], str, Any]] = {
    "oauth2": (
        OAUTH,
        {"clientId": "id 1", "clientSecret": CANARY},
        "/token",
        lambda name: {"access_token": name, "token_type": "Bearer", "expires_in": 3600},
    ),
    "google": (
        GOOGLE,
        {"key": SERVICE_ACCOUNT},
        "/token",
        lambda name: {"access_token": name, "token_type": "Bearer", "expires_in": 3600},
    ),
    "app": (
        APP,
        {"appId": "Iv1.x", "installationId": "42", "privateKey": PEM},
        GRANTS,
        lambda name: {"token": name, "expires_at": "2026-03-01T13:00:00Z"},
    ),
}
EACH = pytest.mark.parametrize("kind", KINDS)


class World:
    """One Integration of a kind, and the process that serves it."""

    def __init__(self, kind: str, connector: Any, provider: Any, client: Outbound, clock: Any) -> None:
        auth, fields, self.grants, self._answer = KINDS[kind]
        self.manifest = connector(auth, credentials=tuple(fields))
        self.provider, self._client, self.clock = provider, client, clock
        self.tokens = Tokens(clock=clock)
        self.fields = dict(fields)
        provider.on("/me")

    def grant(self, *names: str) -> None:
        for name in names:
            self.provider.on(self.grants, self._answer(name), status=201 if self.grants == GRANTS else 200)

    async def check(self) -> None:
        await actions.check(self.manifest, **self._given())

    async def run(self) -> Any:
        return await actions.perform(self.manifest, "run", inputs={"id": "7"}, **self._given())

    def _given(self) -> Any:
        credentials = {name: Secret(value) for name, value in self.fields.items()}
        return {
            "account": Account(config={}, credentials=credentials),
            "client": self._client,
            "clock": self.clock,
            "tokens": self.tokens,
        }

    @property
    def shown(self) -> list[str]:
        return [seen.headers["Authorization"] for seen in self.provider.asked("/me")]


@pytest.fixture
def world(kind: str, connector: Any, provider: Any, client: Outbound, clock: Any) -> World:
    return World(kind, connector, provider, client, clock)


# --- what is asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["oauth2"])
@pytest.mark.parametrize("place", ["header", "body"])
async def test_a_clients_id_and_secret_ask_for_a_token(world: World, connector: Any, place: str) -> None:
    world.manifest = connector(OAUTH | {"clientAuthentication": place}, credentials=tuple(world.fields))
    world.grant("t1")
    await world.check()
    (asked,) = world.provider.asked("/token")
    form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
    wanted = {"grant_type": "client_credentials", "scope": "builds ada"}
    if place == "body":
        assert form == wanted | {"client_id": "id 1", "client_secret": CANARY}
        assert "Authorization" not in asked.headers
    else:
        assert form == wanted
        # RFC 6749 §2.3.1: each is form-encoded first
        pair = base64.b64encode(b"id+1:canary%2Fs%C3%A9cret%2B1").decode()
        assert asked.headers["Authorization"] == f"Basic {pair}"
    assert asked.method == "POST"
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert world.shown == ["Bearer t1"]


@pytest.mark.parametrize("kind", ["google"])
async def test_a_service_accounts_assertion_is_for_the_manifests_address(world: World) -> None:
    world.grant("t1")
    await world.check()
    (asked,) = world.provider.asked("/token")
    form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    token = jwt.decode(form["assertion"], KEY, algorithms=["RS256"])
    assert token.header == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    now = int(world.clock.now().timestamp())
    assert token.claims == {
        "iss": "ci@acme.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": f"{world.provider.url}/token",
        "iat": now,
        "exp": now + 3600,
    }
    assert world.shown == ["Bearer t1"]


@pytest.mark.parametrize("kind", ["app"])
async def test_an_apps_assertion_lives_ten_minutes_at_most(world: World) -> None:
    world.grant("ghs_1")
    await world.check()
    (asked,) = world.provider.asked(GRANTS)
    assert (asked.method, asked.body) == ("POST", b"")
    token = jwt.decode(asked.headers["Authorization"].removeprefix("Bearer "), KEY, algorithms=["RS256"])
    now = int(world.clock.now().timestamp())
    assert token.claims == {"iss": "Iv1.x", "iat": now - 60, "exp": now + 540}
    assert world.shown == ["Bearer ghs_1"]


# --- how long it is kept ---------------------------------------------------------------------------


@EACH
async def test_a_token_is_kept_until_shortly_before_its_end(world: World) -> None:
    world.grant("t1", "t2")
    await world.check()
    world.clock.move(timedelta(minutes=57, seconds=59))
    await world.check()
    world.clock.move(timedelta(seconds=1))
    await world.check()
    assert world.shown == ["Bearer t1", "Bearer t1", "Bearer t2"]


@pytest.mark.parametrize("kind", ["oauth2"])
@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (60, timedelta(seconds=30)),
        ("3600", timedelta(minutes=58)),
        (None, timedelta(minutes=3)),
        ("soon", timedelta(minutes=3)),
    ],
)
async def test_a_tokens_life_is_what_the_answer_tells(world: World, told: Any, kept: timedelta) -> None:
    for name in ("t1", "t2"):
        world.provider.on("/token", {"access_token": name, "expires_in": told})
    await world.check()
    world.clock.move(kept - timedelta(seconds=1))
    await world.check()
    world.clock.move(timedelta(seconds=1))
    await world.check()
    assert world.shown == ["Bearer t1", "Bearer t1", "Bearer t2"]


@EACH
async def test_many_at_once_ask_for_one_token(world: World) -> None:
    world.grant("t1", "t2")
    await asyncio.gather(*(world.check() for _ in range(20)))
    assert len(world.provider.asked(world.grants)) == 1
    assert world.shown == ["Bearer t1"] * 20


@EACH
async def test_a_token_that_is_refused_is_replaced_once(world: World) -> None:
    world.grant("t1", "t2", "t3")
    world.provider.on("/runs/7", {"message": "Bad credentials"}, status=401)
    world.provider.on("/runs/7")
    assert await world.run() == {"status": 200}
    assert [seen.headers["Authorization"] for seen in world.provider.asked("/runs/7")] == [
        "Bearer t1",
        "Bearer t2",
    ]
    world.provider.on("/runs/8", {"message": "no t3"}, status=401)
    with pytest.raises(errors.Stalled) as refused:
        await actions.perform(world.manifest, "run", inputs={"id": "8"}, **world._given())
    assert refused.value.reason == "CredentialsRefused"
    assert "t3" not in refused.value.message
    assert len(world.provider.asked("/runs/8")) == 2, "asked again once, not for ever"


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("oauth2", {"clientSecret": "another"}),
        ("google", {"key": SERVICE_ACCOUNT.replace('"k1"', '"k2"')}),
        ("app", {"privateKey": OTHER_PEM}),
        ("app", {"appId": "Iv1.y"}),
    ],
)
async def test_other_credentials_do_not_find_the_token(world: World, other: dict[str, str]) -> None:
    world.grant("t1", "t2")
    await world.check()
    world.fields |= other
    await world.check()
    assert world.shown == ["Bearer t1", "Bearer t2"]


async def test_one_who_goes_away_takes_the_token_from_nobody(clock: Any) -> None:
    tokens, gate = Tokens(clock=clock), asyncio.Event()

    async def grant() -> Token:
        await gate.wait()
        return Token(value=Secret("t1"), expires=clock.now() + timedelta(hours=1))

    key = tokens.key("a")
    first, second = (asyncio.create_task(tokens.get(key, grant)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert (await second).value.reveal() == "t1"
    assert "t1" not in repr(await second)


async def test_a_token_granted_meanwhile_is_not_forgotten(clock: Any) -> None:
    tokens, granted = Tokens(clock=clock), 0

    async def grant() -> Token:
        nonlocal granted
        granted += 1
        return Token(value=Secret(f"t{granted}"), expires=clock.now() + timedelta(hours=1))

    key = tokens.key("a", "b")
    assert key != tokens.key("ab", "")
    first = await tokens.get(key, grant)
    tokens.forget(key, first)
    second = await tokens.get(key, grant)
    tokens.forget(key, first)  # another request was refused with the first one, too
    assert await tokens.get(key, grant) is second
    assert granted == 2


# --- no token --------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[int, Any, dict[str, str], type[Exception], str]] = {
    "a wrong secret": (
        401,
        {"error": "invalid_client", "error_description": CANARY},
        {},
        errors.Stalled,
        "Xen CI grants no token for the credentials (status 401, invalid_client)",
    ),
    "words that are no code": (400, {"error": f"no {CANARY}"}, {}, errors.Stalled, "(status 400)"),
    "a page": (404, "<html>", {}, errors.Stalled, "(status 404)"),
    "too many": (429, {}, {"Retry-After": "7"}, errors.Waiting, "grants no token now (status 429)"),
    "not now": (503, {}, {}, errors.Waiting, "grants no token now (status 503)"),
    "a fault": (500, {}, {}, errors.Unreachable, "gave no token, but status 500"),
    "a redirect": (302, {}, {"Location": "/me"}, errors.Unreachable, "gave no token, but status 302"),
    "nothing": (200, {}, {}, errors.Unreachable, "answered the request for a token without one"),
    "a token of two lines": (
        200,
        {"access_token": "a\nb", "token": "a\nb"},
        {},
        errors.Unreachable,
        "without one",
    ),
    "no object": (200, ["t1"], {}, errors.Unreachable, "without one"),
}


@EACH
@pytest.mark.parametrize(
    ("status", "body", "headers", "error", "message"), REFUSED.values(), ids=REFUSED.keys()
)
async def test_without_a_token_nothing_is_done(
    world: World, status: int, body: Any, headers: dict[str, str], error: type[Exception], message: str
) -> None:
    world.provider.on(world.grants, body, status=status, headers=headers)
    with pytest.raises(error) as refused:
        await world.run()
    assert message in str(refused.value)
    assert not isinstance(refused.value, OutcomeUnknown), "what was not sent surely did nothing"
    assert CANARY not in str(refused.value)
    assert "PRIVATE" not in str(refused.value)
    assert world.provider.asked("/runs/7") == []
    if headers.get("Retry-After"):
        assert isinstance(refused.value, errors.Waiting)
        assert refused.value.after == timedelta(seconds=7)


@pytest.mark.parametrize("kind", ["oauth2"])
async def test_a_token_of_another_type_is_not_used(world: World) -> None:
    world.provider.on("/token", {"access_token": "t", "token_type": "mac"})
    with pytest.raises(errors.Unreachable, match="not of the type bearer"):
        await world.check()


@pytest.mark.parametrize("kind", ["app"])
async def test_a_token_without_its_end_is_not_used(world: World) -> None:
    world.provider.on(GRANTS, {"token": "t", "expires_at": "soon"})
    with pytest.raises(errors.Unreachable, match="a token without its end"):
        await world.check()


@pytest.mark.parametrize("kind", ["oauth2", "google"])
async def test_a_token_is_asked_only_of_an_address_that_may_be_called(world: World, connector: Any) -> None:
    auth = KINDS["oauth2" if "clientId" in world.fields else "google"][0]
    world.manifest = connector(auth | {"tokenUrl": "https://10.0.0.1/token"}, credentials=tuple(world.fields))
    with pytest.raises(errors.Stalled, match="not on the public Internet"):
        await world.run()
    assert world.provider.seen == []


WRONG_KEYS: dict[str, tuple[str, dict[str, str], str]] = {
    "a service account of another shape": (
        "google",
        {"key": '{"type": "authorized_user"}'},
        "field key is not the JSON key",
    ),
    "no JSON": ("google", {"key": "canary"}, "field key is not the JSON key"),
    "a list": ("google", {"key": "[]"}, "field key is not the JSON key"),
    "a key that is none": (
        "google",
        {"key": SERVICE_ACCOUNT.replace("PRIVATE", "canary")},
        "field key has no RSA private key",
    ),
    "no PEM": ("app", {"privateKey": "canary"}, "field privateKey has no RSA private key in PEM"),
    "a public key": (
        "app",
        {"privateKey": KEY.as_pem(private=False).decode()},
        "field privateKey has no RSA private key",
    ),
    "a short key": (
        "app",
        {"privateKey": SHORT_PEM},
        "field privateKey has no RSA private key in PEM, of 2048",
    ),
    "a path for an installation": (
        "app",
        {"installationId": "42/x"},
        "field installationId is no installation's id",
    ),
    "an app's name": ("app", {"appId": "my app"}, "field appId is no app's id"),
}


@pytest.mark.parametrize(("kind", "fields", "message"), WRONG_KEYS.values(), ids=WRONG_KEYS.keys())
async def test_a_key_that_cannot_sign_is_told_by_its_field(
    world: World, fields: dict[str, str], message: str
) -> None:
    world.fields |= fields
    with pytest.raises(errors.Stalled) as refused:
        await world.check()
    assert refused.value.reason == "CredentialsRefused"
    assert message in refused.value.message
    assert "canary" not in refused.value.message
    assert world.provider.seen == []
