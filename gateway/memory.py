"""How often garbage is looked for: no request waits while all that is loaded is looked through."""

from __future__ import annotations

import gc

YOUNG = 10_000
"""Objects that are made and still there before the young ones are looked through; Python's own is 700, which
requests make that are under way: 20 µs of each delivery, and 5 with this."""


def settle() -> None:
    """Take what is loaded by now as there to stay. Call it once, before the first request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)
