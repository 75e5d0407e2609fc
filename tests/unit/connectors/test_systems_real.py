"""Azure Pipelines, Bitbucket, CircleCI and Jenkins: all real deliveries and answers that we have."""

import copy
import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import quote, urlsplit

import pytest

from connectors import catalogue, mapping, sync
from connectors.calls import Account, Calls
from connectors.mapping import Delivery, Ignored
from connectors.outbound import Answer
from connectors.webhook import Webhook
from dev import places
from pipewright.events import JobRecord, Record, RunRecord
from pipewright.ports import Secret

PAYLOADS = places.SHARED_DATA / "webhook-payloads"


def delivery(path: str) -> dict[str, Any]:
    file = PAYLOADS / "go-playground" / path
    if not file.is_file():
        pytest.skip(f"no real payload at {file}")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def mapped(name: str, event: str, body: Any, **config: Any) -> list[Record] | Ignored:
    manifest = catalogue.load()[name]
    webhook = cast("Webhook", manifest.webhook)
    settings = dict(manifest.configure(config))
    headers = {"content-type": "application/json", "x-event-key": event, "x-request-uuid": "r-1"}
    opened = mapping.open_delivery(webhook, headers=headers, raw=json.dumps(body).encode())
    assert mapping.identify(webhook, opened, settings) == Delivery(body.get("id", "r-1"), event)
    found = mapping.map_delivery(webhook, opened, event=event, config=settings)
    return found if isinstance(found, Ignored) else [record for _, record in found]


# --- deliveries --------------------------------------------------------------------------------------------


def test_a_real_build_of_azure() -> None:
    body = delivery("azuredevops/build.complete.json")
    assert mapped("azure-pipelines", "build.complete", body, organization="fabrikam-fiber-inc") == [
        RunRecord(
            project="fabrikam-fiber-inc/be9b3917-87e6-42a4-a549-2bc06a7a878f",
            pipeline="ConsumerAddressModule",
            id="2",
            attempt=1,
            number=2,
            trigger="manual",
            branch="master",
            sha="600c52d2d5b655caa111abfd863e5a9bd304bb0e",
            actor="user@example.com",
            phase="finished",
            outcome="success",
            started_at=datetime(2015, 4, 7, 18, 4, 6, 830000, tzinfo=UTC),
            finished_at=datetime(2015, 4, 7, 18, 6, 10, 690000, tzinfo=UTC),
        )
    ]


def test_a_real_push_of_azure_is_not_used() -> None:
    body = delivery("azuredevops/git.push.json")
    assert isinstance(mapped("azure-pipelines", "git.push", body, organization="x"), Ignored)


@pytest.mark.parametrize(
    ("event", "phase", "outcome"),
    [("created", "started", ""), ("updated", "finished", "success")],
)
def test_a_real_build_status_of_bitbucket(event: str, phase: Any, outcome: Any) -> None:
    body = delivery(f"bitbucket/repo-commit-status-{event}.json")
    name = f"repo:commit_status_{event}"
    # it is that of a build tool, and not of Pipelines
    assert isinstance(mapped("bitbucket", name, body), Ignored)
    url = "https://bitbucket.org/team_name/repo_name/addon/pipelines/home#!/results/792"
    body["commit_status"]["url"] = url
    ended = datetime(2015, 11, 20, 8, 1, 16, 433108, tzinfo=UTC) if outcome else None
    assert mapped("bitbucket", name, body) == [
        RunRecord(
            project="team_name/repo_name",
            pipeline="bitbucket-pipelines",
            id="team_name/repo_name#792",
            attempt=1,
            number=792,
            sha="9fec847784abb10b2fa567ee63b85bd238955d0e",
            actor="emmap1",
            phase=phase,
            outcome=outcome,
            started_at=datetime(2015, 11, 19, 20, 37, 35, 547563, tzinfo=UTC),
            finished_at=ended,
            url=url,
        )
    ]


# --- histories ---------------------------------------------------------------------------------------------


