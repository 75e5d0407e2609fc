"""What a delivery claims to be, before anything believes it, and what every kind of verifier shares."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from pipewright import expressions
from pipewright.expressions import EvaluationError, Template

if TYPE_CHECKING:  # plans read manifests, and plans import no port
    from pipewright.ports import Secret

MAX_SIGNATURE: Final = 512
"""Characters of one signature."""
MAX_HEADER: Final = 8192
"""Characters of a header with signatures or a token in it."""
MAX_SIGNATURES: Final = 8
"""Signatures in one header: a provider sends one for each of its live keys."""

Text = Callable[[str], Template]
"""Compiles an option that may read the Integration's config."""
Options = Mapping[str, Any]
"""What a manifest says of its verification, checked by the schema."""


class SignatureRefused(Exception):
    """The delivery does not prove where it comes from. The message says what is missing, for a 401."""


class UnknownKey(SignatureRefused):
    """The key that was fetched is not the one that signed: a newer one may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery as it came in."""

    headers: Mapping[str, str] = field(repr=False)
    """By lower-case names; a header that came twice is one, joined by commas (RFC 9110 §5.3)."""
    body: bytes = field(repr=False)
    """The raw bytes."""
    secrets: Sequence[Secret]
    """While a secret is rotated both the old and the new: either is good."""
    now: datetime
    config: Mapping[str, Any] = field(default_factory=dict)
    """The Integration's, with defaults."""
    source: str = ""
    """The address that the connection came from."""
    allow_unsigned: bool = False
    """Whether the Integration takes deliveries that nobody signed."""

    def header(self, name: str, *, longest: int = MAX_HEADER) -> str:
        """The header's value.

        Raises:
            SignatureRefused: there is none, or a giant.
        """
        found = self.headers.get(name, "")
        if not found:
            raise SignatureRefused(f"the header {name} is missing: set the webhook's secret at the provider")
        if len(found) > longest:
            raise SignatureRefused(f"the header {name} is too long")
        return found

    def keys(self, encoding: str = "text") -> tuple[bytes, ...]:
        """The secrets as bytes; with `base64`, what they are the base64 of, after `whsec_` if they begin so.

        Raises:
            SignatureRefused: there is none, an empty one, or one that is no base64.
        """
        found = tuple(raw(secret.reveal()) for secret in self.secrets)
        if encoding == "base64":
            try:
                found = tuple(base64.b64decode(key.removeprefix(b"whsec_"), validate=True) for key in found)
            except binascii.Error:
                raise SignatureRefused("this webhook's secret must be in base64 for this provider") from None
        if not found or not all(found):
            raise SignatureRefused("this webhook has no secret yet")
        return found

    def setting(self, template: Template, what: str) -> str:
        """An option that the Integration's config fills in; `what` names it.

        Raises:
            SignatureRefused: the config does not.
        """
        try:
            found = template.render(expressions.bind_input({}, self.config))
        except EvaluationError:
            found = ""
        if not found:
            raise SignatureRefused(f"the Integration's config does not say the {what} that is expected")
        return found

    def recent(self, moment: datetime, *, tolerance: timedelta) -> None:
        """Pass what was signed just now.

        Raises:
            SignatureRefused: it is older or newer than the tolerance.
        """
        if abs(self.now - moment) > tolerance:
            raise SignatureRefused(
                f"the delivery was signed more than {tolerance.total_seconds():g} s away from the time here: "
                "it is an old one, or a clock is wrong"
            )


class Verifier(Protocol):
    """One kind of proof, with a manifest's options. Pure."""

    @property
    def proofs(self) -> frozenset[str]:
        """The headers that prove the sender, by lower-case names: nobody keeps them."""
        ...

    def check(self, claim: Claim) -> None:
        """Return if the claim is proved.

        Raises:
            SignatureRefused: it is not. Nothing else comes out, whatever was sent.
        """
        ...


@runtime_checkable
class FetchedVerifier(Protocol):
    """A kind of proof that needs a public key of the provider. Pure too: the caller fetches."""

    @property
    def proofs(self) -> frozenset[str]:
        """As of a `Verifier`."""
        ...

    def key_url(self, claim: Claim) -> str:
        """Where the key lies, after all checks that need none.

        Raises:
            SignatureRefused: the claim is wrong whatever the key says.
        """
        ...

    def check_with(self, claim: Claim, key: bytes) -> None:
        """Return if the claim is proved by what was fetched.

        Raises:
            UnknownKey: another key may prove it.
            SignatureRefused: it is not proved.
        """
        ...


class KeySource(Protocol):
    """Where the keys of providers come from."""

    async def get(self, url: str, *, newer: bool = False) -> bytes:
        """What lies at the address; `newer` asks for one that is hardly a minute old.

        Raises:
            BackendError: nothing can be had now.
        """
        ...


def mac(key: bytes, message: bytes, *, algorithm: str, encoding: str) -> bytes:
    """HMAC (RFC 2104) in lower-case hexadecimal or base64."""
    digest = hmac.digest(key, message, algorithm)
    return base64.b64encode(digest) if encoding == "base64" else digest.hex().encode()


def raw(text: str) -> bytes:
    """A header's text as bytes, whatever is in it."""
    return text.encode("utf-8", "surrogatepass")


def matches(expected: Iterable[bytes], given: Iterable[bytes]) -> bool:
    """Whether one of the given is one of the expected, in the same time whatever is wrong."""
    offered = tuple(given)
    compared = [hmac.compare_digest(wanted, found) for wanted in expected for found in offered]
    return any(compared)


WRONG: Final = "the signature is wrong: the secret at the provider is not this webhook's, or the body changed"
