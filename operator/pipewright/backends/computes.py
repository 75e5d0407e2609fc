"""Several places where trainings run, under one port: clusters by their names, and KubeRay."""

from __future__ import annotations

from collections.abc import Mapping

from ml import contract
from pipewright import errors
from pipewright.ports.training import Compute
from pipewright.training_facts import KUBE_RAY, JobPlace, JobStatus, Pod


class Computes:
    """`pipewright.ports.training.Compute` that asks the place which a job's own names."""

    def __init__(self, clusters: Mapping[str, Compute], *, kube_ray: Compute) -> None:
        """`clusters` by name; the first one is for Models that name none."""
        self._clusters, self._kube_ray = clusters, kube_ray

    async def submit(self, job: contract.TrainingJob, *, place: JobPlace, pod: Pod) -> None:
        """Start the job there."""
        await self._at(place.compute).submit(job, place=place, pod=pod)

    async def status(self, submission_id: str, *, place: JobPlace) -> JobStatus | None:
        """The job's state there."""
        return await self._at(place.compute).status(submission_id, place=place)

    async def stop(self, submission_id: str, *, place: JobPlace) -> None:
        """End the job there."""
        await self._at(place.compute).stop(submission_id, place=place)

    def trouble(self, compute: str, *, image: str) -> errors.Stalled | None:
        """Also where there is no such place."""
        try:
            return self._at(compute).trouble(compute, image=image)
        except errors.Stalled as none:
            return none

    def _at(self, compute: str) -> Compute:
        if compute == KUBE_RAY:
            return self._kube_ray
        found = self._clusters.get(compute or next(iter(self._clusters), ""))
        if found is not None:
            return found
        names = ", ".join(self._clusters) or "none"
        raise errors.Stalled(
            "NoSuchCluster",
            f"the operator's settings have no Ray cluster {compute}: they have {names}"
            if compute
            else "the operator's settings have no Ray cluster: set spec.training.compute.kubeRay",
        )
