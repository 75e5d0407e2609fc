"""The evaluation of anybody's table: what it reads, what it answers, and that it never looks ahead."""

import csv
import dataclasses
import json
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml import evaluate, features, linear, replay, table, trial

KEYS = {
    "accuracy", "fpr", "recall", "precision", "f1", "auc", "brier", "ece", "coverage", "first_failure_recall",
    "repeat_failure_recall", "rows", "failures",
}  # fmt: skip
BEGIN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def runs(count: int, *, seed: int = 1) -> list[dict[str, Any]]:
    """Branches that break and are repaired, a run every half hour; large changes break more."""
    dice = random.Random(seed)
    broken: dict[str, bool] = {}
    rows = []
    for number in range(count):
        branch = dice.choice(("main", "a", "b", "c"))
        size = dice.expovariate(1 / 40)
        broken[branch] = dice.random() < (0.75 if broken.get(branch) else 0.03 + 0.2 * (size > 90))
        started = BEGIN + 1800 * number
        rows.append(
            {
                "project": dice.choice(("x", "y")) if branch == "c" else "x",
                "started_at": datetime.fromtimestamp(started, UTC).isoformat(),
                "finished_at": started + 1200,
                "outcome": int(broken[branch]),
                "workflow": "ci",
                "branch": branch,
                "actor": dice.choice(("u", "v")),
                "commit": f"c{number}",
                "lines_changed": round(size),
                "tests_failed": 9 * broken[branch],
                "notes": "text",
            }
        )
    return rows


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """(the JSON, the report) of one table."""
    path = written(tmp_path_factory.mktemp("table") / "runs.csv", runs(600))
    with pytest.MonkeyPatch.context() as patch:
        out: list[str] = []
        patch.setattr("sys.stdout.write", out.append)
        patch.setattr(evaluate, "DRAWS", 30)
        assert evaluate.main([str(path), "--online", "3", "--json"]) == 0
        found = "".join(out)
        out.clear()
        assert evaluate.main([str(path)]) == 0
    return json.loads(found), "".join(out)


def test_the_answer_has_every_number_of_the_model_and_of_each_baseline(
    answer: tuple[dict[str, Any], str],
) -> None:
    found, _ = answer
    assert set(found["baselines"]) == {"always_pass", "last_outcome", "logistic_regression"}
    for numbers in (found["model"], *found["baselines"].values()):
        assert set(numbers) >= KEYS
        assert (numbers["rows"], numbers["failures"]) == (150, found["model"]["failures"])
    always = found["baselines"]["always_pass"]
    assert (always["recall"], always["precision"], always["fpr"], always["auc"]) == (0, None, 0, 0.5)
    assert always["accuracy"] == pytest.approx(1 - always["failures"] / 150)
    last = found["baselines"]["last_outcome"]
    assert (last["first_failure_recall"], last["repeat_failure_recall"]) == (0, 1)
    assert found["model"]["auc"] > last["auc"]
    low, high = found["interval"]["auc"]
    assert low < found["model"]["auc"] < high
    assert (found["change_columns"], found["ignored_columns"]) == (
        ["lines_changed"],
        ["tests_failed", "notes"],
    )


def test_the_report_shows_it_to_people(answer: tuple[dict[str, Any], str]) -> None:
    _, text = answer
    assert "150 runs of 600 tested" in text
    for words in ("| model |", "| logistic regression |", "95 % interval", "1 (riskiest)", "learned once",
                  "| x |", "median project", "Had every flagged run been stopped"):  # fmt: skip
        assert words in text


def read(rows: list[dict[str, Any]], path: Path, **options: Any) -> table.Table:
    return table.read(written(path, rows), **options)


def test_the_same_table_is_read_alike_from_csv_and_parquet(tmp_path: Path) -> None:
    rows = runs(50)
    typed = [{**row, "started_at": datetime.fromisoformat(row["started_at"])} for row in rows]
    seconds = [{**row, "started_at": datetime.fromisoformat(row["started_at"]).timestamp()} for row in rows]
    found = [
        read(rows, tmp_path / "a.csv"),
        read(list(reversed(rows)), tmp_path / "b.csv"),
        read(typed, tmp_path / "c.parquet"),
        read(seconds, tmp_path / "d.csv"),
    ]
    x = [replay.judged(each.attempts, change=each.change).x for each in found]
    for each in x[1:]:
        np.testing.assert_array_equal(x[0], each)
    assert x[0].shape == (50, len(features.NAMES) + 1)


def test_what_is_absent_is_made_up_for(tmp_path: Path) -> None:
    bare = {"project": "p", "started_at": "2026-01-01", "outcome": 0}
    rows = [
        bare,
        {**bare, "started_at": "2026-01-01T00:10:00Z"},
        {**bare, "started_at": "2026-01-01T00:31:00Z"},
    ]
    data = replay.judged(read(rows, tmp_path / "a.csv").attempts)
    assert (data.finished_at - data.started_at).tolist() == [table.LAG] * 3
    assert data.has_history.tolist() == [False, False, True]
    took = read([{**row, "duration": 60} for row in rows], tmp_path / "b.csv").attempts
    assert [each.finished_at for each in took if each.finished_at] == [
        each.run.started_at + 60 for each in took
    ]


