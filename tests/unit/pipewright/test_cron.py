"""Times of a schedule where the clocks change, against Berlin's and New York's changes of 2026."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipewright import cron, errors

DAILY = "30 2 * * *"
BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


TURNS: dict[str, tuple[str, str, str, list[str]]] = {
    "a time that is left out comes at the end of the gap": (
        DAILY,
        BERLIN,
        "2026-03-28 12:00",
        ["2026-03-29 01:00", "2026-03-30 00:30"],
    ),
    "a time that comes twice is taken the first time": (
        DAILY,
        BERLIN,
        "2026-10-24 12:00",
        ["2026-10-25 00:30", "2026-10-26 01:30"],
    ),
    "west of Greenwich, too": (
        "30 1 * * *",
        "America/New_York",
        "2026-10-31 12:00",
        ["2026-11-01 05:30", "2026-11-02 06:30"],
    ),
    "each hour is each hour, also the one that comes twice": (
        "0 * * * *",
        BERLIN,
        "2026-10-24 23:30",
        ["2026-10-25 00:00", "2026-10-25 01:00", "2026-10-25 02:00"],
    ),
    "and the one that is left out is none": (
        "0 * * * *",
        BERLIN,
        "2026-03-29 00:30",
        ["2026-03-29 01:00", "2026-03-29 02:00"],
    ),
    "some minutes of a named hour come in its first round": (
        "*/30 2 * * *",
        BERLIN,
        "2026-10-24 12:00",
        ["2026-10-25 00:00", "2026-10-25 00:30", "2026-10-26 01:00"],
    ),
}


@pytest.mark.parametrize(("schedule", "zone", "after", "wanted"), TURNS.values(), ids=TURNS.keys())
def test_turns_where_the_clocks_change(schedule: str, zone: str, after: str, wanted: list[str]) -> None:
    at, found = utc(after), []
    for _ in wanted:
        at = cron.next_after(schedule, zone=zone, after=at)
        found.append(f"{at:%Y-%m-%d %H:%M}")
    assert found == wanted


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ("2026-10-25 00:45", "2026-10-25 00:30"),
        ("2026-10-25 01:45", "2026-10-25 00:30"),
        ("2026-10-25 12:00", "2026-10-25 00:30"),
        ("2026-03-29 12:00", "2026-03-29 01:00"),
    ],
)
def test_the_turn_before_is_the_same_one(before: str, wanted: str) -> None:
    assert cron.last_before(DAILY, zone=BERLIN, before=utc(before)) == utc(wanted)


@pytest.mark.parametrize("schedule", [DAILY, "0 3 * * *", "0 1-4 * * *", "15 */2 * * *"])
def test_forth_and_back_meet_in_each_hour_of_a_year(schedule: str) -> None:
    at = utc("2026-01-01 00:10")
    for _ in range(8760 // 5):
        following = cron.next_after(schedule, zone=BERLIN, after=at)
        assert following > at
        assert cron.last_before(schedule, zone=BERLIN, before=following + timedelta(seconds=1)) == following
        at += timedelta(hours=5)


@pytest.mark.parametrize(
    ("schedule", "zone", "reason"),
    [("0 0 31 2 *", BERLIN, "InvalidSchedule"), (DAILY, "Europe/Berlinn", "InvalidTimeZone")],
)
def test_what_never_comes_is_said(schedule: str, zone: str, reason: str) -> None:
    with pytest.raises(errors.Stalled) as told:
        cron.next_after(schedule, zone=zone, after=utc("2026-01-01 00:00"))
    assert told.value.reason == reason
