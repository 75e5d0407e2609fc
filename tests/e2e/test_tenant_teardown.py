"""A Tenant's end and return on real servers: protected, dumped, restored, and never stuck without a word."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dev import places, postgres
from dev.stack import Stack

POLICY = places.ROOT / "charts/pipewright/files/admission/10-tenant-deletion.yaml"


def connect(secret: dict[str, str], **other: str) -> psycopg.Connection[Any]:
    """A connection with a tenant's own credentials."""
    fields = {key: secret[key] for key in ("host", "port", "dbname", "user", "password")} | other
    return psycopg.connect(**fields, connect_timeout=5, autocommit=True)  # type: ignore[arg-type]


def patch(tenants: Any, name: str, text: str) -> None:
    tenants.kubectl.run("patch", "tenant", name, "--type=merge", "-p", text)


def condition(tenants: Any, name: str, kind: str) -> dict[str, Any] | None:
    found = (tenants.get(name) or {}).get("status", {}).get("conditions", [])
    return next((it for it in found if it["type"] == kind), None)


def stalled(tenants: Any, name: str) -> dict[str, Any] | None:
    found = condition(tenants, name, "Stalled")
    return found if found and found["status"] == "True" else None


def blocker(tenants: Any, name: str, part: str) -> dict[str, Any] | None:
    plan = (tenants.get(name) or {}).get("status", {}).get("deletionPlan", {})
    return next((it for it in plan.get("blockers", []) if it["part"] == part), None)


def gone(tenants: Any, name: str, eventually: Any) -> None:
    eventually(lambda: tenants.get(name) is None, within=60, says=f"{name} is gone: {tenants.get(name)}")


# --- protection -----------------------------------------------------------------------------------------


def test_a_protected_tenant_is_not_deleted_by_anybody(tenants: Any, eventually: Any) -> None:
    name = tenants.ready(deletionProtection=True)["metadata"]["name"]
    tenants.kubectl.run("label", "tenant", name, f"only={name}")
    for how in (("tenant", name), ("tenants", "-l", f"only={name}")):
        refused = tenants.kubectl.attempt("delete", *how, "--wait=false")
        assert refused.returncode != 0
        assert "protected from deletion: set spec.deletionProtection to false first" in refused.stderr
    raw = f"/apis/pipewright.dev/v1alpha1/tenants?labelSelector=only%3D{name}"
    assert tenants.kubectl.attempt("delete", "--raw", raw).returncode != 0
    assert "deletionTimestamp" not in tenants.get(name)["metadata"]
    patch(tenants, name, '{"spec":{"deletionProtection":false}}')
    tenants.delete(name)
    gone(tenants, name, eventually)


@pytest.fixture
def no_admission(tenants: Any) -> Iterator[None]:
    """A cluster that does not have our admission policy."""
    tenants.kubectl.run("delete", "-f", str(POLICY))
    yield
    tenants.kubectl.run("apply", "-f", str(POLICY))


def test_without_the_admission_policy_the_controller_protects(
    tenants: Any, eventually: Any, no_admission: None
) -> None:
    name = tenants.ready(deletionProtection=True, deletionPolicy="Delete")["metadata"]["name"]

    def accepted() -> bool:
        tenants.kubectl.attempt("delete", "tenant", name, "--wait=false")
        return "deletionTimestamp" in tenants.get(name)["metadata"]

    eventually(accepted, says="the API server forgot the policy")
    told = eventually(lambda: stalled(tenants, name), says="the Tenant is Stalled")
    assert told["reason"] == "DeletionProtected"
    assert "deletionProtection" in told["message"]
    assert tenants.get(name)["status"]["deletionPlan"]["stage"] == "Refused"
    with connect(tenants.secret(name)) as own:
        assert own.execute("SELECT 1").fetchone() == (1,)
    patch(tenants, name, '{"spec":{"deletionProtection":false}}')
    gone(tenants, name, eventually)


