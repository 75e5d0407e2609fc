"""How a registry is logged in to: the challenge, the token's scope, and each vendor's own step before it."""

import base64
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors import actions, catalogue
from connectors.auth import challenge
from connectors.auth.challenge import Challenge
from connectors.auth.tokens import Tokens
from connectors.calls import Account
from connectors.outbound import Outbound
from pipewright import errors, expressions
from pipewright.ports import Secret

DIGEST = "sha256:" + "a" * 64
RESOLVE = {"repository": "acme/shop", "tag": "v1"}
MANIFEST = "/v2/acme/shop/manifests/v1"
FOUND = {"Docker-Content-Digest": DIGEST}


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            'Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="a:b:pull,push"',
            [
                Challenge(
                    scheme="bearer",
                    parameters={
                        "realm": "https://auth.example.com/token",
                        "service": "registry.example.com",
                        "scope": "a:b:pull,push",
                    },
                )
            ],
        ),
        ("Basic", [Challenge(scheme="basic")]),
        ("basic realm=x", [Challenge(scheme="basic", parameters={"realm": "x"})]),
        (
            'Basic realm="a \\"b\\", c", Bearer realm="https://x/t"',
            [
                Challenge(scheme="basic", parameters={"realm": 'a "b", c'}),
                Challenge(scheme="bearer", parameters={"realm": "https://x/t"}),
            ],
        ),
        ('Bearer realm="one", realm="two"', [Challenge(scheme="bearer", parameters={"realm": "one"})]),
        ("", []),
        ('="x"', []),
        ("Bearer " + "x" * 5000, []),
    ],
)
def test_a_challenge_is_read_as_it_is_written(header: str, found: list[Challenge]) -> None:
    assert list(challenge.challenges(header)) == found


@pytest.mark.parametrize(
    ("method", "url", "scope"),
    [
        ("GET", "https://r/v2/acme/shop/tags/list?n=3", "repository:acme/shop:pull"),
        ("HEAD", "https://r/v2/shop/manifests/v1", "repository:shop:pull"),
        ("PUT", "https://r/v2/acme/shop/manifests/v1", "repository:acme/shop:pull,push"),
        ("DELETE", f"https://r/v2/acme/shop/manifests/{DIGEST}", "repository:acme/shop:delete"),
        ("GET", "https://r/v2/", ""),
        ("GET", "https://r/v2/manifests/tags/tags/list", "repository:manifests/tags:pull"),
    ],
)
def test_a_tokens_scope_follows_from_the_request(method: str, url: str, scope: str) -> None:
    assert challenge.scope_of(method, url, base_url="https://r", delete="delete") == scope


def test_a_base_address_with_a_path_is_no_part_of_the_repository() -> None:
    url = "https://r/artifactory/api/docker/local/v2/shop/tags/list"
    base = "https://r/artifactory/api/docker/local"
    assert challenge.scope_of("GET", url, base_url=base, delete="delete") == "repository:shop:pull"


def bearer(url: str, **parameters: str) -> dict[str, str]:
    told = {"realm": f"{url}/token", "service": "registry.example.com", **parameters}
    return {"WWW-Authenticate": "Bearer " + ",".join(f'{name}="{value}"' for name, value in told.items())}


def asks_for_a_token(provider: Any, **parameters: str) -> None:
    provider.on("/v2/", {"errors": []}, status=401, headers=bearer(provider.url, **parameters))


async def resolve(
    connector: str,
    provider: Any,
    client: Outbound,
    *,
    tokens: Tokens | None = None,
    clock: Any = None,
    **given: Any,
) -> Any:
    config = {"baseUrl": provider.url, **given.get("config", {})}
    credentials = {name: Secret(value) for name, value in given["credentials"].items()}
    return await actions.perform(
        catalogue.load()[connector],
        "resolve",
        inputs=RESOLVE,
        account=Account(config=config, credentials=credentials),
        client=client,
        clock=clock,
        tokens=tokens,
    )


def pair(seen: Any) -> str:
    scheme, _, encoded = seen.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded).decode()


ROBOT = {"credentials": {"username": "robot$acme+ci", "password": "s3cret"}}


