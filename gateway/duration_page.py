"""The report of a model of durations as one page; as `model_page` has it for failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from gateway import model_page, plots
from gateway.duration_schemas import (
    DurationDayBody,
    DurationHeldOutBody,
    DurationLiveBody,
    DurationReportBody,
    DurationTrainingBody,
    SlowRunBody,
)
from gateway.plots import Bar, Series
from ml.durations import words

_BASELINES = {"recentRuns": "the pipeline's last 50 runs", "lastRun": "as long as the run before"}
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95}


def render(report: DurationReportBody) -> str:
    """The page."""
    name, version = escape(report.model.name), escape(report.model.version)
    parts = [
        f"<h1>Model {name}</h1>",
        f"<p>{escape(report.task)}, version <code>{version}</code>,",
        f" promoted {model_page.moment(report.promoted_at)}.</p>",
        _numbers(report.held_out, report.live),
        _plots(report.held_out, report.live),
        model_page.drift_told(report.live.population_stability_index, subject="durations"),
        _slow(report.slow),
        _trainings(report.trainings),
    ]
    return model_page.whole(f"Model {name}", "".join(parts))


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
    head = "".join(f'<th class="number">{escape(title)}</th>' for title, _ in columns)
    body = "".join(
        f"<tr><th>{title}</th>" + "".join(f'<td class="number">{cells[at]}</td>' for _, cells in columns)
        + "</tr>"
        for at, title in enumerate(rows)
    )  # fmt: skip
    told = "The training of this version is not on record any more."
    if held:
        told = f"Judged on {held.metrics.rows} runs that it was not trained on."
    now = f"Since then it was asked about {live.forecasts} runs; {live.judged} of them have ended."
    return f"<h2>How good it is</h2><p>{told} {now}</p><table><tr><th></th>{head}</tr>{body}</table>"


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
    return model_page.pictures(figures)


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
        f"<tr><td>{model_page.moment(each.finished_at)}</td><td>{escape(each.project)}</td>"
        f"<td>{escape(each.pipeline)}</td><td>{escape(each.branch)}</td>"
        f"<td>{escape(each.run)}/{each.attempt}</td>"
        f'<td class="number">{words(each.seconds)}</td><td class="number">{words(each.p50)}</td>'
        f'<td class="number">{words(each.p95)}</td></tr>'
        for each in slow
    )
    if not rows:
        return "<h2>Slow runs</h2><p>No run took longer than nineteen of twenty such runs were said to.</p>"
    titles = ("finished", "project", "pipeline", "branch", "run", "took", "half take", "19 of 20 within")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f"<h2>Slow runs</h2><table><tr>{head}</tr>{rows}</table>"


def _trainings(trainings: Iterable[DurationTrainingBody]) -> str:
    rows = "".join(
        f'<tr><td class="number">{each.attempt}</td><td>{model_page.moment(each.started_at)}</td>'
        f"<td>{escape(each.outcome or 'Running')}</td><td>{escape(each.reason)}</td>"
        f'<td class="number">{_seconds(each.pinball_loss)}</td>'
        f'<td class="number">{"–" if each.coverage_error is None else f"{each.coverage_error:.1%}"}</td></tr>'
        for each in trainings
    )
    titles = ("attempt", "started", "outcome", "why", "pinball loss", "coverage off by")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f"<h2>Trainings</h2><table><tr>{head}</tr>{rows}</table>"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"