# --- the final dump -------------------------------------------------------------------------------------


def test_a_database_that_is_dropped_leaves_a_dump(tenants: Any, stack: Stack, eventually: Any) -> None:
    tenant = tenants.ready(deletionPolicy="Delete")
    name, tenant_id, uid = tenant["metadata"]["name"], tenant["status"]["id"], tenant["metadata"]["uid"]
    with connect(tenants.secret(name)) as own:
        own.execute("CREATE TABLE app.kept AS SELECT 42 AS answer")
    tenants.delete(name)
    gone(tenants, name, eventually)
    file = stack.folder / "artifacts" / tenant_id / "dumps" / f"{uid}.dump"
    command = [postgres.program("pg_restore"), "--list", file]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "TABLE DATA app kept" in listed
    with psycopg.connect(stack.parts.database().admin_dsn, dbname="pipewright") as platform:
        row = platform.execute(
            "SELECT state, dump FROM pipewright.registry WHERE id = %s", [tenant_id]
        ).fetchone()
        assert row is not None
    content = file.read_bytes()
    assert row[0] == "Deleted"
    assert row[1]["sha256"] == hashlib.sha256(content).hexdigest()
    assert (row[1]["path"], row[1]["bytes"]) == (f"{tenant_id}/dumps/{uid}.dump", len(content))


def test_what_cannot_be_dumped_is_not_dropped(tenants: Any, stack: Stack, eventually: Any) -> None:
    tenant = tenants.ready(deletionPolicy="Delete")
    name, database = tenant["metadata"]["name"], tenant["status"]["database"]["name"]
    with connect(tenants.secret(name)) as own:
        own.execute("SELECT lo_from_bytea(0, 'a large object')")
    tenants.delete(name)
    told = eventually(
        lambda: blocker(tenants, name, "database"), within=60, says="it says what is in the way"
    )
    assert "large objects" in told["message"]
    plan = tenants.get(name)["status"]["deletionPlan"]
    assert plan["stage"] == "FinalDump"
    assert plan["database"] == {"name": database, "fate": "Goes", "size": "Under100Mi"}
    assert tenants.kubectl.get("namespace", name) is not None
    patch(tenants, name, '{"spec":{"finalDump":"Skip"}}')
    gone(tenants, name, eventually)


# --- restoreFrom ----------------------------------------------------------------------------------------


def test_a_retained_tenant_comes_back_with_its_data_and_new_passwords(
    tenants: Any, stack: Stack, eventually: Any
) -> None:
    first = tenants.ready()
    name, tenant_id, old = first["metadata"]["name"], first["status"]["id"], first["status"]
    secret = tenants.secret(name)
    with connect(secret) as own:
        own.execute("CREATE TABLE app.kept AS SELECT 42 AS answer")
    tenants.delete(name)
    gone(tenants, name, eventually)
    tenants.apply(name, restoreFrom=tenant_id)
    back = tenants.wait_ready(name)
    assert back["metadata"]["uid"] != first["metadata"]["uid"]
    assert back["status"]["id"] == tenant_id
    assert back["status"]["namespaces"] == old["namespaces"], "the very same namespace"
    assert back["status"]["database"]["credentialVersion"] == old["database"]["credentialVersion"] + 1
    now = tenants.secret(name)
    with connect(now) as own:
        assert own.execute("SELECT answer FROM app.kept").fetchone() == (42,)
        own.execute("INSERT INTO app.kept VALUES (43)")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(secret)
    vault = stack.parts.vault()
    token = vault.login(
        back["status"]["vault"]["role"], tenants.kubectl.token("pipewright", namespace=name, audience="vault")
    )
    found = vault.call("GET", f"tenants/data/{tenant_id}/user/database", token=token)
    assert found["data"]["data"]["password"] == now["password"]
    marked = vault.call("GET", f"tenants/metadata/{tenant_id}/platform/database")
    assert marked["data"]["custom_metadata"]["tenant-uid"] == back["metadata"]["uid"]
    labels = tenants.kubectl.get("namespace", name)["metadata"]["labels"]
    assert labels["pipewright.dev/tenant-uid"] == back["metadata"]["uid"]


