"""Signatures: over the raw bytes, under any active secret, and refused in words for everything else."""

import pytest

from connectors import verify
from connectors.manifest import Verify
from connectors.verify import SignatureRefused
from pipewright.ports import Secret

SCHEME = Verify(kind="hmac-sha256", header="x-hub-signature-256", prefix="sha256=")
# The example of GitHub's "Validating webhook deliveries": anybody can compute it again.
SECRET = Secret("It's a Secret to Everybody")
BODY = b"Hello, World!"
SIGNED = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}


def test_a_signed_body_is_accepted() -> None:
    verify.verify(SCHEME, headers=SIGNED, body=BODY, secrets=[SECRET])


@pytest.mark.parametrize("secrets", [[SECRET, Secret("new")], [Secret("new"), SECRET]])
def test_while_a_secret_is_rotated_both_are_good(secrets: list[Secret]) -> None:
    verify.verify(SCHEME, headers=SIGNED, body=BODY, secrets=secrets)


REFUSED: dict[str, tuple[dict[str, str], bytes, list[Secret], str]] = {
    "no header": ({}, BODY, [SECRET], "the header x-hub-signature-256 is missing"),
    "an empty header": ({"x-hub-signature-256": ""}, BODY, [SECRET], "is missing"),
    "another body": (SIGNED, BODY + b"\n", [SECRET], "the signature is wrong"),
    "another secret": (SIGNED, BODY, [Secret("other")], "the signature is wrong"),
    "no secret": (SIGNED, BODY, [], "has no secret yet"),
    "an empty secret beside a good one": (SIGNED, BODY, [SECRET, Secret("")], "has no secret yet"),
    "another kind": (
        {"x-hub-signature-256": "sha1=757107ea"},
        BODY,
        [SECRET],
        "no signature of the kind hmac-sha256",
    ),
    "a giant": ({"x-hub-signature-256": "sha256=" + "a" * 600}, BODY, [SECRET], "no signature of the kind"),
    "cut": ({"x-hub-signature-256": "sha256=757107ea"}, BODY, [SECRET], "the signature is wrong"),
    "only the prefix": ({"x-hub-signature-256": "sha256="}, BODY, [SECRET], "the signature is wrong"),
    "not even text": (
        {"x-hub-signature-256": "sha256=\udcff\xe9世"},
        BODY,
        [SECRET],
        "the signature is wrong",
    ),
}


@pytest.mark.parametrize(("headers", "body", "secrets", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(headers: dict[str, str], body: bytes, secrets: list[Secret], message: str) -> None:
    with pytest.raises(SignatureRefused) as refused:
        verify.verify(SCHEME, headers=headers, body=body, secrets=secrets)
    assert message in str(refused.value)
    assert "Everybody" not in str(refused.value)
