"""A delivery opened, told apart and mapped by list; shapes of a body, places of an id, hostile ones."""

import copy
import dataclasses
import hashlib
import json
from typing import Any, cast
from urllib.parse import quote, urlencode

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import mapping, webhook
from connectors.compiling import Compiler
from connectors.mapping import Ignored, MappingError, Opened, WrongType, open_delivery
from connectors.verify.sns import confirmation
from connectors.webhook import Body, Webhook
from pipewright import events

BUILDS: Any = yaml.safe_load("""
verify: {kind: token, header: X-Token}
body: {accepts: [json, cloudevent, form, text], field: payload}
delivery: {expression: body.id}
event: {expression: body.type}
lookup: {outcome: {passed: success, failed: failure}}
events:
  - name: build
    each: body.jobs
    when: item.state in lookup.outcome
    record: job
    map:
      project: body.project
      run: string(body.build)
      attempt: "1"
      id: item.id
      name: item.name
      phase: "'finished'"
      outcome: lookup.outcome[item.state]
      startedAt: item.at
      finishedAt: item.at
""")


def section(**changes: Any) -> Webhook:
    return webhook.parse({**copy.deepcopy(BUILDS), **changes}, Compiler("x"))


HOOK = section()
BUILD: dict[str, Any] = {
    "id": "d-1",
    "type": "build",
    "project": "acme/shop",
    "build": 7,
    "jobs": [
        {"id": "1", "name": "unit", "state": "passed", "at": 1769848200},
        {"id": "2", "name": "lint", "state": "blocked"},
        {"id": "3", "name": "e2e", "state": "failed", "at": 1769848200000},
    ],
}
TEXT = json.dumps(BUILD)


def opened(kind: str, raw: bytes, *, hook: Webhook = HOOK, **headers: str) -> Opened:
    given = {"content-type": kind, "x-token": "hunter2", "authorization": "Bearer hunter2", **headers}
    return open_delivery(hook, headers=given, raw=raw)


# --- bodies ------------------------------------------------------------------------------------------------

SHAPES: dict[str, tuple[str, bytes]] = {
    "JSON": ("application/json", TEXT.encode()),
    "JSON with a charset": ("Application/JSON; charset=utf-8", TEXT.encode()),
    "some kind of JSON": ("application/vnd.ci+json", TEXT.encode()),
    "a form's field": ("application/x-www-form-urlencoded", urlencode({"a": "1", "payload": TEXT}).encode()),
    "text with JSON": ("text/plain; charset=UTF-8", TEXT.encode()),
    "a CloudEvent": (
        "application/cloudevents+json",
        json.dumps({"specversion": "1.0", "id": "e-1", "source": "/x", "type": "t", "data": BUILD}).encode(),
    ),
}


@pytest.mark.parametrize(("kind", "raw"), SHAPES.values(), ids=SHAPES.keys())
def test_the_document_is_found(kind: str, raw: bytes) -> None:
    assert opened(kind, raw).body == BUILD


def test_lists_of_key_and_value_are_read_as_objects() -> None:
    hook = section(body={"accepts": ["json"], "keyValues": "attributes"})
    pairs = [
        {"key": "a", "value": {"stringValue": "x"}},
        {"key": "n", "value": {"intValue": "5"}},
        {"key": "a", "value": {"stringValue": "y"}},
        {"key": "plain", "value": "z"},
        {"key": 7, "value": {"stringValue": "x"}},
        "no pair",
    ]
    body = {"spans": [{"attributes": pairs}, {"attributes": "none"}], "other": pairs}
    assert opened("application/json", json.dumps(body).encode(), hook=hook).body == {
        "spans": [{"attributes": {"a": "y", "n": "5", "plain": "z"}}, {"attributes": "none"}],
        "other": pairs,
    }


def test_what_proves_the_sender_is_seen_by_no_expression() -> None:
    assert opened("application/json", b"{}").headers == {"content-type": "application/json"}
    assert "hunter2" not in repr(opened("application/json", b'{"a": "hunter2"}'))


