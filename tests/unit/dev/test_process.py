"""Processes of the development stack: real ones, small."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from dev import files, process
from dev.problem import Problem

SERVE = "import pathlib, time; pathlib.Path('ready').touch(); print('serving', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVE
PARENT = f"""
import subprocess, sys
subprocess.Popen([sys.executable, '-c', {SERVE!r}], start_new_session=True)
{SERVE}
"""


def python(folder: Path, code: str, **how: object) -> process.Process:
    fields: dict[str, object] = {"ready": lambda: (folder / "ready").exists(), "ready_within": 20.0, **how}
    return process.Process(name="server", folder=folder, command=(sys.executable, "-c", code), **fields)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path):
    yield tmp_path
    process.stop(tmp_path, "server")
    assert process.leftovers(tmp_path) == []


def test_a_started_process_is_found_and_a_stopped_one_is_not(folder: Path) -> None:
    assert process.start(python(folder, SERVE))
    found = process.find(folder, "server")
    assert found is not None
    assert found.is_running()
    assert process.stop(folder, "server")
    assert process.find(folder, "server") is None
    assert not _lives(found)


def _lives(found: psutil.Process) -> bool:
    """Not one that has ended and waits for init to take note, which a busy machine's does late."""
    try:
        return found.is_running() and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_starting_what_runs_changes_nothing(folder: Path) -> None:
    process.start(python(folder, SERVE))
    first = process.find(folder, "server")
    assert not process.start(python(folder, SERVE))
    assert process.find(folder, "server") == first


def test_stopping_what_does_not_run_says_so(folder: Path) -> None:
    assert not process.stop(folder, "server")


def test_an_early_exit_is_told_at_once_with_the_log(folder: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(Problem, match=r"ended before it was ready(.|\n)*no such option --colour"):
        process.start(python(folder, "raise SystemExit('no such option --colour')"))
    assert time.monotonic() - begun < 10


def test_a_process_that_is_not_ready_in_time_is_a_problem(folder: Path) -> None:
    with pytest.raises(Problem, match=r"not ready after 1 s(.|\n)*serving"):
        process.start(python(folder, SERVE, ready=lambda: False, ready_within=1.0))


def test_a_deaf_process_is_killed_after_its_grace(folder: Path) -> None:
    process.start(python(folder, DEAF, grace=0.3))
    assert process.stop(folder, "server")


def test_a_child_that_left_the_session_ends_with_its_parent(folder: Path) -> None:
    process.start(python(folder, PARENT))
    assert len(process.leftovers(folder)) == 2
    process.stop(folder, "server")


def test_what_a_killed_process_leaves_is_ended_before_the_next_start(folder: Path) -> None:
    process.start(python(folder, PARENT))
    process.kill(folder, "server", signal.SIGKILL)
    left = process.leftovers(folder)
    process.start(python(folder, SERVE))
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in left)


def test_a_pid_that_belongs_to_somebody_else_by_now_is_not_touched(folder: Path) -> None:
    stranger = psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        record = {"pid": stranger.pid, "started": stranger.create_time() - 60, "signal": 15, "grace": 1}
        files.write(folder / "run" / "server.json", json.dumps(record))
        assert process.find(folder, "server") is None
        assert not process.stop(folder, "server")
        assert stranger.is_running()
    finally:
        stranger.kill()
        stranger.wait()


def test_the_users_credentials_do_not_reach_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/production")
    monkeypatch.setenv("VAULT_TOKEN", "canary")
    process.start(python(folder, SERVE, environment={"GIVEN": "yes"}))
    found = process.find(folder, "server")
    assert found is not None
    assert found.environ()["GIVEN"] == "yes"
    assert not {"KUBECONFIG", "VAULT_TOKEN"} & set(found.environ())


def test_ctrl_c_in_the_terminal_is_not_for_the_servers(folder: Path) -> None:
    process.start(python(folder, SERVE))
    found = process.find(folder, "server")
    assert found is not None
    assert os.getsid(found.pid) == found.pid != os.getsid(0)


def test_a_signal_for_a_process_that_does_not_run_is_a_problem(folder: Path) -> None:
    with pytest.raises(Problem, match="server does not run"):
        process.kill(folder, "server", signal.SIGTERM)
