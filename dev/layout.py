"""What one stack is made of: ports, folders, and which of its servers somebody else runs.

It is decided once, when the stack is made, and kept in stack.json of the state folder; so `make down` and
`make status` need none of the environment variables that `make up` saw. What a user's variable holds in
secret is copied into private files beside it.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dev import files, kubeconfig, ports, postgres, ray
from dev.problem import Problem

Origin = Literal["local", "external", "none"]

_PORTS = (
    "etcd",
    "etcd-peer",
    "kube-apiserver",
    "kube-controller-manager",
    "postgres",
    "vault",
    *ray.PORTS,
    "provisioner",
    "runner",
    "gateway",
    "provider",
)

_VARIABLES = {"cluster": "CLUSTER", "database": "DATABASE_DSN", "vault": "VAULT_ADDR", "ray": "RAY_ADDRESS"}

_KEPT = ("lock", "logs")
"""What outlives a stack: the logs, to be read after it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The decisions of one stack; every field is plain data."""

    ports: Mapping[str, int]
    cluster: Origin
    database: Origin
    vault: Origin
    ray: Origin
    vault_address: str
    ray_address: str
    postgres_home: str
    ray_temporary: str
    durable: bool


def load(folder: Path) -> Layout | None:
    """The layout of the stack in this folder; None when there is no stack."""
    path = folder / "stack.json"
    return Layout(**json.loads(path.read_text())) if path.exists() else None


def create(folder: Path, *, durable: bool, environment: Mapping[str, str] = os.environ) -> Layout:
    """Decide on a new stack in an empty folder and write it down.

    Raises Problem when the folder holds something else, or a variable says what cannot be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in _KEPT)
    if strangers:
        raise Problem(
            f"{folder} is not empty ({strangers[0]} …). Set PIPEWRIGHT_STATE to a folder of its own."
        )
    folder.chmod(0o711)  # PostgreSQL's own user must pass through; every secret in it is 0600
    chosen = origins(environment)
    _keep_secrets(folder, environment, chosen)
    numbers = dict(zip(_PORTS, ports.claim(folder, len(_PORTS)), strict=True))
    layout = Layout(
        ports=numbers,
        **chosen,
        vault_address=environment.get("VAULT_ADDR") or f"http://127.0.0.1:{numbers['vault']}",
        ray_address=environment.get("RAY_ADDRESS") or f"http://127.0.0.1:{numbers['ray-dashboard']}",
        postgres_home=str(postgres.home_for(folder)),
        ray_temporary=str(ray.temporary_folder(folder)),
        durable=durable,
    )
    files.write(folder / "stack.json", json.dumps(dataclasses.asdict(layout), indent=2) + "\n")
    return layout


def contradictions(layout: Layout, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The variables that ask for something else than the running stack was made with."""
    now, then = origins(environment), dataclasses.asdict(layout)
    return [_VARIABLES[part] for part, origin in now.items() if origin != then[part]]


def forget(folder: Path, layout: Layout) -> None:
    """Remove everything that the stack wrote, but its logs."""
    for place in (layout.postgres_home, layout.ray_temporary):
        shutil.rmtree(place, ignore_errors=True)
    for path in folder.iterdir():
        if path.name in _KEPT or path.name == "stack.json":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder / "stack.json").unlink()  # last: until then the next `down` can finish this


def origins(environment: Mapping[str, str] = os.environ) -> dict[str, Origin]:
    """Who runs cluster, database, vault and ray, as the environment variables ask for it."""
    variables = {part: name for part, name in _VARIABLES.items() if part != "cluster"}
    return {
        "cluster": _cluster(environment),
        **{part: _external(environment, name) for part, name in variables.items()},
        **({"vault": "none"} if _without_vault(environment) else {}),
    }


def _cluster(environment: Mapping[str, str]) -> Origin:
    named = environment.get("CLUSTER", "")
    if named in ("", "local"):
        return "local"
    if named == "existing":
        return "external"
    raise Problem(
        f"CLUSTER={named} is not known. Leave it out for a control plane on this machine, "
        "or CLUSTER=existing for the current context of KUBECONFIG."
    )


def _without_vault(environment: Mapping[str, str]) -> bool:
    named = environment.get("VAULT", "")
    if named not in ("", "none"):
        raise Problem(f"VAULT={named} is not known. Leave it out for a Vault of this stack, or VAULT=none.")
    if named and environment.get("VAULT_ADDR"):
        raise Problem("VAULT=none and VAULT_ADDR contradict each other: unset one of them.")
    return bool(named)


def _external(environment: Mapping[str, str], name: str) -> Origin:
    return "external" if environment.get(name) else "local"


def _keep_secrets(folder: Path, environment: Mapping[str, str], chosen: Mapping[str, Origin]) -> None:
    """Copy what the user's variables hold; a missing companion variable is named."""
    if chosen["database"] == "external":
        postgres.address_of(environment["DATABASE_DSN"])
        files.write(folder / "external-admin.dsn", environment["DATABASE_DSN"])
    if chosen["vault"] == "external":
        token = _companion(environment, "VAULT_TOKEN", wanted_by="VAULT_ADDR")
        files.write(folder / "vault-root.token", token)
    if chosen["ray"] == "external":
        token_file = environment.get("RAY_AUTH_TOKEN_PATH")
        token = Path(token_file).read_text().strip() if token_file else environment.get("RAY_AUTH_TOKEN", "")
        files.write(folder / "ray.token", token)
    if chosen["cluster"] == "external":
        _companion(environment, "KUBECONFIG", wanted_by="CLUSTER=existing")


def _companion(environment: Mapping[str, str], name: str, *, wanted_by: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise Problem(f"{wanted_by} also needs {name}: set it, or unset {wanted_by.split('=')[0]}.")
    return value


def freeze_cluster(folder: Path, *, kubectl: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """The frozen copy of the context that CLUSTER=existing named; taken once, at the stack's first start."""
    path = folder / "admin.kubeconfig"
    if not path.exists():
        kubeconfig.freeze(path, kubectl=kubectl, source=environment["KUBECONFIG"])
    return path
