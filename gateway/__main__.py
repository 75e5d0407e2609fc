"""The gateway's composition root: settings → parts → application → server. Imported by nobody."""

from __future__ import annotations

import signal
import sys

import uvicorn
import uvloop

from connectors import plugins
from gateway import app, heads, memory, parts
from pipewright import settings
from pipewright.backends import kubernetes
from pipewright.ports import SystemClock
from pipewright.runtime import logs, tracing
from pipewright.settings import Settings, SettingsError

log = logs.get(__name__)

KEEP_ALIVE_SECONDS = 30
GRACE_SECONDS = 10
"""For requests under way when this process is asked to end."""


def main() -> int:
    """Serve until a signal; what is wrong with the settings is one line and exit code 2."""
    try:
        chosen = settings.load()
        logs.configure(component="gateway")
        tracing.configure(component="gateway", endpoint=chosen.otlp_endpoint)
        uvloop.run(serve(chosen))
    except SettingsError as wrong:
        sys.stderr.write(f"gateway: {wrong}\n")
        return 2
    return 0


async def serve(chosen: Settings) -> None:
    """Run the server. Neither the databases nor the API server need to be up: it answers 503 meanwhile."""
    client = await kubernetes.connect(chosen.kubeconfig)
    found = plugins.load(folders=chosen.connectors.folders, packages=chosen.connectors.packages)
    for name, reason in found.broken.items():
        log.error("a connector cannot be used", connector=name, reason=reason)
    try:
        built = parts.build(
            chosen,
            cluster=kubernetes.KubernetesCluster(client),
            catalogue=found.connectors,
            clock=SystemClock(),
        )
        built.metrics.connectors_broken.set(len(found.broken))
        config = uvicorn.Config(
            app.create(built),
            host=chosen.listen.host,
            port=chosen.listen.port,
            http=heads.PromptHeads,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        _end_quietly()
        memory.settle()
        await uvicorn.Server(config).serve()
    finally:
        await client.close()


def _end_quietly() -> None:
    """uvicorn ends in good order on these signals and then raises them again: by then they are done with."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


if __name__ == "__main__":
    sys.exit(main())
