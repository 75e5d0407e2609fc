"""What the runner's controllers need besides: the registry, the gateway's rows, journals, providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pipewright.ports.common import Cluster, Sealer, Secret, SecretStore
from pipewright.runner_facts import (
    AttemptPhase,
    CredentialCheck,
    Decision,
    DeliveryLook,
    HistoryPart,
    Performed,
    ProviderHook,
    Registered,
    Route,
    RunJournal,
    TenantRef,
    Trigger,
)

if TYPE_CHECKING:
    from connectors.manifest import Manifest
    from pipewright.events import Record
    from pipewright.ports.training import (
        Artifacts,
        Compute,
        Pointers,
        Tracking,
        Trainings,
        TurnBook,
        Windows,
    )


class Directory(Protocol):
    """Whose namespace it is."""

    async def find(self, *, namespace: str) -> TenantRef | None:
        """The tenant of the namespace that has this name now, found by its UID and never by a label."""
        ...


class Routes(Protocol):
    """Where webhooks lead: rows of the platform database that the gateway follows."""

    async def find(self, *, integration_uid: str) -> Route | None:
        """The Integration's route."""
        ...

    async def publish(self, route: Route, *, sealed_secret: bytes) -> None:
        """Write the whole route, whatever was there for this Integration."""
        ...

    async def withdraw(self, *, integration_uid: str) -> None:
        """Delete it, and the notes of what is registered for it; absent already counts as done."""
        ...

    async def registrations(self, *, integration_uid: str) -> Sequence[Registered]:
        """What is, or may be, registered at the provider for the Integration, by project."""
        ...

    async def note_registration(self, registration: Registered, *, integration_uid: str) -> None:
        """Write the whole note, whatever was there for this project.

        Raises:
            BackendError: the Integration has no route.
        """
        ...

    async def forget_registration(self, *, integration_uid: str, project: str) -> None:
        """Delete a note; absent already counts as done."""
        ...


class Triggers(Protocol):
    """What starts workflows: rows of the platform database that the gateway follows."""

    async def find(self, *, workflow_uid: str) -> Sequence[Trigger]:
        """The workflow's triggers by position."""
        ...

    async def publish(self, *, workflow_uid: str, triggers: Sequence[Trigger]) -> None:
        """Replace them all in one transaction."""
        ...

    async def withdraw(self, *, workflow_uid: str) -> None:
        """Delete them all; absent already counts as done."""
        ...


class Journal(Protocol):
    """Runs and their steps in the tenant's database. Writing the same row again changes nothing."""

    async def read(self, tenant: TenantRef, *, run_uid: str) -> RunJournal | None:
        """The run with all attempts of its steps."""
        ...

    async def begin(
        self, tenant: TenantRef, *, run_uid: str, namespace: str, name: str, workflow_uid: str | None
    ) -> None:
        """Open the run."""
        ...

    async def finish(
        self,
        tenant: TenantRef,
        *,
        run_uid: str,
        phase: Literal["Succeeded", "Failed", "Cancelled"],
        reason: str,
    ) -> None:
        """Close the run; one that is closed stays as it is."""
        ...

    async def begin_step(self, tenant: TenantRef, *, run_uid: str, step: str, attempt: int) -> None:
        """Write the intent."""
        ...

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
        """Write the outcome, with the intent if there is none; an outcome that is there stays as it is.

        `after`: it was put off, and is not to be tried again before so long from now.
        """
        ...


