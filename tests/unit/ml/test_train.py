"""The training job, from a data window to a report."""

import base64
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml import artifact, contract, features, fit, replay, train, transfer, window
from ml.contract import Gates, Report, TrainingJob

ROOT = Path(__file__).parents[3]

SMALL = {"ensemble": 1, "num_trees": 40}
"""Hyperparameters of a model that takes seconds, where it does not matter how good it is."""


def plain_rows(outcomes: list[str], *, minutes: float = 30) -> list[dict[str, Any]]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        {
            "integration": "github", "project": "a", "pipeline": "ci", "run_id": str(n), "attempt": 1,
            "number": n, "event": "push", "branch": "main", "actor": "u", "sha": str(n), "outcome": outcome,
            "queued_at": None, "started_at": start + timedelta(minutes=minutes * n),
            "finished_at": start + timedelta(minutes=minutes * n + 5), "failed_jobs": [], "jobs": 1,
        }
        for n, outcome in enumerate(outcomes)
    ]  # fmt: skip


def local_job(folder: Path, content: bytes, **changes: Any) -> TrainingJob:
    (folder / "window.parquet").write_bytes(content)
    return TrainingJob(
        submission_id="t1",
        window_uri=(folder / "window.parquet").as_uri(),
        artifact_uri=(folder / "out" / "model").as_uri(),
        report_uri=(folder / "out" / "report.json").as_uri(),
        **{"window_sha256": artifact.digest(content), **changes},
    )


def written(folder: Path) -> Report:
    return contract.from_json(Report, (folder / "out" / "report.json").read_bytes())


def test_the_model_passes_its_gates_and_beats_both_baselines(
    trained: train.Trained, job: TrainingJob
) -> None:
    print(trained.metrics, trained.baselines)
    assert train.missed_gates(job.gates, trained.metrics, trained.baselines) == []
    assert trained.metrics.accuracy > trained.baselines["alwaysPass"].accuracy
    assert trained.metrics.accuracy > trained.baselines["lastOutcome"].accuracy
    assert trained.metrics.auc is not None
    assert trained.metrics.auc > 0.75
    assert trained.metrics.calibration_error < 0.06


def test_the_same_window_and_seed_give_the_same_file(
    trained: train.Trained, simulated_window: bytes, job: TrainingJob
) -> None:
    assert train.train(simulated_window, job).content == trained.content


def test_impossible_gates_are_refused_with_value_and_limit(trained: train.Trained) -> None:
    gates = Gates(
        max_false_positive_rate=0.0, min_accuracy=0.999, min_gain_over_baseline=0.5, max_calibration_error=0.0
    )
    missed = train.missed_gates(gates, trained.metrics, trained.baselines)
    assert len(missed) == 4
    assert missed[1] == f"accuracy is {trained.metrics.accuracy:.4f}, must be at least 0.999"
    assert missed[2].startswith("gain over the baseline alwaysPass is 0.0")


def test_a_missed_gate_is_reported_with_the_model_beside_it(tmp_path: Path, simulated_window: bytes) -> None:
    job = local_job(tmp_path, simulated_window, gates=Gates(min_accuracy=0.999), hyperparameters=SMALL)
    report = train.run(job)
    assert report == written(tmp_path)
    assert report.outcome == "GatesFailed"
    assert "must be at least 0.999" in report.reason
    assert report.artifact_sha256 == artifact.digest((tmp_path / "out" / "model").read_bytes())
    assert set(report.baselines) == {"alwaysPass", "lastOutcome"}
    assert report.rows > 3000
    assert report.data_from is not None
    assert report.data_from < "2026-01"
    assert report.duration_seconds > 0
    assert report.trained_at is not None


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (plain_rows(["success"] * 100), "holds 100 runs that passed or failed, training needs 200"),
        (plain_rows(["cancel"] * 500), "holds 0 runs that passed or failed"),
        (plain_rows(["success"] * 500), "the oldest runs have 0 failures"),
        (plain_rows(["failure"] * 500), "and 0 passes"),
        (
            plain_rows(["success", "failure"] * 250 + ["success"] * 250),
            "the newest runs, kept for the test, have 0",
        ),
    ],
)
def test_data_that_cannot_be_trained_on_is_a_failed_report(
    tmp_path: Path, rows: list[dict[str, Any]], reason: str
) -> None:
    report = train.run(local_job(tmp_path, window.write(rows)))
    assert report.outcome == "Failed"
    assert reason in report.reason
    assert written(tmp_path) == report
    assert not (tmp_path / "out" / "model").exists()


