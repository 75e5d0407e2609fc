"""The runner's ports in dictionaries, held to the same contract tests as the adapters on the real stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from connectors.manifest import Manifest
from pipewright import errors
from pipewright.events import JobRecord, Record, RunRecord
from pipewright.ports import Clock, ProviderAccount, Secret
from pipewright.runner_facts import (
    Attempt,
    AttemptPhase,
    CredentialCheck,
    Decision,
    DeliveryLook,
    HistoryPart,
    MissedDelivery,
    Performed,
    ProviderHook,
    Registered,
    Route,
    RunJournal,
    TenantRef,
    Trigger,
)


class MemoryDirectory:
    """`ports.Directory`: namespace → tenant."""

    def __init__(self, tenants: Mapping[str, TenantRef] | None = None) -> None:
        self.tenants: dict[str, TenantRef] = dict(tenants or {})

    async def find(self, *, namespace: str) -> TenantRef | None:
        """The namespace's tenant."""
        return self.tenants.get(namespace)


class MemoryRoutes:
    """`ports.Routes`; `sealed` has what was sealed, by hook."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._registrations: dict[str, dict[str, Registered]] = {}
        self.sealed: dict[str, bytes] = {}

    async def find(self, *, integration_uid: str) -> Route | None:
        """The Integration's route."""
        return self._routes.get(integration_uid)

    async def publish(self, route: Route, *, sealed_secret: bytes) -> None:
        """Write the whole route."""
        old = self._routes.get(route.integration_uid)
        if old is not None:
            self.sealed.pop(old.hook_id, None)
        self._routes[route.integration_uid] = route
        self.sealed[route.hook_id] = sealed_secret

    async def withdraw(self, *, integration_uid: str) -> None:
        """Delete it."""
        old = self._routes.pop(integration_uid, None)
        if old is not None:
            self.sealed.pop(old.hook_id, None)
        self._registrations.pop(integration_uid, None)

    async def registrations(self, *, integration_uid: str) -> Sequence[Registered]:
        """What is, or may be, registered at the provider, by project."""
        found = self._registrations.get(integration_uid, {})
        return tuple(found[project] for project in sorted(found))

    async def note_registration(self, registration: Registered, *, integration_uid: str) -> None:
        """Write the whole note."""
        if integration_uid not in self._routes:
            raise errors.BackendError("the Integration has no route")
        self._registrations.setdefault(integration_uid, {})[registration.project] = registration

    async def forget_registration(self, *, integration_uid: str, project: str) -> None:
        """Delete a note."""
        self._registrations.get(integration_uid, {}).pop(project, None)


class MemoryTriggers:
    """`ports.Triggers`."""

    def __init__(self) -> None:
        self._triggers: dict[str, tuple[Trigger, ...]] = {}

    async def find(self, *, workflow_uid: str) -> Sequence[Trigger]:
        """The workflow's triggers by position."""
        return self._triggers.get(workflow_uid, ())

    async def publish(self, *, workflow_uid: str, triggers: Sequence[Trigger]) -> None:
        """Replace them all."""
        self._triggers[workflow_uid] = tuple(sorted(triggers, key=lambda trigger: trigger.position))

    async def withdraw(self, *, workflow_uid: str) -> None:
        """Delete them all."""
        self._triggers.pop(workflow_uid, None)


