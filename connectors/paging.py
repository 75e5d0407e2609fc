"""Lists that come in pages: where the next one is, in the ways that providers tell it.

A place in a list is a text: a number, a provider's cursor, or an address. It can be kept, and the list read
on from there later. An address comes from the provider, so that it is looked at: one that leaves the origin
of the base URL is refused, because the credentials would be sent there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urldefrag, urljoin, urlsplit

from connectors.compiling import Compiler
from connectors.rules import Reads, part, reads
from pipewright import errors, expressions
from pipewright.expressions import EvaluationError, Program, text_of

START: Final = ""
"""The place of the first page."""
MAX_PLACE: Final = 2048
"""Characters of a place: what is longer is no cursor."""
_NUMBER: Final = re.compile(r"[0-9]{1,12}")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

_TARGET = re.compile(r"\s*<([^<>]*)>")
_PARAMETER = re.compile(
    r"""\s*;\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """A page that came: what the next one's place is found by."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: Any
    count: int
    """How many items it has."""


class Pager(Protocol):
    """One way to page."""

    def query(self, place: str) -> Mapping[str, str]:
        """The parameters that ask for this page."""
        ...

    def address(self, place: str) -> str | None:
        """The page's whole address, where places are addresses."""
        ...

    def after(self, place: str, got: Got) -> str | None:
        """The place of the next page; None after the last one.

        Raises:
            errors.Stalled: the answer tells a place that can be none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """`page` and `offset`: we count, and a page that is not full is the last one."""

    parameter: str
    size_parameter: str
    size: int
    first: int
    by_items: bool
    """The number is that of the first item, and not of the page."""

    def query(self, place: str) -> Mapping[str, str]:
        """The page's number, and how many items it shall have."""
        number = place if _NUMBER.fullmatch(place) else str(self.first)
        return {self.parameter: number, self.size_parameter: str(self.size)}

    def address(self, _place: str) -> str | None:
        """None: the address stays the same."""
        return None

    def after(self, place: str, got: Got) -> str | None:
        """The next number."""
        if got.count < self.size:
            return None
        number = int(place) if _NUMBER.fullmatch(place) else self.first
        return str(number + (got.count if self.by_items else 1))


@dataclass(frozen=True, slots=True)
class Single:
    """`none`: all that there is comes at once."""

    def query(self, _place: str) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def address(self, _place: str) -> str | None:
        """None: the address stays the same."""
        return None

    def after(self, _place: str, _got: Got) -> str | None:
        """None: the first page is the last one."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """`cursor`: the provider gives a text, in the body or in a header, which it wants to see again."""

    parameter: str
    next: Program
    fixed: Mapping[str, str]
    needed: Reads | None

    def query(self, place: str) -> Mapping[str, str]:
        """The cursor, except for the first page."""
        return {**self.fixed, **({self.parameter: place} if place else {})}

    def address(self, _place: str) -> str | None:
        """None: the address stays the same."""
        return None

    def after(self, _place: str, got: Got) -> str | None:
        """The cursor in the answer."""
        return _told(self.next, self.needed, got)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """`link` (RFC 8288, `rel="next"`) and `url`: the provider gives the next page's address."""

    next: Program | None
    """None: it is in the header Link."""
    fixed: Mapping[str, str]
    needed: Reads | None

    def query(self, place: str) -> Mapping[str, str]:
        """What the first page is asked with; later addresses have it."""
        return {} if place else self.fixed

    def address(self, place: str) -> str | None:
        """The place itself."""
        return place or None

    def after(self, _place: str, got: Got) -> str | None:
        """The address in the answer, made whole."""
        target: str | None = next_link(got.headers.get("link", ""))
        if self.next is not None:
            target = _told(self.next, self.needed, got)
        if not target:
            return None
        try:
            return _placed(urldefrag(urljoin(got.url, target)).url)
        except ValueError:
            raise errors.Stalled("AddressRefused", "the next page's address is no URL") from None


def _told(program: Program, needed: Reads | None, got: Got) -> str | None:
    """What the answer says of the next page. That it says nothing is how the last one is known."""
    try:
        scope = expressions.bind_answer(part(got.body, needed), got.status, got.headers)
        found = text_of(program.value(scope))
    except EvaluationError:
        return None
    return _placed(found) if found else None


def _placed(place: str) -> str:
    if len(place) > MAX_PLACE or not place.isprintable():
        raise errors.Stalled("AnswerNotUnderstood", "the next page's place is too long, or no text")
    return place


def next_link(header: str) -> str:
    """The target of the first link with the relation `next` (RFC 8288 §3); empty where there is none."""
    at = 0
    while target := _TARGET.match(header, at):
        at, relation = target.end(), ""
        while parameter := _PARAMETER.match(header, at):
            at = parameter.end()
            if parameter[1].lower() == "rel" and not relation:  # only the first one counts
                relation = parameter[2] if parameter[2] is not None else parameter[3] or ""
        if "next" in relation.lower().split():
            return target[1].strip()
        comma = header.find(",", at)
        if comma < 0:
            return ""
        at = comma + 1
    return ""


def check_origin(url: str, *, base: str) -> str:
    """The address, if it has the origin of the base: scheme, host and port (RFC 6454).

    Raises:
        errors.Stalled: it leads elsewhere.
    """
    try:
        same = _origin(url) == _origin(base)
    except ValueError:
        same = False
    if not same:
        raise errors.Stalled(
            "AddressRefused",
            "the provider's next page lies at another address than the provider: it is not read",
        )
    return url


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address with a user")
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(scheme)


def read(data: Mapping[str, Any], at: str, compiler: Compiler) -> Pager:
    """A manifest's `paginate`, from data that the schema accepts.

    Raises:
        ManifestError: the expression for the next page does not compile.
    """
    kind = data["kind"]
    if kind == "none":
        return Single()
    fixed = {data["sizeParameter"]: str(data["size"])} if "sizeParameter" in data else {}
    program = compiler.program(data["next"], expressions.answers(), f"{at}.next") if "next" in data else None
    needed = reads([program], "body") if program is not None else None
    if kind in ("page", "offset"):
        return Numbered(
            parameter=data["parameter"],
            size_parameter=data["sizeParameter"],
            size=data["size"],
            first=data.get("first", 1 if kind == "page" else 0),
            by_items=kind == "offset",
        )
    if kind == "cursor" and program is not None:
        return Cursor(parameter=data["parameter"], next=program, fixed=fixed, needed=needed)
    return Linked(next=program, fixed=fixed, needed=needed)
