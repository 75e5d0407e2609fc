"""What counts as a mention of somebody who is erased."""

from datetime import UTC, date, datetime

import pytest

from gateway.searches import _next_day, mention
from pipewright.store.erasure import Erasure

MENTIONS = {
    "as it is": ("octocat", b'{"login":"octocat"}'),
    "in an address": ("octocat", b'{"url":"https://example.org/octocat/repo"}'),
    "in other letters": ("OctoCat", b'{"login":"octocat"}'),
    "at the beginning": ("octocat", b"octocat pushed"),
    "as JSON escapes it": ("j\u00f6rg", b'{"login":"j\\u00f6rg"}'),
    "as UTF-8": ("j\u00f6rg", '{"login":"j\u00f6rg"}'.encode()),
    "as a form has it": ("ada@example.org", b"user=ada%40example.org&x=1"),
    "with letters of expressions": ("a.b+c", b'{"login":"a.b+c"}'),
}


@pytest.mark.parametrize(("login", "body"), MENTIONS.values(), ids=MENTIONS)
def test_a_login_is_found(login: str, body: bytes) -> None:
    assert mention(login).search(body)


OTHERS = {
    "part of a longer one": ("octocat", b'{"login":"octocat-fork"}'),
    "end of a longer one": ("cat", b'{"login":"octocat"}'),
    "any letter": ("a.b", b'{"login":"axb"}'),
}


@pytest.mark.parametrize(("login", "body"), OTHERS.values(), ids=OTHERS)
def test_another_is_not(login: str, body: bytes) -> None:
    assert not mention(login).search(body)


DAYS = [date(2026, 3, 3), date(2026, 3, 2), date(2026, 3, 1)]


def asked(day: date | None, integration: str | None) -> Erasure:
    return Erasure(
        id=1, provider="github", login="octocat", requested_at=datetime.now(UTC), requested_by="ada",
        known=True, at_day=day, at_integration=integration, at_delivery=integration and "d", searched=0,
        deleted=0, unreadable=0, finished_at=None,
    )  # fmt: skip


NEXT = {
    "the newest first": (asked(date(2026, 3, 4), None), DAYS[0]),
    "a day that is under way": (asked(DAYS[1], "i"), DAYS[1]),
    "the day before one that is done": (asked(DAYS[1], None), DAYS[2]),
    "after the oldest none": (asked(DAYS[2], None), None),
    "a day that retention took meanwhile": (asked(date(2026, 3, 4), "i"), DAYS[0]),
}


@pytest.mark.parametrize(("erasure", "day"), NEXT.values(), ids=NEXT)
def test_days_are_searched_from_the_newest_to_the_oldest(erasure: Erasure, day: date | None) -> None:
    assert _next_day(DAYS, erasure) == day
