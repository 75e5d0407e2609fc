"""A gateway on the real database, over real HTTP: tenants, hooks, a model, a cluster that only remembers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import psycopg
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import x25519

from connectors import catalogue
from connectors.manifest import Manifest as Connector
from dev import simulator
from gateway import app, heads
from gateway import parts as gateway_parts
from ml import artifact, contract, train, window
from pipewright import errors, names
from pipewright.backends.postgres import PostgresDatabases, PostgresLogins, Server
from pipewright.backends.sealing import HpkeSealer
from pipewright.plan import Manifest
from pipewright.ports import LOGINS, Secret, SystemClock
from pipewright.settings import Settings
from pipewright.store import connect, routes
from pipewright.store.records import ModelPointer, Route, Trigger
from pipewright.store.roles import new_id

UNTIL = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def token_of(name: str) -> str:
    """A token as `RememberingCluster` reads it; one of a real API server as it is."""
    return name if name.count(".") == 2 else f"e30.{name.encode().hex()}.c2ln"


class RememberingCluster:
    """What the gateway asks of a cluster; its servers can be switched off."""

    def __init__(self) -> None:
        self.up = True
        self.refuses: Exception | None = None
        self.created: dict[tuple[str, str], Manifest] = {}
        self.posts = 0
        self.hold: asyncio.Event | None = None

    async def create(self, manifest: Manifest) -> Manifest | None:
        self.posts += 1
        if self.hold is not None:
            await self.hold.wait()
        if not self.up:
            raise errors.Unreachable("the API server did not answer")
        if self.refuses is not None:
            raise self.refuses
        key = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        new = key not in self.created
        self.created.setdefault(key, manifest)
        return manifest if new else None

    async def review(self, manifest: Manifest) -> Manifest:
        """Tokens name a `name` or a `name:namespace`: the only one where they may do anything."""
        if not self.up:
            raise errors.Unreachable("the API server did not answer")
        spec = manifest["spec"]
        if manifest["kind"] == "TokenReview":
            name = bytes.fromhex(spec["token"].split(".")[1]).decode()
            known = not name.startswith("bad")
            user = {"username": name, "groups": ["people"]}
            return {
                "status": {
                    "authenticated": known,
                    "audiences": spec["audiences"],
                    **({"user": user} if known else {}),
                }
            }
        _, _, namespace = spec["user"].partition(":")
        return {"status": {"allowed": namespace in ("", spec["resourceAttributes"]["namespace"])}}


class Proxy:
    """A TCP way to a server that can be cut and joined again, on the same port."""

    def __init__(self, *targets: tuple[str, int]) -> None:
        """Of several targets each connection goes to the next one that answers, as a Service's does."""
        self._targets = deque(targets)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(len(self._targets)):
            self._targets.rotate()
            try:
                far_reader, far_writer = await asyncio.open_connection(*self._targets[0])
            except OSError:
                continue
            break
        else:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant with a database and one namespace."""

    id: str
    uid: str
    namespace: str
    logins: PostgresLogins = field(repr=False)
    data_key: bytes = field(repr=False)

    def dsn(self, purpose: str) -> str:
        return connect.tenant_dsn(
            self.logins.connection(self.id),
            user=self.logins.username(self.id, purpose),
            password=Secret(f"password-of-{purpose}"),
        ).reveal()

    @asynccontextmanager
    async def connect(self, purpose: str = "ingest") -> AsyncIterator[psycopg.AsyncConnection]:
        async with await psycopg.AsyncConnection.connect(self.dsn(purpose), autocommit=True) as connection:
            yield connection

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        async with self.connect() as connection:
            return await (await connection.execute(query, values)).fetchall()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """An Integration's webhook as its provider sees it."""

    id: str
    secret: str
    integration: str
    uid: str
    tenant: Tenant


