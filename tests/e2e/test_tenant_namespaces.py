"""A Tenant's namespaces on real servers: several, adopted, released, bounded together, and set back."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

UID_LABEL = "pipewright.dev/tenant-uid"
LEVEL = "pod-security.kubernetes.io/enforce"


@pytest.fixture
def home(tenants: Any) -> Iterator[str]:
    """A namespace that is there before any Tenant."""
    name = f"was-there-{uuid.uuid4().hex[:6]}"
    labels = {LEVEL: "privileged", "team": "shop"}
    tenants.kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )
    yield name
    tenants.kubectl.attempt("delete", "namespace", name, "--wait=false")


def service(tenants: Any, namespace: str, name: str) -> bool:
    """Whether one more Service was let in."""
    made = tenants.kubectl.attempt("create", "service", "clusterip", name, "--tcp=80", "-n", namespace)
    if made.returncode:
        assert "exceeded quota" in made.stderr, made.stderr
    return made.returncode == 0


def hard(tenants: Any, namespace: str) -> int:
    """What the server enforces in the namespace."""
    quota = tenants.kubectl.get("resourcequota", "pipewright", "-n", namespace) or {}
    return int((quota.get("status") or {}).get("hard", {}).get("services", "0"))


def events(tenants: Any, name: str, reason: str) -> list[str]:
    """The notes of a Tenant's Events."""
    selector = f"--field-selector=involvedObject.name={name},reason={reason}"
    return [it["message"] for it in tenants.kubectl.get("events", selector)["items"]]


def test_namespaces_come_and_go_and_share_the_quota(tenants: Any, eventually: Any) -> None:
    name = tenants.ready(quota={"services": 4}, deletionPolicy="Delete")["metadata"]["name"]
    more = f"{name}-b"
    spec: dict[str, Any] = {"quota": {"services": 4}, "deletionPolicy": "Delete"}
    labelled = {"name": more, "labels": {"stage": "test"}, "annotations": {"note": "ours"}}
    tenants.apply(name, namespaces=[{"name": name}, labelled], **spec)
    tenants.wait_ready(name)
    eventually(lambda: (hard(tenants, name), hard(tenants, more)) == (2, 2), says="each has two of four")
    found = tenants.kubectl.get("namespace", more)["metadata"]
    assert (found["labels"]["stage"], found["annotations"]["note"]) == ("test", "ours")
    assert tenants.kubectl.get("secret", "pipewright-database", "-n", more) is not None

    assert [service(tenants, more, f"s{index}") for index in range(3)] == [True, True, False]
    tenants.kubectl.run("annotate", "tenant", name, "pipewright.dev/check-requested-at=now")
    eventually(lambda: tenants.get(name)["status"].get("checkedFor") == "now", says="it was checked")
    eventually(lambda: (hard(tenants, name), hard(tenants, more)) == (1, 3), says="the busy one has three")
    assert [service(tenants, more, f"t{index}") for index in range(2)] == [True, False]

    tenants.apply(name, namespaces=[{"name": name}, {"name": more}], **spec)
    tenants.wait_ready(name)
    found = tenants.kubectl.get("namespace", more)["metadata"]
    assert "stage" not in found["labels"]
    assert "note" not in found["annotations"]

    tenants.apply(name, namespaces=[{"name": name}], **spec)
    eventually(lambda: tenants.kubectl.get("namespace", more) is None, within=60, says=f"{more} is gone")
    tenants.wait_ready(name)
    eventually(lambda: hard(tenants, name) == 4, says="the one that is left has it all")


def test_a_namespace_that_leaves_under_retain_stays_without_us(tenants: Any, eventually: Any) -> None:
    first = f"t-{uuid.uuid4().hex[:8]}"
    more, owners = f"{first}-b", {"owners": [{"kind": "User", "name": "ada"}]}
    tenants.apply(first, namespaces=[{"name": first}, {"name": more}], access=owners)
    tenants.wait_ready(first)
    tenants.apply(first, namespaces=[{"name": first}], access=owners)
    eventually(
        lambda: UID_LABEL not in tenants.kubectl.get("namespace", more)["metadata"]["labels"],
        says=f"{more} is released",
    )
    left = tenants.kubectl.get("namespace", more)["metadata"]
    assert left["labels"][LEVEL] == "restricted"
    assert not [label for label in left["labels"] if label.startswith("pipewright.dev/")]
    assert tenants.kubectl.get("secret", "pipewright-database", "-n", more) is None
    assert tenants.kubectl.run("get", "rolebindings", "-n", more, "-o", "name") == ""
    assert tenants.kubectl.get("networkpolicy", "pipewright-default-deny", "-n", more) is not None
    assert tenants.wait_ready(first)["status"]["namespaces"][0]["name"] == first
    tenants.kubectl.run("delete", "namespace", more, "--wait=false")


