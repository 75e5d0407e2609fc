"""Windows of several tenants: rows are shared, what was known of a line of work is not."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml import artifact, contract, pooled, replay, train, window
from ml.contract import PoolWindow, TrainingJob
from ml.learning import TrainingFailed

START = datetime(2026, 1, 1, tzinfo=UTC)


def rows(outcomes: Sequence[str], *, offset: float = 0, project: str = "shop") -> list[dict[str, Any]]:
    """Runs of one line of work, an hour apart; every tenant calls it the same."""
    return [
        {
            "integration": "github", "project": project, "pipeline": "ci", "run_id": str(n), "attempt": 1,
            "number": n, "event": "push", "branch": "main", "actor": "u", "sha": f"sha{n}",
            "outcome": outcome, "queued_at": None,
            "started_at": START + timedelta(hours=n, minutes=offset),
            "finished_at": START + timedelta(hours=n, minutes=offset + 5), "failed_jobs": [], "jobs": 1,
        }
        for n, outcome in enumerate(outcomes)
    ]  # fmt: skip


def table(content: bytes) -> pa.Table:
    return window.read(content, sha256=artifact.digest(content))


def mixed(count: int, *, every: int) -> list[str]:
    return ["failure" if n % every == every - 1 else "success" for n in range(count)]


def test_the_same_names_of_two_tenants_share_no_state() -> None:
    green = table(window.write(rows(["success"] * 20)))
    red = table(window.write(rows(["failure"] * 20, offset=20)))
    found = pooled.dataset([green, red])
    assert found.rows == [20, 20]
    assert list(np.diff(found.data.judged_at) >= 0) == [True] * 39
    for alone, failed in ((green, False), (red, True)):
        expected = replay.dataset(alone)
        mine = found.data.take(found.data.failed == failed)
        np.testing.assert_array_equal(mine.x, expected.x)
        np.testing.assert_array_equal(mine.red_before, expected.red_before)
    # what would not be so, had the streams been one: the names are the same
    both = replay.dataset(pa.concat_tables([green, red]))
    assert not np.array_equal(both.take(~both.failed).x, replay.dataset(green).x, equal_nan=True)


def test_rows_judged_at_the_same_moment_keep_the_order_of_the_windows() -> None:
    one, two = (table(window.write(rows(["success"] * 3, project=name))) for name in ("one", "two"))
    assert list(pooled.dataset([one, two]).data.projects) == ["one", "two"] * 3
    assert list(pooled.dataset([two, one]).data.projects) == ["two", "one"] * 3


def test_a_window_without_runs_adds_nothing() -> None:
    some, none = (table(window.write(rows(told))) for told in (["success"] * 5, []))
    found = pooled.dataset([none, some])
    assert found.rows == [0, 5]
    np.testing.assert_array_equal(found.data.x, replay.dataset(some).x)


def job_of(own: bytes, others: Sequence[bytes], folder: Path = Path("/nowhere")) -> TrainingJob:
    return TrainingJob(
        submission_id="t1",
        window_uri=(folder / "own.parquet").as_uri(),
        window_sha256=artifact.digest(own),
        artifact_uri=(folder / "out" / "model").as_uri(),
        report_uri=(folder / "out" / "report.json").as_uri(),
        hyperparameters={"num_trees": 20, "ensemble": 1},
        pool=tuple(
            PoolWindow(uri=(folder / f"{at}.parquet").as_uri(), sha256=artifact.digest(each))
            for at, each in enumerate(others)
        ),
    )


def test_few_runs_of_its_own_are_enough_with_those_of_others_and_the_file_is_always_the_same() -> None:
    own, other = window.write(rows(mixed(20, every=4))), window.write(rows(mixed(600, every=5), offset=20))
    with pytest.raises(TrainingFailed):
        train.train(own, job_of(own, []))
    job = job_of(own, [other])
    found = train.train(own, job, [other])
    assert found.pooled == contract.Pooled(tenants=2, rows=620, own_rows=20)
    assert found.content == train.train(own, job, [other]).content
    made = artifact.load(found.content, sha256=artifact.digest(found.content))
    assert made.window_sha256 == job.data_sha256 != job.window_sha256


def test_the_newest_part_of_the_whole_pool_is_held_out() -> None:
    own, other = window.write(rows(mixed(20, every=4))), window.write(rows(mixed(600, every=5), offset=20))
    found = train.train(own, job_of(own, [other]), [other])
    # the own runs are the oldest of all: those that it is judged on are the other's
    assert found.metrics.rows == round(620 * 0.25)


def test_a_window_of_the_pool_that_is_not_the_one_of_the_job_is_refused() -> None:
    own, other = window.write(rows(mixed(20, every=4))), window.write(rows(mixed(600, every=5)))
    with pytest.raises(window.WindowRefused, match="digest"):
        train.train(own, job_of(own, [other]), [own])


def test_the_report_tells_numbers_and_a_lost_window_no_address(tmp_path: Path) -> None:
    own, other = window.write(rows(mixed(20, every=4))), window.write(rows(mixed(600, every=5), offset=20))
    (tmp_path / "own.parquet").write_bytes(own)
    job = job_of(own, [other], tmp_path)
    lost = train.run(job)
    assert (lost.outcome, lost.reason) == (
        "Failed", "a window of the pool could not be read; the training is tried again",
    )  # fmt: skip
    (tmp_path / "0.parquet").write_bytes(other)
    report = train.run(job)
    assert report.pooled == contract.Pooled(tenants=2, rows=620, own_rows=20)
    assert contract.from_json(contract.Report, contract.to_json(report)) == report
    assert contract.from_json(TrainingJob, contract.to_json(job)) == job


@pytest.mark.parametrize("task", ["Duration", "FailureCause"])
def test_other_tasks_have_no_pool(task: Any) -> None:
    job = job_of(b"own", [b"other"])
    with pytest.raises(contract.ContractError, match="its own runs alone"):
        dataclasses.replace(job, task=task)


def test_the_data_of_a_pool_is_known_by_all_its_windows_in_any_order() -> None:
    a, b, c = ("a" * 64, "b" * 64, "c" * 64)
    assert contract.data_sha256(a, []) == a
    assert contract.data_sha256(a, [b, c]) == contract.data_sha256(a, [c, b])
    assert len({contract.data_sha256(a, each) for each in ([], [b], [c], [b, c])}) == 4
