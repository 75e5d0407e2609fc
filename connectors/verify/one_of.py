"""`one-of`: a source may prove itself in one of several ways, by the same secret. CDEvents, from anywhere.

The first kind whose header came decides, alone: a wrong signature is not made good by something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from connectors.verify.claim import Claim, SignatureRefused, Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """Several kinds of proof, in the order in which they are looked for."""

    kinds: tuple[Verifier, ...]

    @classmethod
    def parse(cls, kinds: Sequence[Verifier]) -> Self:
        """Of these.

        Raises:
            ValueError: two of them look at the same header.
        """
        headers = [header for kind in kinds for header in kind.proofs]
        if len(set(headers)) < len(headers):
            raise ValueError("two kinds of one-of look at the same header")
        return cls(kinds=tuple(kinds))

    @property
    def proofs(self) -> frozenset[str]:
        """The headers of all of them."""
        return frozenset().union(*(kind.proofs for kind in self.kinds))

    def check(self, claim: Claim) -> None:
        """Return if the kind whose header came proves the claim.

        Raises:
            SignatureRefused: it does not, or no header came.
        """
        for kind in self.kinds:
            if any(claim.headers.get(header) for header in kind.proofs):
                kind.check(claim)
                return
        known = " or ".join(sorted(self.proofs))
        raise SignatureRefused(f"the header {known} is missing: set the webhook's secret at the provider")
