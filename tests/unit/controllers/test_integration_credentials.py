"""Whether an Integration needs credentials, from its connector: looked at without asking anybody."""

from __future__ import annotations

from typing import Any

import pytest

from connectors import catalogue
from controllers.integration import observe
from pipewright.api.v1alpha1 import Integration
from pipewright.backends.memory import MemoryCluster
from pipewright.backends.runner.memory import MemoryActions
from pipewright.ports import RunnerPorts

MAPPING: dict[str, Any] = {
    "verify": {"kind": "token", "header": "X-Token"},
    "delivery": {"header": "X-Id"},
    "events": [{"name": "x", "when": "true", "record": "run", "map": {"id": "body.id"}}],
}


def ports() -> RunnerPorts:
    unused = (
        *("directory", "routes", "triggers", "secrets", "sealer", "journal", "decisions", "imports"),
        *("compute", "artifacts", "trainings", "windows", "pointers"),
    )
    return RunnerPorts(
        cluster=MemoryCluster(),
        actions=MemoryActions(catalogue.load()),
        **dict.fromkeys(unused),  # type: ignore[arg-type]
    )


def integration(**spec: Any) -> Integration:
    metadata = {"name": "ci", "namespace": "acme", "uid": "u", "generation": 1}
    return Integration.parse({"metadata": metadata, "spec": {"projects": ["acme/shop"], **spec}})


CHECKS: dict[str, tuple[Integration, tuple[bool, str], str]] = {
    "a connector that calls nobody needs none": (
        integration(connector="generic", config={"webhook": MAPPING}),
        (True, "NotNeeded"),
        "calls nobody",
    ),
    "nor where some are named": (
        integration(
            connector="generic",
            config={"webhook": MAPPING},
            credentials={"secretRef": {"name": "token"}},
        ),
        (True, "NotNeeded"),
        "calls nobody",
    ),
    "one that asks nobody who they are is looked at without any": (
        integration(
            connector="prow",
            config={"baseUrl": "https://prow.example", "audience": "a", "serviceAccount": "a@b"},
        ),
        (True, "CredentialsValid"),
        "accepted",
    ),
    "another does, and says which": (
        integration(connector="github"),
        (False, "SecretMissing"),
        "github needs a Secret with token, or appId and installationId and privateKey: name it in secretRef",
    ),
    "one that is named must be there": (
        integration(connector="github", credentials={"secretRef": {"name": "token"}}),
        (False, "SecretMissing"),
        "the Secret token is not there",
    ),
}


@pytest.mark.parametrize("sentence", CHECKS)
async def test_credentials(sentence: str) -> None:
    subject, expected, message = CHECKS[sentence]
    check = await observe._check(subject, ports())
    assert check is not None
    assert (check.accepted, check.reason) == expected
    assert message in check.message