def test_a_later_attempt_is_one_of_the_same_run(tmp_path: Path) -> None:
    first = {"project": "p", "started_at": 0, "outcome": 1, "workflow": "ci", "commit": "c", "attempt": 1}
    rows = [first, {**first, "workflow": "e2e"}, {**first, "started_at": 9999, "attempt": 2, "outcome": 0}]
    found = read(rows, tmp_path / "a.csv").attempts
    assert [(each.run.run_id, each.run.attempt) for each in found] == [("0", 1), ("1", 1), ("0", 2)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outcome": 2}, r"row 2: outcome is '2', it must be 0 \(passed\) or 1 \(failed\)"),
        ({"outcome": ""}, "row 2: outcome is empty"),
        (
            {"started_at": "yesterday"},
            "row 2: started_at is 'yesterday', which is neither ISO 8601 nor seconds",
        ),
        ({"started_at": "1767225600000"}, "row 2: started_at .* give seconds, not milliseconds"),
        ({"finished_at": "late"}, "row 2: finished_at is 'late'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, changes: Mapping[str, Any], message: str) -> None:
    first, second = runs(2)
    with pytest.raises(table.TableRefused, match=message):
        read([first, {**second, **changes}], tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("project,outcome\np,1\n", [], "no column started_at; it has project, outcome"),
        ("project,started_at,outcome\n", [], "has no rows"),
        ("project,started_at,outcome\np,0,1\n", ["--change", "files"], "files: no such numeric column"),
        ("project,started_at,outcome\np,0,1\n", [], "holds 1 runs that passed or failed, training needs 200"),
        ("a,b\n1\n", [], "cannot be read as .csv"),
        (None, [], "cannot be read as .csv: .*No such file"),
    ],
)
def test_a_table_that_cannot_be_evaluated_ends_with_two_and_says_why(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    arguments: list[str],
    message: str,
) -> None:
    path = tmp_path / "runs.csv"
    if content is not None:
        path.write_text(content)
    assert evaluate.main([str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("no evaluation: ")
    assert re.search(message, error)


def test_what_comes_later_changes_no_answer(tmp_path: Path) -> None:
    data = replay.judged(read(runs(800), tmp_path / "a.csv").attempts)
    rows = runs(800)
    for row in rows[700:]:
        row["outcome"] = 1 - row["outcome"]
        row["finished_at"] += 7e6
    other = replay.judged(read(rows, tmp_path / "b.csv").attempts)
    mine, theirs = (trial.run(each, cut=600, days=1, learn=linear.fit) for each in (data, other))
    np.testing.assert_array_equal(mine.probability[:101], theirs.probability[:101])
    np.testing.assert_array_equal(mine.flagged[:101], theirs.flagged[:101])
    assert mine.probability[101:].tolist() != theirs.probability[101:].tolist()
    once = trial.run(data, cut=600, days=None, learn=linear.fit)
    assert once.probability[:40].tolist() == mine.probability[:40].tolist()
    assert once.probability[80:].tolist() != mine.probability[80:].tolist()


def test_how_a_run_ends_is_no_feature_of_it(tmp_path: Path) -> None:
    rows = runs(60)
    changed = [*rows[:-1], {**rows[-1], "outcome": 1 - rows[-1]["outcome"], "finished_at": 9e9}]
    mine, theirs = (replay.judged(read(each, tmp_path / "a.csv").attempts).x for each in (rows, changed))
    np.testing.assert_array_equal(mine, theirs)


def test_days_are_drawn_whole(tmp_path: Path) -> None:
    data = replay.judged(read(runs(480), tmp_path / "a.csv").attempts)
    for rows in trial.blocks(data, draws=5, seed=1):
        assert len(rows) == 480
        days, counts = np.unique(rows // 48, return_counts=True)
        assert set(counts % 48) == {0}
        assert len(days) < 10


def test_logistic_regression_finds_the_line_that_made_the_data() -> None:
    dice = np.random.default_rng(2)
    x = dice.normal(size=(20_000, 3))
    x[:, 2] = np.nan
    signal = np.sign(x[:, 0]) * np.log1p(np.abs(x[:, 0]))
    failed = dice.random(20_000) < 1 / (1 + np.exp(-(2 * signal - 1)))
    found = linear.fit(x, failed, ridge=1.0)
    assert found.weights[0] / found.scales[0] == pytest.approx(2, abs=0.15)
    assert found.weights[1] / found.scales[1] == pytest.approx(0, abs=0.1)
    assert found.weights[2] == 0
    mean = np.array([[0.0, 0.0, np.nan]])
    assert found.logit(mean)[0] == pytest.approx(-1, abs=0.1)
    assert linear.fit(x, failed, ridge=1e6).weights[0] == pytest.approx(0, abs=0.01)
    assert linear.fit(x, np.zeros(20_000, bool)).logit(x).max() < -5
    assert found == linear.Linear(**dataclasses.asdict(found))
