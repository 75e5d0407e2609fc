"""The stack: every server and the product's processes on this machine, up and down as one.

`up` starts what is slow beside each other and repeats nothing that runs; `down` ends everything in reverse
order, each by its own pid. `make up`, the demo and the tests' fixtures all go through here.
"""

import signal
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev import files, identities, kubeconfig, layout, postgres, prepare, process, product
from dev.layout import Layout
from dev.parts import Parts
from dev.problem import Problem
from dev.process import Process
from dev.progress import Progress

_STALE = 12 * 3600
"""Seconds after which `up` issues tokens anew; they live for 24 hours."""

_ORDER_DOWN = (
    ("gateway", "runner", "provisioner"),
    ("ray", "vault", "kube-controller-manager", "postgres"),
    ("kube-apiserver",),
    ("etcd",),
)
"""Groups that are ended one after the other, each group at once; a process not named goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of `make status`."""

    name: str
    state: str
    """running, stopped or external."""
    pid: int | None
    address: str
    log: Path | None


class Stack:
    """One stack by its state folder; a folder without one gets a new layout at the first use."""

    def __init__(self, folder: Path, *, durable: bool = True, progress: Progress | None = None) -> None:
        self.folder = folder
        self._durable = durable
        self._progress = progress or Progress()
        self._parts: Parts | None = None

    @property
    def layout(self) -> Layout:
        """Ports, folders and origins of this stack; decided at the first use."""
        return self.parts.layout

    @property
    def parts(self) -> Parts:
        """Its servers, each of which can be started alone: cluster, database, vault, ray and so on."""
        if self._parts is None:
            chosen = layout.load(self.folder) or layout.create(self.folder, durable=self._durable)
            self._parts = Parts(self.folder, chosen, self._progress)
        return self._parts

    @property
    def gateway_url(self) -> str:
        """Where the gateway answers."""
        return f"http://127.0.0.1:{self.layout.ports['gateway']}"

    @property
    def provider_url(self) -> str:
        """Where the provider simulator is expected; the allow-list of outbound addresses has it."""
        return f"http://127.0.0.1:{self.layout.ports['provider']}"

    def up(self, *, ray: bool = True) -> None:
        """Start what does not run: servers, identities, then the product's processes.

        Raises Problem with the last log lines when something does not start; a stack that was not up before
        is then stopped again, its logs stay.
        """
        with files.lock(self.folder / "lock", waiting=self._somebody_else):
            fresh = self._begin()
            if not fresh and self._complete(ray=ray):
                self._progress.say("already up: nothing to do")
                return
            try:
                prepare.everything(self._origins(), self._progress, ray=ray)
                self._start_all(ray=ray, fresh=fresh)
            except BaseException:
                if fresh:
                    self._end()
                raise

    def down(self) -> int:
        """End every process of this stack and remove its data; how many ran. Logs stay."""
        if not self.folder.exists():
            return 0
        with files.lock(self.folder / "lock", waiting=self._somebody_else):
            return self._end()

    def status(self) -> list[Row]:
        """Every server and process, whether it runs, where it answers and where its log is."""
        if layout.load(self.folder) is None:
            return []
        return [self._row(name) for name in self._names()] + self._external_rows()

    def start(self, name: str) -> None:
        """Start one process (again) on its old port with its old data, and wait until it is ready."""
        process.start(self._process(name))

    def stop(self, name: str) -> None:
        """End one process in its own way, as `down` does."""
        process.stop(self.folder, name)

    def restart(self, name: str) -> None:
        """Stop, then start one process."""
        self.stop(name)
        self.start(name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send one process a signal; returns when a deadly one has ended it."""
        process.kill(self.folder, name, number)

    def running(self, name: str) -> bool:
        """Whether that process lives."""
        return process.find(self.folder, name) is not None

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return process.log_of(self.folder, name)

    def _begin(self) -> bool:
        """Whether nothing of this stack runs; what a crashed one left behind is then removed first."""
        found = layout.load(self.folder)
        alive = [name for name in process.names(self.folder) if self.running(name)]
        if found is None or not alive:
            self._end()
            return True
        wrong = layout.contradictions(found)
        if wrong:
            raise Problem(
                f"The running stack was made with another {' and '.join(wrong)}: `make down` first."
            )
        if "vault" in process.names(self.folder) and "vault" not in alive:
            raise Problem("Vault has ended, and its secrets with it: `make down`, then `make up`.")
        return False

    def _start_all(self, *, ray: bool, fresh: bool) -> None:
        """Servers beside each other; the product as soon as what it needs is there."""
        every = self.parts
        pool = ThreadPoolExecutor(max_workers=4)
        try:
            slow = [pool.submit(every.ray)] if ray else []
            vault = () if self.layout.vault == "none" else (every.vault,)
            needed = [pool.submit(start) for start in (every.system, every.platform, *vault)]
            _results(needed)
            every.identities()
            every.database_engine()
            self._start_product()
            _results(slow)
        except BaseException:
            if fresh:  # nobody waits for a server that was ended: the starting threads come to an end, too
                self._stop_processes()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _start_product(self) -> None:
        """Write the settings, then start each component that this tree has."""
        database = self.parts.database()
        product.write_settings(self.folder, self.layout, database=(database.host, database.port))
        (self.folder / "artifacts").mkdir(exist_ok=True)
        for name, entry in product.missing().items():
            self._progress.say(f"{name}: not started, this tree has no {entry}")
        with ThreadPoolExecutor(max_workers=3) as pool:
            _results([pool.submit(self._start_component, name) for name in self._components()])

    def _start_component(self, name: str) -> None:
        begun = time.monotonic()
        if process.start(self._process(name)):
            address = f"http://127.0.0.1:{self.layout.ports[name]}"
            self._progress.say(f"{name} ready in {time.monotonic() - begun:.1f} s  {address}")

    def _end(self) -> int:
        """Stop all, then remove what the stack wrote; the layout goes last."""
        self._parts = None
        found = layout.load(self.folder)
        if found is None:
            return 0
        stopped = self._stop_processes()
        layout.forget(self.folder, found)
        return stopped

    def _stop_processes(self) -> int:
        stopped = 0
        known = {name for group in _ORDER_DOWN for name in group}
        others = tuple(name for name in process.names(self.folder) if name not in known)
        for group in (others, *_ORDER_DOWN):
            if group:
                with ThreadPoolExecutor(max_workers=len(group)) as pool:
                    stopped += sum(pool.map(lambda name: process.stop(self.folder, name), group))
        process.end_leftovers(self.folder)
        return stopped

    def _complete(self, *, ray: bool) -> bool:
        """Whether everything runs and its tokens are fresh."""
        wanted = [name for name in self._names() if ray or name != "ray"]
        settings = product.settings_file(self.folder, identities.COMPONENTS[0])
        fresh = settings.exists() and time.time() - settings.stat().st_mtime < _STALE
        return fresh and all(row.state != "stopped" for row in map(self._row, wanted))

    def _components(self) -> list[str]:
        return [name for name in identities.COMPONENTS if name not in product.missing()]

    def _names(self) -> list[str]:
        servers = self.parts.servers()
        return [*servers, *self._components()]

    def _process(self, name: str) -> Process:
        servers = self.parts.servers()
        if name in servers:
            return servers[name]()
        if name in self._components():
            return product.process(name, folder=self.folder, port=self.layout.ports[name])
        raise Problem(f"This stack has no process {name}. It has: {', '.join(self._names())}.")

    def _row(self, name: str) -> Row:
        found = process.find(self.folder, name)
        port = self.layout.ports.get("ray-dashboard" if name == "ray" else name)
        return Row(
            name=name,
            state="stopped" if found is None else "running",
            pid=None if found is None else found.pid,
            address=f"127.0.0.1:{port}",
            log=self.log(name),
        )

    def _external_rows(self) -> list[Row]:
        """The servers that somebody else runs; whether they answer is their owner's to know."""
        chosen, kubeconfig_file = self.layout, self.folder / "admin.kubeconfig"
        addresses = {}
        if chosen.cluster == "external" and kubeconfig_file.exists():
            addresses["cluster"] = kubeconfig.endpoint_of(kubeconfig_file).server
        if chosen.database == "external":
            host, port = postgres.address_of((self.folder / "external-admin.dsn").read_text())
            addresses["postgres"] = f"{host}:{port}"
        if chosen.vault == "external":
            addresses["vault"] = chosen.vault_address
        if chosen.ray == "external":
            addresses["ray"] = chosen.ray_address
        return [
            Row(name=name, state="external", pid=None, address=address, log=None)
            for name, address in addresses.items()
        ]

    def _origins(self) -> prepare.Origins:
        chosen = self.layout
        return prepare.Origins(cluster=chosen.cluster, vault=chosen.vault, ray=chosen.ray)

    def _somebody_else(self) -> None:
        self._progress.say(f"another process works on the stack in {self.folder}: waiting for it")


def _results(futures: Sequence[Future[Any]]) -> None:
    """Wait for all, or until one fails; that one raises."""
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()
