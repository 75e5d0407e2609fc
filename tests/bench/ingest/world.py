"""PostgreSQL with one tenant and its webhooks, and the processes that take deliveries."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
from cryptography.hazmat.primitives.asymmetric import x25519

from dev import places, ports, simulator, throwaway, toolchain
from dev.progress import Progress
from pipewright import names, runner_facts
from pipewright.backends.postgres import PostgresDatabases, PostgresLogins, Server
from pipewright.backends.sealing import HpkeSealer
from pipewright.ports import LOGINS, Secret
from pipewright.store import connect, roles, routes
from pipewright.store.records import Route

NAMESPACE = "bench"
PROJECTS = tuple(project.name for project in simulator.ORGANISATION)
TWIN = Path(__file__).with_name("twin")
_RAW = """
CREATE SCHEMA bench;
CREATE TABLE bench.raw (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),
    body bytea STORAGE EXTERNAL NOT NULL);
GRANT USAGE ON SCHEMA bench TO pipewright_ingest;
GRANT SELECT, INSERT ON bench.raw TO pipewright_ingest;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """An Integration's webhook."""

    id: str
    uid: str
    secret: str = field(repr=False)

    @property
    def path(self) -> str:
        """Where its deliveries go."""
        return f"/hooks/{self.id}"


