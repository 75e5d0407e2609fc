"""A tenant's way into Vault: a policy on its own path, and a role for its ServiceAccount."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hvac
from hvac import exceptions as vault_errors

from pipewright import names
from pipewright.backends.vault.session import VaultSession
from pipewright.ports import SecretAccess

TENANT_TOKEN_TTL_S = 900


class VaultGrants:
    """`pipewright.ports.SecretGrants`: one policy and one Kubernetes-auth role per tenant."""

    available = True

    def __init__(self, session: VaultSession, *, mount: str) -> None:
        self._session = session
        self._mount = mount

    def wanted(self, tenant_id: str, *, namespaces: Sequence[str]) -> SecretAccess:
        """What policy and role ought to be."""
        return SecretAccess(
            role=names.vault_role(tenant_id),
            policy=_policy(self._mount, tenant_id),
            namespaces=tuple(sorted(namespaces)),
            service_accounts=(names.TENANT_SERVICE_ACCOUNT,),
            policies=(names.vault_role(tenant_id),),
        )

    async def find(self, tenant_id: str, *, partly: bool = False) -> SecretAccess | None:
        """Policy and role as they stand; None when either is missing, with `partly` only when both are."""
        name = names.vault_role(tenant_id)
        policy = await self._read(
            f"read policy {name}", lambda client: client.sys.read_acl_policy(name)["data"]
        )
        if policy is None and not partly:
            return None
        role = await self._read(f"read role {name}", lambda client: client.auth.kubernetes.read_role(name))
        if role is None and (policy is None or not partly):
            return None
        return SecretAccess(
            role=name,
            policy=policy["policy"] if policy else "",
            namespaces=tuple(sorted(role["bound_service_account_namespaces"])) if role else (),
            service_accounts=tuple(role["bound_service_account_names"]) if role else (),
            policies=tuple(role["token_policies"]) if role else (),
        )

    async def _read(
        self, what: str, request: Callable[[hvac.Client], dict[str, Any]]
    ) -> dict[str, Any] | None:
        try:
            return await self._session.call(what, request)
        except vault_errors.InvalidPath:
            return None

    async def grant(self, tenant_id: str, *, namespaces: Sequence[str]) -> None:
        """Write both; the policy first, so that a role never points to nothing."""
        name, wanted = names.vault_role(tenant_id), self.wanted(tenant_id, namespaces=namespaces)
        await self._session.call(
            f"write policy {name}",
            lambda client: client.sys.create_or_update_acl_policy(name, policy=wanted.policy),
        )
        await self._session.call(
            f"write role {name}",
            lambda client: client.auth.kubernetes.create_role(
                name,
                bound_service_account_names=list(wanted.service_accounts),
                bound_service_account_namespaces=list(wanted.namespaces),
                audience=names.VAULT_AUDIENCE,
                ttl=TENANT_TOKEN_TTL_S,
                max_ttl=TENANT_TOKEN_TTL_S,
                policies=list(wanted.policies),
            ),
        )

    async def revoke(self, tenant_id: str) -> None:
        """Remove the role first, so that nobody logs in any more, then the policy."""
        name = names.vault_role(tenant_id)
        await self._session.call(
            f"delete role {name}", lambda client: client.auth.kubernetes.delete_role(name)
        )
        await self._session.call(f"delete policy {name}", lambda client: client.sys.delete_acl_policy(name))


def _policy(mount: str, tenant_id: str) -> str:
    """The tenant's own folder, three names deep, and no way up from it.

    The key-value store cleans a path after the policy has compared its text, so that below a glob
    `user/../../<other id>/…` would lead to another tenant. A `+` stands for one name; what begins with `..`
    is denied by a rule that goes first because it is the more exact one; and three names are too few to climb
    out and then name something.
    """
    rules = []
    for part, capabilities in _CAPABILITIES.items():
        folder = f"{mount}/{part}/{tenant_id}/user"
        rules += [_rule(folder + "/+" * depth, capabilities) for depth in DEPTHS]
        rules.append(_rule(f"{folder}/..*", ("deny",)))
    folder = f"{mount}/metadata/{tenant_id}/user"
    rules += [_rule(f"{folder}/" + "+/" * depth, ("list",)) for depth in range(max(DEPTHS))]
    return "\n".join(rules)


DEPTHS = (1, 2, 3)
"""How many names a tenant's own secret may have below `<id>/user/`."""
_CAPABILITIES = {
    "data": ("create", "read", "update", "patch", "delete"),
    "metadata": ("read", "list", "delete"),
    "delete": ("update",),
    "undelete": ("update",),
    "destroy": ("update",),
}


def _rule(path: str, capabilities: Sequence[str]) -> str:
    quoted = ", ".join(f'"{word}"' for word in capabilities)
    return f'path "{path}" {{ capabilities = [{quoted}] }}'
