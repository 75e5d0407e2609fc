"""How a run goes on, from the pinned spec and the journal. Pure: `advance` is the whole engine.

For each step, in order: left out, begun, waited for, tried again, or given up. The intent is written before
the effect, so a crash in between shows as an attempt without an outcome: an idempotent action is then
performed again under the same key, any other is `Unknown`, and the step's `onUnknown` says what follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from controllers.workflowrun.objects import SUCCEEDED, may_try_again
from pipewright import actions as act
from pipewright import expressions, plan, runner_facts
from pipewright.actions import RunnerAction
from pipewright.api.meta import format_duration
from pipewright.api.v1alpha1 import WorkflowRun
from pipewright.api.v1alpha1.workflow import Step, WorkflowSpec
from pipewright.expressions import EvaluationError, ExpressionError, StepResult, Template
from pipewright.plan import chain, merge, says
from pipewright.runner_facts import Attempt, Decision, RunJournal, TenantRef

Plan = plan.Plan[RunnerAction]
Outcome = Literal["success", "failure", "skip", "unknown"]

LONGEST_BACKOFF = timedelta(hours=24)
LOOK_AGAIN = timedelta(seconds=10)
"""When to look again at a tenant that is not Active, or a workflow that is suspended."""

_OUTCOMES: Mapping[str, Outcome] = {
    "Succeeded": "success",
    "Failed": "failure",
    "Skipped": "skip",
    "Unknown": "unknown",
}
_LOST = "the process ended while this was being performed, and nobody knows whether it happened"
_TIME_OVER = "the run's time was over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that was seen of a run, at one look."""

    tenant: TenantRef | None = None
    journal: RunJournal | None = None
    spec: WorkflowSpec | None = None
    """The pinned revision's."""
    workflow_uid: str | None = None
    decision: Decision | None = None
    idempotent: Mapping[str, bool] = field(default_factory=dict)
    """`uses` → whether doing it twice is doing it once."""
    suspended: bool = False
    """The workflow is, now; looked at only before the run begins."""


def advance(run: WorkflowRun, observed: Observed, *, now: datetime) -> Plan:
    """What happens next. No chains: nothing but time will change that."""
    tenant, journal, spec = observed.tenant, observed.journal, observed.spec
    if journal is not None and journal.finished_at is not None:
        return _ended(journal)
    if tenant is not None and tenant.state == runner_facts.SUSPENDED:
        # what is under way ended with the pass that began it; nothing begins before the tenant is back
        told = f"paused: {runner_facts.suspended(tenant)}"
        return _waits("TenantSuspended", told, after=runner_facts.RESUMED)
    if tenant is None or tenant.state != runner_facts.ACTIVE:
        return _waits("TenantNotActive", "the tenant is not Active; the run goes on when it is")
    if journal is None and observed.suspended:
        return _waits("Suspended", "the workflow is suspended; the run begins when it no longer is")
    if spec is None:
        message = f"the revision {run.spec.workflow.revision} is not kept any more"
        return merge(_running(), _give_up(run, tenant, journal, f"RevisionMissing: {message}"))
    if observed.decision is None:
        message = "the tenant's database has no decision of this workflow on this event"
        return merge(_running(), _give_up(run, tenant, journal, f"EventMissing: {message}"))
    if journal is None:
        return merge(_running(), chain(SUCCEEDED, _begin(run, tenant, observed.workflow_uid)))
    return merge(_running(), _Engine(run, tenant, spec, journal, observed, now).next())


def _running() -> Plan:
    return says(SUCCEEDED, None, "Running", "status.steps says how far the steps are")


def _waits(reason: str, message: str, *, after: timedelta = LOOK_AGAIN) -> Plan:
    return merge(says(SUCCEEDED, None, reason, message), Plan(check_after=after))


def _ended(journal: RunJournal) -> Plan:
    reason, _, message = journal.reason.partition(": ")
    return says(SUCCEEDED, journal.phase == "Succeeded", reason or journal.phase, message)


def _begin(run: WorkflowRun, tenant: TenantRef, workflow_uid: str | None) -> act.BeginRun:
    return act.BeginRun(
        tenant=tenant, run_uid=run.uid, namespace=run.namespace, name=run.name, workflow_uid=workflow_uid
    )


def _give_up(run: WorkflowRun, tenant: TenantRef, journal: RunJournal | None, reason: str) -> Plan:
    begin = () if journal is not None else (_begin(run, tenant, None),)
    end = act.FinishRun(tenant=tenant, run_uid=run.uid, phase="Failed", reason=reason)
    return chain(SUCCEEDED, *begin, *_close_open(run, tenant, journal), end)


