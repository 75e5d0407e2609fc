"""A provider's history, read by the code of the connector's package."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from connectors.calls import Calls
from connectors.code import LONGEST_PLACE, Lister, Page, record_from
from connectors.portions import Batch, Budget, Cursor, Found
from connectors.rules import RuleError
from connectors.session import Session
from pipewright import errors


class CodedReader:
    """Reads one project by the code of the connector's package."""

    def __init__(self, session: Calls, lister: Lister, *, project: str, budget: Budget) -> None:
        self._session, self._lister, self._project = Session(session), lister, project
        self.budget = budget

    async def slice(self, start: Cursor) -> AsyncGenerator[Batch, None]:
        """The pages of one slice, from the cursor on; its last batch does not tell that it is the last.

        Raises:
            errors.Stalled: the code failed.
        """
        pages = self._lister.pages(
            self._session, project=self._project, since=start.since, until=start.until, place=start.place
        )
        try:
            async with aclosing(pages):
                async for page in pages:
                    self.budget.spend(items=len(page.records), size=0)
                    yield _batch(page, start)
                    if page.place is None:
                        return
        except (errors.Stalled, errors.Waiting, errors.BackendError):
            raise
        except Exception as error:  # noqa: BLE001 - the border to code of others
            raise errors.Stalled(
                "ConnectorBroken", f"the connector's lister failed: {type(error).__name__}"
            ) from None


def _batch(page: Page, start: Cursor) -> Batch:
    """What a page of code says; the cursor of the last one leads to the same place again: no harm."""
    found = Found()
    for said in page.records:
        if found.tell_if_full():
            break
        try:
            found.records.append(record_from(said, partial=False))
        except RuleError as error:
            found.refuse(str(error))
    place = start.place if page.place is None else page.place
    if len(place) > LONGEST_PLACE:
        raise errors.Stalled("ConnectorBroken", "the connector's lister gives too long a place")
    return Batch(
        records=tuple(found.records), refused=tuple(found.refused), cursor=replace(start, place=place)
    )
