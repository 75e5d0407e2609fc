"""Mapping: our golden samples, every real payload that we have, and bodies that somebody spoiled."""

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import catalogue, mapping
from connectors.mapping import Delivery, Ignored, MappingError, Opened
from connectors.webhook import Webhook
from dev import places
from pipewright import events
from pipewright.events import JobRecord, RunRecord

WEBHOOK = cast("Webhook", catalogue.load()["github"].webhook)
FIXTURES = sorted(Path(str(resources.files("connectors"))).glob("catalogue/fixtures/github/*.json"))
PAYLOADS = places.SHARED_DATA / "webhook-payloads"
REAL = sorted(
    [
        *PAYLOADS.glob("github-octokit/*/*.json"),
        *PAYLOADS.glob("go-playground/github/*.json"),
    ]
)


def mapped(event: str, body: Any) -> list[Any] | Ignored:
    return mapping.map_delivery(WEBHOOK, Opened(body=body, headers={}), event=event)


def load(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("file", FIXTURES, ids=lambda file: file.stem)
def test_a_golden_sample_gives_its_records(file: Path) -> None:
    sample = load(file)
    found = mapped(sample["event"], mapping.parse_body(json.dumps(sample["body"]).encode()))
    records = [] if isinstance(found, Ignored) else found
    assert [
        {"event": event_type, "record": events.record_json(record)} for event_type, record in records
    ] == [{"event": wanted["event"], "record": wanted["record"]} for wanted in sample["records"]]


def test_there_is_a_golden_sample_for_each_phase_and_for_what_is_ignored() -> None:
    seen = {record["event"] for file in FIXTURES for record in load(file)["records"]}
    of_runs = {found for found in events.TYPES if not found.startswith("artifact.")}
    assert seen == of_runs | {"step", "commit", "deployment"}
    assert [file.stem for file in FIXTURES if not load(file)["records"]] == [
        "deployment-inactive",
        "job-waiting",
        "ping",
        "push-of-a-tag",
    ]


@pytest.fixture(params=REAL or [None], ids=lambda file: f"{file.parent.name}/{file.name}" if file else "none")
def real(request: pytest.FixtureRequest) -> Path:
    if request.param is None:
        pytest.skip(f"no real payloads at {PAYLOADS}")
    file: Path = request.param
    return file


def test_a_real_payload_is_mapped_or_ignored(real: Path) -> None:
    name = real.parent.name if "octokit" in str(real) else real.stem
    body = mapping.parse_body(real.read_bytes())
    found = mapped(name, body)
    if name in ("push", "pull_request", "deployment_status"):
        said_more(name, body, [] if isinstance(found, Ignored) else [record for _, record in found])
        return
    kept = {
        "workflow_run": {"requested", "in_progress", "completed"},
        "workflow_job": {"queued", "in_progress", "completed"},
    }.get(name, set())
    if body.get("action") not in kept:
        assert isinstance(found, Ignored)
        return
    assert isinstance(found, list)
    (_, record), said = found[0], body[name]
    assert record.project == body["repository"]["full_name"]
    assert (record.id, record.sha, record.branch) == (str(said["id"]), said["head_sha"], said["head_branch"])
    if isinstance(record, RunRecord):
        assert record.pipeline == "test"
        assert record.actor == body["sender"]["login"]
    if isinstance(record, JobRecord):
        assert record.run == str(said["run_id"])
        assert record.labels == tuple(said["labels"])
    if body["action"] == "completed":
        assert record.outcome == said["conclusion"]
        steps = [(step.number, step.name, step.job) for _, step in found[1:]]
        told = [step for step in said.get("steps", []) if step["completed_at"] is not None]
        assert steps == [(step["number"], step["name"], str(said["id"])) for step in told]


def said_more(name: str, body: dict[str, Any], records: list[Any]) -> None:
    """What is kept of deliveries about commits and deployments."""
    if name == "push":
        commits = body["commits"] if body["ref"].startswith("refs/heads/") else []
        assert [(it.sha, it.actor) for it in records] == [
            (commit["id"], commit["author"].get("username", "")) for commit in commits
        ]
    elif name == "pull_request":
        assert records == []  # none of them is merged
    else:
        (record,) = records
        state = body["deployment_status"]["state"]
        assert (record.id, record.sha) == (str(body["deployment"]["id"]), body["deployment"]["sha"])
        assert record.outcome == (state if record.phase == "finished" else "")


@pytest.mark.parametrize("path", ["github-octokit", "go-playground/github"])
def test_the_real_payloads_are_all_there(path: str) -> None:
    if not PAYLOADS.is_dir():
        pytest.skip(f"no real payloads at {PAYLOADS}")
    names = {file.parent.name if "octokit" in path else file.stem for file in REAL if path in str(file)}
    assert {"workflow_run", "workflow_job"} <= names


# --- headers and bodies that are not what they must be -----------------------------------------------------


def test_a_delivery_is_known_by_its_headers() -> None:
    headers = {"x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958", "x-github-event": "workflow_run"}
    assert mapping.identify(WEBHOOK, Opened(body={}, headers=headers)) == Delivery(
        "72d3162e-cc78-11e3-81ab-4c9367dc0958", "workflow_run"
    )


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "x-github-delivery must hold"),
        ({"x-github-delivery": "a/../b", "x-github-event": "ping"}, "x-github-delivery must hold"),
        ({"x-github-delivery": "a" * 129, "x-github-event": "ping"}, "x-github-delivery must hold"),
        ({"x-github-delivery": "a"}, "x-github-event must name"),
        ({"x-github-delivery": "a", "x-github-event": "ping\n"}, "x-github-event must name"),
    ],
)
def test_headers_that_are_no_identifiers_are_refused(headers: dict[str, str], message: str) -> None:
    with pytest.raises(MappingError, match=message):
        mapping.identify(WEBHOOK, Opened(body={}, headers=headers))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b'"x"', b"{", b'{"a": NaN}', b'{"a": Infinity}', b"\xff\xfe", b"{" * 100_000,
        b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'\xef\xbb\xbf{"a": 1}',
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(MappingError, match="must be a JSON object in UTF-8"):
        mapping.parse_body(raw)


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": "\\ud800"}', {"a": "\ud800"}),
        (b'{"a": 18446744073709551615}', {"a": 2**64 - 1}),
        (b'{"a": 18446744073709551616}', {"a": 2.0**64}),
        (b'{"a": "\\u0000\xc3\xa4"}', {"a": "\x00\u00e4"}),
        (b'\n{"a": 1e400}\t', {"a": float("inf")}),
    ],
)
def test_a_body_that_few_send_says_what_it_says(raw: bytes, body: dict[str, Any]) -> None:
    assert mapping.parse_body(raw) == body


