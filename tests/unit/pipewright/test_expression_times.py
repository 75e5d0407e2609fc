"""`time()` in expressions: a provider's time in each form that is met, and what is none."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipewright import expressions, records
from pipewright.expressions import EvaluationError, Payload
from pipewright.expressions.times import time

READ: dict[str, tuple[Any, str | None, str | None]] = {
    "RFC 3339": ("2026-01-31T08:30:00Z", None, "2026-01-31T08:30:00Z"),
    "in lower case": ("2026-01-31t08:30:00z", None, "2026-01-31T08:30:00Z"),
    "with an offset": ("2026-01-31T09:30:00.123+01:00", None, "2026-01-31T08:30:00.123000Z"),
    "Azure's seven digits": ("2026-01-31T08:30:00.1234567Z", None, "2026-01-31T08:30:00.123456Z"),
    "GitLab's UTC": ("2016-08-12 15:23:28 UTC", None, "2016-08-12T15:23:28Z"),
    "GitLab's server with a zone": ("2016-08-12 17:23:28 +0200", None, "2016-08-12T15:23:28Z"),
    "hours only": ("2026-01-31T09:30:00+01", None, "2026-01-31T08:30:00Z"),
    "without an offset, which is told": ("2026-01-31T08:30:00", "Z", "2026-01-31T08:30:00Z"),
    "without an offset, in another zone": ("2026-01-31 08:30:00", "-05:30", "2026-01-31T14:00:00Z"),
    "its own offset before the one that is told": ("2026-01-31T08:30:00Z", "+05:00", "2026-01-31T08:30:00Z"),
    "a comma": ("2026-01-31T08:30:00,5Z", None, "2026-01-31T08:30:00.500000Z"),
    "a leap second": ("2016-12-31T23:59:60Z", None, "2017-01-01T00:00:00Z"),
    "Drone's seconds": (1769848200, None, "2026-01-31T08:30:00Z"),
    "Jenkins' milliseconds": (1769848200000, None, "2026-01-31T08:30:00Z"),
    "seconds with a fraction": (1769848200.5, None, "2026-01-31T08:30:00.500000Z"),
    "seconds as a text": ("1769848200", None, "2026-01-31T08:30:00Z"),
    "milliseconds as a text": ("1769848200000", None, "2026-01-31T08:30:00Z"),
    "null": (None, None, None),
    "an empty text": ("", None, None),
    "zero": (0, None, None),
    "zero as a text": ("0", None, None),
    "Go's zero": ("0001-01-01T00:00:00Z", None, None),
    "Azure's zero, without an offset": ("0001-01-01T00:00:00", None, None),
}


@pytest.mark.parametrize(("value", "offset", "read"), READ.values(), ids=READ.keys())
def test_a_time_is_read(value: Any, offset: str | None, read: str | None) -> None:
    assert time(value, offset) == read


REFUSED: dict[str, tuple[Any, str | None, str]] = {
    "no time at all": ("now", None, "time: 'now' is no time that is known here"),
    "a date": ("2026-01-31", None, "time: '2026-01-31' is no time that is known here"),
    "no offset": ("2026-01-31T08:30:00", None, "time: '2026-01-31T08:30:00' has no offset: say the one"),
    "no real day": ("2026-02-30T08:30:00Z", None, "time: '2026-02-30T08:30:00Z' is no real time"),
    "no real offset": ("2026-01-31T08:30:00+99:00", None, "is no real time"),
    "an offset that is told and none": ("2026-01-31T08:30:00", "CET", "is no real time"),
    "before 1970": ("1969-12-31T23:59:59Z", None, "time: must lie between the years 1970 and 2200"),
    "after 2200": ("2200-01-01T00:00:00Z", None, "time: must lie between the years 1970 and 2200"),
    "beyond all years": ("9999-12-31T23:59:59-23:59", None, "time: must lie between"),
    "a duration": (305, None, "time: 305 is no time in seconds or milliseconds since 1970"),
    "a negative number": (-1769848200, None, "is no time in seconds or milliseconds"),
    "microseconds": (1769848200000000, None, "is no time in seconds or milliseconds"),
    "no number": (float("nan"), None, "is no time in seconds or milliseconds"),
    "a boolean": (True, None, "time: must be a text or a number, got a boolean"),
    "a list": ([1769848200], None, "time: must be a text or a number, got a list"),
    "a giant": ("2026-01-31T08:30:00Z" + " " * 100_000, None, "is no time that is known here"),
}  # fmt: skip


@pytest.mark.parametrize(("value", "offset", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_time_is_refused(value: Any, offset: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=r"^time: ") as refused:
        time(value, offset)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 150


def said(source: str, body: Any) -> Any:
    program = expressions.payloads().expression(source)
    return program.value(expressions.bind_payload(Payload(body=body, headers={})))


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("time(body.at)", "2026-01-31T08:30:00Z"),
        ("time(body.local, '+01:00')", "2026-01-31T07:30:00Z"),
        ("time(null)", None),
        ("[body.at, body.never].map(at, time(at))", ["2026-01-31T08:30:00Z", None]),
        ("string(timestamp(time(body.at)) + duration('90s'))", "2026-01-31T08:31:30Z"),
        ("time(timestamp('2026-01-31T08:30:00Z'))", "2026-01-31T08:30:00Z"),
    ],
)
def test_an_expression_has_the_function(source: str, value: Any) -> None:
    assert said(source, {"at": 1769848200, "local": "2026-01-31T08:30:00", "never": None}) == value


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("time(body.at)", "time: 'now' is no time that is known here"),
        ("time(body)", "time: must be a text or a number, got an object"),
        ("time(body.missing)", "Key not found"),
    ],
)
def test_a_wrong_time_is_an_evaluation_error(source: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        said(source, {"at": "now"})


def test_a_call_has_its_price() -> None:
    environment = expressions.payloads()
    assert environment.expression("time(body.at)").cost > environment.expression("body.at").cost + 50


@settings(max_examples=500, deadline=None)
@given(
    value=st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
        st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}[^\n]{0,7}\Z"),
    ),
    offset=st.none() | st.sampled_from(["Z", "+01:00"]) | st.text(max_size=7),
)  # fmt: skip
def test_whatever_comes_is_a_time_or_refused(value: Any, offset: str | None) -> None:
    try:
        found = time(value, offset)
    except ValueError:
        return
    if found is not None:
        records.parse_time("at", found)
