"""Is a delivery really the provider's? Asked over the raw bytes, before anything parses them.

    manifest ──parse──► one verifier of KINDS      Claim (headers, body, secrets, time) ──verify──► proved

A kind of proof is a class in a file of its own, named by the manifest. Kinds that need a public key of the
provider say where it lies only after every check that needs none (`FetchedVerifier`), and are checked again
with what was fetched; `connectors.provider_keys` keeps it. Secrets may be several: while one is rotated both
the old and the new are good. Comparisons take the same time whatever is wrong, and no message quotes a secret
or a signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeGuard, cast

from connectors.verify.basic import Basic
from connectors.verify.claim import (
    Claim,
    FetchedVerifier,
    KeySource,
    Options,
    SignatureRefused,
    Text,
    UnknownKey,
    Verifier,
)
from connectors.verify.coded import Coded
from connectors.verify.hmac_body import HmacBody
from connectors.verify.hmac_timestamped import HmacTimestamped
from connectors.verify.http_signature import HttpSignature
from connectors.verify.oidc import OidcBearer
from connectors.verify.one_of import OneOf
from connectors.verify.rsa import RsaSignature
from connectors.verify.shared_token import SharedToken
from connectors.verify.sns import SnsMessage
from connectors.verify.unsigned import Unsigned

__all__ = [
    "KINDS",
    "AnyVerifier",
    "Claim",
    "Coded",
    "FetchedVerifier",
    "KeySource",
    "OneOf",
    "SignatureRefused",
    "UnknownKey",
    "Verifier",
    "verify",
]

AnyVerifier = Verifier | FetchedVerifier


def _is_fetched(scheme: AnyVerifier) -> TypeGuard[FetchedVerifier]:
    """As isinstance says, which looks a Protocol through at each call: longer than a signature takes."""
    return hasattr(type(scheme), "check_with")


def _one_of(options: Options, text: Text) -> AnyVerifier:
    """From a manifest, whose schema lets only kinds of one step be among them."""
    found = [KINDS[each["kind"]](each, text) for each in options["of"]]
    return OneOf.parse([each for each in found if not isinstance(each, FetchedVerifier)])


KINDS: Final[Mapping[str, Callable[[Options, Text], AnyVerifier]]] = {
    "hmac": HmacBody.parse,
    "hmac-timestamped": HmacTimestamped.parse,
    "token": SharedToken.parse,
    "basic": Basic.parse,
    "rsa": RsaSignature.parse,
    "http-signature": HttpSignature.parse,
    "oidc": OidcBearer.parse,
    "one-of": _one_of,
    "sns": SnsMessage.parse,
    "none": Unsigned.parse,
    "code": Coded.parse,
}
"""How a verifier is made of a manifest's options, by the kind's name."""


async def verify(scheme: AnyVerifier, claim: Claim, *, keys: KeySource | None = None) -> None:
    """Return if the claim is proved. Only kinds that need a provider's key ever wait.

    Raises:
        SignatureRefused: it is not proved.
        BackendError: the provider's key cannot be fetched now; the same delivery may be good later.
    """
    if not _is_fetched(scheme):
        cast("Verifier", scheme).check(claim)
        return
    url = scheme.key_url(claim)
    if keys is None:
        raise SignatureRefused("this delivery needs a key of the provider, and none is fetched here")
    try:
        scheme.check_with(claim, await keys.get(url))
    except UnknownKey:
        scheme.check_with(claim, await keys.get(url, newer=True))
