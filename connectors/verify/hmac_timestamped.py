"""`hmac-timestamped`: the HMAC covers the time too, so that an old delivery is refused.

Slack              X-Slack-Signature: v0=<hex>                  over v0:{timestamp}:{body}
Stripe             Stripe-Signature: t=…,v1=<hex>               over {timestamp}.{body}
Buildkite          X-Buildkite-Signature: timestamp=…,signature=<hex>
Standard Webhooks  webhook-signature: v1,<base64> v1,<base64>   over {id}.{timestamp}.{body}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

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
from connectors.verify.hmac_body import signatures

_SECONDS: Final = re.compile(r"[0-9]{1,11}")
# No full stop and nothing else that stands between the parts of what is signed: they cannot be moved.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SIGNED: Final = re.compile(
    r"(?P<head>[^{}]*)(\{id\}(?P<after>[^{}]+))?\{timestamp\}(?P<between>[^{}]+)\{body\}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacTimestamped:
    """HMAC over time and body, and an id where the provider has one."""

    header: str
    signed: str
    """The text that is signed: `{id}` if there is one, `{timestamp}`, `{body}`, in this order."""
    tolerance: timedelta
    prefix: str = ""
    separator: str = ""
    timestamp_header: str = ""
    timestamp_field: str = ""
    """The name of the time among the fields of the header, instead of a header of its own."""
    signature_field: str = ""
    id_header: str = ""
    encoding: str = "hex"
    key_encoding: str = "text"

    @classmethod
    def parse(cls, options: Options, _text: Text) -> Self:
        """From a manifest.

        Raises:
            ValueError: options that do not fit together.
        """
        found = cls(
            header=options["header"].lower(),
            signed=options["signed"],
            tolerance=timedelta(seconds=options["toleranceSeconds"]),
            prefix=options.get("prefix", ""),
            separator=options.get("separator", ""),
            timestamp_header=options.get("timestampHeader", "").lower(),
            timestamp_field=options.get("timestampField", ""),
            signature_field=options.get("signatureField", ""),
            id_header=options.get("idHeader", "").lower(),
            encoding=options.get("encoding", "hex"),
            key_encoding=options.get("keyEncoding", "text"),
        )
        if bool(found.timestamp_header) == bool(found.timestamp_field):
            raise ValueError("the time is in timestampHeader or in timestampField, one of them")
        if bool(found.timestamp_field) != bool(found.signature_field):
            raise ValueError("timestampField and signatureField go together")
        if found.timestamp_field and (found.prefix or found.separator):
            raise ValueError("a header of fields has neither prefix nor separator")
        shape = _SIGNED.fullmatch(found.signed)
        if shape is None:
            raise ValueError("signed must be texts around {id} (or without it), {timestamp} and {body}")
        if (shape["after"] is not None) != bool(found.id_header):
            raise ValueError("{id} in signed and idHeader go together")
        return found

    @property
    def proofs(self) -> frozenset[str]:
        """The header with the signature."""
        return frozenset({self.header})

    def check(self, claim: Claim) -> None:
        """Return if a signature is right under one of the secrets, and its time is now.

        Raises:
            SignatureRefused: none is, or it is an old one.
        """
        given = claim.header(self.header)
        keys = claim.keys(self.key_encoding)
        timestamp, found = self._parts(claim, given)
        if not found:
            raise SignatureRefused(f"the header {self.header} is no signature of the kind hmac-timestamped")
        if not _SECONDS.fullmatch(timestamp):
            raise SignatureRefused("the time that was signed is missing, or is not in seconds since 1970")
        message = self._message(claim, timestamp)
        expected = [mac(key, message, algorithm="sha256", encoding=self.encoding) for key in keys]
        if not matches(expected, found):
            raise SignatureRefused(WRONG)
        # After the signature: who cannot sign learns nothing of the clock here.
        claim.recent(datetime.fromtimestamp(int(timestamp), UTC), tolerance=self.tolerance)

    def _parts(self, claim: Claim, given: str) -> tuple[str, tuple[bytes, ...]]:
        if self.timestamp_header:
            return claim.header(self.timestamp_header), signatures(
                given, prefix=self.prefix, separator=self.separator
            )
        pairs = [part.strip(" ").partition("=") for part in given.split(",")]
        times = [value for name, _, value in pairs if name == self.timestamp_field]
        found = [value for name, _, value in pairs if name == self.signature_field]
        if len(times) != 1 or len(found) > MAX_SIGNATURES or any(len(each) > MAX_SIGNATURE for each in found):
            return "", ()
        return times[0], tuple(raw(each) for each in found)

    def _message(self, claim: Claim, timestamp: str) -> bytes:
        texts = {"timestamp": timestamp}
        if self.id_header:
            texts["id"] = claim.header(self.id_header)
            if not _ID.fullmatch(texts["id"]):
                raise SignatureRefused(f"the header {self.id_header} is no identifier")
        return self.signed.removesuffix("{body}").format_map(texts).encode() + claim.body
