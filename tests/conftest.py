"""Real servers for the tests, started at their first use and shared by the session.

A test asks for what it needs: `postgres_server` starts PostgreSQL and nothing else. All parts belong to one
stack (the code of `make up`), so whatever was started is stopped at the end, also after a failing start.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from psycopg import sql
from xdist.scheduler import LoadFileScheduling

from dev import files, logins, parts, places, ports, postgres, process, throwaway
from dev.stack import Stack
from dev.vault import Vault

# how long an example takes says how busy the machine is
hypothesis.settings.register_profile(
    "pipewright", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("pipewright")

OLDER = throwaway.OLDER
"""Parameter of `postgres_server` in modules that run on the older server, too."""


COMPUTE = "tests/contract/test_compute.py"
ON_RAY = {
    COMPUTE,
    "tests/e2e/test_stack.py",
    "tests/e2e/test_training.py",
    "tests/e2e/test_training_bucket.py",
}
"""And `test_healing`, which takes as long as these together and would be what all wait for."""


TRAINED = "tests/unit/ml/"


class OneRay(LoadFileScheduling):
    """A file goes to one worker, and those that share what is dear go to the same one.

    Ray's start takes both cores; `tests/unit/ml` trains one model for all its files.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        if file in ON_RAY:
            return "Ray"
        return TRAINED if file.startswith(TRAINED) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneRay:
    """What `-n` distributes by."""
    return OneRay(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins early; contracts on Ray come right before the stories on Ray."""
    order = {"tests/faults": 0, "tests/contract": 1}

    def place(item: pytest.Item) -> int:
        folder = "/".join(item.nodeid.split("/")[:2])
        if item.nodeid.startswith(TRAINED):
            return 0
        return 2 if item.nodeid.startswith(COMPUTE) else order.get(folder, 3)

    items.sort(key=place)


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
def audit_log(control_plane: parts.Cluster) -> Path:
    """The audit log of our own API server."""
    if control_plane.audit_log is None:
        pytest.skip("the cluster is somebody else's: its audit log is not ours to read")
    return control_plane.audit_log


@pytest.fixture(scope="session")
def older_postgres(empty_stack: Stack) -> Iterator[parts.Database]:
    """The oldest PostgreSQL that we support, beside the stack's own."""
    binaries = postgres.older_binaries()
    if binaries is None:
        pytest.skip("no older PostgreSQL on this machine: install Debian's postgresql-15 to run this test")
    folder = empty_stack.folder.parent / OLDER
    port = ports.free()
    made = postgres.Postgres(
        folder=folder, home=postgres.home_for(folder), port=port, binaries=binaries, durable=False
    )
    files.own_folder(folder, mode=0o711)
    made.prepare()
    process.start(made.server())
    yield parts.Database(host=made.host, port=made.port, admin_dsn=made.admin_dsn)
    process.stop(folder, "postgres")
    shutil.rmtree(made.home)


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest, empty_stack: Stack) -> parts.Database:
    """A bare PostgreSQL server: host, port and the administrator's DSN.

    A module that marks itself with `the parameter OLDER` runs on the older one, too.
    """
    if getattr(request, "param", None) == OLDER:
        found: parts.Database = request.getfixturevalue("older_postgres")
        return found
    return empty_stack.parts.database()


@pytest.fixture(scope="session")
def platform_logins(empty_stack: Stack, postgres_server: parts.Database) -> Mapping[str, str]:
    """The product's PostgreSQL logins after its bootstrap: login → DSN of the platform database."""
    if postgres_server.port == empty_stack.parts.database().port:
        return empty_stack.parts.platform()
    folder = empty_stack.folder.parent / OLDER
    logins.bootstrap(folder, postgres_server.admin_dsn)
    return {login: logins.dsn(folder, postgres_server.admin_dsn, login) for login in logins.LOGINS}


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