def test_a_window_of_another_digest_is_refused(tmp_path: Path) -> None:
    report = train.run(local_job(tmp_path, window.write(plain_rows(["success"])), window_sha256="0" * 64))
    assert report.outcome == "Failed"
    assert "the job expects 000000000000" in report.reason


def test_a_window_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    report = train.run(local_job(tmp_path, b"run,outcome"))
    assert "is not a Parquet file" in report.reason


def test_a_window_without_a_column_is_refused_by_name() -> None:
    table = pa.table({"project": ["a"]})
    sink = pa.BufferOutputStream()
    import pyarrow.parquet as pq

    pq.write_table(table, sink)
    content = sink.getvalue().to_pybytes()
    with pytest.raises(window.WindowRefused, match="lacks the columns integration, pipeline"):
        window.read(content, sha256=artifact.digest(content))


def test_what_known_after_the_cut_is_not_trained_on() -> None:
    rows = plain_rows(["success", "failure"] * 200)
    late = rows[10]
    late["finished_at"] = rows[-1]["finished_at"]
    content = window.write(rows)
    data = replay.dataset(window.read(content, sha256=artifact.digest(content)))
    known, test = train.split(data, holdout=0.25)
    assert (len(known), len(test)) == (299, 100)
    assert late["started_at"].timestamp() not in known.started_at


def test_what_finished_while_the_first_test_run_waited_is_not_trained_on() -> None:
    rows = plain_rows(["success", "failure"] * 200)
    rows[300]["queued_at"] = rows[299]["started_at"] + timedelta(minutes=1)
    content = window.write(rows)
    known, test = train.split(
        replay.dataset(window.read(content, sha256=artifact.digest(content))), holdout=0.25
    )
    assert (len(known), len(test)) == (299, 100)


@pytest.mark.parametrize(("leaves", "ensemble"), [(8, 3), (64, 3), (64, 10)])
def test_the_largest_model_is_scored_within_ten_milliseconds(leaves: int, ensemble: int) -> None:
    wanted = {"num_leaves": leaves, "num_trees": 1000, "ensemble": ensemble, "min_child_samples": 1}
    job = TrainingJob(
        submission_id="t1", window_uri="file:///w", window_sha256="0" * 64, artifact_uri="file:///a",
        report_uri="file:///r", hyperparameters=wanted,
    )  # fmt: skip
    dice = np.random.default_rng(1)
    x = dice.normal(size=(3000, len(features.NAMES)))
    failed = x[:, 0] + x[:, 1] * x[:, 2] + dice.normal(size=3000) > 1
    values = {name: default for name, (default, _, _) in contract.HYPERPARAMETERS.items()} | dict(
        job.hyperparameters
    )
    recipe = fit.Recipe(settings=fit._settings(values, rows=3000), trees=fit.most_trees(values), seeds=[1])
    [booster] = recipe(x, failed).boosters
    assert ensemble * artifact.count_leaves([booster.model_to_string()]) <= contract.MOST_LEAVES
    times = []
    for row in x[:40]:
        began = time.thread_time()
        for _ in range(ensemble):
            booster.predict(row[None], pred_contrib=True, num_threads=1)
        times.append(time.thread_time() - began)
    median = sorted(times)[20] * 1000
    print(f"{leaves} leaves, {ensemble} models: {median:.1f} ms of one core")
    assert median < 10


def test_runs_are_replayed_at_a_hundred_thousand_a_minute_or_faster() -> None:
    rows = []
    for n, row in enumerate(plain_rows(["success", "success", "failure", "success"] * 5_000, minutes=0.5)):
        rows.append(
            {
                **row,
                "branch": f"b{n % 211}",
                "actor": f"u{n % 37}",
                "sha": f"s{n // 2}",
                "project": f"p{n % 5}",
            }
        )
    table = window.read(content := window.write(rows), sha256=artifact.digest(content))
    started = time.process_time()
    data = replay.dataset(table)
    seconds = time.process_time() - started
    print(f"replayed {len(data)} runs in {seconds:.1f} s")
    assert len(data) == 20_000
    assert seconds < 12


