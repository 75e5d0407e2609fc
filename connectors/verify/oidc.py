"""`oidc`: a bearer token (JWT, RS256) that the provider's identity service signed. Google Pub/Sub push.

The token names the issuer, the audience (what the push subscription was told) and the service account; it
does not cover the body, so that TLS has to. The key is found by its id in the issuer's JWKS.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from connectors.verify.claim import Claim, Options, SignatureRefused, Text, UnknownKey, matches, raw
from connectors.verify.rsa import SHORTEST_KEY
from pipewright.expressions import Template

ALGORITHM: Final = "RS256"
LEEWAY: Final = timedelta(seconds=60)
"""How far the clocks may be apart."""
LONGEST: Final = timedelta(hours=24)
"""The longest life of a token: Google's live an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcBearer:
    """A token for our audience, of one service account."""

    issuers: tuple[str, ...]
    jwks_url: str
    audience: Template
    email: Template
    header: str = "authorization"

    @classmethod
    def parse(cls, options: Options, text: Text) -> Self:
        """From a manifest."""
        return cls(
            issuers=tuple(options["issuers"]),
            jwks_url=options["jwksUrl"],
            audience=text(options["audience"]),
            email=text(options["email"]),
            header=options.get("header", "authorization").lower(),
        )

    @property
    def proofs(self) -> frozenset[str]:
        """The header."""
        return frozenset({self.header})

    def key_url(self, claim: Claim) -> str:
        """The issuer's JWKS, for a token that says what it should, whoever signed it.

        Raises:
            SignatureRefused: it does not.
        """
        token = self._token(claim)
        head, said, _ = _parts(token)
        if head.get("alg") != ALGORITHM:
            raise SignatureRefused(f"the token's algorithm must be {ALGORITHM}")
        if not isinstance(head.get("kid"), str) or not head["kid"]:
            raise SignatureRefused("the token does not name its key")
        if "crit" in head or "b64" in head:
            raise SignatureRefused("the token has extensions that are not known here")
        self._check_claims(claim, said)
        return self.jwks_url

    def check_with(self, claim: Claim, key: bytes) -> None:
        """Return if the token is signed by a key of the set.

        Raises:
            UnknownKey: the set has not the key that the token names.
            SignatureRefused: it is not signed by that key.
        """
        self.key_url(claim)
        token = self._token(claim)
        head, _, _ = _parts(token)
        found = _key(key, head["kid"])
        try:
            jws.deserialize_compact(token, found, algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError, KeyError):
            raise SignatureRefused("the token is not signed by the key that it names") from None

    def _token(self, claim: Claim) -> str:
        scheme, _, token = claim.header(self.header).partition(" ")
        if scheme.lower() != "bearer" or not token.isascii():
            raise SignatureRefused(f"the header {self.header} holds no bearer token")
        return token.strip(" ")

    def _check_claims(self, claim: Claim, said: dict[str, Any]) -> None:
        if said.get("iss") not in self.issuers:
            raise SignatureRefused("the token is by another issuer")
        audience = said.get("aud")
        given = audience if isinstance(audience, list) else [audience]
        if len(given) != 1 or not _is(given[0], claim.setting(self.audience, "audience")):
            raise SignatureRefused("the token is for another audience")
        if not _is(said.get("email"), claim.setting(self.email, "service account")):
            raise SignatureRefused("the token is of another service account")
        if said.get("email_verified") is not True:
            raise SignatureRefused("the token's e-mail is not verified")
        issued, ends = _seconds(said.get("iat")), _seconds(said.get("exp"))
        now, leeway = claim.now.timestamp(), LEEWAY.total_seconds()
        if ends <= now - leeway:
            raise SignatureRefused("the token has expired")
        if issued > now + leeway or _seconds(said.get("nbf", 0)) > now + leeway:
            raise SignatureRefused("the token is of a time to come")
        if ends - issued > LONGEST.total_seconds():
            raise SignatureRefused("the token lives too long")


def _is(given: object, wanted: str) -> bool:
    return isinstance(given, str) and matches([raw(wanted)], [raw(given)])


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        raise SignatureRefused("the token does not say when it was issued and ends")
    return float(value)


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Head, claims and signature of a compact token, none of it believed."""
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise SignatureRefused("the token is no JWT")
    return _object(parts[0]), _object(parts[1]), parts[2]


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(raw(part + "=" * (-len(part) % 4))))
    except (binascii.Error, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SignatureRefused("the token is no JWT")
    return found


def _key(jwks: bytes, kid: str) -> RSAKey:
    try:
        document: Any = json.loads(jwks)
    except (ValueError, RecursionError):
        document = None
    keys = document.get("keys") if isinstance(document, dict) else None
    for key in keys if isinstance(keys, list) else ():
        if isinstance(key, dict) and key.get("kid") == kid and key.get("kty") == "RSA":
            try:
                if len(str(key["n"])) * 6 >= SHORTEST_KEY:  # in base64; the library only warns of a short one
                    return RSAKey.import_key({name: key[name] for name in ("kty", "n", "e")})
            except (JoseError, ValueError, TypeError, KeyError):
                break
    raise UnknownKey("the issuer publishes no RSA key of the id that the token names")
