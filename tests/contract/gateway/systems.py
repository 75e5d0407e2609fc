"""What is tried at each CI system: which of its samples arrive, which history it has, what its actions do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dev.systems.prow import ACCOUNT, AUDIENCE

AZURE = "5b2f0b7e-7d0f-4f3a-9f0c-0a5b6a3b1d11"
AZURE_JOB = "12f1170f-54f2-53f3-20dd-22fc7dff55f9"
WORKFLOW = "22222222-0000-4000-8000-000000000001"
BUILDKITE = "0199f3a2-0000-4000-8000-000000000099"
BUILDKITE_JOB = "0199f3a2-1111-4000-8000-000000000001"
STEP = "{d464ab91-8b50-4ad5-8c22-d2a6d1ca5d01}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """An action: what it is told, what the system then did, and what comes of it in the history."""

    inputs: Mapping[str, Any]
    did: str = ""
    """In the simulator's words; empty of one that only reads."""
    then: tuple[str, str, str, str] | None = None
    """`run` or `job`, id, phase and outcome, after the webhooks that it caused."""
    attempt: int = 1
    result: Mapping[str, Any] = field(default_factory=dict)
    """Some of its outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One system."""

    deliveries: tuple[str, ...]
    """Samples, in the order in which they arrive."""
    projects: tuple[str, ...] = ("acme/shop",)
    """The first has the history."""
    config: Mapping[str, Any] = field(default_factory=dict)
    history: str = "history"
    """The sample; empty: the system has none that can be read."""
    pages: int = 2
    """Requests for the outer list at least."""
    narrow: tuple[str, ...] = ()
    """Scopes of a token that may do too little, where the system tells."""
    missing: str = ""
    """What it then lacks."""
    actions: Mapping[str, Done] = field(default_factory=dict)


ON = {"project": "acme/shop"}

