"""The parts of a stack: each is started at the first call, on its own, and handed out as a small value.

Tests take the parts that they need; `dev.stack` takes all. A part that somebody else runs (CLUSTER=existing,
DATABASE_DSN, VAULT_ADDR, RAY_ADDRESS) is only looked up here, by the same calls.
"""

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from dev import assets, identities, kubeconfig, layout, logins, postgres, prepare, process, product, ray, uv
from dev.controlplane import ControlPlane
from dev.kubectl import Kubectl
from dev.layout import Layout
from dev.problem import Problem
from dev.process import Process
from dev.progress import Progress
from dev.ray import RayHead
from dev.vault import DevServer, Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """An API server and the administrator's way into it."""

    endpoint: kubeconfig.Endpoint
    kubectl: Kubectl
    audit_log: Path | None
    """None for a cluster that somebody else runs."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.kubectl.kubeconfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A PostgreSQL server and its administrator's DSN."""

    host: str
    port: int
    admin_dsn: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ray:
    """Ray's Jobs API and the file with the bearer token for it."""

    address: str
    token_file: Path


T = TypeVar("T")


def _once(method: Callable[["Parts"], T]) -> Callable[["Parts"], T]:
    """Run a part's start once for each object; whoever asks meanwhile waits for it."""

    @functools.wraps(method)
    def start(self: "Parts") -> T:
        with self.guard(method.__name__):
            if method.__name__ not in self.started:
                self.started[method.__name__] = method(self)
            return cast("T", self.started[method.__name__])

    return start


