"""The benches' own parts: what they send and count is what their figures say."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from dev import simulator
from ml import artifact, history, replay, window
from ml.replay import Dataset
from ml.trial import Answers
from tests.bench import trained
from tests.bench.ingest import load
from tests.bench.predict import quality
from tests.bench.predict.quality import Shelf
from tests.bench.train import endpoint
from tests.bench.train.cycle import Cycle
from tests.bench.train.rates import Target

SLOW = 0.2


class _Answers(socketserver.StreamRequestHandler):
    """200 to everybody, one after the other; late to whom has `slow` in its body."""

    def handle(self) -> None:
        while head := self.rfile.readline():
            while line := self.rfile.readline().strip():
                head += line
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            if self.rfile.read(length) == b"slow":
                time.sleep(SLOW)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.fixture
def server() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Answers) as made:
        made.daemon_threads = True
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made.server_address[1]
        made.shutdown()
        thread.join()


def message(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def test_a_stall_counts_for_those_who_had_to_wait_for_it(server: int, tmp_path: Path) -> None:
    path = tmp_path / "messages"
    count = load.write(path, [message(b"slow"), *[message(b"quick")] * 19])
    seen = load.send(path, port=server, rate=200, connections=1)
    assert seen.statuses == {"200": count}
    assert seen.longest >= 1000 * SLOW
    # a message that was due 50 ms after the slow one waited the rest of its time
    assert seen.p50 >= 1000 * SLOW / 2
    assert seen.p50 <= seen.p99 <= seen.p999 <= seen.longest


def test_a_rate_that_is_kept_is_below_the_own_pace(server: int, tmp_path: Path) -> None:
    target = Target(name="quick", port=server, messages=[message(b"quick")], cpu=lambda: 0.0, folder=tmp_path)
    rate, seen = target.kept(seconds=0.2)
    assert rate > 0
    assert set(seen.statuses) == {"200"}


def test_ray_serve_gets_the_lines_that_the_history_ends_with() -> None:
    records = list(simulator.history(until=datetime(2026, 3, 2, 9, tzinfo=UTC), runs=150))
    content = trained.window_of(records)
    known = endpoint.lines_of(content)
    rows = replay.attempts(window.read(content, sha256=artifact.digest(content)))
    last = max((row for row in rows if row.failed is not None), key=lambda row: row.finished_at or 0)
    for scope, key in history.lines(last.run).items():
        newest = history.decode(known[scope][key])[-1]
        assert (newest.run, newest.attempt, newest.failed) == (
            last.run.run_id,
            last.run.attempt,
            last.failed,
        )


def test_what_lies_beyond_rays_own_start_is_all_but_an_empty_job() -> None:
    cycle = Cycle(look=1.0, export=0.5, submit=0.25, job=9.0, train=4.0, promote=2.0, empty=3.0)
    assert cycle.whole == 12.75
    assert cycle.beyond == 9.75
    assert cycle.imports == 2.0


def dataset(seed: int) -> Dataset:
    dice = np.random.default_rng(seed)
    times = np.arange(4, dtype=np.float64)
    flags = np.array([True, False, True, False])
    return Dataset(
        x=dice.random((4, 2)),
        failed=flags,
        judged_at=times,
        started_at=times,
        finished_at=times,
        red_before=flags,
        has_history=flags,
        projects=["p"] * 4,
    )


def test_a_draw_is_made_once_for_the_same_rows(tmp_path: Path) -> None:
    made = []

    def make() -> Answers:
        made.append(1)
        return Answers(
            probability=np.array([0.25, 0.5]), flagged=np.array([False, True]), unsure=np.array([True, False])
        )

    first = Shelf(tmp_path, dataset(1)).get("draw-0", make)
    again = Shelf(tmp_path, dataset(1)).get("draw-0", make)
    assert len(made) == 1
    for name in ("probability", "flagged", "unsure"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    Shelf(tmp_path, dataset(2)).get("draw-0", make)
    Shelf(tmp_path, dataset(1)).get("draw-1", make)
    Shelf(None, dataset(1)).get("draw-0", make)
    assert len(made) == 4


class Numbered(quality.Work):
    def answers(self, number: int | None) -> Answers:
        found = np.array([-1.0 if number is None else float(number)])
        return Answers(probability=found, flagged=found > 1, unsure=found < 0)


def test_draws_of_several_processes_come_in_their_order_and_the_line_last(tmp_path: Path) -> None:
    rows = dataset(1)
    found = quality.answers(Numbered(rows, rows, 2, Shelf(None, rows)), seeds=3)
    assert [each.probability.tolist() for each in found] == [[0.0], [1.0], [2.0], [-1.0]]
