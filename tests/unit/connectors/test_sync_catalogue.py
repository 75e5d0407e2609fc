"""The histories of the connectors that we ship: golden answers, and real ones where they are there."""

import asyncio
import copy
import csv
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import catalogue, sync
from connectors.calls import Account, Calls
from connectors.outbound import Answer, Outbound
from dev import places
from pipewright import errors, events
from pipewright.events import JobRecord, Record, RunRecord
from pipewright.ports import Secret

FIXTURES = sorted(Path(str(resources.files("connectors"))).glob("catalogue/fixtures/*/sync/*.json"))
SAMPLES = {f"{file.parts[-3]}/{file.stem}": json.loads(file.read_text()) for file in FIXTURES}
RAW = places.SHARED_DATA / "webhook-payloads" / "devlake-raw-api"
SINCE = datetime(2026, 1, 5, tzinfo=UTC)


class Read:
    """A history as it was read: its records, and what was not understood."""

    def __init__(self, batches: Sequence[sync.Batch]) -> None:
        self.records: list[Record] = [record for batch in batches for record in batch.records]
        self.refused = [problem for batch in batches for problem in batch.refused]

    @property
    def runs(self) -> list[RunRecord]:
        return [record for record in self.records if isinstance(record, RunRecord)]

    @property
    def jobs(self) -> list[JobRecord]:
        return [record for record in self.records if isinstance(record, JobRecord)]


async def read(
    name: str, project: str, *, provider: Any, client: Outbound, clock: Any, config: Mapping[str, Any] = {}
) -> Read:
    manifest = catalogue.load()[name]
    assert manifest.sync is not None
    assert manifest.http is not None
    account = Account(
        config={**config, "baseUrl": provider.url},
        credentials={field: Secret(f"canary-{field}") for field in manifest.http.auths[0].fields},
    )
    session = Calls(manifest, account, client=client, clock=clock)
    until = SINCE + timedelta(days=1)
    return Read(
        [
            batch
            async for batch in sync.history(
                session,
                manifest.sync,
                project=project,
                since=SINCE,
                until=until,
                budget=sync.Budget(pages=400),
            )
        ]
    )


def test_each_connector_with_a_sync_has_golden_answers() -> None:
    with_sync = {name for name, manifest in catalogue.load().items() if manifest.sync is not None}
    assert {name.partition("/")[0] for name in SAMPLES} == with_sync


@pytest.mark.parametrize(
    ("name", "path", "asked"),
    [
        (
            "github",
            "/repos/acme/shop/actions/runs",
            {
                "created": "2026-01-05T00:00:00Z..2026-01-06T00:00:00Z",
                "status": "completed",
                "exclude_pull_requests": "true",
                "per_page": "100",
            },
        ),
        (
            "gitlab",
            "/api/v4/projects/acme%2Fshop/pipelines",
            {
                "updated_after": "2026-01-05T00:00:00Z",
                "updated_before": "2026-01-06T00:00:00Z",
                "scope": "finished",
                "order_by": "updated_at",
                "sort": "asc",
                "per_page": "100",
            },
        ),
    ],
)
async def test_a_provider_is_asked_for_a_slice_of_time(
    provider: Any, client: Outbound, clock: Any, name: str, path: str, asked: dict[str, str]
) -> None:
    provider.on(path, {"total_count": 0, "workflow_runs": []} if name == "github" else [])
    assert (await read(name, "acme/shop", provider=provider, client=client, clock=clock)).records == []
    (seen,) = provider.seen
    assert {key: values[0] for key, values in parse_qs(urlsplit(seen.path).query).items()} == asked
    assert seen.headers["Authorization"] == "Bearer canary-token"


# --- real answers -------------------------------------------------------------------------------------


def raw(table: str) -> list[dict[str, Any]]:
    """The answers of a table of DevLake's dumps."""
    file = RAW / f"{table}.csv"
    if not file.is_file():
        pytest.skip(f"no real answers at {file}")
    csv.field_size_limit(2**22)
    with file.open(newline="") as rows:
        return [json.loads(row["data"]) for row in csv.DictReader(rows)]


