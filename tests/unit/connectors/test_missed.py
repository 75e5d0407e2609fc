"""Which deliveries never arrived, by GitHub's list of what it sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from connectors import catalogue
from connectors.calls import Account, Calls
from connectors.missed import DeliveryLog, Missed
from connectors.outbound import Outbound
from connectors.webhook import Webhook
from pipewright import errors
from pipewright.ports import Secret

LIST = "/repos/acme/shop/hooks/7/deliveries"
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return BEGIN + timedelta(minutes=minutes)


def sent(number: int, guid: str, minutes: int, code: int, *, event: str = "workflow_run") -> dict[str, Any]:
    return {
        "id": number,
        "guid": guid,
        "delivered_at": at(minutes).isoformat().replace("+00:00", "Z"),
        "redelivery": False,
        "status": "OK",
        "status_code": code,
        "event": event,
        "action": "completed",
    }


def log(provider: Any, client: Outbound) -> DeliveryLog:
    found = catalogue.load()["github"]
    registration = cast("Webhook", found.webhook).registration
    assert registration is not None
    assert registration.deliveries is not None
    account = Account(config={"baseUrl": provider.url}, credentials={"token": Secret("canary-token")})
    session = Calls(found, account, client=client)
    return DeliveryLog(session, registration.deliveries, project="acme/shop", hook_id="7")


LOGS: dict[str, tuple[list[Any], list[Missed], datetime | None]] = {
    "what arrived is not missed": ([sent(1, "a", 1, 202)], [], None),
    "what failed is missed": ([sent(1, "a", 1, 503)], [Missed(id="1", at=at(1), last=at(1), tries=1)], None),
    "what was not answered is missed": (
        [sent(1, "a", 1, 0)], [Missed(id="1", at=at(1), last=at(1), tries=1)], None,
    ),
    "what arrived later is filled": ([sent(2, "a", 9, 202), sent(1, "a", 1, 503)], [], at(9)),
    "what failed again is asked for by its last id": (
        [sent(2, "a", 9, 503), sent(1, "a", 1, 503)],
        [Missed(id="2", at=at(1), last=at(9), tries=2)],
        None,
    ),
    "the oldest comes first": (
        [sent(2, "b", 2, 500), sent(1, "a", 1, 500)],
        [Missed(id="1", at=at(1), last=at(1), tries=1), Missed(id="2", at=at(2), last=at(2), tries=1)],
        None,
    ),
    "events that nobody uses are nobody's gap": ([sent(1, "a", 1, 500, event="star")], [], None),
    "what was sent before is not looked at": ([sent(1, "a", -1, 500)], [], None),
    "entries of another shape are none": ([{"id": 1}, None, 3, sent(1, "", 1, 500)], [], None),
}  # fmt: skip


@pytest.mark.parametrize("sentence", LOGS)
async def test_log(sentence: str, provider: Any, client: Outbound) -> None:
    listed, missed, filled = LOGS[sentence]
    provider.on(LIST, listed)
    found = await log(provider, client).read(since=BEGIN)
    assert list(found.missed) == missed
    assert found.filled_at == filled


async def test_it_is_read_back_to_the_time_asked_for_and_no_further(provider: Any, client: Outbound) -> None:
    def link(cursor: int) -> dict[str, str]:
        return {"Link": f'<{provider.url}{LIST}?per_page=100&cursor={cursor}>; rel="next"'}

    provider.on(f"{LIST}?per_page=100", [sent(3, "c", 3, 500)], headers=link(2))
    provider.on(
        f"{LIST}?per_page=100&cursor=2", [sent(2, "b", 2, 500), sent(1, "a", -5, 500)], headers=link(0)
    )
    found = await log(provider, client).read(since=BEGIN)
    assert [each.id for each in found.missed] == ["2", "3"]
    assert len(provider.seen) == 2


async def test_one_is_asked_for_again(provider: Any, client: Outbound) -> None:
    provider.on(f"{LIST}/3/attempts", {}, status=202)
    await log(provider, client).ask_again("3")
    assert [(seen.method, seen.path) for seen in provider.seen] == [("POST", f"{LIST}/3/attempts")]


async def test_a_list_that_is_none_is_refused(provider: Any, client: Outbound) -> None:
    provider.on(LIST, {"message": "x"})
    with pytest.raises(errors.Stalled, match="no list of deliveries"):
        await log(provider, client).read(since=BEGIN)
