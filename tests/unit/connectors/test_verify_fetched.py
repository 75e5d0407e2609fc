"""Verifiers that need a public key of the provider (rsa, oidc, sns), and where such keys are kept."""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from joserfc import jwk, jws

from connectors import verify
from connectors.outbound import Outbound
from connectors.provider_keys import AGAIN, BUDGET, FRESH, KEPT, OLDEST, ProviderKeys, through
from connectors.verify import AnyVerifier, Claim, SignatureRefused
from pipewright import errors, expressions
from pipewright.expressions import Template

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)
CONFIG = {
    "baseUrl": "https://api.travis-ci.com",
    "audience": "https://hooks.example.com/x",
    "email": "push@acme.iam.gserviceaccount.com",
    "topic": "arn:aws:sns:eu-west-1:123456789012:ecr",
}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)


def scheme(kind: str, **options: Any) -> AnyVerifier:
    return verify.KINDS[kind](options, lambda source: Template(source, expressions.inputs()))


def pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


def sign(message: bytes, algorithm: hashes.HashAlgorithm, key: rsa.RSAPrivateKey = KEY) -> str:
    return base64.b64encode(key.sign(message, padding.PKCS1v15(), algorithm)).decode()


class Published:
    """A source of keys: what lies at each address, and who asked."""

    def __init__(self, found: Mapping[str, bytes], *, later: Mapping[str, bytes] | None = None) -> None:
        self.found = found
        self.later = later or found
        self.asked: list[tuple[str, bool]] = []

    async def get(self, url: str, *, newer: bool = False) -> bytes:
        self.asked.append((url, newer))
        return (self.later if newer else self.found)[url]


def claim(headers: dict[str, str], body: bytes, *, late: float = 0, config: Any = CONFIG) -> Claim:
    return Claim(headers=headers, body=body, secrets=(), now=NOW + timedelta(seconds=late), config=config)


async def refused(kind: AnyVerifier, given: Claim, keys: Published, message: str) -> None:
    with pytest.raises(SignatureRefused, match=message) as found:
        await verify.verify(kind, given, keys=keys)
    for value in given.headers.values():
        assert len(value) < 12 or value not in str(found.value)


# --- rsa ---------------------------------------------------------------------------------------------------

TRAVIS = scheme(
    "rsa",
    header="Signature",
    algorithm="sha1",
    keyUrl="${{ config.baseUrl }}/config",
    keyField="config.notifications.webhook.public_key",
    formField="payload",
)
TRAVIS_URL = "https://api.travis-ci.com/config"
PAYLOAD = json.dumps({"id": 1, "state": "passed", "message": "a & b = ü"})
FORM = urlencode({"payload": PAYLOAD}).encode()


def travis(key: Any = KEY) -> dict[str, bytes]:
    text = pem(key).decode() if key is not None else None
    return {TRAVIS_URL: json.dumps({"config": {"notifications": {"webhook": {"public_key": text}}}}).encode()}


def travis_signed(message: str = PAYLOAD, **more: Any) -> dict[str, str]:
    return {"signature": sign(message.encode(), more.pop("algorithm", hashes.SHA1()), **more)}


async def test_a_delivery_that_travis_signed() -> None:
    """Derived from "Configuring webhook notifications" of Travis CI: SHA-1 over the decoded payload."""
    keys = Published(travis())
    await verify.verify(TRAVIS, claim(travis_signed(), FORM), keys=keys)
    await verify.verify(TRAVIS, claim(travis_signed(), b"x=1&" + FORM), keys=keys)
    assert keys.asked == [(TRAVIS_URL, False)] * 2


async def test_a_key_that_the_provider_changed_is_looked_for_once() -> None:
    keys = Published(travis(OTHER), later=travis(KEY))
    await verify.verify(TRAVIS, claim(travis_signed(), FORM), keys=keys)
    assert keys.asked == [(TRAVIS_URL, False), (TRAVIS_URL, True)]


