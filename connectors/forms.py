"""One field of a form, as the providers send it that put JSON into one."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

MAX_FIELDS: Final = 20
"""Fields of a form."""


def only_field(body: bytes, name: str) -> bytes | None:
    """The value of the one field of this name; None where there is none, or several, or too many fields."""
    try:
        pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return None
    found = [value for key, value in pairs if key == name.encode()]
    return found[0] if len(found) == 1 else None
