"""The admission policies, tried by somebody whom RBAC lets do everything to these kinds.

Each attempt must be refused by the named policy. Its control is the same verb on the same kind with a name
or label that is nobody's: it must pass, so that RBAC and form are not what refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dev import web

OWNERSHIP = "pipewright-namespace-ownership"
PROTECTED = "pipewright-protected-objects"
TOKENS = "pipewright-token-secrets"
CONFINED = "pipewright-provisioner-stays-in-tenants"

V1, NETWORKING, RBAC = "/api/v1", "/apis/networking.k8s.io/v1", "/apis/rbac.authorization.k8s.io/v1"
LABEL = "pipewright.dev/tenant-uid"
NODES = "scheduler.alpha.kubernetes.io/node-selector"


def refuses(scene: Any, policy: str, answer: web.Answer, sentence: str) -> None:
    assert answer.code == 403, (sentence, answer)
    assert f"ValidatingAdmissionPolicy '{policy}'" in answer.body.decode(), (sentence, answer)
    scene.tried.append((sentence, "admission"))


def passes(answer: web.Answer) -> None:
    assert 200 <= answer.code < 300, answer


# --- namespaces -----------------------------------------------------------------------------------------

STEALS = {
    "takes the tenant's label off": {"labels": {LABEL: None}},
    "gives the namespace to another tenant": {"labels": {LABEL: "11111111-2222-3333-4444-555555555555"}},
    "changes the tenant's id": {"labels": {"pipewright.dev/tenant-id": "abcdefghjkmn"}},
    "adds a label of ours": {"labels": {"pipewright.dev/more": "x"}},
    "sends its pods to other nodes": {"annotations": {NODES: "pool=theirs"}},
    "lets its pods run on every node": {"annotations": {NODES: None}},
    "lets its pods run on every node by an empty text": {"annotations": {NODES: ""}},
    "lowers Pod Security": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
    "adds an ownerReference, for the garbage collector to act on": {
        "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "gone", "uid": "no-such-uid"}]
    },
}


@pytest.fixture(scope="module")
def placed(scene: Any) -> Iterator[None]:
    """An administrator said where the pods in `ab` run, so that there is something to change."""
    for nodes in ("pool=ab", None):
        change = {"metadata": {"annotations": {NODES: nodes}}}
        passes(scene.api.ask(scene.api.admin, "PATCH", f"{V1}/namespaces/ab", change, dry=False))
        if nodes:
            yield


@pytest.mark.parametrize("subresource", ["", "/status", "/finalize"])
@pytest.mark.parametrize("sentence", STEALS)
def test_a_tenants_namespace_keeps_its_owner_through_every_door(
    scene: Any, placed: None, sentence: str, subresource: str
) -> None:
    path, change = f"{V1}/namespaces/ab", STEALS[sentence]
    # /finalize takes whole objects only; what is sent is what the server has, with one change
    whole = scene.api.ask(scene.api.admin, "GET", path).document

    def send(metadata: Any) -> web.Answer:
        if subresource != "/finalize":
            return scene.api.ask(scene.strong, "PATCH", path + subresource, {"metadata": metadata})
        merged = {**whole["metadata"], **metadata}
        for part in ("labels", "annotations"):
            wanted = {**whole["metadata"][part], **metadata.get(part, {})}
            merged[part] = {key: value for key, value in wanted.items() if value is not None}
        return scene.api.ask(scene.strong, "PUT", path + subresource, {**whole, "metadata": merged})

    passes(send({part: {"somebody.example/colour": "blue"} for part in ("labels", "annotations")}))
    refuses(scene, OWNERSHIP, send(change), f"a namespace's owner {sentence} (namespaces{subresource})")


@pytest.mark.parametrize("subresource", ["", "/status"])
@pytest.mark.parametrize("nodes", ["pool=theirs", ""])
def test_no_node_selector_is_set_where_there_is_none(scene: Any, nodes: str, subresource: str) -> None:
    change = {"metadata": {"annotations": {NODES: nodes}}}
    passes(scene.api.ask(scene.strong, "PATCH", f"{V1}/namespaces/attack-people{subresource}", change))
    answer = scene.api.ask(scene.strong, "PATCH", f"{V1}/namespaces/a{subresource}", change)
    refuses(scene, OWNERSHIP, answer, f"sets the node selector '{nodes}' (namespaces{subresource})")


@pytest.mark.parametrize("name", ["kube-system", "default", "pipewright-system", "attack-people"])
@pytest.mark.parametrize("subresource", ["", "/status"])
def test_no_other_namespace_is_labelled_into_a_tenants(scene: Any, name: str, subresource: str) -> None:
    path = f"{V1}/namespaces/{name}{subresource}"
    passes(scene.api.ask(scene.strong, "PATCH", path, {"metadata": {"labels": {"colour": "blue"}}}))
    uid = scene.api.ask(scene.api.admin, "GET", f"{V1}/namespaces/a").document["metadata"]["labels"][LABEL]
    answer = scene.api.ask(scene.strong, "PATCH", path, {"metadata": {"labels": {LABEL: uid}}})
    refuses(scene, OWNERSHIP, answer, f"labels {name} as the own tenant's (namespaces{subresource})")


def test_no_namespace_is_created_with_a_tenants_label(scene: Any) -> None:
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "attack-new"}}
    passes(scene.api.ask(scene.strong, "POST", f"{V1}/namespaces", body))
    body["metadata"]["labels"] = {LABEL: "x"}
    answer = scene.api.ask(scene.strong, "POST", f"{V1}/namespaces", body)
    refuses(scene, OWNERSHIP, answer, "creates a namespace with a tenant's label")


def test_a_tenants_namespace_goes_with_its_tenant_only(scene: Any) -> None:
    passes(scene.api.ask(scene.strong, "DELETE", f"{V1}/namespaces/attack-people"))
    answer = scene.api.ask(scene.strong, "DELETE", f"{V1}/namespaces/ab")
    refuses(scene, OWNERSHIP, answer, "deletes a tenant's namespace")


# --- what lies in them ----------------------------------------------------------------------------------

BINDING = {
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pipewright-owner"},
    "subjects": [],
}
OBJECTS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "resourcequotas": (V1, "ResourceQuota", "pipewright", {"spec": {"hard": {"pods": "1000"}}}),
    "limitranges": (V1, "LimitRange", "pipewright", {"spec": {"limits": []}}),
    "serviceaccounts": (V1, "ServiceAccount", "pipewright", {"automountServiceAccountToken": True}),
    "secrets": (V1, "Secret", "pipewright-database", {"stringData": {"host": "evil.example"}}),
    "networkpolicies": (
        NETWORKING,
        "NetworkPolicy",
        "pipewright-default-deny",
        {"spec": {"podSelector": {}}},
    ),
    "rolebindings": (RBAC, "RoleBinding", "pipewright-owners", BINDING),
}


def manifest(resource: str, name: str) -> dict[str, Any]:
    group, kind, _, body = OBJECTS[resource]
    version = group.removeprefix("/apis/").removeprefix("/api/")
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **body}


@pytest.fixture(scope="module")
def unprotected(scene: Any) -> str:
    """The name of objects that are nobody's: one of each kind, for the controls."""
    for resource in OBJECTS:
        path = f"{OBJECTS[resource][0]}/namespaces/ab/{resource}"
        passes(scene.api.ask(scene.strong, "POST", path, manifest(resource, "mine"), dry=False))
    return "mine"


