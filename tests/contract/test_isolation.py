"""The ports of a proof of isolation: one suite for memory and for the real servers, with holes planted.

A door must open for its own tenant first, answer "refused" only when the server refused for the right reason,
"open" when a hole was planted, and raise when nothing can be said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from dev import parts, throwaway
from dev.vault import Vault
from pipewright import errors, names
from pipewright.backends import kubernetes, vault
from pipewright.backends.memory_isolation import (
    MemoryClusterDoor,
    MemoryDatabaseDoor,
    MemoryProofs,
    MemorySecretDoor,
)
from pipewright.backends.memory_postgres import MemoryRegistry
from pipewright.backends.postgres import Pools, PostgresDoor, PostgresProofs, PostgresRegistry, Server
from pipewright.facts import Proof, Registration, Target
from pipewright.facts import Server as Offered
from pipewright.ports import ClusterDoor, DatabaseDoor, Proofs, Registry, Secret, SecretDoor
from pipewright.store import roles
from tests.contract.conftest import Place

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
older = pytest.mark.parametrize("postgres_server", ["own", throwaway.OLDER], indirect=True, scope="session")


# --- whose doors, and what is remembered ------------------------------------------------------------------


@pytest.fixture(params=["memory", "postgres"])
async def memory_of_proofs(
    request: pytest.FixtureRequest, platform_logins: Mapping[str, str], pools: Pools
) -> tuple[Registry, Proofs]:
    if request.param == "memory":
        registry = MemoryRegistry()
        return registry, MemoryProofs(registry.rows, registry.keep_proof)
    dsn = Secret(platform_logins["pipewright_provisioner"])
    return PostgresRegistry(pools, dsn=dsn), PostgresProofs(pools, dsn=dsn)


async def _register(registry: Registry, server: str, *, complete: bool = True) -> Registration:
    place = Offered(name=server, region="eu", database_class="standard")
    made = await registry.register(uid=str(uuid4()), name=f"n-{uuid4().hex[:8]}", servers=(place,))
    await registry.bind_namespace(made.id, name=made.name, uid=str(uuid4()), owner=made.uid)
    if complete:
        await registry.store_bundle(
            made.id, version=1, key="k", address="db:5432/pw", bundle=b"sealed", wrapped_data_key=made.id
        )
    return made


async def test_every_tenant_of_a_server_is_tried_by_the_one_before_it(
    memory_of_proofs: tuple[Registry, Proofs],
) -> None:
    registry, proofs = memory_of_proofs
    server = f"s-{uuid4().hex[:8]}"
    made = sorted([await _register(registry, server) for _ in range(3)], key=lambda row: row.id)
    unfinished = await _register(registry, server, complete=False)
    going = await _register(registry, server)
    await registry.mark(going.id, state="Deleting")
    targets = [await proofs.target(row.id) for row in made]
    assert [it.id for it in targets] == [made[1].id, made[2].id, made[0].id]
    assert {unfinished.id, going.id}.isdisjoint({it.id for it in targets})
    other = made[1]
    assert targets[0] == Target(
        id=other.id,
        server=server,
        database=roles.database(other.id),
        namespace=other.name,
        paths=(f"{other.id}/user/database", f"{other.id}/platform/database"),
    )


async def test_a_neighbour_on_another_server_is_better_than_none(
    memory_of_proofs: tuple[Registry, Proofs],
) -> None:
    registry, proofs = memory_of_proofs
    mine = await _register(registry, f"s-{uuid4().hex[:8]}")
    await _register(registry, f"s-{uuid4().hex[:8]}")
    target = await proofs.target(mine.id)
    assert target.id not in (None, mine.id)
    assert target.server != mine.server


async def test_alone_a_tenant_tries_the_platforms_doors() -> None:
    registry = MemoryRegistry()
    mine = await _register(registry, "main")
    target = await MemoryProofs(registry.rows, registry.keep_proof).target(mine.id)
    assert target == _platform(mine.id)


class _Borrowed(Pools):
    """One connection, whose transaction is taken back in the end."""

    def __init__(self, conn: psycopg.AsyncConnection) -> None:
        super().__init__()
        self._conn = conn

    @asynccontextmanager
    async def connection(self, key: str, dsn: str | Secret) -> AsyncIterator[psycopg.AsyncConnection]:
        """That one."""
        yield self._conn


async def test_alone_in_postgresql_it_is_the_same(
    platform_logins: Mapping[str, str], pools: Pools, postgres_server: parts.Database
) -> None:
    dsn = Secret(platform_logins["pipewright_provisioner"])
    mine = await _register(PostgresRegistry(pools, dsn=dsn), "main")
    async with await psycopg.AsyncConnection.connect(postgres_server.admin_dsn, dbname="pipewright") as admin:
        await admin.execute("UPDATE pipewright.registry SET state = 'Retained' WHERE id <> %s", [mine.id])
        target = await PostgresProofs(_Borrowed(admin), dsn=dsn).target(mine.id)
        await admin.rollback()
    assert target == _platform(mine.id)


def _platform(tenant_id: str) -> Target:
    return Target(
        id=None,
        server="main",
        database="pipewright",
        namespace="pipewright-system",
        paths=(f"{tenant_id}/platform/database",),
    )


async def test_the_last_proof_is_remembered_with_the_registration(
    memory_of_proofs: tuple[Registry, Proofs],
) -> None:
    registry, proofs = memory_of_proofs
    mine = await _register(registry, f"s-{uuid4().hex[:8]}")
    assert mine.proof is None
    for proof in (
        Proof(at=AT, target="b" * 12, opened=("the database",), unknown=("the Vault path (x)",), asked="now"),
        Proof(at=AT, target=None),
    ):
        await proofs.record(mine.id, proof)
        found = await registry.find(uid=mine.uid)
        assert found
        assert found.proof == proof


async def test_a_change_of_the_verdict_is_a_line_of_the_audit_trail(
    platform_logins: Mapping[str, str], pools: Pools, postgres_server: parts.Database
) -> None:
    dsn = Secret(platform_logins["pipewright_provisioner"])
    mine = await _register(PostgresRegistry(pools, dsn=dsn), f"s-{uuid4().hex[:8]}")
    proofs, held = PostgresProofs(pools, dsn=dsn), Proof(at=AT, target="b" * 12)
    for proof in (held, held, replace(held, opened=("the database",)), held):
        await proofs.record(mine.id, proof)
    async with await psycopg.AsyncConnection.connect(postgres_server.admin_dsn, dbname="pipewright") as admin:
        rows = await admin.execute(
            "SELECT detail FROM pipewright.audit WHERE tenant_id = %s AND action = 'ProveIsolation'"
            " ORDER BY id",
            [mine.id],
        )
        told = [row[0] async for row in rows]
    assert [line.split(" of ")[0] for line in told] == ["no door", "the database", "no door"]


# --- PostgreSQL -------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "postgres"])
def database_door(request: pytest.FixtureRequest) -> DatabaseDoor:
    if request.param == "memory":
        return MemoryDatabaseDoor()
    server: Server = request.getfixturevalue("tenant_server")
    return PostgresDoor({"main": server, "other": replace(server, name="other")})


def _database(tenant_id: str, server: str = "main") -> Target:
    return Target(id=tenant_id, server=server, database=roles.database(tenant_id), namespace="x", paths=())


async def _knock(door: DatabaseDoor, mine: Place, target: Target, password: str = "") -> bool:
    secret = Secret(password or "password-of-app_a")
    return await door.opens(mine.id, server="main", purpose="app_a", password=secret, target=target)


@older
async def test_a_neighbours_database_refuses_until_it_is_opened_to_the_public(
    database_door: DatabaseDoor, place: Place, fresh_place: Place, postgres_server: parts.Database
) -> None:
    target = _database(fresh_place.id)
    assert await _knock(database_door, place, target) is False
    if isinstance(database_door, MemoryDatabaseDoor):
        database_door.opened.add(target.database)
    await _admin(postgres_server, f"GRANT CONNECT ON DATABASE {target.database} TO PUBLIC")
    assert await _knock(database_door, place, target) is True
    if isinstance(database_door, MemoryDatabaseDoor):
        database_door.opened.clear()
    await _admin(postgres_server, f"REVOKE CONNECT ON DATABASE {target.database} FROM PUBLIC")
    assert await _knock(database_door, place, target) is False


@older
async def test_the_platforms_database_refuses_a_tenant(tenant_server: Server, place: Place) -> None:
    target = replace(_database(place.id), id=None, database="pipewright")
    assert await _knock(PostgresDoor({"main": tenant_server}), place, target) is False


@older
async def test_on_another_server_a_login_that_is_not_known_is_refused(
    tenant_server: Server, place: Place, older_postgres: parts.Database, empty_stack: Any
) -> None:
    mine = tenant_server.port
    ports = [empty_stack.parts.database().port, older_postgres.port]
    other = replace(tenant_server, name="other", port=next(port for port in ports if port != mine))
    door = PostgresDoor({"main": tenant_server, "other": other})
    assert await _knock(door, place, replace(_database(place.id, "other"), database="postgres")) is False


@older
async def test_of_what_does_not_answer_nothing_is_said(
    tenant_server: Server, place: Place, fresh_place: Place
) -> None:
    dead = replace(tenant_server, name="other", port=1)
    door = PostgresDoor({"main": tenant_server, "other": dead})
    target = _database(fresh_place.id)
    with pytest.raises(errors.BackendError, match="the tenant's own database is closed"):
        await _knock(door, place, target, password="wrong")
    with pytest.raises(errors.Unreachable):
        await _knock(door, place, replace(target, server="other"))
    with pytest.raises(errors.Unreachable, match="not in the operator's settings"):
        await _knock(door, place, replace(target, server="gone"))
    with pytest.raises(errors.BackendError):
        await _knock(door, place, replace(target, database="pw_missing"))
    with pytest.raises(errors.BackendError):
        await PostgresDoor({"main": dead}).opens(
            place.id, server="main", purpose="app_a", password=Secret("x"), target=target
        )


async def _admin(server: parts.Database, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(server.admin_dsn, autocommit=True) as admin:
        await admin.execute(statement)


# --- Kubernetes and Vault, as a ServiceAccount -------------------------------------------------------------


class Account:
    """A tenant's namespace with its account, and the binding that lets the provisioner speak for it."""

    def __init__(self, cluster: parts.Cluster) -> None:
        self.kubectl = cluster.kubectl
        self.name = f"door-{uuid4().hex[:8]}"
        account = {"name": names.TENANT_SERVICE_ACCOUNT, "namespace": self.name}
        self.kubectl.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        )
        self.bind(
            "pipewright-provisioner", "pipewright-tenant-connection", "provisioner", "pipewright-system"
        )

    def bind(self, name: str, role: str, account: str, home: str) -> None:
        """Bind a ClusterRole in this namespace."""
        rbac = "rbac.authorization.k8s.io"
        self.kubectl.apply(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": name, "namespace": self.name},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": home}],
            }
        )

    def unbind(self, name: str) -> None:
        """Take a binding away."""
        self.kubectl.run("delete", "rolebinding", name, "-n", self.name)


