"""Predictions over HTTP: the gateway on a history in PostgreSQL, beside a constant and beside Ray Serve."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from dev import files, places, ports, process, product, uv, web
from dev.process import Process
from dev.progress import Progress
from dev.ray import temporary_folder
from dev.stack import Stack
from ml import artifact, history, replay, window
from tests.bench import sites
from tests.bench.ingest.load import Seen
from tests.bench.lines import figure, say
from tests.bench.train import compute
from tests.bench.train.rates import AIM_MS, RATE, Target

RAY = "ray-serve"
ASKED = 1000
"""The newest runs of the history, which are asked about again and again."""
_FIELDS = ("project", "pipeline", "branch", "trigger", "sha")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one of those who answer did in one round."""

    rate: float
    """That it kept."""
    at_rate: Seen
    at_aim: Seen
    """At `RATE`."""


class Endpoint:
    """A tenant with a history and a model, and those who answer for it."""

    def __init__(
        self,
        site: sites.Site,
        records: Sequence[Mapping[str, Any]],
        *,
        lines: Mapping[str, Mapping[str, Any]],
        seconds: float,
    ) -> None:
        """`lines` are all lines of work, as Ray Serve gets them."""
        self.site, self.lines, self.seconds = site, lines, seconds
        runs = [record for record in records if record["type"] == "run"][-ASKED:]
        self.runs = [{field: run[field] for field in _FIELDS} for run in runs]
        self.bodies = [json.dumps(run).encode() for run in self.runs]
        self.ours: list[Round] = []
        """What the gateway did, once it was measured."""

    @property
    def stack(self) -> Stack:
        """Its servers."""
        return self.site.stack

    def asked(self, what: str) -> list[bytes]:
        """The requests."""
        return [self.site.rest("POST", f"/models/{sites.MODEL}/{what}", body) for body in self.bodies]

    def target(self, name: str, messages: Sequence[bytes], *, port: int, process: str) -> Target:
        """One of those who answer, by the stack's process."""
        return Target(
            name=name,
            port=port,
            messages=messages,
            cpu=lambda: cpu(self.stack.folder, process),
            folder=self.stack.folder,
        )

    def round(self, target: Target) -> Round:
        """The rate that it keeps, and what it does at the one that is aimed at."""
        rate, seen = target.kept(seconds=self.seconds)
        return Round(rate=rate, at_rate=seen, at_aim=target.ask(rate=RATE, count=int(RATE * self.seconds)))

    # --- the gateway, beside a constant -------------------------------------------------------------------

    def batches(self, rows: Sequence[compute.Asked], *, content: bytes, rounds: int) -> list[dict[str, Any]]:
        """Runs a second in batches over HTTP, beside the model alone in this process."""
        bodies = [
            json.dumps({"runs": self.runs[at : at + compute.BATCH]}).encode()
            for at in range(0, len(self.runs), compute.BATCH)
        ]
        path = f"/models/{sites.MODEL}/predictions/batch"
        messages = [self.site.rest("POST", path, body) for body in bodies]
        target = self.target("batches", messages, port=self.site.port, process="gateway")
        predictor, ours, limit = compute.loaded(content), list[float](), list[float]()
        with self.gateway():
            target.ask(rate=0, count=10, connections=2)
            for number in range(rounds):
                seen = target.ask(rate=0, count=40, connections=2)
                ours.append(40 * compute.BATCH / seen.seconds)
                limit.append(compute.together(predictor, rows))
                say(f"batches {number + 1}/{rounds}: {ours[-1]:.0f} runs/s, in process {limit[-1]:.0f}/s")
        unit = f"runs/s over HTTP in batches of {compute.BATCH}, two at a time"
        return [figure("serving_batch", statistics.median(ours), unit, statistics.median(limit))]

    @contextmanager
    def gateway(self) -> Iterator[None]:
        """The gateway with the constant's route, alone: the others share the cores and have no part in it."""
        for other in ("provisioner", "runner", "gateway", "provider", "ray"):
            process.stop(self.stack.folder, other)
        usual = product.process("gateway", folder=self.stack.folder, port=self.site.port)
        ours = (sys.executable, "-m", "tests.bench.train.server")
        process.start(dataclasses.replace(usual, command=ours))
        try:
            asyncio.run(self.site.until_served())
            yield
        finally:
            process.stop(self.stack.folder, "gateway")

    def beside_a_constant(self, *, rounds: int) -> list[dict[str, Any]]:
        """Predictions by the gateway, and the same server's constant."""
        ours, limit = (
            self.target(name, self.asked(name), port=self.site.port, process="gateway")
            for name in ("predictions", "constant")
        )
        told: tuple[list[Round], list[Round]] = ([], [])
        with self.gateway():
            for number in range(rounds):
                say(f"gateway, round {number + 1}/{rounds}")
                told[0].append(self.round(ours))
                told[1].append(self.round(limit))
        self.ours = told[0]
        return figures("serving_endpoint", *told)

    # --- Ray Serve ----------------------------------------------------------------------------------------

    def beside_ray_serve(self, content: bytes, *, rounds: int) -> list[dict[str, Any]]:
        """What the gateway did, in `beside_a_constant`, and Ray Serve with the same model and rows."""
        assert self.ours, "the gateway was measured first"
        theirs: list[Round] = []
        with self.ray_serve(content) as target:
            for number in range(rounds):
                say(f"Ray Serve, round {number + 1}/{rounds}")
                theirs.append(self.round(target))
            same = statistics.median(it.rate for it in self.ours)
            target.ask(rate=same, count=max(100, int(same * self.seconds)))
        return figures("serving_ray_serve", self.ours, theirs)

    @contextmanager
    def ray_serve(self, content: bytes) -> Iterator[Target]:
        """The same model file and the same lines of work behind Ray Serve, from Ray's own environment."""
        folder, port = self.stack.folder, ports.free()
        model, known = folder / "served.model", folder / "served.lines.json"
        model.write_bytes(content)
        known.write_text(json.dumps(self.lines))
        environment, token = uv.ray_serve(Progress()), folder / "ray-serve.token"
        files.secret(token)
        temporary = temporary_folder(folder)
        files.own_folder(temporary, mode=0o700)
        url = f"http://127.0.0.1:{port}/"
        head = b"POST / HTTP/1.1\r\nHost: ray\r\nContent-Type: application/json\r\nContent-Length: "
        messages = [head + str(len(body)).encode() + b"\r\n\r\n" + body for body in self.bodies]
        try:
            process.start(
                Process(
                    name=RAY,
                    folder=folder,
                    command=(
                        *(str(environment / "bin" / "python"), "-m", "tests.bench.train.ray_serve"),
                        *(str(model), str(known), str(port), str(temporary)),
                    ),
                    environment={
                        "PYTHONPATH": str(places.ROOT),
                        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
                        "RAY_AUTH_MODE": "token",
                        "RAY_AUTH_TOKEN_PATH": str(token),
                        "RAY_USAGE_STATS_ENABLED": "0",
                        # its proxy imports for longer than the usual five seconds on a slow machine
                        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
                        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
                        "OPENBLAS_NUM_THREADS": "1",
                    },
                    ready=lambda: _answers(url, self.bodies[0]),
                    directory=places.ROOT,
                    ready_within=180.0,
                    grace=20.0,
                )
            )
            yield self.target("Ray Serve", messages, port=port, process=RAY)
        finally:
            process.stop(folder, RAY)
            shutil.rmtree(temporary, ignore_errors=True)


