"""Extensions of tenants' databases: trusted ones, made by the migrator, in a schema that no tenant writes.

A trusted extension's script runs as a superuser, with its schema first in the search path. So it must not be
the tenant's schema `app`, where the tenant could plant functions for the script to call.
"""

from __future__ import annotations

import psycopg

from pipewright import errors
from pipewright.backends.postgres.server import Server, execute
from pipewright.store import connect, roles, schema, trouble

_AVAILABLE = """
SELECT v.trusted OR NOT v.superuser
FROM pg_available_extensions e JOIN pg_available_extension_versions v
    ON v.name = e.name AND v.version = e.default_version
WHERE e.name = %s
"""


async def create(server: Server, tenant_id: str, name: str) -> None:
    """Create the extension if it is not there. The owner may make schemas only meanwhile.

    Raises:
        Stalled: the server has no such extension, or only a superuser may create it.
    """
    database = roles.database(tenant_id)
    where = f"server {server.name}, database {database}"
    inside = await connect.connect(schema.migrator(server.migrator_dsn, database=database), where=where)
    try:
        with trouble.translated(where):
            await _require_trusted(inside, server, tenant_id, name)
            async with server.provisioner() as conn:
                await execute(conn, "GRANT CREATE ON DATABASE {} TO {}", database, roles.OWNER)
                try:
                    await _make(inside, name)
                finally:
                    await execute(conn, "REVOKE CREATE ON DATABASE {} FROM {}", database, roles.OWNER)
    finally:
        await inside.close()


async def installed(inside: psycopg.AsyncConnection) -> frozenset[str]:
    """The extensions that this database has, but for the language that every one has."""
    cursor = await inside.execute("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'")
    return frozenset([name async for (name,) in cursor])


async def _require_trusted(
    inside: psycopg.AsyncConnection, server: Server, tenant_id: str, name: str
) -> None:
    row = await (await inside.execute(_AVAILABLE, [name])).fetchone()
    if row is None:
        raise errors.Stalled(
            "ExtensionUnavailable",
            f"server {server.name} does not have the extension {name}: install its package on the server, or"
            " take it out of spec.database.extensions",
        )
    if row != (True,):
        raise errors.Stalled(
            "ExtensionNeedsSuperuser",
            f"only a superuser of server {server.name} may create the extension {name}, and Pipewright is"
            f" none: create it in the database {roles.database(tenant_id)}, schema {roles.EXTENSIONS}, or"
            " take it out of spec.database.extensions",
        )


async def _make(inside: psycopg.AsyncConnection, name: str) -> None:
    async with inside.transaction():
        await execute(inside, "CREATE SCHEMA IF NOT EXISTS {}", roles.EXTENSIONS)
        await execute(inside, "GRANT USAGE ON SCHEMA {} TO {}", roles.EXTENSIONS, roles.READER)
        # without CASCADE: what it requires is asked for by name, and is on the allow-list itself
        await execute(inside, "CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}", name, roles.EXTENSIONS)
