"""The names of the Distribution specification, checked before they are sent: repositories, tags, digests."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from pipewright import errors

REPOSITORY: Final = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
TAG: Final = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
_REPOSITORY: Final = re.compile(REPOSITORY)
_TAG: Final = re.compile(TAG)
_LENGTHS: Final = {"sha256": 64, "sha512": 128}
"""Algorithms of digests that are known here, with how many hexadecimal characters they have."""
_LONGEST: Final = 255


def repository(text: str) -> str:
    """The repository's name.

    Raises:
        errors.Stalled: it is none.
    """
    if len(text) > _LONGEST or not _REPOSITORY.fullmatch(text):
        raise wrong("repository", "must be as the registry's API has it, in lower case, such as acme/shop")
    return text


def tag(text: str, *, name: str = "tag") -> str:
    """The tag; `name` is the input's.

    Raises:
        errors.Stalled: it is none.
    """
    if not _TAG.fullmatch(text):
        raise wrong(name, "must be a tag: at most 128 letters, digits, dots, dashes and underscores")
    return text


def digest(text: str) -> str:
    """The digest, of an algorithm by which it can be checked.

    Raises:
        errors.Stalled: it is none.
    """
    if not is_digest(text):
        raise wrong("digest", "must be sha256: or sha512: and its hexadecimal characters")
    return text


def is_digest(text: str) -> bool:
    """Whether it is one that can be checked."""
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == _LENGTHS.get(algorithm) and not set(encoded) - set("0123456789abcdef")


def is_tag(text: object) -> bool:
    """Whether it is a tag."""
    return isinstance(text, str) and _TAG.fullmatch(text) is not None


def same(content: bytes, wanted: str) -> bool:
    """Whether the content has this digest."""
    algorithm, _, encoded = wanted.partition(":")
    return hmac.compare_digest(hashlib.new(algorithm, content).hexdigest(), encoded)


def digest_of(content: bytes) -> str:
    """The SHA-256 digest of the content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def wrong(name: str, problem: str) -> errors.Stalled:
    """An input that is wrong."""
    return errors.Stalled("InvalidInput", f"{name} {problem}")
