"""An empty PostgreSQL server becomes Pipewright's: logins, groups, platform database, template database.

Run with the server's superuser before the operator starts, and again with every release: it changes only
what is missing. The server must be Pipewright's own, because every database on it is closed to PUBLIC:
isolation between tenants rests on CONNECT.

PostgreSQL 16 brought membership without its use (INHERIT FALSE, SET FALSE), and CREATEROLE that reaches only
roles it made; there the provisioner cannot read what it creates. On 15 CREATEROLE is stronger than that, and
no grant can make it weaker: run 16 or newer where the provisioner must not be able to read tenants' data.

Tenants' roles are made by the makers, as which the provisioner acts: `roles.MAKERS` says why they are many.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from pipewright import errors
from pipewright.store import connect, makers, roles, schema, trouble
from pipewright.store import passwords as verifiers

_LOCK = 7_264_100


def bootstrap(admin_dsn: str, *, passwords: Mapping[str, str]) -> None:
    """Create or complete everything that one server needs before its first tenant. Blocks.

    Args:
        admin_dsn: a superuser's connection string.
        passwords: by the names of `roles.PLATFORM_LOGINS`, all of them; with `roles.DUMPER` the server gets
            the login that final dumps are taken with, with `roles.VAULT` the one of Vault's database engine.
            Leave that one out once Vault has rotated its password.

    Raises:
        Unreachable: the server does not answer.
        Forbidden: the login is not a superuser.
    """
    if missing := set(roles.PLATFORM_LOGINS) - set(passwords):
        raise ValueError(f"no password given for {', '.join(sorted(missing))}")
    limits = {"statement_timeout": "0", "lock_timeout": "30s"}
    info = connect.conninfo(admin_dsn, settings=limits, dbname="postgres")
    with trouble.translated("bootstrap"), psycopg.connect(info, autocommit=True) as admin:
        _require_superuser(admin)
        admin.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        with admin.transaction():
            _roles(admin, passwords)
        for name in (roles.PLATFORM, roles.TEMPLATE):
            _database(admin, name)
        _close_to_public(admin)
        if roles.VAULT in passwords:
            _let_in(admin, "postgres", roles.VAULT)
        migrator = connect.conninfo(
            admin_dsn, user=roles.MIGRATOR, password=passwords[roles.MIGRATOR], dbname=roles.PLATFORM
        )
        _fill_platform(admin, info, migrator)
        _fill_template(admin, info, migrator)


def _require_superuser(admin: psycopg.Connection) -> None:
    row = admin.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if row != (True,):
        raise errors.Forbidden("bootstrap: the admin login must be a superuser of this PostgreSQL server")


# --- roles --------------------------------------------------------------------------------------------


def _roles(admin: psycopg.Connection, passwords: Mapping[str, str]) -> None:
    for name in (roles.OWNER, *roles.GROUPS):
        _role(admin, name, "NOLOGIN NOINHERIT")
    for name in roles.PLATFORM_LOGINS:
        # The migrator acts as the owner by SET ROLE only; the provisioner has what its group of one gives.
        extra = "CREATEDB NOCREATEROLE INHERIT" if name == roles.PROVISIONER else "NOINHERIT"
        _login(admin, name, extra, password=passwords[name])
    if roles.DUMPER in passwords:
        _login(admin, roles.DUMPER, "INHERIT", password=passwords[roles.DUMPER])
        _grant(admin, "pg_read_all_data", to=roles.DUMPER, options="INHERIT TRUE, SET FALSE")
    if roles.VAULT in passwords:
        _login(admin, roles.VAULT, "CREATEROLE INHERIT", password=passwords[roles.VAULT])
        _grant(admin, "pg_signal_backend", to=roles.VAULT, options="INHERIT TRUE, SET FALSE")
    _grant(admin, roles.OWNER, to=roles.MIGRATOR, options="INHERIT FALSE, SET TRUE")
    # DROP DATABASE … WITH (FORCE) and disabling a tenant end other logins' sessions.
    _grant(admin, "pg_signal_backend", to=roles.PROVISIONER, options="INHERIT TRUE, SET FALSE")
    for maker in roles.MAKERS.values():
        _role(admin, maker, "NOLOGIN CREATEROLE NOINHERIT")
        _grant(admin, maker, to=roles.PROVISIONER, options="INHERIT FALSE, SET TRUE")
        for group in roles.GROUPS if connect.has_membership_options(admin) else ():
            _grant(admin, group, to=maker, options="ADMIN TRUE, INHERIT FALSE, SET FALSE")
    if connect.has_membership_options(admin):
        makers.hand_over(admin)


def _login(admin: psycopg.Connection, name: str, attributes: str, *, password: str) -> None:
    _role(admin, name, f"LOGIN {attributes}")
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(
        sql.Identifier(name), sql.Literal(verifiers.verifier(admin, user=name, password=password))
    )
    admin.execute(statement)
    admin.execute(sql.SQL("ALTER ROLE {} SET search_path = pg_catalog").format(sql.Identifier(name)))


def _role(admin: psycopg.Connection, name: str, attributes: str) -> None:
    found = admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    statement = sql.SQL("ALTER ROLE {} {}" if found is not None else "CREATE ROLE {} {}")
    common = "NOSUPERUSER NOREPLICATION NOBYPASSRLS"
    admin.execute(statement.format(sql.Identifier(name), sql.SQL(f"{common} {attributes}")))


def _grant(admin: psycopg.Connection, role: str, *, to: str, options: str) -> None:
    """Membership with options; 15 knows none, there the member's NOINHERIT keeps rights apart."""
    statement = sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(to))
    if connect.has_membership_options(admin):
        statement += sql.SQL(f" WITH {options}")
    admin.execute(statement)


