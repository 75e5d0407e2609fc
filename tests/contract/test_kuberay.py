"""Trainings by KubeRay: what is made in a real API server, and what a real KubeRay once made of it.

KubeRay itself does not run here. What it wrote into a status, recorded from one that did, is written again.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import parts, places
from ml import contract
from pipewright import errors
from pipewright.backends import kuberay, kubernetes
from pipewright.backends.kuberay import KubeRayCompute
from pipewright.backends.memory import MemoryCluster
from pipewright.plan import Manifest, Ref
from pipewright.ports import Cluster
from pipewright.training_facts import KUBE_RAY, JobPlace, JobStatus, Pod

RECORDED = places.SHARED_DATA / "kuberay-transitions"
CRD = yaml.safe_load((Path(__file__).parent / "rayjob-crd.yaml").read_text())
IMAGE = "registry.example.com/pipewright/training:1"
CANARY = "X-Amz-Signature=c0ffee"
JOB = contract.TrainingJob(
    submission_id="0123456789abcdef0123456789abcdef",
    window_uri=f"https://bucket.example.com/window?{CANARY}",
    window_sha256="0" * 64,
    artifact_uri=f"https://bucket.example.com/model?{CANARY}",
    report_uri=f"https://bucket.example.com/report.json?{CANARY}",
)


@dataclass(frozen=True, kw_only=True)
class World:
    """A namespace in a real cluster whose API server knows RayJobs."""

    cluster: Cluster
    client: Any
    place: JobPlace
    compute: KubeRayCompute

    @property
    def ref(self) -> Ref:
        """The RayJob of `JOB`."""
        name, namespace = f"training-{JOB.submission_id}", self.place.namespace
        return Ref(api_version="ray.io/v1", kind="RayJob", namespace=namespace, name=name)

    async def made(self) -> Manifest:
        """The RayJob."""
        found = await self.cluster.get(self.ref)
        assert found is not None
        return found

    async def says(self, status: Any) -> JobStatus | None:
        """What comes of a status that KubeRay writes."""
        manifest = await self.made()
        path = f"/apis/ray.io/v1/namespaces/{self.place.namespace}/rayjobs/{self.ref.name}/status"
        await _call(self.client, "PUT", path, {**manifest, "status": status or {}})
        return await self.compute.status(JOB.submission_id, place=self.place)


async def _call(client: Any, method: str, path: str, body: Any) -> None:
    """What only an administrator, or KubeRay, does."""
    await kubernetes.KubernetesCluster(client)._request(method, path, what=f"{method} {path}", body=body)


@pytest.fixture(scope="module")
async def known(control_plane: parts.Cluster) -> AsyncIterator[Any]:
    """A client of a server that knows the kind."""
    client = await kubernetes.connect(control_plane.kubeconfig)
    at = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    try:
        await _call(client, "POST", at, CRD)
    except kubernetes._AlreadyExists:
        await client.close()
        pytest.skip("this cluster has RayJobs already, and perhaps a KubeRay: it is left in peace")
    cluster = kubernetes.KubernetesCluster(client)
    async with asyncio.timeout(60):
        while True:
            try:
                await cluster.list(api_version="ray.io/v1", kind="RayJob", namespace="default")
                break
            except (errors.BackendError, kubernetes._NotFound):
                await asyncio.sleep(0.1)
    yield client
    await _call(client, "DELETE", f"{at}/{CRD['metadata']['name']}", None)
    await client.close()


@pytest.fixture
async def world(known: Any) -> AsyncIterator[World]:
    cluster, name = kubernetes.KubernetesCluster(known), f"kuberay-{uuid.uuid4().hex[:8]}"
    home = await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert home is not None
    # a real one: what an owner that is not there is said to own, the cluster collects
    model = await cluster.create(
        {
            "apiVersion": "pipewright.dev/v1alpha1",
            "kind": "Model",
            "metadata": {"name": "run-failure", "namespace": name},
            "spec": {"task": "RunFailure"},
        }
    )
    assert model is not None
    place = JobPlace(
        tenant_id="abcdefghijkm", namespace=name, model="run-failure", model_uid=model["metadata"]["uid"],
        compute=KUBE_RAY,
    )  # fmt: skip
    yield World(cluster=cluster, client=known, place=place, compute=KubeRayCompute(cluster, image=IMAGE))
    await cluster.delete(Ref.of(home), uid=home["metadata"]["uid"])


async def submit(world: World, **pod: Any) -> None:
    await world.compute.submit(JOB, place=world.place, pod=Pod(**pod))


async def test_a_job_is_a_rayjob_whose_description_lies_in_a_secret(world: World) -> None:
    assert await world.compute.status(JOB.submission_id, place=world.place) is None
    await submit(world, deadline=timedelta(minutes=20), start_deadline=timedelta(minutes=5))
    made = await world.made()
    spec = made["spec"]
    assert CANARY not in json.dumps(made), "whoever may read RayJobs would read the bucket"
    assert len(made["metadata"]["name"]) <= 47
    assert (spec["jobId"], spec["entrypoint"]) == (JOB.submission_id, "python -m ml.train")
    assert (spec["activeDeadlineSeconds"], spec["preRunningDeadlineSeconds"]) == (1200, 300)
    assert (spec["backoffLimit"], spec["shutdownAfterJobFinishes"]) == (0, True)
    assert "suspend" not in spec
    [container] = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE
    told = next(it["valueFrom"]["secretKeyRef"] for it in container["env"] if "valueFrom" in it)
    secret = await world.cluster.get(
        Ref(api_version="v1", kind="Secret", namespace=world.place.namespace, name=told["name"])
    )
    assert secret is not None
    owner = secret["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"]) == ("Model", world.place.model_uid)
    variable = base64.b64decode(secret["data"][told["key"]])
    assert contract.from_json(contract.TrainingJob, base64.b64decode(variable)) == JOB


async def test_what_the_model_asks_for_is_what_the_pod_asks_for(world: World) -> None:
    taint = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    await submit(
        world, image="other:2", cpus=4, memory="8Gi", gpus=1, node_selector={"pool": "gpu"},
        tolerations=(taint,), queue="trainings",
    )  # fmt: skip
    made = await world.made()
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "trainings"
    assert made["spec"]["entrypointNumGpus"] == 1
    assert "suspend" not in made["spec"], "it is Kueue's to write"
    pod = made["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"pool": "gpu"}, [taint])
    [container] = pod["containers"]
    wanted = {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": wanted, "limits": wanted}
    assert container["image"] == "other:2"


async def test_the_pod_keeps_to_the_restricted_standard(world: World, known: Any) -> None:
    """The API server itself is asked, by a pod of this shape in a namespace that enforces it."""
    await submit(world)
    head = (await world.made())["spec"]["rayClusterSpec"]["headGroupSpec"]
    name = f"{world.place.namespace}-restricted"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    home = await world.cluster.create(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )
    assert home is not None
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "head", "namespace": name},
        "spec": head["template"]["spec"],
    }  # fmt: skip
    try:
        await _call(known, "POST", f"/api/v1/namespaces/{name}/pods?dryRun=All", pod)
    finally:
        await world.cluster.delete(Ref.of(home), uid=home["metadata"]["uid"])


async def test_submitted_twice_it_is_one_and_another_attempt_replaces_the_secret(world: World) -> None:
    await submit(world)
    first = await world.made()
    await submit(world, gpus=1)
    assert await world.made() == first
    other = replace(JOB, submission_id="f" * 32)
    await world.compute.submit(other, place=world.place, pod=Pod())
    secrets = await world.cluster.list(api_version="v1", kind="Secret", namespace=world.place.namespace)
    [secret] = [it for it in secrets if it["metadata"]["name"].startswith("training-")]
    told = base64.b64decode(base64.b64decode(secret["data"][contract.JOB_VARIABLE]))
    assert contract.from_json(contract.TrainingJob, told) == other


async def test_a_stopped_job_is_deleted_and_stopping_again_is_no_error(world: World) -> None:
    await submit(world)
    for _ in range(2):
        await world.compute.stop(JOB.submission_id, place=world.place)
    assert await world.compute.status(JOB.submission_id, place=world.place) is None


class Bare(MemoryCluster):
    """What a server answers that has no such kind: as for a namespace that is not there."""

    async def create(self, manifest: Manifest) -> Manifest | None:
        if manifest["kind"] == "RayJob":
            raise errors.Waiting("NotFound", f"{Ref.of(manifest)}: its namespace is not there")
        return await super().create(manifest)


async def test_without_kuberay_it_says_what_to_install() -> None:
    place = JobPlace(tenant_id="t", namespace="acme", model="m", model_uid="u", compute=KUBE_RAY)
    cluster = Bare()
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}})
    with pytest.raises(errors.Waiting, match="install KubeRay") as told:
        await KubeRayCompute(cluster, image=IMAGE).submit(JOB, place=place, pod=Pod())
    assert told.value.reason == "KubeRayMissing"


async def test_without_an_image_nothing_is_made(world: World) -> None:
    compute = KubeRayCompute(world.cluster, image="")
    assert compute.trouble(KUBE_RAY, image="own:1") is None
    trouble = compute.trouble(KUBE_RAY, image="")
    assert trouble is not None
    assert trouble.reason == "NoTrainingImage"
    with pytest.raises(errors.Stalled, match=r"set spec.training.compute.kubeRay.image"):
        await compute.submit(JOB, place=world.place, pod=Pod())
    assert await compute.status(JOB.submission_id, place=world.place) is None


STORIES = {
    "ok": (["Pending", "Succeeded"], ""),
    "app-failed": (["Pending", "Failed"], "AppFailed: Job entrypoint command failed with exit code 3, last"),
    "deadline": (
        ["Pending", "Running", "Failed"],
        "DeadlineExceeded: The RayJob has passed the activeDeadlineSeconds.",
    ),
    "no-gpu": (
        ["Pending", "Failed"],
        "PreRunningDeadlineExceeded: The RayJob has passed the preRunningDeadlineSeconds.",
    ),
    "suspended-resumed": (["Pending", "Succeeded"], ""),
    # the job ran twice under one RayJob
    "head-killed": (["Pending", "Running", "Pending", "Running", "Failed"], "DeadlineExceeded: "),
    "retried-then-failed": (["Pending", "Failed"], "AppFailed: "),
    "deleted-while-running": (["Pending", "Running"], ""),
}


@pytest.mark.parametrize("story", STORIES)
async def test_what_a_real_kuberay_wrote_is_understood(world: World, story: str) -> None:
    file = RECORDED / f"{story}.jsonl"
    if not file.is_file():
        pytest.skip(f"no recording at {file}")
    phases, message = STORIES[story]
    await submit(world)
    found: list[JobStatus] = []
    for line in file.read_text().splitlines():
        event = json.loads(line)
        if event["type"] == "DELETED":
            continue
        told = await world.says(event["status"])
        assert told is not None
        if not found or found[-1].phase != told.phase:
            found.append(told)
    assert [each.phase for each in found] == phases
    assert found[-1].message.startswith(message)
    assert "\n" not in found[-1].message


def test_what_is_being_deleted_runs_until_it_is_gone() -> None:
    metadata = {"name": "training-x", "deletionTimestamp": "2026-03-01T12:00:00Z"}
    for status in ({}, {"jobDeploymentStatus": "Initializing"}, {"jobDeploymentStatus": "Suspended"}):
        assert kuberay.status_of({"metadata": metadata, "status": status}) == JobStatus(phase="Running")


@pytest.mark.parametrize(
    ("told", "phase"),
    [
        (("Complete", "STOPPED"), "Stopped"),
        (("ValidationFailed", None), "Failed"),
        (("Waiting", None), "Pending"),
        (("Retrying", "FAILED"), "Pending"),
        (("Running", "SUCCEEDED"), "Running"),
        (("SomethingNew", None), "Pending"),
    ],
)
def test_states_that_were_not_recorded(told: tuple[str, str | None], phase: str) -> None:
    status = {"jobDeploymentStatus": told[0], **({"jobStatus": told[1]} if told[1] else {})}
    assert kuberay.status_of({"metadata": {}, "status": status}).phase == phase
