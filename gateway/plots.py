"""Plots as inline SVG: points, bars and a line in a unit square. Pure; every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 360, 220
_LEFT, _BOTTOM, _TOP, _RIGHT = 44, 28, 10, 10
_STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Series:
    """Shares over shares: x and y from 0 to 1, and how much each point weighs."""

    name: str
    points: Sequence[tuple[float, float, int]]
    style: str
    """A class of the page's style sheet."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A share, and what it is the share of."""

    label: str
    share: float | None
    told: str
    """The sentence that pointing at it shows."""


def scatter(title: str, series: Sequence[Series], *, x: str, y: str) -> str:
    """Points as large as they weigh, beside the diagonal on which both shares are the same."""
    heaviest = max((weight for each in series for *_, weight in each.points), default=1)
    marks = [f'<line class="even" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>']
    for each in series:
        for across, up, weight in each.points:
            radius = 3 + 6 * (weight / heaviest) ** 0.5
            told = f"{each.name}: {x} {across:.0%}, {y} {up:.0%}, {weight} runs"
            marks.append(
                f'<circle class="{each.style}" cx="{_x(across)}" cy="{_y(up)}" r="{radius:.1f}">'
                f"<title>{escape(told)}</title></circle>"
            )
    ticks = "".join(
        f'<text x="{_x(at)}" y="{HEIGHT - 8}" text-anchor="middle">{at:.0%}</text>' for at in _STEPS
    )
    return _frame(title, "".join(marks) + ticks)


def bars(title: str, found: Sequence[Bar]) -> str:
    """A bar for each share, as high as it is; none where there is nothing to take a share of."""
    slot = (WIDTH - _LEFT - _RIGHT) / max(len(found), 1)
    every = max(1, len(found) // 8)
    marks = []
    for at, bar in enumerate(found):
        left = _LEFT + at * slot
        if bar.share is not None:
            top = _y(bar.share)
            marks.append(
                f'<rect class="bar" x="{left + slot * 0.1:.1f}" y="{top}" width="{slot * 0.8:.1f}"'
                f' height="{_y(0) - top:.1f}"><title>{escape(bar.told)}</title></rect>'
            )
        if at % every == 0:
            middle = left + slot / 2
            marks.append(
                f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(bar.label)}</text>'
            )
    return _frame(title, "".join(marks))


def _frame(title: str, inside: str) -> str:
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" y1="{_y(at)}" x2="{WIDTH - _RIGHT}" y2="{_y(at)}"/>'
        f'<text x="{_LEFT - 6}" y="{_y(at) + 4:.1f}" text-anchor="end">{at:.0%}</text>'
        for at in _STEPS
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{grid}{inside}</svg>'


def _x(share: float) -> float:
    return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - _TOP), 1)
