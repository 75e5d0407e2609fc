"""What the API server stored is read whole, and written as it was."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipewright.api.meta import Condition
from pipewright.api.v1alpha1 import KINDS, Integration, Model, Tenant, Workflow, WorkflowRun
from pipewright.api.v1alpha1.model import ModelStatus
from pipewright.api.v1alpha1.tenant import TenantSpec, TenantStatus
from pipewright.api.v1alpha1.workflow import Trigger

EXAMPLES = Path(__file__).parents[3] / "examples"
BY_KIND = {kind.kind: kind for kind in KINDS}


def manifests() -> Iterator[Any]:
    for path in sorted(EXAMPLES.glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield pytest.param(manifest, id=f"{path.name} {manifest['metadata']['name']}")


def contains(whole: object, part: object) -> bool:
    """Whether ``whole`` has everything of ``part``; an integer and its text are one quantity."""
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part or str(whole) == str(part)


@pytest.mark.parametrize("manifest", [*manifests()])
def test_an_example_is_written_as_it_was_read(manifest: dict[str, Any]) -> None:
    kind = BY_KIND[manifest["kind"]]
    written = kind.parse(manifest).dump()
    assert contains(written, manifest)
    assert kind.parse(written).dump() == written


class Body(Mapping[str, Any]):
    """A mapping that is no dict, as an event loop's library hands it over."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


STORED = {
    "apiVersion": "pipewright.dev/v1alpha1",
    "kind": "Tenant",
    "metadata": {
        "name": "acme",
        "uid": "u-1",
        "generation": 3,
        "resourceVersion": "77",
        "creationTimestamp": "2026-11-23T12:00:00Z",
        "finalizers": ["pipewright.dev/tenant"],
        "labels": None,
        "managedFields": [{"manager": "kubectl"}],
    },
    "spec": {"quota": {"pods": 5}, "fieldOfANewerVersion": True},
}


def test_any_mapping_is_read() -> None:
    tenant = Tenant.parse(Body(STORED))
    assert (tenant.name, tenant.namespace, tenant.uid, tenant.generation) == ("acme", "", "u-1", 3)
    assert tenant.metadata.creation_timestamp == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert tenant.metadata.labels == {}
    assert tenant.spec.quota == {"pods": "5"}


def test_an_object_is_being_deleted_once_somebody_asked_for_it() -> None:
    deleted = {**STORED, "metadata": {"name": "acme", "deletionTimestamp": "2026-11-23T12:00:00Z"}}
    assert not Tenant.parse(STORED).deleting
    assert Tenant.parse(deleted).deleting


def test_an_object_of_another_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"expected pipewright\.dev/v1alpha1 Model, found .* Tenant"):
        Model.parse(STORED)


def test_a_broken_spec_is_refused_with_its_place() -> None:
    with pytest.raises(ValidationError) as refused:
        Tenant.parse({**STORED, "spec": {"database": {"connectionLimit": 0}}})
    assert refused.value.errors()[0]["loc"] == ("spec", "database", "connectionLimit")


def test_a_tenant_without_a_spec_has_the_defaults() -> None:
    assert Tenant.parse({"metadata": {"name": "acme"}}).spec == TenantSpec()


def test_an_object_without_a_status_has_an_empty_one() -> None:
    assert Tenant.parse(STORED).status == TenantStatus()
    assert Tenant.parse({**STORED, "status": None}).status == TenantStatus()


def test_the_broken_part_of_a_status_is_dropped_and_the_rest_is_kept() -> None:
    old = {"id": 7, "vault": {"path": "tenants/x/user", "role": "x"}, "conditions": [{"type": "Ready"}]}
    status = Tenant.parse({**STORED, "status": old}).status
    assert status.id is None
    assert status.conditions == ()
    assert status.vault is not None
    assert status.vault.path == "tenants/x/user"


def test_a_status_that_is_no_object_is_dropped() -> None:
    assert (
        Model.parse({"metadata": {}, "spec": {"task": "RunFailure"}, "status": "Ready"}).status
        == ModelStatus()
    )


def test_a_status_is_written_without_what_is_absent() -> None:
    condition = Condition(
        type="Ready",
        status="True",
        reason="Ready",
        message="All is there.",
        last_transition_time=datetime(2026, 11, 23, 12, tzinfo=UTC),
        observed_generation=3,
    )
    assert TenantStatus(observed_generation=3, conditions=(condition,), id="abc").dump() == {
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Ready",
                "message": "All is there.",
                "lastTransitionTime": "2026-11-23T12:00:00Z",
                "observedGeneration": 3,
            }
        ],
        "id": "abc",
        "namespaces": [],
    }


