"""The names that several rooms must agree on. Every external name is a fixed prefix and the tenant's id.

No text that a tenant chose is in a database's, role's, policy's or path's name. In a Vault policy a glob
stands only after `<id>/`.
"""

from __future__ import annotations

TENANT_LABEL = "pipewright.dev/tenant"
ID_LABEL = "pipewright.dev/tenant-id"
UID_LABEL = "pipewright.dev/tenant-uid"
VERSION_ANNOTATION = "pipewright.dev/credential-version"
"""On the connection Secret: which version of the credentials it holds."""
ADDRESS_ANNOTATION = "pipewright.dev/address"
"""On the connection Secret: the address that it holds, as `host:port/database`."""
ROTATE_ANNOTATION = "pipewright.dev/rotate-requested-at"
"""On a Tenant or an Integration: new passwords, or another webhook secret, are wanted if those that count are
older than this time (RFC 3339)."""
ROTATE_DATA_KEY_ANNOTATION = "pipewright.dev/rotate-data-key-requested-at"
"""On a Tenant: another wrapping key is wanted if the newest is older than this time (RFC 3339)."""
RETRY_UPGRADE_ANNOTATION = "pipewright.dev/retry-upgrade-requested-at"
"""On a Tenant whose schema could not be upgraded: try again if it failed before this time (RFC 3339)."""
ABANDON_ANNOTATION = "pipewright.dev/abandon"
"""On a Tenant that is being deleted: the parts (`database`, `secrets`) whose server is gone for good."""
ADOPTED_ANNOTATION = "pipewright.dev/adopted"
"""On a namespace that was there before its Tenant: it is released, never deleted."""
NODE_SELECTOR_ANNOTATION = "scheduler.alpha.kubernetes.io/node-selector"
"""On a namespace: where its pods run, as the API server's admission plug-in PodNodeSelector reads it."""
CHECK_ANNOTATION = "pipewright.dev/check-requested-at"
"""On a Tenant: any new text asks for a check now; `status.checkedFor` answers with it."""
FINALIZER = "pipewright.dev/cleanup"

SYSTEM_NAMESPACE = "pipewright-system"
SECRETS_NAMESPACE = "pipewright-system-secrets"
"""Without Vault: the namespace of the passwords and wrapping keys, which only the provisioner reads."""
RUNNER_SECRETS_NAMESPACE = "pipewright-system-runner"
"""Without Vault: the namespace of what the runner reads and keeps."""
CONNECTION_SECRET = "pipewright-database"  # noqa: S105 - the name of a Secret, not its value
"""The Secret with the connection in each of a tenant's namespaces."""
TENANT_SERVICE_ACCOUNT = "pipewright"
"""The ServiceAccount in a tenant's namespaces whose tokens open the tenant's Vault path."""
VAULT_AUDIENCE = "vault"
"""The audience of a ServiceAccount token that logs in to Vault."""


def vault_role(tenant_id: str) -> str:
    """A tenant's Kubernetes-auth role in Vault, and its policy."""
    return f"pipewright-tenant-{tenant_id}"


def platform_path(tenant_id: str) -> str:
    """Where the passwords of all logins of a tenant lie in Vault; the tenant cannot read it."""
    return f"{tenant_id}/platform/database"


def user_path(tenant_id: str) -> str:
    """Where the tenant finds its own connection in Vault."""
    return f"{tenant_id}/user/database"


def bundle_context(tenant_id: str) -> str:
    """What the gateway's sealed bundle of a tenant is bound to."""
    return f"pipewright/tenant/{tenant_id}/gateway"
