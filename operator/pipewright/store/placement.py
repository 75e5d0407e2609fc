"""Which server a new tenant's database goes to: the least filled one that has room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from pipewright import errors
from pipewright.facts import Server

AGAIN = timedelta(minutes=1)
"""When to look again whether a tenant has left a full server."""


def choose(servers: Sequence[Server], tenants: Mapping[str, int]) -> str:
    """The name of the server with the smallest share of its capacity taken, in the order of the settings.

    A server without a capacity counts as empty: it is there to take what comes.

    Raises:
        Waiting: none has room.
    """
    shares = {
        server.name: tenants.get(server.name, 0) / server.capacity if server.capacity else 0.0
        for server in servers
        if server.capacity is None or tenants.get(server.name, 0) < server.capacity
    }
    if not shares:
        full = ", ".join(sorted(server.name for server in servers))
        raise errors.Waiting(
            "NoCapacity",
            f"every database server of this placement is full ({full}): raise its capacity or add a server in"
            " the operator's settings, or delete a tenant there with its data",
            after=AGAIN,
        )
    return min(shares, key=lambda name: (shares[name], tenants.get(name, 0)))
