"""Sealing to the gateway: HPKE (RFC 9180) to an X25519 key whose private half only the gateway has.

The data plane must start while the API server, Vault and the operator are down, so its per-tenant
credentials lie in the platform database, sealed: who writes them cannot read them back, and neither can the
database's administrator. The context (tenant id and purpose) is bound as HPKE `info`: a sealed value moved
to another row does not open.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from pipewright import errors

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def fingerprint(public_key: bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the raw public key: names it, nothing more."""
    return hashlib.sha256(public_key).hexdigest()[:16]


class HpkeSealer:
    """`pipewright.ports.Sealer`: encrypts to the gateway's public key (32 raw bytes, base64)."""

    def __init__(self, public_key: str) -> None:
        raw = base64.b64decode(public_key, validate=True)
        self._public = X25519PublicKey.from_public_bytes(raw)
        self._key = fingerprint(raw)

    @property
    def key(self) -> str:
        """Fingerprint of the public key."""
        return self._key

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """Sealed bytes (encapsulated key, then ciphertext), bound to `context`."""
        return _SUITE.encrypt(plaintext, self._public, info=context.encode())


class HpkeOpener:
    """The gateway's half: opens what was sealed to its private key (32 raw bytes, base64)."""

    def __init__(self, private_key: str) -> None:
        raw = base64.b64decode(private_key, validate=True)
        self._private = X25519PrivateKey.from_private_bytes(raw)
        self.key = fingerprint(self._private.public_key().public_bytes_raw())

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """The plaintext.

        Raises:
            BackendError: sealed to another key or for another context, or damaged.
        """
        try:
            return _SUITE.decrypt(sealed, self._private, info=context.encode())
        except (InvalidTag, ValueError):
            raise errors.BackendError(
                f"what was sealed for {context} does not open with the gateway's key {self.key}"
            ) from None
