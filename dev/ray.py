"""A local Ray head with token authentication, from Ray's own locked environment.

Only the training image carries Ray; nothing here imports it. The operator talks to the dashboard's Jobs API.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dev import files, web
from dev.process import Process

PORTS = ("ray-gcs", "ray-dashboard", "ray-client", "ray-agent", "ray-agent-grpc", "ray-metrics")
_OBJECT_STORE = 200_000_000  # bytes; Ray's minimum is 75 MB
_SOCKET_LIMIT = 107
"""Bytes that the path of a Unix socket may have; Ray puts about 65 below its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayHead:
    """One head node with two CPUs and its dashboard."""

    folder: Path
    temporary: Path
    """Ray's own folder: short, because its Unix sockets lie there."""
    ports: Mapping[str, int]
    environment: Path
    """The virtual environment that has Ray."""

    @property
    def address(self) -> str:
        """URL of the dashboard and its Jobs API."""
        return f"http://127.0.0.1:{self.ports['ray-dashboard']}"

    @property
    def token_file(self) -> Path:
        """The bearer token that every request needs; made at the first use."""
        path = self.folder / "ray.token"
        files.secret(path)
        return path

    def prepare(self) -> None:
        """Make its folder, closed to others."""
        files.own_folder(self.temporary, mode=0o700)

    def server(self) -> Process:
        """`ray start --head --block`: it ends its own children, whoever is left is found by the mark."""
        flags = {
            "node-ip-address": "127.0.0.1",
            "port": self.ports["ray-gcs"],
            "dashboard-host": "127.0.0.1",
            "dashboard-port": self.ports["ray-dashboard"],
            "ray-client-server-port": self.ports["ray-client"],
            "dashboard-agent-listen-port": self.ports["ray-agent"],
            "dashboard-agent-grpc-port": self.ports["ray-agent-grpc"],
            "metrics-export-port": self.ports["ray-metrics"],
            "min-worker-port": 0,
            "max-worker-port": 0,
            "num-cpus": 2,
            "object-store-memory": _OBJECT_STORE,
            "temp-dir": self.temporary,
        }
        ray = self.environment / "bin" / "ray"
        options = (f"--{name}={value}" for name, value in flags.items())
        return Process(
            name="ray",
            folder=self.folder,
            command=(str(ray), "start", "--head", "--block", "--disable-usage-stats", *options),
            environment=self._variables(),
            ready=lambda: authorised(self.address, self.token_file.read_text()),
            ready_within=120.0,
            grace=15.0,
        )

    def _variables(self) -> dict[str, str]:
        return {
            "PATH": f"{self.environment / 'bin'}:{os.environ.get('PATH', '')}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DISABLE_IMPORT_WARNING": "1",
        }


def temporary_folder(folder: Path) -> Path:
    """A place for Ray's sockets: in the state folder where its path is short enough, else below /tmp."""
    inside = folder / "ray"
    if len(os.fsencode(inside)) + 70 < _SOCKET_LIMIT:
        return inside
    return Path(f"/tmp/pipewright-ray-{secrets.token_hex(6)}")  # noqa: S108 - owner and mode are checked


def authorised(address: str, token: str) -> bool:
    """Whether the Jobs API answers a request with this token."""
    answer = web.ask(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"}, timeout=3.0)
    return answer is not None and answer.code == 200
