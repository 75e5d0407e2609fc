"""Routes, triggers, models and tenants in memory: what every request looks up and no request may wait for.

    platform database ──announcement──► what changed is loaded again ──► a new View takes the old one's place

Until the first load nothing is known and everything is answered 503, never 404. When the platform database
goes away later, the last known state keeps serving; its age is a metric.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import cast

from gateway import problems
from ml.contract import Task
from pipewright import errors
from pipewright.ports import Secret
from pipewright.runtime import logs
from pipewright.store import changes, connect, pools, routes, tenants
from pipewright.store.records import ModelPointer, Route, Tenant, Trigger

log = logs.get(__name__)

REFRESH = 60.0
"""Seconds after which everything is loaded again, announced or not."""
SETTLE = 0.02
"""Seconds in which announcements gather before a load."""
LONGEST_BACKOFF = 15.0

GONE = frozenset({"Deleting", "Retained", "Deleted"})
"""States of a tenant that is not served any more."""

Place = tuple[str, str]
"""A tenant's id and a namespace's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The state at one moment; never changed, only replaced."""

    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    """By id."""
    routes: Mapping[str, Route] = field(default_factory=dict)
    """By hook id."""
    integrations: Mapping[Place, Mapping[str, Route]] = field(default_factory=dict)
    """By the Integration's name."""
    triggers: Mapping[Place, Sequence[Trigger]] = field(default_factory=dict)
    models: Mapping[Place, Mapping[str, ModelPointer]] = field(default_factory=dict)
    """By the Model's name."""
    namespaces: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Namespace name → ids of the tenants that it is bound to; more than one is a mistake."""

    def tenant_of(self, namespace: str) -> Tenant:
        """The tenant of a namespace.

        Raises:
            Problem: 404, there is none, or it is not certain which.
        """
        owners = self.namespaces.get(namespace, ())
        if len(owners) != 1:
            raise problems.not_found(f"the namespace {namespace} is no tenant's")
        return self.tenants[owners[0]]

    def default_model(self, place: Place, *, task: Task = "RunFailure") -> ModelPointer | None:
        """The model of a task that `prediction` means in a namespace."""
        found = (model for model in self.models.get(place, {}).values() if model.is_default)
        return next((model for model in found if model.task == task), None)


REPLICAS = 2
"""As many gateways there are at least while one takes the other's place."""


