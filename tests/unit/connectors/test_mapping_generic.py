"""The connectors for anything: a user's own mapping, its bounds, and CDEvents in both modes."""

import copy
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from connectors import catalogue, mapping, verify, webhook
from connectors.mapping import Ignored, MappingError, open_delivery
from connectors.mistakes import ConfigError
from connectors.webhook import Webhook
from pipewright import events

GENERIC, CDEVENTS = (catalogue.load()[name] for name in ("generic", "cdevents"))
SECTION: dict[str, Any] = yaml.safe_load("""
verify: {kind: hmac, header: X-Acme-Signature}
delivery: {header: X-Acme-Delivery}
event: {expression: body.kind}
lookup: {outcome: {ok: success, broken: failure}}
events:
  - name: build
    when: body.state in lookup.outcome
    record: run
    map:
      project: body.repository
      pipeline: "'build'"
      id: string(body.number)
      attempt: "1"
      phase: "'finished'"
      outcome: lookup.outcome[body.state]
      startedAt: body.from + 'Z'
      finishedAt: body.to + 'Z'
""")
BODY = {
    "kind": "build", "state": "broken", "repository": "acme/shop", "number": 7,
    "from": "2026-01-31 08:30:00", "to": "2026-01-31 08:31:00",
}  # fmt: skip


def spoiled(*path: str | int, to: Any) -> dict[str, Any]:
    section = copy.deepcopy(SECTION)
    at: Any = section
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = to
    return {"webhook": section}


def test_a_users_mapping_makes_records() -> None:
    hook = GENERIC.webhook_of(GENERIC.configure({"webhook": SECTION}))
    assert hook is not None
    headers = {"content-type": "application/json", "x-acme-delivery": "d-1"}
    opened = open_delivery(hook, headers=headers, raw=json.dumps(BODY).encode())
    assert mapping.identify(hook, opened) == mapping.Delivery("d-1", "build")
    found = mapping.map_delivery(hook, opened, event="build")
    assert not isinstance(found, Ignored)
    assert [(kind, events.record_json(record)["finishedAt"]) for kind, record in found] == [
        ("pipelinerun.finished", "2026-01-31T08:31:00Z")
    ]


def test_the_same_text_is_compiled_once() -> None:
    assert webhook.resolve(GENERIC.webhook, {"webhook": SECTION}) is webhook.resolve(
        GENERIC.webhook, {"webhook": dict(reversed(SECTION.items()))}
    )


def test_expressions_do_not_see_the_mapping_itself() -> None:
    assert GENERIC.plain({"webhook": SECTION, "a": 1}) == {"a": 1}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "webhook is required"),
    "no section": ({"webhook": "x"}, "webhook must be of type object"),
    "an unknown part": (
        spoiled("colour", to="red"),
        "webhook: Additional properties are not allowed ('colour'",
    ),
    "a proof that needs a key": (
        spoiled("verify", to={"kind": "oidc"}),
        "webhook.verify.kind: breaks enum ['hmac', 'hmac-timestamped', 'token']",
    ),
    "no proof": (spoiled("verify", to={"kind": "none"}), "webhook.verify.kind: breaks enum"),
    "a weak algorithm": (spoiled("verify", "algorithm", to="sha1"), "webhook.verify.algorithm: breaks const"),
    "a condition that does not compile": (
        spoiled("events", 0, "when", to="body.state =="),
        "webhook.events[0].when: line 1, column 14: ",
    ),
    "a condition that is no bool": (
        spoiled("events", 0, "when", to="body.state"),
        "webhook.events[0].when: line 1, column 1: must be true or false",
    ),
    "a name that nothing has": (
        spoiled("events", 0, "map", "id", to="payload.id"),
        "webhook.events[0].map.id: line 1, column 8: nothing is called 'payload.id' here",
    ),
    "too dear an expression": (
        spoiled("events", 0, "map", "id", to="body.a.map(x, body.b.map(y, x + y))[0]"),
        "webhook.events[0].map.id: line 1, column ",
    ),
    "too many rules": (spoiled("events", to=SECTION["events"] * 11), "webhook.events: breaks maxItems 10"),
    "too dear altogether": (
        spoiled(
            "events",
            to=[
                {
                    **SECTION["events"][0],
                    "each": "body.list",
                    "when": " && ".join(["item.x.matches('^[a-z]{1,100}$')"] * 8),
                }
            ],
        ),
        "webhook.events: may take ",
    ),
    "an expression of 2,001 characters": (
        spoiled("events", 0, "map", "id", to="'" + "x" * 1999 + "'"),
        "webhook.events[0].map.id: breaks maxLength 2000",
    ),
}