class Store(BaseHTTPRequestHandler):
    """A store of presigned addresses: a signature is asked for, the first PUT meets a busy server."""

    files: dict[str, bytes] = {}  # noqa: RUF012 - one server, one store
    busy = 0

    def do_GET(self) -> None:
        self._answer(200 if self.path.partition("?")[0] in self.files else 404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if Store.busy:
            Store.busy -= 1
            return self._answer(503)
        if not self.path.endswith("?signature=secret"):
            return self._answer(403)
        self.files[self.path.partition("?")[0]] = body
        return self._answer(200)

    def _answer(self, status: int) -> None:
        body = self.files.get(self.path.partition("?")[0], b"") if self.command == "GET" else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Store.files.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_job_lives_on_presigned_addresses_alone(
    store: str, simulated_window: bytes, job: TrainingJob
) -> None:
    Store.files["/window"] = simulated_window
    Store.busy = 1
    report = train.run(
        dataclasses.replace(
            job,
            window_uri=f"{store}/window?signature=secret",
            artifact_uri=f"{store}/model?signature=secret",
            report_uri=f"{store}/report?signature=secret",
            gates=Gates(),
            hyperparameters=SMALL,
        )
    )
    assert report.outcome == "Passed"
    assert artifact.digest(Store.files["/model"]) == report.artifact_sha256
    assert contract.from_json(Report, Store.files["/report"]) == report


@pytest.mark.parametrize(("name", "status"), [("nowhere", "404"), ("nowhere/x", "404")])
def test_a_missing_window_is_reported_without_its_signature(
    store: str, job: TrainingJob, name: str, status: str
) -> None:
    report = train.run(
        dataclasses.replace(
            job, window_uri=f"{store}/{name}?signature=secret", report_uri=f"{store}/report?signature=secret"
        )
    )
    assert report.outcome == "Failed"
    assert f"GET {store}/{name}: {status}" in report.reason
    assert "secret" not in report.reason


def test_a_refused_upload_is_not_repeated(store: str) -> None:
    with pytest.raises(transfer.TransferFailed, match="403"):
        transfer.put(f"{store}/model?signature=wrong", b"x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(transfer.TransferFailed, match="No such file"):
        transfer.get((tmp_path / "none").as_uri())


def alone(folder: Path, job: TrainingJob, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the job where only a copy of ml/ can be imported, as on a Ray worker."""
    shutil.copytree(ROOT / "ml", folder / "package" / "ml", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import sys, runpy; package, *others = sys.argv.pop(1).split('|');"
        " sys.path[:] = [package, *(p for p in sys.path if p not in ('', *others))];"
        " runpy.run_module('ml.train', run_name='__main__', alter_sys=True)"
    )
    folders = "|".join(map(str, (folder / "package", ROOT, ROOT / "operator")))
    text = base64.b64encode(contract.to_json(job).encode()).decode()
    environment = {**os.environ, contract.JOB_VARIABLE: text, "PYTHONPATH": ""}
    return subprocess.run(
        [sys.executable, "-I", "-c", code, folders, *arguments],
        capture_output=True, text=True, env=environment, cwd=folder, check=False,
    )  # fmt: skip


def test_ml_trains_where_nothing_else_of_the_project_is(tmp_path: Path, simulated_window: bytes) -> None:
    job = local_job(tmp_path, simulated_window, hyperparameters=SMALL)
    done = alone(tmp_path, job)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Passed: all gates passed: accuracy 0.")
    assert written(tmp_path).outcome == "Passed"


def test_a_failed_training_ends_with_one_and_a_report(tmp_path: Path) -> None:
    job = local_job(tmp_path, window.write(plain_rows(["success"] * 9)))
    (tmp_path / "job.json").write_text(contract.to_json(job))
    done = alone(tmp_path, job, str(tmp_path / "job.json"))
    assert done.returncode == 1
    assert written(tmp_path).outcome == "Failed"


def test_an_unreadable_job_ends_with_two_and_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"submissionId": "x"}))
    assert train.main([str(tmp_path / "job.json")]) == 2
    assert "windowUri is missing" in capsys.readouterr().err
    monkeypatch.delenv(contract.JOB_VARIABLE, raising=False)
    assert train.main([]) == 2
    assert contract.JOB_VARIABLE in capsys.readouterr().err


def test_no_module_of_ml_imports_another_room() -> None:
    names = ",".join(
        f"ml.{path.stem}" for path in sorted((ROOT / "ml").glob("*.py")) if path.stem != "__init__"
    )
    loaded = "{m.partition('.')[0] for m in sys.modules}"
    code = f"import sys, {names}; print(sorted({loaded} & set(sys.argv[1:])))"
    rooms = ["pipewright", "controllers", "connectors", "gateway", "dev", "kopf", "ray", "sklearn"]
    out = subprocess.run(
        [sys.executable, "-c", code, *rooms], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.strip() == "[]"