async def test_a_robot_account_is_shown_where_tokens_are_granted_and_only_there(
    provider: Any, client: Outbound
) -> None:
    asks_for_a_token(provider)
    provider.on("/token", {"token": "of-the-registry", "expires_in": 300})
    provider.on(MANIFEST, headers=FOUND)
    assert await resolve("harbor", provider, client, **ROBOT) == {
        "digest": DIGEST,
        "mediaType": "application/json",
    }
    (asked,) = provider.asked("/token")
    assert pair(asked) == "robot$acme+ci:s3cret"
    assert parse_qs(urlsplit(asked.path).query) == {
        "service": ["registry.example.com"],
        "scope": ["repository:acme/shop:pull"],
    }
    (seen,) = provider.asked(MANIFEST)
    assert (seen.method, seen.headers["Authorization"]) == ("HEAD", "Bearer of-the-registry")
    assert "application/vnd.oci.image.index.v1+json" in seen.headers["Accept"]
    assert "Authorization" not in provider.asked("/v2/")[0].headers


async def test_a_token_is_kept_until_its_end_and_one_scope_is_not_another(
    provider: Any, client: Outbound, clock: Any
) -> None:
    tokens = Tokens(clock=clock)
    asks_for_a_token(provider)
    provider.on("/token", {"access_token": "one", "expires_in": 300})
    provider.on(MANIFEST, headers=FOUND)
    for _ in range(2):
        await resolve("harbor", provider, client, tokens=tokens, clock=clock, **ROBOT)
    assert len(provider.asked("/token")) == 1
    clock.move(timedelta(seconds=301))
    await resolve("harbor", provider, client, tokens=tokens, clock=clock, **ROBOT)
    assert len(provider.asked("/token")) == 2


async def test_a_refused_token_is_asked_for_once_more(provider: Any, client: Outbound) -> None:
    asks_for_a_token(provider)
    provider.on("/token", {"token": "old"})
    provider.on("/token", {"token": "new"})
    provider.on(MANIFEST, {"errors": []}, status=401)
    provider.on(MANIFEST, headers=FOUND)
    await resolve("harbor", provider, client, **ROBOT)
    assert [seen.headers["Authorization"] for seen in provider.asked(MANIFEST)] == [
        "Bearer old",
        "Bearer new",
    ]


async def test_credentials_that_are_refused_are_told_without_them(provider: Any, client: Outbound) -> None:
    asks_for_a_token(provider)
    provider.on("/token", {"details": "incorrect username or password s3cret"}, status=401)
    with pytest.raises(errors.Stalled, match="Harbor grants no token") as refused:
        await resolve("harbor", provider, client, **ROBOT)
    assert refused.value.reason == "CredentialsRefused"
    assert "s3cret" not in str(refused.value)


async def test_a_registry_that_asks_for_basic_is_shown_the_login(provider: Any, client: Outbound) -> None:
    provider.on("/v2/", status=401, headers={"WWW-Authenticate": 'Basic realm="registry"'})
    provider.on(MANIFEST, headers=FOUND)
    await resolve("harbor", provider, client, **ROBOT)
    assert pair(provider.asked(MANIFEST)[0]) == "robot$acme+ci:s3cret"


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ('Bearer realm="https://evil.example/token"', "tokens granted at evil.example"),
        ('Bearer realm="http://127.0.0.1:1/token"', "tokens granted at 127.0.0.1, and"),
        ('Bearer realm="https://robot@127.0.0.1/token"', "tokens granted at 127.0.0.1, and"),
        ('Bearer realm="http://[::1/token"', "tokens granted at no address"),
        ('Bearer realm="http://a:99999/token"', "tokens granted at a, and"),
        ('Bearer realm="ftp://127.0.0.1/token"', "tokens granted at 127.0.0.1, and"),
        ('Bearer realm="/token"', "tokens granted at no address"),
        ("Bearer", "tokens granted at no address"),
        ('Negotiate realm="x"', "asks for negotiate"),
        ("", "does not say which"),
    ],
)
async def test_the_login_goes_nowhere_that_is_not_named(
    header: str, problem: str, provider: Any, client: Outbound
) -> None:
    provider.on("/v2/", status=401, headers={"WWW-Authenticate": header})
    with pytest.raises(errors.Stalled, match=problem) as refused:
        await resolve("harbor", provider, client, **ROBOT)
    assert refused.value.reason == "ProviderRefused"
    assert all("Authorization" not in seen.headers for seen in provider.seen)


async def test_docker_hubs_tokens_are_granted_at_an_address_of_their_own(
    provider: Any, client: Outbound
) -> None:
    asks_for_a_token(provider, realm=f"{provider.url}/elsewhere")
    provider.on("/elsewhere", {"token": "hub"})
    provider.on(MANIFEST, headers=FOUND)
    given = {"credentials": {"username": "ada", "token": "dckr_pat_x"}, "config": {"authUrl": provider.url}}
    await resolve("docker-hub", provider, client, **given)
    assert pair(provider.asked("/elsewhere")[0]) == "ada:dckr_pat_x"
    hub = catalogue.load()["docker-hub"]
    assert hub.configure({})["authUrl"] == "https://auth.docker.io"


