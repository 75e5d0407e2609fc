"""The webhook at the provider, made, kept and removed for each project as `spec.webhook.register` asks. Pure.

What is noted decides where to look: a project without a note, with one of another address or secret, or
whose last look is old enough. What was seen there decides what is done. The note is written before the first
request, so that whatever was made is found again and removed, also after a crash and with the status lost.

    not noted ──► looked at ──► nothing of ours: register │ ours and wrong: repair │ ours and right: noted
    noted and not wanted any more ──► looked at ──► remove, forget
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controllers.integration import objects
from controllers.integration.plan import WEBHOOK, Observed, Plan, is_published
from pipewright import actions as act
from pipewright import names, records
from pipewright.api.v1alpha1 import Integration
from pipewright.plan import chain, merge, says, upkeep
from pipewright.runner_facts import ProviderHook, Registered, TenantRef, Trouble, WebhookKeys

if TYPE_CHECKING:
    from connectors.manifest import Manifest

CHECKED_EVERY = timedelta(hours=1)
"""How often a webhook that was right is looked at."""
AT_ONCE = 10
"""Projects that are looked at in one look; the others have their turn in the next."""
NEXT_TURN = timedelta(seconds=1)
GIVEN_UP = timedelta(hours=1)
"""How long a deletion waits for a provider that does not let a webhook be removed."""
RETRY = timedelta(minutes=1)
"""How soon a removal is tried again at the latest."""
TRANSIENT = frozenset({"Unreachable", "ProviderBusy"})
"""Troubles that say nothing against a webhook that was right."""
HOPELESS = frozenset({"SecretMissing", "UnknownConnector", "InvalidConfig", "RegistrationNotSupported"})
"""Troubles that keep nobody waiting who wants the Integration gone: there is no way to the provider."""


def wanted(integration: Integration, connector: Manifest | None) -> tuple[str, ...]:
    """The projects that ought to have a webhook."""
    webhook = integration.spec.webhook
    if integration.deleting or not (webhook.register_ and webhook.enabled):
        return ()
    return tuple(sorted(integration.spec.projects)) if supported(connector) else ()


def supported(connector: Manifest | None) -> bool:
    """Whether webhooks of this connector can be registered."""
    return getattr(connector.webhook if connector else None, "registration", None) is not None


def asked(keys: WebhookKeys, url: str) -> str:
    """What a webhook is to be, as a note has it."""
    return f"{keys.number} {url}"


def due(
    integration: Integration,
    connector: Manifest | None,
    noted: Mapping[str, Registered],
    *,
    ask: str,
    now: datetime,
) -> list[str]:
    """The projects to look at now, those that go first; as many as one look has time for."""
    wants = wanted(integration, connector)
    gone = [project for project, note in noted.items() if note.tried and project not in wants]
    fresh = [project for project in wants if project not in noted or noted[project].asked != ask]
    old = [project for project in wants if project in noted and noted[project].next_look <= now]
    # `asked` is empty once it was tried to remove it
    ready = [
        project
        for project in gone
        if integration.deleting or noted[project].asked or noted[project].next_look <= now
    ]
    return list(dict.fromkeys((*ready, *fresh, *old)))[:AT_ONCE]


# --- while it is there ----------------------------------------------------------------------------------


def plan_registration(integration: Integration, observed: Observed, *, now: datetime) -> Plan:
    """What the looks at the provider lead to, and what to say of it."""
    webhook, tenant, keys = integration.spec.webhook, observed.tenant, observed.keys
    if tenant is None or not isinstance(keys, WebhookKeys):
        return Plan()
    noted = {note.project: note for note in observed.registered}
    wants = wanted(integration, observed.connector)
    steps = [
        _forgotten(integration, tenant, project, now=now)
        for project, note in noted.items()
        if project not in wants and not note.tried
    ]
    steps += [
        _kept(integration, observed, tenant, keys, project, noted.get(project), now=now)
        if project in wants
        else _unwanted(integration, tenant, project, noted[project], observed.hooks[project], now=now)
        for project in observed.hooks
    ]
    steps.append(_next_look(noted.values(), looked=bool(observed.hooks), now=now))
    if not webhook.register_ or not webhook.enabled:
        return merge(*steps)
    if not supported(observed.connector):
        message = (
            f"spec.webhook.register: {integration.spec.connector} has no way to register a webhook: set it "
            "to false, and enter url and secret by hand"
        )
        return merge(*steps, says(WEBHOOK, False, "RegistrationNotSupported", message, stalled=True))
    if not is_published(integration, observed):
        return merge(*steps)
    return merge(*steps, _said(integration, observed, keys, wants, noted))


def _kept(
    integration: Integration,
    observed: Observed,
    tenant: TenantRef,
    keys: WebhookKeys,
    project: str,
    note: Registered | None,
    *,
    now: datetime,
) -> Plan:
    seen, ask = observed.hooks[project], asked(keys, observed.hook_url)
    if isinstance(seen, Trouble):
        before = note or Registered(project=project, next_look=now)
        return _note(integration, before, now=now, asked=ask, trouble=seen)
    place = place_of(integration, tenant.id, project)
    if not seen:
        return chain(WEBHOOK, act.RegisterWebhook(place=place, asked=ask, at=now))
    ours = _ours(seen, note)
    right = ours.current and ours.url == observed.hook_url
    if not right or note is None or note.key != keys.number:
        return chain(WEBHOOK, act.RepairWebhook(place=place, id=ours.id, asked=ask, at=now))
    return _note(integration, replace(note, id=ours.id, url=ours.url), now=now, asked=ask)


def _ours(seen: tuple[ProviderHook, ...], note: Registered | None) -> ProviderHook:
    """The one that was noted, or else the first; whoever entered a second one looks after it."""
    return next((hook for hook in seen if note is not None and hook.id == note.id), seen[0])


def _unwanted(
    integration: Integration,
    tenant: TenantRef,
    project: str,
    note: Registered,
    seen: tuple[ProviderHook, ...] | Trouble,
    *,
    now: datetime,
) -> Plan:
    if isinstance(seen, Trouble):
        later = replace(seen, after=max(seen.after, CHECKED_EVERY))  # perhaps the project is no more
        return _note(integration, note, now=now, asked="", trouble=later)
    place = place_of(integration, tenant.id, project)
    return chain(WEBHOOK, act.RemoveWebhook(place=place, ids=tuple(hook.id for hook in seen), at=now))


def _note(
    integration: Integration, note: Registered, *, now: datetime, asked: str, trouble: Trouble | None = None
) -> Plan:
    told = replace(
        note,
        asked=asked,
        next_look=now + (trouble.after if trouble else CHECKED_EVERY),
        reason=trouble.reason if trouble else "",
        message=trouble.message if trouble else "",
    )
    quiet: Plan = upkeep(WEBHOOK, act.NoteWebhook(integration_uid=integration.uid, registered=told))
    return quiet


def _forgotten(integration: Integration, tenant: TenantRef, project: str, *, now: datetime) -> Plan:
    """Nothing was ever made there."""
    place = place_of(integration, tenant.id, project)
    quiet: Plan = upkeep(WEBHOOK, act.RemoveWebhook(place=place, ids=(), at=now))
    return quiet


def _next_look(noted: Iterable[Registered], *, looked: bool, now: datetime) -> Plan:
    """When the next project has its turn; after a look that is told by notes that are only now written."""
    if looked:
        return Plan(check_after=NEXT_TURN)
    looks = [max(note.next_look - now, NEXT_TURN) for note in noted if note.tried or note.reason]
    return Plan(check_after=min(looks)) if looks else Plan()


def has_arrived(integration: Integration, observed: Observed, keys: WebhookKeys) -> bool:
    """Whether every project's webhook surely signs with the secret that counts."""
    noted = {note.project: note for note in observed.registered}
    wants = wanted(integration, observed.connector)
    return all(project in noted and noted[project].key == keys.number for project in wants)


