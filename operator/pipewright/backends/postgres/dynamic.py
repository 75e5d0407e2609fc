"""The tenants' short-lived logins, which Vault makes: the group that lets them in, and what they leave."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from pipewright import errors
from pipewright.backends.postgres import server as servers
from pipewright.backends.postgres.server import Server, by_maker, execute, execute_all, statement
from pipewright.facts import DynamicLogins
from pipewright.store import connect, roles

_MEMBERS = """
SELECT rolname, rolcanlogin FROM pg_auth_members JOIN pg_roles ON pg_roles.oid = member
WHERE roleid = to_regrole(%s)::oid AND NOT rolname = ANY(%s) ORDER BY rolname
"""
"""Without those that hand the membership on and do not use it."""


async def find(conn: psycopg.AsyncConnection, tenant_id: str) -> DynamicLogins:
    """The group, which is there, as it stands."""
    group, query = roles.dynamic_group(tenant_id), "SELECT has_database_privilege(%s, %s, 'CONNECT')"
    row = await (await conn.execute(query, [group, roles.database(tenant_id)])).fetchone()
    return DynamicLogins(open=row == (True,), ended=len(await members(conn, tenant_id, ended=True)))


async def members(conn: psycopg.AsyncConnection, tenant_id: str, *, ended: bool = False) -> list[str]:
    """The short-lived logins that there are, or those that Vault locked."""
    ours = [roles.VAULT, roles.maker(tenant_id)]
    cursor = await conn.execute(_MEMBERS, [roles.dynamic_group(tenant_id), ours])
    return [name async for name, enabled in cursor if not (ended and enabled)]


async def open_to(conn: psycopg.AsyncConnection, tenant_id: str, *, uid: str) -> None:
    """Make the group, if it is not there, and let it connect. All or nothing."""
    group, name = roles.dynamic_group(tenant_id), roles.database(tenant_id)
    if await (await conn.execute("SELECT to_regrole(%s)", [roles.VAULT])).fetchone() == (None,):
        message = (
            f"the database server has no login {roles.VAULT}: run the bootstrap with a password for it,"
            " or leave spec.database.dynamicCredentials out"
        )
        raise errors.Stalled("DynamicCredentialsUnavailable", message)
    found = await servers.existing_roles(conn, tenant_id)
    if found.get(group, {}).get("uid", uid) != uid:
        raise errors.OwnedByOther(f"role {group} belongs to another Tenant")
    # NOINHERIT: a login can only act as the owner, so all that it makes is the owner's
    made = () if group in found else (statement("CREATE ROLE {} NOLOGIN NOINHERIT", group),)
    narrow = connect.has_membership_options(conn)
    options = "ADMIN TRUE, INHERIT FALSE, SET FALSE" if narrow else "ADMIN OPTION"
    async with conn.transaction():
        await execute_all(
            conn,
            (
                *by_maker(
                    tenant_id,
                    (
                        *made,
                        statement("COMMENT ON ROLE {} IS {mark}", group, mark=servers.mark(uid)),
                        statement("GRANT {} TO {}", roles.app_owner(tenant_id), group),
                        statement(f"GRANT {{}} TO {{}} WITH {options}", group, roles.VAULT),
                    ),
                ),
                statement("GRANT CONNECT ON DATABASE {} TO {}", name, group),
            ),
        )


async def close_to(conn: psycopg.AsyncConnection, tenant_id: str) -> Sequence[str]:
    """Let the group connect no more; whose sessions are to be ended."""
    if roles.dynamic_group(tenant_id) not in await servers.existing_roles(conn, tenant_id):
        return []
    name, group = roles.database(tenant_id), roles.dynamic_group(tenant_id)
    await execute(conn, "REVOKE CONNECT ON DATABASE {} FROM {}", name, group)
    return await members(conn, tenant_id)


async def drop_ended(server: Server, tenant_id: str) -> None:
    """Drop what Vault locked. What such a login owns in the database becomes the owner's of `app`.

    Only a member of both can: the provisioner is one in this transaction.
    """
    owner = roles.app_owner(tenant_id)
    async with server.provisioner(roles.database(tenant_id)) as inside:
        for ended in await members(inside, tenant_id, ended=True):
            async with inside.transaction():
                await execute_all(
                    inside,
                    (
                        *by_maker(tenant_id, [servers.join(inside, owner), servers.join(inside, ended)]),
                        statement("REASSIGN OWNED BY {} TO {}", ended, owner),
                        statement("DROP OWNED BY {}", ended),
                        *by_maker(
                            tenant_id,
                            [
                                statement("DROP ROLE {}", ended),
                                statement("REVOKE {} FROM SESSION_USER", owner),
                            ],
                        ),
                    ),
                )


async def drop_all(conn: psycopg.AsyncConnection, tenant_id: str) -> None:
    """Drop the group and all of its logins, as their maker. The database is gone: nothing depends on them."""
    for name in await members(conn, tenant_id):
        await execute(conn, "DROP ROLE IF EXISTS {}", name)
    await execute(conn, "DROP ROLE IF EXISTS {}", roles.dynamic_group(tenant_id))
