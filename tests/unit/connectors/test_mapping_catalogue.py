"""The golden samples of every connector: what each delivery is mapped to, and spoiled bodies."""

import copy
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import catalogue, mapping
from connectors.mapping import Ignored, MappingError, Opened
from connectors.webhook import Webhook
from pipewright import events

OF_THEIR_OWN = {"github", "gitlab"}
"""Connectors whose mapping has a file of tests, with real payloads."""
FOLDER = Path(str(resources.files("connectors"))) / "catalogue" / "fixtures"
SAMPLES: dict[str, dict[str, Any]] = {
    f"{file.parent.name}/{file.stem}": json.loads(file.read_text())
    for file in sorted(FOLDER.glob("*/*.json"))
    if file.parent.name not in OF_THEIR_OWN
}
SPEC_ONLY = sorted(name for name, found in catalogue.load().items() if found.maturity == "spec-only")


class Sample:
    """One delivery, with the connector that it is for."""

    def __init__(self, name: str) -> None:
        self.data = SAMPLES[name]
        manifest = catalogue.load()[name.partition("/")[0]]
        self.config = manifest.configure(self.data.get("config", {}))
        hook = manifest.webhook_of(self.config)
        assert hook is not None
        self.hook: Webhook = hook

    def opened(self, body: Any) -> Opened:
        return Opened(
            body=mapping.parse_body(json.dumps(body).encode()), headers=self.data.get("headers", {})
        )

    def mapped(self, body: Any) -> list[Any] | Ignored:
        return mapping.map_delivery(
            self.hook, self.opened(body), event=self.data["event"], config=self.config
        )


@pytest.mark.parametrize("name", SAMPLES)
def test_a_golden_sample_gives_its_records(name: str) -> None:
    sample = Sample(name)
    found = sample.mapped(sample.data["body"])
    records = [] if isinstance(found, Ignored) else found
    assert [
        {"event": event_type, "record": events.record_json(record)} for event_type, record in records
    ] == sample.data["records"]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_golden_sample_is_of_its_event(name: str) -> None:
    sample = Sample(name)
    told = mapping.identify(sample.hook, sample.opened(sample.data["body"]), sample.config)
    assert told.event == sample.data["event"]


@pytest.mark.parametrize("name", SPEC_ONLY)
def test_there_are_golden_samples_for_what_a_connector_can_say(name: str) -> None:
    records = [
        record
        for key, sample in SAMPLES.items()
        if key.startswith(f"{name}/")
        for record in sample["records"]
    ]
    assert {record["event"] for record in records} >= {"pipelinerun.finished"}
    assert {record["record"]["outcome"] for record in records} >= {"success", "failure", "cancel", "error"}
    assert any(not sample["records"] for key, sample in SAMPLES.items() if key.startswith(f"{name}/"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SAMPLES)))
def test_however_a_body_is_spoiled_only_known_answers_come_out(data: st.DataObject, name: str) -> None:
    sample = Sample(name)
    body = copy.deepcopy(sample.data["body"])
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = body
        key: Any = data.draw(st.sampled_from(sorted(at)))
        while isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
            at = at[key]
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        at[key] = data.draw(JSON)
    try:
        mapping.identify(sample.hook, sample.opened(body), sample.config)
        found = sample.mapped(body)
    except MappingError:
        return
    if not isinstance(found, Ignored):
        for event_type, record in found:
            assert event_type == record.type
            assert events.parse_record(events.record_json(record), partial=True) == record
