"""Predictions of many runs: each by its own lines of work, and each counted."""

import dataclasses

from gateway.lines import Kept
from gateway.metrics import Metrics
from gateway.scoring import Models
from ml import history
from ml.history import Outcome, Run
from ml.predict import Prediction

RUN = Run(
    integration="i", project="acme/shop", pipeline="ci", event="push", branch="main", actor="", sha="",
    run_id="", attempt=1, started_at=1000.0,
)  # fmt: skip
OTHER = dataclasses.replace(RUN, branch="feature")
RED, GREEN = (
    Outcome(run=run, attempt=1, sha="c", started_at=100.0, finished_at=200.0, failed=failed)
    for run, failed in (("1", True), ("2", False))
)


def kept() -> Kept:
    """The runs' own branches, red and green, and what they have in common."""
    rows = {line: [] for run in (RUN, OTHER) for line in history.lines(run).items()}
    for run, outcome in ((RUN, RED), (OTHER, GREEN)):
        for line in history.lines(run).items():
            rows[line] = history.insert_row(rows[line], history.row_of(outcome))
    return Kept(rows)


def test_runs_without_ids_do_not_share_their_lines():
    lines = kept()
    assert lines.of(RUN)["branch"] == (RED,)
    assert lines.of(OTHER)["branch"] == (GREEN,)
    assert lines.of(RUN)["pipeline"] == lines.of(OTHER)["pipeline"] == (RED, GREEN)


class Last:
    """Says what the newest run of the branch did."""

    def predict_many(self, asked):
        return [
            Prediction(
                probability=float(lines["branch"][-1].failed),
                band="high" if lines["branch"][-1].failed else "low",
                reasons=(),
                version="v",
            )
            for _, lines in asked
        ]


async def test_each_run_of_a_batch_is_scored_by_its_own_lines_and_counted():
    metrics = Metrics()
    models = Models(fetch=lambda _pointer: b"", metrics=metrics)
    found = await models.score_many(Last(), [RUN, OTHER, RUN], kept(), kind="asked")
    assert [it.band for it in found] == ["high", "low", "high"]

    def counted(band: str) -> float | None:
        labels = {"kind": "asked", "band": band}
        return metrics.registry.get_sample_value("pipewright_gateway_predictions_total", labels)

    assert (counted("high"), counted("low")) == (2, 1)
    timed = metrics.registry.get_sample_value("pipewright_gateway_prediction_seconds_count")
    assert timed == 3
    await models.close()
