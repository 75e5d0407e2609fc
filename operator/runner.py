"""Composes the runner: Integration, Workflow, WorkflowRun and Model, with tenants' credentials of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import ml
from connectors import plugins
from connectors.outbound import Outbound
from controllers.integration import handlers as integration_handlers
from controllers.integration.reconcile import reconcile as reconcile_integration
from controllers.model import handlers as model_handlers
from controllers.model.reconcile import reconcile as reconcile_model
from controllers.workflow import handlers as workflow_handlers
from controllers.workflow.reconcile import reconcile as reconcile_workflow
from controllers.workflowrun import handlers as run_handlers
from controllers.workflowrun.objects import SUCCEEDED
from controllers.workflowrun.reconcile import reconcile as reconcile_run
from pipewright import artifact_store, names
from pipewright.api.v1alpha1 import Integration, Model, Workflow, WorkflowRun
from pipewright.backends import computes, kuberay, kubernetes_secrets, mlflow, ray, sealing, vault
from pipewright.backends.runner import actions, databases, imports, journal, models, platform
from pipewright.ports import Clock, Cluster, RunnerPorts, Secret, SecretStore
from pipewright.runtime import logs, tracing
from pipewright.runtime.drive import Controller
from pipewright.runtime.gaps import GapBook
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.part import Part
from pipewright.runtime.turns import TurnBook
from pipewright.settings import DEFAULT_CLUSTER, Settings, SettingsError, read_secret
from pipewright.store.pools import Pools

log = logs.get(__name__)


async def compose(
    settings: Settings, *, cluster: Cluster, clock: Clock, metrics: Metrics, resources: AsyncExitStack
) -> Part:
    """The runner's controllers on real backends.

    Raises:
        SettingsError: a part of the settings that the runner needs is missing.
    """
    if settings.gateway is None:
        raise SettingsError("the runner needs `gateway.baseUrl` in its settings")
    ports = await _ports(settings, cluster=cluster, clock=clock, metrics=metrics, resources=resources)
    url, resync = settings.gateway.base_url, timedelta(seconds=settings.resync_seconds)
    own = names.FINALIZER
    return Part(
        controllers=(
            Controller(
                kind=Integration,
                reconcile=partial(reconcile_integration, ports=ports, clock=clock, gateway_url=url),
                finalizer=own,
                resync=resync,
            ),
            Controller(
                kind=Workflow,
                reconcile=partial(reconcile_workflow, ports=ports, clock=clock, gateway_url=url),
                finalizer=own,
                resync=resync,
            ),
            Controller(
                kind=WorkflowRun,
                reconcile=partial(reconcile_run, ports=ports, clock=clock, gateway_url=url),
                finalizer=own,
                resync=resync,
                summary=SUCCEEDED,
                bounded=True,
            ),
            Controller(
                kind=Model,
                reconcile=partial(reconcile_model, ports=ports, clock=clock),
                finalizer=own,
                resync=resync,
            ),
        ),
        handlers=(
            integration_handlers.register,
            workflow_handlers.register,
            run_handlers.register,
            model_handlers.register,
        ),
        watched=tuple(kind.plural for kind in (Integration, Workflow, WorkflowRun, Model)),
    )


async def _ports(
    settings: Settings, *, cluster: Cluster, clock: Clock, metrics: Metrics, resources: AsyncExitStack
) -> RunnerPorts:
    if not (settings.gateway and settings.sealing and settings.artifacts):
        raise SettingsError("the runner needs `gateway`, `sealing` and `artifacts` in its settings")
    pools = Pools()
    resources.push_async_callback(pools.close)
    secrets = _secrets(settings, cluster)
    rows = platform.PlatformDatabase(pools, dsn=Secret(read_secret(settings.platform_database.dsn_file)))
    servers = {
        server.name: databases.Address(host=server.host, port=server.port) for server in settings.servers
    }
    tenants = databases.TenantDatabases(pools, secrets=secrets, servers=servers)
    outbound = Outbound(allow=settings.outbound.allow)
    resources.push_async_callback(outbound.close)
    found = plugins.load(folders=settings.connectors.folders, packages=settings.connectors.packages)
    for name, reason in found.broken.items():
        log.error("a connector cannot be used", connector=name, reason=reason)
    metrics.connectors_broken.set(len(found.broken))
    gateway = imports.GatewayImport(settings.gateway.base_url, token_file=settings.gateway.token_file)
    resources.push_async_callback(gateway.close)
    traced = partial(tracing.traced, metrics=metrics)
    return RunnerPorts(
        cluster=cluster,
        directory=traced(platform.PlatformDirectory(rows, cluster=cluster), "directory"),
        routes=traced(platform.PostgresRoutes(rows), "routes"),
        triggers=traced(platform.PostgresTriggers(rows), "triggers"),
        secrets=traced(secrets, "secrets"),
        sealer=sealing.HpkeSealer(read_secret(settings.sealing.public_key_file)),
        journal=traced(journal.PostgresJournal(tenants, clock=clock), "journal"),
        decisions=traced(journal.PostgresDecisions(tenants), "decisions"),
        actions=traced(
            actions.ConnectorActions(outbound, connectors=found.connectors, broken=found.broken), "actions"
        ),
        imports=traced(gateway, "imports"),
        compute=traced(_compute(settings, cluster, resources), "compute"),
        artifacts=traced(artifact_store.of(settings.artifacts), "artifacts"),
        trainings=traced(models.PostgresTrainings(tenants), "trainings"),
        windows=traced(models.PostgresWindows(tenants), "windows"),
        pointers=traced(models.PostgresPointers(rows), "pointers"),
        tracking=traced(registry, "tracking") if (registry := _tracking(settings, resources)) else None,
        gaps=GapBook(metrics),
        turns=TurnBook(metrics, clock=clock),
    )


def _compute(settings: Settings, cluster: Cluster, resources: AsyncExitStack) -> computes.Computes:
    """The Ray clusters of the settings, the one that need not be named first, and KubeRay."""
    package = ray.Package.of(Path(ml.__file__).parent)
    named = {DEFAULT_CLUSTER: settings.ray} if settings.ray else {}
    named |= {each.name: each for each in settings.ray_clusters}
    made = {
        name: ray.RayCompute(each.address, token_file=each.token_file, package=package)
        for name, each in named.items()
    }
    for each in made.values():
        resources.push_async_callback(each.close)
    image = settings.kube_ray.image if settings.kube_ray else ""
    return computes.Computes(made, kube_ray=kuberay.KubeRayCompute(cluster, image=image))


def _tracking(settings: Settings, resources: AsyncExitStack) -> mlflow.MlflowTracking | None:
    """MLflow, where the settings name one."""
    told = settings.mlflow
    if told is None:
        return None
    made = mlflow.MlflowTracking(
        told.uri,
        token_file=told.token_file,
        username=told.username or "",
        experiment=told.experiment,
        alias=told.alias,
    )
    resources.push_async_callback(made.close)
    return made


def _secrets(settings: Settings, cluster: Cluster) -> SecretStore:
    """On Vault, or without it on Secrets of the runner's own namespace."""
    if settings.vault is None:
        return kubernetes_secrets.KubernetesSecretStore(cluster, namespace=names.RUNNER_SECRETS_NAMESPACE)
    session = vault.VaultSession(
        address=settings.vault.address,
        role=settings.vault.role or "",
        jwt_file=settings.vault.jwt_file,
        token_file=settings.vault.token_file,
    )
    return vault.VaultSecretStore(session, mount=settings.vault.mount)