@dataclass(slots=True, kw_only=True)
class World:
    """A running gateway and the hands of provisioner and runner."""

    url: str
    http: aiohttp.ClientSession
    parts: gateway_parts.Parts
    cluster: RememberingCluster
    sealer: HpkeSealer
    server: Server
    provisioner: psycopg.AsyncConnection
    runner: psycopg.AsyncConnection
    artifacts: Path

    # --- what provisioner and runner do -------------------------------------------------------------------

    async def tenant(
        self,
        *,
        state: str = "Active",
        sealed: bool = True,
        port: int | None = None,
        namespace: str | None = None,
    ) -> Tenant:
        logins = PostgresLogins(self.server)
        made = Tenant(
            id=new_id(), uid=str(uuid4()), namespace=namespace or f"ns-{secrets.token_hex(4)}",
            logins=logins, data_key=secrets.token_bytes(32),
        )  # fmt: skip
        await PostgresDatabases(self.server).create(made.id, uid=made.uid, connection_limit=50)
        passwords = {purpose: Secret(f"password-of-{purpose}") for purpose in LOGINS}
        await logins.set(made.id, passwords=passwords, version=1)
        where = logins.connection(made.id)
        bundle = {
            "host": where.host, "port": port or where.port, "dbname": where.database,
            "user": logins.username(made.id, "ingest"), "password": "password-of-ingest",
            "dataKey": base64.b64encode(made.data_key).decode(),
        }  # fmt: skip
        closed = self.sealer.seal(json.dumps(bundle).encode(), context=names.bundle_context(made.id))
        await self.provisioner.execute(
            "INSERT INTO pipewright.registry"
            " (id, uid, name, server, state, bundle, bundle_version, bundle_key)"
            " VALUES (%s, %s, %s, 'main', %s, %s, 1, %s)",
            [made.id, made.uid, made.namespace, state, closed if sealed else None, self.sealer.key],
        )
        await self.bind(made.id, made.namespace)
        await self.parts.directory.load()
        return made

    async def seal(self, tenant: Tenant, **changes: Any) -> None:
        """Seal the tenant's login anew, as a rotation does before PostgreSQL is told of it."""
        where = tenant.logins.connection(tenant.id)
        bundle = {
            "host": where.host, "port": where.port, "dbname": where.database,
            "user": tenant.logins.username(tenant.id, "ingest"),
            "dataKey": base64.b64encode(tenant.data_key).decode(), **changes,
        }  # fmt: skip
        sealed = self.sealer.seal(json.dumps(bundle).encode(), context=names.bundle_context(tenant.id))
        await self.provisioner.execute(
            "UPDATE pipewright.registry SET bundle = %s, bundle_version = bundle_version + 1 WHERE id = %s",
            [sealed, tenant.id],
        )
        await self.parts.directory.load()

    async def bind(self, tenant_id: str, namespace: str) -> None:
        await self.provisioner.execute(
            "INSERT INTO pipewright.registry_namespaces (uid, tenant_id, name) VALUES (%s, %s, %s)",
            [str(uuid4()), tenant_id, namespace],
        )

    async def hook(
        self,
        tenant: Tenant,
        *,
        name: str = "github",
        projects: Sequence[str] = ("acme/shop",),
        secrets_: Sequence[str] | None = None,
        enabled: bool = True,
        connector: str = "github",
        config: Mapping[str, Any] | None = None,
        allow_unsigned: bool = False,
    ) -> Hook:
        hook_id, chosen = routes.new_hook_id(), list(secrets_ or [secrets.token_hex(32)])
        uid = str(uuid4())
        closed = self.sealer.seal(
            json.dumps({"secrets": chosen}).encode(), context=f"pipewright/route/{hook_id}"
        )
        await routes.upsert_route(
            self.runner,
            Route(
                hook_id=hook_id, tenant_id=tenant.id, namespace=tenant.namespace, integration=name,
                integration_uid=uid, connector=connector, projects=tuple(projects), config=config or {},
                sealed_secret=closed, secret_key=self.sealer.key, enabled=enabled,
                allow_unsigned=allow_unsigned,
            ),
        )  # fmt: skip
        await self.parts.directory.load(["routes"])
        return Hook(id=hook_id, secret=chosen[0], integration=name, uid=uid, tenant=tenant)

    async def rotate(self, hook: Hook, chosen: Sequence[str]) -> None:
        """Seal other secrets for a webhook; each gateway hears of it by itself."""
        closed = self.sealer.seal(
            json.dumps({"secrets": list(chosen)}).encode(), context=f"pipewright/route/{hook.id}"
        )
        await self.runner.execute(
            "UPDATE pipewright.routes SET sealed_secret = %s WHERE hook_id = %s", [closed, hook.id]
        )

    async def trigger(
        self,
        tenant: Tenant,
        *,
        workflow: str = "heal",
        event: str = "pipelinerun.finished",
        condition: str = "",
        integration: str | None = None,
    ) -> str:
        uid = str(uuid4())
        trigger = Trigger(
            workflow_uid=uid, position=0, tenant_id=tenant.id, namespace=tenant.namespace, workflow=workflow,
            revision=f"{workflow}-0123456789", event=event, integration=integration, condition=condition,
        )  # fmt: skip
        async with self.runner.transaction():
            await routes.replace_triggers(self.runner, workflow_uid=uid, triggers=[trigger])
        await self.parts.directory.load(["triggers"])
        return uid

    async def promote(
        self,
        tenant: Tenant,
        content: bytes,
        *,
        name: str = "run-failure",
        control_share: float = 0.0,
        task: str = "RunFailure",
    ) -> ModelPointer:
        digest = artifact.digest(content)
        file = self.artifacts / tenant.id / digest
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        pointer = ModelPointer(
            model_uid=str(uuid4()), tenant_id=tenant.id, namespace=tenant.namespace, model=name,
            task=task, is_default=True, version=digest[:12], artifact_uri=file.as_uri(),
            artifact_sha256=digest, promoted_at=datetime.now(UTC), control_share=control_share,
        )  # fmt: skip
        assert await routes.promote(self.runner, pointer, expected=None)
        await self.parts.directory.load(["model_pointers"])
        await self.parts.models.settle()
        return pointer

    # --- what providers and people do ---------------------------------------------------------------------

    async def deliver(
        self,
        hook: Hook,
        event: str,
        payload: Any,
        *,
        id: str | None = None,  # noqa: A002 - the field's name
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """A delivery as GitHub signs it; `headers` replace, and those that are empty are left out."""
        raw = json.dumps(payload).encode() if body is None else body
        signature = hmac.new(hook.secret.encode(), raw, hashlib.sha256).hexdigest()
        sent = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": id or str(uuid4()),
            "X-Hub-Signature-256": f"sha256={signature}",
            **(headers or {}),
        }
        return await self.ask(
            "POST",
            f"/hooks/{hook.id}",
            data=raw,
            headers={key: value for key, value in sent.items() if value},
        )

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        async with self.http.request(method, f"{self.url}{path}", **options) as response:
            text = await response.text()
            json_like = "json" in response.headers.get("Content-Type", "")
            return Answer(
                status=response.status,
                body=json.loads(text) if json_like else text,
                headers=dict(response.headers),
            )

    async def rest(self, method: str, path: str, *, token: str = "ada", **options: Any) -> Answer:
        return await self.ask(method, path, headers={"Authorization": f"Bearer {token_of(token)}"}, **options)


