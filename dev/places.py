"""Where the development stack keeps things: the checkout, the cache of all checkouts, the state folder.

Standard library only: `dev.bootstrap` runs before any package is installed.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""

SHARED_DATA = ROOT.parent / "shared" / "data"
"""Real data that lies beside the checkout where there is some; nothing but tests reads it."""


def cache() -> Path:
    """The folder that all checkouts of this user share: built binaries, uv, Ray's environment."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "pipewright"


def state() -> Path:
    """The state folder of `make up`: `.pipewright/` in the checkout, or $PIPEWRIGHT_STATE."""
    chosen = os.environ.get("PIPEWRIGHT_STATE")
    return Path(chosen).expanduser().resolve() if chosen else ROOT / ".pipewright"


def traversable(path: Path) -> bool:
    """Whether any user can pass through every folder down to `path` (mode bit x for others)."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.is_dir())
