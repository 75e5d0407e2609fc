"""Verifiers without a time or a key of the provider: hmac, token, basic, none; and what all share."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import verify
from connectors.verify import AnyVerifier, Claim, SignatureRefused
from connectors.verify.hmac_body import HmacBody
from pipewright import errors, expressions
from pipewright.expressions import Template
from pipewright.ports import Secret

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)
SECRET = Secret("It's a Secret to Everybody")
BODY = b"Hello, World!"


def scheme(kind: str, **options: Any) -> AnyVerifier:
    return verify.KINDS[kind](options, lambda source: Template(source, expressions.inputs()))


def claim(
    headers: dict[str, str], body: bytes = BODY, secrets: Sequence[Secret] = (SECRET,), **more: Any
) -> Claim:
    return Claim(headers=headers, body=body, secrets=secrets, **{"now": NOW, **more})


async def refused(kind: AnyVerifier, given: Claim, message: str) -> None:
    with pytest.raises(SignatureRefused) as found:
        await verify.verify(kind, given)
    assert message in str(found.value)
    for secret in given.secrets:
        assert secret.reveal() in ("", "secret") or secret.reveal() not in str(found.value)
    for value in given.headers.values():
        assert len(value) < 12 or value not in str(found.value)


# --- hmac --------------------------------------------------------------------------------------------------

GITHUB = scheme("hmac", header="X-Hub-Signature-256", prefix="sha256=")
SIGNED = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}


async def test_the_example_of_githubs_documentation() -> None:
    """Published: "Validating webhook deliveries", with this secret, payload and signature."""
    await verify.verify(GITHUB, claim(SIGNED))


@pytest.mark.parametrize("secrets", [[SECRET, Secret("new")], [Secret("new"), SECRET]])
async def test_while_a_secret_is_rotated_both_are_good(secrets: list[Secret]) -> None:
    await verify.verify(GITHUB, claim(SIGNED, secrets=secrets))


REFUSED: dict[str, tuple[dict[str, str], bytes, list[Secret], str]] = {
    "no header": ({}, BODY, [SECRET], "the header x-hub-signature-256 is missing"),
    "an empty header": ({"x-hub-signature-256": ""}, BODY, [SECRET], "is missing"),
    "another body": (SIGNED, BODY + b"\n", [SECRET], "the signature is wrong"),
    "one byte of the body": (SIGNED, b"Hello, World?", [SECRET], "the signature is wrong"),
    "another secret": (SIGNED, BODY, [Secret("other")], "the signature is wrong"),
    "no secret": (SIGNED, BODY, [], "has no secret yet"),
    "an empty secret beside a good one": (SIGNED, BODY, [SECRET, Secret("")], "has no secret yet"),
    "another kind": (
        {"x-hub-signature-256": "sha1=757107ea"},
        BODY,
        [SECRET],
        "no signature of the kind hmac",
    ),
    "a giant": ({"x-hub-signature-256": "sha256=" + "a" * 600}, BODY, [SECRET], "no signature of the kind"),
    "a giant header": ({"x-hub-signature-256": "sha256=" + "a" * 9000}, BODY, [SECRET], "is too long"),
    "cut": ({"x-hub-signature-256": "sha256=757107ea"}, BODY, [SECRET], "the signature is wrong"),
    "only the prefix": ({"x-hub-signature-256": "sha256="}, BODY, [SECRET], "the signature is wrong"),
    "twice": (
        {"x-hub-signature-256": ", ".join(SIGNED.values()) + ", " + "".join(SIGNED.values())},
        BODY,
        [SECRET],
        "the signature is wrong",
    ),
    "not even text": (
        {"x-hub-signature-256": "sha256=\udcff\xe9世\ud800"},
        BODY,
        [SECRET],
        "the signature is wrong",
    ),
}


@pytest.mark.parametrize(("headers", "body", "secrets", "message"), REFUSED.values(), ids=REFUSED.keys())
async def test_hmac_refused(
    headers: dict[str, str], body: bytes, secrets: list[Secret], message: str
) -> None:
    await refused(GITHUB, claim(headers, body, secrets), message)


@pytest.mark.parametrize(
    ("body", "secret", "signature"),
    [
        (b"hello world", "secret", "734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a"),
        (b"lalala", "another-secret", "daa220016c8f29a8b214fbfc3671aeec2145cfb1e6790184ffb38b6d0425fa00"),
    ],
)
async def test_the_examples_of_circlecis_documentation(body: bytes, secret: str, signature: str) -> None:
    """Published: "Outbound webhooks", its table of bodies, secrets, signatures; other versions beside."""
    circleci = scheme("hmac", header="circleci-signature", prefix="v1=", separator=",")
    good = f"v1={signature}"
    for header in (good, f"{good},v2=00", f"v2=00, {good}", f"v1=00,{good}"):
        await verify.verify(circleci, claim({"circleci-signature": header}, body, [Secret(secret)]))
    for header in ("v2=" + signature, signature, "v1=", ",", "v1"):
        await refused(circleci, claim({"circleci-signature": header}, body, [Secret(secret)]), "signature")
    many = ",".join(["v1=00"] * 8 + [good])
    await refused(circleci, claim({"circleci-signature": many}, body, [Secret(secret)]), "no signature")


async def test_pagerduty_signs_with_each_of_its_keys() -> None:
    """Derived from "Verifying webhook signatures": v1= and hexadecimal HMAC-SHA256, commas between them."""
    pagerduty = scheme("hmac", header="X-PagerDuty-Signature", prefix="v1=", separator=",")
    old, new = (hmac.new(key, BODY, hashlib.sha256).hexdigest() for key in (b"old", b"new"))
    for secrets in ([Secret("old")], [Secret("new")], [Secret("newer"), Secret("new")]):
        await verify.verify(
            pagerduty, claim({"x-pagerduty-signature": f"v1={old},v1={new}"}, secrets=secrets)
        )
    await refused(
        pagerduty,
        claim({"x-pagerduty-signature": f"v1={old},v1={new}"}, secrets=[Secret("newer")]),
        "the signature is wrong",
    )


async def test_bitbucket_signs_as_github_does() -> None:
    """Derived from "Secure webhooks" of Bitbucket: X-Hub-Signature with sha256= in hexadecimal."""
    bitbucket = scheme("hmac", header="X-Hub-Signature", prefix="sha256=")
    await verify.verify(bitbucket, claim({"x-hub-signature": SIGNED["x-hub-signature-256"]}))


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
async def test_other_algorithms_and_base64(algorithm: str) -> None:
    """Derived from RFC 2104; the sender does not choose: what another algorithm gives is wrong."""
    kind = scheme("hmac", header="X-Signature", algorithm=algorithm, encoding="base64")
    for used in ("sha256", "sha1", "md5"):
        digest = hmac.new(SECRET.reveal().encode(), BODY, used).digest()
        headers = {"x-signature": base64.b64encode(digest).decode()}
        if used == algorithm:
            await verify.verify(kind, claim(headers))
        else:
            await refused(kind, claim(headers), "the signature is wrong")


# --- token and basic ---------------------------------------------------------------------------------------

TOKENS = {
    "gitlab": (scheme("token", header="X-Gitlab-Token"), "x-gitlab-token", ""),
    "buildkite": (scheme("token", header="X-Buildkite-Token"), "x-buildkite-token", ""),
    "harbor": (scheme("token", header="Authorization"), "authorization", ""),
    "bearer": (scheme("token", header="Authorization", prefix="Bearer "), "authorization", "Bearer "),
}


@pytest.mark.parametrize(("kind", "header", "prefix"), TOKENS.values(), ids=TOKENS.keys())
async def test_a_token_is_the_secret_itself(kind: AnyVerifier, header: str, prefix: str) -> None:
    """Derived from the providers' documentation: the header holds the secret as it was entered."""
    good = prefix + SECRET.reveal()
    await verify.verify(kind, claim({header: good}))
    await verify.verify(kind, claim({header: good}, secrets=[Secret("new"), SECRET]))
    for wrong in (
        good + "x",
        good[:-1],
        good.lower(),
        f"{good}, {good}",
        prefix + "\udcff\xe9世",
        prefix or "x",
    ):
        await refused(kind, claim({header: wrong}), "token")
    await refused(kind, claim({}), "is missing")
    await refused(kind, claim({header: good}, secrets=[]), "has no secret yet")
    await refused(kind, claim({header: good}, secrets=[Secret("")]), "has no secret yet")


