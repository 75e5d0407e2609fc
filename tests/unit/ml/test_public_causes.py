"""Causes, durations and retries on public data (not part of the project; skipped where they are absent)."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dev import places
from ml import causes, evaluate_causes, evaluate_work, metrics, reference_patterns, taxonomy


def folder(name: str) -> Path:
    if not (places.SHARED_DATA / name).is_dir():
        pytest.skip(f"the public data set is not in ../shared/data/{name}")
    return places.SHARED_DATA / name


def test_hand_labelled_jobs_are_told_apart_by_patterns_and_better_by_the_model() -> None:
    """A part of the training part only: the whole is what `python -m ml.evaluate_causes` prints."""
    rows = evaluate_causes.veloren(folder("gitlab-veloren-intermittent"))
    assert len(rows) == 366
    train, test = rows[40:110], rows[110:150]
    truth = np.array([row.label == causes.TRANSIENT for row in test])
    shown = [taxonomy.findings(row.failure.log) for row in test]
    by_pattern = np.array([bool(found) and found[0].category.transient for found in shown])
    assert evaluate_causes.f1(truth, by_pattern) >= 0.6
    model = causes.CauseModel.fit([row.failure for row in train], [row.label for row in train])
    said = model.probabilities([row.failure for row in test])[:, 1]
    auc = metrics.auc(truth, said)
    assert auc is not None
    assert auc >= 0.9


def test_the_published_patterns_are_recognised() -> None:
    found, by_cost, by_count = reference_patterns.compare(folder("gitlab-flaky-taxonomy"))
    assert found["categories"] == found["categories_named"] == 46
    assert found["example_lines"] >= 90
    assert found["same_category"] >= 0.85
    assert by_cost["top5_share_of_cost"] > by_count["top5_share_of_cost"]


def test_durations_are_foretold_better_by_recent_runs_than_by_the_whole_past() -> None:
    runs = evaluate_work.read(folder("gha-runs"))
    kept = [run for run in runs if 0 < run.seconds <= evaluate_work.LONGEST][-1800:]
    whole, recent, model = evaluate_work.compare_durations(kept)
    assert recent["pinball_p50_s"] < whole["pinball_p50_s"]
    assert 0.8 < recent["covered_p90"] < 0.95
    assert model["pinball_p50_s"] < 1.05 * recent["pinball_p50_s"]


def failure(minute: int, group: str) -> dict[str, Any]:
    at = datetime(2026, 3, 2, 9, minute, tzinfo=UTC).isoformat().replace("+00:00", "Z")
    return {"run_id": str(minute), "log_line": 1, "at": at, "group": group, "snippet": "make: Error 1"}


def test_a_label_counts_only_after_it_was_visible(tmp_path: Path) -> None:
    rows = [failure(0, "external"), failure(29, "internal"), failure(30, "external"), failure(59, "pr-build")]
    with gzip.open(tmp_path / "labelled_failures.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    assert [row.failure.facts for row in evaluate_causes.kubevirt(tmp_path)] == [
        ("no failure with this very line is known",),
        ("no failure with this very line is known",),
        ("the last failure with this very line was external",),
        (
            "the last failure with this very line was internal",
            "the second last failure with this very line was external",
        ),
    ]


def test_the_command_names_what_it_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_causes.main([str(tmp_path)]) == 2
    assert "veloren_labeled.csv.gz" in capsys.readouterr().err
