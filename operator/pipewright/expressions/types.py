"""The event model as protobuf messages, so that CEL checks every field's name and type when it compiles.

Each type of event has a message of its own, named as the type is (`pipelinerun.finished`), with the fields
that such an event really has: `event.finishedAt` in a condition on `pipelinerun.started` is a compile error
and not a comparison with the year 1970. What a prediction may lack is of a nullable type: comparing it
while it is absent is an evaluation error, never a comparison with 0.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2
from google.protobuf.message import Message

from pipewright import events, records

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {str: _Field.TYPE_STRING, int: _Field.TYPE_INT64, float: _Field.TYPE_DOUBLE}
_WRAPPERS: Final = {
    str: ".google.protobuf.StringValue",
    int: ".google.protobuf.Int64Value",
    float: ".google.protobuf.DoubleValue",
}
_NAMES: Final[Mapping[type, str]] = {
    events.RunRef: "Run",
    events.JobRef: "Job",
    events.ArtifactRef: "Artifact",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a later step's expressions see of an earlier step."""

    outcome: str
    """success, failure, skip or unknown."""
    outputs: Mapping[str, str] = field(default_factory=dict)


def _build() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for known in (timestamp_pb2, wrappers_pb2):
        copied = descriptor_pb2.FileDescriptorProto()
        known.DESCRIPTOR.CopyToProto(copied)
        pool.Add(copied)
    shared = _file("shared", package="")
    _message(shared, "Run", events.RunRef)
    _message(shared, "Job", events.JobRef)
    _message(shared, "Artifact", events.ArtifactRef)
    _message(shared, "Scan", events.Scan)
    _message(shared, "Retry", events.Retry, nullable=True)
    _message(shared, "DurationForecast", events.DurationForecast, nullable=True)
    _message(shared, "FailureCause", events.FailureCause, nullable=True)
    _message(shared, "Prediction", events.Prediction, nullable=True)
    _step(shared)
    pool.Add(shared)
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for event_type in events.TYPES:
        subject, _, phase = event_type.partition(".")
        if subject not in files:
            files[subject] = _file(subject, package=subject)
            files[subject].dependency.append(shared.name)
        _message(files[subject], phase, events.Event, without=events.lacks(event_type))
    for file in files.values():
        pool.Add(file)
    return pool


def _file(name: str, *, package: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"pipewright/{name}.proto", package=package, syntax="proto3"
    )
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"])
    return file


def _message(
    file: descriptor_pb2.FileDescriptorProto,
    name: str,
    cls: type[Any],
    *,
    without: frozenset[str] = frozenset(),
    nullable: bool = False,
) -> None:
    message = file.message_type.add(name=name)
    hints = typing.get_type_hints(cls)
    kept = [entry.name for entry in dataclasses.fields(cls) if entry.name not in without]
    for number, name_ in enumerate(kept, start=1):
        _add(message, records.camel(name_), number=number, hint=hints[name_], nullable=nullable)


def _add(
    message: descriptor_pb2.DescriptorProto, name: str, *, number: int, hint: Any, nullable: bool
) -> None:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # the latter of Literal | None
        hint = next(option for option in get_args(hint) if option is not types.NoneType)
    if typing.get_origin(hint) is Literal:
        hint = str
    made = message.field.add(name=name, json_name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if typing.get_origin(hint) is tuple:
        made.label, made.type = _Field.LABEL_REPEATED, _Field.TYPE_STRING
    elif hint is datetime:
        made.type, made.type_name = _Field.TYPE_MESSAGE, ".google.protobuf.Timestamp"
    elif hint in _SCALARS and nullable:
        made.type, made.type_name = _Field.TYPE_MESSAGE, _WRAPPERS[hint]
    elif hint in _SCALARS:
        made.type = _SCALARS[hint]
    else:
        made.type, made.type_name = _Field.TYPE_MESSAGE, f".{_name(hint)}"


def _step(file: descriptor_pb2.FileDescriptorProto) -> None:
    """`Step{outcome, outputs}`: the one message with a map, which protobuf spells as repeated entries."""
    step = file.message_type.add(name="Step")
    step.field.add(name="outcome", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    outputs = step.field.add(name="outputs", number=2, type=_Field.TYPE_MESSAGE, label=_Field.LABEL_REPEATED)
    outputs.type_name = ".Step.OutputsEntry"
    entry = step.nested_type.add(name="OutputsEntry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), start=1):
        entry.field.add(name=name, number=number, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)


def _name(cls: type[Any]) -> str:
    return _NAMES.get(cls, cls.__name__)


POOL: Final = _build()
"""The descriptors that every typed environment shares."""

_CLASSES: Final = {
    name: message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))
    for name in (
        "Run",
        "Job",
        "Artifact",
        "Scan",
        "Retry",
        "DurationForecast",
        "FailureCause",
        "Prediction",
        "Step",
        *events.TYPES,
    )
}


def fields_of(message: str) -> tuple[str, ...]:
    """The field names of a message of ours; none for any other name."""
    cls = _CLASSES.get(message)
    return tuple(found.name for found in cls.DESCRIPTOR.fields) if cls else ()


def event_message(event: events.Event) -> Message:
    """The event as the message of its type. A time that the provider did not tell is the next one known."""
    message = _CLASSES[event.type]()
    absent = events.lacks(event.type)
    for entry in dataclasses.fields(event):
        if entry.name not in absent:
            _set(message, records.camel(entry.name), getattr(event, entry.name))
    started = event.started_at or event.finished_at
    if event.queued_at is None and started is not None:
        _set(message, "queuedAt", started)
    if event.started_at is None and started is not None and "started_at" not in absent:
        _set(message, "startedAt", started)
    return message


def prediction_message(prediction: events.Prediction | None) -> Message:
    """The prediction; without one, a message in which everything is null."""
    message = _CLASSES["Prediction"]()
    if prediction is not None:
        _fill(message, prediction)
    return message


def step_message(step: StepResult) -> Message:
    """A step's result."""
    return _CLASSES["Step"](outcome=step.outcome, outputs=dict(step.outputs))


def _fill(message: Message, value: Any) -> None:
    for entry in dataclasses.fields(value):
        _set(message, records.camel(entry.name), getattr(value, entry.name))


def _set(message: Message, name: str, value: Any) -> None:
    """Set a field; None stays unset. Also an all-default submessage is set: `has` must see it."""
    match value:
        case None:
            return
        case datetime():
            getattr(message, name).FromDatetime(value)
        case tuple():
            getattr(message, name).extend(value)
        case str() | int() | float():
            kind = message.DESCRIPTOR.fields_by_name[name].message_type
            if kind is None:
                setattr(message, name, value)
            else:
                wrapper = getattr(message, name)
                wrapper.SetInParent()
                wrapper.value = value
        case _:
            getattr(message, name).SetInParent()
            _fill(getattr(message, name), value)
