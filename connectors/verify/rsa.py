"""`rsa`: an RSA signature (PKCS #1 v1.5) by a key that the provider publishes. Travis CI.

Travis signs the form field `payload` of the body with SHA-1 (it has nothing else), base64 in `Signature`; the
key is in the JSON of its `/config`, at config.notifications.webhook.public_key.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from connectors.forms import only_field
from connectors.verify.claim import Claim, Options, SignatureRefused, Text, UnknownKey, raw
from pipewright.expressions import Template

SHORTEST_KEY: Final = 2048
"""Bits."""
# SHA-1 is what Travis and SNS's version 1 sign with: an attacker needs a second preimage, not a collision.
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}  # noqa: S303


@dataclass(frozen=True, slots=True, kw_only=True)
class RsaSignature:
    """A signature over the body, or over one field of a form."""

    header: str
    algorithm: str
    url: Template
    key_field: str = ""
    """The path to the key, a PEM, in the JSON that is fetched; empty: the PEM is all of it."""
    form_field: str = ""
    """What is signed, of a body that is a form; empty: the body."""

    @classmethod
    def parse(cls, options: Options, text: Text) -> Self:
        """From a manifest."""
        return cls(
            header=options["header"].lower(),
            algorithm=options["algorithm"],
            url=text(options["keyUrl"]),
            key_field=options.get("keyField", ""),
            form_field=options.get("formField", ""),
        )

    @property
    def proofs(self) -> frozenset[str]:
        """The header."""
        return frozenset({self.header})

    def key_url(self, claim: Claim) -> str:
        """Where the key lies.

        Raises:
            SignatureRefused: no signature, or nothing that could be signed.
        """
        self._signature(claim)
        self._signed(claim)
        return claim.setting(self.url, "address of the provider's key")

    def check_with(self, claim: Claim, key: bytes) -> None:
        """Return if the signature is right.

        Raises:
            UnknownKey: it is not by this key, or this is no key.
        """
        text = _at(key, self.key_field) if self.key_field else key
        verify_rsa(public_key(text), self._signature(claim), self._signed(claim), algorithm=self.algorithm)

    def _signature(self, claim: Claim) -> bytes:
        return decoded(claim.header(self.header), what=f"the header {self.header}")

    def _signed(self, claim: Claim) -> bytes:
        if not self.form_field:
            return claim.body
        found = only_field(claim.body, self.form_field)
        if found is None:
            raise SignatureRefused(f"the body is no form with one field {self.form_field}")
        return found


def decoded(text: str, *, what: str) -> bytes:
    """A signature in base64.

    Raises:
        SignatureRefused: it is none.
    """
    try:
        found = base64.b64decode(raw(text), validate=True)
    except binascii.Error:
        found = b""
    if not found:
        raise SignatureRefused(f"{what} is no signature in base64")
    return found


def public_key(pem: bytes) -> rsa.RSAPublicKey:
    """An RSA key from its PEM.

    Raises:
        UnknownKey: it is none, or too short.
    """
    try:
        found = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        found = None
    return usable(found)


def usable(key: object) -> rsa.RSAPublicKey:
    """An RSA key that is long enough.

    Raises:
        UnknownKey: it is not.
    """
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < SHORTEST_KEY:
        raise UnknownKey(f"what the provider publishes is no RSA key of {SHORTEST_KEY} bits or more")
    return key


def verify_rsa(key: rsa.RSAPublicKey, signature: bytes, message: bytes, *, algorithm: str) -> None:
    """Return if the signature is right.

    Raises:
        UnknownKey: it is not by this key.
    """
    try:
        key.verify(signature, message, padding.PKCS1v15(), _HASHES[algorithm])
    except (InvalidSignature, ValueError):
        raise UnknownKey("the signature is not by the provider's key, or the body changed") from None


def _at(document: bytes, path: str) -> bytes:
    """The text at a path of field names in a JSON document; empty where there is none."""
    try:
        found: Any = json.loads(document)
    except (ValueError, RecursionError):
        return b""
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return raw(found) if isinstance(found, str) else b""
