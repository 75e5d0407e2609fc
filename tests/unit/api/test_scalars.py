"""The scalars mean what they say, in Python as on the wire."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipewright.api.scalars import (
    Between,
    Duration,
    Quantity,
    Time,
    format_duration,
    now_without_fraction,
    parse_duration,
)

DURATIONS = [
    ("90s", timedelta(seconds=90)),
    ("15m", timedelta(minutes=15)),
    ("6h", timedelta(hours=6)),
    ("30d", timedelta(days=30)),
    ("1h30m", timedelta(minutes=90)),
    ("1h5s", timedelta(seconds=3605)),
    ("0s", timedelta()),
]
NO_DURATIONS = ["", "s", "90", "1.5h", "-1h", "1h30", "30m1h", "1d12h", "1w", "1 h", "PT15M", "15m\n"]


@pytest.mark.parametrize(("text", "meaning"), DURATIONS)
def test_a_duration_is_read(text: str, meaning: timedelta) -> None:
    assert parse_duration(text) == meaning


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 90s, 15m, 1h30m or 30d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("meaning", "text"),
    [
        (timedelta(seconds=90), "1m30s"),
        (timedelta(hours=24), "1d"),
        (timedelta(hours=25), "25h"),
        (timedelta(seconds=5, microseconds=999), "5s"),
        (timedelta(), "0s"),
    ],
)
def test_a_duration_is_written_in_the_fewest_parts(meaning: timedelta, text: str) -> None:
    assert format_duration(meaning) == text


@given(st.integers(min_value=0, max_value=9_999 * 86_400))
def test_a_written_duration_reads_as_the_same(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


DEADLINE: TypeAdapter[timedelta] = TypeAdapter(Annotated[Duration, Between("1m", "1d")])


@pytest.mark.parametrize("text", ["1m", "60s", "1d", "24h", "23h59m60s"])
def test_the_bounds_of_a_duration_belong_to_it(text: str) -> None:
    assert timedelta(minutes=1) <= DEADLINE.validate_python(text) <= timedelta(days=1)


@pytest.mark.parametrize("text", ["59s", "24h1s", "2d"])
def test_a_duration_beyond_its_bounds_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="must be between 1m and 1d"):
        DEADLINE.validate_python(text)


QUANTITY: TypeAdapter[str] = TypeAdapter(Quantity)


@pytest.mark.parametrize(
    ("given_value", "kept"), [("500m", "500m"), ("8Gi", "8Gi"), ("1.5", "1.5"), (4, "4"), (0, "0")]
)
def test_a_quantity_is_kept_as_its_text(given_value: object, kept: str) -> None:
    assert QUANTITY.validate_python(given_value) == kept


@pytest.mark.parametrize("given_value", ["", "many", "-1", -1, "8GB", "1e3", True, 1.5, None])
def test_what_is_no_quantity_is_refused(given_value: object) -> None:
    with pytest.raises(ValidationError):
        QUANTITY.validate_python(given_value)


def test_an_instant_is_written_in_utc_with_whole_seconds() -> None:
    instant: TypeAdapter[datetime] = TypeAdapter(Time)
    read = instant.validate_python("2026-11-23T13:00:00.25+01:00")
    assert instant.dump_python(read, mode="json") == "2026-11-23T12:00:00Z"


def test_an_instant_without_its_fraction_is_what_comes_back() -> None:
    at = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
    assert now_without_fraction(at) == datetime(2026, 11, 23, 12, tzinfo=UTC)
