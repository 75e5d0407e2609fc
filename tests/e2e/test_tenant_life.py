"""A Tenant's life on real servers: made, isolated, repaired, kept or taken away, whatever dies meanwhile."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from dev.problem import Problem
from dev.stack import Stack

PROVISIONER = "system:serviceaccount:pipewright-system:provisioner"


def connect(secret: dict[str, str], **other: str) -> psycopg.Connection[Any]:
    """A connection with a tenant's own credentials."""
    fields = {key: secret[key] for key in ("host", "port", "dbname", "user", "password")} | other
    return psycopg.connect(**fields, connect_timeout=5, autocommit=True)  # type: ignore[arg-type]


def test_a_tenant_becomes_ready_and_its_own_credentials_work(tenants: Any, stack: Stack) -> None:
    tenant = tenants.ready(quota={"pods": 3}, database={"connectionLimit": 7})
    name, status = tenant["metadata"]["name"], tenant["status"]
    secret = tenants.secret(name)
    assert secret["dbname"] == f"pw_{status['id']}"
    with connect(secret) as own:
        own.execute("CREATE TABLE app.notes (id int)")
        owner = own.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'notes'").fetchone()
        assert owner == (f"pw_{status['id']}_app",)
        limit = own.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user")
        assert limit.fetchone() == (7,)
        assert own.execute("SELECT count(*) FROM history.runs").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute("SELECT * FROM pipewright.runs")


def test_the_tenants_service_account_reads_its_vault_path(tenants: Any, stack: Stack) -> None:
    tenant = tenants.ready()
    name, vault = tenant["metadata"]["name"], tenant["status"]["vault"]
    server = stack.parts.vault()
    token = server.login(vault["role"], tenants.kubectl.token("pipewright", namespace=name, audience="vault"))
    found = server.call("GET", f"tenants/data/{vault['path']}/database", token=token)
    assert found["data"]["data"]["password"] == tenants.secret(name)["password"]


def test_two_tenants_cannot_reach_each_other(tenants: Any, stack: Stack) -> None:
    one, other = tenants.apply(), tenants.apply()
    mine, theirs = tenants.wait_ready(one), tenants.wait_ready(other)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        connect(tenants.secret(one), dbname=tenants.secret(other)["dbname"])
    server = stack.parts.vault()
    role = mine["status"]["vault"]["role"]
    token = server.login(role, tenants.kubectl.token("pipewright", namespace=one, audience="vault"))
    for path in (
        theirs["status"]["vault"]["path"] + "/database",
        mine["status"]["id"] + "/platform/database",
    ):
        with pytest.raises(Problem, match="403"):
            server.call("GET", f"tenants/data/{path}", token=token)
    with pytest.raises(Problem, match=r"40[03]"):
        server.login(role, tenants.kubectl.token("pipewright", namespace=other, audience="vault"))


def test_the_spec_can_change(tenants: Any, eventually: Any) -> None:
    name = tenants.ready(quota={"pods": 3})["metadata"]["name"]
    tenants.apply(name, quota={"services": 2}, access={"viewers": [{"kind": "User", "name": "bob"}]})
    tenants.wait_ready(name)
    quota = tenants.kubectl.get("resourcequota", "pipewright", "-n", name)
    assert quota["spec"]["hard"] == {"services": "2"}
    can = tenants.kubectl.attempt("auth", "can-i", "list", "pods", "-n", name, "--as", "bob")
    assert can.stdout.strip() == "yes"
    tenants.apply(name)
    tenants.wait_ready(name)
    eventually(
        lambda: tenants.kubectl.get("rolebinding", "pipewright-viewers", "-n", name) is None,
        says="the viewers' binding is gone",
    )
    assert tenants.kubectl.get("resourcequota", "pipewright", "-n", name) is None


def test_a_namespace_deleted_by_hand_comes_back(tenants: Any, eventually: Any) -> None:
    tenant = tenants.ready()
    name, before = tenant["metadata"]["name"], tenant["status"]["namespaces"][0]["uid"]
    tenants.kubectl.run("delete", "namespace", name)

    def again() -> bool:
        status = (tenants.get(name) or {}).get("status", {})
        return [it["uid"] for it in status["namespaces"]] not in ([], [before])

    eventually(again, within=60, says="the namespace is there again")
    tenants.wait_ready(name)
    with connect(tenants.secret(name)) as own:
        assert own.execute("SELECT 1").fetchone() == (1,)


