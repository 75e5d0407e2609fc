"""Composes the provisioner: the Tenant controller with the rights to make and take away tenants' places."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial

from controllers.tenant import handlers
from controllers.tenant.reconcile import reconcile
from pipewright import artifact_store, facts, names
from pipewright.api.v1alpha1 import Tenant
from pipewright.backends import kubernetes, kubernetes_secrets, postgres, sealing, vault
from pipewright.ports import (
    Clock,
    Cluster,
    DataKeys,
    Isolation,
    ProvisionerPorts,
    Secret,
    SecretGrants,
    SecretStore,
    ServerPorts,
)
from pipewright.runtime import tracing
from pipewright.runtime.answers import Answers
from pipewright.runtime.drive import Controller
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.part import Part
from pipewright.runtime.proofs import ProofBook
from pipewright.runtime.rollouts import RolloutBook
from pipewright.runtime.sweeps import SweepBook
from pipewright.settings import Server, Settings, SettingsError, read_secret


async def compose(
    settings: Settings, *, cluster: Cluster, clock: Clock, metrics: Metrics, resources: AsyncExitStack
) -> Part:
    """The provisioner's controllers on real backends.

    Raises:
        SettingsError: a part of the settings that the provisioner needs is missing.
    """
    ports = await _ports(settings, cluster=cluster, metrics=metrics, resources=resources)
    # the driver reads Tenants by itself: what is watched is never believed to be as it was answered
    ports = replace(ports, cluster=Answers(ports.cluster, watched=("Namespace", Tenant.kind)))
    days = settings.data_key_rotation_days
    tenants = Controller(
        kind=Tenant,
        reconcile=partial(
            reconcile,
            ports=ports,
            clock=clock,
            servers=_offered(settings),
            wrapping_key_every=None if days is None else timedelta(days=days),
        ),
        finalizer=names.FINALIZER,
        resync=timedelta(seconds=settings.resync_seconds),
    )
    return Part(
        controllers=(tenants,),
        handlers=(handlers.register,),
        watched=(Tenant.plural, "namespaces"),
        labelled={("v1", "namespaces"): names.TENANT_LABEL},
    )


async def _ports(
    settings: Settings, *, cluster: Cluster, metrics: Metrics, resources: AsyncExitStack
) -> ProvisionerPorts:
    if settings.sealing is None:
        raise SettingsError("the provisioner needs `sealing` in its settings")
    pools = postgres.Pools()
    resources.push_async_callback(pools.close)
    # their own, so that databases being made never keep the registry waiting
    sessions = postgres.Pools(per_database=postgres.SESSIONS, application="pipewright-provisioner")
    resources.push_async_callback(sessions.close)
    traced = partial(tracing.traced, metrics=metrics)
    reached = {server.name: _server(server, sessions) for server in settings.servers}
    servers = {
        name: ServerPorts(
            databases=traced(postgres.PostgresDatabases(server), "databases"),
            logins=traced(postgres.PostgresLogins(server), "logins"),
            dumps=traced(_dumps(settings, server, resources), "dumps"),
        )
        for name, server in reached.items()
    }
    first = servers[settings.servers[0].name]
    secrets, grants, data_keys = _secret_ports(settings, cluster)
    platform = Secret(read_secret(settings.platform_database.dsn_file))
    isolation = None
    if settings.isolation_proofs:
        client = await kubernetes.connect(settings.kubeconfig)
        resources.push_async_callback(client.close)
        door = kubernetes.KubernetesDoor(client)
        isolation = _isolation(
            settings, platform=platform, pools=pools, cluster=door, servers=reached, metrics=metrics
        )
    return ProvisionerPorts(
        cluster=cluster,
        registry=traced(postgres.PostgresRegistry(pools, dsn=platform), "registry"),
        databases=first.databases,
        logins=first.logins,
        dumps=first.dumps,
        servers=servers,
        secrets=traced(secrets, "secrets"),
        grants=traced(grants, "grants"),
        data_keys=traced(data_keys, "data_keys"),
        sealer=sealing.HpkeSealer(read_secret(settings.sealing.public_key_file)),
        isolation=isolation,
        sweeps=SweepBook(metrics),
        rollouts=RolloutBook(metrics),
    )


def _isolation(
    settings: Settings,
    *,
    platform: Secret,
    pools: postgres.Pools,
    cluster: kubernetes.KubernetesDoor,
    servers: Mapping[str, postgres.Server],
    metrics: Metrics,
) -> Isolation:
    """The doors that proofs of isolation try."""
    traced = partial(tracing.traced, metrics=metrics)
    found = settings.vault
    door = vault.VaultDoor(address=found.address, mount=found.mount) if found else None
    return Isolation(
        proofs=traced(postgres.PostgresProofs(pools, dsn=platform), "proofs"),
        cluster=traced(cluster, "cluster_door"),
        secrets=traced(door, "secret_door") if door else None,
        databases=traced(postgres.PostgresDoor(servers), "database_door"),
        book=ProofBook(metrics),
        period=timedelta(seconds=settings.resync_seconds),
    )


def _secret_ports(settings: Settings, cluster: Cluster) -> tuple[SecretStore, SecretGrants, DataKeys]:
    """On Vault, or without it on Secrets of the platform's own namespaces."""
    if settings.vault is None:
        own, shared = names.SECRETS_NAMESPACE, names.RUNNER_SECRETS_NAMESPACE
        return (
            kubernetes_secrets.KubernetesSecretStore(cluster, namespace=own, shared_with=shared),
            kubernetes_secrets.NoGrants(),
            kubernetes_secrets.KubernetesDataKeys(cluster, namespace=own),
        )
    session = vault.VaultSession(
        address=settings.vault.address,
        role=settings.vault.role or "",
        jwt_file=settings.vault.jwt_file,
        token_file=settings.vault.token_file,
    )
    mount, transit = settings.vault.mount, settings.vault.transit
    return (
        vault.VaultSecretStore(session, mount=mount),
        vault.VaultGrants(session, mount=mount, database=settings.vault.database),
        vault.VaultDataKeys(session, transit=transit),
    )


def _offered(settings: Settings) -> tuple[facts.Server, ...]:
    return tuple(
        facts.Server(
            name=server.name,
            region=server.region,
            database_class=server.database_class,
            capacity=server.capacity,
            extensions=server.extensions,
            node_selector=server.node_selector,
        )
        for server in settings.servers
    )


def _dumps(settings: Settings, server: postgres.Server, resources: AsyncExitStack) -> postgres.PostgresDumps:
    store = artifact_store.of(settings.artifacts) if settings.artifacts else None
    dumps = postgres.PostgresDumps(server, artifacts=store, program=settings.pg_dump)
    resources.push_async_callback(dumps.close)
    return dumps


def _server(server: Server, pools: postgres.Pools) -> postgres.Server:
    if server.provisioner_dsn_file is None or server.migrator_dsn_file is None:
        raise SettingsError(f"servers.{server.name} needs provisionerDsnFile and migratorDsnFile")
    return postgres.Server(
        name=server.name,
        host=server.host,
        port=server.port,
        provisioner_dsn=Secret(read_secret(server.provisioner_dsn_file)),
        migrator_dsn=Secret(read_secret(server.migrator_dsn_file)),
        dumper_dsn=Secret(read_secret(server.dumper_dsn_file)) if server.dumper_dsn_file else None,
        pools=pools,
    )
