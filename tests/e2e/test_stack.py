"""The development stack's own story: every server is real, guarded as in production, and goes at the end."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from dev import assets, controlplane, parts, places, process, throwaway, web
from dev.problem import Problem
from dev.progress import Progress
from dev.stack import Stack
from dev.vault import DevServer, Vault


def test_server_side_apply_of_a_namespace_works_and_is_in_the_audit_log(
    control_plane: parts.Cluster, audit_log: Path
) -> None:
    control_plane.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "audited"}})
    found = [
        write
        for write in controlplane.writes(audit_log)
        if write["resource"] == "namespaces" and write["name"] == "audited"
    ]
    assert [(write["user"], write["verb"], write["code"]) for write in found] == [("admin", "patch", "201")]


def test_reads_are_not_in_the_audit_log(control_plane: parts.Cluster, audit_log: Path) -> None:
    control_plane.kubectl.run("get", "namespaces")
    verbs = {write["verb"] for write in controlplane.writes(audit_log)}
    assert not verbs & {"get", "list", "watch"}


@pytest.mark.parametrize(
    "question",
    [
        ("namespace", "default"),
        ("ns", "default"),
        ("serviceaccounts", "-n", "pipewright-system"),
        ("sa", "-A", "-l", "nobody=has-it"),
        ("events", "-A", "--field-selector=involvedObject.name=nobody"),
        ("tenant", "nobody"),
    ],
)
def test_what_is_read_without_kubectl_is_what_kubectl_reads(
    control_plane: parts.Cluster, question: tuple[str, ...]
) -> None:
    kubectl = control_plane.kubectl
    told = kubectl.run("get", *question, "-o", "json", "--ignore-not-found")
    theirs = json.loads(told) if told.strip() else None
    ours = kubectl.get(*question)
    if ours and "items" in ours:  # kubectl says nothing of an empty list, and nothing of a list's position
        ours, theirs = ours["items"], theirs["items"] if theirs else []
    assert ours == theirs


def test_an_object_refused_is_told_in_the_servers_words(control_plane: parts.Cluster) -> None:
    refused = {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": "refused"},
        "spec": {"nonsense": 1},
    }
    with pytest.raises(Problem, match=r"spec\.nonsense"):
        control_plane.kubectl.apply(refused)


def test_a_request_without_a_token_may_read_nothing(control_plane: parts.Cluster, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_bytes(control_plane.endpoint.authority)
    answer = web.ask(f"{control_plane.endpoint.server}/api/v1/namespaces", authority=authority)
    assert answer is not None
    assert answer.code == 403


def test_each_component_is_its_own_service_account(
    control_plane: parts.Cluster, vault_identities: Path
) -> None:
    for component in ("provisioner", "runner", "gateway"):
        kubeconfig = vault_identities / component / "kubeconfig"
        said = control_plane.kubectl.attempt("auth", "whoami", "--kubeconfig", str(kubeconfig)).stdout
        assert f"system:serviceaccount:pipewright-system:{component}" in said


def test_no_file_of_an_identity_is_readable_by_others(vault_identities: Path) -> None:
    readable = [
        path for path in vault_identities.rglob("*") if path.is_file() and path.stat().st_mode & 0o077
    ]
    assert readable == []


def test_the_provisioner_writes_a_tenants_connection_but_cannot_read_what_tenants_have(
    vault_server: Vault, vault_identities: Path
) -> None:
    may = _permissions(vault_server, vault_identities, "provisioner")
    secret = {"data": {"password": "canary"}}
    assert may("POST", "tenants/data/abcdefghijkl/platform/logins", secret)
    assert may("GET", "tenants/data/abcdefghijkl/platform/logins")
    assert may("POST", "tenants/data/abcdefghijkl/user/database", secret)
    assert not may("GET", "tenants/data/abcdefghijkl/user/database")
    assert not may("POST", "tenants/data/abcdefghijkl/user/own", secret)


def test_the_provisioner_makes_policies_and_roles_only_under_the_tenants_prefix(
    vault_server: Vault, vault_identities: Path
) -> None:
    may = _permissions(vault_server, vault_identities, "provisioner")
    policy = {"policy": 'path "tenants/data/abcdefghijkl/user/*" { capabilities = ["read"] }'}
    role = {
        "bound_service_account_names": ["pipewright"],
        "bound_service_account_namespaces": ["acme"],
        "audience": "vault",
        "token_policies": ["pipewright-tenant-abcdefghijkl"],
    }
    assert may("PUT", "sys/policies/acl/pipewright-tenant-abcdefghijkl", policy)
    assert may("POST", "auth/kubernetes/role/pipewright-tenant-abcdefghijkl", role)
    assert may("GET", "auth/kubernetes/role/pipewright-tenant-abcdefghijkl")
    assert not may("PUT", "sys/policies/acl/pipewright-runner", policy)
    assert not may("POST", "auth/kubernetes/role/pipewright-runner", role)
    assert may("DELETE", "auth/kubernetes/role/pipewright-tenant-abcdefghijkl")
    assert may("DELETE", "sys/policies/acl/pipewright-tenant-abcdefghijkl")


def test_the_provisioner_makes_data_keys_and_can_take_a_tenant_down(
    vault_server: Vault, vault_identities: Path
) -> None:
    may = _permissions(vault_server, vault_identities, "provisioner")
    assert may("POST", "tenants/data/mnopqrstuvwx/platform/logins", {"data": {"a": "b"}})
    assert may("POST", "transit/keys/mnopqrstuvwx", {})
    assert may("POST", "transit/datakey/plaintext/mnopqrstuvwx", {})
    assert may("LIST", "tenants/metadata/mnopqrstuvwx/")
    assert may("DELETE", "tenants/metadata/mnopqrstuvwx/platform/logins")
    assert may("POST", "transit/keys/mnopqrstuvwx/config", {"deletion_allowed": True})
    assert may("DELETE", "transit/keys/mnopqrstuvwx")


def test_the_runner_reads_the_platforms_secrets_but_neither_the_tenants_nor_any_policy(
    vault_server: Vault, vault_identities: Path
) -> None:
    secret = {"data": {"password": "canary"}}
    vault_server.call("POST", "tenants/data/bcdefghijklm/platform/logins", secret)
    vault_server.call("POST", "tenants/data/bcdefghijklm/user/own", secret)
    may = _permissions(vault_server, vault_identities, "runner")
    assert may("GET", "tenants/data/bcdefghijklm/platform/logins")
    assert may("POST", "tenants/data/bcdefghijklm/platform/integrations/hook", secret)
    assert not may("POST", "tenants/data/bcdefghijklm/platform/logins", secret)
    assert not may("GET", "tenants/data/bcdefghijklm/user/own")
    assert not may("PUT", "sys/policies/acl/pipewright-tenant-bcdefghijklm", {"policy": ""})


def test_vault_refuses_a_token_made_for_the_api_server(vault_server: Vault, vault_identities: Path) -> None:
    kubeconfig = (vault_identities / "provisioner" / "kubeconfig").read_text()
    jwt = kubeconfig.split("token: ")[1].split()[0]
    with pytest.raises(Problem, match="403"):
        vault_server.login("pipewright-provisioner", jwt)


def test_vault_refuses_the_gateway(
    vault_server: Vault, vault_identities: Path, control_plane: parts.Cluster
) -> None:
    jwt = control_plane.kubectl.token("gateway", namespace="pipewright-system", audience="vault")
    with pytest.raises(Problem, match="403"):
        vault_server.login("pipewright-provisioner", jwt)


def test_postgres_wants_a_password_and_the_right_one(postgres_server: parts.Database) -> None:
    with psycopg.connect(postgres_server.admin_dsn) as connection:
        found = connection.execute("SELECT current_setting('password_encryption')").fetchone()
    assert found == ("scram-sha-256",)
    address = f"host={postgres_server.host} port={postgres_server.port} user=postgres dbname=postgres"
    for password in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"{address} password='{password}'", passfile="/nonexistent")


def test_postgres_does_not_run_as_root(empty_stack: Stack, postgres_server: parts.Database) -> None:
    found = process.find(empty_stack.folder, "postgres")
    assert found is not None
    assert found.uids().effective != 0


def test_ray_answers_with_the_token_only_and_runs_a_job(ray_head: parts.Ray) -> None:
    jobs = f"{ray_head.address}/api/jobs/"
    refused = web.ask(jobs)
    assert refused is not None
    assert refused.code == 401
    headers = {"Authorization": f"Bearer {ray_head.token_file.read_text()}"}
    job = {"submission_id": "stack-test", "entrypoint": "python -c 'import lightgbm; print(6 * 7)'"}
    # the first submission makes Ray start its agents, which takes many seconds where cores are few
    web.demand(jobs, method="POST", document=job, headers=headers, timeout=60.0)
    assert _finished(f"{jobs}stack-test", headers) == "SUCCEEDED"
    assert "42" in web.demand(f"{jobs}stack-test/logs", headers=headers, timeout=30.0)["logs"]


def test_a_process_can_be_killed_and_started_again_with_its_data(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    stack = Stack(tmp_path_factory.mktemp("killed") / "stack", durable=False)
    try:
        database = stack.parts.database()
        with psycopg.connect(database.admin_dsn) as connection:
            connection.execute("CREATE TABLE kept (a int)")
        stack.kill("postgres")
        assert not stack.running("postgres")
        stack.start("postgres")
        with psycopg.connect(database.admin_dsn) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    finally:
        stack.down()


def test_down_leaves_no_process_and_no_secret_behind(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CLUSTER", "DATABASE_DSN"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path_factory.mktemp("gone") / "stack"
    stack = Stack(folder, durable=False)
    try:
        stack.parts.database()
        stack.parts.cluster()
        home = Path(stack.layout.postgres_home)
        assert [row.name for row in stack.status() if row.state == "running"] == [
            "postgres",
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
        ]
        assert len(process.leftovers(folder)) >= 4
    finally:
        assert stack.down() == 4
    assert process.leftovers(folder) == []
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "logs"]
    assert not home.exists()
    assert stack.down() == 0


def test_a_server_that_does_not_start_is_told_with_its_last_log_lines(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    stack = Stack(tmp_path_factory.mktemp("broken") / "stack", durable=False)
    try:
        stack.parts.database()
        stack.stop("postgres")
        (Path(stack.layout.postgres_home) / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
        with pytest.raises(Problem, match="no_such_setting"):
            stack.start("postgres")
    finally:
        stack.down()


def test_a_cluster_and_a_vault_that_the_user_named_are_used_and_left_standing(
    control_plane: parts.Cluster,
    vault_server: Vault,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CLUSTER", "existing")
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    monkeypatch.setenv("VAULT_ADDR", vault_server.address)
    monkeypatch.setenv("VAULT_TOKEN", vault_server.root_token)
    stack = Stack(tmp_path / "stack", durable=False)
    try:
        stack.parts.identities()
        jwt = (stack.folder / "identities" / "runner" / "vault.jwt").read_text()
        assert vault_server.login("pipewright-runner", jwt)
        assert [row.name for row in stack.status() if row.state == "external"] == ["cluster", "vault"]
        said = capsys.readouterr().out
        named = said.index(
            f"CLUSTER=existing: context pipewright-dev, server {control_plane.endpoint.server}"
        )
        assert named < said.index("objects applied")
    finally:
        stack.down()
    assert control_plane.kubectl.get("namespace", "pipewright-system") is not None


def test_a_mount_that_somebody_else_made_is_never_changed(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", durable=False)
    try:
        server = DevServer(
            folder=stack.folder,
            port=stack.layout.ports["vault"],
            binary=assets.binaries(assets.VAULT, Progress())["vault"],
        )
        process.start(server.server())
        server.vault.call("POST", "sys/auth/kubernetes", {"type": "kubernetes", "description": "production"})
        with pytest.raises(Problem, match="a mount auth/kubernetes that no stack made"):
            stack.parts.vault()
    finally:
        stack.down()


def test_the_next_session_ends_what_a_killed_one_left() -> None:
    orphan = """