@pytest.mark.parametrize(("config", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_mapping_is_refused_with_its_place(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        GENERIC.configure(config)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("entries", [1001, 300_000])
def test_a_users_mapping_reads_less_of_a_body(entries: int) -> None:
    config = spoiled("events", 0, "map", "id", to="body.list[0]")
    hook = cast("Webhook", GENERIC.webhook_of(GENERIC.configure(config)))
    value = ["x"] * entries if entries < 2000 else ["x" * entries]
    opened = mapping.Opened(body={**BODY, "list": value}, headers={})
    with pytest.raises(MappingError, match=r"build: a value has (1001 entries|more than 256 KiB)"):
        mapping.map_delivery(hook, opened, event="build")


# --- CDEvents ----------------------------------------------------------------------------------------------

CD = cast("Webhook", CDEVENTS.webhook)
RUN = {"pipelineName": "release", "uri": "https://tekton.example/runs/7"}
JOB = {"taskName": "unit", "pipelineRun": {"id": "run-7"}}


def cdevent(kind: str, content: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {
        "context": {
            "specversion": "0.5.0",
            "id": "e-1",
            "source": "/tekton/ci",
            "type": f"dev.cdevents.{kind}.0.3.0",
            "timestamp": "2026-01-31T08:30:00Z",
        },
        "subject": {"id": "run-7" if kind.startswith("p") else "task-3", "type": "x", "content": content},
        **others,
    }


def attributes(event: dict[str, Any]) -> dict[str, str]:
    context = event["context"]
    return {"specversion": "1.0", **{name: context[name] for name in ("id", "source", "type")}}


def binary(event: dict[str, Any]) -> mapping.Opened:
    headers = {f"ce-{name}": value for name, value in attributes(event).items()}
    return open_delivery(
        CD, headers={"content-type": "application/json", **headers}, raw=json.dumps(event).encode()
    )


def structured(event: dict[str, Any]) -> mapping.Opened:
    raw = json.dumps({**attributes(event), "data": event}).encode()
    return open_delivery(CD, headers={"content-type": "application/cloudevents+json"}, raw=raw)


STORIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a run waits": (
        cdevent("pipelinerun.queued", RUN),
        {"phase": "queued", "pipeline": "release", "id": "run-7"},
    ),
    "a run begins": (
        cdevent("pipelinerun.started", RUN, customData={"branch": "main", "attempt": 2}),
        {"phase": "started", "branch": "main", "attempt": 2, "url": "https://tekton.example/runs/7"},
    ),
    "a run fails": (
        cdevent("pipelinerun.finished", {**RUN, "outcome": "failure"}),
        {"phase": "finished", "outcome": "failure", "finishedAt": "2026-01-31T08:30:00Z"},
    ),
    "a run ends as nobody knows": (
        cdevent("pipelinerun.finished", {**RUN, "outcome": "odd"}),
        {"phase": "finished", "outcome": "error"},
    ),
    "a run whose source knows when it began": (
        cdevent("pipelinerun.finished", {**RUN, "outcome": "success"}, customData={"startedAt": 1769848000}),
        {"outcome": "success", "startedAt": "2026-01-31T08:26:40Z"},
    ),
    "a job begins": (cdevent("taskrun.started", JOB), {"phase": "started", "run": "run-7", "name": "unit"}),
    "a job is cancelled": (
        cdevent("taskrun.finished", {**JOB, "outcome": "cancel"}, customData={"project": "acme/other"}),
        {"phase": "finished", "outcome": "cancel", "project": "acme/other"},
    ),
}


@pytest.mark.parametrize("mode", [binary, structured])
@pytest.mark.parametrize(("event", "said"), STORIES.values(), ids=STORIES.keys())
def test_a_cdevent_is_a_record_in_both_modes(event: dict[str, Any], said: dict[str, Any], mode: Any) -> None:
    opened, config = mode(event), CDEVENTS.configure({"project": "acme/shop"})
    named = mapping.identify(CD, opened, config)
    assert named.id.startswith("sha256:")
    found = mapping.map_delivery(CD, opened, event=named.event, config=config)
    assert not isinstance(found, Ignored)
    ((_, record),) = found
    shown = {"project": "acme/shop", "startedAt": None} | events.record_json(record)
    assert {name: shown[name] for name in said} == said


def test_both_modes_are_the_same_delivery_and_another_source_is_another() -> None:
    event = cdevent("pipelinerun.started", RUN)
    other = copy.deepcopy(event)
    other["context"]["source"] = "/tekton/cd"
    first, same, different = (
        mapping.identify(CD, opened).id for opened in (binary(event), structured(event), binary(other))
    )
    assert first == same != different


@pytest.mark.parametrize(
    "kind", ["dev.tekton.event.pipelinerun.started.v1", "dev.cdevents.build.started.0.2.0", "x"]
)
def test_other_events_are_ignored(kind: str) -> None:
    event = cdevent("pipelinerun.started", RUN)
    event["context"]["type"] = kind
    named = mapping.identify(CD, binary(event))
    assert isinstance(mapping.map_delivery(CD, binary(event), event=named.event), Ignored)


def test_an_event_without_a_project_says_what_is_missing() -> None:
    event = binary(cdevent("pipelinerun.started", RUN))
    with pytest.raises(MappingError, match=r"pipelinerun\.started: project: .*project"):
        mapping.map_delivery(CD, event, event="pipelinerun.started", config={})


def test_an_end_leaves_the_start_to_the_event_that_told_it() -> None:
    found = mapping.map_delivery(
        CD, binary(STORIES["a run fails"][0]), event="pipelinerun.finished", config={"project": "acme/shop"}
    )
    assert not isinstance(found, Ignored)
    assert found[0][1].started_at is None


def test_a_cdevent_is_proved_by_a_signature_or_a_token() -> None:
    assert CD.verify.proofs == {"x-signature-256", "authorization"}
    assert isinstance(CD.verify, verify.OneOf)


def test_the_example_of_the_documentation_is_right() -> None:
    page = (Path(__file__).parents[3] / "docs" / "integration.md").read_text()
    (example,) = [part for part in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "generic" in part]
    spec = yaml.safe_load(example)["spec"]
    assert spec["connector"] == "generic"
    hook = GENERIC.webhook_of(GENERIC.configure(spec["config"]))
    assert hook is not None
    build = {"id": 7, "started": "2026-01-31 08:30:00", "finished": "2026-01-31 08:31:00"}
    job = {
        "id": 1,
        "name": "unit",
        "state": "passed",
        "started_ms": 1769848200000,
        "finished_ms": 1769848230000,
    }
    body = {
        "kind": "build", "state": "failed", "repository": "acme/shop", "pipeline": "ci", "branch": "main",
        "commit": "b3fa", "build": build, "jobs": [job, {"state": "waits"}],
    }  # fmt: skip
    opened = mapping.Opened(body=body, headers={})
    assert mapping.identify(hook, opened) == mapping.Delivery("7-failed", "build")
    found = mapping.map_delivery(hook, opened, event="build")
    assert not isinstance(found, Ignored)
    assert [kind for kind, _ in found] == ["pipelinerun.finished", "taskrun.finished"]
