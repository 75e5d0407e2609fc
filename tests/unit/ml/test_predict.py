"""Scoring: the same answer as in training, quickly, from many threads; and would a re-run pass?"""

import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from dev import simulator
from ml import artifact, history, replay, window
from ml.history import Outcome, Run
from ml.predict import Predictor
from ml.scorer import Scorer

Lines = dict[tuple[str, str], tuple[Outcome, ...]]
Seen = list[tuple[replay.Attempt, dict[str, tuple[Outcome, ...]]]]
UNTIL = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def seen(simulated_window: bytes) -> Seen:
    table = window.read(simulated_window, sha256=artifact.digest(simulated_window))
    return [
        (row, {k: tuple(v) for k, v in lines.items()}) for row, lines in replay.replay(replay.attempts(table))
    ]


def test_a_score_is_the_one_that_was_evaluated(
    predictor: Predictor,
    simulated_window: bytes,
    seen: Seen,
) -> None:
    data = replay.dataset(window.read(simulated_window, sha256=artifact.digest(simulated_window)))
    scorer = Scorer.load(predictor.file.models, predictor.file.linear)
    offline = predictor.file.calibration.probability(scorer.logit(data.x[-200:]))
    labelled = [(row, lines) for row, lines in seen if row.failed is not None][-200:]
    online = [predictor.predict(row.run, lines).probability for row, lines in labelled]
    assert online == pytest.approx(offline.tolist(), abs=1e-9)


def test_an_answer_is_complete(predictor: Predictor, seen: Seen) -> None:
    for row, lines in seen[-300:]:
        answer = predictor.predict(row.run, lines)
        assert 0 < answer.probability < 1
        assert answer.band in ("low", "medium", "high", "unsure")
        assert 1 <= len(answer.reasons) <= 3
        assert answer.version == predictor.version
        assert len(answer.version) == 12


def test_many_runs_together_get_the_answers_that_each_gets_alone(predictor: Predictor, seen: Seen) -> None:
    rows = [(row.run, lines) for row, lines in seen[-200:]]
    alone = [predictor.predict(run, lines) for run, lines in rows]
    together = predictor.predict_many(rows)
    assert [(it.band, it.reasons, it.version) for it in together] == [
        (it.band, it.reasons, it.version) for it in alone
    ]
    assert [it.probability for it in together] == pytest.approx([it.probability for it in alone], abs=1e-12)
    assert predictor.predict_many([]) == []


def test_a_pipeline_without_history_is_unsure(predictor: Predictor) -> None:
    run = Run(
        integration="i", project="new", pipeline="ci", event="push", branch="main", actor="u", sha="s",
        run_id="1", attempt=1, started_at=UNTIL.timestamp(),
    )  # fmt: skip
    assert predictor.predict(run, {}).band == "unsure"


def test_threads_share_a_predictor(predictor: Predictor, seen: Seen) -> None:
    rows = seen[-200:]
    alone = [predictor.predict(row.run, lines) for row, lines in rows]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: predictor.predict(pair[0].run, pair[1]), rows))
    assert together == alone


def test_a_run_is_scored_within_milliseconds(predictor: Predictor, seen: Seen) -> None:
    predictor.warm()
    times = []
    for row, lines in seen[-500:]:
        began = time.perf_counter()
        predictor.predict(row.run, lines)
        times.append(time.perf_counter() - began)
    p50, p99 = np.quantile(times, [0.5, 0.99]) * 1000
    print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    # Aim: 3 ms; the bound leaves room for a machine that does other things.
    assert p50 < 10


@pytest.mark.parametrize("minutes", [2, 45, 300])
def test_a_rerun_of_the_flaky_run_is_likely_to_pass(predictor: Predictor, seen: Seen, minutes: int) -> None:
    lines: Lines = defaultdict(tuple)
    for row, _ in seen:
        if row.failed is not None and row.finished_at is not None:
            done = replay.outcome_of(row.run, failed=row.failed, finished_at=row.finished_at)
            for line in history.lines(row.run).items():
                lines[line] = history.insert(lines[line], done)
    record = simulator.story(at=UNTIL + timedelta(minutes=minutes)).first[0]
    finished = datetime.fromisoformat(record["finishedAt"]).timestamp()
    run = Run(
        integration="github", project=record["project"], pipeline=record["pipeline"], event=record["trigger"],
        branch=record["branch"], actor=record["actor"], sha=record["sha"], run_id=record["id"], attempt=1,
        started_at=datetime.fromisoformat(record["startedAt"]).timestamp(),
    )  # fmt: skip
    failed = replay.outcome_of(run, failed=True, finished_at=finished)
    after = {scope: history.insert(lines[scope, key], failed) for scope, key in history.lines(run).items()}
    answer = predictor.predict(history.next_attempt(run, at=finished + 1), after)
    print(f"P(a re-run passes) = {1 - answer.probability:.3f}", answer)
    assert 1 - answer.probability > 0.7
