"""Everything that a fault needs: real servers, proxies before them, and the operator as a real process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import yaml

from dev import files, identities, kubeconfig, postgres, process, product, throwaway
from dev.connection import Http
from dev.faults.admin import TENANTS, Kubernetes, VaultAdmin
from dev.faults.proxies import Proxies
from dev.faults.writes import Switch
from dev.problem import Problem
from dev.process import Process
from dev.stack import Stack

PROVISIONER = "provisioner"
LOOK = "faults.pipewright.dev/look"
"""An annotation whose change asks the operator for one look at a Tenant."""

T = TypeVar("T")


class Rig:
    """One set of servers for all faults; only the operator is started anew."""

    component = PROVISIONER
    """The process that faults happen to."""
    kind = "Tenant"
    """What it is looked at by."""
    logins: tuple[str, ...] = ("platform.dsn", "server.dsn", "migrator.dsn")
    """The files of its connections to PostgreSQL."""
    unused = frozenset({"ray"})
    """Servers of the stack that no story needs."""

    def __init__(self, stack: Stack, *, provider: str | None = None, ray: str | None = None) -> None:
        """`provider` and `ray` are the addresses of a CI system and of a Jobs API to stand before, too."""
        self.stack = stack
        parts = stack.parts
        self.cluster, self.vault_server = parts.system(), parts.vault()
        parts.platform()
        self.database = parts.database()
        parts.identities()
        parts.database_engine()
        self.switch = Switch(kill=self._strike)
        self.proxies = Proxies(
            stack.folder / "fault-proxies",
            switch=self.switch,
            cluster=self.cluster,
            vault=self.vault_server,
            database=self.database,
            provider=provider,
            ray=ray,
        )
        self.proxies.start()
        self.kubernetes, self.vault = Kubernetes(self.cluster), VaultAdmin(self.vault_server)
        self.kubernetes_of_proxies = Kubernetes(self.cluster)
        """Another one, for faults that are met in the proxies' thread."""
        self.sql = psycopg.connect(self.database.admin_dsn, autocommit=True)
        self._write_settings()
        self.port = stack.layout.ports[self.component]
        """Where the operator that leads serves its metrics."""
        self._pid = 0
        self._look = 0
        self._said: list[str] = []

    @property
    def account(self) -> str:
        """Who the operator is to the API server."""
        return f"system:serviceaccount:{identities.NAMESPACE}:{self.component}"

    @contextmanager
    def using(self, database: str) -> Iterator[psycopg.Connection[Any]]:
        """An administrator's connection to another database."""
        with psycopg.connect(self.database.admin_dsn, dbname=database, autocommit=True) as connection:
            yield connection

    def mend(self) -> None:
        """After a fault that went wrong: every server runs and answers again."""
        self.switch.fault = None
        for name in self.stack.parts.servers():
            if name in self.unused:
                continue
            if self.stack.running(name):
                self.stack.kill(name, signal.SIGCONT)
            else:
                self.stack.start(name)
        self.reconnect()
        self.unseal()
        if self.running():
            self.stack.kill(self.component, signal.SIGCONT)
        self.restart()

    def unseal(self) -> None:
        """Unseal Vault with the key that the dev server printed, and wait until it serves."""
        found = re.search(r"Unseal Key: (\S+)", self.stack.log("vault").read_text())
        if found is None:
            raise Problem("Vault's log has no unseal key: is it a dev server?")
        self.vault.send("PUT", "sys/unseal", {"key": found.group(1)})
        self.until(lambda: self.vault.list("sys/policies/acl"), within=10, says="Vault is unsealed")

    def reconnect(self) -> None:
        """After PostgreSQL was ended: the administrator's connection anew."""
        with contextlib.suppress(psycopg.Error):
            self.sql.close()
        self.sql = psycopg.connect(self.database.admin_dsn, autocommit=True)

    # -- the operator --------------------------------------------------------------------------------------

    def start(self, *, resync: float = 3600.0) -> None:
        """Start the operator unless it runs, and wait until it has listed everything."""
        path = product.settings_file(self.stack.folder, self.component)
        settings = yaml.safe_load(path.read_text())
        if settings["resyncSeconds"] != resync:
            files.write(path, yaml.safe_dump(settings | {"resyncSeconds": resync}, sort_keys=False))
        if not self.running() and self.log.exists():
            self._said.append(self.log.read_text(errors="replace"))  # its next start begins the file anew
        process.start(self.process())
        running = process.find(self.stack.folder, self.component)
        self._pid = running.pid if running else 0

    def restart(self, *, resync: float = 3600.0) -> None:
        """SIGKILL, then a new process."""
        self.end()
        self.start(resync=resync)

    def end(self) -> None:
        """SIGKILL, and nobody starts it again."""
        if self.running():
            process.kill(self.stack.folder, self.component, signal.SIGKILL)

    def running(self, name: str | None = None) -> bool:
        """Whether it lives."""
        return process.find(self.stack.folder, name or self.component) is not None

    def revive(self) -> None:
        """What its Deployment would do: start it again if it has ended."""
        if not self.running():
            self.start()

    def process(self, name: str | None = None) -> Process:
        """How the operator, or a second replica of it with settings of its own, is started."""
        name = name or self.component
        port = self.stack.layout.ports[self.component]
        made = product.process(self.component, folder=self.stack.folder, port=port)
        if name == self.component:
            return made
        path = product.settings_file(self.stack.folder, name)
        port = yaml.safe_load(path.read_text())["listen"]["port"]
        return dataclasses.replace(
            made,
            name=name,
            environment={**made.environment, "PIPEWRIGHT_SETTINGS": str(path)},
            ready=lambda: bool(self.metrics(port)),  # one that stands by is alive, and not ready
        )

    @property
    def log(self) -> Path:
        """What the running operator says."""
        return self.stack.log(self.component)

    def said(self) -> str:
        """All that the operator has said since this was asked last, by whichever process."""
        current = self.log.read_text(errors="replace") if self.log.exists() else ""
        text = "".join(self._said) + current
        self._said.clear()
        return text

    def _strike(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def metric(self, name: str, port: int | None = None) -> float | None:
        """One sample of the operator's metrics; None while it does not answer."""
        text = self.metrics(port)
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return (float(found.group(1)) if found else 0.0) if text else None

    def metrics(self, port: int | None = None) -> str:
        """All of them, as they are scraped; empty while it does not answer."""
        try:
            return Http(f"http://127.0.0.1:{port or self.port}", {}).text("/metrics")
        except Problem:
            return ""

    def idle(self) -> bool:
        """Whether no key waits or is worked on."""
        text = self.metrics()
        values = re.findall(r"^pipewright_queue_(?:depth\{.*\}|running) (\S+)$", text, re.MULTILINE)
        return bool(values) and not any(map(float, values))

    # -- looking -------------------------------------------------------------------------------------------

    def until(self, fact: Callable[[], T | None], *, within: float, says: str) -> T:
        """Wait for a fact. Raises Late when it does not come."""
        deadline = time.monotonic() + within
        while True:
            try:
                found = fact()
            except (Problem, psycopg.OperationalError):
                found = None  # a server that does not answer has no fact to tell
            if found is not None and found is not False:
                return found
            if time.monotonic() > deadline:
                raise Late(f"not within {within:.0f} s: {says}")
            time.sleep(0.03)

    def path(self, name: str) -> str:
        """Where the API server has the object of this name."""
        return f"{TENANTS}/{name}"

    def look(self, name: str, *, within: float = 15.0) -> int:
        """Ask for one look at an object; how many writes the operator made until it was at rest."""
        steady = f'pipewright_reconcile_total{{kind="{self.kind}",result="steady"}}'
        self.until(self.idle, within=within, says="the operator is idle")
        before, count = self.metric(steady) or 0.0, len(self.switch.writes)
        self._look += 1
        body = {"metadata": {"annotations": {LOOK: str(self._look)}}}
        self.kubernetes.patch(self.path(name), body)
        self.until(
            lambda: (self.metric(steady) or 0.0) > before and self.idle(),
            within=within,
            says=f"{name} has nothing left to do",
        )
        return len(self.switch.writes) - count

    # -- settings ------------------------------------------------------------------------------------------

    def _write_settings(self) -> None:
        """The settings of production, with the proxies' addresses for what the operator itself reaches."""
        folder = self.stack.folder
        product.write_settings(folder, self.stack.layout, database=(self.database.host, self.database.port))
        own = identities.folder_of(folder, self.component)
        endpoint = kubeconfig.Endpoint(
            server=f"https://127.0.0.1:{self.proxies.ports['kubernetes']}",
            authority=self.proxies.authority,
            context=self.cluster.endpoint.context,
        )
        token = yaml.safe_load((own / "kubeconfig").read_text())["users"][0]["user"]["token"]
        kubeconfig.write(own / "kubeconfig", endpoint=endpoint, user=self.component, token=token)
        for name in self.logins:
            self._through_proxy(own / name)
        path = product.settings_file(folder, self.component)
        settings = yaml.safe_load(path.read_text())
        settings["vault"]["address"] = f"http://127.0.0.1:{self.proxies.ports['vault']}"
        self.adapt(settings)
        files.write(path, yaml.safe_dump(settings, sort_keys=False))

    def adapt(self, settings: dict[str, Any]) -> None:
        """Change what else differs from production."""
        # proofs go past the proxies, and come when it is time and not in a story's order
        settings["isolationProofs"] = False

    def _through_proxy(self, path: Path) -> None:
        words = psycopg.conninfo.conninfo_to_dict(path.read_text())
        address = postgres.dsn(
            str(words["user"]),
            str(words["password"]),
            host="127.0.0.1",
            port=self.proxies.ports["postgres"],
            database=str(words["dbname"]),
        )
        files.write(path, address)

    def close(self) -> None:
        """End what this object opened; the stack is its owner's."""
        with contextlib.suppress(psycopg.Error):
            self.sql.close()
        process.stop(self.stack.folder, self.component)
        self.proxies.stop()


class Late(Problem):
    """A fact did not come in time."""


@contextmanager
def rig() -> Iterator[Rig]:
    """Servers of our own, gone afterwards."""
    with throwaway.stack() as stack:
        made = Rig(stack)
        try:
            yield made
        finally:
            made.close()
