"""GitLab: golden samples of pipelines and jobs, each real payload that we have, and spoiled bodies."""

import copy
import csv
import json
from importlib import resources
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import catalogue, mapping
from connectors.actions import perform
from connectors.calls import Account
from connectors.mapping import Delivery, Ignored, MappingError, Opened
from connectors.mistakes import ConfigError
from connectors.outbound import Answer
from connectors.verify.shared_token import SharedToken
from connectors.webhook import Webhook
from dev import places
from pipewright import errors, events
from pipewright.events import JobRecord, RunRecord
from pipewright.ports import Secret

GITLAB = catalogue.load()["gitlab"]
WEBHOOK = cast("Webhook", GITLAB.webhook)
FIXTURES = sorted(Path(str(resources.files("connectors"))).glob("catalogue/fixtures/gitlab/*.json"))
PAYLOADS = places.SHARED_DATA / "webhook-payloads"
HOOKS = {"pipeline": "Pipeline Hook", "build": "Job Hook"}
"""What the header says, by the body's object_kind."""
QUIET = {
    "created",
    "preparing",
    "waiting_for_resource",
    "waiting_for_callback",
    "scheduled",
    "manual",
    "canceling",
}
"""Statuses that are neither queued, started nor finished."""


def mapped(event: str, body: Any) -> list[Any] | Ignored:
    return mapping.map_delivery(WEBHOOK, Opened(body=body, headers={}), event=event)


def load(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


SAMPLES = {file.stem: load(file) for file in FIXTURES}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_golden_sample_gives_its_records(name: str) -> None:
    sample = SAMPLES[name]
    found = mapped(sample["event"], mapping.parse_body(json.dumps(sample["body"]).encode()))
    records = [] if isinstance(found, Ignored) else found
    assert [
        {"event": event_type, "record": events.record_json(record)} for event_type, record in records
    ] == sample["records"]


def test_there_is_a_golden_sample_for_each_phase_and_outcome_and_for_what_is_ignored() -> None:
    records = [record for sample in SAMPLES.values() for record in sample["records"]]
    of_runs = {found for found in events.TYPES if not found.startswith("artifact.")}
    assert {record["event"] for record in records} == of_runs | {"commit", "deployment"}
    assert {record["record"].get("outcome", "") for record in records} == {"", *events.OUTCOMES}
    assert [name for name in SAMPLES if not SAMPLES[name]["records"]] == [
        "job-created",
        "pipeline-manual",
        "push",
    ]


# --- real payloads -----------------------------------------------------------------------------------------


def hooks() -> list[Path]:
    """Every stored delivery about a pipeline or a job."""
    return [
        file for file in sorted(PAYLOADS.glob("**/gitlab/*.json")) if load(file).get("object_kind") in HOOKS
    ]


@pytest.fixture(params=hooks() or [None], ids=lambda file: file.name if file else "none")
def real(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param is None:
        pytest.skip(f"no real payloads at {PAYLOADS}")
    return load(request.param)


def as_status(body: dict[str, Any], status: str) -> dict[str, Any]:
    """The delivery that GitLab would have sent at another status, with a time where it then has one."""
    body = copy.deepcopy(body)
    if body["object_kind"] == "pipeline":
        body["object_attributes"]["status"] = status
    else:
        body["build_status"] = status
        body["build_started_at"] = "2021-02-23 02:41:37 UTC"
    return body


@pytest.mark.parametrize(
    "status", ["", "pending", "running", "success", "failed", "canceled", "skipped", "manual"]
)
def test_a_real_payload_is_mapped_or_ignored(real: dict[str, Any], status: str) -> None:
    body = as_status(real, status) if status else real
    found = mapped(HOOKS[body["object_kind"]], mapping.parse_body(json.dumps(body).encode()))
    said = body["object_attributes"] if body["object_kind"] == "pipeline" else body
    has_run = body["object_kind"] == "pipeline" or "pipeline_id" in body  # GitLab of old had no run's id
    if (said.get("status") or said.get("build_status")) in QUIET or not has_run:
        assert isinstance(found, Ignored)
        return
    assert isinstance(found, list)
    ((_, record),) = found
    assert record.project == "gitlab-org/gitlab-test"
    assert (record.sha, record.branch, record.attempt) == (said["sha"], said["ref"], 1)
    if isinstance(record, RunRecord):
        assert (record.id, record.pipeline) == (str(said["id"]), "gitlab-ci")
        assert (record.trigger, record.actor) == (said["source"], body["user"]["username"])
        assert record.url == said["url"]
    if isinstance(record, JobRecord):
        assert (record.run, record.id) == (str(body["pipeline_id"]), str(body["build_id"]))
        assert (record.name, record.runner) == (body["build_name"], body["runner"]["description"])


def test_the_real_payloads_are_all_there() -> None:
    if not PAYLOADS.is_dir():
        pytest.skip(f"no real payloads at {PAYLOADS}")
    assert [file.name for file in hooks()] == ["build-event.json", "job-event.json", "pipeline-event.json"]


@pytest.mark.parametrize("table", ["_raw_gitlab_api_pipeline", "_raw_gitlab_api_job"])
def test_each_status_that_gitlab_has_is_known(table: str) -> None:
    file = PAYLOADS / "devlake-raw-api" / "gitlab" / f"{table}.csv"
    if not file.is_file():
        pytest.skip(f"no real answers at {file}")
    csv.field_size_limit(2**20)
    with file.open(newline="") as rows:
        found = {json.loads(row["data"])["status"] for row in csv.DictReader(rows)}
    assert found <= QUIET | set(WEBHOOK.lookup["phase"])
    assert "failed" in found


# --- headers, bodies that are not what they must be, actions -----------------------------------------------


def test_a_delivery_is_known_by_its_idempotency_key() -> None:
    headers = {
        "x-gitlab-event": "Pipeline Hook",
        "x-gitlab-event-uuid": "13792a34-cac6-4fda-95a8-c58e00a3954e",
        "idempotency-key": "f5e57ebb-9d0d-4e31-8b79-0bb4cb5a1d3c",
    }
    opened = Opened(body={}, headers=headers)
    assert mapping.identify(WEBHOOK, opened) == Delivery(headers["idempotency-key"], "Pipeline Hook")
    del headers["idempotency-key"]
    with pytest.raises(MappingError, match="idempotency-key must hold"):
        mapping.identify(WEBHOOK, opened)


def test_a_delivery_is_proved_by_gitlabs_token() -> None:
    assert WEBHOOK.verify == SharedToken(header="x-gitlab-token")


@pytest.mark.parametrize(
    ("name", "path", "to", "message"),
    [
        ("pipeline-failed", ("object_attributes", "status"), None, "Pipeline Hook: "),
        ("pipeline-failed", ("object_attributes", "created_at"), "now", "Pipeline Hook: queuedAt: "),
        ("pipeline-failed", ("object_attributes", "created_at"), 5, "Pipeline Hook: queuedAt: 5 is"),
        ("pipeline-failed", ("object_attributes", "queued_duration"), "x", "Pipeline Hook: startedAt: "),
        (
            "pipeline-failed",
            ("object_attributes", "finished_at"),
            "12:00",
            "Pipeline Hook: finishedAt: '12:00' is no time",
        ),
        ("pipeline-failed", ("object_attributes", "url"), "javascript:x", "Pipeline Hook: url: must begin"),
        ("pipeline-failed", ("project",), None, "Pipeline Hook: project: "),
        ("job-failed", ("build_id",), [], "Job Hook: id: "),
        ("job-failed", ("build_name",), None, "Job Hook: name: is required"),
        ("job-failed", ("runner", "tags"), "linux", "Job Hook: labels: must be a list"),
        ("job-failed", ("ref",), 5, "Job Hook: branch: "),
    ],
)
def test_a_spoiled_body_is_an_error_that_names_the_field(
    name: str, path: tuple[str, ...], to: Any, message: str
) -> None:
    body = copy.deepcopy(SAMPLES[name]["body"])
    at = body
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = to
    with pytest.raises(MappingError) as refused:
        mapped(SAMPLES[name]["event"], body)
    assert str(refused.value).startswith(message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SAMPLES)))
