"""Ports of stacks: none has another's, and those of a stack that is gone come back."""

import os
import socket
from pathlib import Path

import pytest

from dev import ports
from dev.problem import Problem


@pytest.fixture(autouse=True)
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims of this test only, in a range with room for two stacks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    starts = iter(ports.free, None)
    start = next(at for at in starts if all(map(ports._is_free, range(at, at + 17))))
    monkeypatch.setattr(ports, "_RANGE", range(start, start + 17))
    monkeypatch.setattr(ports, "_BLOCK", 8)


def stack(folder: Path) -> list[int]:
    claimed = ports.claim(folder, 3)
    folder.mkdir()
    (folder / "stack.json").write_text("{}")
    return claimed


def test_two_stacks_share_no_port_and_a_third_is_told(tmp_path: Path) -> None:
    one, other = stack(tmp_path / "one"), stack(tmp_path / "other")
    assert not set(one) & set(other)
    assert [port + 2 for port in one[:-1]] == one[1:]
    with pytest.raises(Problem, match="No 8 ports in a row are free"):
        ports.claim(tmp_path / "third", 3)


def test_the_ports_of_a_stack_that_is_gone_are_given_again(tmp_path: Path) -> None:
    one = stack(tmp_path / "one")
    stack(tmp_path / "other")
    (tmp_path / "one" / "stack.json").unlink()
    with pytest.raises(Problem):  # it may be in the making
        ports.claim(tmp_path / "third", 3)
    for claimed in (tmp_path / "cache" / "pipewright" / "ports").iterdir():
        os.utime(claimed, (0, 0))
    assert ports.claim(tmp_path / "third", 3) == one


def test_a_block_with_a_listener_is_left_alone(tmp_path: Path) -> None:
    first = ports._RANGE.start
    with socket.create_server(("127.0.0.1", first + 3)):
        assert ports.claim(tmp_path / "one", 3)[0] == first + 8