NO_FETCH: dict[str, tuple[dict[str, str], bytes, str]] = {
    "no signature": ({}, FORM, "the header signature is missing"),
    "no base64": ({"signature": "x y"}, FORM, "no signature in base64"),
    "not even text": ({"signature": "\udcff\xe9"}, FORM, "no signature in base64"),
    "a signature twice": ({"signature": "AAAA, AAAA"}, FORM, "no signature in base64"),
    "no form": (travis_signed(), PAYLOAD.encode(), "no form with one field payload"),
    "a field twice": (travis_signed(), FORM + b"&" + FORM, "no form with one field payload"),
    "many fields": (travis_signed(), FORM + b"&a=1" * 30, "no form with one field payload"),
    "bytes": (travis_signed(), b"\xff\xfe", "no form with one field payload"),
}


@pytest.mark.parametrize(("headers", "body", "message"), NO_FETCH.values(), ids=NO_FETCH.keys())
async def test_nothing_is_fetched_for_what_is_wrong_anyway(
    headers: dict[str, str], body: bytes, message: str
) -> None:
    keys = Published(travis())
    await refused(TRAVIS, claim(headers, body), keys, message)
    assert keys.asked == []


@pytest.mark.parametrize(
    ("headers", "body", "key", "message"),
    [
        (travis_signed(), FORM.replace(b"passed", b"failed"), travis(), "not by the provider's key"),
        (travis_signed(key=OTHER), FORM, travis(), "not by the provider's key"),
        (travis_signed(algorithm=hashes.SHA256()), FORM, travis(), "not by the provider's key"),
        ({"signature": "AAAA"}, FORM, travis(), "not by the provider's key"),
        (travis_signed(key=SHORT), FORM, travis(SHORT), "no RSA key of 2048 bits"),
        (travis_signed(), FORM, travis(ec.generate_private_key(ec.SECP256R1())), "no RSA key"),
        (travis_signed(), FORM, travis(None), "no RSA key"),
        (travis_signed(), FORM, {TRAVIS_URL: b"[]"}, "no RSA key"),
        (travis_signed(), FORM, {TRAVIS_URL: b"\xff"}, "no RSA key"),
        (travis_signed(), FORM, {TRAVIS_URL: b"[" * 100_000}, "no RSA key"),
    ],
)
async def test_a_wrong_rsa_signature_is_refused(
    headers: dict[str, str], body: bytes, key: dict[str, bytes], message: str
) -> None:
    await refused(TRAVIS, claim(headers, body), Published(key), message)


async def test_a_config_without_the_address_is_refused() -> None:
    await refused(TRAVIS, claim(travis_signed(), FORM, config={}), Published({}), "does not say the address")


async def test_a_signature_over_the_body_by_a_plain_pem() -> None:
    kind = scheme("rsa", header="X-Signature", algorithm="sha256", keyUrl="https://ci.example.com/key.pem")
    keys = Published({"https://ci.example.com/key.pem": pem(KEY)})
    await verify.verify(kind, claim({"x-signature": sign(b"body", hashes.SHA256())}, b"body"), keys=keys)
    await refused(kind, claim({"x-signature": sign(b"body", hashes.SHA1())}, b"body"), keys, "not by")


# --- oidc --------------------------------------------------------------------------------------------------

JWKS_URL = "https://www.googleapis.com/oauth2/v3/certs"
PUBSUB = scheme(
    "oidc",
    issuers=["https://accounts.google.com", "accounts.google.com"],
    jwksUrl=JWKS_URL,
    audience="${{ config.audience }}",
    email="${{ config.email }}",
)
CLAIMS: dict[str, Any] = {
    "iss": "https://accounts.google.com",
    "aud": CONFIG["audience"],
    "email": CONFIG["email"],
    "email_verified": True,
    "iat": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 3600,
    "sub": "113774264463038321964",
    "azp": "113774264463038321964",
}


def jwks(**keys: rsa.RSAPrivateKey) -> dict[str, bytes]:
    found = [
        {**jwk.RSAKey.import_key(pem(key)).as_dict(), "kid": kid, "alg": "RS256", "use": "sig"}
        for kid, key in keys.items()
    ]
    return {JWKS_URL: json.dumps({"keys": [{"kty": "EC", "kid": "ec"}, None, *found]}).encode()}