@dataclass(slots=True, kw_only=True)
class World:
    """The servers' addresses, and what is stored."""

    folder: Path
    tenant: str
    dsn: str = field(repr=False)
    """The tenant's database, as the gateway logs in."""
    admin_dsn: str = field(repr=False)
    settings: Path
    github: Hook
    cdevents: Hook

    def count(self, table: str) -> int:
        """Rows of a table."""
        with psycopg.connect(self.admin_dsn, dbname=roles.database(self.tenant)) as conn:
            row = conn.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row[0])

    def settle(self) -> None:
        """Statistics and a checkpoint, so that no round pays for the one before."""
        with psycopg.connect(self.admin_dsn, dbname=roles.database(self.tenant), autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE")
            conn.execute("CHECKPOINT")

    @contextmanager
    def server(self) -> Iterator[Process]:
        """The gateway's process."""
        port = ports.free()
        chosen = json.loads(self.settings.read_text()) | {"listen": {"port": port}}
        settings = self.folder / "gateway-now.json"
        settings.write_text(json.dumps(chosen))
        command = [sys.executable, "-m", "tests.bench.ingest.server", str(settings), self.tenant]
        with _running(command, port, log=self.folder / "gateway.log") as process:
            yield process

    @contextmanager
    def twin(self) -> Iterator[Process]:
        """The twin in Go, built if need be."""
        binary = self.folder / "twin"
        if not binary.exists():
            command = [str(toolchain.go(Progress(quiet=True))), "build", "-o", str(binary), "."]
            subprocess.run(command, cwd=TWIN, env=toolchain.environment(), check=True)
        port = ports.free()
        given = {"SECRET": self.github.secret, "DSN": _uri(self.dsn)}
        with _running(
            [str(binary), f"127.0.0.1:{port}"], port, log=self.folder / "twin.log", given=given
        ) as it:
            yield it


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that takes deliveries."""

    port: int
    process: psutil.Process

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has taken."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def rss(self) -> int:
        """Bytes of it that are in memory."""
        return int(self.process.memory_info().rss)


@contextmanager
def _running(
    command: Sequence[str], port: int, *, log: Path, given: Mapping[str, str] | None = None
) -> Iterator[Process]:
    with log.open("ab") as file:
        started = subprocess.Popen(
            command, env={**os.environ, **(given or {})}, cwd=places.ROOT, stdout=file, stderr=file
        )
    try:
        for _ in range(600):
            assert started.poll() is None, f"{command[0]} ended; see {log}"
            if _answers(port):
                break
            time.sleep(0.05)
        yield Process(port=port, process=psutil.Process(started.pid))
    finally:
        started.terminate()
        started.wait(20)


def _answers(port: int) -> bool:
    """Whether somebody listens, and if it is the gateway has its routes."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            return connection.recv(64)[9:12] in (b"200", b"404")
    except OSError:
        return False


def _uri(dsn: str) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    return (
        f"postgres://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{parts['dbname']}"
        "?sslmode=disable"
    )


@contextmanager
def world() -> Iterator[World]:
    """A server of its own, which waits for the disk at each commit as in production."""
    with throwaway.stack() as stack:
        database = stack.parts.database()
        platform = stack.parts.platform()
        with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
            for name in ("fsync", "full_page_writes"):
                admin.execute(f"ALTER SYSTEM SET {name} = on")  # type: ignore[arg-type]
            admin.execute("SELECT pg_reload_conf()")
        server = Server(
            name="main",
            host=database.host,
            port=database.port,
            provisioner_dsn=Secret(platform["pipewright_provisioner"]),
            migrator_dsn=Secret(platform["pipewright_migrator"]),
        )
        yield asyncio.run(_made(stack.folder, server, platform, database.admin_dsn))


async def _made(folder: Path, server: Server, platform: Mapping[str, str], admin_dsn: str) -> World:
    private = x25519.X25519PrivateKey.generate()
    (folder / "gateway.key").write_text(base64.b64encode(private.private_bytes_raw()).decode())
    (folder / "gateway.dsn").write_text(platform["pipewright_gateway"])
    sealer = HpkeSealer(base64.b64encode(private.public_key().public_bytes_raw()).decode())
    tenant, uid, logins = roles.new_id(), str(uuid4()), PostgresLogins(server)
    await PostgresDatabases(server).create(tenant, uid=uid, connection_limit=50)
    passwords = {purpose: Secret(secrets.token_hex(16)) for purpose in LOGINS}
    await logins.set(tenant, passwords=passwords, version=1)
    where, user = logins.connection(tenant), logins.username(tenant, "ingest")
    bundle = {
        "host": where.host, "port": where.port, "dbname": where.database, "user": user,
        "password": passwords["ingest"].reveal(),
        "dataKey": base64.b64encode(secrets.token_bytes(32)).decode(),
    }  # fmt: skip
    sealed = sealer.seal(json.dumps(bundle).encode(), context=names.bundle_context(tenant))
    with psycopg.connect(platform["pipewright_provisioner"], autocommit=True) as provisioner:
        provisioner.execute(
            "INSERT INTO pipewright.registry"
            " (id, uid, name, server, state, bundle, bundle_version, bundle_key)"
            " VALUES (%s, %s, %s, 'main', 'Active', %s, 1, %s)",
            [tenant, uid, NAMESPACE, sealed, sealer.key],
        )
        provisioner.execute(
            "INSERT INTO pipewright.registry_namespaces (uid, tenant_id, name) VALUES (%s, %s, %s)",
            [str(uuid4()), tenant, NAMESPACE],
        )
    with psycopg.connect(admin_dsn, dbname=where.database, autocommit=True) as admin:
        admin.execute(_RAW)
    async with await psycopg.AsyncConnection.connect(
        platform["pipewright_runner"], autocommit=True
    ) as runner:
        hooks = [await _hook(runner, sealer, tenant, connector) for connector in ("github", "cdevents")]
    settings = folder / "gateway.json"
    settings.write_text(
        json.dumps(
            {
                "component": "gateway",
                "identity": "bench",
                "platformDatabase": {"dsnFile": str(folder / "gateway.dsn")},
                "servers": [{"name": "main", "host": server.host, "port": server.port}],
                "gateway": {"privateKeyFile": str(folder / "gateway.key"), "baseUrl": "http://localhost"},
                "artifacts": {"url": folder.as_uri()},
            }
        )
    )
    return World(
        folder=folder,
        tenant=tenant,
        dsn=connect.tenant_dsn(where, user=user, password=passwords["ingest"]).reveal(),
        admin_dsn=admin_dsn,
        settings=settings,
        github=hooks[0],
        cdevents=hooks[1],
    )


async def _hook(runner: psycopg.AsyncConnection, sealer: HpkeSealer, tenant: str, connector: str) -> Hook:
    made = Hook(id=routes.new_hook_id(), uid=str(uuid4()), secret=secrets.token_hex(32))
    sealed = sealer.seal(
        json.dumps({"secrets": [made.secret]}).encode(), context=runner_facts.route_context(made.id)
    )
    await routes.upsert_route(
        runner,
        Route(
            hook_id=made.id, tenant_id=tenant, namespace=NAMESPACE, integration=connector,
            integration_uid=made.uid, connector=connector, projects=PROJECTS, config={},
            sealed_secret=sealed, secret_key=sealer.key,
        ),
    )  # fmt: skip
    return made
