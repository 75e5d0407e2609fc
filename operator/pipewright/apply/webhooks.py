"""A project's webhook at its provider: made, changed and removed, and noted around it.

The note is there before the first request and goes after the last one: nothing of ours is forgotten there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from pipewright import errors
from pipewright.actions import integration
from pipewright.actions.integration import ProviderPlace
from pipewright.apply import runs, webhook_keys
from pipewright.plan import Ref
from pipewright.ports import ProviderAccount, RunnerPorts, Secret
from pipewright.runner_facts import MissedDelivery, Registered, WebhookKeys

CHECKED_EVERY = timedelta(hours=1)
"""When to look at a webhook that was changed just now: what the provider makes of it is not fought over."""
AGAIN = timedelta(minutes=5)
"""When to try again what a provider refused: a person may have to do something there."""

UNANSWERED = timedelta(seconds=30)
"""When to look what became of a request that was not answered."""
DELIVERIES_EVERY = timedelta(minutes=10)
"""When to look again for missed deliveries, and how long to wait with the second try of one."""
SETTLED = timedelta(seconds=30)
"""When to look whether those arrived that were asked for."""
UNDER_WAY = timedelta(minutes=1)
"""So new a delivery may be missing from the provider's list."""
ASKED_AT_ONCE = 50
TRIES = 8
"""After these, the last one ten hours after the first, a delivery is given up."""

WebhookAction = (
    integration.RegisterWebhook
    | integration.RepairWebhook
    | integration.RemoveWebhook
    | integration.LeaveWebhook
    | integration.FillGap
    | integration.NoteWebhook
)


async def perform(action: WebhookAction, *, ports: RunnerPorts, gateway_url: str) -> None:
    """Do one action.

    Raises:
        Waiting: the provider refused it, or has no time; it is noted when to try again.
        BackendError: it did not answer.
    """
    match action:
        case integration.RegisterWebhook():
            await _register(action, ports, gateway_url=gateway_url)
        case integration.RepairWebhook():
            await _repair(action, ports, gateway_url=gateway_url)
        case integration.RemoveWebhook():
            await _remove(action, ports)
        case integration.LeaveWebhook():
            await ports.routes.forget_registration(
                integration_uid=action.integration_uid, project=action.project
            )
        case integration.FillGap():
            await _fill(action, ports)
        case integration.NoteWebhook():
            await ports.routes.note_registration(action.registered, integration_uid=action.integration_uid)
        case _:
            assert_never(action)


async def _register(action: integration.RegisterWebhook, ports: RunnerPorts, *, gateway_url: str) -> None:
    keys, secret = await _wanted(action.place, ports)
    url = webhook_keys.url(keys.hook, gateway_url=gateway_url)
    before = await _noted(action.place, ports, at=action.at)
    # an address or id of before is of a webhook that is not there any more, and so are its deliveries
    note = Registered(
        project=action.place.project,
        tried=True,
        asked=action.asked,
        next_look=action.at,
        arrived_until=action.at,
        filled_at=before.filled_at,
    )
    await _write(action.place, note, ports)
    async with _noting(action.place, note, ports, at=action.at):
        account = await _account(action.place, ports)
        await ports.actions.create_webhook(account, url=url, secret=secret)
    # its id is seen at the next look, which is now
    await _write(action.place, replace(note, url=url, key=keys.number), ports)


async def _repair(action: integration.RepairWebhook, ports: RunnerPorts, *, gateway_url: str) -> None:
    keys, secret = await _wanted(action.place, ports)
    url = webhook_keys.url(keys.hook, gateway_url=gateway_url)
    note = replace(
        await _noted(action.place, ports, at=action.at),
        tried=True,
        id=action.id,
        asked=action.asked,
        next_look=action.at,
        reason="",
        message="",
    )
    await _write(action.place, note, ports)
    async with _noting(action.place, note, ports, at=action.at):
        account = await _account(action.place, ports)
        await ports.actions.update_webhook(account, action.id, url=url, secret=secret)
    later = action.at + CHECKED_EVERY
    # what it sent with an old secret, or nowhere, is asked for at once
    mended = replace(note, url=url, key=keys.number, next_look=later, next_deliveries=None)
    await _write(action.place, mended, ports)