def private(key: rsa.RSAPrivateKey) -> jwk.RSAKey:
    return jwk.RSAKey.import_key(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def token(
    *, key: rsa.RSAPrivateKey = KEY, head: dict[str, Any] | None = None, **changed: Any
) -> dict[str, str]:
    said = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}
    header = {"alg": "RS256", "kid": "a", "typ": "JWT", **(head or {})}
    made = jws.serialize_compact(header, json.dumps(said), private(key), algorithms=["RS256", "RS512"])
    return {"authorization": f"Bearer {made}"}


def unsigned(head: Any, said: Any) -> dict[str, str]:
    parts = (
        base64.urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode())
        .rstrip(b"=").decode()
        for part in (head, said, b"signature")
    )  # fmt: skip
    return {"authorization": "Bearer " + ".".join(parts)}


async def test_a_push_of_pubsub() -> None:
    """Derived from "Authentication for push subscriptions" of Google Pub/Sub: its claims, RS256, JWKS."""
    keys = Published(jwks(a=KEY))
    for headers in (token(), token(iss="accounts.google.com"), token(aud=[CONFIG["audience"]])):
        for late in (-60, 0, 3600, 3659):
            await verify.verify(PUBSUB, claim(headers, b"{}", late=late), keys=keys)
    assert set(keys.asked) == {(JWKS_URL, False)}


async def test_a_new_key_of_the_issuer_is_looked_for_once() -> None:
    keys = Published(jwks(old=OTHER), later=jwks(old=OTHER, a=KEY))
    await verify.verify(PUBSUB, claim(token(), b"{}"), keys=keys)
    assert keys.asked == [(JWKS_URL, False), (JWKS_URL, True)]
    await refused(PUBSUB, claim(token(), b"{}"), Published(jwks(old=KEY)), "no RSA key of the id")


TOKENS: dict[str, tuple[dict[str, str], str]] = {
    "no token": ({}, "the header authorization is missing"),
    "basic": ({"authorization": "Basic QQ=="}, "holds no bearer token"),
    "two tokens": ({"authorization": f"{token()['authorization']}, {token()['authorization']}"}, "is no JWT"),
    "not even text": ({"authorization": "Bearer \udcff\xe9.a.b"}, "holds no bearer token"),
    "two parts": ({"authorization": "Bearer a.b"}, "is no JWT"),
    "empty parts": ({"authorization": "Bearer .."}, "is no JWT"),
    "no objects": (unsigned([], {}), "is no JWT"),
    "no JSON": (unsigned(b"\xff", {}), "is no JWT"),
    "none": (unsigned({"alg": "none", "kid": "a"}, CLAIMS), "algorithm must be RS256"),
    "HMAC by the public key": (unsigned({"alg": "HS256", "kid": "a"}, CLAIMS), "algorithm must be RS256"),
    "another algorithm": (token(head={"alg": "RS512"}), "algorithm must be RS256"),
    "no key's id": (unsigned({"alg": "RS256"}, CLAIMS), "does not name its key"),
    "extensions": (unsigned({"alg": "RS256", "kid": "a", "crit": ["x"]}, CLAIMS), "extensions"),
    "another issuer": (token(iss="https://accounts.example.com"), "another issuer"),
    "an issuer that is a list": (token(iss=["https://accounts.google.com"]), "another issuer"),
    "another audience": (token(aud="https://hooks.example.com/y"), "another audience"),
    "two audiences": (token(aud=[CONFIG["audience"], "https://x"]), "another audience"),
    "no audience": (token(aud=None), "another audience"),
    "another account": (token(email="x@acme.iam.gserviceaccount.com"), "another service account"),
    "no account": (token(email=None), "another service account"),
    "an e-mail that is not verified": (token(email_verified=False), "e-mail is not verified"),
    "an e-mail verified in words": (token(email_verified="true"), "e-mail is not verified"),
    "no end": (token(exp=None), "does not say when"),
    "an end in words": (token(exp="never"), "does not say when"),
    "an end without end": (token(exp=1e300), "does not say when"),
    "a long life": (token(exp=int(NOW.timestamp()) + 10**6), "lives too long"),
    "of a time to come": (token(iat=int(NOW.timestamp()) + 61), "of a time to come"),
    "not yet": (token(nbf=int(NOW.timestamp()) + 61), "of a time to come"),
}