class Parts:
    """The servers of one stack, by its folder and its layout; safe to use from several threads."""

    def __init__(self, folder: Path, chosen: Layout, progress: Progress) -> None:
        self.folder = folder
        self.layout = chosen
        self.started: dict[str, object] = {}
        self._progress = progress
        self._guards: dict[str, threading.RLock] = {}
        self._own = threading.Lock()

    def guard(self, name: str) -> threading.RLock:
        """The lock of one part."""
        with self._own:
            return self._guards.setdefault(name, threading.RLock())

    @_once
    def cluster(self) -> Cluster:
        """A Kubernetes API that answers; its default namespace is complete."""
        if self.layout.cluster == "external":
            return self._existing_cluster()
        plane = self._control_plane()
        plane.prepare()
        self._start(plane.etcd())
        self._start(plane.apiserver(), plane.server)
        self._start(plane.controller_manager())
        return Cluster(endpoint=plane.endpoint, kubectl=plane.kubectl, audit_log=plane.audit_log)

    @_once
    def system(self) -> Cluster:
        """The cluster with the system namespace, its ServiceAccounts, the kinds and the shipped roles."""
        cluster = self.cluster()
        applied = identities.install(cluster.kubectl)
        self._progress.say(f"{len(applied)} objects applied: system namespace, accounts, kinds, roles")
        return cluster

    @_once
    def database(self) -> Database:
        """A PostgreSQL server that lets its administrator in."""
        if self.layout.database == "external":
            admin_dsn = (self.folder / "external-admin.dsn").read_text()
            host, port = postgres.address_of(admin_dsn)
            if not postgres.answers(admin_dsn):
                raise Problem(f"DATABASE_DSN: {host}:{port} does not let its user in. Is it running?")
            self._progress.say(f"PostgreSQL of DATABASE_DSN at {host}:{port}")
            return Database(host=host, port=port, admin_dsn=admin_dsn)
        server = self._postgres()
        server.prepare()
        self._start(server.server(), f"{server.host}:{server.port}")
        return Database(host=server.host, port=server.port, admin_dsn=server.admin_dsn)

    @_once
    def platform(self) -> dict[str, str]:
        """The product's logins and databases: login → DSN of the platform database; empty without a store."""
        database = self.database()
        if not logins.bootstrap(self.folder, database.admin_dsn):
            self._progress.say("no pipewright.store in this tree: PostgreSQL has no logins of the product")
            return {}
        self._progress.say("PostgreSQL has the product's logins, platform and template database")
        return {login: logins.dsn(self.folder, database.admin_dsn, login) for login in logins.LOGINS}

    @_once
    def vault(self) -> Vault:
        """A Vault with the mounts and the shipped policies; nobody but its root token can log in yet."""
        if self.layout.vault == "none":
            raise Problem("VAULT=none: this stack has no Vault.")
        if self.layout.vault == "external":
            token = (self.folder / "vault-root.token").read_text()
            external = Vault(address=self.layout.vault_address, root_token=token)
            self._progress.say(f"Vault of VAULT_ADDR at {external.address}: adding mounts and policies")
            external.bootstrap()
            return external
        server = self._vault()
        self._start(server.server(), server.vault.address)
        server.vault.bootstrap(audit_log=server.audit_log)
        return server.vault

    @_once
    def database_engine(self) -> None:
        """Vault's database engine has a connection to PostgreSQL, for tenants' short-lived logins."""
        if self.layout.vault == "none" or not self.platform():
            return
        database = self.database()
        password = (self.folder / "logins" / f"{logins.VAULT}.password").read_text()
        self.vault().connect(
            product.SERVER, host=database.host, port=database.port, user=logins.VAULT, password=password
        )

    @_once
    def identities(self) -> None:
        """Each component's kubeconfig and Vault token, and a Vault that believes the cluster's tokens.

        Without Vault, the namespaces of the platform's Secrets instead.
        """
        system = self.system()
        reviewer = identities.issue(system.kubectl, endpoint=system.endpoint, folder=self.folder)
        identities.sealing_keys(self.folder)
        if self.layout.vault == "none":
            identities.install_secrets(system.kubectl)
            return
        self.vault().trust(system.endpoint, reviewer_token=reviewer)

    @_once
    def ray(self) -> Ray:
        """A Ray head whose Jobs API answers with the token."""
        if self.layout.ray == "external":
            token_file = self.folder / "ray.token"
            if not ray.authorised(self.layout.ray_address, token_file.read_text()):
                raise Problem(
                    f"RAY_ADDRESS: {self.layout.ray_address} refuses the token, or does not answer."
                )
            self._progress.say(f"Ray of RAY_ADDRESS at {self.layout.ray_address}")
            return Ray(address=self.layout.ray_address, token_file=token_file)
        head = self._ray()
        head.prepare()
        self._start(head.server(), head.address)
        return Ray(address=head.address, token_file=head.token_file)

    def servers(self) -> dict[str, Callable[[], Process]]:
        """How each server that is ours is started, by name, in the order of their start."""
        chosen, found = self.layout, dict[str, Callable[[], Process]]()
        if chosen.database == "local":
            found["postgres"] = lambda: self._postgres().server()
        if chosen.vault == "local":
            found["vault"] = lambda: self._vault().server()
        if chosen.ray == "local":
            found["ray"] = lambda: self._ray().server()
        if chosen.cluster == "local":
            found["etcd"] = lambda: self._control_plane().etcd()
            found["kube-apiserver"] = lambda: self._control_plane().apiserver()
            found["kube-controller-manager"] = lambda: self._control_plane().controller_manager()
        return found

    def _start(self, wanted: Process, address: str = "") -> None:
        begun = time.monotonic()
        if process.start(wanted):
            self._progress.say(f"{wanted.name} ready in {time.monotonic() - begun:.1f} s  {address}".rstrip())

    def _existing_cluster(self) -> Cluster:
        """The context that CLUSTER=existing means, named before anything is applied to it."""
        kubectl = prepare.kubectl(self._progress)
        frozen = layout.freeze_cluster(self.folder, kubectl=kubectl)
        endpoint = kubeconfig.endpoint_of(frozen)
        self._progress.say(f"CLUSTER=existing: context {endpoint.context}, server {endpoint.server}")
        return Cluster(endpoint=endpoint, kubectl=Kubectl(binary=kubectl, kubeconfig=frozen), audit_log=None)

    def _control_plane(self) -> ControlPlane:
        binaries = assets.binaries(assets.KUBERNETES, self._progress)
        return ControlPlane(folder=self.folder, ports=self.layout.ports, binaries=binaries)

    def _postgres(self) -> postgres.Postgres:
        return postgres.Postgres(
            folder=self.folder,
            home=Path(self.layout.postgres_home),
            port=self.layout.ports["postgres"],
            durable=self.layout.durable,
        )

    def _vault(self) -> DevServer:
        binary = assets.binaries(assets.VAULT, self._progress)["vault"]
        return DevServer(folder=self.folder, port=self.layout.ports["vault"], binary=binary)

    def _ray(self) -> RayHead:
        return RayHead(
            folder=self.folder,
            temporary=Path(self.layout.ray_temporary),
            ports=self.layout.ports,
            environment=uv.ray(self._progress),
        )