def test_it_says_why_it_cannot_be_restored(tenants: Any, eventually: Any) -> None:
    unknown = tenants.apply(restoreFrom="aaaaaaaaaaaa")
    told = eventually(lambda: stalled(tenants, unknown), says="it is Stalled")
    assert (told["reason"], "aaaaaaaaaaaa" in told["message"]) == ("RestoreUnknownId", True)
    tenants.delete(unknown)
    gone(tenants, unknown, eventually)
    living = tenants.ready()
    heir = tenants.apply(restoreFrom=living["status"]["id"])
    told = eventually(lambda: stalled(tenants, heir), says="it is Stalled")
    assert told["reason"] == "RestoreStillOwned"
    with connect(tenants.secret(living["metadata"]["name"])) as own:
        assert own.execute("SELECT 1").fetchone() == (1,)
    tenants.delete(living["metadata"]["name"])
    gone(tenants, living["metadata"]["name"], eventually)
    assert tenants.wait_ready(heir)["status"]["id"] == living["status"]["id"]


def test_a_tenant_whose_cluster_was_restored_under_another_uid(
    tenants: Any, stack: Stack, eventually: Any
) -> None:
    first = tenants.ready()
    name = first["metadata"]["name"]
    with connect(tenants.secret(name)) as own:
        own.execute("CREATE TABLE app.kept AS SELECT 42 AS answer")
    stack.stop("provisioner")
    try:
        tenants.delete(name)
        patch(tenants, name, '{"metadata":{"finalizers":null}}')
        eventually(
            lambda: tenants.get(name) is None, says="the object is gone, and nobody took anything away"
        )
        tenants.apply(name, restoreFrom=first["status"]["id"])
    finally:
        stack.start("provisioner")
    back = tenants.wait_ready(name)
    assert back["status"]["namespaces"] == first["status"]["namespaces"]
    with connect(tenants.secret(name)) as own:
        assert own.execute("SELECT answer FROM app.kept").fetchone() == (42,)


def test_a_restore_that_was_killed_half_way_ends_the_same(
    tenants: Any, stack: Stack, eventually: Any
) -> None:
    first = tenants.ready()
    name, tenant_id = first["metadata"]["name"], first["status"]["id"]
    tenants.delete(name)
    gone(tenants, name, eventually)
    uid = ""
    tenants.apply(name, restoreFrom=tenant_id)
    uid = tenants.get(name)["metadata"]["uid"]

    def bound() -> bool:
        with psycopg.connect(stack.parts.database().admin_dsn, dbname="pipewright") as platform:
            row = platform.execute(
                "SELECT uid FROM pipewright.registry WHERE id = %s", [tenant_id]
            ).fetchone()
        return row == (uid,)

    eventually(bound, says="the registry has the new owner")
    stack.kill("provisioner")
    stack.start("provisioner")
    assert tenants.wait_ready(name)["status"]["id"] == tenant_id
    with connect(tenants.secret(name)) as own:
        assert own.execute("SELECT 1").fetchone() == (1,)


# --- never stuck ----------------------------------------------------------------------------------------


@pytest.fixture
def sealed_vault(stack: Stack) -> Iterator[Any]:
    """Seals Vault when it is called, and unseals it when called again, at the latest after the test."""
    vault = stack.parts.vault()
    key = re.findall(r"Unseal Key: (\S+)", Path(stack.log("vault")).read_text())[-1]

    def seal(*, shut: bool) -> None:
        if shut:
            vault.call("PUT", "sys/seal")
        else:
            vault.call("PUT", "sys/unseal", {"key": key}, token="")

    yield seal
    if vault.call("GET", "sys/seal-status")["sealed"]:
        seal(shut=False)


