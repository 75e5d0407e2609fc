"""What a registry asks for: the header WWW-Authenticate (RFC 9110 §11.6.1), and the scope of a request. Pure.

    Bearer realm="https://auth.example.com/token",service="registry.example.com"     the Distribution spec
    Basic realm="registry"                                                            ECR, small registries

The scope is that of the Distribution token specification: `repository:<name>:<actions>`, by the request's
method and path. What a registry cannot know of itself, it names in the challenge; the scope it is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

LONGEST: Final = 4096
"""Characters of the header: what is longer is no challenge."""
_SCHEME: Final = re.compile(r"\s*(?:,\s*)*([A-Za-z][A-Za-z0-9-]*)(?=\s|,|$)")
_PARAMETER: Final = re.compile(r"""\s*(?:,\s*)*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))""")
_RESOURCE: Final = re.compile(r"/v2/(.+)/(?:manifests|tags|blobs|referrers)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way that the registry accepts."""

    scheme: str
    """In lower case."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """By lower-case names."""


def challenges(header: str) -> tuple[Challenge, ...]:
    """The challenges in the header, in their order; none where it is not understood."""
    return tuple(_parsed(header)) if len(header) <= LONGEST else ()


def _parsed(header: str) -> Iterator[Challenge]:
    at = 0
    while (found := _SCHEME.match(header, at)) is not None:
        at, parameters = found.end(), dict[str, str]()
        while (said := _PARAMETER.match(header, at)) is not None:
            quoted = said[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else said[3]
            parameters.setdefault(said[1].lower(), value)
            at = said.end()
        yield Challenge(scheme=found[1].lower(), parameters=parameters)


def scope_of(method: str, url: str, *, base_url: str, delete: str) -> str:
    """What a token must allow for this request; empty for one that is about no repository.

    `delete` has the actions that the registry wants for a deletion, such as `delete` or `pull,push`.
    """
    path = urlsplit(url).path.removeprefix(urlsplit(base_url).path.rstrip("/"))
    found = _RESOURCE.match(path)
    if found is None:
        return ""
    actions = {"GET": "pull", "HEAD": "pull", "DELETE": delete}.get(method, "pull,push")
    return f"repository:{unquote(found[1])}:{actions}"
