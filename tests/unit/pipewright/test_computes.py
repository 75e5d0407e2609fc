"""Several places to train at: the one that a job names is asked, and a missing one is told."""

import pytest

from ml import contract
from pipewright import errors
from pipewright.backends.computes import Computes
from pipewright.backends.memory_training import MemoryCompute
from pipewright.training_facts import KUBE_RAY, JobPlace, JobStatus, Pod

JOB = contract.TrainingJob(
    submission_id="s", window_uri="file:///w", window_sha256="0" * 64, artifact_uri="file:///a",
    report_uri="file:///r",
)  # fmt: skip


def at(compute: str) -> JobPlace:
    return JobPlace(tenant_id="t", namespace="acme", model="m", model_uid="u", compute=compute)


@pytest.mark.parametrize(
    ("compute", "asked"), [("", "cpu"), ("cpu", "cpu"), ("gpu", "gpu"), (KUBE_RAY, KUBE_RAY)]
)
async def test_the_place_that_is_named_is_asked(compute: str, asked: str) -> None:
    made = {name: MemoryCompute() for name in ("cpu", "gpu", KUBE_RAY)}
    computes = Computes({name: made[name] for name in ("cpu", "gpu")}, kube_ray=made[KUBE_RAY])
    await computes.submit(JOB, place=at(compute), pod=Pod())
    assert {name: each.submitted for name, each in made.items() if each.submitted} == {asked: ["s"]}
    assert await computes.status("s", place=at(compute)) == JobStatus(phase="Running")
    await computes.stop("s", place=at(compute))
    assert await computes.status("s", place=at(compute)) == JobStatus(phase="Stopped")
    assert computes.trouble(compute, image="") is None


async def test_a_place_that_is_not_there_is_told_with_those_that_are() -> None:
    computes = Computes({"cpu": MemoryCompute(), "gpu": MemoryCompute()}, kube_ray=MemoryCompute())
    trouble = computes.trouble("tpu", image="")
    assert trouble is not None
    assert trouble.message == "the operator's settings have no Ray cluster tpu: they have cpu, gpu"
    with pytest.raises(errors.Stalled, match="no Ray cluster tpu"):
        await computes.status("s", place=at("tpu"))


def test_without_any_cluster_kuberay_is_left() -> None:
    computes = Computes({}, kube_ray=MemoryCompute())
    assert computes.trouble(KUBE_RAY, image="") is None
    trouble = computes.trouble("", image="")
    assert trouble is not None
    assert "set spec.training.compute.kubeRay" in trouble.message
