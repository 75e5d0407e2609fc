"""What a file may be called and how large it may be, wherever it lies."""

import re

MAX_BYTES = 512 * 1024 * 1024
"""No window, model or report is larger."""

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def check(part: str) -> None:
    """ValueError when a part of an address is no plain name."""
    if not _PART.fullmatch(part):
        raise ValueError(f"{part[:40]!r} cannot be a part of an artifact's address")
