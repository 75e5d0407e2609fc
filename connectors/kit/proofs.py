"""Genuine proofs, made as a provider of each kind makes them, so that a verifier can be tried.

Wire (headers, body) ──prove──► Proved: what a gateway gets, and the key that is published, if there is one
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from joserfc import jwk, jws

from connectors.code import Signer
from connectors.forms import only_field
from connectors.verify import AnyVerifier, Claim, Coded, OneOf
from connectors.verify.basic import Basic
from connectors.verify.claim import mac
from connectors.verify.hmac_body import HmacBody
from connectors.verify.hmac_timestamped import HmacTimestamped
from connectors.verify.http_signature import ALGORITHM, HttpSignature, signing_string
from connectors.verify.oidc import OidcBearer
from connectors.verify.rsa import RsaSignature
from connectors.verify.shared_token import SharedToken
from connectors.verify.sns import SUBJECT, SnsMessage, canonical
from connectors.verify.unsigned import Unsigned
from pipewright.ports import Secret

SECRET: Final = base64.b64encode(b"the secret of this webhook, tried").decode()
OTHER: Final = base64.b64encode(b"another secret that is not right").decode()
_CERTIFICATE: Final = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"


class NotProvable(Exception):
    """There is no way to make a proof here. The message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A delivery as it is sent, without a proof."""

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """The same with a proof."""

    claim: Claim
    published: bytes = field(default=b"", repr=False)
    """What lies at the address of the provider's key."""

    async def get(self, _url: str, *, newer: bool = False) -> bytes:
        """The provider's key: this is its source, too."""
        return self.published


@dataclass(frozen=True, slots=True, kw_only=True)
class Covers:
    """What a kind of proof speaks of."""

    body: bool
    time: timedelta | None
    """After so long it is refused; None: it is good for ever."""


def covers(scheme: AnyVerifier) -> Covers:
    """What this verifier's proof speaks of."""
    match scheme:
        case OneOf():
            return covers(scheme.kinds[0])
        case HmacTimestamped() | HttpSignature() | SnsMessage():
            return Covers(body=True, time=scheme.tolerance)
        case OidcBearer():
            return Covers(body=False, time=timedelta(hours=1, minutes=2))
        case SharedToken() | Basic() | Unsigned():
            return Covers(body=False, time=None)
        case _:
            return Covers(body=True, time=None)


def prove(
    scheme: AnyVerifier, wire: Wire, *, now: datetime, secret: str = SECRET, signer: Signer | None = None
) -> Proved:
    """The delivery with a proof under this secret, or by a key of this name.

    Raises:
        NotProvable: the kind is code, and no signer came with it.
    """
    claim = Claim(
        headers=wire.headers, body=wire.body, secrets=(Secret(secret),), now=now, config=wire.config
    )
    match scheme:
        case OneOf():
            return prove(scheme.kinds[0], wire, now=now, secret=secret, signer=signer)
        case HmacBody():
            signed = mac(secret.encode(), wire.body, algorithm=scheme.algorithm, encoding=scheme.encoding)
            return _with(claim, {scheme.header: scheme.prefix + signed.decode()})
        case HmacTimestamped():
            return _hmac_timestamped(scheme, claim, secret)
        case SharedToken():
            return _with(claim, {scheme.header: scheme.prefix + secret})
        case Basic():
            pair = base64.b64encode(f"{scheme.username}:{secret}".encode()).decode()
            return _with(claim, {scheme.header: f"Basic {pair}"})
        case HttpSignature():
            return _http_signature(scheme, claim, secret)
        case RsaSignature():
            return _rsa(scheme, claim, _key(secret))
        case OidcBearer():
            return _oidc(scheme, claim, _key(secret))
        case SnsMessage():
            return _sns(scheme, claim, _key(secret))
        case Unsigned():
            source = str(scheme.networks[0].network_address) if scheme.networks else "192.0.2.1"
            return Proved(claim=replace(claim, allow_unsigned=True, source=source))
        case Coded() if signer is not None:
            headers = signer.sign(body=wire.body, secret=secret, now=now)
            return _with(claim, {name.lower(): value for name, value in headers.items()})
        case _:
            raise NotProvable("the verifier is code: give Code a signer that makes what it accepts")


def _with(claim: Claim, headers: Mapping[str, str]) -> Proved:
    return Proved(claim=replace(claim, headers={**claim.headers, **headers}))