Serve = Callable[..., Any]


@pytest.fixture(scope="session")
def gateway_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    private = x25519.X25519PrivateKey.generate()
    (folder / "gateway.key").write_text(base64.b64encode(private.private_bytes_raw()).decode())
    public = private.public_key().public_bytes_raw()
    (folder / "gateway.pub").write_text(base64.b64encode(public).decode())
    (folder / "artifacts").mkdir()
    return folder


@pytest.fixture(scope="session")
def serve(gateway_folder: Path, platform_logins: Mapping[str, str], tenant_server: Server) -> Serve:
    """Starts a gateway: `async with serve() as world`."""

    @asynccontextmanager
    async def start(
        *,
        limits: gateway_parts.Limits | None = None,
        platform_dsn: str | None = None,
        load: bool = True,
        cluster: Any = None,
        gateway: Mapping[str, Any] | None = None,
        connectors: Mapping[str, Connector] | None = None,
        allow: Sequence[str] = (),
    ) -> AsyncIterator[World]:
        dsn_file = gateway_folder / f"{secrets.token_hex(4)}.dsn"
        dsn_file.write_text(platform_dsn or platform_logins["pipewright_gateway"])
        settings = Settings.model_validate(
            {
                "component": "gateway",
                "identity": "gateway-0",
                "listen": {"port": 0},
                "platformDatabase": {"dsnFile": str(dsn_file)},
                "servers": [{"name": "main", "host": tenant_server.host, "port": tenant_server.port}],
                "gateway": {
                    "privateKeyFile": str(gateway_folder / "gateway.key"),
                    "baseUrl": "http://localhost",
                    **(gateway or {}),
                },
                "artifacts": {"url": (gateway_folder / "artifacts").as_uri()},
                "outbound": {"allow": list(allow)},
            }
        )
        cluster = cluster or RememberingCluster()
        parts = gateway_parts.build(
            settings,
            cluster=cluster,
            catalogue=connectors or catalogue.load(),
            clock=SystemClock(),
            limits=limits,
        )
        async with (
            running(parts) as url,
            aiohttp.ClientSession() as http,
            await psycopg.AsyncConnection.connect(
                platform_logins["pipewright_provisioner"], autocommit=True
            ) as provisioner,
            await psycopg.AsyncConnection.connect(
                platform_logins["pipewright_runner"], autocommit=True
            ) as runner,
        ):
            if load:
                await parts.directory.load()
            yield World(
                url=url, http=http, parts=parts, cluster=cluster,
                sealer=HpkeSealer((gateway_folder / "gateway.pub").read_text()), server=tenant_server,
                provisioner=provisioner, runner=runner, artifacts=gateway_folder / "artifacts",
            )  # fmt: skip

    return start


