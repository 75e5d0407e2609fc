"""Trainings as KubeRay's RayJob: a Ray cluster of one pod for each, in the model's own namespace.

    submit ─► Secret (what the job is told) ─► RayJob ─► KubeRay: cluster, job, and the cluster's end

The job's description has presigned addresses, which are credentials: it lies in a Secret that the pod's
environment takes it from, one for each Model, and goes with the Model. A RayJob is known by its name, which
is the submission's: made twice it is the same. Admission is Kueue's where a queue is named, and `suspend`,
which is how it admits, is never written here.

https://docs.ray.io/en/latest/cluster/kubernetes/ (RayJob, ray.io/v1), https://kueue.sigs.k8s.io/docs/tasks/run/rayjobs/
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from ml import contract
from pipewright import errors
from pipewright.api.v1alpha1 import Model
from pipewright.plan import Manifest, Ref
from pipewright.ports import Cluster
from pipewright.training_facts import JobPhase, JobPlace, JobStatus, Pod, one_line

API_VERSION: Final = "ray.io/v1"
QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
MODEL_LABEL: Final = "pipewright.dev/model"
KEPT: Final = 3600
"""Seconds for which KubeRay keeps a RayJob that has ended; its cluster goes at once."""
_GPU: Final = "nvidia.com/gpu"
_USER: Final = 1000
"""Ray's images run as this user."""
_STORE: Final = 128 * 1024 * 1024
"""Bytes of Ray's object store, which a training does not use."""

_ENDED: Final[Mapping[str, Mapping[str, JobPhase]]] = {
    "Complete": {"SUCCEEDED": "Succeeded", "STOPPED": "Stopped"},
    "Failed": {},
    "ValidationFailed": {},
}
"""`jobDeploymentStatus` → `jobStatus` → phase; what is not there has failed."""


class KubeRayCompute:
    """`pipewright.ports.training.Compute` on KubeRay."""

    def __init__(self, cluster: Cluster, *, image: str) -> None:
        """`image` is for Models that name none; empty: they must."""
        self._cluster, self._image = cluster, image

    async def submit(self, job: contract.TrainingJob, *, place: JobPlace, pod: Pod) -> None:
        """Make the Secret, then the RayJob, unless it is there.

        Raises:
            Waiting: nobody has installed KubeRay.
        """
        wrong = self.trouble(place.compute, image=pod.image)
        if wrong is not None:
            raise wrong
        if await self._cluster.get(_ref(place, job.submission_id)) is not None:
            return
        await self._cluster.apply(_secret(job, place))
        image = pod.image or self._image
        try:
            await self._cluster.create(_ray_job(job.submission_id, place, pod, image=image))
        except errors.Waiting:  # its namespace is there: the Secret is in it
            raise errors.Waiting(
                "KubeRayMissing", "the cluster knows no RayJobs: install KubeRay, or name a Ray cluster"
            ) from None

    async def status(self, submission_id: str, *, place: JobPlace) -> JobStatus | None:
        """The RayJob's state; one that is being deleted runs until it is gone."""
        found = await self._cluster.get(_ref(place, submission_id))
        return None if found is None else status_of(found)

    def trouble(self, compute: str, *, image: str) -> errors.Stalled | None:
        """Without an image there is nothing to run."""
        if image or self._image:
            return None
        return errors.Stalled(
            "NoTrainingImage",
            "the operator's settings name no training image (kubeRay.image):"
            " set spec.training.compute.kubeRay.image",
        )

    async def stop(self, submission_id: str, *, place: JobPlace) -> None:
        """Delete the RayJob; KubeRay ends its job and its cluster."""
        ref = _ref(place, submission_id)
        found = await self._cluster.get(ref)
        if found is not None:
            await self._cluster.delete(ref, uid=found["metadata"]["uid"])


