"""`token`: a header holds the secret itself. GitLab (X-Gitlab-Token), Buildkite (X-Buildkite-Token), Harbor.

Weak: it does not cover the body, and whoever sees one delivery can send others. For providers that have
nothing better.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

from connectors.verify.claim import Claim, Options, SignatureRefused, Text, matches, raw


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedToken:
    """The secret in a header."""

    header: str
    prefix: str = ""

    @classmethod
    def parse(cls, options: Options, _text: Text) -> Self:
        """From a manifest."""
        return cls(header=options["header"].lower(), prefix=options.get("prefix", ""))

    @property
    def proofs(self) -> frozenset[str]:
        """The header."""
        return frozenset({self.header})

    def check(self, claim: Claim) -> None:
        """Return if the header holds one of the secrets.

        Raises:
            SignatureRefused: it does not.
        """
        given = claim.header(self.header)
        keys = claim.keys()
        if not given.startswith(self.prefix):
            raise SignatureRefused(f"the header {self.header} is no token of this provider")
        if not same(keys, raw(given.removeprefix(self.prefix))):
            raise SignatureRefused("the token is wrong: the secret at the provider is not this webhook's")


def same(keys: tuple[bytes, ...], given: bytes) -> bool:
    """Whether it is one of the keys; not even its length shows in the time that this takes."""
    return matches([hashlib.sha256(key).digest() for key in keys], [hashlib.sha256(given).digest()])