def lines_of(history_window: bytes) -> dict[str, dict[str, Any]]:
    """All lines of work at the end of a history: scope → key → outcomes as they are kept."""
    table = window.read(history_window, sha256=artifact.digest(history_window))
    known: dict[str, dict[str, Any]] = {}
    for row in replay.attempts(table):
        if row.failed is None or row.finished_at is None:
            continue
        done = history.row_of(replay.outcome_of(row.run, failed=row.failed, finished_at=row.finished_at))
        for scope, key in history.lines(row.run).items():
            of_scope = known.setdefault(scope, {})
            of_scope[key] = history.insert_row(of_scope.get(key, ()), done)
    return known


def figures(name: str, ours: Sequence[Round], limit: Sequence[Round]) -> list[dict[str, Any]]:
    """The rate that is kept; the times at it, and those at the rate that is aimed at."""

    def both(unit: str, of: str, what: Any) -> dict[str, Any]:
        value, bound = (statistics.median(map(what, side)) for side in (ours, limit))
        return figure(name + of, value, unit, bound)

    at = f"at {RATE:.0f}/s"
    return [
        both(f"predictions/s at p99 < {AIM_MS:.0f} ms", "", lambda it: it.rate),
        *(
            both(f"ms {at if which == 'at_aim' else 'at the rate that each keeps'}", of, get)
            for which in ("at_rate", "at_aim")
            for of, get in (
                (f"_{which}_p50", lambda it, w=which: getattr(it, w).p50),
                (f"_{which}_p99", lambda it, w=which: getattr(it, w).p99),
                (f"_{which}_p999", lambda it, w=which: getattr(it, w).p999),
            )
        ),
    ]


def cpu(folder: Path, name: str) -> float:
    """Seconds of CPU that a process of the stack and its children have taken."""
    total = 0.0
    for found in process.leftovers(folder, name):
        try:
            times = found.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _answers(url: str, body: bytes) -> bool:
    answer = web.ask(url, method="POST", document=json.loads(body), timeout=5.0)
    return answer is not None and answer.code == 200
