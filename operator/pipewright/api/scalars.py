"""The scalars of the contract, each with the bounds that both pydantic and the API server hold it to."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from pipewright.api.rules import Rule, add, matches, rules

LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""A DNS label (RFC 1123), the shape of the names of our own kinds, of namespaces and of steps."""

_DURATION_PATTERN = r"^([0-9]{1,4}d|([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?)$"
"""Days stand alone; hours, minutes and seconds combine as in Go. That is what CEL can compare."""

DURATION = Rule(
    cel=matches("self", _DURATION_PATTERN),
    message="is not a duration: write for example 90s, 15m, 1h30m or 30d",
)

_PARTS = re.compile(r"([0-9]+)([dhms])")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_duration(text: str) -> timedelta:
    """Return what ``text`` means, e.g. ``90s``, ``15m``, ``1h30m`` or ``30d``.

    Raises:
        ValueError: ``text`` is not a duration.
    """
    if not text or not re.fullmatch(_DURATION_PATTERN, text):
        raise ValueError(f"{text!r} {DURATION.message}")
    return timedelta(seconds=sum(int(count) * _SECONDS[unit] for count, unit in _PARTS.findall(text)))


def format_duration(duration: timedelta) -> str:
    """Return ``duration`` in the fewest parts, whole days alone, fractions of a second dropped."""
    seconds = int(duration.total_seconds())
    if seconds and seconds % _SECONDS["d"] == 0:
        return f"{seconds // _SECONDS['d']}d"
    text = ""
    for unit in ("h", "m", "s"):
        count, seconds = divmod(seconds, _SECONDS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 2, "maxLength": 20, **rules(DURATION)}),
]
"""A length of time; on the wire ``90s``, ``15m``, ``1h30m``, ``30d``."""


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds of a ``Duration``, both inclusive, in its spelling: enforced here and, as CEL, by the server."""

    shortest: str
    longest: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return add(handler(schema), self.rule())

    def check(self, duration: timedelta) -> timedelta:
        """Return ``duration`` when it lies within the bounds, else raise ``ValueError``."""
        if not parse_duration(self.shortest) <= duration <= parse_duration(self.longest):
            raise ValueError(f"must be between {self.shortest} and {self.longest}")
        return duration

    def rule(self) -> Rule:
        """Return the same check as CEL, whose ``duration()`` knows no days."""
        low, high = (int(parse_duration(bound).total_seconds()) for bound in (self.shortest, self.longest))
        days = f"int(self.substring(0, self.size() - 1)) * {_SECONDS['d']}"
        return Rule(
            cel=f"!{matches('self', _DURATION_PATTERN)}"
            f" || [self.endsWith('d') ? {days} : duration(self).getSeconds()]"
            f".all(seconds, seconds >= {low} && seconds <= {high})",
            message=f"must be between {self.shortest} and {self.longest}, for example {self.shortest}",
        )


DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)]
"""A name as Kubernetes gives it to namespaces and Services."""

Time = Annotated[
    AwareDatetime,
    PlainSerializer(lambda at: at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), return_type=str),
]
"""An instant; on the wire RFC 3339 in UTC, whole seconds, as metav1.Time."""


def now_without_fraction(at: datetime) -> datetime:
    """Return ``at`` in UTC without the fraction of a second, as it comes back from the API server."""
    return at.astimezone(UTC).replace(microsecond=0)


QUANTITY_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"

Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    Field(max_length=32, pattern=QUANTITY_PATTERN),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "minimum": 0,
            "maximum": 1_000_000_000_000_000 - 1,
            "maxLength": 32,
            "pattern": QUANTITY_PATTERN,
        }
    ),
]
"""A Kubernetes quantity that is not negative: ``500m``, ``4``, ``8Gi``. An integer is taken as its text."""

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""A number that only grows; the greatest that every JSON reader keeps exactly."""

Digest = Annotated[str, Field(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in hexadecimal."""

Cel = Annotated[str, Field(min_length=1, max_length=2000)]
"""A CEL expression; it is compiled against the event model by the controller, not by the API server."""

JsonObject = Annotated[
    dict[str, JsonValue],
    Field(max_length=64),
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 64}),
]
"""A JSON object whose shape somebody else decides (a connector)."""
