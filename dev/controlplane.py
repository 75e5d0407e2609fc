"""A Kubernetes API on loopback: etcd, kube-apiserver with an audit log, kube-controller-manager.

No node and no scheduler: everything but running pods is real. Ready about two seconds after the start.
Flags that are not obvious are those of the project's trials with Kubernetes 1.37.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from dev import certificates, files, kubeconfig, web
from dev.kubectl import Kubectl
from dev.process import Process

CONTEXT = "pipewright-dev"

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Metadata"},
    ],
}

_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """The three processes of one control plane and the files that they share."""

    folder: Path
    """The state folder of the stack."""
    ports: Mapping[str, int]
    """etcd, etcd-peer, kube-apiserver, kube-controller-manager."""
    binaries: Mapping[str, Path]

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://127.0.0.1:{self.ports['kube-apiserver']}"

    @property
    def admin_kubeconfig(self) -> Path:
        """The administrator's kubeconfig (group system:masters)."""
        return self.folder / "admin.kubeconfig"

    @property
    def audit_log(self) -> Path:
        """JSON lines, one for each write that the API server answered."""
        return self.folder / "logs" / "audit.jsonl"

    @property
    def endpoint(self) -> kubeconfig.Endpoint:
        """What a kubeconfig or Vault needs to reach it."""
        authority = (self._private / "ca.crt").read_bytes()
        return kubeconfig.Endpoint(server=self.server, authority=authority, context=CONTEXT)

    @property
    def kubectl(self) -> Kubectl:
        """kubectl as the administrator."""
        return Kubectl(binary=self.binaries["kubectl"], kubeconfig=self.admin_kubeconfig)

    @property
    def _private(self) -> Path:
        return self.folder / "kubernetes"

    def prepare(self) -> None:
        """Write certificates, keys, tokens and policies; what is there already stays."""
        if (self._private / "tokens.csv").exists():
            return
        certificates.serving(self._private)
        certificates.signing(self._private)
        files.write(self._private / "audit-policy.yaml", yaml.safe_dump(_AUDIT_POLICY))
        self.audit_log.parent.mkdir(parents=True, exist_ok=True)
        self.audit_log.unlink(missing_ok=True)
        manager = files.secret(self._private / "manager.token")
        admin = files.secret(self._private / "admin.token")
        kubeconfig.write(self.admin_kubeconfig, endpoint=self.endpoint, user="admin", token=admin)
        kubeconfig.write(
            self._private / "manager.kubeconfig", endpoint=self.endpoint, user="manager", token=manager
        )
        # RBAC bootstraps a role for the manager's user name; admin gets everything by its group.
        rows = [f"{admin},admin,admin,system:masters", f"{manager},system:kube-controller-manager,manager"]
        files.write(self._private / "tokens.csv", "\n".join(rows) + "\n")

    def etcd(self) -> Process:
        """The store. It never waits for the disk: this cluster is thrown away."""
        client = f"http://127.0.0.1:{self.ports['etcd']}"
        peer = f"http://127.0.0.1:{self.ports['etcd-peer']}"
        flags = {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "log-level": "warn",
        }
        return Process(
            name="etcd",
            folder=self.folder,
            command=(*_command(self.binaries["etcd"], flags), "--unsafe-no-fsync"),
            ready=lambda: _healthy(f"{client}/health"),
        )

    def apiserver(self) -> Process:
        """The API server, ready when /readyz says so."""
        private = self._private
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self.ports['etcd']}",
            "bind-address": "127.0.0.1",
            "secure-port": self.ports["kube-apiserver"],
            "endpoint-reconciler-type": "none",  # 1.37 refuses to advertise a loopback address
            "tls-cert-file": private / "tls.crt",
            "tls-private-key-file": private / "tls.key",
            "cert-dir": private,
            "token-auth-file": private / "tokens.csv",
            "authorization-mode": "Node,RBAC",
            # beside those that are on by default: the node selector of a tenant's namespaces counts
            "enable-admission-plugins": "PodNodeSelector",
            "service-cluster-ip-range": "10.0.0.0/24",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": private / "sa.pub",
            "service-account-signing-key-file": private / "sa.key",
            "audit-policy-file": private / "audit-policy.yaml",
            "audit-log-path": self.audit_log,
            "profiling": "false",
        }
        return Process(
            name="kube-apiserver",
            folder=self.folder,
            command=_command(self.binaries["kube-apiserver"], flags),
            ready=lambda: _healthy(f"{self.server}/readyz", authority=private / "ca.crt"),
            ready_within=120.0,
            grace=5.0,  # it waits for open watches, and nobody needs their end
        )

    def controller_manager(self) -> Process:
        """The controllers that namespaces, quotas, tokens and garbage collection need."""
        private = self._private
        flags = {
            "kubeconfig": private / "manager.kubeconfig",
            "authentication-kubeconfig": private / "manager.kubeconfig",
            "authorization-kubeconfig": private / "manager.kubeconfig",
            "use-service-account-credentials": "true",
            "service-account-private-key-file": private / "sa.key",
            "root-ca-file": private / "ca.crt",
            "bind-address": "127.0.0.1",
            "secure-port": self.ports["kube-controller-manager"],
            "cert-dir": private / "kube-controller-manager",
            "controllers": ",".join(_CONTROLLERS),
            "leader-elect": "false",
        }
        return Process(
            name="kube-controller-manager",
            folder=self.folder,
            command=_command(self.binaries["kube-controller-manager"], flags),
            ready=self._default_namespace_is_complete,
        )

    def _default_namespace_is_complete(self) -> bool:
        """Whether the controllers have done their first work: its ServiceAccount and its CA bundle."""
        headers = {"Authorization": f"Bearer {(self._private / 'admin.token').read_text()}"}
        namespace = f"{self.server}/api/v1/namespaces/default"
        wanted = ("serviceaccounts/default", "configmaps/kube-root-ca.crt")
        return all(
            _healthy(f"{namespace}/{path}", authority=self._private / "ca.crt", headers=headers)
            for path in wanted
        )


def writes(audit_log: Path) -> list[dict[str, str]]:
    """The audit log as small records: who (user) did what (verb, resource, namespace, name), code."""
    found = []
    for line in audit_log.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # being written right now
        entry = json.loads(line)
        target = entry.get("objectRef", {})
        record = {key: target.get(key, "") for key in ("resource", "subresource", "namespace", "name")}
        code = str(entry.get("responseStatus", {}).get("code", ""))
        found.append(
            {"user": entry["user"].get("username", ""), "verb": entry["verb"], "code": code, **record}
        )
    return found


def _command(binary: Path, flags: Mapping[str, object]) -> tuple[str, ...]:
    return (str(binary), *(f"--{name}={value}" for name, value in flags.items()))


def _healthy(url: str, *, authority: Path | None = None, headers: dict[str, str] | None = None) -> bool:
    answer = web.ask(url, authority=authority, headers=headers, timeout=2.0)
    return answer is not None and answer.code == 200
