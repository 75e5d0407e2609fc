"""Real servers for the tests, started at their first use and shared by the session.

A test asks for what it needs: `postgres_server` starts PostgreSQL and nothing else. All parts belong to one
stack (the code of `make up`), so whatever was started is stopped at the end, also after a failing start.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from dev import parts, places, throwaway
from dev.stack import Stack
from dev.vault import Vault


@pytest.fixture(scope="session")
def empty_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The session's stack before anything is started; the other fixtures start its parts."""
    with throwaway.stack() as stack:
        yield stack
    if request.session.testsfailed:
        print(f"\nThe servers' logs of this session: {stack.folder / 'logs'}")
    else:
        shutil.rmtree(stack.folder.parent)


@pytest.fixture(scope="session")
def control_plane(empty_stack: Stack) -> parts.Cluster:
    """A Kubernetes API with our kinds, roles and ServiceAccounts: kubeconfig, kubectl, audit_log."""
    return empty_stack.parts.system()


@pytest.fixture(scope="session")
def postgres_server(empty_stack: Stack) -> parts.Database:
    """A bare PostgreSQL server: host, port and the administrator's DSN."""
    return empty_stack.parts.database()


@pytest.fixture(scope="session")
def platform_logins(empty_stack: Stack) -> Mapping[str, str]:
    """The product's PostgreSQL logins after its bootstrap: login → DSN of the platform database."""
    return empty_stack.parts.platform()


@pytest.fixture(scope="session")
def vault_server(empty_stack: Stack) -> Vault:
    """A Vault with our mounts and policies: address and root token; no cluster is trusted yet."""
    return empty_stack.parts.vault()


@pytest.fixture(scope="session")
def vault_identities(empty_stack: Stack, control_plane: parts.Cluster) -> Path:
    """The folder with each component's kubeconfig and Vault token; Vault trusts the control plane."""
    empty_stack.parts.identities()
    return empty_stack.folder / "identities"


@pytest.fixture(scope="session")
def ray_head(empty_stack: Stack) -> parts.Ray:
    """A Ray head: address of its Jobs API and the file with the bearer token."""
    return empty_stack.parts.ray()


@pytest.fixture(scope="session")
def stack(empty_stack: Stack) -> Stack:
    """Everything but Ray, the product's processes included; a test that trains also asks for `ray_head`.

    What contract tests wrote to the platform database goes first: the real gateway would try to serve it.
    """
    empty_stack.parts.platform()
    with psycopg.connect(empty_stack.parts.database().admin_dsn, dbname="pipewright") as platform:
        for table in ("routes", "triggers", "model_pointers", "registry_namespaces", "registry"):
            platform.execute(sql.SQL("TRUNCATE pipewright.{} CASCADE").format(sql.Identifier(table)))
    empty_stack.up(ray=False)
    return empty_stack


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; a test that needs it is skipped where there is none."""
    if not places.SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {places.SHARED_DATA}")
    return places.SHARED_DATA
