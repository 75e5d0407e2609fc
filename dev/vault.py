"""Vault: a dev server in memory, or the one that VAULT_ADDR names, set up as production's would be.

The root token only bootstraps: mounts, the shipped policies, Kubernetes authentication against the stack's
API server and the two roles. The product speaks the API that Vault and OpenBao share.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev import files, places, web
from dev.kubeconfig import Endpoint
from dev.problem import Problem
from dev.process import Process

MOUNT = "tenants"
TRANSIT = "transit"
DATABASE = "database"
AUDIENCE = "vault"
SYSTEM_NAMESPACE = "pipewright-system"
_DESCRIPTION = "Pipewright development stack"
_POLICIES = places.ROOT / "charts" / "pipewright" / "files" / "vault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """One Vault server and the token that may set it up."""

    address: str
    root_token: str = field(repr=False)

    def bootstrap(self, *, audit_log: Path | None = None) -> None:
        """Mounts, policies and the authentication method; safe to repeat.

        Raises Problem when a mount of another kind or owner is in the way, so that a Vault somebody else
        uses is never changed.
        """
        self._mount("sys/mounts", MOUNT, {"type": "kv", "options": {"version": "2"}})
        self._mount("sys/mounts", TRANSIT, {"type": "transit"})
        self._mount("sys/mounts", DATABASE, {"type": "database"})
        self._mount("sys/auth", "kubernetes", {"type": "kubernetes"})
        for policy in sorted(_POLICIES.glob("*.hcl")):
            self.call("PUT", f"sys/policies/acl/pipewright-{policy.stem}", {"policy": policy.read_text()})
        if audit_log is not None and "stack/" not in self.call("GET", "sys/audit")["data"]:
            device = {"type": "file", "options": {"file_path": str(audit_log)}}
            self.call("PUT", "sys/audit/stack", device)

    def trust(self, endpoint: Endpoint, *, reviewer_token: str) -> None:
        """Let ServiceAccounts of that API server log in: its address, CA, a reviewer, the two roles."""
        configuration = {
            "kubernetes_host": endpoint.server,
            "kubernetes_ca_cert": endpoint.authority.decode(),
            "token_reviewer_jwt": reviewer_token,
            "disable_local_ca_jwt": True,
        }
        self.call("POST", "auth/kubernetes/config", configuration)
        for account in ("provisioner", "runner"):
            role = {
                "bound_service_account_names": [account],
                "bound_service_account_namespaces": [SYSTEM_NAMESPACE],
                "audience": AUDIENCE,
                "token_policies": [f"pipewright-{account}"],
                "token_ttl": "20m",
                "token_max_ttl": "1h",
            }
            self.call("POST", f"auth/kubernetes/role/pipewright-{account}", role)

    def connect(self, name: str, *, host: str, port: int, user: str, password: str) -> None:
        """Give the database engine a connection to a PostgreSQL server, for the roles of tenants only.

        Vault sends PostgreSQL verifiers, never passwords: its log may hold statements.
        """
        connection = {
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": ["pipewright-tenant-*"],
            "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@{host}:{port}/postgres",
            "username": user,
            "password": password,
            "password_authentication": "scram-sha-256",
            # a Vault elsewhere need not reach this machine
            "verify_connection": False,
        }
        self.call("POST", f"{DATABASE}/config/{name}", connection)

    def login(self, role: str, jwt: str) -> str:
        """A client token for a ServiceAccount's JWT; raises Problem with Vault's words when refused."""
        answer = self.call("POST", "auth/kubernetes/login", {"role": role, "jwt": jwt}, token="")
        return str(answer["auth"]["client_token"])

    def call(self, method: str, path: str, document: object = None, *, token: str | None = None) -> Any:
        """One API call with the root token, or the one given; the answer's JSON."""
        headers = {"X-Vault-Token": self.root_token if token is None else token}
        return web.demand(f"{self.address}/v1/{path}", method=method, document=document, headers=headers)

    def _mount(self, kind: str, path: str, wish: dict[str, Any]) -> None:
        """Enable an engine or method unless it is ours already."""
        found = self.call("GET", kind)["data"].get(f"{path}/")
        if found is None:
            self.call("POST", f"{kind}/{path}", {"description": _DESCRIPTION, **wish})
        elif found["description"] != _DESCRIPTION:
            raise Problem(
                f"{self.address} has a mount {kind.removeprefix('sys/')}/{path} that no stack made. "
                "Unset VAULT_ADDR to start a Vault of its own, or name an empty one."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DevServer:
    """A Vault in memory on loopback: what it holds is gone when it ends."""

    folder: Path
    port: int
    binary: Path
    """Beside it lies the folder `plugins`, of what is not built in."""

    @property
    def vault(self) -> Vault:
        """Its address and root token."""
        token = files.secret(self.folder / "vault-root.token")
        return Vault(address=f"http://127.0.0.1:{self.port}", root_token=token)

    @property
    def audit_log(self) -> Path:
        """Vault's own audit trail: JSON lines, secret values as HMACs."""
        return self.folder / "logs" / "vault-audit.jsonl"

    def server(self) -> Process:
        """The process; the token goes by the environment, the command line is public."""
        return Process(
            name="vault",
            folder=self.folder,
            command=(
                str(self.binary),
                "server",
                "-dev",
                "-dev-no-store-token",
                f"-dev-listen-address=127.0.0.1:{self.port}",
                f"-dev-plugin-dir={self.binary.parent / 'plugins'}",
            ),
            environment={"VAULT_DEV_ROOT_TOKEN_ID": self.vault.root_token},
            ready=lambda: _ready(self.vault.address),
        )


def _ready(address: str) -> bool:
    answer = web.ask(f"{address}/v1/sys/health", timeout=2.0)
    return answer is not None and answer.code == 200