@asynccontextmanager
async def running(parts: gateway_parts.Parts) -> AsyncIterator[str]:
    """The application behind uvicorn, on a free port."""
    config = uvicorn.Config(
        app.create(parts),
        port=0,
        http=heads.PromptHeads,
        log_config=None,
        access_log=False,
        timeout_keep_alive=30,  # as the process has it: longer than a client of aiohttp keeps a connection
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())  # without its signal handlers: they are pytest's
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture(scope="session")
async def world(serve: Serve) -> AsyncIterator[World]:
    """A gateway that tests share; each makes tenants or hooks of its own."""
    async with serve() as made:
        yield made


@pytest.fixture
async def tenant(world: World) -> Tenant:
    return await world.tenant()


@pytest.fixture
async def hook(world: World, tenant: Tenant) -> Hook:
    return await world.hook(tenant)


@pytest.fixture
def state(world: World) -> Callable[..., Awaitable[None]]:
    """Sets a tenant's state, as the provisioner does; the gateway hears of it by itself."""

    async def mark(tenant: Tenant, word: str, *, where: World = world) -> None:
        await where.provisioner.execute(
            "UPDATE pipewright.registry SET state = %s WHERE id = %s", [word, tenant.id]
        )
        async with asyncio.timeout(10):
            while where.parts.directory.view.tenants[tenant.id].state != word:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    return mark


Kept = Callable[[Tenant], Awaitable[list[str]]]


