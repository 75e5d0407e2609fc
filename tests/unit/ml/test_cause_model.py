"""The task FailureCause from a data window to a diagnosis: labels by re-runs, honest, the same online."""

import json
import random
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml import artifact, cause_artifact, cause_features, cause_train, contract, train, window
from ml.artifact import ArtifactRefused
from ml.contract import Gates, Report, TrainingJob
from ml.diagnosis import Judge
from ml.history import Outcome, Run
from ml.learning import TrainingFailed

START = datetime(2026, 1, 1, tzinfo=UTC)


def row(
    number: int, attempt: int, *, outcome: str, minute: int, jobs: list[str], **more: Any
) -> dict[str, Any]:
    began = START + timedelta(minutes=minute)
    return {
        "integration": "github", "project": "a", "pipeline": "ci", "run_id": str(number), "attempt": attempt,
        "number": number, "event": "push", "branch": "main", "actor": "u", "sha": f"s{number}",
        "outcome": outcome, "queued_at": None, "started_at": began,
        "finished_at": began + timedelta(minutes=5), "failed_jobs": jobs, "jobs": 2, **more,
    }  # fmt: skip


def rows(count: int, *, seed: int = 5) -> list[dict[str, Any]]:
    """Failures that are run again: what the job e2e breaks mostly passes then, what unit breaks does not."""
    chance, found = random.Random(seed), []
    for number in range(count):
        job = chance.choice(["e2e", "unit"])
        passes = chance.random() < (0.9 if job == "e2e" else 0.08)
        minute = 60 * number
        found.append(row(number, 1, outcome="failure", minute=minute, jobs=[job]))
        again = "success" if passes else "failure"
        found.append(row(number, 2, outcome=again, minute=minute + 20, jobs=[] if passes else [job]))
    return found


def job_of(content: bytes, **changes: Any) -> TrainingJob:
    plain = TrainingJob(
        submission_id="t1",
        task="FailureCause",
        window_uri="file:///nowhere/window",
        window_sha256=artifact.digest(content),
        artifact_uri="file:///nowhere/model",
        report_uri="file:///nowhere/report",
    )
    return replace(plain, **changes)


@pytest.fixture(scope="module")
def content() -> bytes:
    return window.write(rows(240))


@pytest.fixture(scope="module")
def learned(content: bytes) -> tuple[bytes, Report]:
    return cause_train.learn(content, job_of(content))


def labels(*given: dict[str, Any]) -> list[bool]:
    content = window.write(given)
    return [
        each.transient for each in cause_train.labelled(window.read(content, sha256=artifact.digest(content)))
    ]


def test_a_label_is_what_became_of_the_next_attempt_on_the_commit() -> None:
    failed, passed = (
        row(1, attempt, outcome=outcome, minute=minute, jobs=[])
        for attempt, outcome, minute in ((1, "failure", 0), (2, "success", 10))
    )
    assert labels(failed, passed) == [True]
    assert labels(failed, row(1, 2, outcome="failure", minute=10, jobs=[])) == [False]
    # another run on the same commit is an attempt, too; on another commit, or branch, it is none
    assert labels(failed, row(2, 1, outcome="success", minute=10, jobs=[], sha="s1")) == [True]
    assert labels(failed, row(2, 1, outcome="success", minute=10, jobs=[])) == []
    assert labels(failed, row(2, 1, outcome="success", minute=10, jobs=[], sha="s1", branch="b")) == []
    # what was cancelled answers nothing; what ran beside it did not follow it
    assert labels(failed, row(1, 2, outcome="cancel", minute=10, jobs=[])) == []
    assert labels(failed, row(2, 1, outcome="success", minute=2, jobs=[], sha="s1")) == []
    assert labels(failed, row(1, 2, outcome="failure", minute=10, jobs=[]),
                  row(1, 3, outcome="success", minute=20, jobs=[])) == [False, True]  # fmt: skip


def test_it_learns_which_failures_pass_when_they_are_run_again(learned: tuple[bytes, Report]) -> None:
    found = learned[1].causes
    assert found is not None
    best = max(each.accuracy for each in found.baselines.values())
    assert set(found.baselines) == {"majority", "lineRate"}
    assert found.metrics.accuracy > best + 0.2
    assert found.metrics.auc is not None
    assert found.metrics.auc > 0.85
    assert found.metrics.calibration_error < 0.15
    assert found.metrics.rows >= 60


def test_the_same_window_gives_the_same_file(learned: tuple[bytes, Report], content: bytes) -> None:
    assert cause_train.learn(content, job_of(content))[0] == learned[0]