async def _remove(action: integration.RemoveWebhook, ports: RunnerPorts) -> None:
    note = await _noted(action.place, ports, at=action.at)
    async with _noting(action.place, note, ports, at=action.at):
        for hook_id in action.ids:
            account = await _account(action.place, ports)
            await ports.actions.delete_webhook(account, hook_id)
    await ports.routes.forget_registration(
        integration_uid=action.place.integration_uid, project=action.place.project
    )


async def _fill(action: integration.FillGap, ports: RunnerPorts) -> None:
    """Look, and ask. A failure is noted, so that it is not tried at each look, and told as upkeep's are."""
    note = await _noted(action.place, ports, at=action.at)
    try:
        account = await _account(action.place, ports)
        found = await ports.actions.missed_deliveries(account, action.id, since=action.since)
        due = [each for each in found.missed if _is_due(each, now=action.at, mended=action.mended)]
        for each in due[:ASKED_AT_ONCE]:
            await ports.actions.redeliver(account, action.id, each.id)
            if ports.gaps is not None:
                ports.gaps.asked()
    except (errors.Stalled, errors.Waiting, errors.BackendError) as trouble:
        after = max(trouble.after if isinstance(trouble, errors.Waiting) else AGAIN, DELIVERIES_EVERY)
        await _write(action.place, replace(note, next_deliveries=action.at + after), ports)
        raise errors.BackendError(f"{action.place.project}: {trouble.message}") from None
    first = found.missed[0].at if found.missed else None
    told = replace(
        note,
        arrived_until=first or max(action.at - UNDER_WAY, action.since),
        next_deliveries=action.at + _next_deliveries(found.missed, due),
        missed=len(found.missed),
        missed_since=first,
        filled_at=found.filled_at or note.filled_at,
    )
    await _write(action.place, told, ports)


def _next_deliveries(missed: Sequence[MissedDelivery], due: Sequence[MissedDelivery]) -> timedelta:
    if due:
        return SETTLED
    # while those that were given up are listed, each look reads back to them
    given_up = bool(missed) and all(each.tries >= TRIES for each in missed)
    return CHECKED_EVERY if given_up else DELIVERIES_EVERY


def _is_due(missed: MissedDelivery, *, now: datetime, mended: bool) -> bool:
    """Once at once; then after a time that doubles, until it is given up and history must tell it."""
    if missed.tries >= TRIES:
        return False
    wait = timedelta() if mended or missed.tries < 2 else DELIVERIES_EVERY * 2 ** (missed.tries - 2)
    return now - missed.last >= wait


async def _wanted(place: ProviderPlace, ports: RunnerPorts) -> tuple[WebhookKeys, Secret]:
    keys, fields = await webhook_keys.read(place.tenant_id, place.integration_uid, ports)
    return keys, fields["secret"]


async def _account(place: ProviderPlace, ports: RunnerPorts) -> ProviderAccount:
    found = None
    if place.secret is not None:
        ref = Ref(api_version="v1", kind="Secret", namespace=place.namespace, name=place.secret)
        found = await ports.cluster.get(ref)
    return ProviderAccount(
        connector=place.connector,
        config=place.config,
        credentials=runs.fields_of(found) if found is not None else {},
        project=place.project,
    )


async def _noted(place: ProviderPlace, ports: RunnerPorts, *, at: datetime) -> Registered:
    found = await ports.routes.registrations(integration_uid=place.integration_uid)
    mine = [note for note in found if note.project == place.project]
    return mine[0] if mine else Registered(project=place.project, next_look=at)


async def _write(place: ProviderPlace, note: Registered, ports: RunnerPorts) -> None:
    await ports.routes.note_registration(note, integration_uid=place.integration_uid)


@asynccontextmanager
async def _noting(
    place: ProviderPlace, note: Registered, ports: RunnerPorts, *, at: datetime
) -> AsyncIterator[None]:
    """Note what is in the way, and when to try again; a refusal never ends the trying."""
    try:
        yield
    except (errors.Stalled, errors.Waiting, errors.BackendError) as trouble:
        after = AGAIN if isinstance(trouble, errors.Stalled) else UNANSWERED
        if isinstance(trouble, errors.Waiting):
            after = trouble.after
        told = replace(note, next_look=at + after, reason=trouble.reason, message=trouble.message)
        await _write(place, told, ports)
        if isinstance(trouble, errors.Stalled):
            raise errors.Waiting(trouble.reason, f"{place.project}: {trouble.message}", after=AGAIN) from None
        raise
