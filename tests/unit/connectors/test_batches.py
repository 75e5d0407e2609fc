"""Bodies that hold several events: taken apart, each with its own text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import batches, catalogue, mapping
from connectors.mapping import Ignored, MappingError
from connectors.mistakes import ConfigError
from connectors.webhook import Webhook
from pipewright import events

_FOUND = catalogue.load()["cdevents"].webhook
assert isinstance(_FOUND, Webhook)
CDEVENTS = _FOUND
BATCH, LINES = "application/cloudevents-batch+json", "application/x-ndjson"

RUN = {
    "type": "run", "project": "acme/shop", "pipeline": "ci", "id": "71", "attempt": 1, "outcome": "failure",
    "finishedAt": "2026-01-01T00:05:00Z",
}  # fmt: skip


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": str(number), "source": "/ci", "type": "dev.pipewright.record",
        "data": RUN | {"id": str(number)}, **changes,
    }  # fmt: skip


def split(body: str | bytes, kind: str = BATCH, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else body.encode()
    return batches.split(CDEVENTS, headers={"content-type": kind, **headers}, raw=raw)


@pytest.mark.parametrize("kind", [BATCH, f"{BATCH}; charset=UTF-8", LINES, "application/ndjson"])
def test_each_event_is_as_it_would_have_come_alone(kind: str) -> None:
    texts = [json.dumps(event(1)), json.dumps(event(2), indent=None, separators=(" , ", " : "))]
    body = f" [{texts[0]} ,\n{texts[1]}]\n" if kind.startswith(BATCH) else f"{texts[0]}\r\n\n {texts[1]}"
    found = split(body, kind, **{"ce-id": "of another", "x-signature-256": "s"})
    assert [part.raw.decode() for part in found] == texts
    for number, part in enumerate(found, 1):
        opened = mapping.open_delivery(CDEVENTS, headers=part.headers, raw=part.raw, parsed=part.document)
        alone = mapping.open_delivery(CDEVENTS, headers=part.headers, raw=part.raw)
        assert opened == alone
        assert opened.headers["ce-id"] == str(number)
        identity = mapping.identify(CDEVENTS, opened)
        assert identity.event == "record"
        said = mapping.map_delivery(CDEVENTS, opened, event=identity.event)
        assert not isinstance(said, Ignored)
        assert [events.record_json(record) for _, record in said] == [
            RUN | {"id": str(number), "phase": "finished", "number": 0} | EMPTY
        ]


EMPTY = dict.fromkeys(("trigger", "branch", "sha", "actor", "url"), "")


@pytest.mark.parametrize(("body", "kind"), [("[]", BATCH), (" [ ] ", BATCH), ("", LINES), ("\n \n", LINES)])
def test_there_may_be_none(body: str, kind: str) -> None:
    assert split(body, kind) == []


@pytest.mark.parametrize("kind", ["application/json", "application/cloudevents+json", "", "text/plain"])
def test_other_bodies_are_one(kind: str) -> None:
    assert split("[]", kind) is None


def test_a_connector_that_does_not_say_so_takes_none() -> None:
    github = catalogue.load()["github"].webhook
    assert isinstance(github, Webhook)
    assert batches.split(github, headers={"content-type": BATCH}, raw=b"[]") is None


REFUSED: dict[str, tuple[str, bytes, str]] = {
    "not UTF-8": (BATCH, b"[\xff]", "UTF-8"),
    "an object": (BATCH, b"{}", "a JSON list"),
    "nothing": (BATCH, b"", "a JSON list"),
    "an open list": (BATCH, b"[{}", "a JSON list"),
    "an end that is a comma": (BATCH, b"[{},]", "event 2 must be a JSON object"),
    "no comma": (BATCH, b"[{} {}]", "a JSON list"),
    "something after the list": (BATCH, b"[{}] {}", "nothing after it"),
    "a number among them": (BATCH, b"[{}, 7]", "event 2 must be a JSON object"),
    "a list within": (BATCH, b"[[]]", "event 1 must be a JSON object"),
    "not a number": (BATCH, b'[{"a": NaN}]', "event 1 must be a JSON object"),
    "deep nesting": (BATCH, b'[{"a":' * 100_000, "event 1 must be a JSON object"),
    "too many": (BATCH, b"[" + b"{}," * 1000 + b"{}]", "more than 1000 events"),
    "a line that is none": (LINES, b"{}\n{", "line 2 must be a JSON object"),
    "two on a line": (LINES, b"{} {}", "line 1 must be one JSON object"),
    "a list on a line": (LINES, b"\n[]", "line 2 must be a JSON object"),
    "too many lines": (LINES, b"{}\n" * 1001, "more than 1000 events"),
}


@pytest.mark.parametrize(("kind", "body", "message"), REFUSED.values(), ids=REFUSED)
def test_is_refused_with_its_place(kind: str, body: bytes, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        split(body, kind)


WHOLE = st.integers(-(2**63), 2**64 - 1)


def whole(digits: str) -> float:
    """A longer one is a float."""
    return int(digits) if -(2**63) <= int(digits) < 2**64 else float(digits)


@given(st.one_of(st.text(), st.lists(st.dictionaries(st.text(), WHOLE)).map(json.dumps)), st.booleans())
def test_whatever_comes_is_taken_apart_or_refused(body: str, lines: bool) -> None:
    try:
        found = split(body.encode("utf-8", "surrogatepass"), LINES if lines else BATCH)
    except MappingError:
        return
    assert [json.loads(part.raw, parse_int=whole) for part in found] == [part.document for part in found]
    if not lines:
        assert [part.document for part in found] == json.loads(body, parse_int=whole)


VALUES = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5), st.sampled_from([None, 1]))
def test_objects_within_events_end_none_of_them(documents: list[Any], indent: int | None) -> None:
    found = split(json.dumps(documents, indent=indent))
    assert [part.document for part in found] == documents
    assert [json.loads(part.raw) for part in found] == documents
    lines = split("\n".join(map(json.dumps, documents)), LINES)
    assert [part.document for part in lines] == documents


def test_many_objects_within_events_are_read_in_detail() -> None:
    documents = [{"list": [{}] * 3000}, {"list": [{}, {"a": "},{"}]}]
    found = split(json.dumps(documents, separators=(",", ":")))
    assert [part.document for part in found] == documents


SECTION: dict[str, Any] = {
    "verify": {"kind": "hmac", "header": "X-S"},
    "body": {"accepts": ["json", "ndjson"]},
    "delivery": {"digest": "body"},
    "events": [{"name": "record", "when": "true", "record": "given"}],
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an id of the whole body": (
        {"delivery": {"header": "X-Id"}},
        "webhook.delivery.header: is one of a whole",
    ),
    "a batch of what is no CloudEvent": (
        {"body": {"accepts": ["json", "batch"]}},
        "there must be cloudevent",
    ),
    "a record that is given and mapped": (
        {"events": [SECTION["events"][0] | {"map": {"id": "body.id"}}]},
        "webhook.events[0]: a record that is given has no map",
    ),
    "a given one of a list": (
        {"events": [SECTION["events"][0] | {"each": "body.list"}]},
        "webhook.events[0]: a record that is given has no map",
    ),
    "a run without a map": ({"events": [{"name": "n", "when": "true", "record": "run"}]}, "any other a map"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_a_mapping_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        catalogue.load()["generic"].configure({"webhook": SECTION | changes})
    assert message in str(refused.value)


def test_a_users_mapping_takes_lines_that_are_records_and_fewer_of_them() -> None:
    generic = catalogue.load()["generic"]
    webhook = generic.webhook_of({"webhook": SECTION})
    assert webhook is not None
    headers = {"content-type": LINES}
    [part] = batches.split(webhook, headers=headers, raw=json.dumps(RUN).encode()) or []
    opened = mapping.open_delivery(webhook, headers=part.headers, raw=part.raw, parsed=part.document)
    [(kind, _)] = mapping.map_delivery(webhook, opened, event=mapping.identify(webhook, opened).event)
    assert kind == "pipelinerun.finished"
    with pytest.raises(MappingError, match="more than 200 events"):
        batches.split(webhook, headers=headers, raw=b"{}\n" * 201)


def test_a_given_record_that_is_wrong_names_its_field() -> None:
    opened = mapping.open_delivery(
        CDEVENTS,
        headers={"content-type": "application/cloudevents+json"},
        raw=json.dumps(event(1, data={"type": "run", "id": 7})).encode(),
    )
    with pytest.raises(MappingError, match="record: project: is required"):
        mapping.map_delivery(CDEVENTS, opened, event="record")
