"""Evaluates the failure prediction on a table of anybody's runs: `python -m ml.evaluate RUNS.csv|parquet`.

The newest quarter of the runs is the test, one cut in time for all projects. Beside the model, by the same
rules: always pass, the last outcome of the same line of work, logistic regression. docs/model.md has the
columns and what each number means.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ml import fit, learning, linear, replay, summary, table, train, trial
from ml.figures import Metrics
from ml.replay import Dataset
from ml.trial import Answers

TEST = 0.25
"""Share of the runs, the newest, that judges."""
DRAWS = 500
"""Resamples of the days of the test part for the intervals."""
NAMES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "fpr": "false_positive_rate",
    "recall": "recall",
    "precision": "precision",
    "f1": "f1",
    "auc": "auc",
    "brier": "brier",
    "ece": "calibration_error",
    "coverage": "coverage",
    "selective_accuracy": "selective_accuracy",
    "first_failure_recall": "first_failure_recall",
    "repeat_failure_recall": "repeat_failure_recall",
    "rows": "rows",
    "failures": "failures",
}
"""What a number is called in the answer, and in `Metrics`."""

Numbers = Mapping[str, float | int | None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was found on the test part."""

    test: Dataset
    model: Sequence[Answers]
    """Of each seed."""
    baselines: Mapping[str, Answers]
    learned: int
    """Rows before the test part whose outcomes were known when it began."""

    def numbers(self) -> dict[str, Any]:
        """All as JSON has it."""
        seeds = [numbers(each.measure(self.test)) for each in self.model]
        return {
            "model": mean(seeds),
            "baselines": {name: numbers(each.measure(self.test)) for name, each in self.baselines.items()},
            "interval": self._interval(),
            "seeds": seeds,
            "learned_rows": self.learned,
            "from": replay.rfc3339(float(self.test.judged_at[0])),
            "to": replay.rfc3339(float(self.test.judged_at[-1])),
        }

    def _interval(self) -> dict[str, list[float] | None]:
        """The middle 95 % of each of the model's numbers, the mean of the seeds, over resampled days."""
        drawn = [
            mean([numbers(each.measure(self.test, rows)) for each in self.model])
            for rows in trial.blocks(self.test, draws=DRAWS, seed=0)
        ]
        found: dict[str, list[float] | None] = {}
        for name in NAMES:
            values = [value for each in drawn if (value := each[name]) is not None]
            found[name] = [float(edge) for edge in np.quantile(values, (0.025, 0.975))] if values else None
        return found


def main(argv: Sequence[str]) -> int:
    """The command: the answer on standard output, 0; what is wrong with the table on standard error, 2."""
    asked = _parser().parse_args(argv)
    try:
        runs = table.read(asked.runs, change=asked.change)
        began = time.monotonic()
        data = replay.judged(runs.attempts, change=runs.change)
        seconds = time.monotonic() - began
        found = evaluate(
            data, days=asked.online, seeds=asked.seeds, told=_told if sys.stderr.isatty() else None
        )
    except (table.TableRefused, learning.TrainingFailed) as error:
        sys.stderr.write(f"no evaluation: {error}\n")
        return 2
    answer = {
        "runs": len(data),
        "online_days": asked.online,
        "change_columns": list(runs.change),
        "ignored_columns": list(runs.ignored),
        **found.numbers(),
    }
    if asked.json:
        sys.stdout.write(json.dumps(answer, indent=1, allow_nan=False) + "\n")
    else:
        sys.stdout.write(f"{summary.text(answer, found.test, found.model, runs.attempts)}\n")
        sys.stdout.write(f"\nFeatures of {len(data)} runs took {seconds:.1f} s.\n")
    return 0


def evaluate(
    data: Dataset, *, days: float | None = None, seeds: int = 1, told: Any = None, test: float = TEST
) -> Evaluation:
    """Try the model, once for each seed, and the baselines. Raises TrainingFailed as `train.split` does."""
    known, held_out = train.split(data, holdout=test)
    cut = len(data) - len(held_out)
    answers = [of_seed(data, known, number, cut=cut, days=days, told=told) for number in range(seeds)]
    baselines = trial.baselines(held_out)
    baselines["logistic_regression"] = trial.run(data, cut=cut, days=days, learn=linear.fit)
    return Evaluation(test=held_out, model=answers, baselines=baselines, learned=len(known))


def of_seed(
    data: Dataset, known: Dataset, number: int, *, cut: int, days: float | None, told: Any = None
) -> Answers:
    """What one draw of the model says of the test part, which begins at the row `cut`."""
    # Far apart, so that no two ensembles share a member.
    recipe = fit.choose(known, hyperparameters={}, seed=1000 * number)
    return trial.run(data, cut=cut, days=days, learn=recipe, **({"told": told} if told else {}))


def numbers(found: Metrics) -> dict[str, float | int | None]:
    """The metrics by the names of the answer."""
    values = {**dataclasses.asdict(found), "f1": _f1(found.precision, found.recall)}
    return {name: values[field] for name, field in NAMES.items()}


def mean(seeds: Sequence[Numbers]) -> dict[str, float | int | None]:
    """The mean of each number over the seeds; None where none has one."""
    found: dict[str, float | int | None] = {}
    for name in NAMES:
        values = [value for each in seeds if (value := each[name]) is not None]
        whole = name in ("rows", "failures")
        found[name] = (values[0] if whole else sum(values) / len(values)) if values else None
    return found


def _f1(precision: float | None, recall: float | None) -> float | None:
    if recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0


def _told(progress: str) -> None:
    sys.stderr.write(f"\r{progress}")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ml.evaluate", description=__doc__)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="the table: .csv, .csv.gz or .parquet")
    parser.add_argument(
        "--online", type=_days, metavar="DAYS", help="learn again every so many days of the test part"
    )
    parser.add_argument(
        "--seeds", type=_count, default=1, metavar="N", help="try so many seeds; numbers are means"
    )
    parser.add_argument(
        "--change", type=lambda text: text.split(","), metavar="COLUMNS",
        help="the numeric columns, comma-separated, that are known before a run starts (else judged by name)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _days(text: str) -> float:
    days = float(text)
    if not 0.01 <= days <= 3650:
        raise argparse.ArgumentTypeError("must be a number of days between 0.01 and 3650")
    return days


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 50:
        raise argparse.ArgumentTypeError("must be between 1 and 50")
    return count


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
