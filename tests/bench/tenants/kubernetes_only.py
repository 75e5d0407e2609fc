"""The provisioner with its registry, PostgreSQL and Vault in memory: what is left is Kubernetes."""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack

import main as operator_main
import provisioner
from pipewright.backends import memory, memory_postgres, sealing
from pipewright.ports import Cluster, ProvisionerPorts, ServerPorts
from pipewright.runtime.metrics import Metrics
from pipewright.settings import Settings, read_secret


async def _ports(
    settings: Settings, *, cluster: Cluster, metrics: Metrics, resources: AsyncExitStack
) -> ProvisionerPorts:
    assert settings.sealing is not None
    server = memory_postgres.MemoryServer()
    served = ServerPorts(
        databases=memory_postgres.MemoryDatabases(server),
        logins=memory_postgres.MemoryLogins(server),
        dumps=memory_postgres.MemoryDumps(server),
    )
    return ProvisionerPorts(
        cluster=cluster,
        registry=memory_postgres.MemoryRegistry(),
        databases=served.databases,
        logins=served.logins,
        dumps=served.dumps,
        servers={it.name: served for it in settings.servers},
        secrets=memory.MemorySecretStore(),
        grants=memory.MemoryGrants(),
        data_keys=memory.MemoryDataKeys(),
        sealer=sealing.HpkeSealer(read_secret(settings.sealing.public_key_file)),
    )


if __name__ == "__main__":
    provisioner._ports = _ports
    code = operator_main.main()
    sys.stdout.flush()
    os._exit(code)
