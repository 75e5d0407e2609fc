"""Effects of the WorkflowRun controller: rows of the journal, and the actions of steps between them.

The intent (`BeginStep`) is a row before the effect. What came of the effect is known only while it is
performed, so `PerformStep` writes the outcome's row itself; `FinishStep` is for outcomes that the plan knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from pipewright.runner_facts import AttemptPhase, TenantRef


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginRun:
    """Open the run in the journal; begun already counts as done."""

    tenant: TenantRef
    run_uid: str
    namespace: str
    name: str
    workflow_uid: str | None

    def __str__(self) -> str:
        return f"begin run {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipStep:
    """Note that a step is left out, and why."""

    tenant: TenantRef
    run_uid: str
    step: str
    reason: str

    def __str__(self) -> str:
        return f"skip step {self.step}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginStep:
    """Write the intent: this attempt is about to be performed, under its idempotency key.

    The account is read before, so that a server of ours that does not answer leaves no attempt behind.
    """

    tenant: TenantRef
    run_uid: str
    namespace: str
    step: str
    attempt: int
    integration: str

    def __str__(self) -> str:
        return f"begin attempt {self.attempt} of step {self.step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformStep:
    """Perform the action of an attempt whose intent is written, and write what came of it."""

    tenant: TenantRef
    run_uid: str
    namespace: str
    step: str
    attempt: int
    integration: str
    action: str
    inputs: Mapping[str, str] = field(hash=False, repr=False)
    outputs: Mapping[str, str] = field(hash=False)
    """Name → CEL expression over the action's result."""
    timeout: timedelta
    idempotent: bool

    def __str__(self) -> str:
        return f"perform {self.integration}/{self.action} for step {self.step}, attempt {self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishStep:
    """Write the outcome of an attempt that is known without performing anything."""

    tenant: TenantRef
    run_uid: str
    step: str
    attempt: int
    phase: AttemptPhase
    message: str

    def __str__(self) -> str:
        return f"note attempt {self.attempt} of step {self.step} as {self.phase}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRun:
    """Close the run in the journal."""

    tenant: TenantRef
    run_uid: str
    phase: Literal["Succeeded", "Failed", "Cancelled"]
    reason: str
    """One word, and after a colon a sentence."""

    def __str__(self) -> str:
        return f"end the run as {self.phase}: {self.reason}"


RunAction = BeginRun | SkipStep | BeginStep | PerformStep | FinishStep | FinishRun
