"""Markdown, as the generated pages need it. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with these names of columns."""
    lines = [names, ["---"] * len(names), *([_cell(text) for text in row] for row in rows)]
    return (
        "".join(f"| {' | '.join(line)} |\n" for line in lines)
        .replace("| --- ", "|---")
        .replace("|--- |", "|---|")
    )


def _cell(text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if "`" in text else text.replace("<", "\\<")  # else it is taken for HTML


def bullets(sentences: Sequence[str]) -> str:
    """A list, each sentence on one line."""
    return "".join(f"- {' '.join(sentence.split())}\n" for sentence in sentences)


def indented(block: str) -> str:
    """A block within an item of a list."""
    return "\n".join(f"   {line}" if line else "" for line in block.rstrip("\n").split("\n")) + "\n"
