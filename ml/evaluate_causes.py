"""How good causes, retries, durations and anomalies are, on public data: `python -m ml.evaluate_causes
DIRECTORY`.

The directory's files say which data set it is (docs/model.md lists them). One line for each predictor, the
losing ones too; with `--json` each is a JSON object. Splits are by time, settings were chosen within the
training part, intervals are 95 % bootstrap intervals over days.
"""

import argparse
import csv
import dataclasses
import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ml import causes, evaluate_work, intervals, metrics, reference_patterns, taxonomy
from ml.arrays import Flags, Floats
from ml.causes import CauseModel, Failure
from ml.text import Logistic, TfIdf, words

Line = dict[str, Any]
Statistic = Callable[[intervals.Rows], float]
TRAIN = 0.7
"""Share of the rows, the earliest, that is trained on."""
CHARACTERS = 6000
"""Of a log's end that the plain baseline reads, as published."""
VISIBLE_AFTER = 1800.0
"""Seconds after a failure until its label counts as known."""
REFIT = 20
"""Failures after which the prequential model of groups is fitted again."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A labelled failure."""

    failure: Failure
    label: str
    at: float
    """Epoch seconds."""

    @property
    def day(self) -> int:
        """The block that it is resampled with."""
        return int(self.at // 86400)


def main(argv: Sequence[str]) -> int:
    """The command; 2 where the directory holds no data set that it knows."""
    parser = argparse.ArgumentParser(prog="python -m ml.evaluate_causes", description=__doc__)
    parser.add_argument("directory", type=Path, help="a data set as its publisher gives it")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args(argv)
    found = [run for file, run in DATASETS.items() if (arguments.directory / file).is_file()]
    if not found:
        sys.stderr.write(f"{arguments.directory} holds none of {', '.join(DATASETS)}\n")
        return 2
    for line in found[0](arguments.directory):
        sys.stdout.write((json.dumps(line) if arguments.json else _plain(line)) + "\n")
        sys.stdout.flush()
    return 0


def intermittent(directory: Path) -> Iterable[Line]:
    """Does a failed job pass when it is run again? Hand-labelled GitLab jobs, the last 30 % by time."""
    rows = veloren(directory)
    cut = int(len(rows) * TRAIN)
    train, test = rows[:cut], rows[cut:]
    labels = [row.label for row in train]
    plain = TfIdf.fit([words(row.failure.log[-CHARACTERS:]) for row in train])
    baseline = Logistic.fit(_plain_rows(plain, train), labels)
    model = CauseModel.fit([row.failure for row in train], labels)
    found = [taxonomy.findings(row.failure.log) for row in test]
    said = {
        "majority": np.zeros(len(test)),
        "tfidf+logistic": baseline.probabilities(_plain_rows(plain, test))[:, 1],
        "taxonomy": np.array([float(bool(each) and each[0].category.transient) for each in found]),
        "causes": model.probabilities([row.failure for row in test])[:, 1],
    }
    truth = np.array([row.label == causes.TRANSIENT for row in test])
    days = [row.day for row in test]
    for name, probability in said.items():
        flagged = probability >= 0.5
        line = {"task": "intermittent", "predictor": name, "rows": len(test), "positives": int(truth.sum())}
        line |= _with_interval("f1", _f1_of(truth, flagged), days)
        line |= _with_interval("accuracy", _share_of(truth == flagged), days)
        line["auc"] = _rounded(metrics.auc(truth, probability))
        line["brier"] = _rounded(metrics.brier(truth, probability))
        if name == "causes":
            ours, theirs = _f1_of(truth, flagged), _f1_of(truth, said["tfidf+logistic"] >= 0.5)
            line |= _with_interval("f1_gain_over_tfidf", _difference(ours, theirs), days)
            sure = np.maximum(probability, 1 - probability) >= causes.SURE
            line["coverage_when_sure"] = _rounded(float(sure.mean()))
            line["accuracy_when_sure"] = _rounded(float((truth == flagged)[sure].mean()))
        yield line
    kinds = Counter(
        (row.label, each[0].category.kind if each else "unsure")
        for row, each in zip(test, found, strict=True)
    )
    yield {
        "task": "intermittent",
        "kinds": {f"{label}/{kind}": n for (label, kind), n in sorted(kinds.items())},
    }


def groups(directory: Path) -> Iterable[Line]:
    """Whose failure is it? Prow jobs in four groups, one log line each, the last 30 % by time."""
    rows = kubevirt(directory)
    cut = int(len(rows) * TRAIN)
    train, test = rows[:cut], rows[cut:]
    labels = [row.label for row in train]
    plain = TfIdf.fit([words(row.failure.log) for row in train])
    baseline = Logistic.fit(_plain_rows(plain, train), labels)
    model = CauseModel.fit([row.failure for row in train], labels)
    said = {
        "majority": [Counter(labels).most_common(1)[0][0]] * len(test),
        "tfidf+logistic": _best(baseline.classes, baseline.probabilities(_plain_rows(plain, test))),
        "causes": _best(model.labels, model.probabilities([row.failure for row in test])),
        "causes, refitted": [
            label for start in range(cut, len(rows), REFIT) for label in _refitted(rows, start)
        ],
    }
    truth = np.array([row.label for row in test])
    days = [row.day for row in test]
    for name, answers in said.items():
        right = np.array(answers) == truth
        line: Line = {
            "task": "group",
            "predictor": name,
            "rows": len(test),
            "classes": dict(Counter(answers)),
        }
        line |= _with_interval("accuracy", _share_of(right), days)
        line["macro_f1"] = _rounded(
            float(np.mean([f1(truth == each, np.array(answers) == each) for each in sorted(set(truth))]))
        )
        yield line


def _refitted(rows: Sequence[Row], start: int) -> list[str]:
    """The next rows by a model of all whose labels were visible when the first of them came."""
    seen = [row for row in rows[:start] if row.at + VISIBLE_AFTER <= rows[start].at]
    model = CauseModel.fit([row.failure for row in seen], [row.label for row in seen])
    return _best(model.labels, model.probabilities([row.failure for row in rows[start : start + REFIT]]))


def veloren(directory: Path) -> list[Row]:
    """gitlab-veloren-intermittent: hand-labelled jobs, the oldest first."""
    csv.field_size_limit(sys.maxsize)
    with gzip.open(directory / "veloren_labeled.csv.gz", "rt", encoding="utf-8") as text:
        rows = [
            Row(
                failure=Failure(log=row["log"], job=row["name"]),
                label=causes.TRANSIENT if row["flaky"] == "1" else causes.LASTING,
                at=datetime.fromisoformat(row["created_at"]).timestamp(),
            )
            for row in csv.DictReader(text)
        ]
    return sorted(rows, key=lambda row: row.at)


def kubevirt(directory: Path) -> list[Row]:
    """kubevirt-prow: labelled failures, the oldest first; what the same line was before is a fact."""
    with gzip.open(directory / "labelled_failures.jsonl.gz", "rt", encoding="utf-8") as text:
        failures = [(datetime.fromisoformat(row["at"]).timestamp(), row) for row in map(json.loads, text)]
    failures.sort(key=lambda each: (each[0], each[1]["run_id"], each[1]["log_line"]))
    earlier: dict[str, list[tuple[float, str]]] = {}
    rows = []
    for at, row in failures:
        known = [label for then, label in earlier.get(row["snippet"], []) if then + VISIBLE_AFTER <= at][-3:]
        facts = [
            f"{place} failure with this very line was {label}"
            for place, label in zip(_PLACES, reversed(known), strict=False)
        ]
        failure = Failure(
            log=row["snippet"], facts=tuple(facts) or ("no failure with this very line is known",)
        )
        rows.append(Row(failure=failure, label=row["group"], at=at))
        earlier.setdefault(row["snippet"], []).append((at, row["group"]))
    return rows


_PLACES = ("the last", "the second last", "the third last")

DATASETS: Mapping[str, Callable[[Path], Iterable[Line]]] = {
    "veloren_labeled.csv.gz": intermittent,
    "labelled_failures.jsonl.gz": groups,
    "patterns.csv": reference_patterns.compare,
    "gha_mit.csv.gz": evaluate_work.compare,
}


def f1(truth: Flags, flagged: Flags) -> float:
    """Harmonic mean of precision and recall; not a number where there is neither."""
    total = int(truth.sum()) + int(flagged.sum())
    return 2 * int((truth & flagged).sum()) / total if total else float("nan")


def _f1_of(truth: Flags, flagged: Flags) -> Statistic:
    return lambda at: f1(truth[at], flagged[at])


def _share_of(right: Flags) -> Statistic:
    return lambda at: float(right[at].mean())


def _difference(ours: Statistic, theirs: Statistic) -> Statistic:
    return lambda at: ours(at) - theirs(at)


def _plain_rows(plain: TfIdf, rows: Sequence[Row]) -> Any:
    return plain.transform([words(row.failure.log[-CHARACTERS:]) for row in rows])


def _best(labels: Sequence[str], probabilities: Floats) -> list[str]:
    return [labels[column] for column in probabilities.argmax(axis=1)]


def _with_interval(name: str, statistic: Statistic, days: Sequence[int]) -> Line:
    low, high = intervals.bootstrap(statistic, days)
    return {
        name: _rounded(statistic(np.arange(len(days)))),
        f"{name}_interval": [_rounded(low), _rounded(high)],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _plain(line: Line) -> str:
    return "  ".join(f"{name} {value}" for name, value in line.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
