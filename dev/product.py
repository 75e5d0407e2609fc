"""The product's own processes: provisioner, runner, gateway, each with the settings file of its identity.

The settings files are those of production with this stack's addresses; every secret is a path of a file
that lies in the component's own folder.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dev import files, identities, places, postgres, vault, web
from dev.layout import Layout
from dev.process import Process

SERVER = "main"
"""The name of the stack's server for tenants' databases."""

_CONTROLLERS = {
    "provisioner": ["tenant"],
    "runner": ["integration", "workflow", "workflowrun", "model"],
    "gateway": [],
}
_ENTRIES = {
    "provisioner": Path("operator", "main.py"),
    "runner": Path("operator", "main.py"),
    "gateway": Path("gateway", "__main__.py"),
}


def missing() -> dict[str, Path]:
    """Components whose entry point this tree does not have (yet), with the file that is looked for."""
    return {name: entry for name, entry in _ENTRIES.items() if not (places.ROOT / entry).exists()}


def process(component: str, *, folder: Path, port: int) -> Process:
    """How one component is started; ready when its own endpoint says so."""
    entry = _ENTRIES[component]
    start = ("-m", "gateway") if component == "gateway" else (str(places.ROOT / entry),)
    path = "/healthz" if component == "gateway" else "/readyz"
    return Process(
        name=component,
        folder=folder,
        directory=places.ROOT,
        command=(sys.executable, *start),
        environment={
            "PIPEWRIGHT_SETTINGS": str(settings_file(folder, component)),
            "PYTHONPATH": f"{places.ROOT / 'operator'}:{places.ROOT}",
            "PYTHONUNBUFFERED": "1",
        },
        ready=lambda: _answers(f"http://127.0.0.1:{port}{path}"),
        grace=15.0,
    )


def settings_file(folder: Path, component: str) -> Path:
    """Where the settings of one component lie."""
    return folder / "settings" / f"{component}.yaml"


def write_settings(folder: Path, layout: Layout, *, database: tuple[str, int]) -> None:
    """Write the three settings files; `database` is host and port of the server for tenants."""
    for component in identities.COMPONENTS:
        document = _settings(component, folder, layout, database=database)
        files.write(settings_file(folder, component), yaml.safe_dump(document, sort_keys=False))


def _settings(component: str, folder: Path, layout: Layout, *, database: tuple[str, int]) -> dict[str, Any]:
    own = identities.folder_of(folder, component)
    return {
        "component": component,
        "controllers": _CONTROLLERS[component],
        "identity": f"{component}-0",
        "systemNamespace": identities.NAMESPACE,
        "kubeconfig": str(own / "kubeconfig"),
        "listen": {"host": "127.0.0.1", "port": layout.ports[component]},
        "platformDatabase": {"dsnFile": str(own / "platform.dsn")},
        "servers": [_server(own, database, privileged=component == "provisioner")],
        "outbound": {"allow": [f"127.0.0.1:{layout.ports['provider']}"]},
        "resyncSeconds": 3600,
        "otlpEndpoint": None,
        **_parts(component, folder, layout),
    }


def _parts(component: str, folder: Path, layout: Layout) -> Mapping[str, Any]:
    """What only some components have: Vault and sealing, the gateway's key, Ray, the artifact store."""
    own = identities.folder_of(folder, component)
    base_url = f"http://127.0.0.1:{layout.ports['gateway']}"
    artifacts = {"url": (folder / "artifacts").as_uri()}
    if component == "gateway":
        gateway = {"privateKeyFile": str(own / "gateway.key"), "baseUrl": base_url, "audience": "pipewright"}
        return {"gateway": gateway, "artifacts": artifacts}
    common: dict[str, Any] = {"sealing": {"publicKeyFile": str(folder / "gateway.pub")}}
    if layout.vault != "none":
        common["vault"] = {
            "address": layout.vault_address,
            "role": f"pipewright-{component}",
            "jwtFile": str(own / "vault.jwt"),
            "mount": vault.MOUNT,
            "transit": vault.TRANSIT,
        }
    if component == "provisioner":
        if "vault" in common:
            common["vault"]["database"] = vault.DATABASE
        return {**common, "artifacts": artifacts, "pgDump": str(postgres.program("pg_dump"))}
    ray = {"address": layout.ray_address, "tokenFile": str(folder / "ray.token")}
    return {
        **common,
        "gateway": {"baseUrl": base_url, "tokenFile": str(own / "gateway.jwt")},
        "ray": ray,
        "artifacts": artifacts,
    }


def _server(own: Path, database: tuple[str, int], *, privileged: bool) -> dict[str, Any]:
    host, port = database
    server: dict[str, Any] = {
        "name": SERVER,
        "region": "local",
        "databaseClass": "standard",
        "host": host,
        "port": port,
    }
    if privileged:
        server["provisionerDsnFile"] = str(own / "server.dsn")
        server["migratorDsnFile"] = str(own / "migrator.dsn")
        server["dumperDsnFile"] = str(own / "dumper.dsn")
    return server


def _answers(url: str) -> bool:
    answer = web.ask(url, timeout=2.0)
    return answer is not None and answer.code == 200
