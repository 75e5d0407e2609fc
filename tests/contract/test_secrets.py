"""The secret ports: the same rules from the dictionary and from a real Vault, as the provisioner."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets as randomness
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dev import parts, places
from dev.stack import Stack
from dev.vault import Vault
from pipewright import errors, names, runner_facts
from pipewright.backends import kubernetes, kubernetes_secrets, memory, vault
from pipewright.facts import DynamicTerms
from pipewright.plan import Ref
from pipewright.ports import Cluster, DataKeys, Secret, SecretGrants, SecretStore

OWNER, STRANGER = "owner-uid", "stranger-uid"


@dataclass(frozen=True)
class Backend:
    store: SecretStore
    grants: SecretGrants
    keys: DataKeys


def real(server: Vault, identities: Path, *, role: str = "provisioner") -> Backend:
    session = vault.VaultSession(
        address=server.address, role=f"pipewright-{role}", jwt_file=identities / role / "vault.jwt"
    )
    return Backend(
        vault.VaultSecretStore(session, mount="tenants"),
        vault.VaultGrants(session, mount="tenants", database="database"),
        vault.VaultDataKeys(session, transit="transit"),
    )


def without_vault(cluster: Cluster) -> Backend:
    own, shared = names.SECRETS_NAMESPACE, names.RUNNER_SECRETS_NAMESPACE
    return Backend(
        kubernetes_secrets.KubernetesSecretStore(cluster, namespace=own, shared_with=shared),
        kubernetes_secrets.NoGrants(),
        kubernetes_secrets.KubernetesDataKeys(cluster, namespace=own),
    )


@asynccontextmanager
async def cluster_of(component: str, plane: parts.Cluster, identities: Path) -> AsyncIterator[Cluster]:
    """The API server as this component, with what an installation without Vault has."""
    plane.kubectl.apply_files([places.ROOT / "charts/pipewright/files/without-vault/10-secrets.yaml"])
    client = await kubernetes.connect(identities / component / "kubeconfig")
    yield kubernetes.KubernetesCluster(client)
    await client.close()


@pytest.fixture
async def provisioner(control_plane: parts.Cluster, vault_identities: Path) -> AsyncIterator[Cluster]:
    async with cluster_of("provisioner", control_plane, vault_identities) as cluster:
        yield cluster


@pytest.fixture
async def runner(control_plane: parts.Cluster, vault_identities: Path) -> AsyncIterator[Cluster]:
    async with cluster_of("runner", control_plane, vault_identities) as cluster:
        yield cluster


@pytest.fixture(params=["memory", "real", "kubernetes"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "memory":
        yield Backend(memory.MemorySecretStore(), memory.MemoryGrants(), memory.MemoryDataKeys())
        return
    if request.param == "kubernetes":
        yield without_vault(request.getfixturevalue("provisioner"))
        return
    yield real(request.getfixturevalue("vault_server"), request.getfixturevalue("vault_identities"))


@pytest.fixture
def tenant_id() -> str:
    return "".join(randomness.choice("abcdefghjkmnpqrstuvwxyz") for _ in range(12))


async def test_a_secret_is_created_once(backend: Backend, tenant_id: str) -> None:
    path = names.platform_path(tenant_id)
    assert await backend.store.version(path) is None
    assert await backend.store.read(path) is None
    assert await backend.store.create(path, {"password": Secret("first")}, owner=OWNER) == 1
    assert await backend.store.create(path, {"password": Secret("second")}, owner=OWNER) is None
    assert await backend.store.version(path) == 1
    assert await backend.store.read(path) == {"password": Secret("first")}


async def test_a_new_version_replaces_the_expected_one_and_no_other(backend: Backend, tenant_id: str) -> None:
    path = names.platform_path(tenant_id)
    assert await backend.store.issued(path) is None
    await backend.store.create(path, {"password": Secret("first")}, owner=OWNER)
    first = await backend.store.issued(path)
    assert await backend.store.replace(path, {"password": Secret("second")}, expected=1) is True
    assert await backend.store.replace(path, {"password": Secret("third")}, expected=1) is False
    second = await backend.store.issued(path)
    assert first
    assert second
    assert (first.version, second.version) == (1, 2)
    assert timedelta() <= second.at - first.at < timedelta(minutes=1)
    assert abs(datetime.now(UTC) - second.at) < timedelta(minutes=1)
    assert await backend.store.read(path) == {"password": Secret("second")}
    assert await backend.store.read(path, version=1) == {"password": Secret("first")}
    assert await backend.store.read(path, version=3) is None


async def test_purging_takes_everything_of_one_tenant(backend: Backend, tenant_id: str) -> None:
    other = tenant_id[::-1]
    await backend.store.create(names.platform_path(tenant_id), {"a": Secret("1")}, owner=OWNER)
    await backend.store.write(names.user_path(tenant_id), {"a": Secret("1")})
    await backend.store.create(names.platform_path(other), {"a": Secret("1")}, owner=STRANGER)
    await backend.store.purge(tenant_id, owner=OWNER)
    assert await backend.store.version(names.platform_path(tenant_id)) is None
    assert await backend.store.version(names.user_path(tenant_id)) is None
    assert await backend.store.version(names.platform_path(other)) == 1
    await backend.store.purge(tenant_id, owner=OWNER)


async def test_what_another_owner_marked_is_not_purged(backend: Backend, tenant_id: str) -> None:
    await backend.store.create(names.platform_path(tenant_id), {"a": Secret("1")}, owner=OWNER)
    with pytest.raises(errors.OwnedByOther, match=OWNER):
        await backend.store.purge(tenant_id, owner=STRANGER)
    assert await backend.store.version(names.platform_path(tenant_id)) == 1


async def test_access_is_granted_as_wanted_and_revoked(backend: Backend, tenant_id: str) -> None:
    if not backend.grants.available:
        await backend.grants.grant(tenant_id, namespaces=["a"])
        assert backend.grants.wanted(tenant_id, namespaces=["a"]) is None
        assert await backend.grants.find(tenant_id) is None
        return
    assert await backend.grants.find(tenant_id) is None
    await backend.grants.grant(tenant_id, namespaces=["b", "a"])
    wanted = backend.grants.wanted(tenant_id, namespaces=["a", "b"])
    assert await backend.grants.find(tenant_id) == wanted
    await backend.grants.revoke(tenant_id)
    assert await backend.grants.find(tenant_id) is None
    await backend.grants.revoke(tenant_id)


async def test_half_a_way_in_is_seen_where_there_should_be_none(backend: Backend, tenant_id: str) -> None:
    assert await backend.grants.find(tenant_id, partly=True) is None
    await backend.grants.grant(tenant_id, namespaces=["a"])
    wanted = backend.grants.wanted(tenant_id, namespaces=["a"])
    assert await backend.grants.find(tenant_id, partly=True) == wanted
    await backend.grants.revoke(tenant_id)
    assert await backend.grants.find(tenant_id, partly=True) is None


TERMS = DynamicTerms(server="far-away", ttl=timedelta(minutes=5), logins=3, connection_limit=7)


async def test_short_lived_logins_are_granted_on_terms_and_withdrawn(
    backend: Backend, tenant_id: str, request: pytest.FixtureRequest
) -> None:
    grants = backend.grants
    if not grants.available:
        assert not grants.dynamic
        await grants.grant(tenant_id, namespaces=["a"], dynamic=TERMS)
        assert grants.wanted(tenant_id, namespaces=["a"], dynamic=TERMS) is None
        with pytest.raises(errors.BackendError, match="without Vault"):
            await grants.grant_database_role(tenant_id, TERMS)
        await grants.withdraw_database_role(tenant_id)
        return
    if isinstance(grants, vault.VaultGrants):
        server: Vault = request.getfixturevalue("vault_server")
        server.connect(TERMS.server, host="postgres.invalid", port=5432, user="nobody", password="x")
    assert grants.dynamic
    await grants.grant(tenant_id, namespaces=["a"], dynamic=TERMS)
    await grants.grant_database_role(tenant_id, TERMS)
    wanted = grants.wanted(tenant_id, namespaces=["a"], dynamic=TERMS)
    assert wanted
    assert wanted.database_role
    assert wanted.database_role.path == f"database/creds/{names.vault_role(tenant_id)}"
    assert await grants.find(tenant_id) == wanted
    longer = replace(TERMS, ttl=timedelta(hours=2), logins=4)
    await grants.grant_database_role(tenant_id, longer)
    assert await grants.find(tenant_id) != grants.wanted(tenant_id, namespaces=["a"], dynamic=longer)
    await grants.grant(tenant_id, namespaces=["a"], dynamic=longer)
    assert await grants.find(tenant_id) == grants.wanted(tenant_id, namespaces=["a"], dynamic=longer)
    for _ in range(2):
        await grants.withdraw_database_role(tenant_id)
    found = await grants.find(tenant_id)
    assert found
    assert found.database_role is None
    await grants.grant(tenant_id, namespaces=["a"])
    assert await grants.find(tenant_id) == grants.wanted(tenant_id, namespaces=["a"])
    await grants.grant(tenant_id, namespaces=["a"], dynamic=TERMS)
    await grants.grant_database_role(tenant_id, TERMS)
    await grants.revoke(tenant_id)
    assert await grants.find(tenant_id, partly=True) is None


async def test_a_server_that_vault_has_no_connection_to_is_waited_for(
    vault_server: Vault, vault_identities: Path, tenant_id: str
) -> None:
    backend = real(vault_server, vault_identities)
    terms = replace(TERMS, server="not-connected")
    await backend.grants.grant(tenant_id, namespaces=["a"], dynamic=terms)
    with pytest.raises(errors.Waiting, match="database/config/not-connected"):
        await backend.grants.grant_database_role(tenant_id, terms)
    found = await backend.grants.find(tenant_id)
    assert found
    assert found.namespaces == ("a",)
    assert found.database_role is None
    await backend.grants.revoke(tenant_id)


@pytest.mark.parametrize("left", ["policy", "role"])
async def test_a_revocation_that_a_crash_cut_short_is_seen(
    vault_server: Vault, vault_identities: Path, tenant_id: str, left: str
) -> None:
    backend, name = real(vault_server, vault_identities), names.vault_role(tenant_id)
    await backend.grants.grant(tenant_id, namespaces=["a"])
    gone = f"sys/policies/acl/{name}" if left == "role" else f"auth/kubernetes/role/{name}"
    vault_server.call("DELETE", gone)
    assert await backend.grants.find(tenant_id) is None
    found = await backend.grants.find(tenant_id, partly=True)
    assert found is not None
    assert (bool(found.policy), bool(found.namespaces)) == (left == "policy", left == "role")
    await backend.grants.revoke(tenant_id)
    assert await backend.grants.find(tenant_id, partly=True) is None


async def test_a_data_key_opens_until_it_is_destroyed(backend: Backend, tenant_id: str) -> None:
    wrapped, key = await backend.keys.create(tenant_id)
    assert len(base64.b64decode(key.reveal())) == 32
    assert key.reveal() not in wrapped
    assert await backend.keys.open(tenant_id, wrapped) == key
    await backend.keys.destroy(tenant_id)
    with pytest.raises(errors.Stalled, match=tenant_id):
        await backend.keys.open(tenant_id, wrapped)
    await backend.keys.destroy(tenant_id)


async def test_a_wrapping_key_is_rotated_once_and_the_data_key_stays(
    backend: Backend, tenant_id: str
) -> None:
    assert await backend.keys.newest(tenant_id) is None
    wrapped, key = await backend.keys.create(tenant_id)
    assert wrapped.startswith(f"{backend.keys.scheme}:v1:")
    first = await backend.keys.newest(tenant_id)
    assert first
    assert first.version == 1
    assert abs(datetime.now(UTC) - first.at) < timedelta(minutes=1)
    for _ in range(2):  # the second finds another version than it expects
        await backend.keys.rotate(tenant_id, expected=1)
    second = await backend.keys.newest(tenant_id)
    assert second
    assert second.version == 2
    assert second.at >= first.at
    assert await backend.keys.open(tenant_id, wrapped) == key
    newer = await backend.keys.rewrap(tenant_id, wrapped)
    assert newer.startswith(f"{backend.keys.scheme}:v2:")
    assert await backend.keys.open(tenant_id, newer) == key
    assert await backend.keys.open(tenant_id, wrapped) == key
    await backend.keys.destroy(tenant_id)
    assert await backend.keys.newest(tenant_id) is None
    with pytest.raises(errors.Stalled, match=tenant_id):
        await backend.keys.rewrap(tenant_id, newer)


async def test_a_secret_deleted_by_hand_is_created_as_a_new_version(
    vault_server: Vault, vault_identities: Path, tenant_id: str
) -> None:
    store = real(vault_server, vault_identities).store
    path = names.platform_path(tenant_id)
    await store.create(path, {"password": Secret("first")}, owner=OWNER)
    vault_server.call("DELETE", f"tenants/data/{path}")
    assert await store.version(path) is None
    assert await store.create(path, {"password": Secret("second")}, owner=OWNER) == 2
    assert await store.version(path) == 2


async def test_the_provisioner_writes_a_tenants_connection_and_cannot_read_it(
    vault_server: Vault, vault_identities: Path, tenant_id: str
) -> None:
    store = real(vault_server, vault_identities).store
    await store.write(names.user_path(tenant_id), {"uri": Secret("x")})
    with pytest.raises(errors.Forbidden, match="pipewright-provisioner"):
        await store.read(names.user_path(tenant_id))


async def test_the_runner_reads_platform_secrets_and_cannot_write_them(
    vault_server: Vault, vault_identities: Path, tenant_id: str
) -> None:
    await real(vault_server, vault_identities).store.create(
        names.platform_path(tenant_id), {"runner": Secret("x")}, owner=OWNER
    )
    runner = real(vault_server, vault_identities, role="runner")
    assert await runner.store.read(names.platform_path(tenant_id)) == {"runner": Secret("x")}
    with pytest.raises(errors.Forbidden):
        await runner.store.write(names.platform_path(tenant_id), {"runner": Secret("y")})
    with pytest.raises(errors.Forbidden):
        await runner.grants.grant(tenant_id, namespaces=["a"])
    with pytest.raises(errors.Forbidden):
        await runner.store.read(names.user_path(tenant_id))


async def test_a_revoked_token_is_replaced(
    vault_server: Vault, vault_identities: Path, tenant_id: str
) -> None:
    session = vault.VaultSession(
        address=vault_server.address,
        role="pipewright-provisioner",
        jwt_file=vault_identities / "provisioner" / "vault.jwt",
    )
    store = vault.VaultSecretStore(session, mount="tenants")
    await store.create(names.platform_path(tenant_id), {"a": Secret("1")}, owner=OWNER)
    token = await session.call("know the token", lambda client: client.token)
    vault_server.call("POST", "auth/token/revoke", {"token": token})
    assert await store.version(names.platform_path(tenant_id)) == 1


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


class Trail:
    """What Vault's own audit log says was asked of a path, since this was made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._from = len(path.read_text().splitlines())

    def count(self, asked: str) -> int:
        lines = self._path.read_text().splitlines()[self._from :]
        found = [json.loads(line) for line in lines]
        return sum(it["type"] == "response" and it["request"].get("path") == asked for it in found)