# --- databases ----------------------------------------------------------------------------------------


def _database(admin: psycopg.Connection, name: str) -> None:
    found = admin.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
    if found is None:
        statement = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false"
        admin.execute(sql.SQL(statement).format(sql.Identifier(name)))


def _close_to_public(admin: psycopg.Connection) -> None:
    """Nobody connects anywhere by default; then each database is opened to exactly who needs it."""
    for (name,) in admin.execute("SELECT datname FROM pg_database").fetchall():
        statement = "REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC"
        admin.execute(sql.SQL(statement).format(sql.Identifier(name)))
    needs = {
        "postgres": (roles.PROVISIONER,),
        roles.PLATFORM: roles.PLATFORM_LOGINS,
        roles.TEMPLATE: (roles.MIGRATOR,),
    }
    for name, logins in needs.items():
        _let_in(admin, name, *logins)


def _let_in(admin: psycopg.Connection, database: str, *logins: str) -> None:
    who = sql.SQL(", ").join(map(sql.Identifier, logins))
    admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), who))


def _fill_platform(admin: psycopg.Connection, info: str, migrator: str) -> None:
    _allow_connections(admin, roles.PLATFORM, allow=True)
    _schemas(info, roles.PLATFORM, names=(roles.SCHEMA,))
    schema.upgrade("platform", migrator, database=roles.PLATFORM)


def _fill_template(admin: psycopg.Connection, info: str, migrator: str) -> None:
    """Migrate the template. Only meanwhile it takes connections: a session in it would block cloning."""
    _allow_connections(admin, roles.TEMPLATE, allow=True)
    try:
        _schemas(info, roles.TEMPLATE, names=(roles.SCHEMA, roles.HISTORY))
        schema.upgrade("tenant", migrator, database=roles.TEMPLATE)
    finally:
        _allow_connections(admin, roles.TEMPLATE, allow=False)
    # Last: whoever may create databases may clone a template, and a half-migrated one must not be cloned.
    admin.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(roles.TEMPLATE)))


def _allow_connections(admin: psycopg.Connection, name: str, *, allow: bool) -> None:
    statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    admin.execute(statement.format(sql.Identifier(name), sql.Literal(allow)))


def _schemas(admin_info: str, database: str, *, names: tuple[str, ...]) -> None:
    """Our schemas and no other: the owner may not make any itself."""
    info = connect.conninfo(admin_info, dbname=database)
    with psycopg.connect(info, autocommit=True) as admin:
        admin.execute("DROP SCHEMA IF EXISTS public")
        for name in names:
            statement = sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}")
            admin.execute(statement.format(sql.Identifier(name), sql.Identifier(roles.OWNER)))