async def test_a_registry_without_an_address_of_the_api_is_told(provider: Any, client: Outbound) -> None:
    with pytest.raises(errors.Stalled, match="no OCI registry is there"):
        await resolve("harbor", provider, client, **ROBOT)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_registry_is_asked_later(status: int, provider: Any, client: Outbound) -> None:
    provider.on("/v2/", status=status, headers={"Retry-After": "7"})
    with pytest.raises(errors.Waiting) as busy:
        await resolve("harbor", provider, client, **ROBOT)
    assert busy.value.after == timedelta(seconds=7)


ECR = {
    "credentials": {"accessKeyId": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "wJalrXUtnFEMI"},
}


async def test_ecr_grants_user_and_password_for_a_signed_request(
    provider: Any, client: Outbound, clock: Any
) -> None:
    given = ECR | {"config": {"region": "eu-west-1", "apiUrl": f"{provider.url}/ecr/"}}
    granted = base64.b64encode(b"AWS:of-twelve-hours").decode()
    ends = (clock.now() + timedelta(hours=12)).timestamp()
    provider.on("/ecr/", {"authorizationData": [{"authorizationToken": granted, "expiresAt": ends}]})
    provider.on(
        "/v2/", status=401, headers={"WWW-Authenticate": f'Basic realm="{provider.url}/",service="ecr"'}
    )
    provider.on(MANIFEST, headers=FOUND)
    tokens = Tokens(clock=clock)
    for _ in range(2):
        await resolve("ecr", provider, client, tokens=tokens, clock=clock, **given)
    (asked,) = provider.asked("/ecr/")
    assert (asked.method, asked.body) == ("POST", b"{}")
    assert asked.headers["X-Amz-Target"] == "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
    assert asked.headers["Content-Type"] == "application/x-amz-json-1.1"
    assert "/eu-west-1/ecr/aws4_request" in asked.headers["Authorization"]
    assert pair(provider.asked(MANIFEST)[0]) == "AWS:of-twelve-hours"


@pytest.mark.parametrize(
    "answer", [{}, {"authorizationData": []}, {"authorizationData": [{"authorizationToken": "!"}]}]
)
async def test_an_answer_of_ecr_without_a_password_is_no_login(
    answer: Any, provider: Any, client: Outbound
) -> None:
    given = ECR | {"config": {"region": "eu-west-1", "apiUrl": f"{provider.url}/ecr/"}}
    provider.on("/ecr/", answer)
    with pytest.raises(errors.Unreachable):
        await resolve("ecr", provider, client, **given)


def test_ecrs_api_is_that_of_the_region_unless_it_is_said() -> None:
    ecr = catalogue.load()["ecr"]
    assert ecr.http is not None
    login: Any = ecr.http.auths[0]
    scope = expressions.bind_input({}, {"region": "eu-west-1"})
    assert login.login_url.render(scope) == "https://api.ecr.eu-west-1.amazonaws.com/"