def test_a_structured_cloud_event_is_read_as_a_binary_one() -> None:
    event = {"id": "e-1", "source": "/x", "type": "t", "n": 5, "Bad-Name": "x", "data": {"a": 1}}
    found = opened("application/cloudevents+json", json.dumps(event).encode(), **{"ce-id": "forged"})
    headers = {name: value for name, value in found.headers.items() if name.startswith("ce-")}
    assert headers == {"ce-id": "e-1", "ce-source": "/x", "ce-type": "t"}
    assert found.body == {"a": 1}


def test_a_cloud_event_is_plain_json_for_who_does_not_ask() -> None:
    hook = section(body={"accepts": ["json"]})
    assert opened("application/cloudevents+json", b'{"data": {}}', hook=hook).body == {"data": {}}


@pytest.mark.parametrize(
    "kind", ["", "text/html", "multipart/form-data; boundary=x", "application/xml", "json"]
)
def test_another_type_is_refused_with_what_to_set(kind: str) -> None:
    with pytest.raises(WrongType) as refused:
        opened(kind, TEXT.encode(), hook=section(body={"accepts": ["json", "form"], "field": "payload"}))
    assert str(refused.value) == (
        f"set the webhook's content type to application/json or {FORM} at the provider"
    )


FORM = "application/x-www-form-urlencoded"
HOSTILE: dict[str, tuple[str, bytes]] = {
    "invalid UTF-8": ("application/json", b'{"a": "\xff"}'),
    "invalid UTF-8 in a form": (FORM, b"payload=%7B%22a%22%3A%22%FF%22%7D"),
    "deep nesting": ("application/json", b'{"a":' * 200_000),
    "deep nesting in a form": (FORM, b"payload=" + quote('{"a":' * 100_000).encode()),
    "a number of 5,000 digits": ("text/plain", b'{"a": ' + b"9" * 5000 + b"}"),
    "a form of 10,000 fields": (FORM, b"&".join(b"f%d=1" % at for at in range(10_000)) + b"&payload={}"),
    "a form with the field twice": (FORM, b"payload={}&payload={}"),
    "a form without the field": (FORM, b"other={}"),
    "an empty form": (FORM, b""),
    "a form with no JSON": (FORM, b"payload=hello"),
    "a form with a list": (FORM, b"payload=[]"),
    "a CloudEvent without data": ("application/cloudevents+json", b'{"id": "1"}'),
    "a CloudEvent with a text": ("application/cloudevents+json", b'{"data": "x"}'),
    "a CloudEvent in base64": ("application/cloudevents+json", b'{"data_base64": "e30="}'),
}