@pytest.mark.parametrize("resource", OBJECTS)
@pytest.mark.parametrize("verb", ["PATCH", "PUT", "DELETE", "POST"])
def test_our_objects_are_changed_through_the_tenant_only(
    scene: Any, unprotected: str, resource: str, verb: str
) -> None:
    group, _, ours, body = OBJECTS[resource]
    collection = f"{group}/namespaces/ab/{resource}"
    fresh = {"rolebindings": "pipewright-more", "networkpolicies": "pipewright-more"}.get(resource, ours)

    def send(name: str, *, free: str) -> web.Answer:
        # a POST needs a name that is free: admission is asked before the store
        named = free if verb == "POST" else name
        change = {"subjects": []} if resource == "rolebindings" else body  # a roleRef never changes
        sent = {"PATCH": change, "DELETE": None}.get(verb, manifest(resource, named))
        path = collection if verb == "POST" else f"{collection}/{name}"
        return scene.api.ask(scene.strong, verb, path, sent)

    passes(send(unprotected, free="another"))
    refuses(scene, PROTECTED, send(ours, free=fresh), f"{verb} {resource}/{ours} in a tenant's namespace")


def test_the_status_of_our_quota_is_the_quota_controllers(scene: Any, unprotected: str) -> None:
    path, forged = f"{V1}/namespaces/ab/resourcequotas", {"status": {"used": {"pods": "0"}}}
    passes(scene.api.ask(scene.strong, "PATCH", f"{path}/{unprotected}/status", forged))
    answer = scene.api.ask(scene.strong, "PATCH", f"{path}/pipewright/status", forged)
    refuses(scene, PROTECTED, answer, "PATCH resourcequotas/status: what is used is forged")


