"""uv and the virtual environments: `.venv` of the checkout, Ray's and MLflow's own in the shared cache.

Standard library only: this runs under the system's Python, before anything is installed. An environment
is complete when its stamp says so; the stamp names the lock file's hash and the Python version.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from dev import files, places
from dev.problem import Problem
from dev.progress import Progress

PINNED = "0.13.9"
"""The uv that is installed where none is on PATH."""

_STAMP = ".pipewright-lock"


def executable(progress: Progress) -> Path:
    """The uv to use: the one on PATH, else the pinned one, installed once into the cache."""
    found = shutil.which("uv")
    if found:
        return Path(found)
    folder = places.cache() / f"uv-{PINNED}"
    uv = folder / "bin" / "uv"
    with files.lock(_guard(folder), waiting=lambda: progress.say("another checkout installs uv")):
        if not (folder / _STAMP).exists():
            shutil.rmtree(folder, ignore_errors=True)
            with progress.step(f"uv {PINNED} into {folder}"):
                _run([sys.executable, "-m", "venv", str(folder)], hint=_VENV_HINT)
                pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
                _run([*pip, "--disable-pip-version-check", f"uv=={PINNED}"], hint=_NETWORK_HINT)
            files.write(folder / _STAMP, PINNED)
    return uv


def environment(folder: Path, *, lock_file: Path, progress: Progress) -> bool:
    """Make `folder` a virtual environment with exactly the locked packages; True when it had to work."""
    wanted = f"{fingerprint(lock_file)} {platform.python_version()}\n"
    stamp = folder / _STAMP
    if stamp.exists() and stamp.read_text() == wanted and _answers(folder):
        return False
    with files.lock(_guard(folder), waiting=lambda: progress.say(f"another process prepares {folder}")):
        if stamp.exists() and stamp.read_text() == wanted and _answers(folder):
            return False
        uv = executable(progress)
        with progress.step(f"{folder.name} from {lock_file.relative_to(places.ROOT)}", announce=True):
            stamp.unlink(missing_ok=True)
            if not _answers(folder):
                shutil.rmtree(folder, ignore_errors=True)
                _uv([str(uv), "venv", "--quiet", "--python", sys.executable, str(folder)])
            python = str(folder / "bin" / "python")
            _uv([str(uv), "pip", "sync", "--quiet", "--require-hashes", "--python", python, str(lock_file)])
            files.write(stamp, wanted)
    return True


def ray(progress: Progress) -> Path:
    """Ray's environment in the cache, named by its lock file's content; installed when it is missing."""
    return _cached("ray", progress)


def mlflow(progress: Progress) -> Path:
    """The same of an MLflow server, which contract tests start."""
    return _cached("mlflow", progress)


def ray_serve(progress: Progress) -> Path:
    """The same with Ray Serve, for the benchmark that runs it beside the gateway."""
    return _cached("ray-serve", progress)


def _cached(name: str, progress: Progress) -> Path:
    lock_file = places.ROOT / "requirements" / f"{name}.txt"
    folder = places.cache() / f"{name}-{fingerprint(lock_file)}"
    environment(folder, lock_file=lock_file, progress=progress)
    return folder


def create(folder: Path, *, packages: list[str], progress: Progress) -> None:
    """A new environment with some pinned packages, for a tool that is not the project's."""
    uv = str(executable(progress))
    _uv([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    _uv([uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *packages])


def fingerprint(lock_file: Path) -> str:
    """The name of a lock file's content for the very Python that runs this.

    Two checkouts with different interpreters must not rebuild one shared environment in turns.
    """
    interpreter = f"{platform.python_version()} {os.path.realpath(sys.executable)}"
    return hashlib.sha256(lock_file.read_bytes() + interpreter.encode()).hexdigest()[:12]


def _guard(folder: Path) -> Path:
    """The lock file of an environment, outside it and outside any checkout."""
    return places.cache() / "locks" / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]


def _answers(folder: Path) -> bool:
    """Whether the environment's Python still runs and is the version that runs this."""
    command = [
        str(folder / "bin" / "python"),
        "-I",
        "-c",
        "import platform; print(platform.python_version())",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # not there, or made with an interpreter that this user cannot run
        return False
    return answer.stdout.strip() == platform.python_version()


_VENV_HINT = "Debian and Ubuntu keep the venv module in a package: apt-get install python3-venv."
_NETWORK_HINT = "Is the package index reachable from here (PIP_INDEX_URL, UV_DEFAULT_INDEX, proxy)?"


def _uv(command: list[str]) -> None:
    _run(command, hint=_NETWORK_HINT, environment={**os.environ, "UV_PYTHON_DOWNLOADS": "never"})


def _run(command: list[str], *, hint: str, environment: dict[str, str] | None = None) -> None:
    """Run one installer quietly; its last lines become the problem's text when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = "\n".join(f"  {line}" for line in (done.stderr or done.stdout).splitlines()[-20:])
        raise Problem(f"`{' '.join(command[:4])} …` failed:\n{said}\n{hint}")
