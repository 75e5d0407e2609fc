"""POST /hooks/{hook_id}: a provider's delivery, from the first byte to the answer after the commit.

    path ─► length ─► room in the tenant's lane ─► body ─► signature ─► parse ─► id ─► map ─► store ─► answer

In this order: nothing is read for an unknown path, nothing parsed that is not signed, nothing answered with
2xx that is not durable. A 503 means: the same delivery is good later. What comes for a tenant that is
suspended, or whose database does not answer, is kept in the spool (`parking`), and comes back by `replay`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.requests import Request

from connectors import mapping, verify
from connectors.manifest import Manifest
from connectors.mapping import Ignored, MappingError, Opened, WrongType
from connectors.mistakes import ConfigError
from connectors.verify import Claim, KeySource, SignatureRefused
from connectors.webhook import Webhook
from gateway import bodies, deadletters, ingest, parking, problems, reading
from gateway.databases import Databases, serving
from gateway.deadletters import Refused
from gateway.directory import Directory
from gateway.dispatch import Dispatcher
from gateway.ingest import Received, Stored, Surroundings
from gateway.keys import Keys
from gateway.limits import Lanes
from gateway.metrics import Metrics
from gateway.parking import Spool
from gateway.problems import Problem
from gateway.scoring import Models
from ml.predict import Predictor
from pipewright import errors, events
from pipewright.events import Record
from pipewright.ports import Clock
from pipewright.runner_facts import SUSPENDED
from pipewright.runtime import logs, tracing
from pipewright.store import history
from pipewright.store.records import Delivery, DeliveryOutcome, Route
from pipewright.store.spool import Parked

log = logs.get(__name__)

TRIES = 3
"""How often a transaction is tried that another one beat to it."""
_LONGEST_REASON = 500
_KEPT_HEADERS = ("content-type", "user-agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a delivery is answered when nothing went wrong."""

    status: int
    accepted: bool = False
    duplicate: bool = False
    ignored: str = ""
    parked: bool = False
    refused: str = ""
    fired: int = 0


def _outcome(answer: Answer) -> str:
    """One word for the metrics."""
    if answer.duplicate:
        return "duplicate"
    if answer.refused:
        return "refused"
    return "ignored" if answer.ignored else "parked" if answer.parked else "stored"