def status_of(found: Manifest) -> JobStatus:
    """What KubeRay says by its two enums.

    Each other state of the deployment is one before the job: Initializing, Waiting, Suspending, Suspended,
    Retrying, and none at all. A job whose head was killed is pending once more, and is run again.
    """
    told: Mapping[str, Any] = found.get("status") or {}
    deployment, job = told.get("jobDeploymentStatus") or "", told.get("jobStatus") or ""
    phase: JobPhase
    if deployment in _ENDED:
        phase = _ENDED[deployment].get(job, "Failed")
    elif "deletionTimestamp" in found["metadata"] or (deployment == "Running" and job not in ("", "PENDING")):
        phase = "Running"
    else:
        phase = "Pending"
    reason, message = told.get("reason") or "", one_line(told.get("message"))
    words = f"{reason}: {message}" if reason and message else reason or message
    return JobStatus(phase=phase, message=words if phase == "Failed" else "")


def _name(submission_id: str) -> str:
    # KubeRay names the cluster, its Services and pods after it, so that it takes no more than 47 characters
    return f"training-{submission_id}"


def _ref(place: JobPlace, submission_id: str) -> Ref:
    name = _name(submission_id)
    return Ref(api_version=API_VERSION, kind="RayJob", namespace=place.namespace, name=name)


def _told_by(place: JobPlace) -> str:
    """The name of the Secret with what the model's job is told."""
    return f"training-{place.model_uid}"


def _metadata(place: JobPlace, name: str, **labels: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": place.namespace,
        "labels": {MODEL_LABEL: place.model, **labels},
        "ownerReferences": [
            {
                "apiVersion": Model.api_version,
                "kind": Model.kind,
                "name": place.model,
                "uid": place.model_uid,
            }
        ],
    }


def _secret(job: contract.TrainingJob, place: JobPlace) -> Manifest:
    text = base64.b64encode(contract.to_json(job).encode())  # as the variable has it
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(place, _told_by(place)),
        "type": "Opaque",
        "data": {contract.JOB_VARIABLE: base64.b64encode(text).decode()},
    }


def _ray_job(submission_id: str, place: JobPlace, pod: Pod, *, image: str) -> Manifest:
    queue = {QUEUE_LABEL: pod.queue} if pod.queue else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "RayJob",
        "metadata": _metadata(place, _name(submission_id), **queue),
        "spec": {
            "jobId": submission_id,
            "entrypoint": "python -m ml.train",
            "entrypointNumCpus": 1,
            **({"entrypointNumGpus": pod.gpus} if pod.gpus else {}),
            "submissionMode": "HTTPMode",
            # another attempt is ours to make, with a row of the journal
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(pod.deadline.total_seconds()),
            "preRunningDeadlineSeconds": int(pod.start_deadline.total_seconds()),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": KEPT,
            "rayClusterSpec": {"headGroupSpec": _head(place, pod, image=image)},
        },
    }


def _head(place: JobPlace, pod: Pod, *, image: str) -> Mapping[str, Any]:
    """One pod, within the Pod Security Standard "restricted"."""
    amounts = {"cpu": str(pod.cpus), "memory": pod.memory, **({_GPU: str(pod.gpus)} if pod.gpus else {})}
    told = {"name": _told_by(place), "key": contract.JOB_VARIABLE}
    container = {
        "name": "ray-head",
        "image": image,
        "resources": {"requests": amounts, "limits": amounts},
        "env": [
            {"name": contract.JOB_VARIABLE, "valueFrom": {"secretKeyRef": told}},
            {"name": "OPENBLAS_NUM_THREADS", "value": "1"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "rayStartParams": {"dashboard-host": "0.0.0.0", "object-store-memory": str(_STORE)},  # noqa: S104 - of the pod
        "template": {
            "metadata": {"labels": {MODEL_LABEL: place.model}},
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": _USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                **({"nodeSelector": dict(pod.node_selector)} if pod.node_selector else {}),
                **({"tolerations": [dict(each) for each in pod.tolerations]} if pod.tolerations else {}),
                "containers": [container],
            },
        },
    }
