"""Benchmarks: each figure stands beside the raw limit that was measured in the same run, by turns with it.

They print and judge nothing; what they assert is that the work was done. `make bench` asks for them by name,
and a plain `pytest` leaves them out. docs/benchmarks.md says how to read the figures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from dev import process
from tests.bench import trained

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave benchmarks out, unless the command line names this folder or something in it."""
    named = [config.invocation_params.dir / name.split("::")[0] for name in config.args]
    return None if any(path == HERE or HERE in path.parents for path in named) else True


# --- figures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a table: what was measured in every repetition, and the limit measured beside it."""

    what: str
    unit: str
    values: Sequence[float]
    limit: Sequence[float] = ()
    limit_is: str = ""
    notes: str = ""

    def cells(self) -> list[str]:
        """The line's cells; the ratio is of the medians: ours to the limit's."""
        ratio = ""
        if self.limit:
            ratio = f"{statistics.median(self.values) / statistics.median(self.limit):.3g}"
        limit = f"{_spread(self.limit)} ({self.limit_is})" if self.limit else ""
        return [self.what, f"{_spread(self.values)} {self.unit}", limit, ratio, self.notes]


@dataclass(slots=True)
class Report:
    """What the end of the session prints: a Markdown table for each benchmark."""

    tables: dict[str, list[Figure]] = field(default_factory=dict)

    def add(self, table: str, *figures: Figure) -> None:
        """Add lines to a table."""
        self.tables.setdefault(table, []).extend(figures)

    def lines(self) -> Iterator[str]:
        """All tables as Markdown."""
        for title, figures in self.tables.items():
            yield f"### {title}"
            yield ""
            yield "| what | ours: min / median / max | raw limit: min / median / max | ratio | beside it |"
            yield "|---|---|---|---|---|"
            for figure in figures:
                yield f"| {' | '.join(figure.cells())} |"
            yield ""


def _spread(values: Sequence[float]) -> str:
    return f"{_short(min(values))} / {_short(statistics.median(values))} / {_short(max(values))}"


def _short(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


_REPORT = pytest.StashKey[Report]()
_LOAD = pytest.StashKey[float]()


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """The session's figures."""
    return request.config.stash.setdefault(_REPORT, Report())


@pytest.fixture(scope="session")
def figure() -> type[Figure]:
    """Makes a line of a table."""
    return Figure


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note what the machine did before: figures of a busy one say little."""
    session.config.stash[_LOAD] = psutil.getloadavg()[0]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the tables, and what the machine was doing meanwhile."""
    found = config.stash.get(_REPORT, None)
    if found is None or not found.tables:
        return
    before, after = config.stash.get(_LOAD, 0.0), psutil.getloadavg()[0]
    terminalreporter.section("figures")
    terminalreporter.write_line(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {psutil.cpu_count()} CPUs shared by client, product and"
        f" servers; load {before:.2f} before, {after:.2f} at the end (ours included)\n"
    )
    for line in found.lines():
        terminalreporter.write_line(line)


# --- what it cost -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Cost:
    """Seconds on the clock, CPU seconds of our process and of the load generator, our memory at the end."""

    seconds: float = 0.0
    cpu: float = 0.0
    generator: float = 0.0
    rss: float = 0.0
    """MiB."""


class Meter:
    """Measures what a stretch of work costs; the load generator is this pytest process."""

    @contextmanager
    def of(self, folder: Path | None = None, name: str = "") -> Iterator[Cost]:
        """Measure the block. With a stack's folder, `cpu` and `rss` are those of its process `name`."""
        me = psutil.Process()
        them = me if folder is None else process.find(folder, name)
        assert them is not None, f"{name} does not run"
        cost, own, other, began = Cost(), _cpu(me), _cpu(them), time.perf_counter()
        yield cost
        cost.seconds = time.perf_counter() - began
        cost.cpu, cost.generator = _cpu(them) - other, _cpu(me) - own
        cost.rss = them.memory_info().rss / 2**20


def _cpu(found: psutil.Process) -> float:
    times = found.cpu_times()
    return float(times.user + times.system)


@pytest.fixture(scope="session")
def meter() -> Meter:
    """Measures what a stretch of work costs."""
    return Meter()


# --- a history and its model ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def records() -> list[dict[str, Any]]:
    """A simulated history that ends half an hour ago: runs, each followed by its jobs."""
    return trained.records()


@pytest.fixture(scope="session")
def history_window(records: list[dict[str, Any]]) -> bytes:
    """The history as the data window that training reads."""
    return trained.window_of(records)


@pytest.fixture(scope="session")
def model_file(history_window: bytes) -> bytes:
    """A model that was really trained on the history."""
    return trained.model_of(history_window)
