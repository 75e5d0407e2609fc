"""Records and events: what is taken, what is refused in which words, and that JSON comes back the same."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipewright import events
from pipewright.events import (
    ArtifactRecord,
    ArtifactRef,
    DurationForecast,
    Event,
    FailureCause,
    JobRecord,
    JobRef,
    Prediction,
    RecordError,
    Retry,
    RunRecord,
    RunRef,
    Scan,
)  # fmt: skip
from pipewright.records import TestRecord

RUN: dict[str, Any] = {
    "type": "run",
    "project": "acme/shop",
    "pipeline": "ci",
    "id": "8810002",
    "attempt": 1,
    "number": 412,
    "trigger": "push",
    "branch": "main",
    "sha": "5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665",
    "actor": "ada",
    "phase": "finished",
    "outcome": "failure",
    "queuedAt": "2026-05-04T09:00:00Z",
    "startedAt": "2026-05-04T09:00:07Z",
    "finishedAt": "2026-05-04T09:06:31Z",
    "url": "https://github.com/acme/shop/actions/runs/8810002",
}
JOB: dict[str, Any] = {
    "type": "job",
    "project": "acme/shop",
    "run": "8810002",
    "attempt": 1,
    "id": "77",
    "name": "test (3.11)",
    "outcome": "failure",
    "runner": "GitHub Actions 14",
    "labels": ["ubuntu-latest"],
    "queuedAt": "2026-05-04T09:00:02Z",
    "startedAt": "2026-05-04T09:00:11Z",
    "finishedAt": "2026-05-04T09:06:20Z",
}


ARTIFACT: dict[str, Any] = {
    "type": "artifact",
    "event": "scanned",
    "project": "acme/shop",
    "repository": "acme/shop",
    "tag": "v1",
    "digest": "sha256:" + "a" * 64,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "actor": "ada",
    "at": "2026-05-04T09:06:20Z",
    "outcome": "success",
    "critical": 2,
    "high": 1,
    "medium": 0,
    "low": 0,
    "unknown": 3,
    "url": "https://harbor.example.com/acme/shop",
}


def without(record: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in fields}


REFUSED: dict[str, tuple[Any, str]] = {
    "a list is no record": ([], "record: must be a JSON object, got a list"),
    "a record has a type": (without(RUN, "type"), "type: must be one of run, job, artifact"),
    "a type is a text": ({**RUN, "type": ["run"]}, "type: must be one of run, job, artifact"),
    "an unknown field is refused": ({**RUN, "colour": 1}, "'colour': is not a field of a run record"),
    "a run has a pipeline": (without(RUN, "pipeline"), "pipeline: is required"),
    "a required text is not empty": ({**RUN, "project": " "}, "project: must not be empty"),
    "null is no project": ({**RUN, "project": None}, "project: is required"),
    "an id is a text": ({**RUN, "id": 8810002}, "id: must be a text, got a number"),
    "a long text is refused": (
        {**RUN, "branch": "b" * 256},
        "branch: must have at most 255 characters, has 256",
    ),
    "NUL is refused": ({**RUN, "branch": "a\0b"}, "branch: must not contain control characters"),
    "a lone surrogate is refused": ({**RUN, "actor": "\ud800"}, "actor: must not contain control characters"),
    "an address is one of the web": ({**RUN, "url": "javascript:alert(1)"}, "url: must begin with https://"),
    "an attempt is at least 1": ({**RUN, "attempt": 0}, "attempt: must be between 1 and 10000"),
    "true is no attempt": ({**RUN, "attempt": True}, "attempt: must be a whole number, got a boolean"),
    "a fraction is no number": ({**RUN, "number": 1.5}, "number: must be a whole number, got a number"),
    "an outcome is one of five": (
        {**RUN, "outcome": "red"},
        "outcome: must be one of success, failure, cancel",
    ),
    "a phase is one of three": ({**RUN, "phase": "done"}, "phase: must be one of queued, started, finished"),
    "a time has an offset": (
        {**RUN, "startedAt": "2026-05-04T09:00:00"},
        "startedAt: must be an RFC 3339 time",
    ),
    "a time exists": ({**RUN, "startedAt": "2026-02-30T09:00:00Z"}, "startedAt: is no real time"),
    "a time is of our days": ({**RUN, "startedAt": "0001-01-01T00:00:00Z"}, "startedAt: must lie between"),
    "a time is no number": ({**RUN, "startedAt": 1}, "startedAt: must be an RFC 3339 time"),
    "a finished run has an outcome": (without(RUN, "outcome"), "outcome: is required of a finished run"),
    "a finished run was started": (without(RUN, "startedAt"), "startedAt: is required of a finished run"),
    "a started run has no outcome": ({**RUN, "phase": "started"}, "outcome: only a finished run has it"),
    "a queued job has a time": (
        without(JOB, "queuedAt", "startedAt", "finishedAt", "outcome"),
        "queuedAt: is required of a queued job",
    ),
    "a job belongs to a run": (without(JOB, "run"), "run: is required"),
    "labels are a list": ({**JOB, "labels": "x"}, "labels: must be a list of texts, got a text"),
    "a label is a text": ({**JOB, "labels": ["a", 1]}, "labels[1]: must be a text, got a number"),
    "labels are bounded": ({**JOB, "labels": ["a"] * 51}, "labels: must have at most 50 entries, has 51"),
    "a run has no runner": ({**RUN, "runner": "x"}, "'runner': is not a field of a run record"),
}


@pytest.mark.parametrize(("record", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(record: Any, message: str) -> None:
    with pytest.raises(RecordError) as refused:
        events.parse_record(record)
    assert str(refused.value).startswith(message)


def test_a_whole_run_is_read() -> None:
    assert events.parse_record(RUN) == RunRecord(
        project="acme/shop",
        pipeline="ci",
        id="8810002",
        attempt=1,
        number=412,
        trigger="push",
        branch="main",
        sha="5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665",
        actor="ada",
        phase="finished",
        outcome="failure",
        queued_at=datetime(2026, 5, 4, 9, 0, 0, tzinfo=UTC),
        started_at=datetime(2026, 5, 4, 9, 0, 7, tzinfo=UTC),
        finished_at=datetime(2026, 5, 4, 9, 6, 31, tzinfo=UTC),
        url="https://github.com/acme/shop/actions/runs/8810002",
    )


@pytest.mark.parametrize(
    ("record", "phase"),
    [
        (without(RUN, "phase"), "finished"),
        (without(RUN, "phase", "outcome", "finishedAt"), "started"),
        (without(RUN, "phase", "outcome", "finishedAt", "startedAt"), "queued"),
        ({**without(RUN, "phase", "finishedAt", "startedAt"), "outcome": ""}, "queued"),
    ],
)
def test_a_phase_that_is_left_out_follows_from_the_times(record: dict[str, Any], phase: str) -> None:
    assert events.parse_record(record).phase == phase


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-04T11:00:07+02:00",
        "2026-05-04t09:00:07z",
        "2026-05-04T09:00:07.000000Z",
        "2026-05-04T09:00:07.000000000Z",
        "2026-05-03T23:00:07-10:00",
    ],
)
def test_every_offset_becomes_utc(text: str) -> None:
    assert events.parse_record({**RUN, "startedAt": text}).started_at == datetime(
        2026, 5, 4, 9, 0, 7, tzinfo=UTC
    )


@pytest.mark.parametrize("record", [RUN, JOB], ids=["run", "job"])
def test_a_record_survives_json(record: dict[str, Any]) -> None:
    parsed = events.parse_record(record)
    assert events.parse_record(events.record_json(parsed)) == parsed


NOW = datetime(2026, 5, 4, 8, 0, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({**RUN, "queuedAt": "2199-01-01T00:00:00Z"}, "queuedAt"),
        ({**RUN, "startedAt": "2026-05-04T09:00:08Z", "finishedAt": "2026-05-04T08:00:00Z"}, "startedAt"),
        ({**RUN, "finishedAt": "2026-05-04T09:00:08Z"}, "finishedAt"),
        ({**JOB, "queuedAt": None, "startedAt": "2026-05-04T08:00:00Z"}, "finishedAt"),
    ],
)
def test_what_has_not_happened_yet_is_refused(record: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError, match=f"{field}: lies in the future: it is 2026-05-04T08:00:07Z here"):
        events.not_from_the_future(events.parse_record(record), now=NOW)


def test_a_clock_may_be_an_hour_ahead() -> None:
    record = {**RUN, "startedAt": "2026-05-04T09:00:07Z", "finishedAt": "2026-05-04T09:00:07Z"}
    events.not_from_the_future(events.parse_record(record), now=NOW)
    queued = {**without(RUN, "outcome", "startedAt", "finishedAt"), "phase": "queued"}
    events.not_from_the_future(events.parse_record(queued), now=NOW)


TEST: dict[str, Any] = {
    "type": "test",
    "project": "acme/shop",
    "run": "71",
    "job": "2100",
    "suite": "unit",
    "name": "pays",
    "outcome": "failure",
    "finishedAt": "2026-03-01T12:00:00Z",
}


def test_a_test_without_an_id_is_known_by_what_tells_it_apart() -> None:
    made = events.parse_record(TEST)
    assert made == events.parse_record({**TEST, "outcome": "failure", "attempt": 1})
    assert isinstance(made, TestRecord)
    assert len(made.id) == 32
    others = [{"attempt": 2}, {"run": "72"}, {"job": "2101"}, {"suite": "e2e"}, {"name": "adds"}]
    ids = {events.parse_record({**TEST, **change}).id for change in others}
    assert len(ids | {made.id}) == len(others) + 1
    # what stands next to each other is not taken for one another
    assert made.id != events.parse_record({**TEST, "suite": "unitp", "name": "ays"}).id
    assert events.parse_record({**TEST, "id": "2100/7"}).id == "2100/7"


def test_a_test_of_no_run_needs_an_id() -> None:
    with pytest.raises(RecordError, match="id: is required of a test that tells no run"):
        events.parse_record({**TEST, "run": ""})


def test_times_out_of_order_are_the_providers_affair() -> None:
    record = events.parse_record({**RUN, "finishedAt": "2026-05-04T09:00:06Z"})
    assert record.finished_at is not None
    assert record.started_at is not None
    assert record.finished_at < record.started_at


def run_record() -> RunRecord:
    record = events.parse_record(RUN)
    assert isinstance(record, RunRecord)
    return record


def job_record() -> JobRecord:
    record = events.parse_record(JOB)
    assert isinstance(record, JobRecord)
    return record


def test_a_runs_event_has_the_surrogate_and_never_the_login() -> None:
    event = events.run_event(run_record(), id="d-1", integration="github", actor="p_19")
    assert (event.type, event.actor, event.job) == ("pipelinerun.finished", "p_19", None)
    assert event.run == RunRef(
        id="8810002", number=412, attempt=1, url="https://github.com/acme/shop/actions/runs/8810002"
    )
    assert "ada" not in str(events.encode(event))


def test_a_jobs_event_takes_from_its_run_what_the_job_does_not_tell() -> None:
    event = events.job_event(job_record(), id="d-2", integration="github", run=run_record())
    assert (event.pipeline, event.branch, event.trigger, event.run.number) == ("ci", "main", "push", 412)
    assert event.job == JobRef(
        id="77", name="test (3.11)", runner="GitHub Actions 14", labels=("ubuntu-latest",)
    )


def test_a_job_may_come_before_its_run() -> None:
    event = events.job_event(job_record(), id="d-2", integration="github")
    assert (event.type, event.pipeline, event.run.id) == ("taskrun.finished", "", "8810002")


def test_an_artifact_survives_json_and_knows_its_type() -> None:
    record = events.parse_record(ARTIFACT)
    assert record.type == "artifact.scanned"
    assert events.record_json(record) == ARTIFACT
    pushed = {"type": "artifact", "event": "published", "project": "p/q", "repository": "q", "tag": "v1"}
    assert events.parse_record(pushed).type == "artifact.published"


NO_ARTIFACTS: dict[str, tuple[dict[str, Any], str]] = {
    "neither tag nor digest": ({"tag": "", "digest": ""}, "digest: an artifact has a tag, a digest or both"),
    "a digest that is none": ({"digest": "latest"}, "digest: must be a digest such as sha256:"),
    "a change that there is not": ({"event": "pulled"}, "event: must be one of published, deleted, scanned"),
    "no change": ({"event": None}, "event: is required"),
    "no repository": ({"repository": " "}, "repository: must not be empty"),
    "a tag that is too long": ({"tag": "v" * 129}, "tag: must have at most 128 characters"),
    "a scan without an outcome": ({"outcome": ""}, "outcome: is required of a scan"),
    "a push with an outcome": ({"event": "published"}, "outcome: only a scan has it"),
    "a deletion with counts": ({"event": "deleted", "outcome": ""}, "critical: only a scan has it"),
    "fewer than none": ({"low": -1}, "low: must be between 0 and"),
    "a count that is a text": ({"high": "1"}, "high: must be a whole number"),
    "a time that is none": ({"at": "soon"}, "at: must be an RFC 3339 time"),
    "a field of a run": ({"phase": "finished"}, "'phase': is not a field of an artifact record"),
}


@pytest.mark.parametrize(("change", "message"), NO_ARTIFACTS.values(), ids=NO_ARTIFACTS.keys())
def test_what_is_no_artifact_is_refused_with_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError) as refused:
        events.parse_record({**ARTIFACT, **change})
    assert str(refused.value).startswith(message)


def test_an_artifact_is_not_from_the_future() -> None:
    record = events.parse_record(ARTIFACT)
    events.not_from_the_future(record, now=datetime(2026, 5, 4, 9, 0, tzinfo=UTC))
    with pytest.raises(RecordError, match="at: lies in the future"):
        events.not_from_the_future(record, now=datetime(2026, 5, 4, 7, 0, tzinfo=UTC))


def test_an_artifacts_event_has_what_it_tells_and_no_run() -> None:
    received = datetime(2026, 5, 4, 9, 7, tzinfo=UTC)
    told: dict[str, Any] = {"id": "d-1", "integration": "harbor", "received_at": received, "actor": "p_19"}
    record = events.parse_record(ARTIFACT)
    assert isinstance(record, ArtifactRecord)
    event = events.artifact_event(record, **told)
    assert (event.type, event.run, event.job, event.actor) == ("artifact.scanned", None, None, "p_19")
    assert event.scan == Scan(critical=2, high=1, medium=0, low=0, unknown=3)
    assert event.artifact is not None
    assert event.artifact.at == datetime(2026, 5, 4, 9, 6, 20, tzinfo=UTC)
    assert events.event_from_json(events.encode(event)) == event
    counts = dict.fromkeys(("critical", "high", "unknown"), 0)
    pushed = events.parse_record(without(ARTIFACT, "at") | {"event": "published", "outcome": "", **counts})
    assert isinstance(pushed, ArtifactRecord)
    event = events.artifact_event(pushed, **told)
    assert event.scan is None
    assert event.artifact is not None
    assert event.artifact.at == received


OF_RUNS = {"pipeline", "branch", "sha", "trigger", "run", "job", "queued_at", "started_at", "finished_at"}


@pytest.mark.parametrize(
    ("event_type", "missing"),
    [
        ("pipelinerun.queued", {"started_at", "finished_at", "outcome", "job", "artifact", "scan"}),
        ("pipelinerun.started", {"finished_at", "outcome", "job", "artifact", "scan"}),
        ("pipelinerun.finished", {"job", "artifact", "scan"}),
        ("taskrun.queued", {"started_at", "finished_at", "outcome", "artifact", "scan"}),
        ("taskrun.finished", {"artifact", "scan"}),
        ("artifact.published", {*OF_RUNS, "outcome", "scan"}),
        ("artifact.deleted", {*OF_RUNS, "outcome", "scan"}),
        ("artifact.scanned", OF_RUNS),
    ],
)
def test_a_type_of_event_lacks_what_has_not_happened(event_type: events.EventType, missing: set[str]) -> None:
    assert events.lacks(event_type) == missing


TEXTS = st.text(
    alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=40
)
TIMES = st.none() | st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis wants them naive and adds the zone
    max_value=datetime(2199, 12, 31),  # noqa: DTZ001 - as above
    timezones=st.just(UTC),
)
EVENTS = st.builds(
    Event,
    type=st.sampled_from(events.TYPES),
    outcome=st.sampled_from(["", *events.OUTCOMES]),
    run=st.none()
    | st.builds(RunRef, id=TEXTS, number=st.integers(0, 2**53), attempt=st.integers(1, 99), url=TEXTS),
    job=st.none()
    | st.builds(JobRef, id=TEXTS, name=TEXTS, runner=TEXTS, labels=st.lists(TEXTS, max_size=3).map(tuple)),
    artifact=st.none()
    | st.builds(
        ArtifactRef,
        at=TIMES.filter(bool),
        **dict.fromkeys(("repository", "tag", "digest", "media_type", "url"), TEXTS),
    ),
    scan=st.none()
    | st.builds(
        Scan, **dict.fromkeys(("critical", "high", "medium", "low", "unknown"), st.integers(0, 2**53))
    ),
    **dict.fromkeys(("id", "integration", "project", "pipeline", "branch", "sha", "trigger", "actor"), TEXTS),
    **dict.fromkeys(("queued_at", "started_at", "finished_at"), TIMES),
)


@given(event=EVENTS)
def test_every_event_survives_json(event: Event) -> None:
    assert events.event_from_json(events.encode(event)) == event


PREDICTION = Prediction(
    probability=0.31,
    band="medium",
    reasons=("the last run failed",),
    model="a1b2",
    retry=Retry(probability=0.9, band="high"),
)


LASTS = DurationForecast(p50=60.0, p90=90.0, p95=120.5, reasons=("the last of them took 61 s",), model="c3d4")


@pytest.mark.parametrize(
    "prediction",
    [
        PREDICTION,
        Prediction(probability=1.0, band="unsure", reasons=(), model="a1b2"),
        Prediction(duration=LASTS),
        Prediction(cause=FailureCause(kind="code", owner="author", transient=0.1, model="d4e5")),
        replace(PREDICTION, duration=LASTS),
    ],
)
def test_a_prediction_survives_json(prediction: Prediction) -> None:
    assert events.prediction_from_json(events.encode(prediction)) == prediction


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no number": ({"probability": "0.3"}, "prediction.probability: must be a float, got a text"),
    "not a number": ({"probability": float("nan")}, "prediction.probability: must be a float, got a number"),
    "no band": (
        {"band": "purple"},
        "prediction.band: must be one of low, medium, high, unsure, got 'purple'",
    ),
    "reasons that are no list": ({"reasons": "x"}, "prediction.reasons: must be a list of texts, got a text"),
    "a retry that is no object": ({"retry": 1}, "prediction.retry: must be a JSON object, got a number"),
    "a retry without a band": ({"retry": {"probability": 1}}, "prediction.retry.band: must be one of"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_prediction_names_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError) as refused:
        events.prediction_from_json({**events.encode(PREDICTION), **change})
    assert str(refused.value).startswith(message)
