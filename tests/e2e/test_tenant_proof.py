"""Isolation proved on the real servers: holes are planted at a neighbour's, found, named and closed again."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from dev import controlplane, web
from dev.stack import Stack
from pipewright.store import roles
from tests.e2e.conftest import condition_of

PROVISIONER = "system:serviceaccount:pipewright-system:provisioner"
COUNT = itertools.count()


class Proofs:
    """A tenant with neighbours, whose proof can be asked for."""

    def __init__(self, tenants: Any, stack: Stack, eventually: Any) -> None:
        self.tenants, self.stack, self._eventually = tenants, stack, eventually
        names = [tenants.apply() for _ in range(2)]
        self.name, self.other = names
        self.id = tenants.wait_ready(self.name)["status"]["id"]
        tenants.wait_ready(self.other)
        eventually(self._calm, within=60, says="tenants of tests before are gone")

    def _calm(self) -> bool:
        found = self.tenants.kubectl.get("tenants")
        return not any("deletionTimestamp" in it["metadata"] for it in found["items"])

    def admin(self, statement: str, *values: Any, database: str = "pipewright") -> Any:
        """The first row of a statement as the superuser."""
        dsn = self.stack.parts.database().admin_dsn
        with psycopg.connect(dsn, dbname=database, autocommit=True) as admin:
            found = admin.execute(statement, values or None)
            return found.fetchone() if found.description else None

    def check(self) -> str:
        """Ask for a check, with a text that nobody used before."""
        text = f"check-{next(COUNT)}"
        annotation = f"pipewright.dev/check-requested-at={text}"
        self.tenants.kubectl.run("annotate", "tenant", self.name, "--overwrite", annotation)
        return text

    def condition(self) -> dict[str, Any]:
        """IsolationVerified as it is now."""
        return condition_of(self.tenants.get(self.name), "IsolationVerified") or {}

    def proved(self, status: str, reason: str) -> dict[str, Any]:
        """Ask for a check, and wait for this verdict of it."""
        text = self.check()

        def told() -> Any:
            row = self.admin("SELECT proof ->> 'asked' FROM pipewright.upkeep WHERE tenant_id = %s", self.id)
            found = self.condition()
            as_wanted = (found.get("status"), found.get("reason")) == (status, reason)
            return found if row == (text,) and as_wanted else None

        def says() -> str:
            return f"the proof is {status}: {self.condition()} of {self.target()}"

        found: dict[str, Any] = self._eventually(told, within=90, says=says)
        return found

    def target(self) -> tuple[str, str]:
        """Id and a namespace of the tenant whose doors are tried."""
        row = self.admin("SELECT proof ->> 'target' FROM pipewright.upkeep WHERE tenant_id = %s", self.id)
        space = self.admin(
            "SELECT min(name) FROM pipewright.registry_namespaces WHERE tenant_id = %s", row[0]
        )
        return row[0], space[0]

    def metric(self, name: str) -> float:
        """A figure of the provisioner."""
        answer = web.ask(f"http://127.0.0.1:{self.stack.layout.ports['provisioner']}/metrics")
        assert answer is not None
        [line] = [it for it in answer.body.decode().splitlines() if it.startswith(f"{name} ")]
        return float(line.split()[-1])


@pytest.fixture
def proofs(tenants: Any, stack: Stack, eventually: Any) -> Proofs:
    return Proofs(tenants, stack, eventually)


def test_isolation_is_proved_by_itself_and_holes_are_named_until_they_are_closed(
    proofs: Proofs, stack: Stack, eventually: Any
) -> None:
    proved = eventually(
        lambda: it if (it := proofs.condition()).get("status") == "True" else None,
        says="isolation is proved without being asked",
    )
    assert proved["reason"] == "IsolationVerified"
    assert proofs.metric("pipewright_tenant_isolation_proved") >= 1
    other, space = proofs.target()
    assert other != proofs.id

    kubectl, vault = proofs.tenants.kubectl, stack.parts.vault()
    database = roles.database(other)
    policy = vault.call("GET", "sys/policies/acl/default")["data"]["policy"]
    wide = f'{policy}\npath "tenants/data/{other}/user/*" {{ capabilities = ["read"] }}'
    holes: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "the database": (
            lambda: proofs.admin(f"GRANT CONNECT ON DATABASE {database} TO PUBLIC"),
            lambda: proofs.admin(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC"),
        ),
        "the Vault path": (
            lambda: vault.call("PUT", "sys/policies/acl/default", {"policy": wide}),
            lambda: vault.call("PUT", "sys/policies/acl/default", {"policy": policy}),
        ),
        "the Secrets": (
            lambda: kubectl.apply(binding(space, proofs.name)),
            lambda: kubectl.run("delete", "rolebinding", "hole", "-n", space),
        ),
    }
    for word, (plant, close) in holes.items():
        plant()
        try:
            found = proofs.proved("False", "IsolationBroken")
            assert word in found["message"]
            assert other in found["message"]
            assert proofs.metric("pipewright_tenant_isolation_holes") >= 1
        finally:
            close()
        proofs.proved("True", "IsolationVerified")
    ready = condition_of(proofs.tenants.get(proofs.name), "Ready") or {}
    assert ready["status"] == "True"
    events = kubectl.run("get", "events", "-A", f"--field-selector=involvedObject.name={proofs.name}")
    assert "IsolationBroken" in events


def binding(namespace: str, account_of: str) -> dict[str, Any]:
    """The mistake of an administrator."""
    rbac = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "hole", "namespace": namespace},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "pipewright-owner"},
        "subjects": [{"kind": "ServiceAccount", "name": "pipewright", "namespace": account_of}],
    }


def test_what_cannot_be_tried_is_unknown_and_a_restart_proves_nothing_anew(
    proofs: Proofs, stack: Stack, audit_log: Any, eventually: Any
) -> None:
    proofs.proved("True", "IsolationVerified")
    other, _ = proofs.target()
    name = roles.database(other)
    proofs.admin(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        found = proofs.proved("Unknown", "NotProved")
        assert "the database" in found["message"]
    finally:
        proofs.admin(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    proofs.proved("True", "IsolationVerified")

    def tokens() -> list[dict[str, str]]:
        return [
            it
            for it in controlplane.writes(audit_log)
            if (it["user"], it["subresource"], it["namespace"]) == (PROVISIONER, "token", proofs.name)
        ]

    before = tokens()
    assert len(before) >= 6, "two for each proof"
    stack.kill("provisioner")
    stack.start("provisioner")
    text = f"after-{next(COUNT)}"
    proofs.tenants.kubectl.run(
        "annotate", "tenant", proofs.other, "--overwrite", f"pipewright.dev/check-requested-at={text}"
    )
    eventually(
        lambda: (proofs.tenants.get(proofs.other) or {})["status"].get("checkedFor") == text,
        says="the provisioner works again",
    )
    eventually(lambda: proofs.metric("pipewright_tenant_isolation_proved") >= 2, says="both are looked at")
    assert tokens() == before
