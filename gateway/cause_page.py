"""The report of a model of causes as one page."""

from __future__ import annotations

from gateway import page_frame, plots
from gateway.cause_schemas import CauseHeldOutBody, CauseLiveBody, CauseReportBody
from gateway.page_frame import number
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
    return page_frame.whole(
        report,
        _numbers(report.held_out, report.live),
        _plots(report.live),
        page_frame.trainings(
            report.trainings,
            {"right": lambda it: number(_number(it.accuracy)), "AUC": lambda it: number(_number(it.auc))},
        ),
    )


def _numbers(held: CauseHeldOutBody | None, live: CauseLiveBody) -> str:
    columns: list[tuple[str, object]] = [("held-out failures", held.metrics)] if held else []
    columns += [(_BASELINES.get(name, name), each) for name, each in (held.baselines if held else {}).items()]
    columns.append((f"since {live.since:%Y-%m-%d}", live))
    judged = None
    if held:
        judged = (
            f"Judged on {held.metrics.rows} failures that it was not trained on and that were run again;"
            f" {held.metrics.transient} of them passed then."
        )
    now = (
        f"Since then it judged {live.causes} failures; {live.judged} of them were run again, and"
        f" {live.passed} passed."
    )
    cells = [(title, [_number(getattr(each, key, None)) for key in _ROWS]) for title, each in columns]
    return page_frame.how_good(cells, _ROWS.values(), judged=judged, now=now)


def _plots(live: CauseLiveBody) -> str:
    points = [(each.predicted, each.passed, each.rows) for each in live.calibration]
    calibration = plots.scatter("Calibration", [Series("live", points, "live")], x="predicted", y="passed")
    kinds = [
        Bar(kind, count / live.causes, f"{kind}: {count} of {live.causes}")
        for kind, count in live.kinds.items()
    ]
    return page_frame.pictures(
        [
            (calibration, "What was predicted, across, and the share that passed when run again, up."),
            (plots.bars("Kinds", kinds), "What sort of failures they were, by share."),
        ]
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