STORIES: Mapping[str, Story] = {
    "azure-pipelines": Story(
        projects=(f"acme/{AZURE}",),
        config={"organization": "acme"},
        deliveries=("run-in-progress", "job-running", "job-failed-again", "build-failed-in-a-folder"),
        actions={
            "run-pipeline": Done(
                inputs={"project": f"acme/{AZURE}", "pipeline": "12", "branch": "main"},
                did="run 12",
                then=("run", "950", "started", ""),
                result={"id": "950", "state": "inProgress"},
            ),
            "retry-stage": Done(
                inputs={"project": f"acme/{AZURE}", "run": "901", "stage": "Build"},
                did="retry 901 Build",
                then=("run", "901", "finished", "success"),
            ),
            "cancel-run": Done(
                inputs={"project": f"acme/{AZURE}", "run": "950"},
                did="cancel 950",
                then=("run", "950", "finished", "cancel"),
            ),
            "read-log": Done(
                inputs={"project": f"acme/{AZURE}", "run": "901", "job": f"901.{AZURE_JOB}.2"},
            ),
        },
    ),
    "bitbucket": Story(
        config={"project": "acme/shop"},
        deliveries=("status-in-progress", "trace-of-a-run"),
        narrow=("account", "pipeline"),
        missing="pipeline:write",
        actions={
            "run-pipeline": Done(
                inputs=ON | {"branch": "main"},
                did="run main branches",
                then=("run", "acme/shop#61", "started", ""),
                result={"number": 61},
            ),
            "stop-pipeline": Done(
                inputs=ON | {"run": "61"},
                did="stop 61",
                then=("run", "acme/shop#61", "finished", "cancel"),
            ),
            "read-log": Done(inputs=ON | {"run": "59", "job": STEP}),
        },
    ),
    "buildkite": Story(
        deliveries=("build-scheduled", "build-running", "job-started", "job-failed", "build-failed"),
        narrow=("read_builds",),
        missing="write_builds, read_build_logs",
        actions={
            "rebuild": Done(
                inputs=ON | {"number": "31"},
                did="rebuild 31",
                then=("run", BUILDKITE, "queued", ""),
                result={"id": BUILDKITE, "status": "scheduled"},
            ),
            "cancel-build": Done(
                inputs=ON | {"number": "99"},
                did="cancel 99",
                then=("run", BUILDKITE, "finished", "cancel"),
            ),
            "retry-job": Done(
                inputs=ON | {"number": "31", "job": BUILDKITE_JOB},
                did=f"retry {BUILDKITE_JOB}",
                then=("job", BUILDKITE, "queued", ""),
            ),
            "read-log": Done(inputs=ON | {"number": "31", "job": BUILDKITE_JOB}),
        },
    ),
    "cdevents": Story(
        config={"project": "acme/shop"},
        deliveries=("run-queued", "run-started", "job-started", "run-failed"),
        history="",
    ),
    "circleci": Story(
        projects=("gh/acme/shop",),
        deliveries=("job-failed", "workflow-failed"),
        actions={
            "rerun-workflow": Done(
                inputs={"run": WORKFLOW},
                did=f"rerun {WORKFLOW} from failed",
                then=("run", "22222222-0000-4000-8000-000000000009", "finished", "success"),
                result={"id": "22222222-0000-4000-8000-000000000009"},
            ),
            "cancel-workflow": Done(
                inputs={"run": WORKFLOW},
                did=f"cancel {WORKFLOW}",
                then=("run", WORKFLOW, "finished", "cancel"),
            ),
        },
    ),
    "drone": Story(
        deliveries=("build-created", "build-running", "build-failed"),
        actions={
            "restart-build": Done(
                inputs=ON | {"number": "42"},
                did="restart 42",
                then=("run", "7099", "queued", ""),
                result={"id": "7099", "number": "99"},
            ),
            "cancel-build": Done(
                inputs=ON | {"number": "99"}, did="cancel 99", then=("run", "7099", "finished", "cancel")
            ),
            "read-log": Done(inputs=ON | {"number": "42", "stage": "1", "step": "2"}),
        },
    ),
    "github": Story(
        deliveries=("run-requested", "run-in-progress", "job-in-progress", "job-failed", "run-failed"),
        narrow=("read:org", "gist"),
        missing="repo",
        actions={
            "rerun-failed-jobs": Done(
                inputs=ON | {"run": "4001"},
                did="rerun-failed-jobs 4001",
                then=("run", "4001", "finished", "success"),
                attempt=2,
            ),
            "rerun-run": Done(
                inputs=ON | {"run": "4002"},
                did="rerun 4002",
                then=("run", "4002", "finished", "success"),
                attempt=2,
            ),
            "rerun-job": Done(
                inputs=ON | {"job": "90031"},
                did="rerun job 90031",
                then=("run", "4003", "finished", "success"),
                attempt=2,
            ),
            "cancel-run": Done(
                inputs=ON | {"run": "4004"}, did="cancel 4004", then=("run", "4004", "finished", "cancel")
            ),
            "read-log": Done(inputs=ON | {"job": "90021"}),
            "comment": Done(
                inputs=ON | {"sha": "5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665", "body": "It runs again."},
                did="comment It runs again.",
                result={"id": "1"},
            ),
        },
    ),
    "gitlab": Story(
        projects=("acme/web/shop",),
        deliveries=("pipeline-pending", "pipeline-running", "job-running", "job-failed", "pipeline-failed"),
        narrow=("read_api",),
        missing="api",
        actions={
            "retry-pipeline": Done(
                inputs={"project": "acme/web/shop", "run": "302"},
                did="retry 302",
                then=("run", "302", "finished", "success"),
                result={"id": "302", "status": "running"},
            ),
            "retry-job": Done(
                inputs={"project": "acme/web/shop", "job": "5021"},
                did="retry job 5021",
                then=("job", "9001", "started", ""),
                result={"id": "9001", "status": "pending"},
            ),
            "cancel-pipeline": Done(
                inputs={"project": "acme/web/shop", "run": "304"},
                did="cancel 304",
                then=("run", "304", "finished", "cancel"),
                result={"status": "canceled"},
            ),
            "read-log": Done(inputs={"project": "acme/web/shop", "job": "5021"}),
        },
    ),
    "jenkins": Story(
        projects=("_/nightly", "team/shop"),
        deliveries=("queued", "started", "completed-success"),
        history="freestyle",
        actions={
            "build": Done(
                inputs={"project": "team/shop"},
                did="build team/job/shop",
                then=("run", "team/shop#32", "started", ""),
            ),
            "stop": Done(
                inputs={"project": "team/shop", "number": "32"},
                did="stop 32",
                then=("run", "team/shop#32", "finished", "cancel"),
            ),
            "read-log": Done(inputs={"project": "team/shop", "number": "31"}),
        },
    ),
    "prow": Story(
        config={"audience": AUDIENCE, "serviceAccount": ACCOUNT},
        deliveries=("triggered", "pending", "passed"),
        pages=1,
        actions={"read-log": Done(inputs={"pipeline": "pull-shop-unit", "run": "1995000000000000005"})},
    ),
    "travis": Story(
        deliveries=("build-started", "build-failed"),
        actions={
            "restart-build": Done(
                inputs={"run": "8042"}, did="restart 8042", then=("run", "8042", "finished", "success")
            ),
            "cancel-build": Done(
                inputs={"run": "8041"}, did="cancel 8041", then=("run", "8041", "finished", "cancel")
            ),
            "restart-job": Done(inputs={"job": "9421"}, did="restart job 9421"),
            "read-log": Done(inputs={"job": "9421"}),
        },
    ),
}
