"""A provider's time in each form that is met, and what is none."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.times import read_time
from pipewright import records

READ: dict[str, tuple[Any, str | None]] = {
    "RFC 3339": ("2026-01-31T08:30:00Z", "2026-01-31T08:30:00Z"),
    "in lower case": ("2026-01-31t08:30:00z", "2026-01-31T08:30:00Z"),
    "with an offset": ("2026-01-31T09:30:00.123+01:00", "2026-01-31T08:30:00.123000Z"),
    "Azure's seven digits": ("2026-01-31T08:30:00.1234567Z", "2026-01-31T08:30:00.123456Z"),
    "GitLab's UTC": ("2016-08-12 15:23:28 UTC", "2016-08-12T15:23:28Z"),
    "GitLab's server with a zone": ("2016-08-12 17:23:28 +0200", "2016-08-12T15:23:28Z"),
    "hours only": ("2026-01-31T09:30:00+01", "2026-01-31T08:30:00Z"),
    "a comma": ("2026-01-31T08:30:00,5Z", "2026-01-31T08:30:00.500000Z"),
    "a leap second": ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
    "Drone's seconds": (1769848200, "2026-01-31T08:30:00Z"),
    "Jenkins' milliseconds": (1769848200000, "2026-01-31T08:30:00Z"),
    "seconds with a fraction": (1769848200.5, "2026-01-31T08:30:00.500000Z"),
    "seconds as a text": ("1769848200", "2026-01-31T08:30:00Z"),
    "milliseconds as a text": ("1769848200000", "2026-01-31T08:30:00Z"),
    "null": (None, None),
    "an empty text": ("", None),
    "zero": (0, None),
    "zero as a text": ("0", None),
    "Go's zero": ("0001-01-01T00:00:00Z", None),
    "Azure's zero, without an offset": ("0001-01-01T00:00:00", None),
}


@pytest.mark.parametrize(("value", "read"), READ.values(), ids=READ.keys())
def test_a_time_is_read(value: Any, read: str | None) -> None:
    assert read_time(value) == read


REFUSED: dict[str, tuple[Any, str]] = {
    "no time at all": ("now", "'now' is no time that is known here"),
    "a date": ("2026-01-31", "'2026-01-31' is no time that is known here"),
    "no offset": ("2026-01-31T08:30:00", "'2026-01-31T08:30:00' has no offset: append the one"),
    "no real day": ("2026-02-30T08:30:00Z", "'2026-02-30T08:30:00Z' is no real time"),
    "no real offset": ("2026-01-31T08:30:00+99:00", "is no real time"),
    "before 1970": ("1969-12-31T23:59:59Z", "must lie between the years 1970 and 2200"),
    "after 2200": ("2200-01-01T00:00:00Z", "must lie between the years 1970 and 2200"),
    "beyond all years": ("9999-12-31T23:59:59-23:59", "must lie between"),
    "a duration": (305, "305 is no time in seconds or milliseconds since 1970"),
    "a negative number": (-1769848200, "is no time in seconds or milliseconds"),
    "microseconds": (1769848200000000, "is no time in seconds or milliseconds"),
    "no number": (float("nan"), "is no time in seconds or milliseconds"),
    "a boolean": (True, "must be a text or a number, got a boolean"),
    "a list": ([1769848200], "must be a text or a number, got a list"),
    "a giant": ("2026-01-31T08:30:00Z" + " " * 100_000, "is no time that is known here"),
}  # fmt: skip


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_time_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        read_time(value)
    assert len(str(refused.value)) < 150


@settings(max_examples=500, deadline=None)
@given(
    value=st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
        st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}[^\n]{0,7}\Z"),
    ),
)  # fmt: skip
def test_whatever_comes_is_a_time_or_refused(value: Any) -> None:
    try:
        found = read_time(value)
    except ValueError:
        return
    if found is not None:
        records.parse_time("at", found)
