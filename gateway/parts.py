"""Everything that a request may reach, built once by the composition root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from connectors.manifest import Manifest
from connectors.outbound import Outbound
from connectors.provider_keys import ProviderKeys, through
from gateway import artifacts, partitions, rollups, searches
from gateway.auth import Authorizer, Reviews
from gateway.databases import Databases
from gateway.deadletters import DeadLetters
from gateway.directory import Directory
from gateway.dispatch import Creates, Dispatcher
from gateway.groups import Groups
from gateway.history import Imports
from gateway.hooks import Hooks
from gateway.keys import Keys
from gateway.limits import Lanes, Room
from gateway.metrics import Metrics
from gateway.parking import Spool
from gateway.replay import Replayer
from gateway.scoring import Models
from pipewright.backends.sealing import HpkeOpener
from pipewright.ports import Clock, Secret
from pipewright.settings import Artifacts, Gateway, Settings, SettingsError, read_secret
from pipewright.store import pools, spool


class ClusterPort(Creates, Reviews, Protocol):
    """What the gateway asks of the cluster: reviews of callers, and WorkflowRuns to be created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the gateway takes at once; how large hooks and imports may be is in its settings."""

    hook_bytes: int = 128 * 1024 * 1024
    """Bytes of bodies of deliveries that are being read or stored, of all tenants together."""
    other_body: int = 64 * 1024
    """Bytes of any body but theirs."""
    tenant_requests: int = 256
    """Deliveries of one tenant under way, being read or waiting."""
    tenant_transactions: int = 4
    """Deliveries of one tenant being parked or replayed; what is stored goes in one group at a time."""
    tenant_calls: int = 16
    """REST calls of one tenant under way, being answered or waiting."""
    tenant_calls_working: int = 2
    """REST calls of one tenant being answered."""
    tenant_parked: int = 20_000
    """Deliveries of one suspended tenant that are kept."""
    tenant_parked_bytes: int = 256 * 1024 * 1024
    """The same in bytes, compressed."""
    rollup_pause: float = rollups.PAUSE
    """Seconds between the first change of a tenant's history and the refresh of its rollups."""
    requests: int = 1000
    """Requests under way in this process, probes aside. Connections that ask nothing are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The gateway's parts."""

    directory: Directory
    databases: Databases
    models: Models
    dispatcher: Dispatcher
    replayer: Replayer
    rollups: rollups.Rollups
    hooks: Hooks
    dead_letters: DeadLetters
    imports: Imports
    authorizer: Authorizer
    calls: Lanes
    connections: pools.Pools
    outbound: Outbound
    """For public keys of providers, by the few connectors whose deliveries are signed with one."""
    metrics: Metrics
    clock: Clock
    limits: Limits


def build(
    settings: Settings,
    *,
    cluster: ClusterPort,
    catalogue: Mapping[str, Manifest],
    clock: Clock,
    limits: Limits | None = None,
) -> Parts:
    """The parts for these settings. Nothing is reached yet: no server needs to be up.

    Raises:
        SettingsError: a part of the settings that the gateway needs is missing.
    """
    gateway, limits, metrics = _gateway(settings), limits or Limits(), Metrics()
    # Three connections more than deliveries may use: for the dispatcher, for REST and for the rollups.
    connections = pools.Pools(
        per_database=limits.tenant_transactions + 3,
        max_connections=gateway.database_connections,
        application="pipewright-gateway",
        on_full=metrics.connections_refused.inc,
    )
    metrics.connections_limit.set(gateway.database_connections)
    dsn = Secret(read_secret(settings.platform_database.dsn_file))
    directory = Directory(connections=connections, dsn=dsn)
    keys = Keys(HpkeOpener(read_secret(_private_key(gateway))))
    databases = Databases(connections=connections, directory=directory, keys=keys)
    models = Models(fetch=artifacts.reader(_artifacts(settings)), metrics=metrics)
    dispatcher = Dispatcher(outboxes=databases, cluster=cluster, clock=clock, metrics=metrics)
    search = searches.Search(databases=databases, view=lambda: directory.view, clock=clock)
    ahead = partitions.Ahead(databases=databases, clock=clock)

    async def then(tenant_id: str) -> bool:
        await ahead.make(tenant_id)
        return await search.go_on(tenant_id)

    refresher = rollups.Rollups(databases=databases, metrics=metrics, pause=limits.rollup_pause, then=then)
    databases.on_use(refresher.used)
    metrics.watch(
        directory_age=lambda: directory.age, connections=lambda: float(connections.open_connections)
    )
    directory.on_change(models.follow)
    directory.on_change(lambda _view: dispatcher.meet())
    outbound = Outbound(allow=settings.outbound.allow)
    parked = Spool(
        connections=connections,
        dsn=dsn,
        room=spool.Room(deliveries=limits.tenant_parked, bytes=limits.tenant_parked_bytes),
    )
    hooks = Hooks(
        directory=directory,
        databases=databases,
        keys=keys,
        provider_keys=ProviderKeys(through(outbound), clock=clock),
        catalogue=catalogue,
        models=models,
        dispatcher=dispatcher,
        spool=parked,
        room=Room(limits.hook_bytes),
        lanes=Lanes(places=limits.tenant_requests, working=limits.tenant_transactions),
        groups=Groups(databases=databases, models=models, metrics=metrics),
        clock=clock,
        metrics=metrics,
        max_body=gateway.hook_body_bytes,
    )
    replayer = Replayer(
        spool=parked,
        hooks=hooks,
        view=lambda: directory.view if directory.loaded else None,
        metrics=metrics,
    )
    directory.on_change(replayer.follow)
    return Parts(
        directory=directory,
        databases=databases,
        models=models,
        dispatcher=dispatcher,
        replayer=replayer,
        rollups=refresher,
        hooks=hooks,
        dead_letters=DeadLetters(databases=databases, hooks=hooks, metrics=metrics),
        imports=Imports(
            databases=databases, clock=clock, metrics=metrics, max_body=gateway.import_body_bytes
        ),
        authorizer=Authorizer(cluster=cluster, audience=gateway.audience, metrics=metrics),
        calls=Lanes(places=limits.tenant_calls, working=limits.tenant_calls_working),
        connections=connections,
        outbound=outbound,
        metrics=metrics,
        clock=clock,
        limits=limits,
    )


def _gateway(settings: Settings) -> Gateway:
    if settings.gateway is None:
        raise SettingsError("gateway: the gateway needs its own part of the settings")
    return settings.gateway


def _private_key(gateway: Gateway) -> Path:
    if gateway.private_key_file is None:
        raise SettingsError("gateway.privateKeyFile: the gateway needs its private key")
    return gateway.private_key_file


def _artifacts(settings: Settings) -> Artifacts:
    if settings.artifacts is None:
        raise SettingsError("artifacts.url: the gateway needs to know where models lie")
    return settings.artifacts
