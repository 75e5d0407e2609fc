"""What each identity may do, as the servers say it, compared with checked-in files: a wider grant is seen.

A file is written anew by PIPEWRIGHT_GOLDEN=write; the diff is then for people to judge.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from dev import web
from pipewright.ports import LOGINS
from pipewright.store import roles

GOLDEN = Path(__file__).parent / "golden"
COMPONENTS = ("provisioner", "runner", "gateway")


def same_as_golden(name: str, found: Any) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump(found, sort_keys=True, width=110)
    if os.environ.get("PIPEWRIGHT_GOLDEN") == "write":
        path.write_text(text)
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(text), f"{name}: compare with {path.name}"


# --- Kubernetes -----------------------------------------------------------------------------------------


def rules(scene: Any, token: str, namespace: str) -> list[str]:
    """The rules of one identity in a namespace, one line for each resource."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    status = scene.api.ask(token, "POST", path, body, dry=False).document["status"]
    assert not status.get("incomplete"), status
    granted: dict[tuple[str, str, str], set[str]] = {}
    for rule in status["resourceRules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                named = ",".join(rule.get("resourceNames", []))
                granted.setdefault((group, resource, named), set()).update(rule["verbs"])
    return sorted(
        f"{group or 'core'}/{resource}{f' [{named}]' if named else ''}: {' '.join(sorted(verbs))}"
        for (group, resource, named), verbs in granted.items()
    )


def test_kubernetes_grants_each_identity_what_the_golden_file_says(scene: Any) -> None:
    tokens = {
        **{name: scene.kubectl.token(name, namespace="pipewright-system") for name in COMPONENTS},
        "tenant-owner": scene.a.owner,
        "tenant-account": scene.a.account,
    }
    for name, token in tokens.items():
        spaces = {
            "anywhere": "default",
            "in a tenant's namespace": "a",
            "in the system namespace": "pipewright-system",
        }
        everywhere = rules(scene, token, "default")
        found = {"anywhere": everywhere} | {
            title: [line for line in rules(scene, token, space) if line not in everywhere]
            for title, space in spaces.items()
            if title != "anywhere"
        }
        assert not any("*" in line for lines in found.values() for line in lines), found
        assert not any("escalate" in line or "impersonate" in line for line in everywhere)
        same_as_golden(f"kubernetes-{name}", found)


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_component_reads_secrets_outside_of_its_grants(scene: Any, component: str) -> None:
    token = scene.kubectl.token(component, namespace="pipewright-system")
    for path in ("/api/v1/secrets", "/api/v1/namespaces/a/secrets", "/api/v1/namespaces/kube-system/secrets"):
        assert scene.api.ask(token, "GET", path).code == 403
        assert scene.api.ask(scene.api.admin, "GET", path).code == 200
        scene.tried.append((f"{component}: lists {path}", "RBAC"))


# --- Vault ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", ["provisioner", "runner", "tenant"])
def test_vault_grants_each_identity_what_the_golden_file_says(scene: Any, component: str) -> None:
    own = scene.a.id
    if component == "tenant":
        token = scene.vault.login(scene.a.status["vault"]["role"], scene.a.vault_jwt)
    else:
        jwt = scene.kubectl.token(component, namespace="pipewright-system", audience="vault")
        token = scene.vault.login(f"pipewright-{component}", jwt)
    paths = [
        "tenants/metadata",
        *(f"tenants/{kind}/<id>/{part}" for kind in ("data", "metadata") for part in PARTS),
        *(f"tenants/{kind}/<id>/user/any" for kind in ("delete", "undelete", "destroy")),
        "tenants/config",
        *(
            f"sys/policies/acl/{name}"
            for name in ("pipewright-tenant-<id>", "pipewright-provisioner", "default")
        ),
        *(f"auth/kubernetes/role/{name}" for name in ("pipewright-tenant-<id>", "pipewright-provisioner")),
        *("auth/kubernetes/config", "auth/token/create", "sys/mounts", "sys/auth", "sys/audit"),
        *(
            "identity/entity",
            "transit/keys/<id>",
            "transit/keys/<id>/config",
            "transit/export/encryption-key/<id>",
        ),
        *(f"database/{part}/pipewright-tenant-<id>" for part in ("creds", "roles")),
        *("database/config/main", "database/rotate-root/main"),
        *(f"transit/{verb}/<id>" for verb in ("encrypt", "decrypt", "datakey/plaintext", "rewrap")),
    ]
    real = {path: path.replace("<id>", own) for path in paths}
    answer = scene.vault.call("POST", "sys/capabilities-self", {"paths": list(real.values())}, token=token)
    same_as_golden(f"vault-{component}", {path: answer[known] for path, known in real.items()})


PARTS = ("platform/database", "platform/integrations/any", "user/database", "user/any")


# --- PostgreSQL -----------------------------------------------------------------------------------------

_DATABASES = "SELECT has_database_privilege(%s, %s, %s)"
_SCHEMAS = "SELECT has_schema_privilege(%s, %s, %s)"
_TABLES = """
SELECT c.relnamespace::regnamespace || '.' || c.relname FROM pg_class c
WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
    AND c.relnamespace::regnamespace::text = ANY(%s) ORDER BY 1
"""


def held(admin: psycopg.Connection[Any], query: str, login: str, thing: str, words: tuple[str, ...]) -> str:
    found = [word for word in words if admin.execute(query, [login, thing, word]).fetchone() == (True,)]
    return " ".join(found)


def test_postgres_grants_each_login_what_the_golden_file_says(scene: Any) -> None:
    dsn = scene.stack.parts.database().admin_dsn
    own, other = f"pw_{scene.a.id}", f"pw_{scene.victim.id}"
    logins = {f"pipewright_{name}": f"pipewright_{name}" for name in (*COMPONENTS, "migrator", "vault")}
    logins[MAKER] = roles.maker(scene.a.id)
    logins |= {f"pw_<id>_{purpose}": f"{own}_{purpose}" for purpose in LOGINS}
    logins |= {f"pw_<id>_{name}": f"{own}_{name}" for name in ("app", "dynamic")}
    found: dict[str, dict[str, str]] = {}

    def note(title: str, thing: str, words: str) -> None:
        if words:
            found.setdefault(title, {})[thing] = words

    with psycopg.connect(dsn, dbname=own, autocommit=True) as admin:
        tables = [row[0] for row in admin.execute(_TABLES, [["pipewright", "history", "app"]])]
        for title, login in logins.items():
            databases = {"pw_<id>": own, "pw_<other id>": other}
            for name in (*databases, "pipewright", "postgres", "template1", "pipewright_template"):
                words = held(
                    admin, _DATABASES, login, databases.get(name, name), ("CONNECT", "CREATE", "TEMPORARY")
                )
                note(title, f"database {name}", words)
            for name in ("pipewright", "history", "app", "pg_catalog"):
                note(title, f"schema {name}", held(admin, _SCHEMAS, login, name, ("USAGE", "CREATE")))
            for name in tables:
                if not name.startswith("app."):
                    note(title, f"table {name}", held(admin, _TABLE, login, name, _WORDS))
            note(title, "may act as", _acts_as(admin, login, own))
    same_as_golden("postgres", found)


_TABLE = "SELECT has_table_privilege(%s, %s, %s)"
_WORDS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


def _acts_as(admin: psycopg.Connection[Any], login: str, own: str) -> str:
    version = admin.info.server_version
    privilege = "SET" if version >= 160000 else "MEMBER"
    rows = admin.execute(
        "SELECT rolname FROM pg_roles WHERE pg_has_role(%s, oid, %s) AND rolname <> %s ORDER BY 1",
        [login, privilege, login],
    )
    found = (re.sub("^pipewright_maker_.$", MAKER, row[0].replace(own, "pw_<id>")) for row in rows)
    return " ".join(dict.fromkeys(found))


MAKER = "pipewright_maker_<letter>"


# --- nothing secret anywhere ----------------------------------------------------------------------------


def test_no_password_of_a_tenant_stands_where_others_read(
    scene: Any, canary_places: Callable[[], str]
) -> None:
    """Real passwords and tokens, looked for in every status, Event, metric and log line of this session."""
    text = canary_places()
    assert "tenant" in text
    for place in scene.places.values():
        for secret in (
            place.secret["password"],
            place.secret["uri"],
            place.owner,
            place.account,
            place.vault_jwt,
        ):
            assert secret not in text
    for path in (scene.stack.folder / "logins").glob("*.password"):
        assert path.read_text() not in text
    assert scene.vault.root_token not in text
    scene.tried.append(("anybody: finds a password or token in status, Events or logs", "product"))


@pytest.fixture
def canary_places(scene: Any) -> Callable[[], str]:
    """Everything that people other than its owner may read, as one text."""

    def read() -> str:
        kubectl, parts = scene.kubectl, []
        parts.append(kubectl.run("get", "tenants,integrations,workflows,models", "-A", "-o", "yaml"))
        parts.append(kubectl.run("get", "events.events.k8s.io", "-A", "-o", "yaml"))
        # a dev server of Vault prints its root token; all other logs are read, audit trails included
        parts += [
            path.read_text(errors="replace")
            for path in (scene.stack.folder / "logs").iterdir()
            if path.name != "vault.log"
        ]
        for component in COMPONENTS:
            metrics = web.ask(f"http://127.0.0.1:{scene.stack.layout.ports[component]}/metrics")
            assert metrics is not None
            assert "# HELP" in metrics.body.decode(), f"{component} shows no metrics"
            parts.append(metrics.body.decode())
        return "\n".join(parts)

    return read
