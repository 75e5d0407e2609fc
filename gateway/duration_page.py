"""The report of a model of durations as one page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from gateway import page_frame, plots
from gateway.duration_schemas import (
    DurationDayBody,
    DurationHeldOutBody,
    DurationLiveBody,
    DurationReportBody,
    SlowRunBody,
)
from gateway.page_frame import number
from gateway.plots import Bar, Series
from ml.durations import words

_BASELINES = {"recentRuns": "the pipeline's last 50 runs", "lastRun": "as long as the run before"}
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95}


def render(report: DurationReportBody) -> str:
    """The page."""
    return page_frame.whole(
        report,
        _numbers(report.held_out, report.live),
        _plots(report.held_out, report.live),
        page_frame.drift_told(report.live.population_stability_index, subject="durations"),
        _slow(report.slow),
        page_frame.trainings(
            report.trainings,
            {
                "pinball loss": lambda it: number(_seconds(it.pinball_loss)),
                "coverage off by": lambda it: number(
                    "–" if it.coverage_error is None else f"{it.coverage_error:.1%}"
                ),
            },
        ),
    )


def _numbers(held: DurationHeldOutBody | None, live: DurationLiveBody) -> str:
    columns: list[tuple[str, list[str]]] = []
    if held:
        columns = [
            (
                title,
                [
                    _seconds(each.pinball_loss),
                    _seconds(each.median_error),
                    *(f"{it.covered:.1%}" for it in each.quantiles),
                ],
            )
            for title, each in (
                ("held-out runs", held.metrics),
                *((_BASELINES.get(name, name), each) for name, each in held.baselines.items()),
            )
        ]
    shares = [f"{live.covered[name]:.1%}" if live.covered else "–" for name in _QUANTILES]
    columns.append(
        (f"since {live.since:%Y-%m-%d}", [_seconds(live.pinball_loss), _seconds(live.median_error), *shares])
    )
    rows = ["pinball loss", "median off by", *(f"within the {q:.0%} quantile" for q in _QUANTILES.values())]
    judged = f"Judged on {held.metrics.rows} runs that it was not trained on." if held else None
    now = f"Since then it was asked about {live.forecasts} runs; {live.judged} of them have ended."
    return page_frame.how_good(columns, rows, judged=judged, now=now)


def _plots(held: DurationHeldOutBody | None, live: DurationLiveBody) -> str:
    series = []
    if held:
        points = [(each.quantile, each.covered, held.metrics.rows) for each in held.metrics.quantiles]
        series.append(Series("held-out runs", points, "held"))
    if live.covered:
        found = [(_QUANTILES[name], share, live.judged) for name, share in live.covered.items()]
        series.append(Series("live", found, "live"))
    figures = [
        (
            plots.scatter("Coverage", series, x="quantile", y="took no longer"),
            "Quantiles, across, and the share of runs that took no longer, up: on the line both agree.",
        )
    ]
    if held:
        figures.append((_within("By day", held.days), "Held-out runs within their 90 % quantile, by day."))
    figures.append((_within("By day, live", live.days), "Runs within their 90 % quantile, by day, live."))
    return page_frame.pictures(figures)


def _within(title: str, days: Sequence[DurationDayBody]) -> str:
    return plots.bars(
        title,
        [
            Bar(
                f"{each.day:%m-%d}",
                each.within / each.rows if each.rows else None,
                f"{each.day}: {each.within} of {each.rows} runs took no longer than their 90 % quantile",
            )
            for each in days
        ],
    )


def _slow(slow: Iterable[SlowRunBody]) -> str:
    rows = "".join(
        f"<tr><td>{page_frame.moment(each.finished_at)}</td><td>{escape(each.project)}</td>"
        f"<td>{escape(each.pipeline)}</td><td>{escape(each.branch)}</td>"
        f"<td>{escape(each.run)}/{each.attempt}</td>"
        f"{number(words(each.seconds))}{number(words(each.p50))}{number(words(each.p95))}</tr>"
        for each in slow
    )
    if not rows:
        return "<h2>Slow runs</h2><p>No run took longer than nineteen of twenty such runs were said to.</p>"
    titles = ("finished", "project", "pipeline", "branch", "run", "took", "half take", "19 of 20 within")
    return f"<h2>Slow runs</h2>{page_frame.table(titles, rows)}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"
