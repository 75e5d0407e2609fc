"""The proxies in a thread of their own, so that whoever plays a story may simply block."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path

from dev import certificates, ports
from dev.faults import rest
from dev.faults.wire import PostgresProxy
from dev.faults.writes import SYSTEMS, Switch
from dev.parts import Cluster, Database
from dev.vault import Vault


class Proxies:
    """In front of kube-apiserver, Vault and PostgreSQL; all calls meet one switch."""

    def __init__(
        self,
        folder: Path,
        *,
        switch: Switch,
        cluster: Cluster,
        vault: Vault,
        database: Database,
        provider: str | None = None,
        ray: str | None = None,
    ) -> None:
        """`provider` and `ray` are the addresses of a CI system and a Jobs API, where there is one."""
        certificates.serving(folder)
        self.authority = (folder / "ca.crt").read_bytes()
        self.ports: Mapping[str, int] = {system: ports.free() for system in (*SYSTEMS, "provider", "ray")}
        serve = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serve.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        trust = ssl.create_default_context(cadata=cluster.endpoint.authority.decode())
        self._proxies: dict[str, rest.HttpProxy | PostgresProxy] = {
            "kubernetes": rest.HttpProxy(
                upstream=cluster.endpoint.server,
                switch=switch,
                describe=rest.kubernetes_call,
                serve=serve,
                trust=trust,
            ),
            "vault": rest.HttpProxy(upstream=vault.address, switch=switch, describe=rest.vault_call),
            "postgres": PostgresProxy(host=database.host, port=database.port, switch=switch),
        }
        if provider is not None:
            self._proxies["provider"] = rest.HttpProxy(
                upstream=provider, switch=switch, describe=rest.provider_call
            )
        if ray is not None:
            self._proxies["ray"] = rest.HttpProxy(upstream=ray, switch=switch, describe=rest.ray_call)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxies", daemon=True)

    def start(self) -> None:
        """Listen, each on its port."""
        self._thread.start()
        for name, proxy in self._proxies.items():
            asyncio.run_coroutine_threadsafe(proxy.start(self.ports[name]), self._loop).result(10)

    def stop(self) -> None:
        """Close every connection and end the thread."""
        for proxy in self._proxies.values():
            asyncio.run_coroutine_threadsafe(proxy.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
