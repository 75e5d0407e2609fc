"""Logs: JSON lines that name the object and hold no secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider

from pipewright import errors
from pipewright.ports import Secret
from pipewright.runtime import logs

CANARY = "canary-4711"


@pytest.fixture
def lines() -> Iterator[Any]:
    """What was logged since, as dictionaries; the global set-up is put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("kopf", "aiohttp", "asyncio")}
    stream = io.StringIO()
    logs.configure(component="runner", level=logging.DEBUG, stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def test_a_line_is_json_with_time_level_component_and_the_bound_key(lines) -> None:
    with structlog.contextvars.bound_contextvars(kind="Tenant", object="acme"):
        logs.get("pipewright.test").info("reconciled", seconds=0.5)
    [line] = lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "message": "reconciled",
        "level": "info",
        "component": "runner",
        "module": "pipewright.test",
        "kind": "Tenant",
        "object": "acme",
        "seconds": 0.5,
    }


HIDDEN = {
    "a Secret anywhere": {"value": Secret(CANARY)},
    "a Secret in a list": {"values": [1, [Secret(CANARY)]]},
    "a Secret in a mapping": {"deep": {"deeper": {"x": Secret(CANARY)}}},
    "a password": {"password": CANARY},
    "a token deep down": {"request": {"headers": [{"X-Auth-Token": CANARY}]}},
    "an authorization header": {"headers": {"Authorization": f"Bearer {CANARY}"}},
    "a connection string": {"platformDsn": f"postgresql://u:{CANARY}@h/d"},
    "a secret by name": {"clientSecret": CANARY},
    "an object without a JSON form": {"thing": type("Thing", (), {"__repr__": lambda self: CANARY})()},
}


@pytest.mark.parametrize("case", HIDDEN)
def test_secrets_do_not_show(case: str, lines) -> None:
    logs.get("test").warning("careful", **HIDDEN[case])
    assert lines()[0]["message"] == "careful"
    assert CANARY not in json.dumps(lines())


def test_what_is_no_secret_shows(lines) -> None:
    logs.get("test").info("look", names=["a", "b"], nested={"kind": "Tenant"}, nothing=None, secret=None)
    [line] = lines()
    assert (line["names"], line["nested"], line["nothing"]) == (["a", "b"], {"kind": "Tenant"}, None)


def test_libraries_write_the_same_lines_and_their_chatter_is_dropped(lines) -> None:
    logging.getLogger("kopf.activities").info("chatter")
    logging.getLogger("kopf.objects").warning("%s of %d", "one", 2)
    [line] = lines()
    assert (line["message"], line["level"], line["module"]) == ("one of 2", "warning", "kopf.objects")


def test_a_librarys_traceback_is_told_without_its_text(lines) -> None:
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("asyncio").exception("task failed")
    [line] = lines()
    assert line["exception"]["error"] == "ValueError"
    assert "test_logs.py" in line["exception"]["frames"][0]
    assert CANARY not in json.dumps(line)


def test_a_foreign_exception_is_described_by_class_and_place() -> None:
    try:
        try:
            raise KeyError(CANARY)
        except KeyError as inner:
            raise RuntimeError(CANARY) from inner
    except RuntimeError as error:
        told = logs.describe(error)
    assert told["error"] == "RuntimeError"
    assert told["frames"][0].startswith("unit/runtime/test_logs.py:")
    assert told["frames"][0].endswith("test_a_foreign_exception_is_described_by_class_and_place")
    assert told["causes"][0]["error"] == "KeyError"
    assert CANARY not in json.dumps(told)


def test_our_own_errors_are_told_in_full_and_their_causes_are_not() -> None:
    try:
        try:
            raise OSError(CANARY)
        except OSError as inner:
            raise errors.Unreachable("Vault did not answer") from inner
    except errors.Unreachable as error:
        told = logs.describe(error)
    assert (told["reason"], told["error"]) == ("Unreachable", "Vault did not answer")
    assert told["causes"][0]["error"] == "OSError"
    assert CANARY not in json.dumps(told)


def test_a_group_of_exceptions_is_told_one_by_one() -> None:
    told = logs.describe(ExceptionGroup(CANARY, [ValueError(CANARY), errors.Conflict("it changed")]))
    assert [cause["error"] for cause in told["causes"]] == ["ValueError", "it changed"]
    assert CANARY not in json.dumps(told)


def test_a_line_within_a_span_carries_the_trace(lines) -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("work") as span:
        logs.get("test").info("inside")
    [line] = lines()
    assert line["traceId"] == f"{span.get_span_context().trace_id:032x}"
