"""What vendors prove a webhook with, and how they are asked who one is."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from dev.systems.engine import Asked


def compact(document: Any) -> bytes:
    """A document as most vendors send it."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def hmac_hex(secret: str, message: bytes) -> str:
    """HMAC-SHA256 in hexadecimal digits."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def hmac_base64(secret: str, message: bytes) -> str:
    """HMAC-SHA256 in base64."""
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def basic(user: str, password: str) -> str:
    """The value of Authorization for a user name and a password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def has_header(name: str, value: str) -> Callable[[Asked], bool]:
    """Admits requests with just this header."""
    return lambda asked: hmac.compare_digest(asked.headers.get(name, "").encode(), value.encode())


@functools.cache
def key(_name: str) -> rsa.RSAPrivateKey:
    """A vendor's key by its name, made once."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def rsa_signature(name: str, message: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    """A signature by the key of this name (PKCS #1 v1.5)."""
    return key(name).sign(message, padding.PKCS1v15(), algorithm)


def base64url(value: bytes) -> str:
    """Base64 as in tokens (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