def test_an_adopted_namespace_outlives_its_tenant(tenants: Any, home: str, eventually: Any) -> None:
    tenant = tenants.ready(namespaces=[{"name": home, "adopt": True}], deletionPolicy="Delete")
    name, uid = tenant["metadata"]["name"], tenant["metadata"]["uid"]
    found = tenants.kubectl.get("namespace", home)["metadata"]
    assert (found["labels"][UID_LABEL], found["labels"][LEVEL]) == (uid, "restricted")
    assert found["labels"]["team"] == "shop"
    assert tenants.kubectl.get("secret", "pipewright-database", "-n", home) is not None

    thief = tenants.apply(namespaces=[{"name": home, "adopt": True}])

    def stalled() -> Any:
        conditions = ((tenants.get(thief) or {}).get("status") or {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Stalled" and c["status"] == "True"), None)

    told = eventually(stalled, says="the second Tenant is refused")
    assert told["reason"] == "NamespaceOwnedByOther"
    assert name in told["message"]

    tenants.delete(name)
    eventually(lambda: tenants.get(name) is None, within=60, says="the Tenant is gone")
    left = tenants.kubectl.get("namespace", home)
    assert "deletionTimestamp" not in left["metadata"]
    assert not [label for label in left["metadata"]["labels"] if label.startswith("pipewright.dev/")]
    assert left["metadata"]["labels"]["team"] == "shop"
    kinds = "resourcequotas,limitranges,networkpolicies,rolebindings,secrets"
    assert tenants.kubectl.run("get", kinds, "-n", home, "-o", "name") == ""


def test_who_changed_our_fields_is_told_when_they_are_set_back(tenants: Any, eventually: Any) -> None:
    name = tenants.ready(quota={"pods": 3})["metadata"]["name"]
    kubectl = tenants.kubectl
    opened = '{"spec":{"ingress":[{}]}}'
    kubectl.run(
        "patch",
        "networkpolicy",
        "pipewright-default-deny",
        "-n",
        name,
        "--type=merge",
        "-p",
        opened,
        "--field-manager=somebody",
    )
    raised = '{"spec":{"hard":{"pods":"4711"}}}'
    kubectl.run(
        "patch",
        "resourcequota",
        "pipewright",
        "-n",
        name,
        "--type=merge",
        "-p",
        raised,
        "--field-manager=eve",
    )
    kubectl.run("annotate", "tenant", name, "pipewright.dev/check-requested-at=please")

    def back() -> bool:
        policy = kubectl.get("networkpolicy", "pipewright-default-deny", "-n", name)
        quota = kubectl.get("resourcequota", "pipewright", "-n", name)
        return "ingress" not in policy["spec"] and quota["spec"]["hard"] == {"pods": "3"}

    eventually(back, says="policy and quota are as they were")
    notes = " ".join(eventually(lambda: events(tenants, name, "DriftCorrected") or None, says="it is told"))
    assert "spec.hard.pods was changed by eve" in notes
    assert "spec.ingress was changed by somebody" in notes
    assert "4711" not in notes


def test_the_network_follows_the_spec_and_comes_to_rest(tenants: Any, audit: Any, eventually: Any) -> None:
    network = {
        "allowFrom": [{"namespace": "default"}, {"tenant": "other"}],
        "egress": [{"cidr": "0.0.0.0/0", "ports": [{"port": 443}, {"port": 8000, "endPort": 8080}]}],
    }
    name = tenants.ready(network=network, gpuQuota=1)["metadata"]["name"]
    listed = tenants.kubectl.get("networkpolicy", "pipewright-allow-listed", "-n", name)["spec"]
    assert listed["egress"][0]["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}]
    quota = tenants.kubectl.get("resourcequota", "pipewright", "-n", name)
    assert quota["spec"]["hard"] == {"requests.nvidia.com/gpu": "1"}
    tenants.apply(name, network={"isolation": "Open"})
    tenants.wait_ready(name)
    listed = tenants.kubectl.get("networkpolicy", "pipewright-allow-listed", "-n", name)["spec"]
    assert listed["ingress"] == [{}]

    since = audit.position()
    tenants.kubectl.run("annotate", "tenant", name, "pipewright.dev/check-requested-at=again")
    eventually(lambda: tenants.get(name)["status"].get("checkedFor") == "again", says="it was checked")
    writes = audit.writes(since=since, user="system:serviceaccount:pipewright-system:provisioner")
    about = [it for it in writes if name in (it["namespace"], it["name"].split(".")[0])]
    assert [(it["resource"], it["name"]) for it in about] == [("tenants", name)]