@pytest.mark.parametrize(("headers", "message"), TOKENS.values(), ids=TOKENS.keys())
async def test_a_wrong_token_is_refused_before_any_key_is_fetched(
    headers: dict[str, str], message: str
) -> None:
    keys = Published(jwks(a=KEY))
    await refused(PUBSUB, claim(headers, b"{}"), keys, message)
    assert keys.asked == []


async def test_an_old_token_is_refused() -> None:
    keys = Published(jwks(a=KEY))
    await refused(PUBSUB, claim(token(), b"{}", late=3660), keys, "has expired")
    await refused(PUBSUB, claim(token(), b"{}", late=-61), keys, "of a time to come")
    assert keys.asked == []


async def test_a_token_that_another_key_signed_is_refused() -> None:
    await refused(PUBSUB, claim(token(key=OTHER), b"{}"), Published(jwks(a=KEY)), "not signed by the key")
    await refused(
        PUBSUB,
        claim(unsigned({"alg": "RS256", "kid": "a"}, CLAIMS), b"{}"),
        Published(jwks(a=KEY)),
        "not signed by",
    )
    head, _, signature = token()["authorization"].split(".")
    said = token(sub="another")["authorization"].split(".")[1]
    given = {"authorization": f"{head}.{said}.{signature}"}
    await refused(PUBSUB, claim(given, b"{}"), Published(jwks(a=KEY)), "not signed by the key")


@pytest.mark.parametrize(
    "found", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [{"kty": "RSA", "kid": "a"}]}']
)
async def test_a_jwks_that_is_none_is_refused(found: bytes) -> None:
    await refused(PUBSUB, claim(token(), b"{}"), Published({JWKS_URL: found}), "no RSA key of the id")


@pytest.mark.filterwarnings("ignore:Key size should be")
async def test_a_short_key_of_the_issuer_is_none() -> None:
    await refused(
        PUBSUB,
        claim(token(key=SHORT), b"{}"),
        Published(jwks(a=SHORT)),
        "no RSA key of the id that the token",
    )


# --- sns ---------------------------------------------------------------------------------------------------

ECR = scheme("sns", topicArn="${{ config.topic }}", toleranceSeconds=3600)
CERT_URL = (
    "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
)
# The fields of each type in the order in which they are signed, as the developer guide lists them.
NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


def certificate(
    *, key: Any = KEY, name: str = "sns.amazonaws.com", ends: datetime = NOW + timedelta(days=30)
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=30))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def sns(*, version: str = "2", key: rsa.RSAPrivateKey = KEY, **fields: Any) -> dict[str, Any]:
    message = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": CONFIG["topic"],
        "Message": '{"detail-type": "ECR Image Action"}',
        "Timestamp": "2026-05-04T09:00:00.000Z",
        "SignatureVersion": version,
        "SigningCertURL": CERT_URL,
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
        **fields,
    }
    order = NOTIFICATION if message["Type"] == "Notification" else CONFIRMATION
    lines = [f"{name}\n{message[name]}\n" for name in order if message.get(name) is not None]
    algorithm = hashes.SHA1() if version == "1" else hashes.SHA256()
    return {**message, "Signature": sign("".join(lines).encode(), algorithm, key)}


def body(message: Any) -> bytes:
    return json.dumps(message).encode()


CONFIRM = {
    "Type": "SubscriptionConfirmation",
    "Token": "2336412f37",
    "SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
}