def rows(table: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The answers of a table of DevLake's dumps, each with what it was asked for."""
    file = PAYLOADS / "devlake-raw-api" / f"{table}.csv"
    if not file.is_file():
        pytest.skip(f"no real answers at {file}")
    csv.field_size_limit(2**22)
    with file.open(newline="") as lines:
        return [(json.loads(row["data"]), json.loads(row["input"]) or {}) for row in csv.DictReader(lines)]


class Canned:
    """A client that answers from a table of JSON, and with nothing where there is none."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers

    async def request(self, _method: str, url: str, **_: Any) -> Answer:
        path = urlsplit(url).path
        body = json.dumps(self._answers.get(path, {})).encode()
        # the dumps have no tests
        status = 404 if {"tests", "test"} & set(path.split("/")) else 200
        return Answer(status=status, headers={}, body=body, complete=True)


async def history(
    name: str, project: str, answers: Mapping[str, Any], since: datetime, **config: Any
) -> tuple[list[RunRecord], list[JobRecord]]:
    """The runs and jobs of the year that begins there; nothing may be refused."""
    manifest = catalogue.load()[name]
    assert manifest.sync is not None
    assert manifest.http is not None
    account = Account(
        config={"baseUrl": "https://ci.example", **config},
        credentials={field: Secret("x") for field in manifest.http.auths[0].fields},
    )
    session = Calls(manifest, account, client=cast("Any", Canned(answers)))
    until = since + min(timedelta(days=365), manifest.sync.slice)
    found = sync.history(session, manifest.sync, project=project, since=since, until=until)
    batches = [batch async for batch in found]
    assert [problem for batch in batches for problem in batch.refused] == []
    records = [record for batch in batches for record in batch.records]
    runs = [record for record in records if isinstance(record, RunRecord)]
    return runs, [record for record in records if isinstance(record, JobRecord)]


def grouped(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return dict(found)


async def test_real_builds_of_azure() -> None:
    builds = [data for data, _ in rows("azuredevops_go/_raw_azuredevops_go_api_builds")]
    timeline = rows("azuredevops_go/_raw_azuredevops_go_api_timeline_records")
    base = "/johndoe/0d50ba13-f9ad-49b0-9b21-d29eda50ca33/_apis/build/builds"
    answers: dict[str, Any] = {base: {"value": builds}}
    for run, records in grouped((str(asked["AzuredevopsId"]), data) for data, asked in timeline).items():
        answers[f"{base}/{run}/timeline"] = {"records": records}
    project = "johndoe/0d50ba13-f9ad-49b0-9b21-d29eda50ca33"
    runs, jobs = await history(
        "azure-pipelines", project, answers, datetime(2023, 2, 25, tzinfo=UTC), organization="johndoe"
    )
    assert [(run.id, run.pipeline, run.outcome) for run in runs] == [
        ("12", "deploy_to_prod", "success"),
        ("13", "deploy_to_prod", "success"),
        ("14", "label_regex_test", "success"),
        ("15", "label_regex_test_pro", "success"),
        ("18", "label_regex_test_pro", "cancel"),
    ]
    assert {(run.project, run.branch, run.actor, run.trigger) for run in runs} == {
        (project, "main", "user@example.com", "manual")
    }
    assert runs[0].sha == "40c59264e73fc5e1a6cab192f1622d26b7bd5c2a"
    assert runs[0].queued_at == datetime(2023, 2, 25, 6, 22, 21, 223762, tzinfo=UTC)
    assert runs[0].finished_at == datetime(2023, 2, 25, 6, 23, 4, 6188, tzinfo=UTC)
    # only one of the records is a job, the others were made unlike any
    assert [(job.run, job.id, job.name, job.runner, job.outcome) for job in jobs] == [
        ("12", "12.cfa20e98-6997-523c-4233-f0a7302c929f.1", "deploy production", "HostedAgent", "success")
    ]


@pytest.mark.parametrize("suffix", ["", "_incremental"])
async def test_real_workflows_of_circleci(suffix: str) -> None:
    pipelines = [data for data, _ in rows("circleci/_raw_circleci_api_pipelines")]
    workflows = [data for data, _ in rows(f"circleci/_raw_circleci_api_workflows{suffix}")]
    jobs = rows(f"circleci/_raw_circleci_api_jobs{suffix}")
    answers: dict[str, Any] = {}
    known = {pipeline["id"]: pipeline for pipeline in pipelines}
    for workflow in workflows:
        known.setdefault(workflow["pipeline_id"], {**pipelines[0], "id": workflow["pipeline_id"]})
        path = f"/api/v2/pipeline/{workflow['pipeline_id']}/workflow"
        answers.setdefault(path, {"items": []})["items"].append(workflow)
    for pipeline in known:
        answers.setdefault(f"/api/v2/pipeline/{pipeline}/workflow", {"items": []})
    for workflow in workflows:
        of_it = [data for data, asked in jobs if asked["id"] == workflow["id"]]
        answers[f"/api/v2/workflow/{workflow['id']}/job"] = {"items": of_it}
    project = "gh/coldgust/coldgust.github.io"
    answers[f"/api/v2/project/{project}/pipeline"] = {"items": list(known.values())}
    runs, found = await history("circleci", project, answers, datetime(2023, 1, 1, tzinfo=UTC))
    outcomes = {"success": "success", "failed": "failure"}
    ended = [workflow for workflow in workflows if workflow["stopped_at"]]
    assert sorted((run.id, run.pipeline, run.number, run.outcome, run.project) for run in runs) == sorted(
        (each["id"], each["name"], each["pipeline_number"], outcomes[each["status"]], project)
        for each in ended
    )
    assert {run.actor for run in runs} <= {"coldgust", ""}
    told = {run.id: run for run in runs}
    for workflow in ended:
        vcs = known[workflow["pipeline_id"]].get("vcs", {})
        assert told[workflow["id"]].sha == vcs.get("revision", "")
        assert told[workflow["id"]].branch == vcs.get("branch", "")
    of_ended = [data for data, asked in jobs if asked["id"] in told]
    assert len(of_ended) >= len(jobs) - 1
    assert sorted((job.id, job.name, job.outcome) for job in found) == sorted(
        (data["id"], data["name"], outcomes[data["status"]]) for data in of_ended
    )


async def test_real_pipelines_of_bitbucket() -> None:
    pipelines = [data for data, _ in rows("bitbucket/_raw_bitbucket_api_pipelines")]
    steps = rows("bitbucket/_raw_bitbucket_api_pipeline_steps")
    base = "/2.0/repositories/likyh/likyhphp/pipelines"
    answers: dict[str, Any] = {base: {"values": pipelines}}
    of_run = grouped((data["pipeline"]["uuid"], data) for data, _ in steps)
    for pipeline in pipelines:
        path = f"{base}/{quote(pipeline['uuid'], safe='')}/steps"
        answers[path] = {"values": of_run.pop(pipeline["uuid"], [])}
    assert of_run == {}
    runs, jobs = await history("bitbucket", "likyh/likyhphp", answers, datetime(2023, 1, 1, tzinfo=UTC))
    outcomes = {"SUCCESSFUL": "success", "FAILED": "failure", "STOPPED": "cancel", "NOT_RUN": "skip"}
    # some rows were made with states that Bitbucket does not have
    ended = [pipeline for pipeline in pipelines if pipeline["state"]["name"] == "COMPLETED"]
    assert [(run.id, run.branch, run.sha, run.outcome) for run in runs] == [
        (
            *(each["uuid"], each["target"]["ref_name"], each["target"]["commit"]["hash"]),
            outcomes.get(each["state"]["result"]["name"], "error"),
        )
        for each in ended
    ]
    assert len(runs) == 8
    wanted = [
        (data["uuid"], data["name"], each["uuid"], outcomes.get(data["state"]["result"]["name"], "error"))
        for each in ended
        for data, _ in steps
        if data["pipeline"]["uuid"] == each["uuid"] and data["state"]["name"] == "COMPLETED"
    ]
    assert [(job.id, job.name, job.run, job.outcome) for job in jobs] == wanted
    assert len(jobs) >= 10


OUTCOMES = {"SUCCESS": "success", "FAILURE": "failure", "FAILED": "failure", "UNSTABLE": "failure"}
OUTCOMES |= {"ABORTED": "cancel"}


def with_url(build: dict[str, Any], job: str) -> dict[str, Any]:
    """With the address that DevLake did not ask for, and we do."""
    place = "job/" + quote(job, safe="/").replace("/", "/job/")
    return {**build, "url": f"https://jenkins.example.com/{place}/{build['number']}/"}


async def test_real_builds_of_a_job_of_jenkins() -> None:
    name = "Test-jenkins-dir/test-jenkins-sub-dir/test-sub-sub-dir/devlake"
    builds = [with_url(data, name) for data, _ in rows("jenkins/_raw_jenkins_api_builds")]
    base = "/job/" + name.replace("/", "/job/")
    answers: dict[str, Any] = {f"{base}/api/json": {"allBuilds": builds}}
    for number, stages in grouped(
        (str(asked["Number"]), data) for data, asked in rows("jenkins/_raw_jenkins_api_stages")
    ).items():
        answers[f"{base}/{number}/wfapi/describe"] = {"stages": stages}
        if not any(str(build["number"]) == number for build in builds):
            builds.append({**copy.deepcopy(builds[-1]), **with_url({"number": int(number)}, name)})
    for build in builds:
        build["_class"] = "org.jenkinsci.plugins.workflow.job.WorkflowRun"  # what has stages is such a one
    runs, jobs = await history("jenkins", name, answers, datetime(2022, 1, 1, tzinfo=UTC))
    ended = [build for build in builds if not build.get("building")]
    assert [(run.id, run.number, run.outcome) for run in runs] == [
        (f"{name}#{build['number']}"[-64:], build["number"], OUTCOMES.get(build["result"], "error"))
        for build in ended
    ]
    assert {(run.project, run.pipeline, run.actor, run.trigger) for run in runs} == {
        (name, "devlake", "merico", "manual")
    }
    assert (runs[0].branch, runs[0].sha) == ("main", "0f886c74949c3ee7e489188911c7dc0c1d547418")
    assert runs[0].started_at == datetime(2022, 4, 15, 12, 0, 49, 161000, tzinfo=UTC)
    assert runs[0].finished_at == datetime(2022, 4, 15, 12, 0, 50, 748000, tzinfo=UTC)
    numbers = {str(build["number"]) for build in ended}
    wanted = [
        (data["name"], OUTCOMES.get(data["status"], "error"))
        for data, asked in rows("jenkins/_raw_jenkins_api_stages")
        if asked["Number"] in numbers and data["status"] is not None
    ]
    assert sorted((job.name, job.outcome) for job in jobs) == sorted(wanted)
    assert len(jobs) > 10


async def test_real_builds_of_a_multibranch_project_of_jenkins() -> None:
    project = "github_org/devlake-jenkins"
    branches = [data for data, _ in rows("jenkins/_raw_jenkins_api_jobs_multibranch")]
    builds, stages = (rows(f"jenkins/_raw_jenkins_api_{kind}_multibranch") for kind in ("builds", "stages"))
    base = "/job/" + project.replace("/", "/job/")
    answers: dict[str, Any] = {f"{base}/api/json": {"jobs": branches}}
    for name, of_branch in grouped((asked["Name"], (data, asked)) for data, asked in builds).items():
        made = [with_url(data, asked["FullName"]) for data, asked in of_branch]
        answers[f"{base}/job/{name}/api/json"] = {"allBuilds": made}
    for name, of_build in grouped((asked["FullName"], data) for data, asked in stages).items():
        branch, number = name.removeprefix(f"{project}/").split("#")
        answers[f"{base}/job/{branch}/{number}/wfapi/describe"] = {"stages": of_build}
    for branch in branches:
        answers.setdefault(f"{base}/job/{branch['name']}/api/json", {"allBuilds": []})
    runs, jobs = await history(
        "jenkins", project, answers, datetime(2024, 1, 1, tzinfo=UTC), multibranch=True
    )
    assert sorted((run.id, run.branch, run.outcome) for run in runs) == sorted(
        (f"{asked['FullName']}#{data['number']}", asked["Name"], OUTCOMES[data["result"]])
        for data, asked in builds
    )
    assert len(runs) == 15
    assert {(run.project, run.pipeline) for run in runs} == {(project, "devlake-jenkins")}
    assert {run.trigger for run in runs} == {"push", "indexing"}
    assert all(run.sha for run in runs if run.outcome == "success")
    assert sorted((job.run, job.name, job.outcome) for job in jobs) == sorted(
        (asked["FullName"], data["name"], OUTCOMES[data["status"]]) for data, asked in stages
    )
    assert len(jobs) == 65
