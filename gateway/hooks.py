"""POST /hooks/{hook_id}: a provider's delivery, from the first byte to the answer after the commit.

    path ─► length ─► room in the tenant's lane ─► body ─► signature ─► parse ─► id ─► map ─► store ─► answer

A body that holds several events goes the same way: what one refuses is refused, and they are stored together.

In this order: nothing is read for an unknown path, nothing parsed that is not signed, nothing answered with
2xx that is not durable. A 503 means: the same delivery is good later. What comes for a tenant that is
suspended, or whose database does not answer, is kept in the spool (`parking`), and comes back by `replay`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from starlette.requests import Request

from connectors import mapping, verify
from connectors.batches import Part
from connectors.manifest import Manifest
from connectors.mapping import Ignored, MappingError, Opened, WrongType
from connectors.mistakes import ConfigError
from connectors.verify import Claim, KeySource, SignatureRefused
from connectors.webhook import Webhook
from gateway import answers, batches, bodies, deadletters, parking, problems, reading
from gateway.answers import Answer
from gateway.control import Control
from gateway.databases import Databases, serving
from gateway.deadletters import Refused
from gateway.directory import Directory
from gateway.dispatch import Dispatcher
from gateway.groups import Groups
from gateway.ingest import Received, Stored, Surroundings
from gateway.keys import Keys
from gateway.limits import Lanes, Room
from gateway.metrics import Metrics
from gateway.parking import Spool
from gateway.problems import Problem
from gateway.scoring import Models
from pipewright import errors, events
from pipewright.events import Record
from pipewright.ports import Clock
from pipewright.runner_facts import SUSPENDED
from pipewright.runtime import logs
from pipewright.store.records import Delivery, DeliveryOutcome, Route, Tenant
from pipewright.store.spool import Parked

log = logs.get(__name__)

_LONGEST_REASON = 500
_KEPT_HEADERS = ("content-type", "user-agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """One event of a verified body, mostly all of it: which it is, what it says, and what is kept of it."""

    identity: mapping.Delivery
    said: list[Record] | Ignored | Refused
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def reason(self) -> str:
        """Why nothing of it is stored; empty where it is."""
        return "" if isinstance(self.said, list) else self.said.reason[:_LONGEST_REASON]


def _headers(request: Request) -> Mapping[str, str]:
    """By lower-case names. One that came twice is one (RFC 9110 §5.3): nobody hides a second value."""
    found: dict[str, str] = {}
    for raw, value in request.headers.raw:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """A route, and what its connector and its config say of its deliveries."""

    route: Route
    webhook: Webhook
    config: Mapping[str, Any] = field(repr=False)


def _told(route: Route, manifest: Manifest) -> _Told:
    """What deliveries of this route are read by.

    Raises:
        Problem: 503, this release does not understand the config that the route has.
    """
    config = manifest.completed(route.config)
    try:
        webhook = manifest.webhook_of(config)
    except ConfigError as wrong:
        log.error("a route's config is wrong", integration=route.integration_uid, reason=str(wrong)[:500])
        raise problems.unavailable(
            "ConnectorBroken", "the Integration's config is not understood; its conditions say why", after=60
        ) from None
    if webhook is None:
        raise problems.not_found("there is no such webhook")
    return _Told(route=route, webhook=webhook, config=manifest.plain(config))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Takes deliveries."""

    directory: Directory
    databases: Databases
    keys: Keys
    provider_keys: KeySource
    catalogue: Mapping[str, Manifest]
    models: Models
    dispatcher: Dispatcher
    spool: Spool
    lanes: Lanes
    room: Room
    groups: Groups
    clock: Clock
    metrics: Metrics
    max_body: int

    async def receive(self, hook_id: str, request: Request) -> Answer:
        """Take one delivery.

        Raises:
            Problem: it is refused, or cannot be taken now.
        """
        try:
            answer = await self._receive(hook_id, request)
        except Problem as refused:
            self.metrics.deliveries.labels(refused.reason).inc()
            raise
        except (errors.BackendError, errors.Waiting) as error:
            self.metrics.deliveries.labels("Unavailable").inc()
            log.warning("a delivery could not be stored", **logs.describe(error))
            raise problems.from_error(error) from None
        for outcome, count in answer.outcomes.items():
            self.metrics.deliveries.labels(outcome).inc(count)
        return answer

    async def _receive(self, hook_id: str, request: Request) -> Answer:
        route = self.directory.view.routes.get(hook_id)
        manifest = self.catalogue.get(route.connector) if route is not None else None
        if route is not None and route.enabled and manifest is None:
            raise problems.unavailable(
                "ConnectorBroken", f"the connector {route.connector} cannot be used here", after=60
            )
        if route is None or not route.enabled or manifest is None or manifest.webhook is None:
            raise problems.not_found("there is no such webhook")
        tenant = serving(self.directory.view.tenants.get(route.tenant_id))
        if self.directory.view.namespaces.get(route.namespace) != [tenant.id]:
            raise problems.not_found("there is no such webhook")
        reading.check_length(request, limit=self.max_body)
        async with self.lanes.enter(route.tenant_id):
            with self.room.held() as take:
                return await self._taken(route, manifest, tenant, request, take)

    async def _taken(
        self,
        route: Route,
        manifest: Manifest,
        tenant: Tenant,
        request: Request,
        take: Callable[[int], None],
    ) -> Answer:
        """From the body on."""
        body = await reading.whole(request, limit=self.max_body, take=take)
        headers = _headers(request)
        source = request.client.host if request.client is not None else ""
        told = _told(route, manifest)
        await self._verify(told, headers=headers, body=body, source=source)
        now = self.clock.now()
        parts = batches.split(told.webhook, headers=headers, raw=body)
        if parts is None:
            event = _event(told, headers=headers, body=body, now=now)
            [outcome] = await self._keep(told, tenant, [event], now)
            return answers.of_one(outcome, reason=event.reason)
        events = await batches.each(told.webhook, parts, lambda part: _event_of(told, part, now))
        return answers.of_batch(await self._keep(told, tenant, events, now))

    async def _keep(
        self, told: _Told, tenant: Tenant, events: Sequence[_Event], now: datetime
    ) -> Sequence[str]:
        """Store the events, or keep them for later; what became of each."""
        route = told.route
        wanted = any(not isinstance(event.said, Ignored) for event in events)
        if tenant.state == SUSPENDED and wanted:
            return await self._park(told, events, now)
        # Before its turn: the first use of a model waits for its file.
        around = await self._around(route) if wanted else Surroundings()
        received = self._received(route, events, around, at=now)
        try:
            self.databases.expect(route.tenant_id)
            if events and isinstance(events[0].said, Refused):  # it is alone: in a batch none is
                async with self.lanes.work(route.tenant_id):
                    return [await self._bury(route, events[0], events[0].said, now)]
            return self._outcomes(received, await self.groups.store(route.tenant_id, received))
        except (errors.Unreachable, errors.Forbidden) as away:
            # perhaps it was stored, and only the answer is lost: then its id makes no second one
            log.warning("a delivery waits for its database", tenant=route.tenant_id, **logs.describe(away))
            return await self._park(told, events, now)

    async def _park(self, told: _Told, events: Sequence[_Event], now: datetime) -> Sequence[str]:
        """Keep the delivery until the tenant is resumed, or its database answers."""
        route = told.route
        parked = [
            Parked(
                tenant_id=route.tenant_id,
                integration=route.integration_uid,
                delivery_id=each.identity.id,
                received_at=now,
                sealed=parking.pack(
                    told.webhook,
                    headers=each.headers,
                    body=each.body,
                    key=self.databases.access(route.tenant_id).data_key,
                    integration=route.integration_uid,
                    delivery_id=each.identity.id,
                ),
            )
            for each in events
        ]
        async with self.lanes.work(route.tenant_id):
            return await self.spool.park_all(parked)

    async def replay(self, route: Route, parked: Parked) -> str:
        """Take a delivery that was kept, as if it came now; its signature was verified when it came.

        Raises:
            Problem, BackendError: it cannot be taken now.
        """
        manifest = self.catalogue.get(route.connector)
        if manifest is None or manifest.webhook is None:
            raise errors.BackendError(f"there is no connector {route.connector} with webhooks")
        key = self.databases.access(route.tenant_id).data_key
        headers, body = parking.unpack(parked, key=key)
        told = None
        try:
            told = _told(route, manifest)
            event = _event(told, headers=headers, body=body, now=self.clock.now())
        except Problem as refused:
            if refused.reason == "ConnectorBroken":  # this row waits, those behind it go on
                raise errors.BackendError(refused.detail) from None
            # the connector that took it understood it; this one is another
            reason = f"it is not understood any more ({refused.reason})"
            said = Refused(reason=reason, webhook=told.webhook) if told is not None else Ignored(reason)
            found = mapping.Delivery(parked.delivery_id, "unknown")
            event = _Event(identity=found, said=said, headers=headers, body=body)
        # as it was when it came: a connector that tells deliveries apart otherwise now makes no second one
        event = replace(event, identity=replace(event.identity, id=parked.delivery_id))
        around = await self._around(route) if isinstance(event.said, list) else Surroundings()
        received = self._received(route, [event], around, at=parked.received_at)
        async with self.lanes.enter(route.tenant_id), self.lanes.work(route.tenant_id):
            if isinstance(event.said, Refused):
                return await self._bury(route, event, event.said, parked.received_at, acknowledged=True)
            stored = await self.groups.store_alone(route.tenant_id, received)
        return self._outcomes(received, stored)[0]

    async def _bury(
        self, route: Route, event: _Event, refused: Refused, at: datetime, *, acknowledged: bool = False
    ) -> str:
        """Keep what is not understood as a dead letter; what became of it. `at`: when it came."""
        became = await deadletters.keep(
            self.databases,
            refused,
            _delivery(route, event, at),
            route=route,
            headers=event.headers,
            body=event.body,
            acknowledged=acknowledged,
            metrics=self.metrics,
        )
        return answers.DUPLICATE if became == "duplicate" else answers.REFUSED

    async def _around(self, route: Route) -> Surroundings:
        """The triggers that wait where the delivery arrived, and the model that serves there."""
        view, place = self.directory.view, (route.tenant_id, route.namespace)
        pointer = view.default_model(place)
        durations = view.default_model(place, task="Duration")
        causes = view.default_model(place, task="FailureCause")
        return Surroundings(
            triggers=view.triggers.get(place, ()),
            predictor=await self.models.get(pointer),
            control=Control.of(pointer),
            forecaster=await self.models.forecaster(durations),
            duration_control=Control.of(durations),
            judge=await self.models.judge(causes),
            cause_control=Control.of(causes),
        )

    async def _verify(self, told: _Told, *, headers: Mapping[str, str], body: bytes, source: str) -> None:
        """Return if the delivery is proved. One that is not learns nothing of what we expect."""
        claim = Claim(
            headers=headers,
            body=body,
            secrets=self.keys.webhook_secrets(told.route),
            now=self.clock.now(),
            config=told.config,
            source=source,
            allow_unsigned=told.route.allow_unsigned,
        )
        try:
            await verify.verify(told.webhook.verify, claim, keys=self.provider_keys)
        except SignatureRefused as refused:
            raise Problem(401, "SignatureRefused", str(refused)) from None

    def _received(
        self, route: Route, events: Sequence[_Event], around: Surroundings, *, at: datetime
    ) -> Sequence[Received]:
        """What is stored of events that came together."""
        uid, key = route.integration_uid, self.databases.access(route.tenant_id).data_key
        received = []
        for event in events:
            delivery = _delivery(route, event, at)
            if not isinstance(event.said, list):
                received.append(Received(route=route, delivery=delivery))
                continue
            body = bodies.seal(event.body, key=key, integration=uid, delivery_id=event.identity.id)
            kept = {name: event.headers[name][:200] for name in _KEPT_HEADERS if name in event.headers}
            received.append(
                Received(
                    route=route,
                    delivery=delivery,
                    headers=kept,
                    body=body,
                    records=event.said,
                    around=around,
                )
            )
        return received

    def _outcomes(self, received: Sequence[Received], stored: Sequence[Stored]) -> Sequence[str]:
        """What became of each, in the words of the metrics; runs that are wanted now are dispatched."""
        fired, decided = sum(it.fired for it in stored), sum(it.decisions for it in stored)
        if fired:
            self.dispatcher.wake(received[0].route.tenant_id)
        if decided:
            self.metrics.decisions.labels("true").inc(fired)
            self.metrics.decisions.labels("false").inc(decided - fired)
        return [
            answers.DUPLICATE if now.duplicate else each.delivery.outcome
            for each, now in zip(received, stored, strict=True)
        ]