@pytest.fixture
def kept(world: World) -> Kept:
    """The ids of what is in the spool for a tenant."""

    async def read(tenant: Tenant) -> list[str]:
        async with world.parts.hooks.spool.transaction() as conn:
            found = await conn.execute(
                "SELECT delivery_id FROM pipewright.spool WHERE tenant_id = %s ORDER BY id", [tenant.id]
            )
            return [name for (name,) in await found.fetchall()]

    return read


async def gone(kept: Kept, tenant: Tenant, but: Sequence[str] = ()) -> bool:
    """Whether the spool has no more: a delivery leaves it after it is stored, and is in both for a moment."""
    return await kept(tenant) == list(but)


@pytest.fixture
async def eventually() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]:
    """Waits for a fact."""

    async def wait(fact: Callable[[], Awaitable[Any]], *, within: float = 60.0) -> Any:
        async with asyncio.timeout(within):
            while not (found := await fact()):  # noqa: ASYNC110 - the fact is in another process
                await asyncio.sleep(0.02)
            return found

    return wait


@pytest.fixture(scope="session")
def model_file(trained: train.Trained) -> bytes:
    """Its file."""
    return trained.content


def simulated_rows() -> list[dict[str, Any]]:
    """A data window of a simulated history."""
    return [
        {
            "integration": "github", "project": run["project"], "pipeline": run["pipeline"],
            "run_id": run["id"], "attempt": run["attempt"], "number": run["number"], "event": run["trigger"],
            "branch": run["branch"], "actor": run["actor"], "sha": run["sha"], "outcome": run["outcome"],
            "queued_at": datetime.fromisoformat(run["queuedAt"]),
            "started_at": datetime.fromisoformat(run["startedAt"]),
            "finished_at": datetime.fromisoformat(run["finishedAt"]), "failed_jobs": [], "jobs": 0,
        }
        for run in simulator.history(until=UNTIL, seed=7, runs=1500)
        if run["type"] == "run"
    ]  # fmt: skip


@pytest.fixture(scope="session")
def trained() -> train.Trained:
    """A small model that was really trained, on a simulated history."""
    content = window.write(simulated_rows())
    job = contract.TrainingJob(
        submission_id="t",
        window_uri="file:///nowhere/window.parquet",
        window_sha256=artifact.digest(content),
        artifact_uri="file:///nowhere/model",
        report_uri="file:///nowhere/report.json",
        hyperparameters={"num_trees": 30, "ensemble": 1},
    )
    return train.train(content, job)


@pytest.fixture
async def proxied(tenant_server: Server) -> AsyncIterator[Proxy]:
    """A way to PostgreSQL that a test can cut."""
    proxy = Proxy((tenant_server.host, tenant_server.port))
    await proxy.up()
    yield proxy
    await proxy.down()


@pytest.fixture
def github() -> Callable[..., dict[str, Any]]:
    """A workflow_run payload: `github('completed', run=7, conclusion='failure')`."""

    def payload(
        action: str,
        *,
        run: int = 7,
        attempt: int = 1,
        conclusion: str | None = None,
        project: str = "acme/shop",
        branch: str = "main",
        minute: int = 0,
        actor: str = "octocat",
    ) -> dict[str, Any]:
        start = f"2026-03-01T12:{minute:02d}:00Z"
        end = f"2026-03-01T12:{minute + 5:02d}:00Z"
        return {
            "action": action,
            "workflow_run": {
                "id": run, "name": "CI", "path": ".github/workflows/ci.yml", "head_branch": branch,
                "head_sha": "a" * 40, "run_number": 3, "event": "push", "run_attempt": attempt,
                "conclusion": conclusion, "created_at": start, "run_started_at": start,
                "updated_at": end if action == "completed" else start,
                "html_url": f"https://github.com/{project}/actions/runs/{run}",
                "triggering_actor": {"login": actor},
            },
            "repository": {"full_name": project},
            "sender": {"login": actor},
        }  # fmt: skip

    return payload