SAMPLES = {file.stem: load(file) for file in FIXTURES}
FAILED: dict[str, Any] = SAMPLES["run-failed"]["body"]


def spoiled(*path: str, to: Any) -> dict[str, Any]:
    body = copy.deepcopy(FAILED)
    at = body
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = to
    return body


BAD: dict[str, tuple[Any, str]] = {
    "no run at all": ({"action": "completed"}, 'workflow_run: project: Key not found in map : "repository"'),
    "a run that is null": (spoiled("workflow_run", to=None), "workflow_run: pipeline: a value is absent"),
    "a run that is a list": (spoiled("workflow_run", to=[1]), "workflow_run: pipeline: "),
    "no action": ({}, 'workflow_run: when: Key not found in map : "action"'),
    "a sha that is a number": (
        spoiled("workflow_run", "head_sha", to=5),
        "workflow_run: sha: must be a text",
    ),
    "an attempt that is a text": (
        spoiled("workflow_run", "run_attempt", to="1"),
        "workflow_run: queuedAt: No matching overloads found",
    ),
    "an attempt without end": (
        spoiled("workflow_run", "run_attempt", to=10**30),
        "workflow_run: attempt: must be",
    ),
    "a time that is none": (
        spoiled("workflow_run", "updated_at", to="now"),
        "workflow_run: finishedAt: 'now' is no time",
    ),
    "an address that is a script": (
        spoiled("workflow_run", "html_url", to="javascript:x"),
        "workflow_run: url: must",
    ),
    "a giant branch": (
        spoiled("workflow_run", "head_branch", to="x" * 10_000),
        "workflow_run: branch: must have",
    ),
    "an actor that is a text": (
        spoiled("workflow_run", "triggering_actor", to="ada"),
        "workflow_run: actor: a value",
    ),
    "a project that is empty": (
        spoiled("repository", "full_name", to=""),
        "workflow_run: project: must not be empty",
    ),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD.keys())
def test_a_spoiled_body_is_an_error_that_names_the_field(body: Any, message: str) -> None:
    with pytest.raises(MappingError) as refused:
        mapped("workflow_run", body)
    assert str(refused.value).startswith(message)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, below in value.items():
            yield from paths(below, (*path, key))
    elif isinstance(value, list):
        for at, below in enumerate(value):
            yield from paths(below, (*path, at))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SAMPLES)))
def test_however_a_body_is_spoiled_only_known_answers_come_out(data: st.DataObject, name: str) -> None:
    sample = SAMPLES[name]
    body = copy.deepcopy(sample["body"])
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(paths(body), key=str)))
        at = body
        for part in path[:-1]:
            at = at[part]
        if data.draw(st.booleans()):
            at[path[-1]] = data.draw(JSON)
        else:
            del at[path[-1]]
        if not body:
            break
    try:
        found = mapped(sample["event"], body)
    except MappingError:
        return
    if not isinstance(found, Ignored):
        for event_type, record in found:
            assert event_type == record.type
            assert events.parse_record(events.record_json(record), partial=True) == record


@settings(max_examples=100, deadline=None)
@given(body=JSON, event=st.sampled_from(["workflow_run", "workflow_job", "push", "", "x\n"]))
def test_any_json_at_all_is_survived(body: Any, event: str) -> None:
    try:
        mapped(event, body)
    except MappingError:
        return


def test_equal_bodies_count_once_in_so_many_minutes_by_the_clock() -> None:
    quay = catalogue.load()["quay"].webhook
    assert isinstance(quay, Webhook)
    raw = b'{"repository": "acme/shop", "updated_tags": ["latest"]}'
    opened = mapping.open_delivery(quay, headers={"content-type": "application/json"}, raw=raw)

    def name(moment: datetime) -> str:
        return mapping.identify(quay, opened, received_at=moment).id

    ten = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
    assert name(ten) == name(ten + timedelta(minutes=9, seconds=59))
    assert len({name(ten), name(ten - timedelta(seconds=1)), name(ten + timedelta(minutes=10))}) == 3
    assert name(ten).startswith(f"sha256:{opened.digest}:")
    assert mapping.identify(quay, opened).id == f"sha256:{opened.digest}"
