"""The evaluation's answer for people: Markdown tables."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ml import metrics
from ml.replay import Attempt, Dataset
from ml.trial import Answers

COLUMNS = ("accuracy", "fpr", "recall", "precision", "f1", "auc", "brier", "ece", "first_failure_recall",
           "repeat_failure_recall", "coverage", "selective_accuracy")  # fmt: skip
TITLES = ("accuracy", "FPR", "recall", "precision", "F1", "AUC", "Brier", "ECE", "first failures",
          "repeats", "coverage", "accuracy when sure")  # fmt: skip
FEWEST = 30
"""Runs that a project needs in the test part for a line of its own."""
DECILES = 10


def text(
    answer: Mapping[str, Any], test: Dataset, model: Sequence[Answers], attempts: Sequence[Attempt]
) -> str:
    """Metrics beside the baselines, projects, risk deciles and what acting on it would have saved."""
    return "\n".join(_lines(answer, test, model, attempts))


def _lines(
    answer: Mapping[str, Any], test: Dataset, model: Sequence[Answers], attempts: Sequence[Attempt]
) -> Iterator[str]:
    found, days = answer["model"], answer["online_days"]
    again = f"learned again every {days:g} days" if days else "learned once"
    yield (
        f"{found['rows']} runs of {answer['runs']} tested, {found['failures']} failures,"
        f" from {answer['from']} to {answer['to']};"
        f" {answer['learned_rows']} known before; {again}; {len(model)} seed(s)"
    )
    for title, names in (("sizes of the change", "change_columns"), ("ignored columns", "ignored_columns")):
        if answer[names]:
            yield f"{title}: {', '.join(answer[names])}"
    yield ""
    yield _row("predictor", *TITLES)
    yield _row(*["---"] * (len(TITLES) + 1))
    yield _row("model", *(_share(found[name]) for name in COLUMNS))
    yield _row("95 % interval", *(_span(answer["interval"][name]) for name in COLUMNS))
    for name, numbers in answer["baselines"].items():
        yield _row(name.replace("_", " "), *(_share(numbers[column]) for column in COLUMNS))
    yield ""
    yield from _projects(test, model[0])
    yield ""
    yield from _deciles(test, model[0])
    yield ""
    yield _saved(test, model[0], attempts)


def _projects(test: Dataset, answers: Answers) -> Iterator[str]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, project in enumerate(test.projects):
        places[project].append(place)
    yield _row(
        "project (first seed)",
        "runs",
        "failures",
        "accuracy",
        "always pass",
        "last outcome",
        "FPR",
        "recall",
        "AUC",
    )
    yield _row(*["---"] * 9)
    ranks = []
    for project, rows in sorted(places.items(), key=lambda item: -len(item[1])):
        if len(rows) < FEWEST:
            continue
        at = np.array(rows)
        mine = answers.measure(test, at)
        always = 1 - mine.failures / mine.rows
        last = float((test.red_before[at] == test.failed[at]).mean())
        ranks += [mine.auc] if mine.auc is not None else []
        yield _row(
            project, str(mine.rows), str(mine.failures),
            *map(_share, (mine.accuracy, always, last, mine.false_positive_rate, mine.recall, mine.auc)),
        )  # fmt: skip
    if ranks:
        yield f"\nThe median project's AUC is {np.median(ranks):.3f}."


def _deciles(test: Dataset, answers: Answers) -> Iterator[str]:
    yield _row("risk decile (first seed)", "predicted", "failed", "share of all failures")
    yield _row(*["---"] * 4)
    order = np.argsort(-answers.probability, kind="stable")
    for number, rows in enumerate(np.array_split(order, DECILES), 1):
        failures = int(test.failed[rows].sum())
        yield _row(
            f"{number}{' (riskiest)' if number == 1 else ''}",
            _share(float(answers.probability[rows].mean())),
            _share(failures / len(rows) if len(rows) else None),
            _share(failures / test.failed.sum() if test.failed.any() else None),
        )


def _saved(test: Dataset, answers: Answers, attempts: Sequence[Attempt]) -> str:
    """What stopping every flagged run at once would have saved, by how long such runs usually take."""
    # The median of the work's runs, not the run's own time: a re-run's end is days after the start.
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    for each in attempts:
        if each.finished_at is not None:
            took[each.run.project, each.run.work].append(each.finished_at - each.run.started_at)
    usual = {key: float(np.median(values)) / 3600 for key, values in took.items()}
    hours = np.array([usual[each.run.project, each.run.work] for each in attempts[-len(test) :]])
    flagged = answers.flagged
    lost, saved = hours[flagged & ~test.failed].sum(), hours[flagged & test.failed].sum()
    return (
        f"Had every flagged run been stopped: {saved:.0f} of the {hours[test.failed].sum():.0f} hours of"
        f" failing runs saved, {lost:.0f} of the {hours[~test.failed].sum():.0f} hours of passing runs lost"
        f" ({metrics.share(flagged, of=test.failed) or 0:.1%} of the failures told before they ran)."
    )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _span(edges: Sequence[float] | None) -> str:
    return "–" if edges is None else f"{edges[0]:.3f} to {edges[1]:.3f}"
