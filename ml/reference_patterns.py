"""The taxonomy against the published one: lines that the published patterns describe, put into our
categories.

The published data set has patterns and figures, no logs. So one example line is made of each alternative of
each published pattern and kept if the pattern really finds it. This tells what of the published list is
recognised, not how right either is on real logs.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ml import recommend, taxonomy


def compare(directory: Path) -> Iterable[dict[str, Any]]:
    """Figures of gitlab-flaky-taxonomy."""
    with (directory / "categories.csv").open(encoding="utf-8", newline="") as text:
        published = list(csv.DictReader(text))
    known = taxonomy.categories()
    lines = [
        (row["category"], row["group"], line)
        for row in _patterns(directory)
        for line in examples(row["regex"])
    ]
    found = [taxonomy.findings(line) for *_, line in lines]
    same = [bool(f) and f[0].category.name == line[0] for f, line in zip(found, lines, strict=True)]
    alike = [bool(f) and f[0].category.group == line[1] for f, line in zip(found, lines, strict=True)]
    reached = {line[0] for line, right in zip(lines, same, strict=True) if right}
    total = sum(int(row["#"]) for row in published)
    yield {
        "task": "taxonomy",
        "categories": len(published),
        "categories_named": sum(row["category"] in known for row in published),
        "categories_recognised": len(reached),
        "example_lines": len(lines),
        "same_category": round(sum(same) / len(lines), 4),
        "same_group": round(sum(alike) / len(lines), 4),
        "no_category": round(sum(not f for f in found) / len(lines), 4),
        "failures_in_recognised": round(
            sum(int(r["#"]) for r in published if r["category"] in reached) / total, 4
        ),
    }
    causes = {
        row["category"]: recommend.Loss(
            count=int(row["#"]),
            machine_minutes=float(row["Machine Cost"]),
            person_minutes=float(row["Diagnosis Cost"]),
        )
        for row in published
    }
    prices = recommend.Prices(machine_minute=1.0, person_minute=1.0)
    cost = {name: prices.cost(loss) for name, loss in causes.items()}
    orders = {
        "by cost": [each.category for each in recommend.categories(causes, prices)],
        "by count": sorted(causes, key=lambda name: -causes[name].count),
    }
    for name, order in orders.items():
        share = sum(cost[each] for each in order[:5]) / sum(cost.values())
        yield {"task": "ranking", "predictor": name, "top5_share_of_cost": round(share, 4), "top5": order[:5]}


def _patterns(directory: Path) -> Iterator[dict[str, str]]:
    with (directory / "patterns.csv").open(encoding="utf-8", newline="") as text:
        for row in csv.DictReader(line for line in text if line.strip()):
            if row["regex"] and row["category"]:
                yield row


def examples(pattern: str) -> list[str]:
    """One text for each top-level alternative that the pattern finds."""
    made = map(_example, alternatives(pattern))
    return [text for text in made if text and re.search(pattern, text, re.IGNORECASE)]


def alternatives(pattern: str) -> list[str]:
    """The pattern split at the bars that stand in no bracket."""
    parts, depth, escaped = [""], 0, False
    for character in pattern.removeprefix("(?m)"):
        if not escaped and character in "([":
            depth += 1
        elif not escaped and character in ")]":
            depth -= 1
        if character == "|" and depth == 0 and not escaped:
            parts.append("")
        else:
            parts[-1] += character
        escaped = character == "\\" and not escaped
    return parts


def _example(part: str) -> str:
    text = re.sub(r"\((?:\.\|\\n|\\n\|\.)\)\*\??", "\n", part)  # anything, over lines
    text = re.sub(r"\(([^()|]*)\|[^()]*\)", r"\1", text)  # the first of a choice
    text = re.sub(r"\[([^]|]*)\|?[^]]*\]", r"\1", text)
    text = re.sub(r"\.\*\??", " some-thing ", text).replace(".?", "").replace("\\n", "\n").replace("^", "")
    return re.sub(r"\\(.)", r"\1", text).strip()
