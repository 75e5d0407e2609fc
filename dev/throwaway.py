"""A stack for one test session: in a folder of its own below /var/tmp, gone when the session is.

A session that was killed cannot clean up; the next one does it, by the owner's pid and start time that lie
in the folder.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from dev import files, layout, places, process
from dev.progress import Progress
from dev.stack import Stack

_PREFIX = "pipewright-test-"
_HOME = Path("/var/tmp")  # noqa: S108 - below it a random folder; pytest's own is closed to PostgreSQL's user

OLDER = "older-postgres"
"""Folder, beside the stack's, of a second PostgreSQL that a session may start."""

_LOGS_KEPT = 3600
"""Seconds for which the logs of a session with failed tests stay."""


@contextmanager
def stack() -> Iterator[Stack]:
    """A stack with nothing started yet; whatever was started is stopped, and its folder but the logs removed.

    Who wants the logs as well gone removes the folder; a session an hour later does it otherwise.
    """
    sweep()
    place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_HOME))
    owner = psutil.Process()
    made = Stack(place / "stack", durable=False, progress=Progress())
    files.write(place / "owner.json", json.dumps({"pid": owner.pid, "started": owner.create_time()}))
    place.chmod(0o711)
    try:
        yield made
    finally:
        made.down()


def sweep(home: Path = _HOME) -> list[Path]:
    """Stop and remove the stacks of sessions that ended without doing so, and old logs; what was removed."""
    with files.lock(places.cache() / "sweep.lock"):  # sessions begin beside each other
        found = sorted(home.glob(f"{_PREFIX}*"))
        return [place for place in found if _swept(place)]


def _swept(place: Path) -> bool:
    """Whether the folder was of an ended session and is removed now."""
    try:
        if place.stat().st_uid != os.geteuid() or _owned(place):
            return False
        crashed = layout.load(place / "stack") is not None
        Stack(place / "stack", progress=Progress(quiet=True)).down()
        process.stop(place / OLDER, "postgres")
        if not crashed and time.time() - place.stat().st_mtime <= _LOGS_KEPT:
            return False
    except FileNotFoundError:
        return False  # its session ends right now, and removes it itself
    shutil.rmtree(place, ignore_errors=True)
    return True


def _owned(place: Path) -> bool:
    """Whether the session that made it still runs; a folder being made right now counts as owned."""
    try:
        record = json.loads((place / "owner.json").read_text())
    except FileNotFoundError:
        return time.time() - place.stat().st_mtime < 60
    try:
        return bool(abs(psutil.Process(record["pid"]).create_time() - record["started"]) < 2.0)
    except psutil.Error:
        return False