@pytest.mark.parametrize(("kind", "raw"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_body_is_refused(kind: str, raw: bytes) -> None:
    with pytest.raises(MappingError) as refused:
        opened(kind, raw)
    assert not isinstance(refused.value, WrongType)
    assert len(str(refused.value)) < 120


def test_of_a_name_that_comes_twice_the_last_value_counts() -> None:
    assert opened("application/json", b'{"a": 1, "a": 2}').body == {"a": 2}


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" * 400 + ".0"])
def test_a_number_out_of_range_is_refused_where_it_is_read(number: str) -> None:
    found = opened("application/json", TEXT.replace('"build": 7', f'"build": {number}').encode())
    with pytest.raises(MappingError, match=r"build: .*out of range"):
        mapping.map_delivery(HOOK, found, event="build")


INNER: dict[str, tuple[dict[str, str], Any, Any]] = {
    "SNS's Message": ({"field": "Message"}, {"Message": '{"a": 1}'}, {"Message": {"a": 1}}),
    "Pub/Sub's data": (
        {"field": "message.data", "encoding": "base64"},
        {"message": {"data": "eyJhIjogMX0="}},
        {"message": {"data": {"a": 1}}},
    ),
    "a text that is no JSON stays": ({"field": "Message"}, {"Message": "Hello"}, {"Message": "Hello"}),
    "a list stays": ({"field": "Message"}, {"Message": "[1]"}, {"Message": "[1]"}),
    "no base64 stays": ({"field": "m", "encoding": "base64"}, {"m": "e"}, {"m": "e"}),
    "deep nesting stays": ({"field": "m"}, {"m": "[" * 50_000}, {"m": "[" * 50_000}),
    "a lone surrogate stays": ({"field": "m"}, {"m": "\ud800"}, {"m": "\ud800"}),
    "no such field": ({"field": "message.data"}, {"message": 5}, {"message": 5}),
}


@pytest.mark.parametrize(("inner", "body", "wanted"), INNER.values(), ids=INNER.keys())
def test_json_in_a_text_is_read_in_its_place(inner: dict[str, str], body: Any, wanted: Any) -> None:
    hook = section(body={"accepts": ["text"], "inner": inner})
    assert opened("text/plain", json.dumps(body).encode(), hook=hook).body == wanted


# --- id and event ------------------------------------------------------------------------------------------


def sha256(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


NAMES: dict[str, tuple[dict[str, str], Any, str]] = {
    "a text": ({"expression": "body.id"}, "a-1", "a-1"),
    "a number": ({"expression": "body.id"}, 2**62, str(2**62)),
    "a URL, by its digest": ({"expression": "body.id"}, "https://ci/1", sha256("https://ci/1")),
    "two ids, by their digest": ({"expression": "body.id + ' ' + body.type"}, "1", sha256("1 build")),
    "the whole body, by its digest": ({"digest": "body"}, 1, sha256('{"type": "build", "id": 1}')),
}


@pytest.mark.parametrize(("source", "given_id", "wanted"), NAMES.values(), ids=NAMES.keys())
def test_a_delivery_is_known_by(source: dict[str, str], given_id: Any, wanted: str) -> None:
    raw = json.dumps({"type": "build", "id": given_id}).encode()
    found = mapping.identify(section(delivery=source), opened("application/json", raw))
    assert (found.id, found.event) == (wanted, "build")


def test_two_equal_bodies_without_an_id_are_one_delivery_and_another_is_another() -> None:
    hook = section(delivery={"digest": "body"})
    first, same, other = (
        mapping.identify(hook, opened("application/json", raw)).id
        for raw in (b'{"type": "build"}', b'{"type": "build"}', b'{"type":  "build"}')
    )
    assert first == same != other


def test_a_connector_whose_deliveries_are_of_one_kind_needs_no_name() -> None:
    data = {name: part for name, part in BUILDS.items() if name != "event"}
    hook = webhook.parse(data, Compiler("x"))
    assert mapping.identify(hook, opened("application/json", b'{"id": "1"}', hook=hook)).event == "build"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'the delivery\'s id: Key not found in map : "id"'),
        ({"id": None}, "the delivery's id must be a text or a number, and not empty"),
        ({"id": True}, "the delivery's id must be a text"),
        ({"id": ""}, "the delivery's id must be a text"),
        ({"id": "x" * 3000}, "the delivery's id must be a text"),
        ({"id": ["a"]}, "the delivery's id must be a text"),
        ({"id": "1", "type": "a\nb"}, "the event's name in the delivery must name the event"),
        ({"id": "1", "type": "x" * 101}, "the event's name in the delivery must name the event"),
        ({"id": "1"}, "the event's name: Key not found"),
    ],
)
def test_what_does_not_name_a_delivery_is_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(MappingError) as refused:
        mapping.identify(HOOK, opened("application/json", json.dumps(body).encode()))
    assert str(refused.value).startswith(message)


# --- lists -------------------------------------------------------------------------------------------------


def mapped(body: Any, hook: Webhook = HOOK) -> Any:
    return mapping.map_delivery(hook, Opened(body=body, headers={}), event="build")


def test_a_list_is_a_record_for_each_element_that_is_wanted() -> None:
    found = mapped(BUILD)
    assert [(kind, record.id, record.run, record.outcome) for kind, record in found] == [
        ("taskrun.finished", "1", "7", "success"),
        ("taskrun.finished", "3", "7", "failure"),
    ]