def test_a_tenant_has_one_namespace_named_as_itself_unless_it_names_another() -> None:
    assert TenantSpec().namespace_names("acme") == ("acme",)
    other = TenantSpec.model_validate({"namespaces": [{"name": "acme-ci"}]})
    assert other.namespace_names("acme") == ("acme-ci",)


def test_words_that_python_keeps_for_itself_are_spelled_plainly_on_the_wire() -> None:
    trigger = Trigger(event="taskrun.finished", if_="event.outcome == 'failure'")
    assert trigger.dump() == {"event": "taskrun.finished", "if": "event.outcome == 'failure'"}


def test_a_duration_of_a_step_is_a_length_of_time() -> None:
    spec = {
        "triggers": [{"event": "taskrun.queued"}],
        "steps": [{"name": "a", "uses": "b/c", "timeout": "90s"}],
    }
    step = Workflow.parse({"metadata": {}, "spec": spec}).spec.steps[0]
    assert (step.timeout, step.retry.backoff) == (timedelta(seconds=90), timedelta(seconds=10))


@pytest.mark.parametrize("kind", [Integration, Model, Workflow, WorkflowRun], ids=lambda kind: kind.kind)
def test_an_object_that_needs_a_spec_is_refused_without(kind: type[Integration]) -> None:
    with pytest.raises(ValidationError):
        kind.parse({"metadata": {"name": "x"}})


@pytest.mark.parametrize("timeout", ["1s", "100s"])
def test_a_step_may_take_as_long_as_one_request(timeout: str) -> None:
    spec = {"triggers": [{"event": "taskrun.queued"}], "steps": [{"name": "a", "uses": "b/c"}]}
    spec["steps"][0]["timeout"] = timeout
    assert Workflow.parse({"metadata": {}, "spec": spec}).spec.steps[0].timeout <= timedelta(seconds=100)


def test_a_step_may_not_take_longer_than_one_look_at_its_run() -> None:
    spec = {
        "triggers": [{"event": "taskrun.queued"}],
        "steps": [{"name": "a", "uses": "b/c", "timeout": "101s"}],
    }
    with pytest.raises(ValidationError, match="between 1s and 100s"):
        Workflow.parse({"metadata": {}, "spec": spec})


UNREADABLE: dict[str, tuple[object, TenantSpec]] = {
    "a policy that is none is Retain": ({"deletionPolicy": "Shred"}, TenantSpec()),
    "what can be read stays": (
        {"deletionPolicy": "Delete", "podSecurity": "none"},
        TenantSpec(deletion_policy="Delete"),
    ),
    "a field goes as a whole": (
        {"deletionPolicy": "Delete", "database": {"connectionLimit": "many"}},
        TenantSpec(deletion_policy="Delete"),
    ),
    "what is no spec is an empty one": ("Shred", TenantSpec()),
    "and what can be read as it is, is": ({"displayName": "Acme"}, TenantSpec(display_name="Acme")),
}


@pytest.mark.parametrize("sentence", UNREADABLE)
def test_a_spec_for_a_teardown(sentence: str) -> None:
    spec, expected = UNREADABLE[sentence]
    manifest = {"metadata": {"name": "acme"}, "spec": spec}
    assert Tenant.parse_for_teardown(manifest).spec == expected


def test_what_has_no_default_is_refused_in_a_teardown_too() -> None:
    with pytest.raises(ValidationError, match=r"spec\.task"):
        Model.parse_for_teardown({"metadata": {"name": "m"}, "spec": {"task": 1, "serving": {"default": 1}}})
    with pytest.raises(ValidationError, match=r"metadata\.name"):
        Tenant.parse_for_teardown({"metadata": {"name": 1}, "spec": {}})


SCHEDULES = ["0 3 * * *", "*/15 * * * *", "0 0 1,15 * *", "5 0-6/2 * JAN MON-FRI", "59 23 31 12 7"]
NO_SCHEDULES = [
    "",
    "0 3 * *",
    "0 3 * * * *",
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * * 13 *",
    "* * * * 8",
]


def scheduled(schedule: str) -> Model:
    return Model.parse({"metadata": {}, "spec": {"task": "RunFailure", "training": {"schedule": schedule}}})


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_cron_schedule_is_taken(schedule: str) -> None:
    assert scheduled(schedule).spec.training.schedule == schedule


@pytest.mark.parametrize("schedule", NO_SCHEDULES)
def test_what_is_no_cron_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(ValidationError, match="five cron fields"):
        scheduled(schedule)
