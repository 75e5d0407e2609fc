"""`code`: the verifier of the connector's own package.

What it raises beside a refusal refuses, too: a proof that could not be checked is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from connectors.verify.claim import Claim, Options, SignatureRefused, Text, Verifier


class VerifierFailed(SignatureRefused):
    """The verifier raised what it must not: the delivery is refused, and its author should know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A verifier that came with a manifest; without it nothing is proved."""

    inner: Verifier | None = None

    @classmethod
    def parse(cls, _options: Options, _text: Text) -> Self:
        """From a manifest, before its package's verifier is at hand."""
        return cls()

    @property
    def proofs(self) -> frozenset[str]:
        """Those of the verifier."""
        return frozenset(name.lower() for name in (self.inner.proofs if self.inner is not None else ()))

    def check(self, claim: Claim) -> None:
        """Return if the verifier does.

        Raises:
            SignatureRefused: it does not, for whatever reason.
        """
        if self.inner is None:
            raise SignatureRefused("the connector's verifier is not here")
        try:
            self.inner.check(claim)
        except SignatureRefused:
            raise
        except Exception as error:  # noqa: BLE001 - the border to code of others
            raise VerifierFailed(f"the connector's verifier failed: {type(error).__name__}") from None