@pytest.fixture(scope="module")
def accounts(control_plane: parts.Cluster, vault_identities: Path) -> tuple[Account, Account]:
    return Account(control_plane), Account(control_plane)


@pytest.fixture(params=["memory", "kubernetes"])
async def cluster_door(request: pytest.FixtureRequest) -> AsyncIterator[ClusterDoor]:
    if request.param == "memory":
        yield MemoryClusterDoor()
        return
    identities: Path = request.getfixturevalue("vault_identities")
    client = await kubernetes.connect(identities / "provisioner" / "kubeconfig")
    yield kubernetes.KubernetesDoor(client)
    await client.close()


async def test_a_neighbours_secrets_are_refused_until_a_binding_opens_them(
    cluster_door: ClusterDoor, accounts: tuple[Account, Account]
) -> None:
    mine, other = accounts
    token = await cluster_door.token(mine.name)

    async def opens() -> bool:
        return await cluster_door.opens(token, own=mine.name, namespace=other.name)

    assert await opens() is False
    if isinstance(cluster_door, MemoryClusterDoor):
        cluster_door.opened.add(other.name)
    else:
        other.bind("hole", "pipewright-owner", names.TENANT_SERVICE_ACCOUNT, mine.name)
    await _until(opens, True)
    if isinstance(cluster_door, MemoryClusterDoor):
        cluster_door.opened.clear()
    else:
        other.unbind("hole")
    await _until(opens, False)


