"""One server process: started with its own log and session, waited for by a fact, ended by its own pid.

A process is known by a small record under `run/` of the state folder, so that `make down` in another shell
finds what `make up` started. The record holds the start time as well: a pid that the system has given to
somebody else since is never touched.
"""

import contextlib
import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from dev import files
from dev.problem import Problem

_MARK = "PIPEWRIGHT_PROCESS"
"""Environment variable that children inherit: it finds workers that have left the process group."""

_INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "XDG_CACHE_HOME")

_children: dict[int, subprocess.Popen[bytes]] = {}
"""What this Python process started itself and must reap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """How one process is started, known to be ready, and ended."""

    name: str
    folder: Path
    """The state folder: logs/<name>.log and run/<name>.json lie in it."""
    command: tuple[str, ...]
    ready: Callable[[], bool]
    """A fact that only the running server can make true; must return quickly."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to a small inherited set: no KUBECONFIG, VAULT_TOKEN or DSN of the user gets through."""
    directory: Path | None = None
    user: str | None = None
    ready_within: float = 60.0
    """Seconds."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    """Seconds between the stop signal and SIGKILL."""

    @property
    def log(self) -> Path:
        """Where its standard output and error go; kept until the next start."""
        return log_of(self.folder, self.name)


def log_of(folder: Path, name: str) -> Path:
    """The log file of a process of that state folder."""
    return folder / "logs" / f"{name}.log"


def start(process: Process) -> bool:
    """Start it and wait until it is ready; False when it ran already (then it is only waited for).

    Raises Problem with the last log lines when it exits, or is not ready in time.
    """
    running = find(process.folder, process.name)
    if running is None:
        end_leftovers(process.folder, process.name)  # a killed server's children may hold its port or data
        running = _spawn(process)
        _wait(process, running)
        return True
    _wait(process, running)
    return False


def find(folder: Path, name: str) -> psutil.Process | None:
    """The running process that the record names; None when it was never started or has ended."""
    record = _record(folder, name)
    if record is None:
        return None
    child = _children.get(record["pid"])
    if child is not None and child.poll() is not None:
        del _children[record["pid"]]
        return None
    try:
        found = psutil.Process(record["pid"])
        ours = abs(found.create_time() - record["started"]) < 2.0 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return found if ours else None


def names(folder: Path) -> list[str]:
    """Every process that has a record in the state folder, oldest first."""
    records = (folder / "run").glob("*.json")
    return [path.stem for path in sorted(records, key=lambda path: path.stat().st_mtime_ns)]


def kill(folder: Path, name: str, number: signal.Signals) -> None:
    """Send a signal to the process itself, and return when SIGKILL or SIGTERM has ended it.

    The record stays, so that `find` says that it is gone.
    """
    running = find(folder, name)
    if running is None:
        raise Problem(f"{name} does not run. `make status` shows what does.")
    running.send_signal(number)
    if number in (signal.SIGKILL, signal.SIGTERM):
        _gone(folder, name, within=10.0)


def stop(folder: Path, name: str) -> bool:
    """End the process and all its descendants by its own pid and mark; False when it was not running.

    Stop signal first, SIGKILL after its grace; then the record goes.
    """
    record = _record(folder, name)
    running = find(folder, name)
    if running is not None and record is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            running.send_signal(record["signal"])
        if not _gone(folder, name, within=record["grace"]):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            _gone(folder, name, within=10.0)
    end_leftovers(folder, name)
    (folder / "run" / f"{name}.json").unlink(missing_ok=True)
    return running is not None


def end_leftovers(folder: Path, name: str = "") -> None:
    """Kill what `leftovers` finds and wait until it is gone."""
    found = leftovers(folder, name)
    for left in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    psutil.wait_procs(found, timeout=5.0)


def leftovers(folder: Path, name: str = "") -> list[psutil.Process]:
    """Living processes that inherited the mark of this state folder (and name, if given)."""
    wanted = f"{folder}:{name}"
    marks = ((found, _mark_of(found)) for found in psutil.process_iter())
    return [found for found, mark in marks if (mark == wanted if name else mark.startswith(wanted))]


def _mark_of(found: psutil.Process) -> str:
    try:
        if found.status() == psutil.STATUS_ZOMBIE:
            return ""
        return found.environ().get(_MARK, "")
    except (psutil.Error, OSError):
        return ""


def _record(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / "run" / f"{name}.json"
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return None


def _spawn(process: Process) -> psutil.Process:
    """Start it in a session of its own: Ctrl-C in the user's terminal is not for the servers."""
    process.log.parent.mkdir(parents=True, exist_ok=True)
    inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    mark = {_MARK: f"{process.folder}:{process.name}"}
    with process.log.open("wb") as log:
        child = subprocess.Popen(
            process.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=process.directory or process.folder,
            env={**inherited, **process.environment, **mark},
            start_new_session=True,
            umask=0o077,
            **_as_user(process.user),
        )
    _children[child.pid] = child
    started = psutil.Process(child.pid)
    record = {
        "pid": child.pid,
        "started": started.create_time(),
        "signal": process.stop_signal,
        "grace": process.grace,
    }
    files.write(process.folder / "run" / f"{process.name}.json", json.dumps(record))
    return started


def _as_user(user: str | None) -> dict[str, Any]:
    """Arguments of Popen that drop root's rights for good."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _wait(process: Process, running: psutil.Process) -> None:
    """Poll the readiness fact, a little slower each time; an exit ends the wait at once."""
    deadline = time.monotonic() + process.ready_within
    pause = 0.02
    while not process.ready():
        if find(process.folder, process.name) is None:
            raise Problem(_story(process, f"{process.name} ended before it was ready"))
        if time.monotonic() > deadline:
            raise Problem(_story(process, f"{process.name} was not ready after {process.ready_within:.0f} s"))
        time.sleep(pause)
        pause = min(pause * 1.3, 0.25)


def _story(process: Process, what: str) -> str:
    return f"{what}. The end of its log, {process.log}:\n{files.tail(process.log)}"


def _gone(folder: Path, name: str, *, within: float) -> bool:
    """Wait until the process has ended; False when it has not in that many seconds."""
    deadline = time.monotonic() + within
    while find(folder, name) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
