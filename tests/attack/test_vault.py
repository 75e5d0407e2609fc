"""A tenant's Vault token against everything that is not its own: Vault must refuse.

The control of each attempt is the same request by the root token: it must be answered with 2xx.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Mapping
from typing import Any

import pytest

from dev import web
from dev.vault import Vault

CANARY = "canary-5a1d0b7e"


@pytest.fixture(scope="module")
def token(scene: Any) -> str:
    """The intruder's token: of its own role, with its own ServiceAccount."""
    return str(scene.vault.login(scene.a.status["vault"]["role"], scene.a.vault_jwt))


@pytest.fixture(scope="module", autouse=True)
def canaries(scene: Any) -> None:
    """Secrets at paths that only a confused policy opens, and a value that must never be read."""
    own, victim = scene.a.id, scene.victim.id
    for path in (f"{own}x/user/x", f"{own[:-1]}/user/x", "+/user/x", "*/user/x", f"{victim}/user/x"):
        scene.vault.call("POST", f"tenants/data/{path}", {"data": {"value": CANARY}})
    scene.vault.call("GET", scene.a.status["vault"]["credentials"])  # a lease to list


def ask(vault: Vault, token: str, method: str, path: str, body: object = None) -> web.Answer:
    answer = web.ask(
        f"{vault.address}/v1/{path}", method=method, document=body, headers={"X-Vault-Token": token}
    )
    assert answer is not None
    return answer


DATA: Mapping[str, Any] = {"data": {"value": "overwritten"}}
POLICY = {"policy": 'path "tenants/*" { capabilities = ["read"] }'}
PATHS: dict[str, tuple[str, str, Any]] = {
    "reads a neighbour's connection": ("GET", "tenants/data/{victim}/user/database", None),
    "reads a neighbour's secret": ("GET", "tenants/data/{victim}/user/x", None),
    "overwrites a neighbour's secret": ("POST", "tenants/data/{victim}/user/x", DATA),
    "deletes a neighbour's secret": ("DELETE", "tenants/data/{victim}/user/nothing", None),
    "destroys a neighbour's version": ("PUT", "tenants/destroy/{victim}/user/x", {"versions": [99]}),
    "deletes a neighbour's version": ("POST", "tenants/delete/{victim}/user/x", {"versions": [99]}),
    "reads a neighbour's metadata": ("GET", "tenants/metadata/{victim}/user/x", None),
    "lists a neighbour's secrets": ("LIST", "tenants/metadata/{victim}/user", None),
    "lists a neighbour's folder": ("LIST", "tenants/metadata/{victim}", None),
    "lists all tenants at the mount's root": ("LIST", "tenants/metadata", None),
    "reads its own platform secrets": ("GET", "tenants/data/{own}/platform/database", None),
    "lists its own platform secrets": ("LIST", "tenants/metadata/{own}/platform", None),
    "reads a neighbour's platform secrets": ("GET", "tenants/data/{victim}/platform/database", None),
    "reads a path that begins with its id": ("GET", "tenants/data/{own}x/user/x", None),
    "reads a path that its id begins with": ("GET", "tenants/data/{short}/user/x", None),
    "reads through a plus": ("GET", "tenants/data/+/user/x", None),
    "reads through a glob": ("GET", "tenants/data/%2A/user/x", None),
    "reads the mount's settings": ("GET", "tenants/config", None),
    "changes the mount's settings": ("POST", "tenants/config", {"max_versions": 0}),
    "reads its own policy": ("GET", "sys/policies/acl/pipewright-tenant-{own}", None),
    "widens its own policy": ("PUT", "sys/policies/acl/pipewright-tenant-attack", POLICY),
    "lists policies": ("LIST", "sys/policies/acl", None),
    "reads its own role": ("GET", "auth/kubernetes/role/pipewright-tenant-{own}", None),
    "reads a neighbour's role": ("GET", "auth/kubernetes/role/pipewright-tenant-{victim}", None),
    "lists roles": ("LIST", "auth/kubernetes/role", None),
    "reads the method's settings": ("GET", "auth/kubernetes/config", None),
    "lists mounts": ("GET", "sys/mounts", None),
    "lists auth methods": ("GET", "sys/auth", None),
    "lists audit devices": ("GET", "sys/audit", None),
    "mounts an engine": ("POST", "sys/mounts/attack", {"type": "kv"}),
    "reads the key status": ("GET", "sys/key-status", None),
    "reads the health of replication and storage": ("GET", "sys/host-info", None),
    "makes a token": ("POST", "auth/token/create", {"policies": ["pipewright-provisioner"], "ttl": "5s"}),
    "makes an orphan token": ("POST", "auth/token/create-orphan", {"ttl": "5s"}),
    "lists token accessors": ("LIST", "auth/token/accessors", None),
    "lists leases": ("LIST", "sys/leases/lookup/auth", None),
    "lists identities": ("GET", "identity/entity/id?list=true", None),
    "makes an identity": (
        "POST",
        "identity/entity",
        {"name": "attack", "policies": ["pipewright-provisioner"]},
    ),
    "gets a short-lived login of a neighbour": (
        "GET",
        "database/creds/pipewright-tenant-{victim}",
        None,
    ),
    "reads its own database role": ("GET", "database/roles/pipewright-tenant-{own}", None),
    "widens its own database role": (
        "POST",
        "database/roles/pipewright-tenant-attack",
        {"db_name": "main", "creation_statements": ["SELECT 1"]},
    ),
    "lists database roles": ("LIST", "database/roles", None),
    "reads the connection to the database server": ("GET", "database/config/main", None),
    "changes the connection to the database server": (
        "POST",
        "database/config/attack",
        {
            "plugin_name": "postgresql-database-plugin",
            "connection_url": "postgresql://postgres.invalid/x",
            "verify_connection": False,
        },
    ),
    "lists its leases": ("LIST", "sys/leases/lookup/database/creds/pipewright-tenant-{own}", None),
    "ends all leases of a neighbour": (
        "PUT",
        "sys/leases/revoke-prefix/database/creds/pipewright-tenant-{victim}",
        None,
    ),
    "reads a neighbour's key": ("GET", "transit/keys/{victim}", None),
    "reads its own key": ("GET", "transit/keys/{own}", None),
    "lists keys": ("LIST", "transit/keys", None),
    "rotates a neighbour's key": ("POST", "transit/keys/{victim}/rotate", None),
    "makes a data key of a neighbour": ("POST", "transit/datakey/plaintext/{victim}", {}),
}