class Decisions(Protocol):
    """What the gateway decided, in the tenant's database."""

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
        """The decision that asked for a run: event and prediction as the trigger saw them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAccount:
    """At whose provider, as whom, and for which project."""

    connector: str
    config: Mapping[str, Any] = field(hash=False, repr=False)
    credentials: Mapping[str, Secret] = field(hash=False, repr=False)
    project: str


class Actions(Protocol):
    """CI systems, by the connectors of the catalogue."""

    @property
    def connectors(self) -> Mapping[str, Manifest]:
        """The catalogue by name."""
        ...

    @property
    def broken(self) -> Mapping[str, str]:
        """Connectors from outside of this release that cannot be used, by name, with the reason."""
        ...

    async def check(
        self, *, connector: str, config: Mapping[str, Any], credentials: Mapping[str, Secret]
    ) -> CredentialCheck:
        """Show the credentials to the provider. Never raises for its answer."""
        ...

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
        """Read a bounded part of a project's finished runs and jobs, from the cursor on.

        Never raises for the provider's answer: what was read before it stands.
        """
        ...

    async def find_webhooks(
        self, account: ProviderAccount, *, path: str, known: str
    ) -> Sequence[ProviderHook]:
        """The project's webhooks that are ours: those that lead to this path, and the one with this id.

        Raises:
            Stalled, Waiting, BackendError: the provider does not tell.
        """
        ...

    async def create_webhook(self, account: ProviderAccount, *, url: str, secret: Secret) -> None:
        """Make the project a webhook; whether it was made although this raises, `find_webhooks` tells.

        Raises:
            as `find_webhooks`.
        """
        ...

    async def update_webhook(
        self, account: ProviderAccount, hook_id: str, *, url: str, secret: Secret
    ) -> None:
        """Make a webhook what it should be: address, secret, events, and on.

        Raises:
            as `find_webhooks`.
        """
        ...

    async def delete_webhook(self, account: ProviderAccount, hook_id: str) -> None:
        """Remove a webhook; gone already counts as done.

        Raises:
            as `find_webhooks`.
        """
        ...

    async def missed_deliveries(
        self, account: ProviderAccount, hook_id: str, *, since: datetime
    ) -> DeliveryLook:
        """What the provider sent to a webhook since then that never arrived.

        Raises:
            as `find_webhooks`.
        """
        ...

    async def redeliver(self, account: ProviderAccount, hook_id: str, delivery_id: str) -> None:
        """Have a delivery sent again; that it arrives, only a later look tells.

        Raises:
            as `find_webhooks`.
        """
        ...

    async def perform(
        self,
        *,
        connector: str,
        action: str,
        config: Mapping[str, Any],
        credentials: Mapping[str, Secret],
        inputs: Mapping[str, str],
    ) -> Performed:
        """Perform an action once, repeating nothing by itself. Never raises for the provider's answer."""
        ...


class HistoryImport(Protocol):
    """The gateway as the one that writes history."""

    async def send(self, *, namespace: str, integration: str, records: Sequence[Record]) -> None:
        """Have these stored in the Integration's history; they are when it returns. Twice is once.

        Raises:
            Waiting: not now; the gateway may not know the Integration yet.
            Unreachable: it did not answer, and perhaps stored a part.
            Forbidden: it does not take the runner's word.
            Stalled: it refused the records, or there is no way to it.
        """
        ...


class GapBook(Protocol):
    """What the metrics tell of missed deliveries."""

    def saw(self, integration_uid: str, *, missed: int) -> None:
        """So many of an Integration's deliveries had not arrived at the last look."""
        ...

    def asked(self) -> None:
        """One more delivery was asked for again."""
        ...

    def forget(self, integration_uid: str) -> None:
        """The Integration goes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerPorts:
    """Everything the runner's controllers may reach; what follows `imports` is the Model's."""

    cluster: Cluster
    directory: Directory
    routes: Routes
    triggers: Triggers
    secrets: SecretStore
    sealer: Sealer
    journal: Journal
    decisions: Decisions
    actions: Actions
    imports: HistoryImport
    compute: Compute
    artifacts: Artifacts
    trainings: Trainings
    windows: Windows
    pointers: Pointers
    tracking: Tracking | None = None
    """None: trainings are recorded nowhere else."""
    gaps: GapBook | None = None
    """None: nobody counts."""
    turns: TurnBook | None = None
    """None: nobody counts."""