@pytest.fixture
def trail(empty_stack: Stack, vault_server: Vault) -> Trail:
    path = empty_stack.folder / "logs" / "vault-audit.jsonl"
    if not path.exists():
        pytest.skip("this Vault is somebody else's: its audit log is not ours to read")
    return Trail(path)


async def test_however_many_begin_at_once_there_is_one_login_and_the_next_before_its_token_ends(
    vault_server: Vault, vault_identities: Path, trail: Trail, tenant_id: str
) -> None:
    clock = Clock()
    session = vault.VaultSession(
        address=vault_server.address,
        role="pipewright-provisioner",
        jwt_file=vault_identities / "provisioner" / "vault.jwt",
        clock=clock,
    )
    store = vault.VaultSecretStore(session, mount="tenants")

    async def many() -> None:
        await asyncio.gather(*(store.version(f"{tenant_id}/platform/{n}") for n in range(40)))

    await many()
    assert trail.count("auth/kubernetes/login") == 1
    first = await session.call("know the token", lambda client: client.token)
    clock.at = 20 * 60 - 61
    await many()
    assert trail.count("auth/kubernetes/login") == 1
    clock.at = 20 * 60 - 59
    await many()
    assert trail.count("auth/kubernetes/login") == 2
    assert await session.call("know the token", lambda client: client.token) != first
    # the one before is still good: nobody was refused meanwhile
    vault_server.call("GET", "auth/token/lookup-self", token=first)


