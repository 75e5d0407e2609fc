"""`ports.Actions` on the catalogue of connectors: what a provider's answer means for those who asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from connectors import actions, catalogue, sync
from connectors.actions import OutcomeUnknown
from connectors.auth import Tokens
from connectors.calls import Account, Calls
from connectors.manifest import Manifest
from connectors.missed import DeliveryLog
from connectors.outbound import Outbound
from connectors.register import Registrar
from connectors.registration import Registration
from connectors.webhook import Webhook
from pipewright import errors, events
from pipewright.events import Record, RecordError
from pipewright.ports import ProviderAccount, Secret, SystemClock
from pipewright.runner_facts import (
    HISTORY_AGAIN,
    CredentialCheck,
    DeliveryLook,
    HistoryPart,
    MissedDelivery,
    Performed,
    ProviderHook,
    Scopes,
    Trouble,
)

HISTORY_PAGES = 60
"""Requests of one look at a history, about; another Integration has its turn after them."""
HISTORY_ITEMS = 3000
HISTORY_LEFT_OUT = 5
"""Notes of what was not understood, each of so many characters at most:"""
HISTORY_NOTE = 200
HISTORY_SECONDS = 20.0
"""After these no other run is begun."""
HISTORY_LONGEST = 45.0
"""After these the run that is being read is given up; those before it are kept."""

_DONE = frozenset({"AnswerTooLarge", "AnswerNotUnderstood"})
"""Refusals of the answer and not of the action: it was done, and must not be repeated blindly."""


class ConnectorActions:
    """Providers, by the connectors that this release carries."""

    def __init__(
        self,
        client: Outbound,
        *,
        connectors: Mapping[str, Manifest] | None = None,
        broken: Mapping[str, str] | None = None,
    ) -> None:
        """`connectors` is the catalogue unless somebody brings more; `broken` has what cannot be used."""
        self._client = client
        self._tokens = Tokens(clock=SystemClock())
        self._connectors = catalogue.load() if connectors is None else connectors
        self._broken = broken or {}

    @property
    def connectors(self) -> Mapping[str, Manifest]:
        """The catalogue by name."""
        return self._connectors

    @property
    def broken(self) -> Mapping[str, str]:
        """Those that cannot be used, by name, with the reason."""
        return self._broken

    async def check(
        self, *, connector: str, config: Mapping[str, Any], credentials: Mapping[str, Secret]
    ) -> CredentialCheck:
        """Show the credentials to the provider."""
        manifest = self._connectors[connector]
        account = Account(config=config, credentials=credentials)
        try:
            told = await actions.check(manifest, account=account, client=self._client, tokens=self._tokens)
        except errors.Stalled as refused:
            return CredentialCheck(accepted=False, reason=refused.reason, message=refused.message)
        except (errors.Waiting, errors.BackendError) as trouble:
            message = f"{trouble.message}; it is asked again"
            return CredentialCheck(accepted=None, reason=trouble.reason, message=message)
        scopes = Scopes(granted=told.granted, missing=told.missing) if told is not None else None
        if scopes is not None and scopes.missing:
            message = (
                f"{manifest.title} accepts the token, but it lacks the scopes {', '.join(scopes.missing)}: "
                "give it these, or put one that has them into the Secret"
            )
            return CredentialCheck(accepted=False, reason="ScopesMissing", message=message, scopes=scopes)
        if not manifest.credentials:
            message = f"{manifest.title} answers, and needs no credentials"
            return CredentialCheck(accepted=True, reason="NotNeeded", message=message)
        message = f"{manifest.title} accepts the credentials"
        return CredentialCheck(accepted=True, reason="CredentialsValid", message=message, scopes=scopes)

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
        """Read a bounded part, from the cursor on."""
        manifest = self._connectors[connector]
        account = Account(config=config, credentials=credentials)
        found: list[Record] = []
        left_out: dict[str, None] = {}
        place: str | None = cursor

        def part(trouble: Trouble | None = None) -> HistoryPart:
            return HistoryPart(
                records=tuple(found),
                cursor=place,
                trouble=trouble,
                left_out=tuple(left_out)[:HISTORY_LEFT_OUT],
            )

        try:
            if manifest.sync is None:
                raise errors.Stalled("NotSupported", f"{manifest.title} has no history to read")
            session = Calls(manifest, account, client=self._client, tokens=self._tokens)
            ends = time.monotonic() + HISTORY_SECONDS
            batches = sync.history(
                session,
                manifest.sync,
                project=project,
                since=since,
                until=until,
                cursor=sync.Cursor.parse(cursor),
                budget=sync.Budget(pages=HISTORY_PAGES, items=HISTORY_ITEMS),
            )
            async with asyncio.timeout(HISTORY_LONGEST), aclosing(batches):
                async for batch in batches:
                    found += [record for record in batch.records if _has_happened(record)]
                    if len(left_out) < HISTORY_LEFT_OUT:
                        left_out |= dict.fromkeys(note[:HISTORY_NOTE] for note in batch.refused)
                    place = batch.cursor.text() if batch.cursor is not None else None
                    if time.monotonic() > ends:
                        break
        except TimeoutError:
            message = f"{manifest.title} took longer than {HISTORY_LONGEST:.0f} s to tell of a run"
            return part(Trouble(reason="Unreachable", message=message, after=HISTORY_AGAIN))
        except errors.Waiting as later:
            return part(Trouble(reason=later.reason, message=later.message, after=later.after))
        except (errors.Stalled, errors.BackendError) as trouble:
            return part(Trouble(reason=trouble.reason, message=trouble.message, after=HISTORY_AGAIN))
        return part()

    async def find_webhooks(
        self, account: ProviderAccount, *, path: str, known: str
    ) -> Sequence[ProviderHook]:
        """The project's webhooks that are ours."""
        found = await self._registrar(account).find(path=path, known=known)
        return [ProviderHook(id=hook.id, url=hook.url, current=hook.current) for hook in found]

    async def create_webhook(self, account: ProviderAccount, *, url: str, secret: Secret) -> None:
        """Make one."""
        await self._registrar(account).create(url=url, secret=secret)

    async def update_webhook(
        self, account: ProviderAccount, hook_id: str, *, url: str, secret: Secret
    ) -> None:
        """Make one what it should be."""
        await self._registrar(account).update(hook_id, url=url, secret=secret)

    async def delete_webhook(self, account: ProviderAccount, hook_id: str) -> None:
        """Remove one."""
        await self._registrar(account).delete(hook_id)

    async def missed_deliveries(
        self, account: ProviderAccount, hook_id: str, *, since: datetime
    ) -> DeliveryLook:
        """What was sent to a webhook since then and never arrived; nothing where nobody tells."""
        log = self._log(account, hook_id)
        if log is None:
            return DeliveryLook(missed=(), filled_at=None)
        found = await log.read(since=since)
        missed = tuple(
            MissedDelivery(id=each.id, at=each.at, last=each.last, tries=each.tries) for each in found.missed
        )
        return DeliveryLook(missed=missed, filled_at=found.filled_at)

    async def redeliver(self, account: ProviderAccount, hook_id: str, delivery_id: str) -> None:
        """Have a delivery sent again."""
        log = self._log(account, hook_id)
        if log is not None:
            await log.ask_again(delivery_id)

    def _registrar(self, account: ProviderAccount) -> Registrar:
        session, wanted = self._registration(account)
        return Registrar(session, wanted, project=account.project)

    def _log(self, account: ProviderAccount, hook_id: str) -> DeliveryLog | None:
        session, wanted = self._registration(account)
        if wanted.deliveries is None:
            return None
        return DeliveryLog(session, wanted.deliveries, project=account.project, hook_id=hook_id)

    def _registration(self, account: ProviderAccount) -> tuple[Calls, Registration]:
        manifest = self._connectors.get(account.connector)
        webhook = manifest.webhook if manifest is not None else None
        if manifest is None or not isinstance(webhook, Webhook) or webhook.registration is None:
            raise errors.Stalled(
                "RegistrationNotSupported", f"the connector {account.connector} registers no webhooks"
            )
        as_whom = Account(config=account.config, credentials=account.credentials)
        session = Calls(manifest, as_whom, client=self._client, tokens=self._tokens)
        return session, webhook.registration

    async def perform(
        self,
        *,
        connector: str,
        action: str,
        config: Mapping[str, Any],
        credentials: Mapping[str, Secret],
        inputs: Mapping[str, str],
    ) -> Performed:
        """Perform an action once."""
        manifest = self._connectors.get(connector)
        if manifest is None:
            return Performed(phase="Failed", message=f"there is no connector {connector}")
        account = Account(config=config, credentials=credentials)
        try:
            result = await actions.perform(
                manifest,
                action,
                inputs=inputs,
                account=account,
                client=self._client,
                tokens=self._tokens,
            )
        except OutcomeUnknown as lost:
            return Performed(phase="Unknown", message=lost.message)
        except errors.Stalled as refused:
            return Performed(
                phase="Unknown" if refused.reason in _DONE else "Failed", message=refused.message
            )
        except errors.Waiting as later:
            return Performed(phase="Failed", message=later.message, after=later.after)
        except errors.BackendError as trouble:
            return Performed(phase="Failed", message=trouble.message)
        return Performed(phase="Succeeded", result=dict(result))


def _has_happened(record: Record) -> bool:
    """The gateway refuses a whole import for one record from the future."""
    try:
        events.not_from_the_future(record, now=datetime.now(UTC))
    except RecordError:
        return False
    return True