def _close_open(run: WorkflowRun, tenant: TenantRef, journal: RunJournal | None) -> Iterator[act.FinishStep]:
    """No attempt stays open in a journal that is closed."""
    for tried in journal.attempts if journal is not None else ():
        if tried.finished_at is None:
            yield act.FinishStep(
                tenant=tenant,
                run_uid=run.uid,
                step=tried.step,
                attempt=tried.number,
                phase="Unknown",
                message=_LOST,
            )


# --- the steps ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Engine:
    """One look at a run that has begun and not ended."""

    run: WorkflowRun
    tenant: TenantRef
    spec: WorkflowSpec
    journal: RunJournal
    observed: Observed
    now: datetime

    def next(self) -> Plan:
        """The next plan of the run as a whole."""
        outcomes = {step.name: self.outcome(step) for step in self.spec.steps}
        if all(outcomes.values()):
            return chain(SUCCEEDED, self._end(outcomes))
        # a suspension is none of the run's time: when it ends, that begins anew
        since = max(self.journal.started_at, self.tenant.resumed_at or self.journal.started_at)
        left = since + self.spec.timeout - self.now
        if left <= timedelta(0):
            return self._time_over()
        planned = [
            self._step(step, outcomes, left) for step in self.spec.steps if outcomes[step.name] is None
        ]
        return merge(*planned, Plan(check_after=left))

    # -- what is known ---------------------------------------------------------------------------------

    def tried(self, step: Step) -> Sequence[Attempt]:
        """All attempts, the latest last."""
        found = [attempt for attempt in self.journal.attempts if attempt.step == step.name]
        return sorted(found, key=lambda attempt: attempt.number)

    def last(self, step: Step) -> Attempt | None:
        """The latest attempt."""
        tried = self.tried(step)
        return tried[-1] if tried else None

    def outcome(self, step: Step) -> Outcome | None:
        """How the step ended for good; None while it has not."""
        last = self.last(step)
        if last is None or last.finished_at is None:
            return None
        if may_try_again(step, self.tried(step)) and not isinstance(self._inputs(step), str):
            return None
        return _OUTCOMES[last.phase]

    def _seen_by(self, step: Step) -> Mapping[str, StepResult]:
        """What the step's expressions may see: the steps that it needs, and those that they need."""
        by_name = {other.name: other for other in self.spec.steps}
        wanted, found = list(step.needs), dict[str, StepResult]()
        while wanted:
            name = wanted.pop()
            last = self.last(by_name[name])
            if name not in found and last is not None:
                outcome = _OUTCOMES.get(last.phase, "unknown")
                found[name] = StepResult(outcome=outcome, outputs=last.outputs)
                wanted.extend(by_name[name].needs)
        return found

    def _scope(self, step: Step) -> tuple[expressions.Environment, expressions.Scope]:
        decision = self.observed.decision
        assert decision is not None, "a run without its event is given up before"
        environment = expressions.steps(decision.event.type)
        seen = self._seen_by(step)
        return environment, expressions.bind_step(environment, decision.event, decision.prediction, seen)

    def _condition(self, step: Step) -> str | None:
        """Why the step's `if` leaves it out; None when it does not."""
        if step.if_ is None:
            return None
        try:
            environment, scope = self._scope(step)
            holds = environment.condition(step.if_).holds(scope)
        except (EvaluationError, ExpressionError) as error:
            return f"its condition could not be evaluated: {error.message}"
        return None if holds else "its condition is false"

    def _inputs(self, step: Step) -> Mapping[str, str] | str:
        """The step's `with`, filled in; or why that is not possible."""
        try:
            environment, scope = self._scope(step)
            return {
                name: Template(text, environment).render(scope) for name, text in sorted(step.with_.items())
            }
        except (EvaluationError, ExpressionError) as error:
            return f"its inputs could not be filled in: {error.message}"

    # -- what follows ----------------------------------------------------------------------------------

    def _step(self, step: Step, outcomes: Mapping[str, Outcome | None], left: timedelta) -> Plan:
        last = self.last(step)
        if last is None:
            return self._fresh(step, outcomes, left)
        if last.finished_at is None:
            return self._after_crash(step, last, left)
        due = last.finished_at + min(step.retry.backoff * 2 ** (last.number - 1), LONGEST_BACKOFF)
        if last.not_before is not None:
            due = max(due, last.not_before)
        if due > self.now:
            return Plan(check_after=due - self.now)
        return self._try(step, last.number + 1, left)

    def _fresh(self, step: Step, outcomes: Mapping[str, Outcome | None], left: timedelta) -> Plan:
        needed = {need: outcomes[need] for need in step.needs}
        bad = [need for need in sorted(needed) if needed[need] not in (None, "success")]
        if bad:
            return self._skip(step, f"it needs {', '.join(bad)}, which did not succeed")
        if None in needed.values():
            return Plan()
        reason = self._condition(step)
        if reason is not None:
            return self._skip(step, reason)
        return self._try(step, 1, left)

    def _try(self, step: Step, attempt: int, left: timedelta) -> Plan:
        inputs = self._inputs(step)
        if isinstance(inputs, str):
            return chain(SUCCEEDED, self._finish(step, attempt, "Failed", inputs))
        begin = act.BeginStep(
            tenant=self.tenant,
            run_uid=self.run.uid,
            namespace=self.run.namespace,
            step=step.name,
            attempt=attempt,
            integration=step.uses.partition("/")[0],
        )
        return chain(SUCCEEDED, begin, self._perform(step, attempt, inputs, left))

    def _after_crash(self, step: Step, last: Attempt, left: timedelta) -> Plan:
        inputs = self._inputs(step)
        if self.observed.idempotent.get(step.uses, False) and not isinstance(inputs, str):
            return chain(SUCCEEDED, self._perform(step, last.number, inputs, left))
        return chain(SUCCEEDED, self._finish(step, last.number, "Unknown", _LOST))

    def _perform(
        self, step: Step, attempt: int, inputs: Mapping[str, str], left: timedelta
    ) -> act.PerformStep:
        integration, _, action = step.uses.partition("/")
        return act.PerformStep(
            tenant=self.tenant,
            run_uid=self.run.uid,
            namespace=self.run.namespace,
            step=step.name,
            attempt=attempt,
            integration=integration,
            action=action,
            inputs=inputs,
            outputs=step.outputs,
            timeout=max(timedelta(seconds=1), min(step.timeout, left)),
            idempotent=self.observed.idempotent.get(step.uses, False),
        )

    def _skip(self, step: Step, reason: str) -> Plan:
        skip = act.SkipStep(tenant=self.tenant, run_uid=self.run.uid, step=step.name, reason=reason)
        return chain(SUCCEEDED, skip)

    def _finish(
        self, step: Step, attempt: int, phase: Literal["Failed", "Unknown"], message: str
    ) -> act.FinishStep:
        return act.FinishStep(
            tenant=self.tenant,
            run_uid=self.run.uid,
            step=step.name,
            attempt=attempt,
            phase=phase,
            message=message,
        )

    # -- the end ---------------------------------------------------------------------------------------

    def _end(self, outcomes: Mapping[str, Outcome | None]) -> act.FinishRun:
        bad = [name for name, outcome in outcomes.items() if outcome in ("failure", "unknown")]
        if bad:
            reason = f"StepFailed: {', '.join(bad)} did not succeed; status.steps says why"
            return act.FinishRun(tenant=self.tenant, run_uid=self.run.uid, phase="Failed", reason=reason)
        reason = "Succeeded: every step succeeded or was left out"
        return act.FinishRun(tenant=self.tenant, run_uid=self.run.uid, phase="Succeeded", reason=reason)

    def _time_over(self) -> Plan:
        skips = [
            act.SkipStep(tenant=self.tenant, run_uid=self.run.uid, step=step.name, reason=_TIME_OVER)
            for step in self.spec.steps
            if self.last(step) is None
        ]
        reason = f"TimedOut: it took longer than {format_duration(self.spec.timeout)}"
        end = act.FinishRun(tenant=self.tenant, run_uid=self.run.uid, phase="Failed", reason=reason)
        return chain(SUCCEEDED, *_close_open(self.run, self.tenant, self.journal), *skips, end)


# --- the teardown -------------------------------------------------------------------------------------


def plan_teardown(run: WorkflowRun, observed: Observed) -> Plan:
    """A run that is deleted midway is cancelled in the journal, which stays. What it has done stays done."""
    tenant, journal = observed.tenant, observed.journal
    if tenant is None or journal is None or journal.finished_at is not None:
        return Plan()
    reason = "Cancelled: the WorkflowRun was deleted"
    end = act.FinishRun(tenant=tenant, run_uid=run.uid, phase="Cancelled", reason=reason)
    return chain(SUCCEEDED, *_close_open(run, tenant, journal), end)