async def test_real_runs_and_jobs_of_github(provider: Any, client: Outbound, clock: Any) -> None:
    runs, jobs = raw("github/_raw_github_api_runs"), raw("github/_raw_github_api_jobs")
    base = "/repos/panjf2000/ants/actions/runs"
    provider.on(base, {"total_count": len(runs), "workflow_runs": runs})
    for number, run in enumerate(runs):
        provider.on(f"{base}/{run['id']}/jobs", {"jobs": jobs if number == 0 else []})
        if run["run_attempt"] > 1:  # earlier attempts are not in the dump
            provider.on(f"{base}/{run['id']}/attempts/{run['run_attempt'] - 1}", {"status": "unknown"})
    found = await read("github", "panjf2000/ants", provider=provider, client=client, clock=clock)
    assert found.refused == []
    finished = [run for run in runs if run["status"] == "completed"]
    assert [(run.id, run.sha, run.branch, run.number) for run in found.runs] == [
        (str(run["id"]), run["head_sha"], run["head_branch"], run["run_number"]) for run in finished
    ]
    assert [run.pipeline for run in found.runs] == [
        run["path"].removeprefix(".github/workflows/").rpartition(".")[0] for run in finished
    ]
    done = [job for job in jobs if job["status"] == "completed"]
    assert [(job.id, job.run, job.name) for job in found.jobs] == [
        (str(job["id"]), str(job["run_id"]), job["name"]) for job in done
    ]
    known = {"success": "success", "failure": "failure", "cancelled": "cancel", "skipped": "skip"}
    for record, source in zip([*found.runs, *found.jobs], [*finished, *done], strict=True):
        # some rows of the dump were altered by hand to conclusions that GitHub does not have
        assert record.outcome == known.get(source["conclusion"], "error")


async def test_real_pipelines_and_jobs_of_gitlab(provider: Any, client: Outbound, clock: Any) -> None:
    details, jobs = raw("gitlab/_raw_gitlab_api_pipeline_details"), raw("gitlab/_raw_gitlab_api_job")
    base = "/api/v4/projects/merico%2Fshop/pipelines"
    provider.on(base, details)
    for number, pipeline in enumerate(details):
        provider.on(f"{base}/{pipeline['id']}", pipeline)
        provider.on(f"{base}/{pipeline['id']}/jobs", jobs if number == 0 else [])
    found = await read("gitlab", "merico/shop", provider=provider, client=client, clock=clock)
    assert found.refused == []
    known = {"success": "success", "failed": "failure", "canceled": "cancel", "skipped": "skip"}
    finished = [pipeline for pipeline in details if pipeline["status"] in known]
    assert [(run.id, run.sha, run.outcome, run.actor) for run in found.runs] == [
        (str(each["id"]), each["sha"], known[each["status"]], each["user"]["username"]) for each in finished
    ]
    assert all(not run.branch.startswith("refs/") for run in found.runs)
    done = [job for job in jobs if job["status"] in known]
    assert [(job.id, job.run, job.name) for job in found.jobs] == [
        (str(job["id"]), str(job["pipeline"]["id"]), job["name"]) for job in done
    ]
    assert {job.outcome for job in found.jobs} <= {*known.values(), "error"}


# --- answers that are not what they must be -----------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Canned:
    """A client that answers from a table of JSON, and counts."""

    url = "https://ci.example"

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers
        self.asked = 0

    async def request(self, _method: str, url: str, **_: Any) -> Answer:
        self.asked += 1
        body = json.dumps(self._answers.get(urlsplit(url).path, {})).encode()
        return Answer(status=200, headers={}, body=body, complete=True)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SAMPLES)))
def test_however_an_answer_is_spoiled_only_known_answers_come_out(data: st.DataObject, name: str) -> None:
    answers = copy.deepcopy(SAMPLES[name]["answers"])
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = answers
        key: Any = data.draw(st.sampled_from(sorted(at)))
        while isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
            at = at[key]
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        at[key] = data.draw(JSON)
    client = Canned(answers)
    known: list[Record] = []
    try:
        found = asyncio.run(
            read(
                name.partition("/")[0],
                SAMPLES[name]["project"],
                provider=Canned,
                client=cast("Any", client),
                clock=None,
                config=SAMPLES[name].get("config", {}),
            )
        )
        known = found.records
    except errors.Stalled:
        pass
    for record in known:
        assert events.parse_record(events.record_json(record)) == record
    assert client.asked < 500


async def test_who_calls_every_slice_too_full_is_asked_within_the_budget() -> None:
    manifest = catalogue.load()["github"]
    assert manifest.sync is not None
    client = Canned({"/repos/acme/shop/actions/runs": {"total_count": 1001, "workflow_runs": []}})
    account = Account(config={"baseUrl": Canned.url}, credentials={"token": Secret("canary")})
    session = Calls(manifest, account, client=cast("Any", client), clock=cast("Any", None))
    until = SINCE + timedelta(days=1)
    batches = [
        batch
        async for batch in sync.history(
            session,
            manifest.sync,
            project="acme/shop",
            since=SINCE,
            until=until,
            budget=sync.Budget(pages=5),
        )
    ]
    assert client.asked == 5
    assert batches[-1].cursor is not None
    assert batches[-1].cursor.until == SINCE + timedelta(days=1) / 32