def _headers(request: Request) -> Mapping[str, str]:
    """By lower-case names. One that came twice is one (RFC 9110 §5.3): nobody hides a second value."""
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
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
        self.metrics.deliveries.labels(_outcome(answer)).inc()
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
            body = await reading.whole(request, limit=self.max_body)
            headers = _headers(request)
            source = request.client.host if request.client is not None else ""
            told = _told(route, manifest)
            await self._verify(told, headers=headers, body=body, source=source)
            opened, identity = self._opened(told, headers=headers, body=body)
            said = self._mapped(told, opened, identity.event)
            if tenant.state == SUSPENDED and not isinstance(said, Ignored):
                async with self.lanes.work(route.tenant_id):
                    return await self._park(told, identity, headers=headers, body=body)
            # Before a place to work is taken: the first use of a model waits for its file.
            predictor = await self._predictor(route) if isinstance(said, list) else None
            async with self.lanes.work(route.tenant_id):
                try:
                    self.databases.expect(tenant.id)
                    return await self._store(
                        route, identity, said, headers=headers, body=body, predictor=predictor
                    )
                except (errors.Unreachable, errors.Forbidden) as away:
                    # perhaps it was stored, and only the answer is lost: then its id makes no second one
                    log.warning("a delivery waits for its database", tenant=tenant.id, **logs.describe(away))
                    return await self._park(told, identity, headers=headers, body=body)

    async def _park(
        self, told: _Told, identity: mapping.Delivery, *, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """Keep the delivery until the tenant is resumed, or its database answers."""
        route = told.route
        sealed = parking.pack(
            told.webhook,
            headers=headers,
            body=body,
            key=self.databases.access(route.tenant_id).data_key,
            integration=route.integration_uid,
            delivery_id=identity.id,
        )
        parked = Parked(
            tenant_id=route.tenant_id,
            integration=route.integration_uid,
            delivery_id=identity.id,
            received_at=self.clock.now(),
            sealed=sealed,
        )
        if await self.spool.park(parked) == "duplicate":
            return Answer(status=200, duplicate=True)
        return Answer(status=202, accepted=True, parked=True)

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
        said: list[Record] | Ignored | Refused
        event, told = "unknown", None
        try:
            told = _told(route, manifest)
            opened, found = self._opened(told, headers=headers, body=body)
            event = found.event
            said = self._mapped(told, opened, event)
        except Problem as refused:
            if refused.reason == "ConnectorBroken":  # this row waits, those behind it go on
                raise errors.BackendError(refused.detail) from None
            # the connector that took it understood it; this one is another
            reason = f"it is not understood any more ({refused.reason})"
            said = Refused(reason=reason, webhook=told.webhook) if told is not None else Ignored(reason)
        # as it was when it came: a connector that tells deliveries apart otherwise now makes no second one
        identity = mapping.Delivery(parked.delivery_id, event)
        predictor = await self._predictor(route) if isinstance(said, list) else None
        async with self.lanes.enter(route.tenant_id), self.lanes.work(route.tenant_id):
            answer = await self._store(
                route,
                identity,
                said,
                headers=headers,
                body=body,
                predictor=predictor,
                received_at=parked.received_at,
            )
        return _outcome(answer)

    async def _predictor(self, route: Route) -> Predictor | None:
        """The model that serves where the delivery arrived."""
        return await self.models.get(self.directory.view.default_model((route.tenant_id, route.namespace)))

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

    def _opened(
        self, told: _Told, *, headers: Mapping[str, str], body: bytes
    ) -> tuple[Opened, mapping.Delivery]:
        """The document of a verified delivery, and which delivery it is."""
        try:
            opened = mapping.open_delivery(told.webhook, headers=headers, raw=body)
            return opened, mapping.identify(told.webhook, opened, told.config)
        except WrongType as refused:
            raise Problem(415, "WrongType", str(refused)) from None
        except MappingError as refused:
            raise Problem(400, "BadRequest", str(refused)) from None

    def _mapped(self, told: _Told, opened: Opened, event: str) -> list[Record] | Ignored | Refused:
        try:
            said = mapping.map_delivery(told.webhook, opened, event=event, config=told.config)
            if isinstance(said, Ignored):
                return said
            for _, record in said:
                events.not_from_the_future(record, now=self.clock.now())
        except (MappingError, events.RecordError) as refused:
            return Refused(reason=refused.plain, webhook=told.webhook)
        projects = told.route.projects
        records = [record for _, record in said if not projects or record.project in projects]
        return records or Ignored("the project is not among the Integration's projects")

    async def _store(
        self,
        route: Route,
        identity: mapping.Delivery,
        said: list[Record] | Ignored | Refused,
        *,
        headers: Mapping[str, str],
        body: bytes,
        predictor: Predictor | None,
        received_at: datetime | None = None,
    ) -> Answer:
        outcome: DeliveryOutcome = "refused" if isinstance(said, Refused) else "ignored"
        outcome = "stored" if isinstance(said, list) else outcome
        why = "" if isinstance(said, list) else said.reason[:_LONGEST_REASON]
        delivery = Delivery(
            integration=route.integration_uid,
            delivery_id=identity.id,
            event=identity.event,
            received_at=received_at or self.clock.now(),
            outcome=outcome,
            reason=why,
        )
        if isinstance(said, Refused):
            became = await deadletters.keep(
                self.databases,
                said,
                delivery,
                route=route,
                headers=headers,
                body=body,
                acknowledged=received_at is not None,
                metrics=self.metrics,
            )
            return (
                Answer(status=200, duplicate=True)
                if became == "duplicate"
                else Answer(status=202, refused=why)
            )
        if isinstance(said, Ignored):
            async with self.databases.transaction(route.tenant_id) as conn:
                new = await history.record_delivery(conn, delivery)
            return Answer(status=202, ignored=said.reason) if new else Answer(status=200, duplicate=True)
        sealed = bodies.seal(
            body,
            key=self.databases.access(route.tenant_id).data_key,
            integration=route.integration_uid,
            delivery_id=identity.id,
        )
        kept = {name: headers[name][:200] for name in _KEPT_HEADERS if name in headers}
        received = Received(route=route, delivery=delivery, headers=kept, body=sealed, records=said)
        stored = await self._commit(received, predictor)
        if stored.fired:
            self.dispatcher.wake(route.tenant_id)
        if stored.duplicate:
            return Answer(status=200, duplicate=True)
        self.metrics.decisions.labels("true").inc(stored.fired)
        self.metrics.decisions.labels("false").inc(stored.decisions - stored.fired)
        return Answer(status=202, accepted=True, fired=stored.fired)

    async def _commit(self, received: Received, predictor: Predictor | None) -> Stored:
        """The transaction; once more when another one was in the way."""
        route, view = received.route, self.directory.view
        place = (route.tenant_id, route.namespace)
        around = Surroundings(
            triggers=view.triggers.get(place, ()),
            predictor=predictor,
            models=self.models,
        )
        begun = time.perf_counter()
        for left in reversed(range(TRIES)):
            try:
                with tracing.span("ingest.store"):
                    async with self.databases.transaction(route.tenant_id) as conn:
                        stored = await ingest.store(conn, received, around)
                self.metrics.ingest_seconds.observe(time.perf_counter() - begun)
                return stored
            except errors.Conflict:
                if not left:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")