@pytest.mark.parametrize("sentence", PATHS)
def test_vault_refuses(scene: Any, token: str, sentence: str) -> None:
    method, template, body = PATHS[sentence]
    own = scene.a.id
    path = template.format(own=own, short=own[:-1], victim=scene.victim.id)
    answer = ask(scene.vault, token, method, path, body)
    assert answer.code == 403, (sentence, answer)
    assert CANARY not in answer.body.decode()
    control = ask(scene.vault, scene.vault.root_token, method, path, body)
    assert 200 <= control.code < 300, (sentence, control)
    scene.tried.append((f"token: {sentence}", "Vault"))


@pytest.fixture(scope="module", autouse=True)
def undone(scene: Any) -> Any:
    """What the root token's controls made is taken away again."""
    yield
    for path in (
        "sys/mounts/attack",
        "sys/policies/acl/pipewright-tenant-attack",
        "database/roles/pipewright-tenant-attack",
        "database/config/attack",
        "identity/entity/name/attack",
    ):
        ask(scene.vault, scene.vault.root_token, "DELETE", path)


def test_the_token_opens_its_own(scene: Any, token: str) -> None:
    """The control of all of the above."""
    own = f"tenants/data/{scene.a.id}/user"
    assert ask(scene.vault, token, "GET", f"{own}/database").code == 200
    assert ask(scene.vault, token, "POST", f"{own}/mine", DATA).code == 200
    assert ask(scene.vault, token, "GET", f"{own}/mine").code == 200
    assert ask(scene.vault, token, "LIST", f"tenants/metadata/{scene.a.id}/user/").code == 200
    assert ask(scene.vault, token, "GET", f"database/creds/pipewright-tenant-{scene.a.id}").code == 200


@pytest.fixture
def kept(scene: Any) -> dict[str, Any]:
    """A secret beside the own folder and one of a neighbour, made for this attempt; their metadata."""
    found = {}
    for tenant_id in (scene.a.id, scene.victim.id):
        for path in (f"{tenant_id}/platform/attack", f"{tenant_id}/user/attack"):
            scene.vault.call("DELETE", f"tenants/metadata/{path}")
            scene.vault.call("POST", f"tenants/data/{path}", {"data": {"value": CANARY}})
            found[path] = scene.vault.call("GET", f"tenants/metadata/{path}")["data"]
    return found


CLIMBS: dict[str, tuple[str, str, Any]] = {
    "reads": ("GET", "data", None),
    "overwrites": ("POST", "data", DATA),
    "deletes": ("DELETE", "data", None),
    "deletes a version of": ("POST", "delete", {"versions": [1]}),
    "undeletes": ("POST", "undelete", {"versions": [1]}),
    "destroys a version of": ("PUT", "destroy", {"versions": [1]}),
    "reads the metadata of": ("GET", "metadata", None),
    "deletes every version of": ("DELETE", "metadata", None),
    "lists": ("LIST", "metadata", None),
}


