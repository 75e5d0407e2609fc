"""Is a delivery really the provider's? Asked over the raw bytes, before anything parses them.

A scheme of signing is a function in `SCHEMES`, named by the manifest. Secrets may be several: while one is
rotated both the old and the new are good. Comparisons take the same time whatever is wrong.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from connectors.manifest import Verify
from pipewright.ports import Secret

_MAX_SIGNATURE = 512


class SignatureRefused(Exception):
    """The delivery does not prove where it comes from. The message says what is missing, for a 401."""


def verify(scheme: Verify, *, headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret]) -> None:
    """Return if the delivery was signed with one of the secrets; `headers` have lower-case names.

    Raises:
        SignatureRefused: no signature, a wrong one, or no secret to compare with.
    """
    given = headers.get(scheme.header, "")
    if not given:
        raise SignatureRefused(
            f"the header {scheme.header} is missing: set the webhook's secret at the provider"
        )
    if not secrets or not all(secret.reveal() for secret in secrets):
        raise SignatureRefused("this webhook has no secret yet")
    if len(given) > _MAX_SIGNATURE or not given.startswith(scheme.prefix):
        raise SignatureRefused(f"the header {scheme.header} is no signature of the kind {scheme.kind}")
    expected = SCHEMES[scheme.kind]
    given_bytes = given.removeprefix(scheme.prefix).encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(expected(secret, body), given_bytes) for secret in secrets]
    if not any(matches):
        raise SignatureRefused(
            "the signature is wrong: the secret at the provider is not this webhook's, or the body changed"
        )


def hmac_sha256(secret: Secret, body: bytes) -> bytes:
    """HMAC (RFC 2104) of the body under the secret with SHA-256, in lower-case hexadecimal."""
    return hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest().encode()


SCHEMES: Final[Mapping[str, Callable[[Secret, bytes], bytes]]] = {"hmac-sha256": hmac_sha256}
"""What the header must hold after the prefix, by the scheme's name."""
