"""The closing table: what was verified, in figures, and where to look further."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dev.demo.scene import TENANT
from dev.demo.steps import INTEGRATION, MODEL, WORKFLOW, Findings

_METRICS = (
    ("accuracy", "accuracy"),
    ("false positive rate", "falsePositiveRate"),
    ("recall", "recall"),
    ("AUC", "auc"),
    ("calibration error", "calibrationError"),
)


def render(findings: Findings) -> str:
    """The table as text."""
    return "\n".join(
        (
            "",
            *_block("Tenants", _tenants(findings)),
            *_block(f"Isolation, with {TENANT}'s own Secret and ServiceAccount", findings.proofs),
            *_block("History", _history(findings)),
            *_block("Model", _model(findings.model["status"])),
            *_block("Healed", _healed(findings)),
        )
    )


def further(*, kubeconfig: str) -> str:
    """Commands for the curious; they work while the stack runs."""
    return "\n".join(
        (
            f"export KUBECONFIG={kubeconfig}",
            "kubectl get pipewright -A",
            f"kubectl -n {TENANT} describe model {MODEL}",
            f"kubectl -n {TENANT} get workflowruns -o yaml",
            f"kubectl -n {TENANT} get integration {INTEGRATION} -o jsonpath='{{.status.webhook}}'",
            f"kubectl explain workflow.spec.steps    # {WORKFLOW} uses them",
            "make status; make down",
        )
    )


def _block(title: str, rows: Iterable[tuple[str, str]]) -> Iterable[str]:
    yield title
    for name, value in rows:
        yield f"  {name:<32} {value}"
    yield ""


def _tenants(findings: Findings) -> Iterable[tuple[str, str]]:
    for tenant in findings.tenants:
        status = tenant["status"]
        path = status.get("vault", {}).get("path", "none")
        yield (
            tenant["metadata"]["name"],
            f"id {status['id']}, database {status['database']['name']}, Vault {path}",
        )


def _history(findings: Findings) -> Iterable[tuple[str, str]]:
    yield "imported", f"{findings.imported['runs']} runs, {findings.imported['jobs']} jobs"
    yield (
        "signed webhooks",
        ", ".join(f"{count} × {code}" for code, count in sorted(findings.webhooks.items())),
    )


def _model(status: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "version", status["active"]["version"]
    yield "", f"{'model':>10} {'always pass':>12} {'last outcome':>13}"
    columns = (
        status["active"]["metrics"],
        status["baselines"]["alwaysPass"],
        status["baselines"]["lastOutcome"],
    )
    for title, key in _METRICS:
        model, always, last = (
            f"{found[key]:.3f}" if found.get(key) is not None else "–" for found in columns
        )
        yield title, f"{model:>10} {always:>12} {last:>13}"


def _healed(findings: Findings) -> Iterable[tuple[str, str]]:
    healed, prediction = findings.healed, findings.decision["prediction"]
    yield "run", f"{healed['run']} of {healed['project']}"
    yield "a re-run was expected to pass", f"{prediction['retry']['probability']:.2f}"
    yield "by", f"WorkflowRun {healed['workflowRun']}"
    yield "comment", healed["comment"]
    yield "from red to green", f"{healed['seconds']:.1f} s"
