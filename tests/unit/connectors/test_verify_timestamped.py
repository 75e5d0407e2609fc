"""Verifiers whose signature covers a time: hmac-timestamped and http-signature."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from connectors import verify
from connectors.verify import AnyVerifier, Claim, SignatureRefused
from connectors.verify.http_signature import signing_string
from pipewright import expressions
from pipewright.expressions import Template
from pipewright.ports import Secret

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)
SECRET = "a shared secret"


def scheme(kind: str, **options: Any) -> AnyVerifier:
    given = {"toleranceSeconds": 300, **options}
    return verify.KINDS[kind](given, lambda source: Template(source, expressions.inputs()))


def claim(headers: dict[str, str], body: bytes, *secrets: str, now: datetime = NOW, late: float = 0) -> Claim:
    return Claim(
        headers=headers,
        body=body,
        secrets=[Secret(secret) for secret in secrets or (SECRET,)],
        now=now + timedelta(seconds=late),
    )


async def refused(kind: AnyVerifier, given: Claim, message: str) -> None:
    with pytest.raises(SignatureRefused, match=message) as found:
        await verify.verify(kind, given)
    for secret in given.secrets:
        assert secret.reveal() not in str(found.value)


def seconds(moment: datetime) -> str:
    return str(int(moment.timestamp()))


def sign(message: bytes, key: str = SECRET) -> str:
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


# --- hmac-timestamped --------------------------------------------------------------------------------------

SLACK = scheme(
    "hmac-timestamped",
    header="X-Slack-Signature",
    prefix="v0=",
    signed="v0:{timestamp}:{body}",
    timestampHeader="X-Slack-Request-Timestamp",
)
SLACKS_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
    b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACKS_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SLACKS_TIME = datetime.fromtimestamp(1531420618, UTC)
SLACKS = {
    "x-slack-request-timestamp": "1531420618",
    "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
}


async def test_the_example_of_slacks_documentation() -> None:
    """Published: "Verifying requests from Slack", with this secret, time, body and signature."""
    for late in (-300, 0, 300):
        await verify.verify(SLACK, claim(SLACKS, SLACKS_BODY, SLACKS_SECRET, now=SLACKS_TIME, late=late))
    await verify.verify(SLACK, claim(SLACKS, SLACKS_BODY, "new", SLACKS_SECRET, now=SLACKS_TIME))


@pytest.mark.parametrize("late", [-301, 301, 10**7], ids=["to come", "old", "very old"])
async def test_a_time_that_is_not_now_is_refused(late: float) -> None:
    given = claim(SLACKS, SLACKS_BODY, SLACKS_SECRET, now=SLACKS_TIME, late=late)
    await refused(SLACK, given, "more than 300 s away from the time here")


async def test_a_delivery_that_comes_again_is_good_as_long_as_its_time_is() -> None:
    """The verifiers remember nothing: the gateway knows a delivery again by its id."""
    for late in (0, 10, 299):
        await verify.verify(SLACK, claim(SLACKS, SLACKS_BODY, SLACKS_SECRET, now=SLACKS_TIME, late=late))


BAD: dict[str, tuple[dict[str, str], bytes, str, str]] = {
    "a byte of the body": ({}, SLACKS_BODY[:-1] + b"d", SLACKS_SECRET, "the signature is wrong"),
    "another secret": ({}, SLACKS_BODY, "other", "the signature is wrong"),
    "another time": ({"x-slack-request-timestamp": "1531420619"}, SLACKS_BODY, SLACKS_SECRET, "is wrong"),
    "no time": ({"x-slack-request-timestamp": ""}, SLACKS_BODY, SLACKS_SECRET, "timestamp is missing"),
    "a time in words": ({"x-slack-request-timestamp": "now"}, SLACKS_BODY, SLACKS_SECRET, "not in seconds"),
    "a signed time": ({"x-slack-request-timestamp": "-1531420618"}, SLACKS_BODY, SLACKS_SECRET, "not in sec"),
    "other digits": ({"x-slack-request-timestamp": "\u0661"}, SLACKS_BODY, SLACKS_SECRET, "not in seconds"),
    "two times": (
        {"x-slack-request-timestamp": "1531420618, 1531420618"}, SLACKS_BODY, SLACKS_SECRET, "not in seconds",
    ),
    "no signature": ({"x-slack-signature": ""}, SLACKS_BODY, SLACKS_SECRET, "x-slack-signature is missing"),
    "another version": ({"x-slack-signature": "v1=00"}, SLACKS_BODY, SLACKS_SECRET, "is no signature of the"),
    "two signatures": (
        {"x-slack-signature": ", ".join([SLACKS["x-slack-signature"]] * 2)},
        SLACKS_BODY, SLACKS_SECRET, "the signature is wrong",
    ),
    "not even text": ({"x-slack-signature": "v0=\udcff\xe9世"}, SLACKS_BODY, SLACKS_SECRET, "is wrong"),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "body", "secret", "message"), BAD.values(), ids=BAD.keys())
async def test_a_spoiled_delivery_is_refused(
    headers: dict[str, str], body: bytes, secret: str, message: str
) -> None:
    await refused(SLACK, claim({**SLACKS, **headers}, body, secret, now=SLACKS_TIME), message)


FIELDS = {
    "stripe": ("Stripe-Signature", "t", "v1"),
    "buildkite": ("X-Buildkite-Signature", "timestamp", "signature"),
}


@pytest.mark.parametrize(("header", "time", "signature"), FIELDS.values(), ids=FIELDS.keys())
async def test_time_and_signature_in_one_header(header: str, time: str, signature: str) -> None:
    """Derived from Stripe's "Verify webhook signatures" and Buildkite's "Webhook signature"."""
    kind = scheme(
        "hmac-timestamped",
        header=header,
        signed="{timestamp}.{body}",
        timestampField=time,
        signatureField=signature,
    )
    name, body, at = header.lower(), b'{"event": "ping"}', seconds(NOW)
    right = sign(at.encode() + b"." + body)
    good = f"{time}={at},{signature}={right}"
    for given in (good, f"{good},v0=00", f"{time}={at}, {signature}=00, {signature}={right}"):
        await verify.verify(kind, claim({name: given}, body))
        await verify.verify(kind, claim({name: given}, body, "new", SECRET, late=300))
        await refused(kind, claim({name: given}, body + b" "), "the signature is wrong")
        await refused(kind, claim({name: given}, body, "other"), "the signature is wrong")
        for late in (-301, 301):
            await refused(kind, claim({name: given}, body, late=late), "more than 300 s away")
    for malformed in (
        f"{signature}={right}",
        f"{time}={at}",
        f"{time}={at},{good}",
        f"{good}, {good}",
        right,
        "=",
        ",,",
        "\udcff",
        f"{time}={at}," + ",".join([f"{signature}={right}"] * 9),
        f"{time}={at},{signature}={'a' * 600}",
    ):
        await refused(kind, claim({name: malformed}, body), "is no signature of the kind hmac-timestamped")
    await refused(kind, claim({name: f"{time}=x,{signature}={right}"}, body), "not in seconds since 1970")
    await refused(kind, claim({}, body), "is missing")
    # what is signed in another way does not count, though the sender says that it is v1
    other = hmac.new(SECRET.encode(), at.encode() + b"." + body, hashlib.sha1).hexdigest()
    await refused(kind, claim({name: f"{time}={at},{signature}={other}"}, body), "the signature is wrong")


STANDARD = scheme(
    "hmac-timestamped",
    header="webhook-signature",
    prefix="v1,",
    separator=" ",
    signed="{id}.{timestamp}.{body}",
    idHeader="webhook-id",
    timestampHeader="webhook-timestamp",
    encoding="base64",
    keyEncoding="base64",
)
STANDARDS_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARDS_TIME = datetime.fromtimestamp(1614265330, UTC)
STANDARDS_BODY = b'{"test": 2432232314}'
STANDARDS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def standard(
    body: bytes = STANDARDS_BODY, secret: str = STANDARDS_SECRET, late: float = 0, **headers: str
) -> Claim:
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    return claim({**STANDARDS, **changed}, body, secret, now=STANDARDS_TIME, late=late)


async def test_the_vector_of_standard_webhooks() -> None:
    """Published: the test of the reference libraries, "sign function works"."""
    signature = STANDARDS["webhook-signature"]
    await verify.verify(STANDARD, standard())
    await verify.verify(STANDARD, standard(secret=STANDARDS_SECRET.removeprefix("whsec_"), late=300))
    await verify.verify(STANDARD, standard(webhook_signature=f"v1,AAAA {signature} v1a,BBBB"))
    both = claim(STANDARDS, STANDARDS_BODY, "whsec_AAAA", STANDARDS_SECRET, now=STANDARDS_TIME)
    await verify.verify(STANDARD, both)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (standard(body=STANDARDS_BODY + b" "), "the signature is wrong"),
        (standard(secret="whsec_AAAA"), "the signature is wrong"),
        (standard(late=301), "more than 300 s away"),
        (standard(late=-301), "more than 300 s away"),
        (standard(webhook_id="msg_other"), "the signature is wrong"),
        (standard(webhook_id=""), "webhook-id is missing"),
        (standard(webhook_id="msg.1614265330"), "webhook-id is no identifier"),
        (standard(webhook_id="msg_\xe9"), "webhook-id is no identifier"),
        (standard(webhook_id="a, a"), "webhook-id is no identifier"),
        (standard(webhook_timestamp=""), "webhook-timestamp is missing"),
        (standard(webhook_timestamp="1614265331"), "the signature is wrong"),
        (standard(webhook_signature=""), "webhook-signature is missing"),
        (standard(webhook_signature="v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="), "is no signature of"),
        (standard(webhook_signature="v1,\udcff"), "the signature is wrong"),
        (standard(secret="whsec_not base64"), "secret must be in base64"),
        (standard(secret="whsec_\xe9"), "secret must be in base64"),
        (standard(secret="whsec_"), "has no secret yet"),
    ],
)
async def test_a_spoiled_standard_webhook_is_refused(given: Claim, message: str) -> None:
    await refused(STANDARD, given, message)


async def test_the_parts_of_what_is_signed_cannot_be_moved() -> None:
    """What was signed as id `a`, time and body is nothing else with its full stops read otherwise."""
    key = base64.b64decode(STANDARDS_SECRET.removeprefix("whsec_"))
    at = seconds(STANDARDS_TIME)
    made = base64.b64encode(hmac.new(key, f"a.{at}.{at}.x".encode(), hashlib.sha256).digest()).decode()
    await verify.verify(
        STANDARD, standard(body=f"{at}.x".encode(), webhook_id="a", webhook_signature=f"v1,{made}")
    )
    await refused(
        STANDARD, standard(body=b"x", webhook_id=f"a.{at}", webhook_signature=f"v1,{made}"), "no identifier"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "timestampHeader or in timestampField"),
        ({"timestampHeader": "T", "timestampField": "t", "signatureField": "s"}, "timestampHeader or in"),
        ({"timestampField": "t"}, "go together"),
        ({"timestampHeader": "T", "signatureField": "s"}, "go together"),
        ({"timestampField": "t", "signatureField": "s", "prefix": "v0="}, "neither prefix nor separator"),
        ({"timestampHeader": "T", "signed": "{body}"}, "signed must be"),
        ({"timestampHeader": "T", "signed": "{timestamp}{body}"}, "signed must be"),
        ({"timestampHeader": "T", "signed": "{body}.{timestamp}"}, "signed must be"),
        ({"timestampHeader": "T", "signed": "{timestamp}.{body.x}"}, "signed must be"),
        ({"timestampHeader": "T", "signed": "{id}.{timestamp}.{body}"}, "idHeader go together"),
        ({"timestampHeader": "T", "idHeader": "I"}, "idHeader go together"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scheme("hmac-timestamped", **{"header": "S", "signed": "{timestamp}.{body}", **options})


# --- http-signature ----------------------------------------------------------------------------------------

DRONE = scheme("http-signature")
DRONES_BODY = b'{"hello": "world"}'
DIGEST = "SHA-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="


def drone(
    *,
    body: bytes = DRONES_BODY,
    key: str = SECRET,
    at: datetime = NOW,
    digest: str = DIGEST,
    covered: str = "date digest",
    algorithm: str = "hmac-sha256",
    **more: str,
) -> dict[str, str]:
    """The headers as Drone sends them: keyId hmac-key, over date and digest."""
    headers = {"date": format_datetime(at, usegmt=True), "digest": digest, **more}
    message = "\n".join(f"{name}: {headers.get(name, '')}" for name in covered.split(" "))
    made = base64.b64encode(hmac.new(key.encode(), message.encode(), hashlib.sha256).digest()).decode()
    signature = f'keyId="hmac-key",algorithm="{algorithm}",headers="{covered}",signature="{made}"'
    return {**headers, "signature": signature}


def test_the_vector_of_the_library_that_drone_signs_with() -> None:
    """Published: the test of httpsignatures-go, hmac-sha256 over the date alone; its key is in base64."""
    given = claim({"date": "Thu, 05 Jan 2012 21:31:40 GMT"}, b"", "U29tZXRoaW5nUmFuZG9t")
    (key,) = given.keys("base64")
    made = hmac.new(key, signing_string(given, ["date"]), hashlib.sha256).digest()
    assert base64.b64encode(made).decode() == "QgoCZTOayhvFBl1QLXmFOZIVMXC0Dujs5ODsYVruDPI="


def test_the_signing_string_and_digest_of_the_draft() -> None:
    """Published: draft-cavage-http-signatures-12, appendix C: body, digest, and headers a line each."""
    assert "SHA-256=" + base64.b64encode(hashlib.sha256(DRONES_BODY).digest()).decode() == DIGEST
    given = claim({"host": "example.com", "date": "Sun, 05 Jan 2014 21:31:40 GMT", "digest": DIGEST}, b"")
    assert signing_string(given, ["host", "date", "digest"]).decode().split("\n") == [
        "host: example.com",
        "date: Sun, 05 Jan 2014 21:31:40 GMT",
        f"digest: {DIGEST}",
    ]


async def test_a_delivery_that_drone_signed() -> None:
    """Derived from Drone's webhook plugin: date and digest are covered, keyId hmac-key."""
    for late in (-300, 0, 300):
        await verify.verify(DRONE, claim(drone(), DRONES_BODY, late=late))
    await verify.verify(DRONE, claim(drone(), DRONES_BODY, "new", SECRET))
    encoded = base64.b64encode(SECRET.encode()).decode()
    in_base64 = scheme("http-signature", keyEncoding="base64")
    await verify.verify(in_base64, claim(drone(), DRONES_BODY, encoded))
    await refused(in_base64, claim(drone(), DRONES_BODY, "a secret"), "must be in base64")
    more = drone(covered="content-type date digest", **{"content-type": "application/json"})
    await verify.verify(DRONE, claim(more, DRONES_BODY))