def test_labels_that_were_not_known_at_the_cut_teach_nothing(content: bytes) -> None:
    found = cause_train.labelled(window.read(content, sha256=artifact.digest(content)))
    known, test = cause_train.split(found, holdout=0.25)
    assert max(each.known_at for each in known) <= test[0].failed_at


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (rows(20), "training needs 60"),
        ([{**each, "outcome": "failure"} for each in rows(100)], "of the failures to learn from 0 passed"),
    ],
)
def test_too_little_to_learn_from_is_said(given: list[dict[str, Any]], says: str) -> None:
    content = window.write(given)
    with pytest.raises(TrainingFailed, match=says):
        cause_train.learn(content, job_of(content))


def test_the_job_leaves_a_report_with_its_gates(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "window").write_bytes(content)
    job = job_of(
        content,
        window_uri=(tmp_path / "window").as_uri(),
        artifact_uri=(tmp_path / "model").as_uri(),
        report_uri=(tmp_path / "report").as_uri(),
        gates=Gates(min_accuracy=1.0, min_gain_over_baseline=0.9, max_calibration_error=0.0),
    )
    report = train.run(job)
    assert report == contract.from_json(Report, (tmp_path / "report").read_bytes())
    assert (report.outcome, report.model_format) == ("GatesFailed", contract.CAUSE_FORMAT)
    assert report.reason.count("must be") == 3
    assert report.causes is not None
    assert report.figures == report.causes.metrics
    file = cause_artifact.load((tmp_path / "model").read_bytes(), sha256=report.artifact_sha256 or "")
    assert file.metrics == report.causes.metrics


def test_the_format_names_the_sentences() -> None:
    assert f"{cause_artifact.ENVELOPE.format} {cause_features.SCHEMA}" == contract.CAUSE_FORMAT


# --- judging ------------------------------------------------------------------------------------------------

RUN = Run(
    integration="github", project="a", pipeline="ci", event="push", branch="main", actor="", sha="x",
    run_id="900", attempt=1, started_at=1e9,
)  # fmt: skip


@pytest.fixture(scope="module")
def judge(learned: tuple[bytes, Report]) -> Judge:
    found = Judge.load(learned[0], sha256=artifact.digest(learned[0]))
    found.warm()
    return found


def test_without_a_log_the_facts_say_whether_to_run_it_again(judge: Judge) -> None:
    again = judge.judge(cause_features.failure(RUN, {}, ["e2e"]))
    assert (again.kind, again.owner, again.category) == ("flaky", "team", None)
    assert again.transient > 0.7
    assert "the job e2e failed" in again.reasons[0]
    assert again.recipe is not None
    assert again.recipe.startswith("Run it again")
    lasting = judge.judge(cause_features.failure(RUN, {}, ["unit"]))
    assert (lasting.kind, lasting.owner) == ("code", "author")
    assert lasting.transient < 0.3


def test_with_a_log_the_taxonomy_names_category_owner_and_recipe(judge: Judge) -> None:
    log = "fatal: unable to access 'https://git.example.org/x': Could not resolve host: git.example.org"
    found = judge.judge(cause_features.failure(RUN, {}, ["unit"], log=log))
    assert found.category is not None
    assert (found.kind, bool(found.owner), bool(found.recipe)) == ("infra", True, True)
    assert "git.example.org" in found.reasons[0]


def test_what_ended_after_the_run_was_judged_is_not_seen() -> None:
    def ended(run: str, at: float, *, failed: bool) -> Outcome:
        return Outcome(run=run, attempt=1, sha="", started_at=at - 60, finished_at=at, failed=failed)

    before, own = ended("1", 1e9 - 10, failed=False), ended("900", 1e9 + 300, failed=True)
    after = ended("2", 1e9 + 200, failed=True)
    alone = cause_features.failure(RUN, {"branch": [before]}, ["unit"])
    assert cause_features.failure(RUN, {"branch": [before, after, own]}, ["unit"]) == alone
    assert "the run before on its branch passed" in alone.facts


def test_many_failed_jobs_are_bounded() -> None:
    found = cause_features.failure(RUN, {}, [f"job {number}" for number in range(500)])
    assert len(found.facts) < 30


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "pipewright-model/2"}, "has the format pipewright-model/2"),
        ({"features": {"schema": "x"}}, "trained on the features x"),
        ({"model": {}}, "is incomplete"),
        ({"window": {}}, "is incomplete"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(
    learned: tuple[bytes, Report], changes: dict[str, Any], says: str
) -> None:
    wrong = artifact.pack({**json.loads(zlib.decompress(learned[0])), **changes})
    with pytest.raises(ArtifactRefused, match=says):
        cause_artifact.load(wrong, sha256=artifact.digest(wrong))