def test_a_namespace_of_somebody_else_is_left_alone(tenants: Any, eventually: Any) -> None:
    tenants.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "somebodys"}})
    name = tenants.apply(namespaces=[{"name": "somebodys"}])

    def stalled() -> Any:
        conditions = ((tenants.get(name) or {}).get("status") or {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Stalled" and c["status"] == "True"), None)

    told = eventually(stalled, says="the Tenant is Stalled")
    assert told["reason"] == "NamespaceOwnedByOther"
    assert "somebodys" in told["message"]
    found = tenants.kubectl.get("namespace", "somebodys")
    assert not [label for label in found["metadata"]["labels"] if "pipewright" in label]
    tenants.kubectl.run("patch", "tenant", name, "--type=merge", "-p", '{"spec":{"deletionPolicy":"Delete"}}')
    tenants.delete(name)
    eventually(lambda: tenants.get(name) is None, says="the Tenant is gone")
    assert tenants.kubectl.get("namespace", "somebodys") is not None
    tenants.kubectl.run("delete", "namespace", "somebodys", "--wait=false")


def test_a_rotation_that_is_asked_for_overlaps_and_ends_with_the_old_login_refused(
    tenants: Any, stack: Stack, eventually: Any
) -> None:
    spec = {"database": {"rotation": {"overlap": "720h"}}}
    first = tenants.ready(**spec)
    name, old = first["metadata"]["name"], tenants.secret(first["metadata"]["name"])
    assert (first["status"]["database"]["activeLogin"], old["user"][-6:]) == ("app_a", "_app_a")
    with connect(old) as own:
        own.execute("CREATE TABLE app.kept (id int)")
    asked = (datetime.now(UTC) + timedelta(seconds=1)).isoformat(timespec="seconds")
    tenants.kubectl.run("annotate", "tenant", name, f"pipewright.dev/rotate-requested-at={asked}")

    def status() -> Any:
        return (tenants.get(name) or {})["status"]["database"]

    eventually(lambda: status()["credentialVersion"] == 2, says="new passwords are made")
    eventually(lambda: tenants.secret(name)["user"] != old["user"], says="the Secret has the new login")
    new = tenants.secret(name)
    with connect(old) as before, connect(new) as after:
        before.execute("ALTER TABLE app.kept ADD COLUMN still_at_work int")
        after.execute("ALTER TABLE app.kept ADD COLUMN taken_over int")
        assert "oldCredentialRefusedAt" not in status()
        tenants.apply(name, database={"rotation": {"overlap": "0s"}})
        eventually(lambda: status().get("oldCredentialRefusedAt"), says="the old password was tried")
        with pytest.raises(psycopg.OperationalError):
            before.execute("SELECT 1")
        assert after.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        connect(old)
    tenants.wait_ready(name)
    assert (status()["activeLogin"], status()["credentialVersion"]) == ("app_b", 2)


def test_a_placement_nobody_has_is_said_and_one_that_was_taken_stays(tenants: Any, eventually: Any) -> None:
    name = tenants.apply(placement={"region": "mars"})

    def stalled() -> Any:
        conditions = ((tenants.get(name) or {}).get("status") or {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Stalled" and c["status"] == "True"), None)

    told = eventually(stalled, says="the Tenant is Stalled")
    assert told["reason"] == "UnknownRegion"
    assert "there is local" in told["message"]
    tenants.apply(name, placement={"region": "local", "class": "standard"})
    assert tenants.wait_ready(name)["status"]["database"]["server"] == "main"
    for other in ({"region": "mars"}, {"class": None}, None):
        patch = json.dumps({"spec": {"placement": other}})
        refused = tenants.kubectl.attempt("patch", "tenant", name, "--type=merge", "-p", patch)
        assert "spec.placement cannot change once the tenant has its place" in refused.stderr


def test_delete_takes_everything_away(tenants: Any, stack: Stack, eventually: Any) -> None:
    tenant = tenants.ready(deletionPolicy="Delete")
    name, tenant_id = tenant["metadata"]["name"], tenant["status"]["id"]
    tenants.delete(name)
    eventually(lambda: tenants.get(name) is None, within=60, says="the Tenant is gone")
    assert tenants.kubectl.get("namespace", name) is None
    with psycopg.connect(stack.parts.database().admin_dsn) as admin:
        left = admin.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %(id)s"
            " UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE %(id)s",
            {"id": f"pw_{tenant_id}%"},
        ).fetchall()
    assert left == []
    server = stack.parts.vault()
    for path in (
        f"tenants/metadata/{tenant_id}/platform/database",
        f"tenants/metadata/{tenant_id}/user/database",
        f"sys/policies/acl/pipewright-tenant-{tenant_id}",
        f"auth/kubernetes/role/pipewright-tenant-{tenant_id}",
        f"transit/keys/{tenant_id}",
    ):
        with pytest.raises(Problem, match="404"):
            server.call("GET", path)


def test_retain_keeps_the_data_and_lets_nobody_in(tenants: Any, stack: Stack, eventually: Any) -> None:
    tenant = tenants.ready(access={"owners": [{"kind": "User", "name": "ada"}]})
    name, status = tenant["metadata"]["name"], tenant["status"]
    secret = tenants.secret(name)
    with connect(secret) as own:
        own.execute("CREATE TABLE app.kept AS SELECT 42 AS answer")
    tenants.delete(name)
    eventually(lambda: tenants.get(name) is None, within=60, says="the Tenant is gone")
    assert tenants.kubectl.get("namespace", name) is not None
    can = tenants.kubectl.attempt("auth", "can-i", "list", "pods", "-n", name, "--as", "ada")
    assert can.stdout.strip() == "no"
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        connect(secret)
    with psycopg.connect(stack.parts.database().admin_dsn, dbname=secret["dbname"]) as admin:
        assert admin.execute("SELECT answer FROM app.kept").fetchone() == (42,)
    with pytest.raises(Problem, match="404"):
        stack.parts.vault().call("GET", f"auth/kubernetes/role/{status['vault']['role']}")
    tenants.kubectl.run("delete", "namespace", name, "--wait=false")


def test_a_tenant_that_was_made_again_under_the_same_name_gets_another_id(
    tenants: Any, eventually: Any
) -> None:
    first = tenants.ready(deletionPolicy="Delete")
    name = first["metadata"]["name"]
    tenants.delete(name)
    eventually(lambda: tenants.get(name) is None, within=60, says="the Tenant is gone")
    tenants.apply(name)
    assert tenants.wait_ready(name)["status"]["id"] != first["status"]["id"]


@pytest.mark.parametrize("after", [1, 6], ids=["its first write", "a later write"])
def test_killed_after_a_write_the_end_state_is_the_same(
    after: int, tenants: Any, stack: Stack, audit: Any, eventually: Any
) -> None:
    since = audit.position()
    name = tenants.apply(quota={"pods": 3})

    def written() -> bool:
        return len(audit.writes(since=since, user=PROVISIONER)) >= after

    eventually(written, says=f"{after} writes were seen")
    stack.kill("provisioner")
    stack.start("provisioner")
    tenants.wait_ready(name)
    with connect(tenants.secret(name)) as own:
        assert own.execute("SELECT 1").fetchone() == (1,)
    created = [
        (found["resource"], found["namespace"], found["name"])
        for found in audit.writes(since=since, user=PROVISIONER)
        if found["code"] == "201" and found["resource"] != "events"
    ]
    assert len(created) == len(set(created))
    with psycopg.connect(stack.parts.database().admin_dsn) as admin:
        databases = admin.execute(
            "SELECT count(*) FROM pg_database WHERE shobj_description(oid, 'pg_database') LIKE %s",
            [f"%{tenants.get(name)['metadata']['uid']}%"],
        ).fetchone()
    assert databases == (1,)


def test_kubectl_shows_what_a_user_expects(tenants: Any) -> None:
    name = tenants.ready()["metadata"]["name"]
    listed = tenants.kubectl.run("get", "pipewright", "-A")
    assert f"tenant.pipewright.dev/{name}" in listed
    assert "READY" in listed
    told = tenants.kubectl.run("explain", "tenant.spec.database")
    assert "connectionLimit" in told
    events = tenants.kubectl.run(
        "get", "events", "-A", f"--field-selector=involvedObject.name={name}", "-o", "name"
    )
    assert events.strip()
