"""`sns`: a message of Amazon SNS, signed by the certificate that it names. ECR by EventBridge and SNS.

The certificate must lie at Amazon: a URL of any other shape is refused before it is fetched. What is signed
is a list of the message's fields, so that the body is parsed before it is believed; it is bounded by then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from connectors.verify.claim import Claim, Options, SignatureRefused, Text, UnknownKey, matches, raw
from connectors.verify.rsa import decoded, usable, verify_rsa
from pipewright import records
from pipewright.expressions import Template

_CERTIFICATE: Final = re.compile(
    r"https://sns\.[a-z0-9-]{2,30}\.amazonaws\.com(\.cn)?/SimpleNotificationService-[0-9a-zA-Z]{1,64}\.pem"
)
_CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
"""The fields that are signed, by the message's type; a notification may have no Subject."""
_ALGORITHMS: Final = {"1": "sha1", "2": "sha256"}
SUBJECT: Final = "sns.amazonaws.com"
_LONGEST_ADDRESS: Final = 450
"""Characters: with the words around it, it is a reason of a delivery."""
_SUBSCRIBE: Final = re.compile(
    r"https://sns\.[a-z0-9-]{2,30}\.amazonaws\.com(\.cn)?/\?Action=ConfirmSubscription&[A-Za-z0-9_%=&.:-]{1,1000}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnsMessage:
    """A message of one topic."""

    topic: Template
    """Its ARN: every topic of Amazon's is signed by the same certificates."""
    tolerance: timedelta

    @classmethod
    def parse(cls, options: Options, text: Text) -> Self:
        """From a manifest."""
        return cls(topic=text(options["topicArn"]), tolerance=timedelta(seconds=options["toleranceSeconds"]))

    @property
    def proofs(self) -> frozenset[str]:
        """All of the proof is in the body."""
        return frozenset()

    def key_url(self, claim: Claim) -> str:
        """Where the certificate lies.

        Raises:
            SignatureRefused: the message is none, of another topic, or old, or the certificate not Amazon's.
        """
        message = _message(claim.body)
        if not matches([raw(claim.setting(self.topic, "topic"))], [raw(message["TopicArn"])]):
            raise SignatureRefused("the message is of another topic")
        claim.recent(_time(message["Timestamp"]), tolerance=self.tolerance)
        url = message["SigningCertURL"]
        if not _CERTIFICATE.fullmatch(url):
            raise SignatureRefused("the message's certificate is not at sns.<region>.amazonaws.com")
        return url

    def check_with(self, claim: Claim, key: bytes) -> None:
        """Return if the message is signed by the certificate.

        Raises:
            SignatureRefused: it is not, or this is no valid certificate of SNS.
        """
        self.key_url(claim)
        message = _message(claim.body)
        try:
            certificate = x509.load_pem_x509_certificate(key)
            names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            public = usable(certificate.public_key())
        except (ValueError, UnsupportedAlgorithm):
            raise UnknownKey("what lies at Amazon is no certificate") from None
        if names != [SUBJECT]:
            raise SignatureRefused(f"the certificate is not that of {SUBJECT}")
        if not certificate.not_valid_before_utc <= claim.now <= certificate.not_valid_after_utc:
            raise SignatureRefused("the certificate is not valid now")
        signature = decoded(message["Signature"], what="the message's Signature")
        algorithm = _ALGORITHMS[message["SignatureVersion"]]
        verify_rsa(public, signature, canonical(message), algorithm=algorithm)


def canonical(message: dict[str, str]) -> bytes:
    """What is signed: each field's name and value, on a line each."""
    fields = [name for name in SIGNED[message["Type"]] if name in message]
    return raw("".join(f"{name}\n{message[name]}\n" for name in fields))


def confirmation(message: Mapping[str, Any]) -> str:
    """What to do about a verified message that is no notification; empty for any other.

    A subscription is not confirmed here: a topic would have the gateway send requests. A person
    opens the address once, and it is shown only if it is one of SNS.
    """
    kind = message.get("Type")
    if kind == "UnsubscribeConfirmation":
        return "the topic's subscription was ended: subscribe again if that was not meant"
    if kind != "SubscriptionConfirmation":
        return ""
    address = message.get("SubscribeURL")
    if not isinstance(address, str) or not _SUBSCRIBE.fullmatch(address):
        return "the topic asks for a confirmation, by an address that is not of SNS: leave it alone"
    if len(address) > _LONGEST_ADDRESS:
        return "the topic asks for a confirmation by an address too long to be shown: give it a shorter name"
    return f"confirm the subscription: open once {address}"


def _message(body: bytes) -> dict[str, str]:
    """The message's texts, as far as they are signed or needed."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    kind = found.get("Type") if isinstance(found, dict) else None
    if not isinstance(kind, str) or kind not in SIGNED:
        raise SignatureRefused("the body is no message of SNS")
    needed = {*SIGNED[kind], "Signature", "SignatureVersion", "SigningCertURL"}
    message = {name: found[name] for name in needed if isinstance(found.get(name), str)}
    if needed - message.keys() - {"Subject"} or (
        found.get("Subject") is not None and "Subject" not in message
    ):
        raise SignatureRefused("the message of SNS lacks a field, or has it in another shape")
    if message["SignatureVersion"] not in _ALGORITHMS:
        raise SignatureRefused("the message's SignatureVersion must be 1 or 2")
    return message


def _time(text: str) -> datetime:
    try:
        return records.parse_time("Timestamp", text)
    except records.RecordError:
        raise SignatureRefused("the message's Timestamp is no time") from None
