"""A tenant's owner and its own ServiceAccount against the API server, with real tokens: RBAC must refuse.

The control of each attempt is the same request by the administrator: it must pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dev import web

V1, APPS = "/api/v1", "/apis/apps/v1"
RBAC, NETWORKING = "/apis/rbac.authorization.k8s.io/v1", "/apis/networking.k8s.io/v1"
OURS = "/apis/pipewright.dev/v1alpha1"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"

LABELS = {"metadata": {"labels": {"colour": "blue"}}}
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "planted"}}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "planted"}}
TOKEN = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
SCALE = {"spec": {"replicas": 0}}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "planted"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "pipewright", "namespace": "a"}],
}
ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "planted"},
    "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "app"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "app"}},
        "template": {
            "metadata": {"labels": {"app": "app"}},
            "spec": {"containers": [{"name": "app", "image": "example.invalid/app"}]},
        },
    },
}
WORKLOAD = {**DEPLOYMENT, "metadata": {"name": "planted"}}

IN_A_NAMESPACE: dict[str, tuple[str, str, Any]] = {
    "reads the connection": ("GET", V1 + "/namespaces/{it}/secrets/pipewright-database", None),
    "lists secrets": ("GET", V1 + "/namespaces/{it}/secrets", None),
    "creates a secret": ("POST", V1 + "/namespaces/{it}/secrets", SECRET),
    "changes the connection": ("PATCH", V1 + "/namespaces/{it}/secrets/pipewright-database", LABELS),
    "deletes the connection": ("DELETE", V1 + "/namespaces/{it}/secrets/pipewright-database", None),
    "mints a token": ("POST", V1 + "/namespaces/{it}/serviceaccounts/pipewright/token", TOKEN),
    "lists pods": ("GET", V1 + "/namespaces/{it}/pods", None),
    "creates a config map": ("POST", V1 + "/namespaces/{it}/configmaps", CONFIG_MAP),
    "reads config maps": ("GET", V1 + "/namespaces/{it}/configmaps", None),
    "lists workflows": ("GET", OURS + "/namespaces/{it}/workflows", None),
    "deletes workflow runs": ("DELETE", OURS + "/namespaces/{it}/workflowruns", None),
    "creates a workload": ("POST", APPS + "/namespaces/{it}/deployments", WORKLOAD),
    "scales a workload": ("PATCH", APPS + "/namespaces/{it}/deployments/app/scale", SCALE),
}
"""In a neighbour's namespace."""

OF_THE_PLATFORM: dict[str, tuple[str, str, Any]] = {
    "changes the namespace": ("PATCH", V1 + "/namespaces/{it}", LABELS),
    "changes the namespace's status": ("PATCH", V1 + "/namespaces/{it}/status", LABELS),
    "finalizes the namespace": ("PUT", V1 + "/namespaces/{it}/finalize", "as it is"),
    "deletes the namespace": ("DELETE", V1 + "/namespaces/{it}", None),
    "binds a role": ("POST", RBAC + "/namespaces/{it}/rolebindings", BINDING),
    "changes a binding": ("PATCH", RBAC + "/namespaces/{it}/rolebindings/pipewright-owners", LABELS),
    "deletes a binding": ("DELETE", RBAC + "/namespaces/{it}/rolebindings/pipewright-owners", None),
    "makes a role": ("POST", RBAC + "/namespaces/{it}/roles", ROLE),
    "changes the quota": ("PATCH", V1 + "/namespaces/{it}/resourcequotas/pipewright", LABELS),
    "forges the quota's use": ("PATCH", V1 + "/namespaces/{it}/resourcequotas/pipewright/status", LABELS),
    "deletes the quota": ("DELETE", V1 + "/namespaces/{it}/resourcequotas/pipewright", None),
    "deletes the limits": ("DELETE", V1 + "/namespaces/{it}/limitranges/pipewright", None),
    "opens the network": (
        "DELETE",
        NETWORKING + "/namespaces/{it}/networkpolicies/pipewright-default-deny",
        None,
    ),
    "changes the network": (
        "PATCH",
        NETWORKING + "/namespaces/{it}/networkpolicies/pipewright-default-deny",
        LABELS,
    ),
    "deletes the service account": ("DELETE", V1 + "/namespaces/{it}/serviceaccounts/pipewright", None),
}
"""Ours in every tenant's namespace, the own included."""

OF_THE_CLUSTER: dict[str, tuple[str, str, Any]] = {
    "lists tenants": ("GET", OURS + "/tenants", None),
    "reads its own Tenant": ("GET", OURS + "/tenants/a", None),
    "changes its own Tenant": ("PATCH", OURS + "/tenants/a", LABELS),
    "changes another Tenant": ("PATCH", OURS + "/tenants/ab", LABELS),
    "changes its Tenant's status": ("PATCH", OURS + "/tenants/a/status", LABELS),
    "deletes another Tenant": ("DELETE", OURS + "/tenants/ab", None),
    "lists namespaces": ("GET", V1 + "/namespaces", None),
    "lists secrets everywhere": ("GET", V1 + "/secrets", None),
    "lists secrets of the system": ("GET", V1 + "/namespaces/pipewright-system/secrets", None),
    "lists secrets of kube-system": ("GET", V1 + "/namespaces/kube-system/secrets", None),
    "mints the provisioner's token": (
        "POST",
        V1 + "/namespaces/pipewright-system/serviceaccounts/provisioner/token",
        TOKEN,
    ),
    "labels kube-system": ("PATCH", V1 + "/namespaces/kube-system", LABELS),
    "labels kube-system by its status": ("PATCH", V1 + "/namespaces/kube-system/status", LABELS),
    "binds cluster-admin": (
        "POST",
        RBAC + "/clusterrolebindings",
        {**BINDING, "kind": "ClusterRoleBinding"},
    ),
    "widens the owners' role": ("PATCH", RBAC + "/clusterroles/pipewright-tenant-own", LABELS),
    "switches a policy off": (
        "DELETE",
        ADMISSION + "/validatingadmissionpolicybindings/pipewright-protected-objects",
        None,
    ),
    "takes the operator's Lease": (
        "PATCH",
        "/apis/coordination.k8s.io/v1/namespaces/pipewright-system/leases/pipewright-provisioner",
        LABELS,
    ),
    "changes the kind Tenant": (
        "PATCH",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tenants.pipewright.dev",
        LABELS,
    ),
}


