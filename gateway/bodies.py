"""Raw bodies as they lie in a tenant's database: compressed, then encrypted with the tenant's data key.

    stored = codec (1 byte) ‖ nonce (12) ‖ ciphertext and tag

Codec 1 is zlib, then AES-256-GCM (NIST SP 800-38D) under a random nonce; codec 2 is that without zlib, for
small bodies, which take longer to compress than it saves. Authenticated with it are the codec,
the integration and the delivery, so a body moved to another row does not open. Two 96-bit random nonces meet
under one key with probability 2⁻³² after 2³² bodies; the provisioner's rotation stays far below.
"""

from __future__ import annotations

import os
import zlib
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pipewright import errors

ZLIB_AES_GCM = b"\x01"
AES_GCM = b"\x02"
_NONCE = 12
_LEVEL = 1
"""Fast: a webhook shrinks to a fifth with it already."""
_SMALL = 1024
"""Bytes up to which a body is not compressed."""
_LARGEST = 32 * 1024 * 1024


def seal(body: bytes, *, key: bytes, integration: str, delivery_id: str) -> bytes:
    """What is stored of a delivery's body; `integration` is the UID."""
    codec, packed = (AES_GCM, body) if len(body) <= _SMALL else (ZLIB_AES_GCM, zlib.compress(body, _LEVEL))
    nonce = os.urandom(_NONCE)
    return codec + nonce + _cipher(key).encrypt(nonce, packed, _bound(codec, integration, delivery_id))


def unseal(stored: bytes, *, key: bytes, integration: str, delivery_id: str) -> bytes:
    """The body as it was received.

    Raises:
        BackendError: another key, another row, damaged, or a codec that this release does not know.
    """
    codec, nonce, sealed = stored[:1], stored[1 : 1 + _NONCE], stored[1 + _NONCE :]
    if codec not in (ZLIB_AES_GCM, AES_GCM):
        raise errors.BackendError(f"the stored body of delivery {delivery_id} has an unknown codec")
    try:
        packed = _cipher(key).decrypt(nonce, sealed, _bound(codec, integration, delivery_id))
        body = packed if codec == AES_GCM else zlib.decompressobj().decompress(packed, _LARGEST)
    except (InvalidTag, ValueError, zlib.error):
        raise errors.BackendError(f"the stored body of delivery {delivery_id} does not open") from None
    return body


@lru_cache(maxsize=256)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def _bound(codec: bytes, integration: str, delivery_id: str) -> bytes:
    return b"\0".join((codec, integration.encode(), delivery_id.encode()))
