"""Servers of releases before the makers: what the provisioner made and granted becomes its makers'.

From PostgreSQL 16 on who makes a role has ADMIN of it, and a membership rests on the ADMIN of who granted it.
So the maker gets both first, and only then the provisioner loses them. 15 keeps no such books.
"""

from __future__ import annotations

import re

import psycopg
from psycopg import sql

from pipewright.store import roles

_MADE = """
SELECT role.rolname, grantor::regrole::text, coalesce(dynamic.rolname, role.rolname)
FROM pg_auth_members JOIN pg_roles role ON role.oid = roleid
LEFT JOIN LATERAL (SELECT rolname FROM pg_auth_members of JOIN pg_roles lent ON lent.oid = of.roleid
    WHERE of.member = role.oid AND rolname LIKE 'pw\\_%%\\_dynamic' LIMIT 1) dynamic ON true
WHERE member = %s::regrole AND (role.rolname LIKE 'pw\\_%%' OR dynamic.rolname IS NOT NULL)
"""
"""Role, who granted its ADMIN, and what names the tenant: a short-lived login is known by its group."""

_GIVEN = """
SELECT role.rolname, taker.rolname, admin_option, inherit_option, set_option
FROM pg_auth_members JOIN pg_roles role ON role.oid = roleid JOIN pg_roles taker ON taker.oid = member
WHERE grantor = %s::regrole
"""
_HELD = """
SELECT roleid::regrole::text FROM pg_auth_members WHERE member = %s::regrole AND roleid = ANY(%s::regrole[])
"""

_TENANT = re.compile(r"pw_([a-z0-9]{12})_")


def hand_over(admin: psycopg.Connection) -> None:
    """Do it for every tenant on this server, in the caller's transaction; the next time nothing is left."""
    made = admin.execute(_MADE, [roles.PROVISIONER]).fetchall()
    for role, _, named in made:
        if maker := _maker(named):
            _run(admin, "GRANT {} TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", role, maker)
    for role, taker, *options in admin.execute(_GIVEN, [roles.PROVISIONER]).fetchall():
        if maker := _maker(f"{role} {taker}"):
            words = zip(("ADMIN", "INHERIT", "SET"), options, strict=True)
            text = ", ".join(f"{word} {'TRUE' if option else 'FALSE'}" for word, option in words)
            _run(admin, f"GRANT {{}} TO {{}} WITH {text} GRANTED BY {{}}", role, taker, maker)
    for role, grantor, named in made:
        if _maker(named):
            _run(admin, "REVOKE {} FROM {} GRANTED BY {} CASCADE", role, roles.PROVISIONER, grantor)
    for (group,) in admin.execute(_HELD, [roles.PROVISIONER, list(roles.GROUPS)]).fetchall():
        _run(admin, "REVOKE {} FROM {} CASCADE", group, roles.PROVISIONER)


def _maker(names: str) -> str | None:
    found = _TENANT.search(names)
    return roles.maker(found[1]) if found else None


def _run(admin: psycopg.Connection, text: str, *names: str) -> None:
    admin.execute(sql.SQL(text).format(*map(sql.Identifier, names)))
