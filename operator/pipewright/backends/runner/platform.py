"""The platform database as the runner sees it: whose namespace it is, and what the gateway follows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg

from pipewright.plan import Ref
from pipewright.ports import Cluster, Secret
from pipewright.runner_facts import Registered, Route, TenantRef, Trigger
from pipewright.store import pools, records, routes, tenants


class PlatformDatabase:
    """The runner's connections to the platform database."""

    def __init__(self, connections: pools.Pools, *, dsn: Secret) -> None:
        self._connections = connections
        self._dsn = dsn

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """An autocommit connection for this block."""
        async with self._connections.connection("platform", self._dsn) as conn:
            yield conn


class PlatformDirectory:
    """`ports.Directory`: the namespace's UID from the API server, its tenant from the registry."""

    def __init__(self, platform: PlatformDatabase, *, cluster: Cluster) -> None:
        self._platform = platform
        self._cluster = cluster

    async def find(self, *, namespace: str) -> TenantRef | None:
        """The tenant of the namespace that has this name now."""
        there = await self._cluster.get(Ref(api_version="v1", kind="Namespace", name=namespace))
        if there is None:
            return None
        async with self._platform.connection() as conn:
            found = await tenants.of_namespace(conn, uid=there["metadata"]["uid"])
        if found is None:
            return None
        return TenantRef(
            id=found.id,
            uid=found.uid,
            name=found.name,
            state=found.state,
            server=found.server,
            resumed_at=found.resumed_at,
        )


class PostgresRoutes:
    """`ports.Routes` on the platform database."""

    def __init__(self, platform: PlatformDatabase) -> None:
        self._platform = platform

    async def find(self, *, integration_uid: str) -> Route | None:
        """The Integration's route."""
        async with self._platform.connection() as conn:
            row = await routes.find_route(conn, integration_uid=integration_uid)
        if row is None:
            return None
        return Route(
            hook_id=row.hook_id,
            tenant_id=row.tenant_id,
            namespace=row.namespace,
            integration=row.integration,
            integration_uid=row.integration_uid,
            connector=row.connector,
            projects=row.projects,
            config=row.config,
            enabled=row.enabled,
            allow_unsigned=row.allow_unsigned,
            sealed_to=row.secret_key if row.sealed_secret is not None else None,
            keys=row.webhook_keys,
        )

    async def publish(self, route: Route, *, sealed_secret: bytes) -> None:
        """Write the whole route."""
        row = records.Route(
            hook_id=route.hook_id,
            tenant_id=route.tenant_id,
            namespace=route.namespace,
            integration=route.integration,
            integration_uid=route.integration_uid,
            connector=route.connector,
            projects=route.projects,
            config=route.config,
            sealed_secret=sealed_secret,
            secret_key=route.sealed_to,
            enabled=route.enabled,
            allow_unsigned=route.allow_unsigned,
            webhook_keys=route.keys,
        )
        async with self._platform.connection() as conn:
            await routes.upsert_route(conn, row)

    async def withdraw(self, *, integration_uid: str) -> None:
        """Delete it."""
        async with self._platform.connection() as conn:
            await routes.delete_route(conn, integration_uid=integration_uid)

    async def registrations(self, *, integration_uid: str) -> Sequence[Registered]:
        """What is, or may be, registered at the provider, by project."""
        async with self._platform.connection() as conn:
            found = await routes.find_registrations(conn, integration_uid=integration_uid)
        return tuple(
            Registered(
                project=row.project,
                next_look=row.next_look,
                tried=row.tried,
                id=row.provider_id,
                url=row.url,
                key=row.webhook_key,
                asked=row.asked,
                reason=row.reason,
                message=row.message,
                arrived_until=row.arrived_until,
                next_deliveries=row.next_deliveries,
                missed=row.missed,
                missed_since=row.missed_since,
                filled_at=row.filled_at,
            )
            for row in found
        )

    async def note_registration(self, registration: Registered, *, integration_uid: str) -> None:
        """Write the whole note."""
        row = records.WebhookRegistration(
            integration_uid=integration_uid,
            project=registration.project,
            tried=registration.tried,
            provider_id=registration.id,
            url=registration.url,
            webhook_key=registration.key,
            asked=registration.asked,
            next_look=registration.next_look,
            reason=registration.reason,
            message=registration.message,
            arrived_until=registration.arrived_until,
            next_deliveries=registration.next_deliveries,
            missed=registration.missed,
            missed_since=registration.missed_since,
            filled_at=registration.filled_at,
        )
        async with self._platform.connection() as conn:
            await routes.note_registration(conn, row)

    async def forget_registration(self, *, integration_uid: str, project: str) -> None:
        """Delete a note."""
        async with self._platform.connection() as conn:
            await routes.forget_registration(conn, integration_uid=integration_uid, project=project)


class PostgresTriggers:
    """`ports.Triggers` on the platform database."""

    def __init__(self, platform: PlatformDatabase) -> None:
        self._platform = platform

    async def find(self, *, workflow_uid: str) -> Sequence[Trigger]:
        """The workflow's triggers by position; one that is not enabled is none of ours."""
        async with self._platform.connection() as conn:
            found = await routes.find_triggers(conn, workflow_uid=workflow_uid)
        return tuple(
            Trigger(
                position=row.position,
                tenant_id=row.tenant_id,
                namespace=row.namespace,
                workflow=row.workflow,
                revision=row.revision,
                event=row.event,
                integration=row.integration,
                condition=row.condition,
            )
            for row in found
        )

    async def publish(self, *, workflow_uid: str, triggers: Sequence[Trigger]) -> None:
        """Replace them all in one transaction."""
        wanted = [
            records.Trigger(
                workflow_uid=workflow_uid,
                position=trigger.position,
                tenant_id=trigger.tenant_id,
                namespace=trigger.namespace,
                workflow=trigger.workflow,
                revision=trigger.revision,
                event=trigger.event,
                integration=trigger.integration,
                condition=trigger.condition,
            )
            for trigger in triggers
        ]
        async with self._platform.connection() as conn, conn.transaction():
            await routes.replace_triggers(conn, workflow_uid=workflow_uid, triggers=wanted)

    async def withdraw(self, *, workflow_uid: str) -> None:
        """Delete them all."""
        await self.publish(workflow_uid=workflow_uid, triggers=())