def test_a_list_of_which_nothing_is_wanted_is_ignored() -> None:
    assert mapped({**BUILD, "jobs": []}) == Ignored("this build says nothing that is kept")


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        (None, "build: each: must be a list, got null"),
        ({"a": 1}, "build: each: must be a list, got an object"),
        ([{"state": "none"}] * 1001, "build: each: has 1001 elements, at most 1000 are mapped"),
        ([{"state": "none", "x": list(range(1000))}] * 400, "build: each: is too much to be mapped"),
        ([{}], 'build: when: Key not found in map : "state"'),
        ([7], "build: "),
        ([{**BUILD["jobs"][0], "at": "now"}], "build: startedAt: 'now' is no time that is known here"),
        ([{**BUILD["jobs"][0], "id": 7}], "build: id: must be a text"),
    ],
)
def test_a_list_that_is_none_or_too_much_is_refused(jobs: Any, message: str) -> None:
    with pytest.raises(MappingError) as refused:
        mapped({**BUILD, "jobs": jobs})
    assert str(refused.value).startswith(message)


def test_a_body_that_is_read_for_each_element_costs_what_it_is() -> None:
    rule = {**BUILDS["events"][0], "when": "size(body.all) > 0"}
    hook = section(events=[rule])
    with pytest.raises(MappingError, match="is too much to be mapped"):
        mapped({**BUILD, "all": list(range(9000)), "jobs": BUILD["jobs"] * 100}, hook)


def test_the_list_itself_is_not_handed_to_each_element() -> None:
    (rule,) = HOOK.rules["build"]
    assert rule.reads == {"project": {}, "build": {}}
    assert HOOK.reads["build"] == {"jobs": {}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from([each for each, _ in SHAPES.values()]),
    raw=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()),
    prefix=st.sampled_from([b"", b"payload=", b'{"data":']),
)
def test_whatever_a_body_holds_only_known_answers_come_out(kind: str, raw: bytes, prefix: bytes) -> None:
    try:
        found = opened(kind, prefix + raw)
        mapping.map_delivery(HOOK, found, event=mapping.identify(HOOK, found).event)
    except MappingError:
        return


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_however_an_element_is_spoiled_only_known_answers_come_out(data: st.DataObject) -> None:
    body = copy.deepcopy(BUILD)
    at = data.draw(st.sampled_from([body, *body["jobs"]]))
    at[data.draw(st.sampled_from(sorted(at)))] = data.draw(JSON)
    try:
        found = mapped(body)
    except MappingError:
        return
    for _, record in [] if isinstance(found, Ignored) else found:
        assert events.parse_record(events.record_json(record), partial=True) == record


# --- SNS ---------------------------------------------------------------------------------------------------

ADDRESS = "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-central-1:1:ci&Token=2336"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"Type": "Notification"}, ""),
        ({"Type": "UnsubscribeConfirmation"}, "the topic's subscription was ended"),
        (
            {"Type": "SubscriptionConfirmation", "SubscribeURL": ADDRESS},
            f"confirm the subscription: open once {ADDRESS}",
        ),
        (
            {
                "Type": "SubscriptionConfirmation",
                "SubscribeURL": "https://evil.example/?Action=ConfirmSubscription&a",
            },
            "by an address that is not of SNS: leave it alone",
        ),
        (
            {"Type": "SubscriptionConfirmation", "SubscribeURL": ADDRESS + "0" * 500},
            "by an address too long to be shown",
        ),
        ({"Type": "SubscriptionConfirmation"}, "by an address that is not of SNS"),
    ],
)
def test_a_subscription_is_confirmed_by_a_person(message: dict[str, Any], told: str) -> None:
    assert told in confirmation(message)


def test_a_message_about_a_subscription_is_no_event() -> None:
    options = {"kind": "sns", "topicArn": "arn:x", "toleranceSeconds": 300}
    hook = dataclasses.replace(section(verify=options), body=Body(accepts=("text",)))
    found = opened(
        "text/plain",
        json.dumps({"Type": "SubscriptionConfirmation", "SubscribeURL": ADDRESS}).encode(),
        hook=hook,
    )
    said = mapping.map_delivery(hook, found, event="build")
    assert "open once https://sns.eu-central-1" in cast("Ignored", said).reason
