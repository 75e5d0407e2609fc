"""`hmac`: a header holds the HMAC of the raw body. GitHub, Bitbucket, CircleCI, PagerDuty and many more.

There is no time in it, so that an old delivery is good for ever: whoever takes it must know its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from connectors.verify.claim import (
    MAX_SIGNATURE,
    MAX_SIGNATURES,
    WRONG,
    Claim,
    Options,
    SignatureRefused,
    Text,
    mac,
    matches,
    raw,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacBody:
    """HMAC over the body."""

    header: str
    prefix: str = ""
    separator: str = ""
    """Between several signatures in the header, any of which may match; empty: it holds one."""
    algorithm: str = "sha256"
    encoding: str = "hex"

    @classmethod
    def parse(cls, options: Options, _text: Text) -> Self:
        """From a manifest."""
        return cls(
            header=options["header"].lower(),
            prefix=options.get("prefix", ""),
            separator=options.get("separator", ""),
            algorithm=options.get("algorithm", "sha256"),
            encoding=options.get("encoding", "hex"),
        )

    @property
    def proofs(self) -> frozenset[str]:
        """The header."""
        return frozenset({self.header})

    def check(self, claim: Claim) -> None:
        """Return if a signature is right under one of the secrets.

        Raises:
            SignatureRefused: none is.
        """
        given = claim.header(self.header)
        keys = claim.keys()
        found = signatures(given, prefix=self.prefix, separator=self.separator)
        if not found:
            raise SignatureRefused(f"the header {self.header} is no signature of the kind hmac")
        expected = [mac(key, claim.body, algorithm=self.algorithm, encoding=self.encoding) for key in keys]
        if not matches(expected, found):
            raise SignatureRefused(WRONG)


def signatures(given: str, *, prefix: str, separator: str) -> tuple[bytes, ...]:
    """The signatures in a header without their prefix; none where it is not what it must be.

    Of several, those with another prefix are of another version, which is no fault.
    """
    parts = [part.strip(" ") for part in given.split(separator)] if separator else [given]
    found = [part.removeprefix(prefix) for part in parts if part.startswith(prefix)]
    if len(found) > MAX_SIGNATURES or any(len(each) > MAX_SIGNATURE for each in found):
        return ()
    return tuple(raw(each) for each in found)