def credentials(text: bytes) -> str:
    return base64.b64encode(text).decode()


async def test_basic_is_user_name_and_secret() -> None:
    """Published: RFC 7617 §2, "Aladdin" and "open sesame"."""
    kind = scheme("basic", username="Aladdin")
    good = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    sesame = [Secret("open sesame")]
    await verify.verify(kind, claim({"authorization": good}, secrets=sesame))
    await verify.verify(kind, claim({"authorization": good.replace("B", "b", 1)}, secrets=[SECRET, *sesame]))
    await refused(kind, claim({"authorization": good}), "user name or password is wrong")
    await refused(kind, claim({"authorization": good}, secrets=[]), "has no secret yet")
    await refused(kind, claim({}, secrets=sesame), "is missing")
    for wrong in (b"Ali:open sesame", b"aladdin:open sesame", b"Aladdin:open sesam", b"Aladdin:", b":"):
        given = {"authorization": f"Basic {credentials(wrong)}"}
        await refused(kind, claim(given, secrets=sesame), "user name or password is wrong")
    for malformed in (
        "Basic", "Basic ", "Basic ====", "Basic \xe9", "Basic \udcff", good.replace("Basic", "Bearer"),
        f"{good}, {good}", f"Basic {credentials(b'no colon')}",
    ):  # fmt: skip
        await refused(kind, claim({"authorization": malformed}, secrets=sesame), "no user name and password")