@pytest.mark.parametrize("resource", ["networkpolicies", "rolebindings", "limitranges", "resourcequotas"])
def test_ours_do_not_go_in_a_collection_either(scene: Any, unprotected: str, resource: str) -> None:
    path = f"{OBJECTS[resource][0]}/namespaces/ab/{resource}"
    answer = scene.api.ask(scene.strong, "DELETE", path)
    refuses(scene, PROTECTED, answer, f"DELETE all {resource} of a tenant's namespace at once")
    assert scene.api.ask(scene.api.admin, "GET", f"{path}/{OBJECTS[resource][2]}").code == 200


@pytest.mark.parametrize("who", ["strong", "owner"])
def test_no_secret_mints_an_endless_token(scene: Any, who: str) -> None:
    token = scene.strong if who == "strong" else scene.a.owner
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "minted", "annotations": {"kubernetes.io/service-account.name": "pipewright"}},
        "type": "Opaque",
    }
    passes(scene.api.ask(token, "POST", f"{V1}/namespaces/a/secrets", body))
    body["type"] = "kubernetes.io/service-account-token"
    answer = scene.api.ask(token, "POST", f"{V1}/namespaces/a/secrets", body)
    refuses(scene, TOKENS, answer, f"a Secret of type service-account-token, as {who}")


def test_the_policies_say_what_to_do(scene: Any) -> None:
    answer = scene.api.ask(scene.strong, "DELETE", f"{V1}/namespaces/ab/resourcequotas/pipewright")
    assert "resourcequotas pipewright belongs to Pipewright: ask for a change of the Tenant" in str(
        answer.body
    )
    answer = scene.api.ask(scene.strong, "DELETE", f"{V1}/namespaces/ab")
    assert "delete the Tenant instead" in str(answer)


# --- the provisioner itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kube-system", "default", "pipewright-system", "attack-people"])
def test_the_provisioner_gives_nobody_access_outside_of_tenants(scene: Any, name: str) -> None:
    provisioner = scene.kubectl.token("provisioner", namespace="pipewright-system")
    body = {**manifest("rolebindings", "pipewright-attack"), **BINDING}
    passes(scene.api.ask(provisioner, "POST", f"{RBAC}/namespaces/ab/rolebindings", body))
    answer = scene.api.ask(provisioner, "POST", f"{RBAC}/namespaces/{name}/rolebindings", body)
    refuses(scene, CONFINED, answer, f"the provisioner binds a role in {name}")


@pytest.mark.parametrize("name", ["pipewright-system", "attack-people"])
def test_the_provisioner_deletes_no_namespace_but_tenants(scene: Any, name: str) -> None:
    provisioner = scene.kubectl.token("provisioner", namespace="pipewright-system")
    passes(scene.api.ask(provisioner, "DELETE", f"{V1}/namespaces/ab"))
    answer = scene.api.ask(provisioner, "DELETE", f"{V1}/namespaces/{name}")
    refuses(scene, CONFINED, answer, f"the provisioner deletes {name}")


def test_an_administrator_can_still_repair_by_hand(scene: Any) -> None:
    passes(scene.api.ask(scene.api.admin, "DELETE", f"{V1}/namespaces/ab/resourcequotas/pipewright"))
