"""PostgreSQL's logins of the product: passwords made here, rights given by the product's own bootstrap."""

import importlib
from pathlib import Path

from dev import files, identities, places, postgres

PLATFORM_DATABASE = "pipewright"
LOGINS = ("pipewright_provisioner", "pipewright_migrator", "pipewright_runner", "pipewright_gateway")


DUMPER = "pipewright_dumper"
VAULT = "pipewright_vault"
"""Vault's database engine has its password."""


def bootstrap(folder: Path, admin_dsn: str) -> bool:
    """Create logins, platform and template database and write each component's DSN files.

    False when this tree has no store yet. The rights are those of `pipewright.store.bootstrap`, which an
    installation in production runs, too.
    """
    if not (places.ROOT / "operator" / "pipewright" / "store" / "bootstrap.py").exists():
        return False
    every = (*LOGINS, DUMPER, VAULT)
    passwords = {login: files.secret(folder / "logins" / f"{login}.password") for login in every}
    importlib.import_module("pipewright.store.bootstrap").bootstrap(admin_dsn, passwords=passwords)
    for login, (component, file_name, database) in _FILES.items():
        address = dsn(folder, admin_dsn, login, database=database)
        files.write(identities.folder_of(folder, component) / file_name, address)
    # The provisioner's login has two uses: the platform database, and making tenants' databases.
    server = dsn(folder, admin_dsn, "pipewright_provisioner", database="postgres")
    files.write(identities.folder_of(folder, "provisioner") / "server.dsn", server)
    dumper = dsn(folder, admin_dsn, DUMPER, database="postgres")
    files.write(identities.folder_of(folder, "provisioner") / "dumper.dsn", dumper)
    return True


def dsn(folder: Path, admin_dsn: str, login: str, *, database: str = PLATFORM_DATABASE) -> str:
    """The DSN of one of the logins on the stack's server."""
    host, port = postgres.address_of(admin_dsn)
    password = (folder / "logins" / f"{login}.password").read_text()
    return postgres.dsn(login, password, host=host, port=port, database=database)


_FILES = {
    "pipewright_provisioner": ("provisioner", "platform.dsn", PLATFORM_DATABASE),
    "pipewright_migrator": ("provisioner", "migrator.dsn", PLATFORM_DATABASE),
    "pipewright_runner": ("runner", "platform.dsn", PLATFORM_DATABASE),
    "pipewright_gateway": ("gateway", "platform.dsn", PLATFORM_DATABASE),
}
