"""The Cluster port: the same rules from the dictionary and from a real API server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dev import kubeconfig, parts, ports
from pipewright import errors
from pipewright.backends import kubernetes, memory
from pipewright.plan import Manifest, Ref
from pipewright.ports import Cluster
from pipewright.runtime.answers import Answers


@pytest.fixture(params=["memory", "answers", "real"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    if request.param == "memory":
        yield memory.MemoryCluster()
        return
    if request.param == "answers":
        yield Answers(memory.MemoryCluster(), watched=())
        return
    plane: parts.Cluster = request.getfixturevalue("control_plane")
    client = await kubernetes.connect(plane.kubeconfig)
    yield kubernetes.KubernetesCluster(client)
    await client.close()


@pytest.fixture
async def namespace(cluster: Cluster) -> AsyncIterator[str]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert await cluster.create(home)
    yield name
    found = await cluster.get(Ref.of(home))
    assert found is not None
    await cluster.delete(Ref.of(home), uid=found["metadata"]["uid"])


def config_map(namespace: str, *, name: str = "one", **data: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def found(cluster: Cluster, manifest: Manifest) -> Manifest:
    there = await cluster.get(Ref.of(manifest))
    assert there is not None
    return there


async def test_absent_is_none(cluster: Cluster, namespace: str) -> None:
    assert await cluster.get(Ref.of(config_map(namespace))) is None


async def test_several_are_read_as_each_alone_would_be(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "one", "namespace": namespace},
    }
    for name in ("one", "two", "not-asked-for"):
        await cluster.apply(config_map(namespace, name=name, a=name))
    await cluster.apply(account)
    refs = [Ref.of(config_map(namespace, name=name)) for name in ("one", "two", "absent")]
    refs += [Ref.of(account), Ref.of(config_map(f"{namespace}-absent"))]
    alone = {ref: await cluster.get(ref) for ref in refs}
    assert [found is not None for found in alone.values()] == [True, True, False, True, False]
    assert await cluster.get_all(refs) == alone
    # where a page does not hold what lies there, each is read by itself
    monkeypatch.setattr(kubernetes, "PAGE", 1)
    assert await cluster.get_all(refs) == alone


async def test_apply_creates_and_then_merges(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(config_map(namespace, a="1"))
    first = await found(cluster, config_map(namespace))
    await cluster.apply(config_map(namespace, a="2"))
    second = await found(cluster, config_map(namespace))
    assert second["data"] == {"a": "2"}
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]


async def test_an_equal_apply_changes_nothing(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(config_map(namespace, a="1"))
    first = await found(cluster, config_map(namespace))
    await cluster.apply(config_map(namespace, a="1"))
    assert await found(cluster, config_map(namespace)) == first


async def test_create_leaves_what_is_there_alone(cluster: Cluster, namespace: str) -> None:
    created = await cluster.create(config_map(namespace, a="1"))
    assert created is not None
    assert created == await found(cluster, config_map(namespace))
    assert await cluster.create(config_map(namespace, a="2")) is None
    assert (await found(cluster, config_map(namespace)))["data"] == {"a": "1"}


async def test_apply_into_a_missing_namespace_waits(cluster: Cluster) -> None:
    with pytest.raises(errors.Waiting, match="its namespace"):
        await cluster.apply(config_map("not-there", a="1"))
    with pytest.raises(errors.Waiting, match="its namespace"):
        await cluster.create(config_map("not-there", a="1"))


async def test_delete_needs_the_right_uid(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(config_map(namespace, a="1"))
    ref, uid = (
        Ref.of(config_map(namespace)),
        (await found(cluster, config_map(namespace)))["metadata"]["uid"],
    )
    await cluster.delete(ref, uid=str(uuid.uuid4()))
    assert await cluster.get(ref) is not None
    await cluster.delete(ref, uid=uid)
    assert await cluster.get(ref) is None
    await cluster.delete(ref, uid=uid)


async def test_apply_with_the_uid_of_a_namesake_is_a_conflict(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(config_map(namespace, a="1"))
    stale = config_map(namespace, a="2")
    stale["metadata"]["uid"] = str(uuid.uuid4())
    with pytest.raises(errors.Conflict):
        await cluster.apply(stale)


async def test_a_list_has_whole_objects_and_obeys_labels(cluster: Cluster, namespace: str) -> None:
    for name, colour in (("one", "red"), ("two", "blue")):
        manifest = config_map(namespace, name=name)
        manifest["metadata"]["labels"] = {"colour": colour}
        await cluster.apply(manifest)
    listed = await cluster.list(
        api_version="v1", kind="ConfigMap", namespace=namespace, labels={"colour": "red"}
    )
    assert [(item["kind"], item["apiVersion"], item["metadata"]["name"]) for item in listed] == [
        ("ConfigMap", "v1", "one")
    ]


async def test_metadata_is_removed_whoever_set_it(cluster: Cluster, namespace: str) -> None:
    manifest = config_map(namespace, a="1")
    manifest["metadata"] |= {"labels": {"one": "a", "two": "b"}, "annotations": {"three": "c", "four": "d"}}
    assert await cluster.create(manifest)
    there = await found(cluster, manifest)
    ref, uid = Ref.of(manifest), there["metadata"]["uid"]
    await cluster.remove_metadata(ref, uid=uid, labels=["one", "absent"], annotations=["three"])
    left = await found(cluster, manifest)
    assert (left["metadata"]["labels"], left["metadata"]["annotations"]) == ({"two": "b"}, {"four": "d"})
    await cluster.remove_metadata(ref, uid=uid, labels=["one"], annotations=["three"])
    assert await found(cluster, manifest) == left
    with pytest.raises(errors.Conflict):
        await cluster.remove_metadata(ref, uid=str(uuid.uuid4()), labels=["two"], annotations=[])
    assert await found(cluster, manifest) == left
    await cluster.remove_metadata(
        Ref.of(config_map(namespace, name="gone")), uid=uid, labels=["a"], annotations=[]
    )


async def test_finalizers_hold_an_object_until_they_are_gone(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(config_map(namespace, a="1"))
    ref, there = Ref.of(config_map(namespace)), await found(cluster, config_map(namespace))
    await cluster.set_finalizers(
        ref, finalizers=["pipewright.dev/cleanup"], resource_version=there["metadata"]["resourceVersion"]
    )
    await cluster.delete(ref, uid=there["metadata"]["uid"])
    going = await found(cluster, config_map(namespace))
    assert "deletionTimestamp" in going["metadata"]
    await cluster.set_finalizers(ref, finalizers=[], resource_version=going["metadata"]["resourceVersion"])
    assert await cluster.get(ref) is None


async def test_finalizers_of_a_changed_object_are_a_conflict(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(config_map(namespace, a="1"))
    before = await found(cluster, config_map(namespace))
    await cluster.apply(config_map(namespace, a="2"))
    with pytest.raises(errors.Conflict):
        await cluster.set_finalizers(
            Ref.of(before), finalizers=["x.dev/y"], resource_version=before["metadata"]["resourceVersion"]
        )


async def test_a_refused_object_names_the_field_and_stalls(control_plane: parts.Cluster) -> None:
    client = await kubernetes.connect(control_plane.kubeconfig)
    try:
        bad = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "Not_A_Label"}}
        with pytest.raises(errors.Stalled, match=r"metadata\.name"):
            await kubernetes.KubernetesCluster(client).apply(bad)
    finally:
        await client.close()


async def test_a_silent_server_is_unreachable(tmp_path: Path) -> None:
    endpoint = kubeconfig.Endpoint(server=f"http://127.0.0.1:{ports.free()}", authority=b"", context="nobody")
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, endpoint=endpoint, user="nobody", token="t")
    client = await kubernetes.connect(path)
    try:
        with pytest.raises(errors.Unreachable, match="did not answer"):
            await kubernetes.KubernetesCluster(client).get(
                Ref(api_version="v1", kind="Namespace", name="default")
            )
    finally:
        await client.close()
