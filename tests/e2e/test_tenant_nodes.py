"""Which nodes a tenant's pods run on, as a real API server's plug-in PodNodeSelector says it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from dev import files, product
from dev.stack import Stack

NODES = "scheduler.alpha.kubernetes.io/node-selector"
PROVISIONER = "provisioner"


@pytest.fixture
def serve(stack: Stack) -> Iterator[Callable[[dict[str, str]], None]]:
    """Gives the server in the provisioner's settings another node selector, and takes it back."""
    if stack.parts.cluster().audit_log is None:
        pytest.skip("the cluster is somebody else's: PodNodeSelector may be off there")
    path = product.settings_file(stack.folder, PROVISIONER)
    before = path.read_text()

    def restart(text: str) -> None:
        stack.stop(PROVISIONER)
        files.write(path, text)
        stack.start(PROVISIONER)

    def change(labels: dict[str, str]) -> None:
        settings = yaml.safe_load(before)
        settings["servers"][0]["nodeSelector"] = labels
        restart(yaml.safe_dump(settings, sort_keys=False))

    yield change
    restart(before)


def pod(name: str, namespace: str, selector: dict[str, str]) -> str:
    """A Pod as Pod Security wants it, with a node selector of its own."""
    container = {
        "name": "work",
        "image": "work",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "serviceAccountName": "pipewright",
        "nodeSelector": selector,
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    metadata = {"name": name, "namespace": namespace}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def test_pods_run_on_the_nodes_of_the_tenants_server(
    tenants: Any, serve: Callable[[dict[str, str]], None], eventually: Any
) -> None:
    kubectl = tenants.kubectl

    def annotated(namespace: str) -> str | None:
        found: dict[str, str] = kubectl.get("namespace", namespace)["metadata"]["annotations"]
        return found.get(NODES)

    def runs_on(namespace: str, name: str, selector: dict[str, str] | None = None) -> dict[str, str]:
        made = kubectl.run("create", "-f", "-", "-o", "json", given=pod(name, namespace, selector or {}))
        return dict(json.loads(made)["spec"].get("nodeSelector") or {})

    serve({"pool": "eu", "disk": "ssd"})
    name = tenants.ready()["metadata"]["name"]
    assert annotated(name) == "disk=ssd,pool=eu"
    assert runs_on(name, "plain") == {"disk": "ssd", "pool": "eu"}
    assert runs_on(name, "choosy", {"gpu": "yes"}) == {"disk": "ssd", "pool": "eu", "gpu": "yes"}
    refused = kubectl.attempt("create", "-f", "-", given=pod("elsewhere", name, {"pool": "us"}))
    assert refused.returncode
    assert "pod node label selector conflicts with its namespace node label selector" in refused.stderr

    serve({"pool": "us"})
    eventually(lambda: annotated(name) == "pool=us", says="the node selector follows the settings")
    serve({})
    eventually(lambda: annotated(name) is None, says="the node selector is taken away")
    tenants.wait_ready(name)