class Directory:
    """Keeps the view current; `run` is its task."""

    def __init__(
        self, *, connections: pools.Pools, dsn: Secret, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connections = connections
        self._dsn = dsn
        self._clock = clock
        self._view: View | None = None
        self._dirty: set[str] = set()
        self._announced = asyncio.Event()
        self._current_at = clock()
        self._turn = asyncio.Lock()
        self._listeners: list[Callable[[View], None]] = []

    @property
    def loaded(self) -> bool:
        """Whether everything was loaded once."""
        return self._view is not None

    @property
    def age(self) -> float:
        """Seconds since the view was last known to be current (before the first load: since the start)."""
        return self._clock() - self._current_at

    @property
    def view(self) -> View:
        """The state as it is known.

        Raises:
            Problem: 503, nothing was loaded yet.
        """
        if self._view is None:
            raise problems.unavailable("Starting", "the gateway has not loaded its routes yet", after=2)
        return self._view

    def on_change(self, listener: Callable[[View], None]) -> None:
        """Call `listener` with each new view."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Listen and load until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._keep_loading())

    async def load(self, tables: Iterable[str] = (changes.EVERYTHING,)) -> None:
        """Load these tables and show what they say.

        Raises:
            BackendError: the platform database did not answer; the old view stays.
        """
        async with self._turn:
            await self._load(set(tables))

    async def _load(self, wanted: set[str]) -> None:
        async with self._connections.connection("platform", self._dsn) as conn, conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            if self._view is None:
                self._compare(await connect.room(conn))
            view = self._view if changes.EVERYTHING not in wanted else None
            if view is None or wanted & {"registry", "registry_namespaces"}:
                view = _with_tenants(view or View(), await tenants.load(conn))
            if self._view is None or wanted & {changes.EVERYTHING, "routes"}:
                view = _with_routes(view, await routes.load_routes(conn))
            if self._view is None or wanted & {changes.EVERYTHING, "triggers"}:
                view = _with_triggers(view, await routes.load_triggers(conn))
            if self._view is None or wanted & {changes.EVERYTHING, "model_pointers"}:
                view = _with_models(view, await routes.load_models(conn))
        if self._view is None:
            log.info("directory loaded", tenants=len(view.tenants), routes=len(view.routes))
        self._view, self._current_at = view, self._clock()
        for listener in self._listeners:
            listener(view)

    def _compare(self, room: int) -> None:
        """Say at the start what PostgreSQL would say under load: that it has no connection left."""
        most = self._connections.max_connections
        if REPLICAS * most > room:
            log.warning(
                f"{REPLICAS} replicas of this gateway may open more connections than the platform database's"
                " server takes; raise its max_connections or lower gateway.databaseConnections",
                database_connections=most,
                server_takes=room,
            )

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                listening = changes.changes(self._dsn, idle_seconds=REFRESH)
                async with aclosing(cast("AsyncGenerator[str]", listening)) as announcements:
                    async for table in announcements:
                        failures = 0
                        self._dirty.add(table)
                        self._announced.set()
            except errors.BackendError as error:
                failures += 1
                if failures == 1:
                    log.warning("the platform database announces nothing now", **logs.describe(error))
            await asyncio.sleep(_backoff(failures))

    async def _keep_loading(self) -> None:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(REFRESH):
                    await self._announced.wait()
                await asyncio.sleep(SETTLE)
            except TimeoutError:
                self._dirty.add(changes.EVERYTHING)
            self._announced.clear()
            tables, self._dirty = self._dirty, set()
            try:
                await self.load(tables)
                failures = 0
            except errors.BackendError as error:
                failures += 1
                if failures == 1:
                    log.warning("the directory could not be loaded", **logs.describe(error))
                self._dirty |= tables
                self._announced.set()
                await asyncio.sleep(_backoff(failures))


def _backoff(failures: int) -> float:
    return random.uniform(0.5, 1.0) * min(LONGEST_BACKOFF, 0.25 * 2.0 ** min(failures, 10))  # noqa: S311 - no secret


def _with_tenants(view: View, found: Iterable[Tenant]) -> View:
    by_id = {tenant.id: tenant for tenant in found}
    namespaces: dict[str, list[str]] = defaultdict(list)
    for tenant in by_id.values():
        if tenant.state not in GONE:
            for name in tenant.namespaces:
                namespaces[name].append(tenant.id)
    for name, owners in namespaces.items():
        if len(owners) > 1:
            log.error(
                "a namespace is bound to several tenants: none is served", namespace=name, tenants=owners
            )
    return replace(view, tenants=by_id, namespaces=dict(namespaces))


def _with_routes(view: View, found: Iterable[Route]) -> View:
    by_hook = {route.hook_id: route for route in found}
    integrations: dict[Place, dict[str, Route]] = defaultdict(dict)
    for route in by_hook.values():
        integrations[route.tenant_id, route.namespace][route.integration] = route
    return replace(view, routes=by_hook, integrations=dict(integrations))


def _with_triggers(view: View, found: Iterable[Trigger]) -> View:
    triggers: dict[Place, list[Trigger]] = defaultdict(list)
    for trigger in found:
        triggers[trigger.tenant_id, trigger.namespace].append(trigger)
    return replace(view, triggers=dict(triggers))


def _with_models(view: View, found: Iterable[ModelPointer]) -> View:
    models: dict[Place, dict[str, ModelPointer]] = defaultdict(dict)
    for pointer in found:
        models[pointer.tenant_id, pointer.namespace][pointer.model] = pointer
    return replace(view, models=dict(models))
