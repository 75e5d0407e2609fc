"""Assertions that a private key signs (JWT, RS256): what the kinds with a key of their own exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from joserfc import jwt
from joserfc.jwk import RSAKey

from connectors.auth.caller import refused

ALGORITHM: Final = "RS256"
SHORTEST_KEY: Final = 2048
"""Bits."""


def signed(claims: Mapping[str, Any], *, pem: str, field: str, kid: str | None = None) -> str:
    """The claims, signed by the key in this PEM.

    Raises:
        errors.Stalled: it is no RSA private key of a good length; the message names the field only.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey) or key.key_size < SHORTEST_KEY:
        raise refused(
            f"the Secret's field {field} has no RSA private key in PEM, of {SHORTEST_KEY} bits or more"
        )
    header = {"alg": ALGORITHM, "typ": "JWT"} | ({"kid": kid} if kid else {})
    return jwt.encode(header, dict(claims), RSAKey.import_key(pem), algorithms=[ALGORITHM])
