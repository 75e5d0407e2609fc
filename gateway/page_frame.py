"""What the pages of models of all tasks have in common: tables and drawings, every text escaped.

No script, nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TypeVar

from gateway.report_frame import ReportFrame, TrainingFrame
from ml import drift

T = TypeVar("T", bound=TrainingFrame)

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


def whole(report: ReportFrame, *parts: str) -> str:
    """The page of these parts."""
    name, version = escape(report.model.name), escape(report.model.version)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Model {name}</title><style>{_STYLE}</style></head><body><h1>Model {name}</h1>"
        f"<p>{escape(report.task)}, version <code>{version}</code>,"
        f" promoted {moment(report.promoted_at)}.</p>{''.join(parts)}</body></html>"
    )


def moment(at: datetime) -> str:
    """A time as readers see it."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def number(text: str) -> str:
    """A table's cell with a number."""
    return f'<td class="number">{text}</td>'


def how_good(
    columns: Sequence[tuple[str, Sequence[str]]], rows: Iterable[str], *, judged: str | None, now: str
) -> str:
    """Figures beside each other. `judged`: on what; None: not on record. `now`: how it goes since."""
    head = "".join(f'<th class="number">{escape(title)}</th>' for title, _ in columns)
    body = "".join(
        f"<tr><th>{words}</th>{''.join(number(cells[at]) for _, cells in columns)}</tr>"
        for at, words in enumerate(rows)
    )
    told = judged or "The training of this version is not on record any more."
    return f"<h2>How good it is</h2><p>{told} {now}</p><table><tr><th></th>{head}</tr>{body}</table>"


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


def trainings(made: Iterable[T], more: Mapping[str, Callable[[T], str]]) -> str:
    """A row for each training. `more`: what further columns are called, and the cell of a training there."""
    rows = "".join(
        f"<tr>{number(str(each.attempt))}<td>{moment(each.started_at)}</td>"
        f"<td>{escape(each.outcome or 'Running')}</td><td>{escape(each.reason)}</td>"
        f"{''.join(cell(each) for cell in more.values())}</tr>"
        for each in made
    )
    return f"<h2>Trainings</h2>{table(('attempt', 'started', 'outcome', 'why', *more), rows)}"


def table(titles: Iterable[str], rows: str) -> str:
    """Rows below their titles."""
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f"<table><tr>{head}</tr>{rows}</table>"