import os
from dev import throwaway
with throwaway.stack() as stack:
    stack.parts.database()
    print(stack.folder, flush=True)
    os._exit(1)  # as SIGKILL: nothing is cleaned up
"""
    command = [sys.executable, "-c", orphan]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=places.ROOT)
    folder = Path(done.stdout.splitlines()[-1])
    assert process.leftovers(folder)
    assert folder.parent in throwaway.sweep()
    assert process.leftovers(folder) == []
    assert not folder.parent.exists()


def _permissions(vault: Vault, identities: Path, component: str) -> Callable[..., bool]:
    """Log the component in; the answer says whether Vault lets it make one call (403 means no)."""
    jwt = (identities / component / "vault.jwt").read_text()
    headers = {"X-Vault-Token": vault.login(f"pipewright-{component}", jwt)}

    def may(method: str, path: str, document: object = None) -> bool:
        url = f"{vault.address}/v1/{path}"
        answer = web.ask(url, method=method, document=document, headers=headers)
        assert answer is not None
        assert answer.code in (200, 204, 403), answer.body
        return answer.code != 403

    return may


def _finished(url: str, headers: dict[str, str]) -> str:
    """The last status of a Ray job, polled until it is one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = str(web.demand(url, headers=headers, timeout=30.0)["status"])
        if status in ("SUCCEEDED", "FAILED", "STOPPED"):
            return status
        time.sleep(0.2)
    raise AssertionError(f"{url} did not finish in two minutes")