def _said(
    integration: Integration,
    observed: Observed,
    keys: WebhookKeys,
    wants: tuple[str, ...],
    noted: Mapping[str, Registered],
) -> Plan:
    """The condition, from the notes and from what was seen now."""
    check, left = observed.credentials, 0
    for project in wants:
        note, seen = noted.get(project), observed.hooks.get(project)
        right = note is not None and (note.key, note.url) == (keys.number, observed.hook_url)
        reason, message = _trouble(note, seen)
        if reason and not (right and reason in TRANSIENT):
            return says(WEBHOOK, False, reason, f"the webhook of {project}: {message}")
        left += not right
    if not left:
        return says(WEBHOOK, True, "Registered", "the webhook is registered at the CI system")
    if check is None or not check.accepted:
        message = "the webhook is registered when the CI system accepts the credentials: see CredentialsValid"
        return says(WEBHOOK, False, "CredentialsNotValid", message)
    message = f"the webhooks of {left} of {len(wants)} projects are not yet registered at the CI system"
    return merge(says(WEBHOOK, False, "Registering", message), Plan(check_after=NEXT_TURN))


def _trouble(note: Registered | None, seen: tuple[ProviderHook, ...] | Trouble | None) -> tuple[str, str]:
    if isinstance(seen, Trouble):
        return seen.reason, seen.message
    if seen is not None or note is None:
        return "", ""
    return note.reason, note.message


