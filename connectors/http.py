"""How a connector's provider is called: the manifest's `http` and `check`, as checked values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from connectors import auth
from connectors.auth import Auth
from connectors.compiling import Compiler
from pipewright import expressions
from pipewright.expressions import Program, Template


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How a provider tells that a refusal is only a spent quota."""

    statuses: frozenset[int]
    remaining: str
    reset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """How a connector's provider is called."""

    base_url: Template
    auths: tuple[Auth, ...]
    """The first whose credentials are all there is used."""
    headers: Mapping[str, str]
    timeout_seconds: int
    max_response_bytes: int
    retry_statuses: frozenset[int]
    retry_header: str
    rate_limit: RateLimit | None
    message: Program | None

    def auth_of(self, credentials: Iterable[str]) -> Auth | None:
        """The kind that these credentials are for; None when some are missing for each."""
        names = set(credentials)
        return next((kind for kind in self.auths if names.issuperset(kind.fields)), None)

    def lacking(self, credentials: Iterable[str]) -> str:
        """What is missing among these credentials, in words; empty when nothing is."""
        names = set(credentials)
        if self.auth_of(names) is not None:
            return ""
        gaps = [[name for name in kind.fields if name not in names] for kind in self.auths]
        # of several ways the one that was begun is meant, if it was just one
        begun = [gap for gap, kind in zip(gaps, self.auths, strict=True) if len(gap) < len(kind.fields)]
        wanted = begun if len(begun) == 1 else gaps
        return ", or ".join(" and ".join(gap) for gap in wanted)


def read(data: Mapping[str, Any], *, credentials: Iterable[str], compiler: Compiler) -> Http:
    """The manifest's `http`, from data that the schema accepts.

    Raises:
        ManifestError: an expression does not compile, or a credential is not declared or not used.
    """
    limit = data.get("rateLimit")
    return Http(
        base_url=compiler.template(data["baseUrl"], "http.baseUrl"),
        auths=_auths(data["auth"], credentials=set(credentials), compiler=compiler),
        headers=data.get("headers", {}),
        timeout_seconds=data["timeoutSeconds"],
        max_response_bytes=data["maxResponseBytes"],
        retry_statuses=frozenset(data["retry"]["statuses"]),
        retry_header=data["retry"]["header"].lower(),
        rate_limit=limit
        and RateLimit(
            statuses=frozenset(limit["statuses"]),
            remaining=limit["remaining"].lower(),
            reset=limit["reset"].lower(),
        ),
        message=compiler.program(data["message"], expressions.answers(), "http.message")
        if "message" in data
        else None,
    )


def _auths(data: Any, *, credentials: set[str], compiler: Compiler) -> tuple[Auth, ...]:
    found: list[Auth] = []
    unused = set(credentials)
    for at, options in enumerate(data if isinstance(data, list) else [data]):
        place = f"http.auth[{at}]" if isinstance(data, list) else "http.auth"
        kind = auth.KINDS[options["kind"]](options, partial(compiler.template, at=place))
        for name in (*kind.fields, *kind.optional):
            if name not in credentials:
                raise compiler.refused(place, f"no credential is called {name}")
        unused.difference_update(kind.fields, kind.optional)
        found.append(kind)
    if unused:
        raise compiler.refused("credentials", f"{', '.join(sorted(unused))} is used by no http.auth")
    return tuple(found)
