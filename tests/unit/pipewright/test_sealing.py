"""Sealing: only the gateway's key opens, and only for the same purpose."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pipewright import errors
from pipewright.backends.sealing import HpkeOpener, HpkeSealer


def pair() -> tuple[HpkeSealer, HpkeOpener]:
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    return (
        HpkeSealer(base64.b64encode(public).decode()),
        HpkeOpener(base64.b64encode(private.private_bytes_raw()).decode()),
    )


def test_what_is_sealed_opens_with_the_private_key() -> None:
    sealer, opener = pair()
    assert opener.open(sealer.seal(b"secret", context="tenant/a"), context="tenant/a") == b"secret"
    assert sealer.key == opener.key


def test_sealing_twice_gives_different_bytes() -> None:
    sealer, _ = pair()
    assert sealer.seal(b"secret", context="a") != sealer.seal(b"secret", context="a")


@pytest.mark.parametrize("damage", ["another context", "another key", "a flipped bit", "cut short", "empty"])
def test_it_does_not_open(damage: str) -> None:
    sealer, opener = pair()
    sealed = sealer.seal(b"hunter2", context="tenant/a")
    context = "tenant/b" if damage == "another context" else "tenant/a"
    if damage == "another key":
        _, opener = pair()
    if damage == "a flipped bit":
        sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    if damage == "cut short":
        sealed = sealed[:20]
    if damage == "empty":
        sealed = b""
    with pytest.raises(errors.BackendError, match="does not open") as refused:
        opener.open(sealed, context=context)
    assert "hunter2" not in str(refused.value)
