"""A tenant's role of Vault's database engine: a read of it makes a short-lived login."""

from __future__ import annotations

from datetime import timedelta

from hvac import exceptions as vault_errors

from pipewright import errors, names
from pipewright.backends.vault.session import VaultSession
from pipewright.facts import DatabaseRole, DynamicTerms
from pipewright.store import dynamic

AGAIN = timedelta(minutes=1)


class DatabaseRoles:
    """Roles on one mount of the database engine. Its connections are named as the servers in our settings."""

    def __init__(self, session: VaultSession, *, mount: str) -> None:
        self._session = session
        self._mount = mount

    def path(self, role: str) -> str:
        """Where a read makes a login."""
        return f"{self._mount}/creds/{role}"

    def wanted(self, tenant_id: str, terms: DynamicTerms) -> DatabaseRole:
        """What the role ought to be."""
        return DatabaseRole(
            path=self.path(names.vault_role(tenant_id)),
            connection=terms.server,
            creation=dynamic.creation(
                tenant_id, logins=terms.logins, connection_limit=terms.connection_limit
            ),
            revocation=dynamic.revocation(),
            ttl=terms.ttl,
        )

    async def find(self, tenant_id: str) -> DatabaseRole | None:
        """The role as it stands."""
        name = names.vault_role(tenant_id)
        try:
            answer = await self._session.call(
                f"read database role {name}",
                lambda client: client.secrets.database.read_role(name, mount_point=self._mount),
            )
        except vault_errors.InvalidPath:
            return None
        found = answer["data"]
        return DatabaseRole(
            path=self.path(name),
            connection=found["db_name"],
            creation=tuple(found["creation_statements"] or ()),
            revocation=tuple(found["revocation_statements"] or ()),
            ttl=timedelta(seconds=int(found["default_ttl"])),
        )

    async def write(self, tenant_id: str, terms: DynamicTerms) -> None:
        """Write it, if Vault has a connection to the server: else every read of it would fail.

        Raises:
            Waiting: it has none.
        """
        name, role = names.vault_role(tenant_id), self.wanted(tenant_id, terms)
        try:
            await self._session.call(
                f"look for Vault's connection {role.connection}",
                lambda client: client.secrets.database.read_connection(
                    role.connection, mount_point=self._mount
                ),
            )
        except vault_errors.InvalidPath:
            message = (
                f"Vault has no connection {self._mount}/config/{role.connection} to the tenant's database"
                " server: write it, or leave spec.database.dynamicCredentials out"
            )
            raise errors.Waiting("NoDatabaseConnection", message, after=AGAIN) from None
        await self._session.call(
            f"write database role {name}",
            lambda client: client.secrets.database.create_role(
                name,
                db_name=role.connection,
                creation_statements=list(role.creation),
                revocation_statements=list(role.revocation),
                default_ttl=f"{int(role.ttl.total_seconds())}s",
                max_ttl=f"{int(role.ttl.total_seconds())}s",
                mount_point=self._mount,
            ),
        )

    async def delete(self, tenant_id: str) -> None:
        """Remove it; absent already counts as done."""
        name = names.vault_role(tenant_id)
        await self._session.call(
            f"delete database role {name}",
            lambda client: client.secrets.database.delete_role(name, mount_point=self._mount),
        )