@pytest.mark.parametrize("dots", ["..", "..%2F", "%2E%2E", "%2E%2E%2F", ".%2E"])
@pytest.mark.parametrize("below", ["", "x/", "x/y/", "x/y/z/"])
@pytest.mark.parametrize("sentence", CLIMBS)
def test_no_path_leads_up_and_out(
    scene: Any, token: str, kept: dict[str, Any], sentence: str, below: str, dots: str
) -> None:
    """An ACL compares the text of a path; the store cleans it afterwards, and might climb out."""
    own, victim, root = scene.a.id, scene.victim.id, scene.vault.root_token
    one = dots if dots.endswith("%2F") else f"{dots}/"
    out = one * (1 + below.count("/"))
    method, part, body = CLIMBS[sentence]
    leaf = "" if method == "LIST" else "attack"
    theirs = f"{out}{one}{victim}"
    for aim in (f"{out}platform/{leaf}", f"{theirs}/user/{leaf}", f"{theirs}/platform/{leaf}"):
        path = f"tenants/{part}/{own}/user/{below}{aim}"
        answer = ask(scene.vault, token, method, path, body)
        if answer.code == 307 and dots == "..":
            # the server sends to the clean path, as a browser would; whoever goes there is refused
            answer = ask(scene.vault, token, method, posixpath.normpath(path), body)
        said = answer.body.decode()
        # 404 and 500 would mean that the policy let it pass, and only the store did not find it
        assert answer.code in (400, 403), (aim, answer)
        assert CANARY not in said
    for path, was in kept.items():
        now = ask(scene.vault, root, "GET", f"tenants/metadata/{path}")
        assert now.code == 200, path
        assert now.document["data"] == was, path
    scene.tried.append((f"token: {sentence} what lies outside, by user/{below}{out}", "Vault"))


def test_a_neighbours_ciphertext_stays_closed(scene: Any, token: str) -> None:
    text = base64.b64encode(CANARY.encode()).decode()
    sealed = scene.vault.call("POST", f"transit/encrypt/{scene.victim.id}", {"plaintext": text})
    body, path = {"ciphertext": sealed["data"]["ciphertext"]}, f"transit/decrypt/{scene.victim.id}"
    assert ask(scene.vault, token, "POST", path, body).code == 403
    assert ask(scene.vault, scene.vault.root_token, "POST", path, body).document["data"]["plaintext"] == text
    scene.tried.append(("token: decrypts with a neighbour's key", "Vault"))


def test_another_tokens_accessor_is_of_no_use(scene: Any, token: str) -> None:
    theirs = scene.vault.login(scene.victim.status["vault"]["role"], scene.victim.vault_jwt)
    accessor = ask(scene.vault, theirs, "GET", "auth/token/lookup-self").document["data"]["accessor"]
    for verb in ("lookup-accessor", "renew-accessor", "revoke-accessor"):
        answer = ask(scene.vault, token, "POST", f"auth/token/{verb}", {"accessor": accessor})
        assert answer.code == 403, (verb, answer)
        scene.tried.append((f"token: {verb} of a neighbour's token", "Vault"))
    assert ask(scene.vault, theirs, "GET", "auth/token/lookup-self").code == 200
    root = scene.vault.root_token
    assert ask(scene.vault, root, "POST", "auth/token/lookup-accessor", {"accessor": accessor}).code == 200
    assert ask(scene.vault, root, "POST", "auth/token/revoke-accessor", {"accessor": accessor}).code == 204


@pytest.mark.parametrize("role", ["a neighbour's", "pipewright-provisioner", "pipewright-runner"])
def test_no_role_opens_to_another_namespaces_account(scene: Any, role: str) -> None:
    named = scene.victim.status["vault"]["role"] if role.startswith("a ") else role

    def login(jwt: str, role: str) -> web.Answer:
        return ask(scene.vault, "", "POST", "auth/kubernetes/login", {"role": role, "jwt": jwt})

    answer = login(scene.a.vault_jwt, named)
    assert answer.code == 403, answer
    assert "not authorized" in answer.body.decode()
    assert login(scene.a.vault_jwt, scene.a.status["vault"]["role"]).code == 200
    scene.tried.append((f"account: logs in with the role of {role.removeprefix('pipewright-')}", "Vault"))


def test_a_token_for_the_api_server_is_none_for_vault(scene: Any) -> None:
    body = {"role": scene.a.status["vault"]["role"], "jwt": scene.a.account}
    assert ask(scene.vault, "", "POST", "auth/kubernetes/login", body).code in (400, 403)
    body["jwt"] = scene.kubectl.token("default", namespace="a", audience="vault")
    assert ask(scene.vault, "", "POST", "auth/kubernetes/login", body).code == 403
    body["jwt"] = scene.a.vault_jwt
    assert ask(scene.vault, "", "POST", "auth/kubernetes/login", body).code == 200
    scene.tried.append(("account: logs in with a token of another audience or account", "Vault"))