async def test_a_token_of_somebody_else_proves_nothing(
    cluster_door: ClusterDoor, accounts: tuple[Account, Account]
) -> None:
    mine, other = accounts
    theirs = await cluster_door.token(other.name)
    with pytest.raises(errors.BackendError, match="takes us for somebody else"):
        await cluster_door.opens(theirs, own=mine.name, namespace=other.name)
    if isinstance(cluster_door, MemoryClusterDoor):
        return
    for no_token in (Secret("nonsense"), await cluster_door.token(mine.name, audience="vault")):
        with pytest.raises(errors.BackendError, match="does not say whom"):
            await cluster_door.opens(no_token, own=mine.name, namespace=other.name)


async def test_the_provisioner_gets_tokens_of_that_account_in_bound_namespaces_only(
    accounts: tuple[Account, Account], vault_identities: Path
) -> None:
    mine = accounts[0]
    client = await kubernetes.connect(vault_identities / "provisioner" / "kubeconfig")
    door = kubernetes.KubernetesDoor(client)
    try:
        for namespace in ("default", "kube-system", "pipewright-system"):
            with pytest.raises(errors.Forbidden):
                await door.token(namespace)
        mine.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "other", "namespace": mine.name},
            }
        )
        allowed = mine.kubectl.attempt(
            *("auth", "can-i", "create", "serviceaccounts/other", "--subresource=token", "-n", mine.name),
            *("--as", "system:serviceaccount:pipewright-system:provisioner"),
        )
        assert allowed.stdout.strip() == "no"
    finally:
        await client.close()