async def test_a_right_that_is_missing_costs_no_login(
    vault_server: Vault, vault_identities: Path, trail: Trail, tenant_id: str
) -> None:
    store = real(vault_server, vault_identities).store
    for _ in range(5):
        with pytest.raises(errors.Forbidden):
            await store.read(names.user_path(tenant_id))
    assert trail.count("auth/kubernetes/login") == 1


async def test_a_login_that_fails_fails_once_for_all_who_wait(
    vault_server: Vault, vault_identities: Path, trail: Trail, tenant_id: str
) -> None:
    session = vault.VaultSession(
        address=vault_server.address,
        role="pipewright-nobody",
        jwt_file=vault_identities / "provisioner" / "vault.jwt",
    )
    store = vault.VaultSecretStore(session, mount="tenants")
    tries = [store.version(f"{tenant_id}/platform/{n}") for n in range(20)]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert {type(it) for it in found} == {errors.Forbidden}
    assert trail.count("auth/kubernetes/login") == 1


async def test_a_token_of_a_file_is_shared_renewed_and_read_again_when_it_is_refused(
    vault_server: Vault, trail: Trail, tenant_id: str, tmp_path: Path
) -> None:
    def issue(**more: object) -> str:
        wish = {"policies": ["pipewright-provisioner"], "ttl": "10m", **more}
        return str(vault_server.call("POST", "auth/token/create", wish)["auth"]["client_token"])

    clock, file = Clock(), tmp_path / "token"
    file.write_text(first := issue())
    session = vault.VaultSession(address=vault_server.address, token_file=file, clock=clock)
    store = vault.VaultSecretStore(session, mount="tenants")
    path = names.platform_path(tenant_id)
    await asyncio.gather(*(store.version(f"{tenant_id}/platform/{n}") for n in range(40)))
    assert trail.count("auth/token/renew-self") == 1
    clock.at = 10 * 60 - 61
    await store.version(path)
    assert trail.count("auth/token/renew-self") == 1
    clock.at = 10 * 60 - 59
    await store.version(path)
    assert trail.count("auth/token/renew-self") == 2
    assert trail.count("auth/kubernetes/login") == 0
    vault_server.call("POST", "auth/token/revoke", {"token": first})
    with pytest.raises(errors.Forbidden) as refused:
        await store.version(path)
    assert first not in str(refused.value)
    file.write_text(issue(renewable=False))
    assert await store.version(path) is None
    assert trail.count("auth/token/renew-self") == 2


