"""Small file tools that several modules need: private files, atomic writes, a lock between processes."""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.problem import Problem


def write(path: Path, content: str | bytes, *, mode: int = 0o600) -> Path:
    """Write a file that is complete or absent, readable by its owner only unless `mode` says more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    draft.replace(path)
    return path


def own_folder(path: Path, *, mode: int) -> Path:
    """Make a folder, or accept it when it is ours already.

    Raises Problem when somebody else has it: below /tmp anybody may take a name.
    """
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.geteuid():
        raise Problem(f"{path} belongs to somebody else. `make down`, then `make up` chooses another name.")
    path.chmod(mode)
    return path


def secret(path: Path, *, length: int = 32) -> str:
    """The random secret that lies in `path`, written there at the first call."""
    if not path.exists():
        write(path, secrets.token_urlsafe(length))
    return path.read_text()


def tail(path: Path, *, lines: int = 20) -> str:
    """The last lines of a text file, indented for a message; a sentence when there are none."""
    if not path.exists():
        return "  (no log was written)"
    found = path.read_bytes()[-64_000:].decode(errors="replace").splitlines()[-lines:]
    return "\n".join(f"  {line[:400]}" for line in found) or "  (its log is empty)"


@contextmanager
def lock(path: Path, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file `path` across processes; `waiting` is called once when somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
