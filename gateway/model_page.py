"""A model's report as one page: tables and plots, no script, nothing from elsewhere, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from gateway import plots
from gateway.model_schemas import (
    BinBody,
    DayBody,
    HeldOutBody,
    JudgedBody,
    LiveBody,
    ModelReportBody,
    SearchBody,
    TrainingBody,
)
from gateway.plots import Bar, Series
from ml import drift

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --held: #2563eb; --live: #d97706; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: 0 1rem 1rem 0; width: 26rem; max-width: 100%; }
figcaption { font-size: .9em; }
svg text { font-size: 10px; fill: currentColor; }
.grid { stroke: var(--line); } .even { stroke: currentColor; stroke-dasharray: 4 4; }
.held { fill: var(--held); fill-opacity: .75; } .live { fill: var(--live); fill-opacity: .75; }
.bar { fill: var(--held); }
"""

_ROWS: Sequence[tuple[str, str]] = (
    ("accuracy", "called right"),
    ("false_positive_rate", "passing runs called failing"),
    ("recall", "failing runs called failing"),
    ("precision", "right among those called failing"),
    ("auc", "a failing run ranked above a passing one"),
    ("calibration_error", "gap between probability and observed share"),
    ("first_failure_recall", "first failures found"),
    ("repeat_failure_recall", "repeated failures found"),
    ("coverage", "not unsure"),
    ("selective_accuracy", "called right among those"),
)
_BASELINES = {"alwaysPass": "every run passes", "lastOutcome": "as the run before"}


def render(report: ModelReportBody) -> str:
    """The page."""
    name, version = escape(report.model.name), escape(report.model.version)
    parts = [
        f"<h1>Model {name}</h1>",
        f"<p>{escape(report.task)}, version <code>{version}</code>,",
        f" promoted {moment(report.promoted_at)}.</p>",
        _numbers(report.held_out, report.live, report.control),
        _plots(report.held_out, report.live),
        drift_told(report.live.population_stability_index, subject="probabilities"),
        _trainings(report.trainings),
    ]
    return whole(f"Model {name}", "".join(parts))


def whole(title: str, inside: str) -> str:
    """A page of this HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>{inside}</body></html>"
    )


def moment(at: datetime) -> str:
    """A time as readers see it."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _numbers(held: HeldOutBody | None, live: LiveBody, control: JudgedBody | None) -> str:
    columns: list[tuple[str, object]] = [("held-out runs", held.metrics)] if held else []
    columns += [(_BASELINES.get(name, name), each) for name, each in (held.baselines if held else {}).items()]
    columns.append((f"since {live.since:%Y-%m-%d}", live))
    if control:
        columns.append(("of these, the control group", control))
    head = "".join(f'<th class="number">{escape(title)}</th>' for title, _ in columns)
    body = "".join(
        f"<tr><th>{words}</th>"
        + "".join(f'<td class="number">{_percent(getattr(each, key, None))}</td>' for _, each in columns)
        + "</tr>"
        for key, words in _ROWS
    )
    told = "The training of this version is not on record any more."
    if held:
        rows, failures = held.metrics.rows, held.metrics.failures
        told = f"Judged on {rows} runs that it was not trained on, {failures} of them failed."
    now = f"Since then it was asked about {live.predictions} runs; {live.judged} of them have ended."
    if control:
        now += f" Nothing is done by the predictions of {control.predictions} of these;"
        now += f" {control.judged} of them have ended."
    return f"<h2>How good it is</h2><p>{told} {now}</p><table><tr><th></th>{head}</tr>{body}</table>"


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
    return pictures(figures)


def pictures(figures: Iterable[tuple[str, str]]) -> str:
    """Drawings, each with its sentence."""
    return "<h2>Pictures</h2>" + "".join(
        f"<figure>{svg}<figcaption>{escape(words)}</figcaption></figure>" for svg, words in figures
    )


def drift_told(index: float | None, *, subject: str) -> str:
    """What the population stability index says of them."""
    if index is None:
        words = "Nothing to compare yet."
    else:
        told = (
            "hardly moved"
            if index < 0.1
            else "moved somewhat"
            if index < drift.MOVED
            else "moved much: train again"
        )
        words = f"The population stability index of the {subject} is {index:.3f}: they have {told}."
    return f"<h2>Drift</h2><p>{words}</p>"


def _trainings(trainings: Iterable[TrainingBody]) -> str:
    rows = "".join(
        f'<tr><td class="number">{each.attempt}</td><td>{moment(each.started_at)}</td>'
        f"<td>{escape(each.outcome or 'Running')}</td><td>{escape(each.reason)}</td>"
        f'<td class="number">{_percent(each.accuracy)}</td>'
        f'<td class="number">{_percent(each.false_positive_rate)}</td>'
        f'<td class="number">{_percent(each.recall)}</td>'
        f"<td>{_search(each.search)}</td></tr>"
        for each in trainings
    )
    head = "".join(
        f"<th>{title}</th>"
        for title in ("attempt", "started", "outcome", "why", "accuracy", "false alarms", "recall", "search")
    )
    return f"<h2>Trainings</h2><table><tr>{head}</tr>{rows}</table>"


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
