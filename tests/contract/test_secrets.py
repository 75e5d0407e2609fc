"""The secret ports: the same rules from the dictionary and from a real Vault, as the provisioner."""

from __future__ import annotations

import base64
import secrets as randomness
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dev.vault import Vault
from pipewright import errors, names
from pipewright.backends import memory, vault
from pipewright.ports import DataKeys, Secret, SecretGrants, SecretStore

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
        vault.VaultGrants(session, mount="tenants"),
        vault.VaultDataKeys(session, transit="transit"),
    )


@pytest.fixture(params=["memory", "real"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "memory":
        yield Backend(memory.MemorySecretStore(), memory.MemoryGrants(), memory.MemoryDataKeys())
        return
    yield real(request.getfixturevalue("vault_server"), request.getfixturevalue("vault_identities"))


@pytest.fixture
def tenant_id() -> str:
    return "".join(randomness.choice("abcdefghjkmnpqrstuvwxyz") for _ in range(12))


async def test_a_secret_is_created_once(backend: Backend, tenant_id: str) -> None:
    path = names.platform_path(tenant_id)
    assert await backend.store.version(path) is None
    assert await backend.store.read(path) is None
    assert await backend.store.create(path, {"password": Secret("first")}, owner=OWNER) is True
    assert await backend.store.create(path, {"password": Secret("second")}, owner=OWNER) is False
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


async def test_a_secret_deleted_by_hand_is_created_as_a_new_version(
    vault_server: Vault, vault_identities: Path, tenant_id: str
) -> None:
    store = real(vault_server, vault_identities).store
    path = names.platform_path(tenant_id)
    await store.create(path, {"password": Secret("first")}, owner=OWNER)
    vault_server.call("DELETE", f"tenants/data/{path}")
    assert await store.version(path) is None
    assert await store.create(path, {"password": Secret("second")}, owner=OWNER) is True
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
