"""Tenants with a webhook each for benchmarks of the gateway, and clients that cost little themselves.

The clients speak HTTP/1.1 over keep-alive connections from prepared bytes: on two cores a comfortable client
would take more CPU than the gateway, and would be what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psycopg

from dev import simulator
from dev.demo.scene import ProviderClient
from dev.provider_hooks import signature
from dev.stack import Stack
from ml import artifact
from pipewright.store import routes
from pipewright.store.records import ModelPointer

MODEL = "run-failure"


# --- a tenant with a webhook ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A tenant with an Integration, and what its provider and its automation know."""

    stack: Stack
    namespace: str
    tenant_id: str
    path: str
    secret: str = field(repr=False)
    token: str = field(repr=False)

    @property
    def port(self) -> int:
        """The gateway's."""
        return self.stack.layout.ports["gateway"]

    def connect(self) -> psycopg.Connection[Any]:
        """The administrator's connection to the tenant's database."""
        admin = self.stack.parts.database().admin_dsn
        return psycopg.connect(admin, dbname=f"pw_{self.tenant_id}", autocommit=True)

    def count(self, table: str) -> int:
        """Rows of a table of ours."""
        with self.connect() as conn:
            row = conn.execute(f"SELECT count(*) FROM pipewright.{table}").fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row[0])

    def delivery(self, event: str, body: bytes, *, signed: bool = True) -> bytes:
        """A webhook as bytes on the wire."""
        told = signature(self.secret, body) if signed else "sha256=" + "0" * 64
        lines = [
            f"POST {self.path} HTTP/1.1",
            "Host: gateway",
            "Content-Type: application/json",
            f"X-GitHub-Delivery: {uuid.uuid4()}",
            f"X-GitHub-Event: {event}",
            f"X-Hub-Signature-256: {told}",
        ]
        return _message(lines, body)

    def rest(self, method: str, path: str, body: bytes = b"", *, kind: str = "application/json") -> bytes:
        """A request of the tenant's automation account as bytes on the wire."""
        lines = [
            f"{method} /v1/namespaces/{self.namespace}{path} HTTP/1.1",
            "Host: gateway",
            f"Content-Type: {kind}",
            f"Authorization: Bearer {self.token}",
        ]
        return _message(lines, body)

    async def bring(self, records: Iterable[Mapping[str, Any]]) -> Answers:
        """Import a history as records of runs and jobs; what came of it."""
        body = "".join(json.dumps(record) + "\n" for record in records).encode()
        message = self.rest("POST", "/integrations/github/history", body, kind="application/x-ndjson")
        answers = await closed_loop(self.port, [message], clients=1)
        assert answers.statuses == {200: 1}, answers.statuses
        return answers

    async def serve(self, content: bytes) -> None:
        """Make the model the namespace's default, as the runner does after a training, and wait for it."""
        digest = artifact.digest(content)
        file = self.stack.folder / "artifacts" / f"{digest}.model"
        file.write_bytes(content)
        pointer = ModelPointer(
            model_uid=str(uuid.uuid4()),
            tenant_id=self.tenant_id,
            namespace=self.namespace,
            model=MODEL,
            task="RunFailure",
            is_default=True,
            version=digest[:12],
            artifact_uri=file.as_uri(),
            artifact_sha256=digest,
            promoted_at=datetime.now(UTC),
        )
        dsn = self.stack.parts.platform()["pipewright_runner"]
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as runner:
            assert await routes.promote(runner, pointer, expected=None)
        await self.until_served()

    async def until_served(self) -> None:
        """Wait until the gateway answers by the model."""
        asked = self.rest(
            "POST", f"/models/{MODEL}/predictions", b'{"project": "acme/shop", "pipeline": "ci"}'
        )
        async with asyncio.timeout(60):
            while True:
                if (await closed_loop(self.port, [asked], clients=1)).statuses == {200: 1}:
                    return
                await asyncio.sleep(0.1)


def _message(lines: Sequence[str], body: bytes) -> bytes:
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def make(stack: Stack, provider: ProviderClient, name: str) -> Site:
    """A tenant with an Integration of the provider, ready for deliveries."""
    kubectl = stack.parts.system().kubectl
    editor = {"kind": "ServiceAccount", "name": "automation", "namespace": name}
    kubectl.apply(_ours("Tenant", {"name": name}, {"access": {"editors": [editor]}}))
    kubectl.run("wait", "--for=condition=Ready", f"tenant/{name}", "--timeout=60s", timeout=70)
    place = {"namespace": name}
    secret = {"stringData": {"token": provider.token}}
    spec = {
        "connector": "github",
        "credentials": {"secretRef": {"name": "github-credentials"}},
        "config": {"baseUrl": provider.url},
        "projects": [project.name for project in simulator.ORGANISATION],
    }
    kubectl.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "automation", **place}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "github-credentials", **place}} | secret,
        _ours("Integration", {"name": "github", **place}, spec),
    )
    kubectl.run(
        "wait", "--for=condition=Ready", "integration/github", "-n", name, "--timeout=60s", timeout=70
    )
    tenant, hook = (
        kubectl.get("tenant", name),
        _fields(kubectl.get("secret", "github-webhook", "-n", name)),
    )
    assert tenant is not None
    return Site(
        stack=stack,
        namespace=name,
        tenant_id=tenant["status"]["id"],
        path=urlsplit(hook["url"]).path,
        secret=hook["secret"],
        token=kubectl.token("automation", namespace=name, audience="pipewright", hours=1),
    )


def _ours(kind: str, metadata: Mapping[str, str], spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": kind,
        "metadata": dict(metadata),
        "spec": dict(spec),
    }


def _fields(secret: Mapping[str, Any] | None) -> dict[str, str]:
    assert secret is not None
    return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}


# --- clients ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Answers:
    """What a closed loop saw."""

    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.milliseconds) / self.seconds

    def at(self, share: float) -> float:
        """That quantile of the times to an answer, in milliseconds."""
        return float(np.quantile(self.milliseconds, share))


async def closed_loop(port: int, messages: Sequence[bytes], *, clients: int) -> Answers:
    """Send the messages over so many keep-alive connections, each with one request under way at a time."""
    answers, waiting = Answers(), iter(messages)
    connections = [await asyncio.open_connection("127.0.0.1", port, limit=2**22) for _ in range(clients)]

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for message in waiting:
            began = time.perf_counter()
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            answers.milliseconds.append(1000 * (time.perf_counter() - began))
            status = int(head[9:12])
            answers.statuses[status] = answers.statuses.get(status, 0) + 1

    began = time.perf_counter()
    await asyncio.gather(*(one(*connection) for connection in connections))
    answers.seconds = time.perf_counter() - began
    for _, writer in connections:
        writer.close()
    return answers
