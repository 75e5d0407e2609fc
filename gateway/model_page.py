"""The report of a model of failures as one page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gateway import page_frame, plots
from gateway.model_schemas import (
    BinBody,
    DayBody,
    HeldOutBody,
    JudgedBody,
    LiveBody,
    ModelReportBody,
    SearchBody,
)
from gateway.page_frame import number
from gateway.plots import Bar, Series

_ROWS = {
    "accuracy": "called right",
    "false_positive_rate": "passing runs called failing",
    "recall": "failing runs called failing",
    "precision": "right among those called failing",
    "auc": "a failing run ranked above a passing one",
    "calibration_error": "gap between probability and observed share",
    "first_failure_recall": "first failures found",
    "repeat_failure_recall": "repeated failures found",
    "coverage": "not unsure",
    "selective_accuracy": "called right among those",
}
_BASELINES = {"alwaysPass": "every run passes", "lastOutcome": "as the run before"}


def render(report: ModelReportBody) -> str:
    """The page."""
    return page_frame.whole(
        report,
        _numbers(report.held_out, report.live, report.control),
        _plots(report.held_out, report.live),
        page_frame.drift_told(report.live.population_stability_index, subject="probabilities"),
        page_frame.trainings(
            report.trainings,
            {
                "accuracy": lambda it: number(_percent(it.accuracy)),
                "false alarms": lambda it: number(_percent(it.false_positive_rate)),
                "recall": lambda it: number(_percent(it.recall)),
                "search": lambda it: f"<td>{_search(it.search)}</td>",
            },
        ),
    )


def _numbers(held: HeldOutBody | None, live: LiveBody, control: JudgedBody | None) -> str:
    columns: list[tuple[str, object]] = [("held-out runs", held.metrics)] if held else []
    columns += [(_BASELINES.get(name, name), each) for name, each in (held.baselines if held else {}).items()]
    columns.append((f"since {live.since:%Y-%m-%d}", live))
    if control:
        columns.append(("of these, the control group", control))
    judged = None
    if held:
        rows, failures = held.metrics.rows, held.metrics.failures
        judged = f"Judged on {rows} runs that it was not trained on, {failures} of them failed."
        if held.pooled:
            judged += f" It is a pooled version, of {held.pooled.runs} runs of {held.pooled.tenants} tenants,"
            judged += f" {held.pooled.own_runs} of them your own; it was judged on the newest of them all."
    now = f"Since then it was asked about {live.predictions} runs; {live.judged} of them have ended."
    if control:
        now += f" Nothing is done by the predictions of {control.predictions} of these;"
        now += f" {control.judged} of them have ended."
    cells = [(title, [_percent(getattr(each, key, None)) for key in _ROWS]) for title, each in columns]
    return page_frame.how_good(cells, _ROWS.values(), judged=judged, now=now)


def _plots(held: HeldOutBody | None, live: LiveBody) -> str:
    curves = held.curves if held else None
    calibration = plots.scatter(
        "Calibration",
        [
            Series("held-out runs", _points(curves.calibration if curves else ()), "held"),
            Series("live", _points(live.calibration), "live"),
        ],
        x="predicted",
        y="failed",
    )
    figures = [
        (calibration, "What was predicted, across, and the share that failed, up: on the line both agree.")
    ]
    if curves:
        risk = [
            Bar(
                str(at),
                each.failures / each.rows,
                f"from {each.least:.1%}: {each.failures} of {each.rows} failed",
            )
            for at, each in enumerate(curves.deciles, 1)
        ]
        figures.append(
            (plots.bars("Risk deciles", risk), "Held-out runs in tenths by rising risk: share that failed.")
        )
        figures.append(
            (plots.bars("Recall by day", _recall(curves.days)), "Held-out failures that were found, by day.")
        )
    figures.append(
        (plots.bars("Recall by day, live", _recall(live.days)), "Failures that were found, by day, live.")
    )
    return page_frame.pictures(figures)


def _search(found: SearchBody | None) -> str:
    if found is None:
        return "–"
    of = f" of {found.asked}" if found.trials < found.asked else ""
    told = f"{found.trials}{of} trials: log loss {found.loss:.4f}, defaults {found.default_loss:.4f}"
    settings = ", ".join(f"{name} {value:g}" for name, value in sorted(found.hyperparameters.items()))
    return f"{told}<br><small>{escape(settings)}</small>"


def _points(bins: Sequence[BinBody]) -> list[tuple[float, float, int]]:
    return [(each.predicted, each.observed, each.rows) for each in bins]


def _recall(days: Sequence[DayBody]) -> list[Bar]:
    return [
        Bar(
            f"{each.day:%m-%d}",
            each.found / each.failures if each.failures else None,
            f"{each.day}: {each.found} of {each.failures} failures found, {each.rows} runs",
        )
        for each in days
    ]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