def test_a_sealed_vault_is_waited_for(tenants: Any, sealed_vault: Any, eventually: Any) -> None:
    name = tenants.ready(deletionPolicy="Delete", finalDump="Skip")["metadata"]["name"]
    sealed_vault(shut=True)
    tenants.delete(name)
    told = eventually(lambda: blocker(tenants, name, "secrets"), within=60, says="it waits for Vault")
    assert told["reason"] == "Unreachable"
    assert "pipewright.dev/abandon=secrets" in told["message"]
    assert tenants.kubectl.get("namespace", name) is None
    sealed_vault(shut=False)
    gone(tenants, name, eventually)


def test_a_vault_that_is_gone_for_good_can_be_left_behind(
    tenants: Any, stack: Stack, sealed_vault: Any, eventually: Any
) -> None:
    tenant = tenants.ready(deletionPolicy="Delete", finalDump="Skip")
    name, tenant_id = tenant["metadata"]["name"], tenant["status"]["id"]
    sealed_vault(shut=True)
    tenants.delete(name)
    eventually(lambda: blocker(tenants, name, "secrets"), within=60, says="it waits for Vault")
    tenants.kubectl.run("annotate", "tenant", name, "pipewright.dev/abandon=secrets")
    gone(tenants, name, eventually)
    with psycopg.connect(stack.parts.database().admin_dsn, dbname="pipewright") as platform:
        query = "SELECT detail FROM pipewright.audit WHERE tenant_id = %s ORDER BY id DESC LIMIT 1"
        assert platform.execute(query, [tenant_id]).fetchone() == ("Deleted, abandoned: secrets",)


def test_a_tenant_that_a_sealed_vault_kept_from_being_made_is_deletable(
    tenants: Any, sealed_vault: Any, eventually: Any
) -> None:
    sealed_vault(shut=True)
    name = tenants.apply(deletionPolicy="Delete")
    eventually(
        lambda: (condition(tenants, name, "SecretsReady") or {}).get("reason") == "Unreachable",
        says="it waits for Vault",
    )
    tenants.delete(name)
    eventually(lambda: blocker(tenants, name, "secrets"), within=60, says="it says that it waits for Vault")
    sealed_vault(shut=False)
    gone(tenants, name, eventually)


def test_a_stopped_postgresql_is_waited_for(tenants: Any, stack: Stack, eventually: Any) -> None:
    name = tenants.ready(deletionPolicy="Delete", finalDump="Skip")["metadata"]["name"]
    stack.stop("postgres")
    try:
        tenants.delete(name)
        told = eventually(
            lambda: (it := condition(tenants, name, "Ready")) and it["reason"] == "Unreachable" and it,
            says="it says that PostgreSQL does not answer",
        )
        assert "PostgreSQL" in told["message"]
        assert tenants.kubectl.get("namespace", name) is not None
    finally:
        stack.start("postgres")
    gone(tenants, name, eventually)


def test_a_namespace_that_does_not_end_is_named_with_what_holds_it(tenants: Any, eventually: Any) -> None:
    name = tenants.ready(deletionPolicy="Delete", finalDump="Skip")["metadata"]["name"]
    held = {"name": "held", "namespace": name, "finalizers": ["example.com/hold"]}
    tenants.kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": held})
    tenants.kubectl.run("delete", "namespace", name, "--wait=false")
    tenants.delete(name)

    def named() -> bool:
        told = blocker(tenants, name, "namespaces")
        return (
            told is not None
            and f"Namespace {name}" in told["message"]
            and "example.com/hold" in told["message"]
        )

    eventually(named, within=60, says="it names the namespace and its finalizer")
    tenants.kubectl.run(
        "patch", "configmap", "held", "-n", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
    )
    gone(tenants, name, eventually)
