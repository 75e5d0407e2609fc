"""A Model's whole life with its files in a bucket: trained on Ray by lent addresses, served, deleted."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import files, identities, product, web
from dev.parts import Ray
from dev.stack import Stack
from ml import contract
from tests.contract import buckets
from tests.contract.buckets import BUCKET, REGION, Buckets
from tests.e2e.test_training import GATES, Models, jobs_of, simulated

pytestmark = pytest.mark.ray

PREFIX = "of-models"
COMPONENTS = ("runner", "gateway")
RUN = {"project": "acme/shop", "pipeline": "ci", "run": "9", "trigger": "push", "branch": "main"}


@pytest.fixture
def bucket(stack: Stack, tmp_path: Path) -> Iterator[Buckets]:
    """A bucket that the runner and the gateway have their files in, for this test."""
    before = {name: product.settings_file(stack.folder, name).read_text() for name in COMPONENTS}
    with buckets.running(tmp_path) as made:
        for name, text in before.items():
            folder = identities.folder_of(stack.folder, name)
            for part, value in (("key", made.key), ("secret", made.secret)):
                files.write(folder / f"bucket.{part}", value)
            artifacts = {
                "url": f"s3://{BUCKET}/{PREFIX}",
                "region": REGION,
                "endpoint": f"http://{made.host}",
                "accessKeyIdFile": str(folder / "bucket.key"),
                "secretAccessKeyFile": str(folder / "bucket.secret"),
            }
            document = yaml.safe_load(text) | {"artifacts": artifacts}
            files.write(product.settings_file(stack.folder, name), yaml.safe_dump(document))
            stack.restart(name)
        try:
            yield made
        finally:
            for name, text in before.items():
                files.write(product.settings_file(stack.folder, name), text)
                stack.restart(name)


@pytest.fixture
def models(bucket: Buckets, tenants: Any, stack: Stack, ray_head: Ray, eventually: Any) -> Iterator[Models]:
    made = Models(stack, tenants.ready(), eventually)
    yield made
    made.kubectl.run("delete", "models", "--all", "-n", made.namespace, "--timeout=60s")


def predicted(models: Models, stack: Stack) -> dict[str, Any] | None:
    """What the gateway says of a run, once it has loaded the version."""
    token = models.kubectl.token("default", namespace=models.namespace, audience="pipewright", hours=1)
    answer = web.ask(
        f"{stack.gateway_url}/v1/namespaces/{models.namespace}/models/run-failure/predictions",
        method="POST",
        document=RUN,
        headers={"Authorization": f"Bearer {token}"},
    )
    return answer.document if answer is not None and answer.code == 200 else None


def test_a_model_lives_in_a_bucket(
    models: Models, bucket: Buckets, stack: Stack, ray_head: Ray, eventually: Any
) -> None:
    account = f"--serviceaccount={models.namespace}:default"
    models.kubectl.run(
        *("create", "rolebinding", "asks", "--clusterrole=cluster-admin", account, "-n", models.namespace)
    )
    models.bring(simulated())
    models.apply(evaluation={"gates": GATES}, serving={"default": True})
    status = models.wait("Ready", "Active")

    home = bucket.folder / BUCKET / PREFIX / models.tenant_id / "models"
    artifact = status["active"]["artifact"]
    assert artifact["uri"].startswith(f"s3://{BUCKET}/{PREFIX}/{models.tenant_id}/models/")
    place = bucket.folder / artifact["uri"].removeprefix("s3://")
    assert hashlib.sha256(place.read_bytes()).hexdigest() == artifact["sha256"]
    dataset = bucket.folder / status["dataset"]["uri"].removeprefix("s3://")
    assert hashlib.sha256(dataset.read_bytes()).hexdigest() == status["dataset"]["sha256"]
    assert len([each for each in home.rglob("*") if each.is_file()]) == 3, "window, model and report"

    (job,) = jobs_of(ray_head, models.tenant_id)
    told = base64.b64decode(job["runtime_env"]["env_vars"][contract.JOB_VARIABLE]).decode()
    assert told.count("X-Amz-Signature=") == 3, "it is lent three addresses"
    assert bucket.secret not in told

    found = eventually(lambda: predicted(models, stack), within=30, says="the gateway predicts")
    assert found["model"]["version"] == status["active"]["version"]
    assert 0 < found["probability"] < 1

    models.kubectl.run("delete", "model", "run-failure", "-n", models.namespace, "--timeout=30s")
    assert [each for each in home.rglob("*") if each.is_file()] == []
    assert models.pointers() == []
