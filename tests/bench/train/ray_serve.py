"""The same model file behind Ray Serve; a program for Ray's own environment (requirements/ray-serve.txt).

    python -m tests.bench.train.ray_serve MODEL LINES PORT FOLDER

Each request is one run as the gateway is asked for it, each answer has what the gateway answers. It does
less: the lines of work lie in its memory, understood already; nobody is authorised, and nothing is logged.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

from ml import artifact, history, predict

INTEGRATION = "github"
STORE = 100_000_000
"""Bytes of Ray's object store, which holds nothing here; its minimum is 75 MB."""


class RunFailure:
    """One replica: the model, and all lines of work by scope and key."""

    def __init__(self, model: str, lines: str) -> None:
        content = Path(model).read_bytes()
        self._predictor = predict.Predictor.load(content, sha256=artifact.digest(content))
        self._predictor.warm()
        kept = json.loads(Path(lines).read_text())
        self._lines = {
            (scope, key): history.decode(rows)
            for scope, of_scope in kept.items()
            for key, rows in of_scope.items()
        }

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Score the run."""
        asked = await request.json()
        run = history.Run(
            integration=INTEGRATION,
            project=asked["project"],
            pipeline=asked["pipeline"],
            event=asked.get("trigger", ""),
            branch=asked.get("branch", ""),
            actor=asked.get("actor", ""),
            sha=asked.get("sha", ""),
            run_id=asked.get("run", ""),
            attempt=asked.get("attempt", 1),
            started_at=time.time(),
        )
        known = {scope: self._lines.get((scope, key), ()) for scope, key in history.lines(run).items()}
        found = self._predictor.predict(run, known)
        return {
            "probability": found.probability,
            "band": found.band,
            "reasons": found.reasons,
            "model": {"name": "run-failure", "version": found.version},
        }


def main() -> None:
    """Serve until a signal."""
    model, lines, port, folder = sys.argv[1:]
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=STORE,
        _temp_dir=folder,
        _node_ip_address="127.0.0.1",
    )
    quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(port)), logging_config=quiet)
    deployment = serve.deployment(RunFailure, logging_config=quiet, max_ongoing_requests=64)
    serve.run(deployment.bind(model, lines), route_prefix="/")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()


if __name__ == "__main__":
    main()
