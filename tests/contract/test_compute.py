"""The compute port: one suite, held by the memory and by a real Ray head."""

from __future__ import annotations

import asyncio
import base64
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controllers.model import running
from ml import artifact, contract, train, transfer, window
from pipewright import errors
from pipewright.backends.memory_training import MemoryCompute
from pipewright.backends.ray import Package, RayCompute
from pipewright.ports.training import Compute
from pipewright.training_facts import JobPlace, JobStatus, Pod
from tests.contract.buckets import Buckets

ML = Path(train.__file__).parent
START = datetime(2026, 1, 5, tzinfo=UTC)
PLACE = JobPlace(tenant_id="abcdefghijkm", namespace="acme", model="run-failure", model_uid="a-model")


@dataclass(frozen=True)
class Bench:
    """A compute cluster, and one on which jobs run until they are stopped."""

    compute: Compute
    endless: Compute


@pytest.fixture(params=["memory", pytest.param("ray", marks=pytest.mark.ray)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield Bench(MemoryCompute(lambda job: train.run(job).outcome != "Failed"), MemoryCompute())
        return
    head = request.getfixturevalue("ray_head")
    compute = ray_compute(head.address, head.token_file)
    yield Bench(compute, compute)
    await compute.close()


def ray_compute(address: str, token_file: Path | None) -> RayCompute:
    return RayCompute(address, token_file=token_file, package=Package.of(ML))


def rows(count: int) -> list[dict[str, Any]]:
    """Runs of one pipeline that fail each fifth time, and in a row now and then."""
    made = []
    for number in range(count):
        started = START + timedelta(minutes=30 * number)
        failed = number % 5 == 0 or number % 17 in (1, 2)
        made.append(
            {
                "integration": "i",
                "project": "acme/shop",
                "pipeline": "ci",
                "run_id": str(number),
                "attempt": 1,
                "number": number,
                "event": "push",
                "branch": "main",
                "actor": "a1",
                "sha": f"{number:040x}",
                "outcome": "failure" if failed else "success",
                "queued_at": started,
                "started_at": started,
                "finished_at": started + timedelta(minutes=5),
                "failed_jobs": [],
                "jobs": 1,
            }
        )
    return made


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., contract.TrainingJob]:
    def make(count: int = 400) -> contract.TrainingJob:
        content = window.write(rows(count))
        (tmp_path / "window").write_bytes(content)
        return contract.TrainingJob(
            submission_id=uuid.uuid4().hex,
            window_uri=(tmp_path / "window").as_uri(),
            window_sha256=artifact.digest(content),
            artifact_uri=(tmp_path / "out" / "model").as_uri(),
            report_uri=(tmp_path / "out" / "report.json").as_uri(),
            hyperparameters={"num_trees": 20, "ensemble": 1},
        )

    return make


async def submit(compute: Compute, wanted: contract.TrainingJob) -> None:
    await compute.submit(wanted, place=PLACE, pod=Pod())


async def ended(compute: Compute, submission_id: str, *, within: float = 60) -> JobStatus:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        found = await compute.status(submission_id, place=PLACE)
        assert found is not None
        if found.ended:
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"the job {submission_id} has not ended")


async def test_a_job_that_was_never_submitted_is_absent(bench: Bench) -> None:
    assert await bench.compute.status("0" * 32, place=PLACE) is None


async def test_a_job_trains_and_leaves_a_model_and_a_report(
    bench: Bench, job: Callable[..., contract.TrainingJob], tmp_path: Path
) -> None:
    wanted = job()
    begun = time.monotonic()
    await submit(bench.compute, wanted)
    assert (await ended(bench.compute, wanted.submission_id)).phase == "Succeeded"
    print(f"from submission to the end: {time.monotonic() - begun:.1f} s")
    report = contract.from_json(contract.Report, (tmp_path / "out" / "report.json").read_bytes())
    assert (report.submission_id, report.outcome) == (wanted.submission_id, "Passed")
    assert artifact.digest((tmp_path / "out" / "model").read_bytes()) == report.artifact_sha256


