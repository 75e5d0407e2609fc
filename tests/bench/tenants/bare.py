"""The bare loop: every write that a Tenant costs us, made by twenty workers that look at nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg

from controllers.tenant import objects
from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import LOGINS, standby_login
from pipewright.plan import Manifest
from pipewright.store import passwords, roles
from tests.bench.tenants.servers import TENANTS, Servers

CONCURRENCY = 20
CLEARING = 4
"""Workers that take away what the loop has made, when the time is stopped."""
EVENTS = 2
"""As many as the provisioner writes for a Tenant: one for each pass that did something."""


async def loop(servers: Servers, count: int, *, kubernetes_only: bool) -> tuple[float, list[tuple[str, str]]]:
    """Seconds for so many tenants, and what to `clear`: the provisioner would take them for its own."""
    todo, made = iter([f"r-{uuid.uuid4().hex[:10]}" for _ in range(count)]), list[tuple[str, str]]()

    async def work() -> None:
        admin = await psycopg.AsyncConnection.connect(servers.admin_dsn, autocommit=True)
        platform = await psycopg.AsyncConnection.connect(
            servers.admin_dsn, dbname="pipewright", autocommit=True
        )
        async with admin, platform:
            for name in todo:
                tenant_id = roles.new_id()
                made.append((name, tenant_id))
                await _tenant(servers, name, tenant_id, None if kubernetes_only else (admin, platform))

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    return time.perf_counter() - began, made


async def clear(servers: Servers, made: list[tuple[str, str]], *, kubernetes_only: bool) -> None:
    """Take Tenants and databases away, before the provisioner sees them."""
    todo = iter(made)

    async def work() -> None:
        for name, tenant_id in todo:
            await servers.forget(name)
            if not kubernetes_only:
                await servers.sql(f"DROP DATABASE {roles.database(tenant_id)}")

    await asyncio.gather(*(work() for _ in range(CLEARING)))


async def _tenant(
    servers: Servers,
    name: str,
    tenant_id: str,
    connections: tuple[psycopg.AsyncConnection, psycopg.AsyncConnection] | None,
) -> None:
    found = await servers.create(name)
    tenant = Tenant.parse(found)
    finalizers = {"metadata": {"finalizers": [names.FINALIZER]}}
    await servers.kubernetes("PATCH", f"{TENANTS}/{name}", finalizers, kind="merge-patch+json")
    await _status(servers, name, "False")
    await asyncio.gather(
        _in_kubernetes(servers, tenant, tenant_id),
        *(() if connections is None else (_in_postgres(servers, tenant, tenant_id, *connections),)),
        *(() if connections is None else (_in_vault(servers, tenant, tenant_id),)),
    )
    await _status(servers, name, "True")


# --- Kubernetes -------------------------------------------------------------------------------------------


async def _in_kubernetes(servers: Servers, tenant: Tenant, tenant_id: str) -> None:
    for manifest in manifests(tenant, tenant_id):
        path = f"{_path(manifest)}?fieldManager=bare&force=true"
        await servers.kubernetes("PATCH", path, manifest, kind="apply-patch+yaml")
    for number in range(EVENTS):
        await servers.kubernetes(
            "POST", "/apis/events.k8s.io/v1/namespaces/default/events", _event(tenant, number)
        )


def manifests(tenant: Tenant, tenant_id: str) -> Iterator[Manifest]:
    """The objects that the controller makes for it, the connection Secret included."""
    yield objects.namespace(tenant, tenant_id=tenant_id, name=tenant.name)
    for make in (objects.in_namespace, objects.network, objects.access):
        yield from make(tenant, tenant_id=tenant_id, namespace=tenant.name)
    value = base64.b64encode(b"x" * 43).decode()
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.CONNECTION_SECRET, "namespace": tenant.name},
        "data": dict.fromkeys(("host", "port", "dbname", "user", "password", "uri"), value),
    }


def _path(manifest: Manifest) -> str:
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind, metadata = str(manifest["kind"]).lower(), manifest["metadata"]
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    place = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"/{'apis/' + group if group else 'api'}/{version}{place}/{plural}/{metadata['name']}"


def _event(tenant: Tenant, number: int) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{tenant.name}.{number}", "namespace": "default"},
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()),
        "reportingController": "pipewright.dev/bare",
        "reportingInstance": "bare",
        "regarding": {"apiVersion": tenant.api_version, "kind": "Tenant", "name": tenant.name},
        "type": "Normal",
        "reason": "ApplyObject",
        "action": "ApplyObject",
        "note": "what a pass did " * 20,
    }


async def _status(servers: Servers, name: str, ready: str) -> None:
    condition = {
        "status": ready,
        "reason": "Bare",
        "message": "the bare loop's own",
        "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    kinds = ("Ready", "NamespacesReady", "AccessReady", "NetworkReady", "DatabaseReady", "SecretsReady")
    status = {"conditions": [{"type": kind, **condition} for kind in kinds]}
    path = f"{TENANTS}/{name}/status?fieldManager=bare&force=true"
    document = {"apiVersion": "pipewright.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}}
    await servers.kubernetes("PATCH", path, {**document, "status": status}, kind="apply-patch+yaml")


# --- PostgreSQL -------------------------------------------------------------------------------------------


async def _in_postgres(
    servers: Servers,
    tenant: Tenant,
    tenant_id: str,
    admin: psycopg.AsyncConnection,
    platform: psycopg.AsyncConnection,
) -> None:
    await _run(platform, *_registry(tenant, tenant_id))
    name = roles.database(tenant_id)
    await _run(
        admin,
        f"CREATE DATABASE {name} TEMPLATE {roles.TEMPLATE} STRATEGY WAL_LOG ALLOW_CONNECTIONS false",
    )
    await _run(admin, "BEGIN", *_roles(tenant, tenant_id), "COMMIT")
    await _run(admin, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await servers.sql(*_hand_over(tenant_id), database=name)
    await _run(admin, f"COMMENT ON DATABASE {name} IS '{_mark(tenant)}'")
    await _run(admin, "BEGIN", *_passwords(admin, tenant, tenant_id), "COMMIT")


async def _run(conn: psycopg.AsyncConnection, *statements: str) -> None:
    for statement in statements:
        await conn.execute(statement)


def _mark(tenant: Tenant) -> str:
    return f'{{"uid":"{tenant.uid}"}}'


def _registry(tenant: Tenant, tenant_id: str) -> Iterator[str]:
    audit = "INSERT INTO pipewright.audit (tenant_id, phase, action, detail) VALUES"
    uid = uuid.uuid4()
    yield "BEGIN"
    yield (
        "INSERT INTO pipewright.registry (id, uid, name, server, state)"
        f" VALUES ('{tenant_id}', '{uid}', '{tenant.name}', 'bare', 'Deleted')"
    )
    yield f"{audit} ('{tenant_id}', 'done', 'RegisterTenant', 'bare')"
    yield "COMMIT"
    yield "BEGIN"
    yield (
        "INSERT INTO pipewright.registry_namespaces (uid, tenant_id, name)"
        f" VALUES ('{uuid.uuid4()}', '{tenant_id}', '{tenant.name}')"
    )
    yield f"{audit} ('{tenant_id}', 'done', 'BindNamespace', 'bare')"
    yield "COMMIT"
    yield "BEGIN"
    yield (
        f"UPDATE pipewright.registry SET bundle = '\\x{os.urandom(400).hex()}', bundle_version = 1,"
        f" bundle_key = 'bare', updated_at = now() WHERE id = '{tenant_id}'"
    )
    yield f"{audit} ('{tenant_id}', 'done', 'SealGatewayBundle', 'bare')"
    yield "COMMIT"


def _roles(tenant: Tenant, tenant_id: str) -> Iterator[str]:
    name, owner = roles.database(tenant_id), roles.app_owner(tenant_id)
    for role in roles.all_roles(tenant_id):
        yield f"CREATE ROLE {role} NOLOGIN {'NOINHERIT' if 'app_' in role else 'INHERIT'}"
        yield f"COMMENT ON ROLE {role} IS '{_mark(tenant)}'"
    for purpose in ("app_a", "app_b"):
        login = roles.login(tenant_id, purpose)
        yield f"GRANT {owner} TO {login}"
        yield f"ALTER ROLE {login} SET role = {owner}"
        yield f"ALTER ROLE {login} SET search_path = app, history, extensions"
    for purpose, group in roles.MEMBERSHIP.items():
        yield f"GRANT {group} TO {roles.login(tenant_id, purpose)}"
    yield f"GRANT {roles.READER} TO {owner}"
    for purpose in ("readonly", "ingest", "runner"):
        yield f"ALTER ROLE {roles.login(tenant_id, purpose)} SET search_path = pg_catalog"
    yield f"REVOKE ALL ON DATABASE {name} FROM PUBLIC"
    yield f"REVOKE CREATE ON DATABASE {name} FROM {roles.OWNER}"
    for role in (*(roles.login(tenant_id, purpose) for purpose in LOGINS), roles.MIGRATOR):
        yield f"GRANT CONNECT ON DATABASE {name} TO {role}"
    for role in (owner, roles.login(tenant_id, "ingest")):
        yield f"GRANT TEMPORARY ON DATABASE {name} TO {role}"
    for purpose in ("app_a", "app_b", "readonly"):
        yield f"ALTER ROLE {roles.login(tenant_id, purpose)} CONNECTION LIMIT 20"


def _hand_over(tenant_id: str) -> Iterator[str]:
    owner, readonly = roles.app_owner(tenant_id), roles.login(tenant_id, "readonly")
    yield "BEGIN"
    yield f"GRANT {owner} TO CURRENT_USER"
    yield f"CREATE SCHEMA IF NOT EXISTS {roles.APP} AUTHORIZATION {owner}"
    yield f"GRANT USAGE ON SCHEMA {roles.APP} TO {readonly}"
    yield (
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {roles.APP}"
        f" GRANT SELECT ON TABLES TO {readonly}"
    )
    yield f"REVOKE {owner} FROM CURRENT_USER"
    yield "COMMIT"


def _passwords(conn: psycopg.AsyncConnection, tenant: Tenant, tenant_id: str) -> Iterator[str]:
    for purpose in LOGINS:
        if purpose == standby_login(1):
            continue
        role = roles.login(tenant_id, purpose)
        made = passwords.verifier(conn, user=role, password=hashlib.sha256(role.encode()).hexdigest())
        yield f"ALTER ROLE {role} LOGIN PASSWORD '{made}'"
        yield f"COMMENT ON ROLE {role} IS '{_mark(tenant)}'"


# --- Vault ------------------------------------------------------------------------------------------------


async def _in_vault(servers: Servers, tenant: Tenant, tenant_id: str) -> None:
    role, fields = names.vault_role(tenant_id), dict.fromkeys("abcdef", "x" * 43)
    platform, user = names.platform_path(tenant_id), names.user_path(tenant_id)
    policy = f'path "tenants/data/{tenant_id}/user/*" {{ capabilities = ["read"] }}'
    bound = {
        "bound_service_account_names": [names.TENANT_SERVICE_ACCOUNT],
        "bound_service_account_namespaces": [tenant.name],
        "token_policies": [role],
    }
    await servers.vault(f"tenants/metadata/{platform}", {"custom_metadata": {"tenant-uid": tenant.uid}})
    await servers.vault(f"tenants/data/{platform}", {"data": fields})
    await servers.vault(f"tenants/data/{user}", {"data": fields})
    await servers.vault(f"sys/policies/acl/{role}", {"policy": policy})
    await servers.vault(f"auth/kubernetes/role/{role}", bound)
    await servers.vault(f"transit/keys/{tenant_id}", {})
    await servers.vault(f"transit/datakey/plaintext/{tenant_id}", {})