async def test_a_vault_that_is_down_is_unreachable_and_no_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "jwt").write_text("hunter2")
    session = vault.VaultSession(
        address="http://127.0.0.1:9", role="pipewright-provisioner", jwt_file=tmp_path / "jwt"
    )
    with pytest.raises(errors.Unreachable) as refused:
        await vault.VaultSecretStore(session, mount="tenants").version("x/platform/database")
    assert "hunter2" not in str(refused.value)


async def test_a_version_is_replaced_only_while_it_is_current(backend: Backend, tenant_id: str) -> None:
    path = names.platform_path(tenant_id)
    await backend.store.create(path, {"a": Secret("1")}, owner=OWNER)
    assert await backend.store.replace(path, {"a": Secret("2")}, expected=1) is True
    assert await backend.store.replace(path, {"a": Secret("3")}, expected=1) is False
    assert await backend.store.read(path) == {"a": Secret("2")}


async def test_secrets_pass_to_an_heir_and_nobody_else(backend: Backend, tenant_id: str) -> None:
    path = names.platform_path(tenant_id)
    await backend.store.create(path, {"a": Secret("1")}, owner=OWNER)
    await backend.store.write(names.user_path(tenant_id), {"a": Secret("1")})
    with pytest.raises(errors.OwnedByOther, match=path):
        await backend.store.hand_over(tenant_id, owner="heir-uid", previous=(STRANGER,))
    for _ in range(2):
        await backend.store.hand_over(tenant_id, owner="heir-uid", previous=(STRANGER, OWNER))
    assert await backend.store.version(path) == 1
    with pytest.raises(errors.OwnedByOther):
        await backend.store.purge(tenant_id, owner=OWNER)
    await backend.store.purge(tenant_id, owner="heir-uid")
    assert await backend.store.version(path) is None
    await backend.store.hand_over(tenant_id, owner="nobody", previous=())


