"""Free TCP ports on loopback for servers that must be told theirs.

A stack's servers start one after the other, some of them minutes after their ports were chosen, and other
stacks may start meanwhile: so each stack has a block of ports to itself, noted in the cache that all
checkouts share.
"""

import random
import socket
import time
from pathlib import Path

from dev import files, places
from dev.problem import Problem

_RANGE = range(20000, 30000)
"""Below what Linux and macOS hand out for outgoing connections, below Kubernetes' node ports."""
_BLOCK = 64
_UNBORN = 60
"""Seconds that a claim counts although its stack has not been written down yet."""


def claim(folder: Path, count: int) -> list[int]:
    """That many ports on which nobody listens, in a block that no other stack has while `folder` is one.

    Raises Problem when no block is free.
    """
    claims = places.cache() / "ports"
    with files.lock(claims.with_suffix(".lock")):
        blocks = range(_RANGE.start, _RANGE.stop - _BLOCK, _BLOCK)
        for start in random.sample(blocks, k=len(blocks)):
            claimed = claims / str(start)
            # every second one: Vault takes the port after its own, too
            wanted = range(start, start + 2 * count)
            if not _is_held(claimed) and all(map(_is_free, wanted)):
                files.write(claimed, str(folder))
                return list(wanted[::2])
    raise Problem(
        f"No {_BLOCK} ports in a row are free between {_RANGE.start} and {_RANGE.stop - 1} on 127.0.0.1."
    )


def free() -> int:
    """A port on which nobody listens now."""
    return next(port for port in random.sample(_RANGE, k=len(_RANGE)) if _is_free(port))


def _is_held(claimed: Path) -> bool:
    """Whether the stack that claimed the block is there, or is being made."""
    try:
        holder, made = Path(claimed.read_text()), claimed.stat().st_mtime
    except FileNotFoundError:
        return False
    return (holder / "stack.json").exists() or time.time() - made < _UNBORN


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("", port))  # Ray listens on other addresses of the machine, too
        except OSError:
            return False
    return True
