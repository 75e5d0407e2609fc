"""What a connector may bring as code beside its manifest, and how far that code is believed.

The manifest says where code stands in: `verify: {kind: code}`, an event, an action or the sync with
`code: true`. Everything else stays the manifest's: settings, credentials, requests, names, pages. Whatever
the code gives is checked as what an expression gives is, and whatever it raises ends here as a refusal with
the name of the error alone: its text may hold what a provider sent.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, get_args

from connectors.rules import TIMES, RuleError
from connectors.times import read_time
from connectors.verify import Verifier
from pipewright import events, records
from pipewright.events import Record, RecordError

if TYPE_CHECKING:
    from connectors.document import Opened
    from connectors.session import Session

_FIELDS: Final = frozenset(
    {records.camel(each.name) for kind in get_args(Record) for each in fields(kind)} | {"type", "record"}
)
LONGEST_PLACE: Final = 4000
"""Characters of a place in a lister's history: it is kept in the Integration's status."""


class Mapper(Protocol):
    """Says what a delivery is."""

    def records(
        self, delivery: Opened, *, event: str, config: Mapping[str, Any]
    ) -> Iterable[Mapping[str, Any]]:
        """The records of a verified delivery; none for one that says nothing that is kept.

        A record has `type`, such as `run`, and the fields of docs/history.md; a time may be RFC 3339
        or seconds since 1970. Called between two requests: no I/O, no waiting.

        Raises:
            MappingError: the delivery is not what its kind must be. The message holds nothing of it.
        """
        ...


class Action(Protocol):
    """Does something at the provider."""

    async def __call__(self, session: Session, inputs: Mapping[str, Any]) -> Any:
        """Do it; what is returned, JSON, is `body` in the manifest's `output`.

        Raises:
            errors.Stalled, errors.Waiting, errors.BackendError: it cannot be done. `session` raises them.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a history."""

    records: tuple[Mapping[str, Any], ...]
    """As a `Mapper` gives them, of finished runs and jobs."""
    place: str | None
    """Where to go on after it; None: this was the last one."""


class Lister(Protocol):
    """Reads a project's history."""

    def pages(
        self, session: Session, *, project: str, since: datetime, until: datetime, place: str
    ) -> AsyncGenerator[Page, None]:
        """The finished runs between two times; `place` is the last page's, empty at the begin.

        Raises:
            errors.Stalled, errors.Waiting, errors.BackendError: it cannot be read on now.
        """
        ...


class Signer(Protocol):
    """Makes what a coded verifier accepts: for tests alone."""

    def sign(self, *, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        """The headers of a delivery as the provider sends it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The coded parts of a connector; none of them must be there."""

    verifier: Verifier | None = None
    mapper: Mapper | None = None
    actions: Mapping[str, Action] = field(default_factory=dict)
    lister: Lister | None = None
    signer: Signer | None = None
    """Beside a verifier, so that `connectors test` can try it."""


class CodeFailed(RuleError):
    """A part that is code raised what it must not."""


def record_from(said: object, *, partial: bool) -> Record:
    """What code gives, as a record.

    Raises:
        RuleError: it is none. The message names the field, never its content.
    """
    if not isinstance(said, Mapping):
        raise RuleError("a record must be a mapping of its fields")
    try:
        found = {name: read_time(value) if name in TIMES else value for name, value in said.items()}
        return events.parse_record(found, partial=partial)
    except RecordError as error:
        named = error.field in _FIELDS
        raise RuleError(str(error), plain=error.plain if named else "it has an unknown field") from None
    except ValueError as error:
        raise RuleError(str(error), plain="a time of it is none that is known here") from None


def records_of(
    mapper: Mapper, delivery: Opened, *, event: str, config: Mapping[str, Any]
) -> Iterator[Record]:
    """The records that a mapper gives.

    Raises:
        MappingError: the mapper's own.
        RuleError: what it gives is no record.
        CodeFailed: it raised something else.
    """
    from connectors.document import MappingError  # reads webhooks, which hold mappers

    try:
        for said in mapper.records(delivery, event=event, config=config):
            yield record_from(said, partial=True)
    except (MappingError, RuleError):
        raise
    except Exception as error:  # noqa: BLE001 - the border to code of others
        raise CodeFailed(f"the connector's mapper failed: {type(error).__name__}") from None