def _raw_key(secret: str, encoding: str) -> bytes:
    return base64.b64decode(secret) if encoding == "base64" else secret.encode()


def _hmac_timestamped(scheme: HmacTimestamped, claim: Claim, secret: str) -> Proved:
    moment, told = str(int(claim.now.timestamp())), dict[str, str]()
    if scheme.id_header:
        told[scheme.id_header] = claim.headers.get(scheme.id_header, "msg-1")
    texts = {"timestamp": moment, "id": told.get(scheme.id_header, "")}
    message = scheme.signed.removesuffix("{body}").format_map(texts).encode() + claim.body
    key = _raw_key(secret, scheme.key_encoding)
    signed = mac(key, message, algorithm="sha256", encoding=scheme.encoding).decode()
    if scheme.timestamp_field:
        told[scheme.header] = f"{scheme.timestamp_field}={moment},{scheme.signature_field}={signed}"
    else:
        told[scheme.header] = scheme.prefix + signed
        told[scheme.timestamp_header] = moment
    return _with(claim, told)


def _http_signature(scheme: HttpSignature, claim: Claim, secret: str) -> Proved:
    digest = base64.b64encode(hashlib.sha256(claim.body).digest()).decode()
    dated = {"date": format_datetime(claim.now, usegmt=True), "digest": f"SHA-256={digest}"}
    covered = _with(claim, dated)
    message = signing_string(covered.claim, ["date", "digest"])
    key = _raw_key(secret, scheme.key_encoding)
    signed = mac(key, message, algorithm="sha256", encoding="base64").decode()
    value = f'keyId="hmac-key",algorithm="{ALGORITHM}",headers="date digest",signature="{signed}"'
    return _with(covered.claim, {scheme.header: value})


@functools.cache
def _key(_name: str) -> rsa.RSAPrivateKey:
    """A key for each name, made once: it takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _signed(key: rsa.RSAPrivateKey, message: bytes, *, algorithm: str) -> str:
    # the kinds of providers that have nothing better
    chosen = hashes.SHA1() if algorithm == "sha1" else hashes.SHA256()  # noqa: S303
    return base64.b64encode(key.sign(message, padding.PKCS1v15(), chosen)).decode()


def _rsa(scheme: RsaSignature, claim: Claim, key: rsa.RSAPrivateKey) -> Proved:
    message = only_field(claim.body, scheme.form_field) if scheme.form_field else claim.body
    proved = _with(claim, {scheme.header: _signed(key, message or b"", algorithm=scheme.algorithm)})
    published = _pem(_key(SECRET))
    if scheme.key_field:
        document: Any = published.decode()
        for name in reversed(scheme.key_field.split(".")):
            document = {name: document}
        published = json.dumps(document).encode()
    return replace(proved, published=published)


def _oidc(scheme: OidcBearer, claim: Claim, key: rsa.RSAPrivateKey) -> Proved:
    moment = int(claim.now.timestamp())
    said = {
        "iss": scheme.issuers[0],
        "aud": claim.setting(scheme.audience, "audience"),
        "email": claim.setting(scheme.email, "service account"),
        "email_verified": True,
        "iat": moment,
        "exp": moment + 3600,
    }
    private = jwk.RSAKey.import_key(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    token = jws.serialize_compact({"alg": "RS256", "kid": "k-1"}, json.dumps(said), private)
    public = {**jwk.RSAKey.import_key(_pem(_key(SECRET))).as_dict(), "kid": "k-1", "alg": "RS256"}
    proved = _with(claim, {scheme.header: f"Bearer {token}"})
    return replace(proved, published=json.dumps({"keys": [public]}).encode())


def _sns(scheme: SnsMessage, claim: Claim, key: rsa.RSAPrivateKey) -> Proved:
    message = json.loads(claim.body) | {
        "TopicArn": claim.setting(scheme.topic, "topic"),
        "Timestamp": claim.now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "SignatureVersion": "2",
        "SigningCertURL": _CERTIFICATE,
    }
    message["Signature"] = _signed(key, canonical(message), algorithm="sha256")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SUBJECT)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(_key(SECRET).public_key())
        .serial_number(1)
        .not_valid_before(claim.now - timedelta(days=30))
        .not_valid_after(claim.now + timedelta(days=30))
        .sign(_key(SECRET), hashes.SHA256())
    )
    made = replace(claim, body=json.dumps(message).encode())
    return Proved(claim=made, published=certificate.public_bytes(serialization.Encoding.PEM))