@pytest.mark.parametrize(
    "message",
    [
        sns(),
        sns(version="1"),
        sns(Subject="An image"),
        sns(Message="ü\nline"),
        sns(**CONFIRM),
        sns(**{**CONFIRM, "Type": "UnsubscribeConfirmation"}),
    ],
)
async def test_a_message_that_sns_signed(message: dict[str, Any]) -> None:
    """Derived from "Verifying the signatures of Amazon SNS messages": the fields and their order by type."""
    keys = Published({CERT_URL: certificate()})
    for late in (-3600, 0, 3600):
        await verify.verify(ECR, claim({}, body(message), late=late), keys=keys)
    assert set(keys.asked) == {(CERT_URL, False)}


MESSAGES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"\xff", "no message of SNS"),
    "a deep one": (b"[" * 100_000, "no message of SNS"),
    "a list": (b"[]", "no message of SNS"),
    "another type": (body({**sns(), "Type": "Other"}), "no message of SNS"),
    "a type that is a list": (body({**sns(), "Type": []}), "no message of SNS"),
    "no signature": (body({**sns(), "Signature": None}), "lacks a field"),
    "a subject that is a number": (body({**sns(), "Subject": 5}), "lacks a field"),
    "no topic": (body({**sns(), "TopicArn": None}), "lacks a field"),
    "another version": (body(sns(version="3")), "SignatureVersion must be 1 or 2"),
    "another topic": (body(sns(TopicArn="arn:aws:sns:eu-west-1:999999999999:ecr")), "another topic"),
    "a time that is none": (body(sns(Timestamp="now")), "Timestamp is no time"),
    "old": (body(sns(Timestamp="2026-05-04T07:59:59Z")), "more than 3600 s away"),
    "to come": (body(sns(Timestamp="2026-05-04T10:00:01Z")), "more than 3600 s away"),
    **{
        f"a certificate at {url}": (body(sns(SigningCertURL=url)), "certificate is not at sns")
        for url in (
            "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem",
            "https://sns.eu-west-1.amazonaws.com.example.com/SimpleNotificationService-0a.pem",
            "https://example.com/sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem",
            "https://sns.eu-west-1.amazonaws.com@example.com/SimpleNotificationService-0a.pem",
            "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-0a.pem",
            "https://s3.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem",
            "https://sns.a.b.amazonaws.com/SimpleNotificationService-0a.pem",
            "https://sns.eu-west-1.amazonaws.com/?Action=x#SimpleNotificationService-0a.pem",
            "https://sns.eu-west-1.amazonaws.com/../x.pem",
            f"{CERT_URL}\n",
        )
    },
}


@pytest.mark.parametrize(("given", "message"), MESSAGES.values(), ids=MESSAGES.keys())
async def test_a_wrong_message_is_refused_before_any_certificate_is_fetched(
    given: bytes, message: str
) -> None:
    keys = Published({CERT_URL: certificate()})
    await refused(ECR, claim({}, given), keys, message)
    assert keys.asked == []


@pytest.mark.parametrize("field", NOTIFICATION[:4])
async def test_each_field_is_signed(field: str) -> None:
    message = sns(Subject="An image")
    changed = "2026-05-04T09:00:01.000Z" if field == "Timestamp" else message[field] + "x"
    keys = Published({CERT_URL: certificate()})
    await refused(ECR, claim({}, body({**message, field: changed})), keys, "not by the provider's key")


@pytest.mark.parametrize(
    ("message", "found", "reason"),
    [
        (sns(), certificate(name="sns.example.com"), "not that of sns.amazonaws.com"),
        (sns(), certificate(ends=NOW - timedelta(seconds=1)), "not valid now"),
        (sns(key=OTHER), certificate(), "not by the provider's key"),
        ({**sns(version="1"), "SignatureVersion": "2"}, certificate(), "not by the provider's key"),
        ({**sns(), "Signature": "x y"}, certificate(), "no signature in base64"),
        (sns(), b"", "no certificate"),
        (sns(), pem(KEY), "no certificate"),
        (sns(), certificate(key=ec.generate_private_key(ec.SECP256R1())), "no RSA key"),
    ],
)
async def test_what_the_certificate_does_not_prove_is_refused(
    message: dict[str, Any], found: bytes, reason: str
) -> None:
    await refused(ECR, claim({}, body(message)), Published({CERT_URL: found}), reason)


# --- keys --------------------------------------------------------------------------------------------------


