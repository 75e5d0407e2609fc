"""The report of a model of causes as one page; as `model_page` has it for failures."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from gateway import model_page, plots
from gateway.cause_schemas import CauseHeldOutBody, CauseLiveBody, CauseReportBody, CauseTrainingBody
from gateway.plots import Bar, Series

_BASELINES = {"majority": "as most", "lineRate": "as those of the pipeline"}
_ROWS = {
    "accuracy": "called right",
    "auc": "one that passes ranked above one that does not",
    "brier": "mean squared error of the probability",
    "calibration_error": "gap between probability and observed share",
    "coverage": "sure",
    "selective_accuracy": "called right among those",
}


def render(report: CauseReportBody) -> str:
    """The page."""
    name, version = escape(report.model.name), escape(report.model.version)
    parts = [
        f"<h1>Model {name}</h1>",
        f"<p>{escape(report.task)}, version <code>{version}</code>,",
        f" promoted {model_page.moment(report.promoted_at)}.</p>",
        _numbers(report.held_out, report.live),
        _plots(report.live),
        _trainings(report.trainings),
    ]
    return model_page.whole(f"Model {name}", "".join(parts))


def _numbers(held: CauseHeldOutBody | None, live: CauseLiveBody) -> str:
    columns: list[tuple[str, object]] = [("held-out failures", held.metrics)] if held else []
    columns += [(_BASELINES.get(name, name), each) for name, each in (held.baselines if held else {}).items()]
    columns.append((f"since {live.since:%Y-%m-%d}", live))
    head = "".join(f'<th class="number">{escape(title)}</th>' for title, _ in columns)
    rows = "".join(
        f"<tr><th>{words}</th>"
        + "".join(f'<td class="number">{_number(getattr(each, key, None))}</td>' for _, each in columns)
        + "</tr>"
        for key, words in _ROWS.items()
    )
    told = "The training of this version is not on record any more."
    if held:
        told = (
            f"Judged on {held.metrics.rows} failures that it was not trained on and that were run again;"
            f" {held.metrics.transient} of them passed then."
        )
    now = (
        f"Since then it judged {live.causes} failures; {live.judged} of them were run again, and"
        f" {live.passed} passed."
    )
    return f"<h2>How good it is</h2><p>{told} {now}</p><table><tr><th></th>{head}</tr>{rows}</table>"


def _plots(live: CauseLiveBody) -> str:
    points = [(each.predicted, each.passed, each.rows) for each in live.calibration]
    calibration = plots.scatter("Calibration", [Series("live", points, "live")], x="predicted", y="passed")
    kinds = [
        Bar(kind, count / live.causes, f"{kind}: {count} of {live.causes}")
        for kind, count in live.kinds.items()
    ]
    return model_page.pictures(
        [
            (calibration, "What was predicted, across, and the share that passed when run again, up."),
            (plots.bars("Kinds", kinds), "What sort of failures they were, by share."),
        ]
    )


def _trainings(trainings: Iterable[CauseTrainingBody]) -> str:
    rows = "".join(
        f'<tr><td class="number">{each.attempt}</td><td>{model_page.moment(each.started_at)}</td>'
        f"<td>{escape(each.outcome or 'Running')}</td><td>{escape(each.reason)}</td>"
        f'<td class="number">{_number(each.accuracy)}</td><td class="number">{_number(each.auc)}</td></tr>'
        for each in trainings
    )
    head = "".join(f"<th>{title}</th>" for title in ("attempt", "started", "outcome", "why", "right", "AUC"))
    return f"<h2>Trainings</h2><table><tr>{head}</tr>{rows}</table>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
