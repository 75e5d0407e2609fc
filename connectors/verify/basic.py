"""`basic`: user name and password (RFC 7617), the password being the secret. Azure DevOps, ACR.

Weak, as `token` is. ACR sends whatever headers it was told to, also an Authorization of this kind; a custom
header with nothing but the secret is `token`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Self

from connectors.verify.claim import Claim, Options, SignatureRefused, Text, raw
from connectors.verify.shared_token import same


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """A fixed user name and the secret as the password."""

    username: str
    header: str = "authorization"

    @classmethod
    def parse(cls, options: Options, _text: Text) -> Self:
        """From a manifest."""
        return cls(username=options["username"], header=options.get("header", "authorization").lower())

    @property
    def proofs(self) -> frozenset[str]:
        """The header."""
        return frozenset({self.header})

    def check(self, claim: Claim) -> None:
        """Return if the header holds the user name and one of the secrets.

        Raises:
            SignatureRefused: it does not.
        """
        given = claim.header(self.header)
        keys = claim.keys()
        scheme, _, encoded = given.partition(" ")
        try:
            decoded = base64.b64decode(raw(encoded.strip(" ")), validate=True)
        except binascii.Error:
            decoded = b""
        if scheme.lower() != "basic" or b":" not in decoded:
            raise SignatureRefused(f"the header {self.header} holds no user name and password")
        wanted = tuple(self.username.encode() + b":" + key for key in keys)
        if not same(wanted, decoded):
            raise SignatureRefused(
                f"user name or password is wrong: they are {self.username} and this webhook's secret"
            )
