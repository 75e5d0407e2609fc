"""Callers on a real API server: audience, roles, another namespace; WorkflowRuns that are really created."""

from __future__ import annotations

import pytest

from dev import kubeconfig
from pipewright.backends import kubernetes
from pipewright.backends.kubernetes import KubernetesCluster

RUN = {"project": "acme/shop", "pipeline": "ci"}
NAMESPACE, OTHER = "gateway-auth", "gateway-auth-other"


@pytest.fixture(scope="module")
async def cluster(control_plane, tmp_path_factory):
    """The API server as the gateway's own ServiceAccount reaches it."""
    path = tmp_path_factory.mktemp("kube") / "kubeconfig"
    token = control_plane.kubectl.token("gateway", namespace="pipewright-system")
    kubeconfig.write(path, endpoint=control_plane.endpoint, user="gateway", token=token)
    client = await kubernetes.connect(path)
    yield KubernetesCluster(client)
    await client.close()


@pytest.fixture(scope="module")
def people(control_plane):
    """Owner, editor and viewer of one namespace, and somebody of another: name → function for a token."""
    kubectl = control_plane.kubectl
    kubectl.apply(
        *(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            for name in (NAMESPACE, OTHER)
        )
    )
    members = {"owner": NAMESPACE, "editor": NAMESPACE, "viewer": NAMESPACE, "stranger": OTHER}
    kubectl.apply(
        *(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
            for name, namespace in members.items()
        ),
        *(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": name, "namespace": namespace},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": f"pipewright-{'editor' if name == 'stranger' else name}",
                },
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            }
            for name, namespace in members.items()
        ),
    )
    return lambda name, audience="pipewright": kubectl.token(name, namespace=members[name], audience=audience)


@pytest.fixture(scope="module")
async def guarded(serve, cluster):
    """A gateway that asks the real API server, with a tenant in the namespace."""
    async with serve(cluster=cluster) as world:
        tenant = await world.tenant(namespace=NAMESPACE)
        yield world, tenant, await world.hook(tenant)


MATRIX = {
    "an editor imports": ("editor", "POST", "integrations/github/history", 200),
    "an editor reads deliveries": ("editor", "GET", "integrations/github/deliveries", 200),
    "an editor asks for a prediction": ("editor", "POST", "models/m/predictions", 404),
    "a viewer reads deliveries": ("viewer", "GET", "integrations/github/deliveries", 200),
    "a viewer reads decisions": ("viewer", "GET", "workflows/heal/decisions", 200),
    "a viewer does not import": ("viewer", "POST", "integrations/github/history", 403),
    "a viewer does not ask for predictions": ("viewer", "POST", "models/m/predictions", 403),
    "a viewer lists dead letters": ("viewer", "GET", "integrations/github/deadletters", 200),
    "a viewer replays none": ("viewer", "POST", "integrations/github/deadletters/replay", 403),
    "a viewer discards none": ("viewer", "DELETE", "integrations/github/deadletters", 403),
    "an editor replays them": ("editor", "POST", "integrations/github/deadletters/replay", 200),
    "an editor discards them": ("editor", "DELETE", "integrations/github/deadletters", 200),
    "an editor reads no payload": ("editor", "GET", "integrations/github/deadletters/d-1/payload", 403),
    "an owner may read a payload": ("owner", "GET", "integrations/github/deadletters/d-1/payload", 404),
    "a stranger reads nothing": ("stranger", "GET", "integrations/github/deliveries", 403),
    "a stranger imports nothing": ("stranger", "POST", "integrations/github/history", 403),
}


@pytest.mark.parametrize(("who", "method", "path", "status"), MATRIX.values(), ids=MATRIX)
async def test_by_role(guarded, people, eventually, who, method, path, status):
    world, _, _ = guarded
    token = people(who)
    options = {"json": RUN} if path.startswith("models") and method == "POST" else {}

    async def answered():  # the roles' aggregation takes the controller manager a moment
        answer = await world.rest(method, f"/v1/namespaces/{NAMESPACE}/{path}", token=token, **options)
        return answer if answer.status == status else None

    assert await eventually(answered, within=15)


async def test_a_token_for_another_audience_is_401(guarded, people):
    world, _, _ = guarded
    for audience in ("", "vault"):
        answer = await world.rest(
            "GET", f"/v1/namespaces/{NAMESPACE}/workflows/heal/decisions", token=people("editor", audience)
        )
        assert answer.status == 401


async def test_one_who_may_in_a_namespace_that_is_no_tenants_learns_that_it_is_404(guarded, people):
    world, _, _ = guarded
    answer = await world.rest(
        "GET", f"/v1/namespaces/{OTHER}/workflows/heal/decisions", token=people("stranger")
    )
    assert answer.status == 404


async def test_a_fired_decision_becomes_a_workflow_run_of_the_cluster(
    guarded, control_plane, people, github, eventually
):
    world, tenant, hook = guarded
    await world.trigger(tenant)
    answer = await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"), id="d-9")
    assert answer.status == 202

    async def created():
        found = control_plane.kubectl.get("--namespace", NAMESPACE, "workflowruns")
        return found["items"] if found else []

    [run] = await eventually(created, within=20)
    assert run["spec"]["event"]["deliveryId"] == "d-9"
    assert run["metadata"]["labels"] == {"pipewright.dev/workflow": "heal"}