# -- without Vault -------------------------------------------------------------------------------------------


def runners(cluster: Cluster) -> SecretStore:
    return kubernetes_secrets.KubernetesSecretStore(cluster, namespace=names.RUNNER_SECRETS_NAMESPACE)


async def test_without_vault_the_runner_reads_its_own_password_and_no_other(
    provisioner: Cluster, runner: Cluster, tenant_id: str
) -> None:
    path, store = names.platform_path(tenant_id), without_vault(provisioner).store
    await store.create(path, {"runner": Secret("r1"), "ingest": Secret("i1")}, owner=OWNER)
    assert await store.replace(path, {"runner": Secret("r2"), "ingest": Secret("i2")}, expected=1)
    own = runners(runner)
    assert await own.version(path) == 2
    assert await own.read(path) == {"runner": Secret("r2")}
    assert await own.read(path, version=1) == {"runner": Secret("r1")}
    assert await store.read(path, version=1) == {"runner": Secret("r1"), "ingest": Secret("i1")}
    forbidden = Ref(
        api_version="v1",
        kind="Secret",
        namespace=names.SECRETS_NAMESPACE,
        name=path.replace("/", "."),
    )
    with pytest.raises(errors.Forbidden):
        await runner.get(forbidden)
    with pytest.raises(errors.Forbidden):
        await runner.list(api_version="v1", kind="Secret", namespace=names.RUNNER_SECRETS_NAMESPACE)
    await store.purge(tenant_id, owner=OWNER)
    assert await own.version(path) is None