def _event(
    told: _Told,
    *,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    parsed: dict[str, Any] | None = None,
) -> _Event:
    """What a verified body of one event says; `parsed`: the body, where it was read.

    Raises:
        Problem: it has another type, or does not name itself.
    """
    try:
        opened = mapping.open_delivery(told.webhook, headers=headers, raw=body, parsed=parsed)
        identity = mapping.identify(told.webhook, opened, told.config, received_at=now)
    except WrongType as refused:
        raise Problem(415, "WrongType", str(refused)) from None
    except MappingError as refused:
        raise Problem(400, "BadRequest", str(refused)) from None
    said = _mapped(told, opened, identity.event, now)
    return _Event(identity=identity, said=said, headers=headers, body=body)


def _event_of(told: _Told, part: Part, now: datetime) -> _Event:
    """What one event of several says.

    Raises:
        Problem: as `_event` says, and 422 where it is not understood.
    """
    event = _event(told, headers=part.headers, body=part.raw, now=now, parsed=part.document)
    if isinstance(event.said, Refused):
        raise Problem(422, "NotUnderstood", event.reason)
    return event


def _mapped(told: _Told, opened: Opened, event: str, now: datetime) -> list[Record] | Ignored | Refused:
    try:
        said = mapping.map_delivery(told.webhook, opened, event=event, config=told.config)
        if isinstance(said, Ignored):
            return said
        for _, record in said:
            events.not_from_the_future(record, now=now)
    except (MappingError, events.RecordError) as refused:
        return Refused(reason=refused.plain, webhook=told.webhook)
    projects = told.route.projects
    records = [record for _, record in said if not projects or record.project in projects]
    return records or Ignored("the project is not among the Integration's projects")


def _delivery(route: Route, event: _Event, at: datetime) -> Delivery:
    """The delivery as it is listed; `at`: when it came."""
    outcome: DeliveryOutcome = "refused" if isinstance(event.said, Refused) else "ignored"
    return Delivery(
        integration=route.integration_uid,
        delivery_id=event.identity.id,
        event=event.identity.event,
        received_at=at,
        outcome="stored" if isinstance(event.said, list) else outcome,
        reason=event.reason,
    )
