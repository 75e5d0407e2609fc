"""Kubeconfig files: written for one token, or frozen from the context that the user named."""

import base64
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dev import files
from dev.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an API server answers, and the CA that its certificate is checked against."""

    server: str
    authority: bytes
    """PEM; empty where the system's own authorities do."""
    context: str


def write(path: Path, *, endpoint: Endpoint, user: str, token: str) -> Path:
    """Write a kubeconfig with one cluster, one user with a bearer token, one context; mode 0600."""
    cluster: dict[str, Any] = {"server": endpoint.server}
    if endpoint.authority:
        cluster["certificate-authority-data"] = base64.b64encode(endpoint.authority).decode()
    context = {"cluster": endpoint.context, "user": user, "namespace": "default"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": endpoint.context, "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": endpoint.context, "context": context}],
        "current-context": endpoint.context,
    }
    return files.write(path, yaml.safe_dump(document, sort_keys=False))


def freeze(path: Path, *, kubectl: Path, source: str) -> Endpoint:
    """Copy the current context of the user's KUBECONFIG into a file of ours, so that it cannot change.

    Raises Problem when there is no current context, or it skips the check of the server's certificate.
    """
    command: list[str | Path] = [kubectl, "config", "view", "--raw", "--minify", "--flatten"]
    shown = subprocess.run(
        command, env={"KUBECONFIG": source, "HOME": str(Path.home())}, capture_output=True, check=False
    )
    if shown.returncode:
        said = shown.stderr.decode(errors="replace").strip()
        raise Problem(f"KUBECONFIG={source} has no usable current context: {said}")
    files.write(path, shown.stdout)
    return endpoint_of(path)


def endpoint_of(path: Path) -> Endpoint:
    """The server and CA of a kubeconfig that has exactly one context."""
    document = yaml.safe_load(path.read_text())
    cluster = document["clusters"][0]["cluster"]
    if cluster.get("insecure-skip-tls-verify"):
        raise Problem(
            f"The cluster {cluster['server']} is used without checking its certificate; "
            "Vault and the operator refuse that. Put its certificate-authority-data into the kubeconfig."
        )
    authority = base64.b64decode(cluster.get("certificate-authority-data", ""))
    return Endpoint(server=cluster["server"], authority=authority, context=document["current-context"])
