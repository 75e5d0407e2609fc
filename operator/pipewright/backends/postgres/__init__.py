"""PostgreSQL behind the ports: the registry in the platform database, tenants' databases and their logins.

The provisioner's login has CREATEDB, is no superuser, makes roles as one of its makers, and stays out of a
tenant's database after hand-over. What it makes is named by prefix + id only, and carries the Tenant's UID as
a COMMENT.
"""

from pipewright.backends.postgres.databases import PostgresDatabases
from pipewright.backends.postgres.doors import PostgresDoor
from pipewright.backends.postgres.dumps import PostgresDumps
from pipewright.backends.postgres.logins import PostgresLogins
from pipewright.backends.postgres.proofs import PostgresProofs
from pipewright.backends.postgres.registry import PostgresRegistry
from pipewright.backends.postgres.server import SESSIONS, Server
from pipewright.store.pools import Pools

__all__ = [
    "SESSIONS",
    "Pools",
    "PostgresDatabases",
    "PostgresDoor",
    "PostgresDumps",
    "PostgresLogins",
    "PostgresProofs",
    "PostgresRegistry",
    "Server",
]