class At:
    """A clock that is set."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time


class Server:
    """What lies at every address, and how often it was asked for."""

    def __init__(self) -> None:
        self.body: bytes | None = b"one"
        self.asked: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        await asyncio.sleep(0)
        if self.body is None:
            raise errors.Unreachable("down")
        return self.body


@pytest.fixture
def clock() -> At:
    return At()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def keys(server: Server, clock: At) -> ProviderKeys:
    return ProviderKeys(server.fetch, clock=clock)


async def test_a_key_is_fetched_once_however_many_wait(keys: ProviderKeys, server: Server, clock: At) -> None:
    assert set(await asyncio.gather(*(keys.get("https://a") for _ in range(20)))) == {b"one"}
    clock.time += FRESH - timedelta(seconds=1)
    await keys.get("https://a")
    assert server.asked == ["https://a"]
    clock.time += timedelta(seconds=1)
    server.body = b"two"
    assert await keys.get("https://a") == b"two"
    assert len(server.asked) == 2


async def test_a_newer_key_is_looked_for_once_a_minute(keys: ProviderKeys, server: Server, clock: At) -> None:
    await keys.get("https://a")
    for _ in range(5):
        assert await keys.get("https://a", newer=True) == b"one"
    assert len(server.asked) == 1
    clock.time += AGAIN
    server.body = b"two"
    assert await keys.get("https://a", newer=True) == b"two"


async def test_an_old_key_does_while_the_provider_is_down(
    keys: ProviderKeys, server: Server, clock: At
) -> None:
    await keys.get("https://a")
    server.body = None
    clock.time += FRESH
    assert await keys.get("https://a") == b"one"
    assert await keys.get("https://a") == b"one"
    assert len(server.asked) == 2
    clock.time += OLDEST
    with pytest.raises(errors.Unreachable, match="cannot be fetched now"):
        await keys.get("https://a")


async def test_what_could_not_be_fetched_is_not_asked_for_all_the_time(
    keys: ProviderKeys, server: Server, clock: At
) -> None:
    server.body = None
    for _ in range(5):
        with pytest.raises(errors.Unreachable):
            await keys.get("https://a")
    assert len(server.asked) == 1
    clock.time += AGAIN
    server.body = b"one"
    assert await keys.get("https://a") == b"one"


async def test_all_keys_together_are_not_asked_for_all_the_time(
    keys: ProviderKeys, server: Server, clock: At
) -> None:
    for at in range(BUDGET):
        await keys.get(f"https://{at}")
    with pytest.raises(errors.Unreachable):
        await keys.get("https://more")
    assert await keys.get("https://0") == b"one"
    clock.time += AGAIN
    assert await keys.get("https://more") == b"one"
    assert len(server.asked) == BUDGET + 1


async def test_only_so_many_keys_are_kept(keys: ProviderKeys, server: Server, clock: At) -> None:
    for at in range(KEPT + 1):
        clock.time += AGAIN / BUDGET
        await keys.get(f"https://{at}")
    await keys.get("https://1")
    assert len(server.asked) == KEPT + 1
    clock.time += AGAIN
    await keys.get("https://0")
    assert len(server.asked) == KEPT + 2


async def test_keys_are_fetched_through_the_guard() -> None:
    async with Outbound() as outbound:
        with pytest.raises(errors.Unreachable, match="is not on the public Internet"):
            await through(outbound)("https://169.254.169.254/config")
        with pytest.raises(errors.Unreachable, match="must be called by https"):
            await through(outbound)("http://example.com/config")


@pytest.mark.parametrize(
    ("status", "length", "good"), [(200, 5, True), (404, 5, False), (302, 5, False), (200, 70_000, False)]
)
async def test_only_a_whole_answer_is_a_key(status: int, length: int, good: bool) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + b"k" * length)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Outbound(allow=[place]) as outbound:
        if good:
            assert await through(outbound)(f"http://{place}/key") == b"k" * length
        else:
            with pytest.raises(errors.Unreachable, match="the provider's key"):
                await through(outbound)(f"http://{place}/key")