def test_however_a_body_is_spoiled_only_known_answers_come_out(data: st.DataObject, name: str) -> None:
    body = copy.deepcopy(SAMPLES[name]["body"])
    for _ in range(data.draw(st.integers(1, 3))):
        at = body
        key = data.draw(st.sampled_from(sorted(at)))
        while isinstance(at[key], dict) and at[key] and data.draw(st.booleans()):
            at = at[key]
            key = data.draw(st.sampled_from(sorted(at)))
        at[key] = data.draw(JSON)
    try:
        found = mapped(SAMPLES[name]["event"], body)
    except MappingError:
        return
    if not isinstance(found, Ignored):
        for event_type, record in found:
            assert event_type == record.type
            assert events.parse_record(events.record_json(record), partial=True) == record


class Asked:
    """A client that notes what it is asked, and gives one answer."""

    def __init__(self, status: int, body: Any) -> None:
        self.answer = Answer(status=status, headers={}, body=json.dumps(body).encode(), complete=True)
        self.asked: list[tuple[str, str, str | None]] = []

    async def request(self, method: str, url: str, *, headers: Any, **_: Any) -> Answer:
        self.asked.append((method, url, headers["Authorization"]))
        return self.answer


ACCOUNT = Account(config={}, credentials={"token": Secret("glpat-x")})
RUN = {"project": "acme/web/shop", "run": "31"}


@pytest.mark.parametrize(
    ("action", "inputs", "path"),
    [
        ("retry-pipeline", RUN, "pipelines/31/retry"),
        ("cancel-pipeline", RUN, "pipelines/31/cancel"),
        ("retry-job", {"project": "acme/web/shop", "job": "7"}, "jobs/7/retry"),
    ],
)
async def test_an_action_is_one_request(action: str, inputs: dict[str, str], path: str) -> None:
    client = Asked(201, {"id": 32, "status": "pending", "web_url": "https://gitlab.com/x"})
    found = await perform(GITLAB, action, inputs=inputs, account=ACCOUNT, client=cast("Any", client))
    assert found == {"id": "32", "status": "pending", "url": "https://gitlab.com/x"}
    address = f"https://gitlab.com/api/v4/projects/acme%2Fweb%2Fshop/{path}"
    assert client.asked == [("POST", address, "Bearer glpat-x")]


@pytest.mark.parametrize(
    ("words", "told"), [({"message": "404 Not found"}, "404 Not found"), ({"error": "x y"}, "x y")]
)
async def test_gitlabs_own_words_are_told(words: dict[str, str], told: str) -> None:
    with pytest.raises(errors.Stalled, match=told):
        await perform(
            GITLAB, "retry-pipeline", inputs=RUN, account=ACCOUNT, client=cast("Any", Asked(404, words))
        )


@pytest.mark.parametrize(
    "project", ["acme", "/acme/shop", "acme/../shop", "acme//shop", "acme/shop/", "a/b?c", "-/b"]
)
def test_what_is_no_project_is_refused(project: str) -> None:
    with pytest.raises(ConfigError, match="project must match"):
        GITLAB.actions["retry-pipeline"].parse({"project": project, "run": "31"})