@pytest.fixture(params=["memory", "vault"])
def secret_door(request: pytest.FixtureRequest) -> SecretDoor:
    if request.param == "memory":
        return MemorySecretDoor()
    server: Vault = request.getfixturevalue("vault_server")
    return vault.VaultDoor(address=server.address, mount="tenants")


async def test_a_neighbours_path_is_refused_until_a_policy_opens_it(
    secret_door: SecretDoor, accounts: tuple[Account, Account], vault_server: Vault, vault_identities: Path
) -> None:
    mine, other = roles.new_id(), roles.new_id()
    await _grant(mine, accounts[0].name, vault_server, vault_identities)
    target = Target(
        id=other,
        server="main",
        database="x",
        namespace="x",
        paths=(names.user_path(other), names.platform_path(other)),
    )
    token = Secret(accounts[0].kubectl.token("pipewright", namespace=accounts[0].name, audience="vault"))

    async def opens() -> bool:
        return await secret_door.opens(token, tenant_id=mine, target=target)

    assert await opens() is False
    kept = vault_server.call("GET", "sys/policies/acl/default")["data"]["policy"]
    wide = kept + f'\npath "tenants/data/{other}/*" {{ capabilities = ["read"] }}'
    if isinstance(secret_door, MemorySecretDoor):
        secret_door.opened.add(target.paths[1])
    vault_server.call("PUT", "sys/policies/acl/default", {"policy": wide})
    try:
        assert await opens() is True, "nothing lies there, but nobody would refuse it"
    finally:
        vault_server.call("PUT", "sys/policies/acl/default", {"policy": kept})
    if isinstance(secret_door, MemorySecretDoor):
        secret_door.opened.clear()
    assert await opens() is False


async def test_a_login_that_opens_nothing_of_its_own_proves_nothing(
    accounts: tuple[Account, Account], vault_server: Vault, vault_identities: Path
) -> None:
    mine, other = accounts
    door, tenant_id = vault.VaultDoor(address=vault_server.address, mount="tenants"), roles.new_id()
    target = Target(
        id="x", server="x", database="x", namespace="x", paths=(f"{roles.new_id()}/user/database",)
    )
    token = Secret(mine.kubectl.token("pipewright", namespace=mine.name, audience="vault"))
    theirs = Secret(other.kubectl.token("pipewright", namespace=other.name, audience="vault"))
    with pytest.raises(errors.BackendError, match="no such role"):
        await door.opens(token, tenant_id=tenant_id, target=target)
    await _grant(tenant_id, mine.name, vault_server, vault_identities)
    assert await door.opens(token, tenant_id=tenant_id, target=target) is False
    with pytest.raises(errors.BackendError):
        await door.opens(theirs, tenant_id=tenant_id, target=target)
    narrow = 'path "tenants/data/elsewhere" { capabilities = ["read"] }'
    vault_server.call("PUT", f"sys/policies/acl/{names.vault_role(tenant_id)}", {"policy": narrow})
    with pytest.raises(errors.BackendError, match="to its own tenant"):
        await door.opens(token, tenant_id=tenant_id, target=target)
    dead = vault.VaultDoor(address="http://127.0.0.1:9", mount="tenants")
    with pytest.raises(errors.Unreachable):
        await dead.opens(token, tenant_id=tenant_id, target=target)


async def _grant(tenant_id: str, namespace: str, server: Vault, identities: Path) -> None:
    session = vault.VaultSession(
        address=server.address,
        role="pipewright-provisioner",
        jwt_file=identities / "provisioner" / "vault.jwt",
    )
    await vault.VaultGrants(session, mount="tenants").grant(tenant_id, namespaces=[namespace])
    await vault.VaultSecretStore(session, mount="tenants").write(
        names.user_path(tenant_id), {"password": Secret("canary")}
    )


async def _until(fact: Any, wanted: bool) -> None:
    """RBAC takes effect when the API server's watch has brought it."""
    for _ in range(100):
        if await fact() is wanted:
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"after 10 s still not {wanted}")
