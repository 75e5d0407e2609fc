"""Who the product's processes are: three ServiceAccounts with the shipped roles, and what proves it.

Everything here is applied with the administrator's kubeconfig; the files that come out, one folder for each
process, are all that the process gets.
"""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from dev import files, kubeconfig, places, vault
from dev.kubectl import Kubectl

NAMESPACE = vault.SYSTEM_NAMESPACE
COMPONENTS = ("provisioner", "runner", "gateway")
_REVIEWER = "vault-reviewer"
_GATEWAY = "pipewright"
"""The audience of the gateway's callers."""
_RBAC = places.ROOT / "charts" / "pipewright" / "files" / "rbac"
_ADMISSION = places.ROOT / "charts" / "pipewright" / "files" / "admission"
_WITHOUT_VAULT = places.ROOT / "charts" / "pipewright" / "files" / "without-vault"
_CRDS = places.ROOT / "crds"


def install(kubectl: Kubectl) -> list[str]:
    """Apply the system namespace, accounts, the kinds, the shipped roles and policies; what was applied."""
    accounts = _accounts()
    kubectl.apply(*accounts)
    said = [f"{account['kind']} {account['metadata']['name']}" for account in accounts]
    kinds = sorted(_CRDS.glob("*.yaml"))
    # roles before policies: who may provision is read from them
    roles = sorted(_RBAC.glob("*.yaml")) + sorted(_ADMISSION.glob("*.yaml"))
    if kinds or roles:
        said += kubectl.apply_files(kinds + roles)
    if kinds:
        named = [part for path in kinds for part in ("--filename", str(path))]
        kubectl.run("wait", "--for=condition=Established", "--timeout=60s", *named)
    return said


def install_secrets(kubectl: Kubectl) -> None:
    """Apply what an installation without Vault has besides: where credentials lie, and who reads them."""
    kubectl.apply_files(sorted(_WITHOUT_VAULT.glob("*.yaml")))


def issue(kubectl: Kubectl, *, endpoint: kubeconfig.Endpoint, folder: Path) -> str:
    """Write each component's kubeconfig and its token for Vault; returns the token of Vault's reviewer."""

    def token(account: str, audience: str = "") -> str:
        return kubectl.token(account, namespace=NAMESPACE, audience=audience)

    with ThreadPoolExecutor(max_workers=4) as pool:
        cluster = {name: pool.submit(token, name) for name in COMPONENTS}
        for_vault = {name: pool.submit(token, name, vault.AUDIENCE) for name in ("provisioner", "runner")}
        for_gateway = pool.submit(token, "runner", _GATEWAY)
        reviewer = pool.submit(token, _REVIEWER)
    for name, issued in cluster.items():
        path = folder_of(folder, name) / "kubeconfig"
        kubeconfig.write(path, endpoint=endpoint, user=name, token=issued.result())
    for name, issued in for_vault.items():
        files.write(folder_of(folder, name) / "vault.jwt", issued.result())
    files.write(folder_of(folder, "runner") / "gateway.jwt", for_gateway.result())
    return reviewer.result()


def sealing_keys(folder: Path) -> None:
    """The gateway's X25519 pair: the private key for it alone, the public one for whoever seals to it."""
    private_file = folder_of(folder, "gateway") / "gateway.key"
    if private_file.exists():
        return
    key = x25519.X25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    files.write(private_file, base64.b64encode(private))
    files.write(folder / "gateway.pub", base64.b64encode(public), mode=0o644)


def folder_of(folder: Path, component: str) -> Path:
    """Where one component's own files lie in the state folder."""
    return folder / "identities" / component


def _accounts() -> list[dict[str, Any]]:
    """The system namespace, the accounts, and the right of Vault's reviewer to ask whose a token is."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    accounts = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": NAMESPACE},
        }
        for name in (*COMPONENTS, _REVIEWER)
    ]
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "pipewright-vault-reviewer"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "system:auth-delegator",
        },
        "subjects": [{"kind": "ServiceAccount", "name": _REVIEWER, "namespace": NAMESPACE}],
    }
    return [namespace, *accounts, binding]
