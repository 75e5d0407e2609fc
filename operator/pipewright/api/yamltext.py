"""JSON values as YAML text, for the generated files: this room imports no YAML library.

Block style throughout, for the diff's reader; a text is bare only where every YAML version reads it as text.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 _./-]*[A-Za-z0-9._]|[A-Za-z]")
_NOT_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def _scalar(value: object) -> str:
    """Return ``value`` as a YAML scalar; as JSON where the bare text could be read as something else."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    return json.dumps(value, ensure_ascii=False)


def _lines(value: Any, indent: str) -> Iterator[str]:
    """Yield a mapping or a list as lines of YAML in block style."""
    pairs = value.items() if isinstance(value, Mapping) else ((None, item) for item in value)
    for key, item in pairs:
        head = indent + ("-" if key is None else f"{_scalar(key)}:")
        if not isinstance(item, Mapping | list) or not item:
            yield f"{head} {_scalar(item)}"
        elif key is None:
            first, *rest = _lines(item, indent + "  ")
            yield f"{head} {first.lstrip()}"
            yield from rest
        else:
            yield head
            yield from _lines(item, indent + "  ")


def dump(document: Mapping[str, Any]) -> str:
    """Return ``document`` (JSON values only) as YAML: the same bytes for the same document."""
    return "\n".join(_lines(document, "")) + "\n"
