"""`http-signature`: HTTP signatures of draft-cavage-http-signatures with a shared key. Drone, Harness.

The signature covers headers, of which one is the Digest of the body (RFC 3230) and one the Date: both are
checked, else the signature would say nothing of what is read. Drone's releases take the secret as it is; the
library that they are built with takes it as base64 since.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Self

from connectors.verify.claim import (
    MAX_SIGNATURE,
    WRONG,
    Claim,
    Options,
    SignatureRefused,
    Text,
    mac,
    matches,
    raw,
)

_PARAMETER: Final = re.compile(r'([a-zA-Z]{1,20})="([^"\\]{0,1024})"')
_NAME: Final = re.compile(r"[a-z0-9-]{1,80}")
_COVERED: Final = frozenset({"date", "digest"})
_MOST_HEADERS: Final = 20
ALGORITHM: Final = "hmac-sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSignature:
    """HMAC with SHA-256 over Date and Digest, and whatever other headers the sender covers."""

    tolerance: timedelta
    header: str = "signature"
    key_encoding: str = "text"

    @classmethod
    def parse(cls, options: Options, _text: Text) -> Self:
        """From a manifest."""
        return cls(
            tolerance=timedelta(seconds=options["toleranceSeconds"]),
            header=options.get("header", "signature").lower(),
            key_encoding=options.get("keyEncoding", "text"),
        )

    @property
    def proofs(self) -> frozenset[str]:
        """The header with the signature."""
        return frozenset({self.header})

    def check(self, claim: Claim) -> None:
        """Return if the signature covers date and body, is right under one of the secrets, and is of now.

        Raises:
            SignatureRefused: otherwise.
        """
        given = claim.header(self.header)
        keys = claim.keys(self.key_encoding)
        parameters = self._parameters(given)
        if parameters.get("algorithm") != ALGORITHM:
            raise SignatureRefused(f"the signature's algorithm must be {ALGORITHM}")
        names = parameters.get("headers", "date").split(" ")
        if not set(names) >= _COVERED:
            raise SignatureRefused("the signature must cover the headers date and digest")
        message = signing_string(claim, names)
        found = parameters.get("signature", "")
        if not found or len(found) > MAX_SIGNATURE:
            raise self._malformed()
        expected = [mac(key, message, algorithm="sha256", encoding="base64") for key in keys]
        if not matches(expected, [raw(found)]):
            raise SignatureRefused(WRONG)
        wanted = b"SHA-256=" + base64.b64encode(hashlib.sha256(claim.body).digest())
        if not matches([wanted], [raw(claim.header("digest"))]):
            raise SignatureRefused("the header digest is not the body's SHA-256")
        claim.recent(_date(claim.header("date")), tolerance=self.tolerance)

    def _parameters(self, given: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for part in given.split(","):
            parameter = _PARAMETER.fullmatch(part.strip(" "))
            if parameter is None or parameter[1] in found:
                raise self._malformed()
            found[parameter[1]] = parameter[2]
        return found

    def _malformed(self) -> SignatureRefused:
        return SignatureRefused(f"the header {self.header} is no signature of the kind http-signature")


def signing_string(claim: Claim, names: list[str]) -> bytes:
    """The covered headers as they are signed (§2.3), a line each.

    Raises:
        SignatureRefused: one is missing, covered twice, or none that we can see, such as (request-target).
    """
    if len(names) > _MOST_HEADERS or len(set(names)) != len(names):
        raise SignatureRefused("the signature covers too many headers, or one of them twice")
    if not all(_NAME.fullmatch(name) for name in names):
        raise SignatureRefused("the signature covers something that is not checked here")
    return b"\n".join(raw(f"{name}: {claim.header(name).strip(' ')}") for name in names)


def _date(text: str) -> datetime:
    try:
        found = parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        raise SignatureRefused("the header date holds no date") from None
