"""A tenant's way into Vault: a policy on its own path, and a role for its ServiceAccount."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import hvac
from hvac import exceptions as vault_errors

from pipewright import errors, names
from pipewright.backends.vault.roles import DatabaseRoles
from pipewright.backends.vault.session import VaultSession
from pipewright.facts import DynamicTerms
from pipewright.ports import SecretAccess

TENANT_TOKEN_TTL = timedelta(minutes=15)
"""Of a tenant's token, unless it is renewed. What it was given ends with it, short-lived logins among it."""


class VaultGrants:
    """`pipewright.ports.SecretGrants`: one policy and one Kubernetes-auth role per tenant."""

    available = True

    def __init__(self, session: VaultSession, *, mount: str, database: str | None = None) -> None:
        """`database` is the mount of the database engine, where there is one."""
        self._session = session
        self._mount = mount
        self._roles = DatabaseRoles(session, mount=database) if database else None

    @property
    def dynamic(self) -> bool:
        """Whether there is a database engine."""
        return self._roles is not None

    def wanted(
        self, tenant_id: str, *, namespaces: Sequence[str], dynamic: DynamicTerms | None = None
    ) -> SecretAccess:
        """What policy and role ought to be."""
        lent = self._roles.wanted(tenant_id, dynamic) if self._roles and dynamic else None
        policy = _policy(self._mount, tenant_id)
        return SecretAccess(
            role=names.vault_role(tenant_id),
            policy=policy if lent is None else f"{policy}\n{_rule(lent.path, ('read',))}",
            namespaces=tuple(sorted(namespaces)),
            service_accounts=(names.TENANT_SERVICE_ACCOUNT,),
            policies=(names.vault_role(tenant_id),),
            longest=max(TENANT_TOKEN_TTL, lent.ttl) if lent else TENANT_TOKEN_TTL,
            database_role=lent,
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
        # the policy is written before the database engine's role and goes after it
        asks = self._roles is not None and policy is not None and self._roles.path(name) in policy["policy"]
        return SecretAccess(
            role=name,
            policy=policy["policy"] if policy else "",
            namespaces=tuple(sorted(role["bound_service_account_namespaces"])) if role else (),
            service_accounts=tuple(role["bound_service_account_names"]) if role else (),
            policies=tuple(role["token_policies"]) if role else (),
            longest=timedelta(seconds=int(role["token_max_ttl"])) if role else timedelta(),
            database_role=await self._roles.find(tenant_id) if self._roles and asks else None,
        )

    async def _read(
        self, what: str, request: Callable[[hvac.Client], dict[str, Any]]
    ) -> dict[str, Any] | None:
        try:
            return await self._session.call(what, request)
        except vault_errors.InvalidPath:
            return None

    async def grant(
        self, tenant_id: str, *, namespaces: Sequence[str], dynamic: DynamicTerms | None = None
    ) -> None:
        """Write both; the policy first, so that a role never points to nothing."""
        name = names.vault_role(tenant_id)
        wanted = self.wanted(tenant_id, namespaces=namespaces, dynamic=dynamic)
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
                ttl=f"{TENANT_TOKEN_TTL.total_seconds():.0f}s",
                max_ttl=f"{wanted.longest.total_seconds():.0f}s",
                policies=list(wanted.policies),
            ),
        )

    async def grant_database_role(self, tenant_id: str, terms: DynamicTerms) -> None:
        """Write the database engine's role."""
        if self._roles is None:
            raise errors.BackendError("the settings name no database engine of Vault")
        await self._roles.write(tenant_id, terms)

    async def withdraw_database_role(self, tenant_id: str) -> None:
        """Remove the database engine's role."""
        if self._roles is not None:
            await self._roles.delete(tenant_id)

    async def revoke(self, tenant_id: str) -> None:
        """Remove the role first, so that nobody logs in any more, then the policy."""
        name = names.vault_role(tenant_id)
        await self._session.call(
            f"delete role {name}", lambda client: client.auth.kubernetes.delete_role(name)
        )
        await self.withdraw_database_role(tenant_id)
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