async def test_acr_exchanges_entras_token_for_one_of_its_own(provider: Any, client: Outbound) -> None:
    asks_for_a_token(provider, realm=f"{provider.url}/oauth2/token")
    provider.on(
        "/contoso/oauth2/v2.0/token", {"access_token": "entra", "expires_in": 3599, "token_type": "Bearer"}
    )
    provider.on("/oauth2/exchange", {"refresh_token": "acr-refresh"})
    provider.on("/oauth2/token", {"access_token": "acr-access"})
    provider.on(MANIFEST, headers=FOUND)
    given = {
        "credentials": {"clientId": "0f1e", "clientSecret": "s3cret"},
        "config": {"tenantId": "contoso", "entraUrl": provider.url},
    }
    await resolve("acr", provider, client, **given)
    forms = {
        seen.path: {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        for seen in provider.seen
        if seen.method == "POST"
    }
    assert forms["/contoso/oauth2/v2.0/token"]["scope"] == "https://containerregistry.azure.net/.default"
    assert forms["/oauth2/exchange"] == {
        "grant_type": "access_token",
        "service": "127.0.0.1",
        "access_token": "entra",
    }
    assert forms["/oauth2/token"] == {
        "grant_type": "refresh_token",
        "client_id": "pipewright",
        "service": "registry.example.com",
        "scope": "repository:acme/shop:pull",
        "refresh_token": "acr-refresh",
    }
    assert provider.asked(MANIFEST)[0].headers["Authorization"] == "Bearer acr-access"


async def test_a_login_that_was_taken_back_is_granted_anew(
    provider: Any, client: Outbound, clock: Any
) -> None:
    tokens = Tokens(clock=clock)
    asks_for_a_token(provider, realm=f"{provider.url}/oauth2/token")
    provider.on("/contoso/oauth2/v2.0/token", {"access_token": "entra", "expires_in": 3599})
    provider.on("/oauth2/exchange", {"refresh_token": "first"})
    provider.on("/oauth2/exchange", {"refresh_token": "second"})
    provider.on("/oauth2/token", {"access_token": "one", "expires_in": 60})
    provider.on("/oauth2/token", {"errors": []}, status=401)
    provider.on("/oauth2/token", {"access_token": "two"})
    provider.on(MANIFEST, headers=FOUND)
    given = {
        "credentials": {"clientId": "0f1e", "clientSecret": "s3cret"},
        "config": {"tenantId": "contoso", "entraUrl": provider.url},
    }
    await resolve("acr", provider, client, tokens=tokens, clock=clock, **given)
    clock.move(timedelta(seconds=90))
    await resolve("acr", provider, client, tokens=tokens, clock=clock, **given)
    shown = [parse_qs(seen.body.decode())["refresh_token"] for seen in provider.asked("/oauth2/token")]
    assert shown == [["first"], ["first"], ["second"]]


async def test_acr_takes_a_user_and_a_password_too(provider: Any, client: Outbound) -> None:
    asks_for_a_token(provider, realm=f"{provider.url}/oauth2/token")
    provider.on("/oauth2/token", {"access_token": "acr-access"})
    provider.on(MANIFEST, headers=FOUND)
    await resolve("acr", provider, client, credentials={"username": "ci", "password": "s3cret"})
    assert pair(provider.asked("/oauth2/token")[0]) == "ci:s3cret"


async def test_googles_access_token_is_the_password(provider: Any, client: Outbound) -> None:
    asks_for_a_token(provider)
    provider.on("/google", {"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"})
    provider.on("/token", {"token": "gar"})
    provider.on(MANIFEST, headers=FOUND)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"type": "service_account", "client_email": "ci@acme.example", "private_key": key.decode()}
    given = {
        "credentials": {"key": json.dumps(account)},
        "config": {"audience": "x", "serviceAccount": "a@b", "tokenUrl": f"{provider.url}/google"},
    }
    await resolve("artifact-registry", provider, client, **given)
    assert pair(provider.asked("/token")[0]) == "oauth2accesstoken:ya29.x"
    assert provider.asked(MANIFEST)[0].headers["Authorization"] == "Bearer gar"


@pytest.mark.parametrize(("connector", "scope"), [("quay", "pull,push"), ("harbor", "delete")])
async def test_each_registry_is_asked_for_a_deletion_in_its_own_words(
    connector: str, scope: str, provider: Any, client: Outbound
) -> None:
    asks_for_a_token(provider)
    provider.on("/token", {"token": "t"})
    provider.on(f"/v2/acme/shop/manifests/{DIGEST}", status=202)
    secret = {"username": "acme+ci", "token": "s3cret", "password": "s3cret"}
    manifest = catalogue.load()[connector]
    account = Account(
        config={"baseUrl": provider.url},
        credentials={name: Secret(value) for name, value in secret.items() if name in manifest.credentials},
    )
    inputs = {"repository": "acme/shop", "digest": DIGEST}
    assert await actions.perform(manifest, "delete", inputs=inputs, account=account, client=client) == {
        "deleted": True
    }
    (asked,) = provider.asked("/token")
    assert parse_qs(urlsplit(asked.path).query)["scope"] == [f"repository:acme/shop:{scope}"]


async def test_the_check_shows_the_login(provider: Any, client: Outbound) -> None:
    provider.on("/v2/", status=401, headers=bearer(provider.url))
    provider.on("/v2/", {})
    provider.on("/token", {"token": "t"})
    account = Account(
        config={"baseUrl": provider.url},
        credentials={"username": Secret("ci"), "password": Secret("s3cret")},
    )
    assert await actions.check(catalogue.load()["harbor"], account=account, client=client) is None
    (asked,) = provider.asked("/token")
    assert parse_qs(urlsplit(asked.path).query) == {"service": ["registry.example.com"]}
    assert provider.asked("/v2/")[1].headers["Authorization"] == "Bearer t"
