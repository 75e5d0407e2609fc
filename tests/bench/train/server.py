"""The gateway with one more route: a constant, by the way that a prediction goes.

    PIPEWRIGHT_SETTINGS=… python -m tests.bench.train.server

It is the product's application, composed as `gateway.__main__` does. The route's request passes the same
server, middleware and framework, its body is checked and its answer built as a prediction's; nobody is
authorised, no database is asked, and no model.
"""

from __future__ import annotations

import uvicorn
import uvloop
from fastapi import APIRouter

from connectors import plugins
from gateway import app, heads
from gateway import parts as gateway_parts
from gateway.calls import Name, Namespace
from gateway.schemas import ModelRef, PredictionBody, RunToScore
from pipewright import settings
from pipewright.backends import kubernetes
from pipewright.ports import SystemClock
from pipewright.runtime import logs
from pipewright.settings import Settings

ANSWER = PredictionBody(
    probability=0.1234,
    band="low",
    reasons=(
        "the branch's last run passed",
        "3 of the last 50 runs failed",
        "it is an hour at which few fail",
    ),
    model=ModelRef(name="constant", version="0123456789ab"),
)
constants = APIRouter(prefix="/v1/namespaces/{namespace}")


@constants.post("/models/{name}/constant")
async def constant(namespace: Namespace, name: Name, run: RunToScore) -> PredictionBody:
    """The same answer to everybody."""
    return ANSWER


async def serve(chosen: Settings) -> None:
    """Serve until a signal."""
    client = await kubernetes.connect(chosen.kubeconfig)
    found = plugins.load(folders=chosen.connectors.folders, packages=chosen.connectors.packages)
    parts = gateway_parts.build(
        chosen,
        cluster=kubernetes.KubernetesCluster(client),
        catalogue=found.connectors,
        clock=SystemClock(),
    )
    built = app.create(parts)
    built.include_router(constants)
    config = uvicorn.Config(
        built,
        host=chosen.listen.host,
        port=chosen.listen.port,
        http=heads.PromptHeads,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
    )
    try:
        await uvicorn.Server(config).serve()
    finally:
        await client.close()


def main() -> None:
    """Serve with the settings of the stack's gateway, and its log."""
    logs.configure(component="gateway")
    uvloop.run(serve(settings.load()))


if __name__ == "__main__":
    main()