async def test_without_vault_the_runner_keeps_webhook_secrets_and_a_purge_takes_them(
    provisioner: Cluster, runner: Cluster, tenant_id: str
) -> None:
    path, own = runner_facts.webhook_path(tenant_id, "0a1b2c3d-0000"), runners(runner)
    assert await own.create(path, {"hook": Secret("h")}, owner=OWNER) == 1
    assert await own.create(path, {"hook": Secret("again")}, owner=OWNER) is None
    assert await own.read(path) == {"hook": Secret("h")}
    await own.delete(path)
    assert await own.read(path) is None
    await own.create(path, {"hook": Secret("h")}, owner=OWNER)
    store = without_vault(provisioner).store
    with pytest.raises(errors.OwnedByOther, match=OWNER):
        await store.purge(tenant_id, owner=STRANGER)
    await store.hand_over(tenant_id, owner="heir-uid", previous=(OWNER,))
    await store.purge(tenant_id, owner="heir-uid")
    assert await own.read(path) is None


async def test_without_vault_two_that_write_the_next_version_do_not_both(
    provisioner: Cluster, tenant_id: str
) -> None:
    path, store = names.platform_path(tenant_id), without_vault(provisioner).store
    await store.create(path, {"runner": Secret("0")}, owner=OWNER)
    tries = [store.replace(path, {"runner": Secret(str(n))}, expected=1) for n in range(4)]
    done = await asyncio.gather(*tries)
    assert sorted(done) == [False, False, False, True]
    assert await store.read(path) == {"runner": Secret(str(done.index(True)))}
    await store.purge(tenant_id, owner=OWNER)


async def test_without_vault_a_wrapping_key_is_made_once(provisioner: Cluster, tenant_id: str) -> None:
    keys = without_vault(provisioner).keys
    made = await asyncio.gather(*(keys.create(tenant_id) for _ in range(4)))
    for wrapped, key in made:
        assert await keys.open(tenant_id, wrapped) == key
    with pytest.raises(errors.Stalled, match=r"\.transit"):
        await keys.open(tenant_id, "vault:v1:AAAA")
    await keys.destroy(tenant_id)