# --- when it goes -----------------------------------------------------------------------------------------


def is_anywhere(observed: Observed) -> bool:
    """Whether a webhook of ours is, or may be, at the provider."""
    return any(note.tried for note in observed.registered)


def plan_removal(integration: Integration, observed: Observed, *, now: datetime) -> Plan:
    """Every webhook that was noted is removed, or left after so long, or at once where that was asked for."""
    noted = [note for note in observed.registered if note.tried]
    home = observed.tenant or observed.route
    if not noted or home is None:
        return Plan()
    tenant_id = home.id if isinstance(home, TenantRef) else home.tenant_id
    begun = integration.metadata.deletion_timestamp or now
    asked_for = is_abandoned(integration)
    steps: list[Plan] = []
    for note in noted:
        project, seen = note.project, observed.hooks.get(note.project)
        if asked_for:
            steps.append(_leave(integration, project, f"{names.ABANDON_ANNOTATION} asks for it"))
        elif isinstance(seen, Trouble):
            if seen.reason in HOPELESS or now - begun >= GIVEN_UP:
                steps.append(_leave(integration, project, seen.message))
            else:
                steps.append(_waits(project, seen, until=begun + GIVEN_UP))
        elif seen is None:
            steps.append(Plan(check_after=NEXT_TURN))
        elif seen and note.reason and now - begun >= GIVEN_UP:
            steps.append(_leave(integration, project, note.message))
        else:
            place = place_of(integration, tenant_id, project)
            ids = tuple(hook.id for hook in seen)
            steps.append(chain(WEBHOOK, act.RemoveWebhook(place=place, ids=ids, at=now)))
    return merge(*steps)


def is_abandoned(integration: Integration) -> bool:
    """Whether somebody says that the provider is gone for good."""
    told = integration.metadata.annotations.get(names.ABANDON_ANNOTATION, "")
    return "webhook" in [part.strip() for part in told.split(",")]


def _leave(integration: Integration, project: str, why: str) -> Plan:
    return chain(WEBHOOK, act.LeaveWebhook(integration_uid=integration.uid, project=project, why=why[:500]))


def _waits(project: str, trouble: Trouble, *, until: datetime) -> Plan:
    message = (
        f"the webhook of {project} cannot be removed at the CI system: {trouble.message}; it is tried until "
        f"{records.format_time(until.replace(microsecond=0))}; the annotation "
        f"{names.ABANDON_ANNOTATION}=webhook leaves it there at once"
    )
    return merge(says(WEBHOOK, False, trouble.reason, message), Plan(check_after=min(trouble.after, RETRY)))


def place_of(integration: Integration, tenant_id: str, project: str) -> act.ProviderPlace:
    """The way to a project at its provider."""
    ref = objects.credentials_ref(integration)
    return act.ProviderPlace(
        tenant_id=tenant_id,
        namespace=integration.namespace,
        integration_uid=integration.uid,
        connector=integration.spec.connector,
        config=integration.spec.config,
        secret=ref.name if ref is not None else None,
        project=project,
    )
