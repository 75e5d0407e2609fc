"""Free TCP ports on loopback for servers that must be told theirs."""

import random
import socket

from dev.problem import Problem

_RANGE = range(20000, 30000)
"""Below what Linux and macOS hand out for outgoing connections, below Kubernetes' node ports."""


def free(count: int) -> list[int]:
    """That many different ports on which nobody listens now, chosen at random.

    They are held together while they are chosen, so that one call never returns a port twice.
    """
    held: list[socket.socket] = []
    try:
        for port in random.sample(_RANGE, k=len(_RANGE)):
            if len(held) == count:
                break
            candidate = socket.socket()
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                candidate.close()
            else:
                held.append(candidate)
        if len(held) < count:
            raise Problem(f"Only {len(held)} of {count} ports are free between 20000 and 29999 on 127.0.0.1.")
        return [held_socket.getsockname()[1] for held_socket in held]
    finally:
        for held_socket in held:
            held_socket.close()
