"""What benchmarks that are commands print: progress on standard error, a line of JSON for each figure."""

from __future__ import annotations

import sys
import time
from typing import Any

import psutil


def say(text: str) -> None:
    """Progress, beside the figures."""
    print(
        f"{time.strftime('%H:%M:%S')} load {psutil.getloadavg()[0]:.1f}: {text}", file=sys.stderr, flush=True
    )


def figure(name: str, value: float, unit: str, limit: float | None) -> dict[str, Any]:
    """One line of the result."""
    ratio = value / limit if limit else None
    line = {"name": name, "value": value, "unit": unit, "limit": limit, "ratio": ratio}
    return {key: round(it, 4) if isinstance(it, float) else it for key, it in line.items()}
