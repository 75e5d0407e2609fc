"""When and where to read on in a provider's history, and what to say of it. Pure.

    status.sync: through ◄── all is read until then       cursor ◄── the pass under way: times, project, place

A pass reads every project from `through` (at first: as far back as `backfill` says) until the time at which
it began. One look reads a part and hands it to the gateway; the cursor moves when the gateway has stored it.
So a crash repeats a part, which changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controllers.integration import objects
from controllers.integration.plan import CHECK_AGAIN, Observed, Plan
from pipewright import actions as act
from pipewright import plan, records
from pipewright.api.meta import format_duration
from pipewright.api.v1alpha1 import Integration
from pipewright.api.v1alpha1.integration import Sync, SyncStatus
from pipewright.plan import Fact
from pipewright.records import RecordError
from pipewright.runner_facts import Synced

CURRENT = "SyncCurrent"
OVERLAP = timedelta(hours=6)
"""A pass begins so long before the end of the last one: what ran then may have finished since."""
LEFT_OUT = 5
"""Notes of what a pass left out that are kept."""
AT_ONCE = timedelta(seconds=1)
"""When to read on: others have their turn between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One reading of all projects."""

    since: datetime
    until: datetime
    project: str
    cursor: str = ""

    def text(self) -> str:
        """As the status keeps it."""
        times = [records.format_time(self.since), records.format_time(self.until)]
        return json.dumps([*times, self.project, self.cursor], ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Pass | None:
        """What `text` gave; None for anything else."""
        try:
            since, until, project, cursor = json.loads(text)
            times = records.parse_time("since", since), records.parse_time("until", until)
        except (ValueError, TypeError, RecordError, RecursionError):
            return None
        if not isinstance(project, str) or not isinstance(cursor, str):
            return None
        return cls(since=times[0], until=times[1], project=project, cursor=cursor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What to say after a look."""

    facts: tuple[Fact, ...] = ()
    status: SyncStatus | None = None
    next_look: timedelta | None = None


def plan_history(integration: Integration, observed: Observed, *, now: datetime) -> Plan:
    """The part to be read next; the empty plan when nothing is due or nothing can be read."""
    part, ref = due(integration, now=now), objects.credentials_ref(integration)
    if part is None or _hindrance(integration, observed) is not None:
        return Plan()
    return plan.upkeep(
        CURRENT,
        act.ReadHistory(
            namespace=integration.namespace,
            integration=integration.name,
            connector=integration.spec.connector,
            config=integration.spec.config,
            secret=ref.name if ref is not None else None,
            project=part.project,
            since=part.since,
            until=part.until,
            cursor=part.cursor,
        ),
    )


def due(integration: Integration, *, now: datetime) -> Pass | None:
    """The pass under way, or the one that begins now; None while the last one is young enough."""
    wanted, last = integration.spec.sync, _last(integration)
    if wanted is None:
        return None
    under_way = Pass.parse(last.cursor)
    if under_way is not None and under_way.project in integration.spec.projects:
        return under_way
    projects = sorted(integration.spec.projects)
    if last.through is None:
        return Pass(since=now - wanted.backfill, until=now, project=projects[0])
    if now - last.through >= wanted.every:
        return Pass(since=last.through - OVERLAP, until=now, project=projects[0])
    return None


def told(integration: Integration, observed: Observed, synced: Synced | None, *, now: datetime) -> Told:
    """Condition, status and the next look, after what was planned was done."""
    wanted, last = integration.spec.sync, _last(integration)
    if wanted is None or integration.deleting:
        return Told()
    if observed.connector is None:
        return Told(status=last)  # a release that does not know the connector must not forget how far it was
    part = due(integration, now=now)
    if part is None:
        return _current(wanted, last, now=now)
    hindrance = _hindrance(integration, observed)
    if hindrance is not None:
        return Told(facts=(hindrance,), status=last)  # what it waits for has its own next look
    if synced is None:
        return Told(facts=(_reading(part),), status=last, next_look=CHECK_AGAIN)
    before = last.left_out if Pass.parse(last.cursor) is not None else ()
    left_out = tuple(dict.fromkeys((*before, *synced.left_out)))[:LEFT_OUT]
    last = last.model_copy(update={"left_out": left_out})
    if synced.cursor is not None:
        part = replace(part, cursor=synced.cursor)
        last = last.model_copy(update={"cursor": part.text()})
    else:
        left = [project for project in sorted(integration.spec.projects) if project > part.project]
        if not left:
            last = last.model_copy(update={"cursor": "", "through": part.until})
            return _current(wanted, last, now=now)
        part = Pass(since=part.since, until=part.until, project=left[0])
        last = last.model_copy(update={"cursor": part.text()})
    trouble = synced.trouble
    if trouble is None:
        fact = _reading(part) if last.through is None else _read(wanted)  # reading on is no news
        return Told(facts=(fact,), status=last, next_look=AT_ONCE)
    fact = Fact(
        type=CURRENT, status=False, reason=trouble.reason, message=f"{part.project}: {trouble.message}"
    )
    return Told(facts=(fact,), status=last, next_look=trouble.after)


def _last(integration: Integration) -> SyncStatus:
    """What the status tells; of another connector's, project's or backfill's history it tells nothing."""
    spec = integration.spec
    backfill = format_duration(spec.sync.backfill) if spec.sync is not None else ""
    asked = json.dumps([spec.connector, spec.config, sorted(spec.projects), backfill], sort_keys=True)
    revision = hashlib.sha256(asked.encode()).hexdigest()[:12]
    last = integration.status.sync
    return last if last is not None and last.revision == revision else SyncStatus(revision=revision)


def _hindrance(integration: Integration, observed: Observed) -> Fact | None:
    connector, check = observed.connector, observed.credentials
    if connector is None or connector.sync is None:
        message = f"the connector {integration.spec.connector} reads no history: take spec.sync away"
        return Fact(type=CURRENT, status=False, reason="NotSupported", message=message)
    if check is not None and check.accepted is None:
        return Fact(type=CURRENT, status=False, reason=check.reason, message=check.message)
    if check is None or not check.accepted:
        message = "the history is read when the CI system accepts the credentials: see CredentialsValid"
        return Fact(type=CURRENT, status=False, reason="CredentialsNotValid", message=message)
    if observed.route is None:
        message = "the history is read when the gateway knows the Integration: see WebhookReady"
        return Fact(type=CURRENT, status=False, reason="WebhookNotReady", message=message)
    return None


def _reading(part: Pass) -> Fact:
    return Fact(
        type=CURRENT, status=False, reason="Reading", message=f"the history of {part.project} is being read"
    )


def _read(wanted: Sync) -> Fact:
    message = f"the history is read, and read on every {format_duration(wanted.every)}"
    return Fact(type=CURRENT, status=True, reason=CURRENT, message=message)


def _current(wanted: Sync, last: SyncStatus, *, now: datetime) -> Told:
    assert last.through is not None, "a pass that ended says until when"
    wait = max(last.through + wanted.every - now, AT_ONCE)
    return Told(facts=(_read(wanted),), status=last, next_look=wait)