def searching(folder: Path, head: Any, **changes: str) -> RayCompute:
    """A Ray whose package is ours with some words of `tune.py` or `search.py` changed."""
    shutil.copytree(ML, folder / "ml", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("search.py", "tune.py"):
        place = folder / "ml" / name
        text = place.read_text().replace("WORTH = 30.0", "WORTH = 0.0")
        for old, new in changes.items():
            text = text.replace(f'"{old}"', f'"{new}"')
        place.write_text(text)
    return RayCompute(head.address, token_file=head.token_file, package=Package.of(folder / "ml"))


@pytest.mark.ray
async def test_a_search_by_ray_tune_finds_the_same_as_one_process(
    ray_head: Any, job: Callable[..., contract.TrainingJob], tmp_path: Path
) -> None:
    """Held: trials in workers of their own are judged as those in the job's process."""
    wanted = replace(job(300), search=contract.Search(trials=4, seconds=300))
    alone = train.train(transfer.get(wanted.window_uri), wanted)
    one = alone.searched
    assert one is not None
    begun = time.monotonic()
    compute = searching(tmp_path, ray_head)
    await submit(compute, wanted)
    assert (await ended(compute, wanted.submission_id, within=300)).phase == "Succeeded"
    await compute.close()
    report = contract.from_json(contract.Report, (tmp_path / "out" / "report.json").read_bytes())
    found = report.search
    print(f"from submission to the end: {time.monotonic() - begun:.1f} s; {found}")
    assert found is not None
    assert (one.by, found.by) == ("Job", "RayTune")
    assert (found.trials, found.asked, found.hyperparameters) == (4, 4, one.hyperparameters)
    assert (found.loss, found.default_loss) == pytest.approx((one.loss, one.default_loss))
    content = (tmp_path / "out" / "model").read_bytes()
    assert report.artifact_sha256 is not None
    made = artifact.load(content, sha256=report.artifact_sha256)
    # the trees are the same; sums of the line may differ in the last digit, by the threads of BLAS
    assert made.models == artifact.load(alone.content, sha256=artifact.digest(alone.content)).models


@pytest.mark.ray
@pytest.mark.parametrize("short", ["CPU", "memory"])
async def test_a_search_for_which_nothing_is_free_is_done_by_the_job_itself(
    ray_head: Any, job: Callable[..., contract.TrainingJob], tmp_path: Path, short: str
) -> None:
    """A pod of one core, or a cluster that is busy: the search neither waits nor fails."""
    compute = searching(tmp_path, ray_head, **{short: "what nobody has"})
    wanted = replace(job(300), search=contract.Search(trials=2, seconds=300))
    await submit(compute, wanted)
    assert (await ended(compute, wanted.submission_id, within=120)).phase == "Succeeded"
    await compute.close()
    report = contract.from_json(contract.Report, (tmp_path / "out" / "report.json").read_bytes())
    assert report.search is not None
    assert (report.search.trials, report.search.by) == (2, "Job")


@pytest.mark.ray
async def test_a_job_on_other_machines_needs_no_credential_of_the_bucket(
    ray_head: Any, buckets: Buckets, job: Callable[..., contract.TrainingJob]
) -> None:
    plain, store = job(), buckets.store(f"trainings/{uuid.uuid4().hex}")
    window_url, model_url, report_url = (store.url_for(name) for name in ("window", "model", "report.json"))
    await store.put(window_url, transfer.get(plain.window_uri))
    lasting = timedelta(minutes=10)
    lent = replace(
        plain,
        window_uri=await store.lend(window_url, to="read", lasting=lasting),
        artifact_uri=await store.lend(model_url, to="write", lasting=lasting),
        report_uri=await store.lend(report_url, to="write", lasting=lasting),
    )
    compute = ray_compute(ray_head.address, ray_head.token_file)
    await submit(compute, lent)
    assert (await ended(compute, lent.submission_id)).phase == "Succeeded"
    await compute.close()
    written = await store.get(report_url)
    assert written is not None
    assert b"X-Amz" not in written
    report = contract.from_json(contract.Report, written)
    assert (report.submission_id, report.outcome) == (lent.submission_id, "Passed")
    model = await store.get(model_url)
    assert model is not None
    assert artifact.digest(model) == report.artifact_sha256


async def test_submitting_twice_is_submitting_once(
    bench: Bench, job: Callable[..., contract.TrainingJob], tmp_path: Path
) -> None:
    wanted = job()
    await asyncio.gather(submit(bench.compute, wanted), submit(bench.compute, wanted))
    await ended(bench.compute, wanted.submission_id)
    report = (tmp_path / "out" / "report.json").read_bytes()
    await submit(bench.compute, replace(wanted, seed=1))
    assert (await ended(bench.compute, wanted.submission_id)).phase == "Succeeded"
    assert (tmp_path / "out" / "report.json").read_bytes() == report


async def test_a_training_that_cannot_be_done_fails_and_says_why_in_its_report(
    bench: Bench, job: Callable[..., contract.TrainingJob], tmp_path: Path
) -> None:
    wanted = job(20)
    await submit(bench.compute, wanted)
    found = await ended(bench.compute, wanted.submission_id)
    assert found.phase == "Failed"
    assert "exit code 1" in found.message
    assert "\n" not in found.message
    report = contract.from_json(contract.Report, (tmp_path / "out" / "report.json").read_bytes())
    assert "training needs 200" in report.reason


async def test_a_stopped_job_ends_and_stopping_again_is_no_error(
    bench: Bench, job: Callable[..., contract.TrainingJob]
) -> None:
    wanted = job()
    await submit(bench.endless, wanted)
    await bench.endless.stop(wanted.submission_id, place=PLACE)
    assert (await ended(bench.endless, wanted.submission_id)).phase == "Stopped"
    await bench.endless.stop(wanted.submission_id, place=PLACE)
    await bench.endless.stop("0" * 32, place=PLACE)


@pytest.mark.ray
async def test_a_job_that_the_kernel_kills_is_told_by_its_exit_code(
    ray_head: Any, job: Callable[..., contract.TrainingJob], tmp_path: Path
) -> None:
    folder = tmp_path / "ml"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "train.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    compute = RayCompute(ray_head.address, token_file=ray_head.token_file, package=Package.of(folder))
    wanted = job()
    await submit(compute, wanted)
    found = await ended(compute, wanted.submission_id)
    await compute.close()
    assert found.phase == "Failed"
    assert running.KILLED.search(found.message), found.message


@pytest.mark.ray
@pytest.mark.parametrize("token", ["", "a-canary-that-nobody-issued"])
async def test_ray_refuses_a_wrong_token_and_the_message_does_not_tell_it(
    ray_head: Any, tmp_path: Path, token: str
) -> None:
    (tmp_path / "token").write_text(token)
    compute = ray_compute(ray_head.address, tmp_path / "token")
    with pytest.raises(errors.Forbidden) as refused:
        await compute.status("0" * 32, place=PLACE)
    assert "canary" not in str(refused.value)
    await compute.close()


async def test_a_token_that_is_not_there_yet_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.Forbidden, match="No such file"):
        await ray_compute("http://127.0.0.1:1", tmp_path / "token").status("0" * 32, place=PLACE)


async def test_a_ray_head_that_is_not_there_is_unreachable() -> None:
    compute = ray_compute("http://127.0.0.1:1", None)
    with pytest.raises(errors.Unreachable):
        await compute.status("0" * 32, place=PLACE)
    await compute.close()


def test_the_package_is_the_same_for_the_same_files_and_holds_code_and_its_data_only() -> None:
    package = Package.of(ML)
    assert package == Package.of(ML)
    assert package.name.startswith("_ray_pkg_")
    assert b"ml/taxonomy.toml" in package.content
    assert b"__pycache__" not in package.content


def test_a_job_fits_the_environment_of_a_process(job: Callable[..., contract.TrainingJob]) -> None:
    assert len(base64.b64encode(contract.to_json(job()).encode())) < 10_000