class MemoryJournal:
    """`ports.Journal`: one dictionary of runs and one of attempts."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[str, RunJournal] = {}
        self._attempts: dict[tuple[str, str, int], Attempt] = {}

    async def read(self, tenant: TenantRef, *, run_uid: str) -> RunJournal | None:
        """The run with all attempts of its steps."""
        found = self._runs.get(run_uid)
        if found is None:
            return None
        mine = sorted(key for key in self._attempts if key[0] == run_uid)
        return dataclasses.replace(found, attempts=tuple(self._attempts[key] for key in mine))

    async def begin(
        self, tenant: TenantRef, *, run_uid: str, namespace: str, name: str, workflow_uid: str | None
    ) -> None:
        """Open the run."""
        self._runs.setdefault(run_uid, RunJournal(phase="Running", started_at=self._clock.now()))

    async def finish(
        self,
        tenant: TenantRef,
        *,
        run_uid: str,
        phase: Literal["Succeeded", "Failed", "Cancelled"],
        reason: str,
    ) -> None:
        """Close the run; one that is closed stays as it is."""
        found = self._runs[run_uid]
        if found.finished_at is None:
            self._runs[run_uid] = dataclasses.replace(
                found, phase=phase, reason=reason, finished_at=self._clock.now()
            )

    async def begin_step(self, tenant: TenantRef, *, run_uid: str, step: str, attempt: int) -> None:
        """Write the intent."""
        if (run_uid, step, attempt) in self._attempts:
            raise errors.Conflict(f"attempt {attempt} of step {step} has begun elsewhere")
        self._intend(run_uid, step, attempt)

    async def finish_step(
        self,
        tenant: TenantRef,
        *,
        run_uid: str,
        step: str,
        attempt: int,
        phase: AttemptPhase,
        message: str = "",
        outputs: Mapping[str, str] | None = None,
        after: timedelta | None = None,
    ) -> None:
        """Write the outcome, with the intent if there is none."""
        found, now = self._intend(run_uid, step, attempt), self._clock.now()
        if found.finished_at is None:
            self._attempts[run_uid, step, attempt] = dataclasses.replace(
                found,
                phase=phase,
                message=message,
                outputs=dict(outputs or {}),
                finished_at=now,
                not_before=None if after is None else now + after,
            )

    def _intend(self, run_uid: str, step: str, attempt: int) -> Attempt:
        if run_uid not in self._runs:
            raise errors.BackendError("the run is not open")
        fresh = Attempt(step=step, number=attempt, phase="Running", started_at=self._clock.now())
        return self._attempts.setdefault((run_uid, step, attempt), fresh)


class MemoryDecisions:
    """`ports.Decisions`: keyed as they are asked for."""

    def __init__(self) -> None:
        self.decisions: dict[tuple[str, str, str, str, str], Decision] = {}

    async def find(
        self,
        tenant: TenantRef,
        *,
        namespace: str,
        workflow: str,
        revision: str,
        integration: str,
        delivery_id: str,
    ) -> Decision | None:
        """The decision that asked for a run."""
        return self.decisions.get((namespace, workflow, revision, integration, delivery_id))


class MemoryActions:
    """`ports.Actions`: answers as told, and remembers what it was asked to do, without the credentials."""

    def __init__(self, connectors: Mapping[str, Manifest]) -> None:
        self._connectors = connectors
        self.broken: dict[str, str] = {}
        """Connectors that cannot be used, with the reason."""
        self.answer = CredentialCheck(accepted=True, reason="CredentialsValid", message="accepted")
        self.results: list[Performed] = []
        """What the next actions come to, in order; then each succeeds with nothing to tell."""
        self.performed: list[tuple[str, Mapping[str, str]]] = []
        self.histories: list[HistoryPart] = []
        """What the next readings of a history give, in order."""
        self.read: list[tuple[str, str]] = []
        """Projects and cursors that were read from."""
        self.hooks: dict[tuple[str, str], tuple[ProviderHook, Secret]] = {}
        """The provider's webhooks by project and id, with the secrets that it signs with."""
        self.missed: dict[str, list[MissedDelivery]] = {}
        """By project: the deliveries that never arrived."""
        self.filled_at: datetime | None = None
        self.looked: list[tuple[str, datetime]] = []
        """Projects whose deliveries were looked at, and since when."""
        self.redelivered: list[tuple[str, str]] = []
        """Projects, and what was asked for again."""
        self.refusals: dict[str, Exception] = {}
        """What requests about a project's webhooks end in."""

    @property
    def connectors(self) -> Mapping[str, Manifest]:
        """The catalogue by name."""
        return self._connectors

    async def check(
        self, *, connector: str, config: Mapping[str, Any], credentials: Mapping[str, Secret]
    ) -> CredentialCheck:
        """The answer that was set."""
        return self.answer

    async def read_history(
        self,
        *,
        connector: str,
        config: Mapping[str, Any],
        credentials: Mapping[str, Secret],
        project: str,
        since: datetime,
        until: datetime,
        cursor: str,
    ) -> HistoryPart:
        """The next of `histories`; then there is no more."""
        self.read.append((project, cursor))
        return self.histories.pop(0) if self.histories else HistoryPart(records=(), cursor=None)

    async def find_webhooks(
        self, account: ProviderAccount, *, path: str, known: str
    ) -> Sequence[ProviderHook]:
        """The project's webhooks that are ours."""
        self._refuse(account)
        return [
            hook
            for (project, _), (hook, _secret) in sorted(self.hooks.items(), key=lambda pair: pair[0])
            if project == account.project and (hook.url.endswith(path) or hook.id == known)
        ]

    async def create_webhook(self, account: ProviderAccount, *, url: str, secret: Secret) -> None:
        """Make one."""
        self._refuse(account)
        hook = ProviderHook(id=str(len(self.hooks) + 1), url=url, current=True)
        self.hooks[account.project, hook.id] = (hook, secret)

    async def update_webhook(
        self, account: ProviderAccount, hook_id: str, *, url: str, secret: Secret
    ) -> None:
        """Make one what it should be."""
        self._refuse(account)
        hook = ProviderHook(id=hook_id, url=url, current=True)
        self.hooks[account.project, hook_id] = (hook, secret)

    async def delete_webhook(self, account: ProviderAccount, hook_id: str) -> None:
        """Remove one."""
        self._refuse(account)
        self.hooks.pop((account.project, hook_id), None)

    async def missed_deliveries(
        self, account: ProviderAccount, hook_id: str, *, since: datetime
    ) -> DeliveryLook:
        """What was not asked for again of `missed`."""
        self._refuse(account)
        self.looked.append((account.project, since))
        left = [each for each in self.missed.get(account.project, ()) if each.last >= since]
        return DeliveryLook(missed=tuple(left), filled_at=self.filled_at)

    async def redeliver(self, account: ProviderAccount, hook_id: str, delivery_id: str) -> None:
        """Note it."""
        self._refuse(account)
        self.redelivered.append((account.project, delivery_id))

    def _refuse(self, account: ProviderAccount) -> None:
        if account.project in self.refusals:
            raise self.refusals[account.project]

    async def perform(
        self,
        *,
        connector: str,
        action: str,
        config: Mapping[str, Any],
        credentials: Mapping[str, Secret],
        inputs: Mapping[str, str],
    ) -> Performed:
        """Note it, and answer with what is next."""
        self.performed.append((f"{connector}/{action}", dict(inputs)))
        return self.results.pop(0) if self.results else Performed(phase="Succeeded", result={})


class MemoryImport:
    """`ports.HistoryImport`: what was stored, by the provider's ids."""

    def __init__(self, known: Collection[tuple[str, str]]) -> None:
        """`known` has namespace and name of the Integrations that the gateway knows."""
        self._known = frozenset(known)
        self.stored: dict[tuple[str, str], dict[tuple[str, str, int], Record]] = {}
        self.sent = 0

    async def send(self, *, namespace: str, integration: str, records: Sequence[Record]) -> None:
        """Keep these."""
        if not records:
            return
        if (namespace, integration) not in self._known:
            raise errors.Waiting(
                "GatewayBusy", "the gateway takes no history now", after=timedelta(seconds=30)
            )
        self.sent += 1
        kept = self.stored.setdefault((namespace, integration), {})
        kept.update(
            {
                (record.type.partition(".")[0], record.id, record.attempt): record
                for record in records
                if isinstance(record, RunRecord | JobRecord)  # artifacts are no history
            }
        )
