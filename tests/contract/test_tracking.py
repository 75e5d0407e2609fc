"""The registry of trainings: one suite, held by the memory and by a real MLflow server."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.parse
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipewright import errors
from pipewright.backends.memory_tracking import MemoryTracking
from pipewright.backends.mlflow import MlflowTracking
from pipewright.ports.training import Tracking
from pipewright.tracking_facts import OWNER, SUBMISSION, TrackedRun, TrackedVersion
from tests.contract import mlflow_server
from tests.contract.mlflow_server import USER, MlflowServer

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server.running(tmp_path_factory.mktemp("mlflow")) as made:
        yield made


def connected(server: MlflowServer, **changes: Any) -> MlflowTracking:
    told = {
        "token_file": server.password_file,
        "username": USER,
        "experiment": "pipewright",
        "alias": "active",
    }
    return MlflowTracking(server.uri, **{**told, **changes})


@pytest.fixture(params=["memory", "mlflow"])
async def tracking(request: pytest.FixtureRequest) -> AsyncIterator[Tracking]:
    if request.param == "memory":
        yield MemoryTracking()
        return
    made = connected(request.getfixturevalue("server"))
    yield made
    await made.close()


def run(attempt: int = 1, **changes: Any) -> TrackedRun:
    values: dict[str, Any] = {
        "submission_id": uuid.uuid4().hex,
        "attempt": attempt,
        "group": "acme",
        "name": f"run-failure-{attempt}",
        "succeeded": True,
        "started_at": START,
        "finished_at": START + timedelta(seconds=90),
        "tags": {OWNER: "abcdefghijkm", "pipewright.dataset_sha256": "a" * 64},
        "params": {"num_leaves": "8", "learning_rate": "0.03"},
        "metrics": {"accuracy": 0.9125, "alwaysPass.accuracy": 0.85},
    }
    return TrackedRun(**{**values, **changes})


def version(model: str, attempt: int = 1, **changes: Any) -> TrackedVersion:
    values: dict[str, Any] = {
        "model": model,
        "owner": "abcdefghijkm",
        "attempt": attempt,
        "source": f"s3://bucket/abcdefghijkm/models/m/trainings/{attempt}-r/model",
        "tags": {"pipewright.version": f"{attempt:012x}"},
    }
    return TrackedVersion(**{**values, **changes})


@pytest.fixture
def name() -> str:
    return f"acme.acme.{uuid.uuid4().hex[:8]}"


async def test_a_run_recorded_twice_is_one_run(tracking: Tracking) -> None:
    first, other = run(), run(2)
    assert await tracking.record(first) == await tracking.record(first)
    assert await tracking.record(other) != await tracking.record(first)


async def test_a_version_registered_twice_is_one_version(tracking: Tracking, name: str) -> None:
    run_id = await tracking.record(run())
    assert await tracking.register(version(name), run_id=run_id) == "1"
    assert await tracking.register(version(name), run_id=run_id) == "1"
    other = await tracking.record(run(2))
    assert await tracking.register(version(name, 2), run_id=other) == "2"
    assert await tracking.register(version(name), run_id=run_id) == "1", "a rollback makes no version"


async def test_a_registered_model_of_another_owner_is_left_alone(tracking: Tracking, name: str) -> None:
    run_id = await tracking.record(run())
    await tracking.register(version(name), run_id=run_id)
    with pytest.raises(errors.OwnedByOther, match="not this tenant's"):
        await tracking.register(version(name, owner="zzzzzzzzzzzz"), run_id=run_id)


# --- what MLflow has then ---------------------------------------------------------------------------------


@dataclass
class Api:
    """What a person would read in MLflow."""

    server: MlflowServer

    def get(self, path: str, **params: str) -> Any:
        return self._ask(f"{path}?{urllib.parse.urlencode(params)}")

    def post(self, path: str, **body: Any) -> Any:
        return self._ask(path, json.dumps(body).encode())

    def delete(self, path: str, **body: str) -> None:
        self._ask(path, json.dumps(body).encode(), method="DELETE")

    def run(self, run_id: str) -> Any:
        return self.get("runs/get", run_id=run_id)["run"]

    def alias(self, model: str) -> str:
        found = self.get("registered-models/alias", name=model, alias="active")
        return str(found["model_version"]["version"])

    def _ask(self, path: str, body: bytes | None = None, method: str | None = None) -> Any:
        pair = base64.b64encode(f"{USER}:{self.server.password}".encode()).decode()
        headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}
        uri = f"{self.server.uri}/api/2.0/mlflow/{path}"
        asked = urllib.request.Request(uri, data=body, headers=headers, method=method)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return json.load(answer)


@pytest.fixture
def api(server: MlflowServer) -> Api:
    return Api(server)


@pytest.fixture
async def real(server: MlflowServer) -> AsyncIterator[MlflowTracking]:
    made = connected(server)
    yield made
    await made.close()


def pairs(found: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in found}


async def test_a_run_has_params_metrics_tags_times_and_an_end(real: MlflowTracking, api: Api) -> None:
    made = run()
    found = api.run(await real.record(made))
    assert (found["info"]["status"], found["info"]["run_name"]) == ("FINISHED", "run-failure-1")
    times = (found["info"]["start_time"], found["info"]["end_time"])
    assert times == (1772366400000, 1772366490000)
    assert pairs(found["data"]["params"]) == made.params
    assert pairs(found["data"]["metrics"]) == made.metrics
    tags = pairs(found["data"]["tags"])
    assert tags[SUBMISSION] == made.submission_id
    assert tags["pipewright.dataset_sha256"] == "a" * 64
    experiment = api.get("experiments/get", experiment_id=found["info"]["experiment_id"])
    assert experiment["experiment"]["name"] == "pipewright/acme"


async def test_a_training_that_failed_is_a_run_that_failed(real: MlflowTracking, api: Api) -> None:
    found = api.run(await real.record(run(succeeded=False, metrics={}, params={})))
    assert found["info"]["status"] == "FAILED"


async def test_a_run_that_a_crash_left_half_done_is_completed_and_not_made_again(
    real: MlflowTracking, api: Api
) -> None:
    made = run(group="crash")
    experiment = await real._experiment_id("pipewright/crash")
    info = await real._create_run(experiment, made)  # and here the process died
    assert api.run(info["run_id"])["info"]["status"] == "RUNNING"
    assert await real.record(made) == info["run_id"]
    found = api.run(info["run_id"])
    assert found["info"]["status"] == "FINISHED"
    assert pairs(found["data"]["metrics"]) == made.metrics
    assert len(api.post("runs/search", experiment_ids=[experiment])["runs"]) == 1


async def test_metrics_that_were_logged_before_the_crash_are_not_logged_twice(
    real: MlflowTracking, api: Api
) -> None:
    made = run()
    run_id = await real.record(made)
    api.post("runs/update", run_id=run_id, status="RUNNING")  # as if it had died before the end
    assert await real.record(made) == run_id
    history = api.get("metrics/get-history", run_id=run_id, metric_key="accuracy")["metrics"]
    assert [each["value"] for each in history] == [0.9125]


async def test_a_run_that_a_person_deleted_is_not_made_again(real: MlflowTracking, api: Api) -> None:
    made = run(group="deleted")
    run_id = await real.record(made)
    api.post("runs/delete", run_id=run_id)
    assert await real.record(made) == run_id
    experiment = api.get("experiments/get-by-name", experiment_name="pipewright/deleted")["experiment"]
    assert "runs" not in api.post("runs/search", experiment_ids=[experiment["experiment_id"]])


async def test_two_that_begin_an_experiment_at_once_share_it(server: MlflowServer, api: Api) -> None:
    group = f"g{uuid.uuid4().hex[:6]}"
    first, second = connected(server), connected(server)
    found = await asyncio.gather(first.record(run(group=group)), second.record(run(2, group=group)))
    await asyncio.gather(first.close(), second.close())
    assert len({api.run(each)["info"]["experiment_id"] for each in found}) == 1


async def test_the_alias_follows_the_version_that_predicts(real: MlflowTracking, api: Api, name: str) -> None:
    first, second = await real.record(run()), await real.record(run(2))
    await real.register(version(name), run_id=first)
    assert api.alias(name) == "1"
    await real.register(version(name, 2), run_id=second)
    assert api.alias(name) == "2"
    await real.register(version(name), run_id=first)
    assert api.alias(name) == "1"
    found = api.get("model-versions/get", name=name, version="1")["model_version"]
    assert found["run_id"] == first
    assert found["source"] == version(name).source
    assert pairs(found["tags"]) == {"pipewright.version": "000000000001"}
    model = api.get("registered-models/get", name=name)["registered_model"]
    assert pairs(model["tags"]) == {OWNER: "abcdefghijkm"}


async def test_a_version_whose_alias_a_crash_left_out_gets_it(
    real: MlflowTracking, api: Api, name: str
) -> None:
    run_id = await real.record(run())
    await real.register(version(name), run_id=run_id)
    api.delete("registered-models/alias", name=name, alias="active")
    assert await real.register(version(name), run_id=run_id) == "1"
    assert api.alias(name) == "1"


async def test_a_file_in_a_folder_is_registered_by_its_address(
    real: MlflowTracking, api: Api, name: str
) -> None:
    local = replace(version(name), source="file:///var/lib/pipewright/t/models/m/trainings/1-r/model")
    await real.register(local, run_id=await real.record(run()))
    found = api.get("model-versions/get", name=name, version="1")["model_version"]
    assert found["source"] == "pipewright://folder/var/lib/pipewright/t/models/m/trainings/1-r/model"


async def test_somebody_elses_registered_model_is_left_alone(
    real: MlflowTracking, api: Api, name: str
) -> None:
    api.post("registered-models/create", name=name)
    with pytest.raises(errors.OwnedByOther, match="rename or delete it there"):
        await real.register(version(name), run_id=await real.record(run()))


async def test_a_deleted_experiment_is_a_persons_to_restore(real: MlflowTracking, api: Api) -> None:
    await real.record(run(group="gone"))
    experiment = api.get("experiments/get-by-name", experiment_name="pipewright/gone")["experiment"]
    api.post("experiments/delete", experiment_id=experiment["experiment_id"])
    with pytest.raises(errors.Stalled, match="restore it there"):
        await real.record(run(2, group="gone"))


# --- trouble ----------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_told_without_itself(server: MlflowServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a-canary-that-nobody-issued")
    wrong = connected(server, token_file=tmp_path / "password")
    with pytest.raises(errors.Forbidden, match="MLflow refuses our token") as refused:
        await wrong.record(run())
    await wrong.close()
    assert "canary" not in str(refused.value)
    assert "canary" not in server.log.read_text()


async def test_a_password_that_was_changed_is_taken_up(server: MlflowServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    made = connected(server, token_file=tmp_path / "password")
    with pytest.raises(errors.Forbidden):
        await made.record(run())
    (tmp_path / "password").write_text(server.password)
    assert await made.record(run())
    await made.close()


async def test_a_token_that_is_not_there_yet_is_told(tmp_path: Path) -> None:
    made = MlflowTracking("http://127.0.0.1:1", token_file=tmp_path / "none", experiment="e", alias="active")
    with pytest.raises(errors.Forbidden, match="No such file"):
        await made.record(run())
    await made.close()


class Silent:
    """A server that counts, and answers as it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.headers: list[str] = []
        self.answer: web.Response | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.headers.append(request.headers.get("Authorization", ""))
        if self.answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(
            status=self.answer.status, body=self.answer.body, content_type=self.answer.content_type
        )


