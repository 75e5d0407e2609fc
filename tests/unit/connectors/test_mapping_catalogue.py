"""Every connector of the catalogue: golden samples of its deliveries, and bodies spoiled in any way."""

import copy
import json
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import catalogue, mapping
from connectors.code import Code
from connectors.kit import lint, samples, subjects, trials
from connectors.mapping import Ignored, MappingError, Opened
from connectors.webhook import Webhook
from pipewright import events

CATALOGUE = Path(str(resources.files("connectors"))) / "catalogue"
SAMPLES: dict[str, dict[str, Any]] = {
    f"{file.parent.name}/{file.stem}": json.loads(file.read_text())
    for file in sorted(CATALOGUE.glob("fixtures/*/*.json"))
}


def opened(name: str, body: Any) -> tuple[Webhook, Opened, dict[str, Any]]:
    """A delivery of this sample's connector, as it is seen after it was verified."""
    sample, manifest = SAMPLES[name], catalogue.load()[name.partition("/")[0]]
    config = dict(manifest.configure(sample.get("config", {})))
    webhook = manifest.webhook_of(config)
    assert webhook is not None
    kind, raw = "application/json", json.dumps(body)
    if "json" not in webhook.body.accepts:
        kind, raw = "application/x-www-form-urlencoded", urlencode({webhook.body.field: raw})
    headers = {"content-type": kind, **sample.get("headers", {})}
    return webhook, mapping.open_delivery(webhook, headers=headers, raw=raw.encode()), config


READ = {name: samples.read([CATALOGUE / "fixtures" / name]) for name in catalogue.load()}


@pytest.mark.parametrize("name", READ)
def test_each_sample_is_what_a_sample_must_be(name: str) -> None:
    assert READ[name][1] == []


@pytest.mark.parametrize("name", [name for name, (found, _) in READ.items() if found])
async def test_a_connector_does_what_its_samples_say(name: str) -> None:
    """Just as authors outside of this repository test theirs."""
    results = await trials.run(catalogue.load()[name], Code(), READ[name][0])
    assert [result for result in results if result.outcome == "failed"] == []
    assert {result.sample for result in results} == {
        sample.file.name if sample.kind == "delivery" else f"{sample.file.parent.name}/{sample.file.name}"
        for sample in READ[name][0]
    }


@pytest.mark.parametrize("name", READ)
def test_nothing_is_wrong_with_a_connector_that_we_ship(name: str) -> None:
    (subject,) = subjects.find(str(CATALOGUE / f"{name}.yaml"))
    assert [finding.text() for finding in lint.lint(subject) if finding.severity == "error"] == []


def test_each_connector_of_the_catalogue_with_rules_of_its_own_has_samples() -> None:
    with_rules = {name for name, made in catalogue.load().items() if isinstance(made.webhook, Webhook)}
    sampled = {name.partition("/")[0] for name in SAMPLES}
    assert with_rules <= sampled
    for name in sampled:
        webhook = catalogue.load()[name].webhook
        assert isinstance(webhook, Webhook)
        mapped = {
            SAMPLES[key]["event"] for key in SAMPLES if key.startswith(f"{name}/") and SAMPLES[key]["records"]
        }
        assert mapped == set(webhook.rules), name


def leaves(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list) and value:
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], *path, key)
    else:
        yield path


ONE_OF_EACH = {
    (name.partition("/")[0], sample["event"]): name for name, sample in SAMPLES.items() if sample["records"]
}


@pytest.mark.parametrize("name", ONE_OF_EACH.values())
def test_why_a_body_is_not_understood_is_told_without_its_values(name: str) -> None:
    reasons = set()
    for path in leaves(SAMPLES[name]["body"]):
        body = copy.deepcopy(SAMPLES[name]["body"])
        at: Any = body
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = "canary\N{BLACK SQUARE}"
        try:
            webhook, delivery, config = opened(name, body)
            mapping.map_delivery(webhook, delivery, event=SAMPLES[name]["event"], config=config)
        except MappingError as error:
            reasons.add(error.plain)
    assert reasons
    assert [reason for reason in reasons if "canary" in reason] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=int(os.environ.get("EXAMPLES", "500")), deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SAMPLES)))
def test_however_a_body_is_spoiled_only_known_answers_come_out(data: st.DataObject, name: str) -> None:
    body = copy.deepcopy(SAMPLES[name]["body"])
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = body
        key: Any = data.draw(st.sampled_from(sorted(at)))
        while isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
            at = at[key]
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        at[key] = data.draw(JSON)
    try:
        webhook, delivery, config = opened(name, body)
        found = mapping.map_delivery(webhook, delivery, event=SAMPLES[name]["event"], config=config)
        mapping.identify(webhook, delivery, config)
    except MappingError:
        return
    if not isinstance(found, Ignored):
        for event_type, record in found:
            assert event_type == record.type
            assert events.parse_record(events.record_json(record), partial=True) == record