def cases() -> Iterator[tuple[str, str, str, str, Any]]:
    for neighbour in ("ab", "a-b"):
        for sentence, (verb, path, body) in {**IN_A_NAMESPACE, **OF_THE_PLATFORM}.items():
            yield neighbour, sentence, verb, path.format(it=neighbour), body
    for sentence, (verb, path, body) in OF_THE_PLATFORM.items():
        yield "its own", sentence, verb, path.format(it="a"), body
    for sentence, (verb, path, body) in OF_THE_CLUSTER.items():
        yield "the cluster", sentence, verb, path, body


CASES = list(cases())


@pytest.fixture(scope="module", autouse=True)
def workloads(scene: Any) -> None:
    """Something to scale."""
    for name in scene.places:
        path = f"{APPS}/namespaces/{name}/deployments"
        assert scene.api.ask(scene.api.admin, "POST", path, DEPLOYMENT, dry=False).code in (201, 409)


@pytest.mark.parametrize("who", ["owner", "account"])
@pytest.mark.parametrize(
    ("where", "sentence", "verb", "path", "body"), CASES, ids=[f"{case[1]} of {case[0]}" for case in CASES]
)
def test_rbac_refuses(
    scene: Any, who: str, where: str, sentence: str, verb: str, path: str, body: Any
) -> None:
    if body == "as it is":
        body = scene.api.ask(scene.api.admin, "GET", path.removesuffix("/finalize")).document
    token = getattr(scene.a, who)
    answer = scene.api.ask(token, verb, path, body)
    said = answer.body.decode()
    assert answer.code == 403, (sentence, answer)
    assert " cannot " in said, (sentence, said)
    assert "ValidatingAdmissionPolicy" not in said, (sentence, said)
    control = scene.api.ask(scene.api.admin, verb, path, body)
    assert 200 <= control.code < 300, (sentence, control)
    scene.tried.append((f"{who}: {sentence} ({where})", "RBAC"))


def test_each_token_is_what_it_says(scene: Any) -> None:
    """The control of all of the above: the tokens are good, and open what is their own."""
    path = f"{V1}/namespaces/a/secrets/pipewright-database"
    assert scene.api.ask(scene.a.owner, "GET", path).code == 200
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    for token, name in (
        (scene.a.owner, "attack-people:owner-a"),
        (scene.a.account, "a:pipewright"),
    ):
        answer = scene.api.ask(
            token, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, dry=False
        )
        assert answer.document["status"]["userInfo"]["username"] == f"system:serviceaccount:{name}"


@pytest.mark.parametrize("header", ["Impersonate-User", "X-Remote-User"])
def test_nobody_is_somebody_else_by_a_header(scene: Any, header: str) -> None:
    neighbour = "system:serviceaccount:attack-people:owner-ab"

    def ask(token: str) -> web.Answer:
        answer = web.ask(
            f"{scene.api.server}{V1}/namespaces/ab/secrets",
            headers={
                "Authorization": f"Bearer {token}",
                header: neighbour,
            },
            authority=scene.api.authority,
        )
        assert answer is not None
        return answer

    assert ask(scene.a.owner).code == 403
    assert ask(scene.api.admin).code == 200
    scene.tried.append((f"owner: is the neighbour's owner by {header}", "RBAC"))


def test_who_may_bind_roles_in_the_own_namespace_gives_nobody_more_than_they_have(scene: Any) -> None:
    """A platform team that grants the ClusterRole `admin`: RBAC's rule against escalation holds."""
    grant = {
        **BINDING,
        "metadata": {"name": "granted-admin"},
        "roleRef": {**BINDING["roleRef"], "name": "admin"},  # type: ignore[dict-item]
        "subjects": [{"kind": "ServiceAccount", "name": "owner-a", "namespace": "attack-people"}],
    }
    path = f"{RBAC}/namespaces/a/rolebindings"
    assert scene.api.ask(scene.api.admin, "POST", path, grant, dry=False).code == 201
    try:
        viewer = {**BINDING, "roleRef": {**BINDING["roleRef"], "name": "view"}}  # type: ignore[dict-item]
        # the authorizer hears of the binding by a watch
        scene.eventually(
            lambda: scene.api.ask(scene.a.owner, "POST", path, viewer).code == 201,
            says="the owner may bind the ClusterRole view",
        )
        for name, kind in (("cluster-admin", BINDING), ("roles of its own making", ROLE)):
            where = path if kind is BINDING else f"{RBAC}/namespaces/a/roles"
            answer = scene.api.ask(scene.a.owner, "POST", where, kind)
            assert answer.code == 403, answer
            assert "attempting to grant RBAC permissions not currently held" in answer.body.decode()
            scene.tried.append((f"owner with ClusterRole admin: binds {name}", "RBAC"))
    finally:
        scene.api.ask(scene.api.admin, "DELETE", f"{path}/granted-admin", dry=False)
