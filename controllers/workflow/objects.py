"""Builders of what a Workflow keeps in Kubernetes: its spec, once for each revision, in a ControllerRevision.

A revision is named by what it holds, so writing it again changes nothing. `suspended` is left out: it says
whether runs start, not what they do.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pipewright import runner_facts
from pipewright.api.v1alpha1 import Integration, Workflow
from pipewright.plan import Manifest, Ref

DIGEST = 10
"""Hexadecimal digits of a revision's hash; the name before it is cut so that both fit a DNS label."""
LABEL = 63


def kept_spec(workflow: Workflow) -> dict[str, Any]:
    """The spec as a revision keeps it: what is written, no defaults, so that a new one moves no hash."""
    spec: dict[str, Any] = workflow.spec.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude={"suspended"}
    )
    return spec


def revision_name(workflow: Workflow) -> str:
    """The revision's name. The UID is hashed too: a namesake created later has revisions of its own."""
    content = json.dumps(
        {"uid": workflow.uid, "spec": kept_spec(workflow)}, sort_keys=True, separators=(",", ":")
    )
    digest = hashlib.sha256(content.encode()).hexdigest()[:DIGEST]
    return f"{workflow.name[: LABEL - DIGEST - 1]}-{digest}"


def revision(workflow: Workflow) -> Manifest:
    """The ControllerRevision of the present spec; it goes with the Workflow."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": revision_name(workflow),
            "namespace": workflow.namespace,
            "labels": labels(workflow),
            "ownerReferences": [
                {
                    "apiVersion": Workflow.api_version,
                    "kind": Workflow.kind,
                    "name": workflow.name,
                    "uid": workflow.uid,
                    "controller": True,
                }
            ],
        },
        "revision": workflow.generation,
        "data": {"spec": kept_spec(workflow)},
    }


def labels(workflow: Workflow) -> dict[str, str]:
    """By what a Workflow's revisions are found."""
    return {runner_facts.WORKFLOW_LABEL: workflow.name}


def belongs_to(workflow: Workflow, found: Manifest) -> bool:
    """Whether a revision was made for this very Workflow."""
    owners = found["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == workflow.uid for owner in owners)


def integration_ref(workflow: Workflow, name: str) -> Ref:
    """Names an Integration of the same namespace."""
    return Ref(
        api_version=Integration.api_version,
        kind=Integration.kind,
        namespace=workflow.namespace,
        name=name,
    )


def integrations(workflow: Workflow) -> tuple[str, ...]:
    """The Integrations that the spec names, sorted."""
    used = {step.uses.partition("/")[0] for step in workflow.spec.steps}
    heard = {trigger.integration for trigger in workflow.spec.triggers if trigger.integration}
    return tuple(sorted(used | heard))