OTHER_DIGEST = "SHA-256=" + base64.b64encode(hashlib.sha256(b"other").digest()).decode()
WRONG: dict[str, tuple[dict[str, str], bytes, str]] = {
    "a byte of the body": (drone(), b'{"hello": "worle"}', "digest is not the body's"),
    "another secret": (drone(key="other"), DRONES_BODY, "the signature is wrong"),
    "old": (drone(at=NOW - timedelta(seconds=301)), DRONES_BODY, "more than 300 s away"),
    "to come": (drone(at=NOW + timedelta(seconds=301)), DRONES_BODY, "more than 300 s away"),
    "another date than was signed": (
        {**drone(), "date": "Mon, 04 May 2026 09:00:01 GMT"}, DRONES_BODY, "the signature is wrong",
    ),
    "another digest than was signed": ({**drone(), "digest": OTHER_DIGEST}, b"other", "signature is wrong"),
    "a digest of another kind": (drone(digest="MD5=abc"), DRONES_BODY, "digest is not the body's"),
    "two digests": (drone(digest=f"{DIGEST}, {OTHER_DIGEST}"), DRONES_BODY, "digest is not the body's"),
    "the body is not covered": (drone(covered="date"), DRONES_BODY, "must cover the headers date"),
    "the date is not covered": (drone(covered="digest"), DRONES_BODY, "must cover the headers date"),
    "a header twice": (drone(covered="date digest date"), DRONES_BODY, "one of them twice"),
    "a header that is not there": (drone(covered="date digest host"), DRONES_BODY, "host is missing"),
    "a target": (drone(covered="(request-target) date digest"), DRONES_BODY, "something that is not checked"),
    "many headers": (drone(covered="date digest " + " ".join(map(str, range(30)))), DRONES_BODY, "too many"),
    "another algorithm": (drone(algorithm="rsa-sha256"), DRONES_BODY, "algorithm must be hmac-sha256"),
    "a weak algorithm": (drone(algorithm="hmac-sha1"), DRONES_BODY, "algorithm must be hmac-sha256"),
    "no algorithm": (drone(algorithm=""), DRONES_BODY, "algorithm must be hmac-sha256"),
    "no signature": ({}, DRONES_BODY, "the header signature is missing"),
    "a date that is none": (drone(date="today"), DRONES_BODY, "holds no date"),
    "no date": ({**drone(), "date": ""}, DRONES_BODY, "date is missing"),
    "a signature twice": (
        {**drone(), "signature": ", ".join([drone()["signature"]] * 2)}, DRONES_BODY, "is no signature of",
    ),
    "no parameters": ({**drone(), "signature": "hmac"}, DRONES_BODY, "is no signature of the kind"),
    "an empty signature": (
        {**drone(), "signature": 'algorithm="hmac-sha256",headers="date digest",signature=""'},
        DRONES_BODY, "is no signature of the kind",
    ),
    "not even text": ({**drone(), "signature": "\udcff\xe9"}, DRONES_BODY, "is no signature of the kind"),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "body", "message"), WRONG.values(), ids=WRONG.keys())
async def test_a_spoiled_http_signature_is_refused(
    headers: dict[str, str], body: bytes, message: str
) -> None:
    await refused(DRONE, claim(headers, body), message)
