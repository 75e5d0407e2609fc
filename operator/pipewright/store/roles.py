"""The PostgreSQL roles and databases by name: the platform's fixed ones, and a tenant's, made of prefix + id.

Platform: four logins, one per process identity and one for migrations; a NOLOGIN owner of every schema and
table of ours; three NOLOGIN groups that carry the grants of design §2a, so that a migration grants once and
every tenant's logins have it. Isolation between tenants is by CONNECT: the groups are shared, databases not.
"""

from __future__ import annotations

import re
import secrets
import string

from pipewright.ports import LOGINS

PLATFORM = "pipewright"
"""The platform database, and in every database of ours the schema with our tables."""

TEMPLATE = "pipewright_template"
"""The migrated, empty tenant database that new ones are cloned from."""

SCHEMA = "pipewright"
HISTORY = "history"
"""The schema with the views that a tenant may read."""

APP = "app"
"""The schema that a tenant owns."""

EXTENSIONS = "extensions"
"""The schema of a database's extensions; the tenant uses it and makes nothing there."""

OWNER = "pipewright_owner"
INGEST = "pipewright_ingest"
JOURNAL = "pipewright_journal"
READER = "pipewright_reader"
GROUPS = (INGEST, JOURNAL, READER)

PROVISIONER = "pipewright_provisioner"
MIGRATOR = "pipewright_migrator"
RUNNER = "pipewright_runner"
GATEWAY = "pipewright_gateway"
PLATFORM_LOGINS = (PROVISIONER, MIGRATOR, RUNNER, GATEWAY)

DUMPER = "pipewright_dumper"
"""Reads whatever database it is let into, for a last dump before a drop; it is let into none before."""

VAULT = "pipewright_vault"
"""Makes tenants' short-lived logins for Vault's database engine, and takes them away."""

MAKERS = {letter: f"pipewright_maker_{letter}" for letter in string.ascii_lowercase + string.digits}
"""The NOLOGIN roles as which the provisioner makes and changes a tenant's roles, by the id's first letter.

Who makes a role is its member by that, and to ask whether somebody may change one the server walks through
all that they are members of: one maker for all would make every tenant dearer than the one before it.
"""

MEMBERSHIP = {"readonly": READER, "ingest": INGEST, "runner": JOURNAL}
"""Purpose of a tenant's login → the group whose grants it has."""

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""The 32 letters of a tenant's id, none mistaken for another: no l, o, 0, 1."""

_ID = re.compile(r"[a-z0-9]{12}")


def new_id() -> str:
    """A random tenant id: 60 bits, so that nobody guesses another tenant's names."""
    return "".join(secrets.choice(ALPHABET) for _ in range(12))


def database(tenant_id: str) -> str:
    """The name of the tenant's database.

    Raises:
        ValueError: this is no tenant id. Identifiers are made of nothing else.
    """
    if not _ID.fullmatch(tenant_id):
        raise ValueError("a tenant id is 12 lower-case letters and digits")
    return f"pw_{tenant_id}"


def maker(tenant_id: str) -> str:
    """The role as which this tenant's roles are made."""
    return MAKERS[database(tenant_id).removeprefix("pw_")[0]]


def app_owner(tenant_id: str) -> str:
    """The NOLOGIN role that owns the tenant's schema `app`."""
    return f"{database(tenant_id)}_app"


def dynamic_group(tenant_id: str) -> str:
    """The NOLOGIN role whose members are the tenant's short-lived logins; there once it asked for them."""
    return f"{database(tenant_id)}_dynamic"


def login(tenant_id: str, purpose: str) -> str:
    """The role that logs in for this purpose of `ports.LOGINS`."""
    if purpose not in LOGINS:
        raise ValueError(f"no login for {purpose!r}: a purpose is one of {', '.join(LOGINS)}")
    return f"{database(tenant_id)}_{purpose}"


def all_roles(tenant_id: str) -> tuple[str, ...]:
    """The tenant's logins and the owner of its schema."""
    return (*(login(tenant_id, purpose) for purpose in LOGINS), app_owner(tenant_id))