@pytest.fixture
async def silent() -> AsyncIterator[tuple[str, Silent]]:
    behaves, app = Silent(), web.Application()
    app.router.add_route("*", "/{path:.*}", behaves.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", behaves
    await runner.cleanup()


async def test_a_server_that_does_not_answer_is_left_alone_for_a_while(silent: tuple[str, Silent]) -> None:
    uri, behaves = silent
    made = MlflowTracking(uri, experiment="e", alias="active")
    told, asked = [], []
    for _ in range(3):
        with pytest.raises(errors.Unreachable) as broken:
            await made.record(run())
        told.append(str(broken.value))
        asked.append(behaves.asked)
    await made.close()
    assert asked[0] > 0
    assert len(set(asked)) == 1, "it was asked again"
    assert len(set(told)) == 1, "a condition would flutter"
    behaves.asked, asked = 0, []
    again = MlflowTracking(uri, experiment="e", alias="active", pause=0)
    for _ in range(2):
        with pytest.raises(errors.Unreachable):
            await again.record(run())
        asked.append(behaves.asked)
    await again.close()
    assert 0 < asked[0] < asked[1]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "TEMPORARILY_UNAVAILABLE", errors.Unreachable),
        (400, "INVALID_PARAMETER_VALUE", errors.BackendError),
        (400, "<script> a-canary", errors.BackendError),
    ],
)
async def test_what_it_refuses_is_told_by_its_word_and_not_in_its_words(
    silent: tuple[str, Silent], tmp_path: Path, status: int, code: str, kind: type[errors.BackendError]
) -> None:
    uri, behaves = silent
    (tmp_path / "token").write_text("the-bearer")
    body = json.dumps({"error_code": code, "message": "a-canary"})
    behaves.answer = web.Response(status=status, text=body, content_type="application/json")
    made = MlflowTracking(uri, token_file=tmp_path / "token", experiment="e", alias="active")
    with pytest.raises(kind, match=f"find an experiment: it answered {status}") as refused:
        await made.record(run())
    await made.close()
    assert type(refused.value) is kind
    assert "canary" not in str(refused.value)
    assert behaves.headers == ["Bearer the-bearer"]


@pytest.mark.parametrize("body", ["{}", "[]", '{"experiment": 3}', '{"experiment": {"experiment_id": "1"}}'])
async def test_what_is_no_mlflow_is_told(silent: tuple[str, Silent], body: str) -> None:
    uri, behaves = silent
    behaves.answer = web.Response(text=body, content_type="application/json")
    made = MlflowTracking(uri, experiment="e", alias="active")
    with pytest.raises(errors.BackendError, match="does not speak as MLflow"):
        await made.record(run())
    await made.close()