async def test_basic_in_another_header() -> None:
    """Derived from ACR's custom headers: it sends what it was told to."""
    kind = scheme("basic", username="acr", header="X-Hook-Auth")
    await verify.verify(
        kind, claim({"x-hook-auth": f"Basic {credentials(b'acr:pass')}"}, secrets=[Secret("pass")])
    )


# --- none --------------------------------------------------------------------------------------------------


async def test_nothing_is_signed_only_where_that_is_allowed() -> None:
    await refused(scheme("none"), claim({}), "not allowed by this Integration")
    await verify.verify(scheme("none"), claim({}, secrets=[], allow_unsigned=True))


@pytest.mark.parametrize(
    ("source", "good"),
    [
        ("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("2001:db8::1", True), ("2001:db8::1%eth0", True),
        ("192.0.3.7", False), ("2001:db9::1", False), ("", False), ("localhost", False), ("192.0.2", False),
    ],
)  # fmt: skip
async def test_the_sender_must_be_in_one_of_the_networks(source: str, good: bool) -> None:
    kind = scheme("none", networks=["192.0.2.0/24", "2001:db8::/32"])
    given = claim({}, source=source, allow_unsigned=True)
    if good:
        await verify.verify(kind, given)
    else:
        await refused(kind, given, "not taken from the address")
    await refused(kind, claim({}, source=source), "not allowed by this Integration")


def test_a_network_must_be_one() -> None:
    with pytest.raises(ValueError, match="has host bits set"):
        scheme("none", networks=["192.0.2.7/24"])


# --- one of several ----------------------------------------------------------------------------------------

ONE_OF = scheme(
    "one-of",
    of=[
        {"kind": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256="},
        {"kind": "token", "header": "S"},
    ],
)


async def test_one_proof_of_several_is_enough() -> None:
    await verify.verify(ONE_OF, claim(SIGNED))
    await verify.verify(ONE_OF, claim({"s": SECRET.reveal()}))
    await refused(ONE_OF, claim({}), "the header s or x-hub-signature-256 is missing")


async def test_a_wrong_proof_is_not_made_good_by_another() -> None:
    wrong = {"x-hub-signature-256": f"sha256={'0' * 64}"}
    await refused(ONE_OF, claim(wrong | {"s": SECRET.reveal()}), "the signature is wrong")


# --- all kinds ---------------------------------------------------------------------------------------------

CONFIG = {
    "base": "https://api.travis-ci.com",
    "audience": "https://hooks",
    "email": "a@b",
    "topic": "arn:aws:x",
}
ALL: dict[str, AnyVerifier] = {
    "hmac": GITHUB,
    "hmac of several": scheme("hmac", header="S", prefix="v1=", separator=",", algorithm="sha1"),
    "slack": scheme(
        "hmac-timestamped", header="S", prefix="v0=", signed="v0:{timestamp}:{body}", timestampHeader="T",
        toleranceSeconds=300,
    ),
    "stripe": scheme(
        "hmac-timestamped", header="S", signed="{timestamp}.{body}", timestampField="t", signatureField="v1",
        toleranceSeconds=300,
    ),
    "standard": scheme(
        "hmac-timestamped", header="S", prefix="v1,", separator=" ", signed="{id}.{timestamp}.{body}",
        idHeader="I", timestampHeader="T", encoding="base64", keyEncoding="base64", toleranceSeconds=300,
    ),
    "token": scheme("token", header="S"),
    "basic": scheme("basic", username="u", header="S"),
    "rsa": scheme(
        "rsa", header="S", algorithm="sha1", keyUrl="${{ config.base }}/config", keyField="a.b",
        formField="payload",
    ),
    "rsa of the body": scheme("rsa", header="S", algorithm="sha256", keyUrl="${{ config.base }}"),
    "http-signature": scheme("http-signature", header="S", toleranceSeconds=300),
    "oidc": scheme(
        "oidc", header="S", issuers=["i"], jwksUrl="https://k", audience="${{ config.audience }}",
        email="${{ config.email }}",
    ),
    "one of": ONE_OF,
    "sns": scheme("sns", topicArn="${{ config.topic }}", toleranceSeconds=300),
    "none": scheme("none", networks=["192.0.2.0/24"]),
    "code": verify.Coded(inner=HmacBody(header="s")),
}  # fmt: skip


def test_each_kind_is_among_them() -> None:
    assert len({type(kind) for kind in ALL.values()}) == len(verify.KINDS) == 11


class Published:
    """A source of keys that gives whatever it was told to."""

    def __init__(self, body: bytes | None) -> None:
        self.body = body

    async def get(self, url: str, *, newer: bool = False) -> bytes:
        if self.body is None:
            raise errors.Unreachable("down")
        return self.body


PIECES = st.sampled_from(
    [
        *("v1=", "v0=", "sha256=", "v1,", "t=", "signature=", ",", " ", ".", "=", ":", "Basic ", "Bearer "),
        *('keyId="k"', 'algorithm="hmac-sha256"', 'headers="date digest"', 'signature="AA=="'),
        *(
            "1777885200",
            "SHA-256=",
            "AAAA",
            "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ",
            "e30",
            "W10",
            "\udcff",
            "\xe9",
        ),
        *(
            "Mon, 04 May 2026 09:00:00 GMT",
            "Mon, 99 May 99999 09:00:00 -9999",
            "9" * 11,
            "\u0661",
            "\x00",
            "世",
        ),
    ]
)
TEXT = st.text(max_size=40) | st.lists(PIECES, max_size=12).map("".join)
FIELD = st.none() | st.integers() | TEXT | st.just({}) | st.lists(st.integers(), max_size=2)
MESSAGE = st.fixed_dictionaries(
    {"Type": st.sampled_from(["Notification", "SubscriptionConfirmation", "x"]) | FIELD},
    optional=dict.fromkeys(
        (
            *("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Token", "SubscribeURL"),
            *("Signature", "SignatureVersion", "SigningCertURL"),
        ),
        FIELD | st.sampled_from(["1", "2", "arn:aws:x", "2026-05-04T09:00:00Z"])
        | st.just("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem"),
    ),
)  # fmt: skip
BODIES = (
    st.binary(max_size=200)
    | st.just(b"payload=x")
    | st.just(b"[" * 5000)
    | st.just(b'{"Type":' * 3000)
    | MESSAGE.map(lambda message: json.dumps(message).encode())
)


@pytest.mark.parametrize("kind", ALL.values(), ids=ALL.keys())
@settings(max_examples=150, deadline=None)
@given(
    headers=st.dictionaries(st.sampled_from(["s", "t", "i", "date", "digest", "x-hub-signature-256"]), TEXT),
    body=BODIES,
    secrets=st.lists(TEXT.map(Secret), max_size=2),
    key=st.none() | st.binary(max_size=50) | TEXT.map(lambda text: text.encode("utf-8", "replace")),
    source=TEXT,
    config=st.just(CONFIG) | st.just({}),
)
async def test_whatever_is_sent_it_is_refused_in_words(
    kind: AnyVerifier,
    headers: dict[str, str],
    body: bytes,
    secrets: list[Secret],
    key: bytes | None,
    source: str,
    config: dict[str, str],
) -> None:
    given_claim = claim(headers, body, secrets, source=source, config=config, allow_unsigned=True)
    try:
        await verify.verify(kind, given_claim, keys=Published(key))
    except (SignatureRefused, errors.Unreachable):
        return
    # Only whoever knows the secret, and wrote it down as it is, may come here.
    assert kind in (ALL["token"], ONE_OF)
    assert headers["s"] in {secret.reveal() for secret in secrets}


async def test_a_kind_that_needs_a_key_is_refused_where_none_is_fetched() -> None:
    signed = claim({"s": "AAAA"}, config=CONFIG)
    with pytest.raises(SignatureRefused, match="none is fetched here"):
        await verify.verify(ALL["rsa of the body"], signed)


@pytest.mark.parametrize("kind", ALL.values(), ids=ALL.keys())
def test_what_proves_is_told_so_that_nobody_keeps_it(kind: AnyVerifier) -> None:
    assert kind.proofs <= {"s", "x-hub-signature-256"}
    assert bool(kind.proofs) == (kind not in (ALL["sns"], ALL["none"]))


def test_a_time_is_recent_within_the_tolerance() -> None:
    given_claim = claim({})
    for seconds in (-300, 0, 300):
        given_claim.recent(NOW + timedelta(seconds=seconds), tolerance=timedelta(seconds=300))
    for seconds in (-301, 301):
        with pytest.raises(SignatureRefused, match="more than 300 s away"):
            given_claim.recent(NOW + timedelta(seconds=seconds), tolerance=timedelta(seconds=300))
