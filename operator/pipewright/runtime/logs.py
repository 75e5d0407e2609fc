"""Structured logs: JSON lines on stdout, our own and those of the libraries, with nothing secret in them.

Three nets for secrets: a `ports.Secret` never shows, a value under a telling key never shows, and of an
exception that is not ours only its class and where it came from are logged, because its text may quote a
connection string or a request.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from opentelemetry import trace

from pipewright import errors
from pipewright.ports import Secret

REDACTED = "[redacted]"
_TELLING = re.compile(r"passw|token|secret|authorization|dsn|credential|api_?key|private_?key", re.IGNORECASE)
_FRAMES = 8
_QUIET = ("kopf", "aiohttp", "asyncio", "kubernetes", "urllib3", "opentelemetry", "hvac")


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module. It writes as `configure` says, also when that is called later."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(module=name))


# -- exceptions --------------------------------------------------------------------------------------------


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as fields for a log line.

    Of our own errors the message, which is written for users. Of foreign ones the class and the frames (file,
    line, function: no values, no source text), and the same for what caused them.
    """
    if is_ours(error):
        reason, message = errors.explain(error)
        return {"reason": reason, "error": message, **_causes(error)}
    return {"error": _class(error), "frames": frames(error), **_causes(error)}


def is_ours(error: BaseException) -> bool:
    """Whether the text of the error was written to be read by users."""
    return isinstance(error, errors.Waiting | errors.Stalled | errors.BackendError)


def frames(error: BaseException) -> list[str]:
    """Where the error came from, innermost last."""
    found = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in found]


def _causes(error: BaseException) -> dict[str, Any]:
    causes: list[dict[str, Any]] = []
    if isinstance(error, BaseExceptionGroup):
        causes = [describe(inner) for inner in error.exceptions[:3]]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        causes.append({"error": _class(cause), "frames": frames(cause)})
    return {"causes": causes} if causes else {}


def _class(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _short(filename: str) -> str:
    parts = Path(filename).parts
    return "/".join(parts[-3:])


# -- processors --------------------------------------------------------------------------------------------

EventDict = MutableMapping[str, Any]


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Blot out secrets, however deep they lie."""
    return {key: _redacted(key, value) for key, value in event.items()}


@functools.lru_cache(maxsize=1024)
def _tells(key: str) -> bool:
    """Whether the key says that its value is secret; the same few are asked of each line."""
    return _TELLING.search(key) is not None


_ATOMS = frozenset({str, int, float, bool})


def _redacted(key: object, value: object) -> object:
    if type(value) in _ATOMS and not (isinstance(key, str) and _tells(key)):
        return value  # most are
    if isinstance(value, Secret) or (isinstance(key, str) and value is not None and _tells(key)):
        return REDACTED
    match value:
        case Mapping():
            return {inner: _redacted(inner, item) for inner, item in value.items()}
        case str() | bytes():
            return value
        case Sequence() | set() | frozenset():
            return [_redacted(None, item) for item in value]
        case _:
            return value


def _tell_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` (a traceback with the exception's text) by what `describe` lets through."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    event.pop("exc_text", None)
    event.pop("stack_info", None)
    return event


def _add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["traceId"] = trace.format_trace_id(context.trace_id)
    return event


def _add_module(_logger: object, _method: str, event: EventDict) -> EventDict:
    """The name of a library's logger, under the key where ours have their module's."""
    event["module"] = event["_record"].name
    return event


def _shared() -> list[structlog.types.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _add_trace,
        _tell_exception,
        redact,
    ]


# -- set-up ------------------------------------------------------------------------------------------------


def configure(*, component: str, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (stdout) as JSON lines. Call once, before anything logs."""

    def add_component(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["component"] = component
        return event

    shared = [add_component, *_shared()]
    output = stream or sys.stdout
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(serializer=_rendered),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=output),
        cache_logger_on_first_use=stream is None,
    )
    _route_libraries(shared, output=output, level=level)


def _route_libraries(shared: list[structlog.types.Processor], *, output: TextIO, level: int) -> None:
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_module, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(serializer=_rendered),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _rendered(event: EventDict, **_options: object) -> str:
    return _JSON.encode(event)


def _refuse(value: object) -> str:
    """What JSON has no word for is named by class: its text could hold anything."""
    return f"<{type(value).__qualname__}>"


_JSON = json.JSONEncoder(default=_refuse, ensure_ascii=False)
"""Made once: `json.dumps` makes one for each line."""
