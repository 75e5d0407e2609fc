"""PostgreSQL as the product meets it: the bootstrapped server, tenants' databases, connections by login."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import psycopg
import pytest

from dev import parts
from pipewright import errors
from pipewright.backends.postgres import Pools, PostgresDatabases, PostgresLogins, Server
from pipewright.ports import LOGINS, Secret
from pipewright.store import connect, roles
from tests.contract import brokers
from tests.contract.brokers import Broker
from tests.contract.buckets import Buckets, running


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A tenant's database with all logins enabled; the passwords are the purposes' names."""

    id: str
    uid: str
    logins: PostgresLogins = field(repr=False)

    def dsn(self, purpose: str, *, database: str | None = None) -> Secret:
        """The connection string of one of the tenant's logins; `database` may be somebody else's."""
        dsn = connect.tenant_dsn(
            self.logins.connection(self.id),
            user=self.logins.username(self.id, purpose),
            password=Secret(f"password-of-{purpose}"),
        )
        return (
            dsn if database is None else Secret(psycopg.conninfo.make_conninfo(dsn.reveal(), dbname=database))
        )

    @asynccontextmanager
    async def connect(
        self, purpose: str, *, database: str | None = None
    ) -> AsyncIterator[psycopg.AsyncConnection]:
        """A connection with no settings of ours but those that the login has."""
        dsn = self.dsn(purpose, database=database).reveal()
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, connect_timeout=5
        ) as connection:
            yield connection


@pytest.fixture(scope="session")
def tenant_server(postgres_server: parts.Database, platform_logins: Mapping[str, str]) -> Server:
    """The server as the provisioner reaches it."""
    return Server(
        name="main",
        host=postgres_server.host,
        port=postgres_server.port,
        provisioner_dsn=Secret(platform_logins["pipewright_provisioner"]),
        migrator_dsn=Secret(platform_logins["pipewright_migrator"]),
    )


@pytest.fixture(scope="session")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    """An S3 server."""
    with running(tmp_path_factory.mktemp("s3")) as made:
        yield made


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka broker that everybody may use; some of its topics do not take what comes at first, or ever."""
    faults = [
        {"topic": "appended-unsaid", "code": 20, "count": 1},  # NOT_ENOUGH_REPLICAS_AFTER_APPEND
        {"topic": "refused", "code": 29, "count": -1},  # TOPIC_AUTHORIZATION_FAILED
    ]
    topics = ("ci", "again", "all-kinds", "many", "round", *(str(fault["topic"]) for fault in faults))
    with brokers.running(tmp_path_factory.mktemp("kafka"), topics=topics, faults=faults) as made:
        yield made


@pytest.fixture(scope="session")
def guarded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One with TLS and SCRAM, whose user may use the topic `ci` and not `others`."""
    folder = tmp_path_factory.mktemp("guarded-kafka")
    with brokers.running(folder, topics=("ci", "others"), guarded=True, writable=("ci",)) as made:
        yield made


@asynccontextmanager
async def _place(server: Server) -> AsyncIterator[Place]:
    databases, logins = PostgresDatabases(server), PostgresLogins(server)
    place = Place(id=roles.new_id(), uid=str(uuid4()), logins=logins)
    await databases.create(place.id, uid=place.uid, connection_limit=50)
    passwords = {purpose: Secret(f"password-of-{purpose}") for purpose in LOGINS}
    await logins.set(place.id, passwords=passwords, version=1)
    yield place
    for left in reversed(range(5)):
        try:
            await databases.drop(place.id, uid=place.uid)
            return
        except errors.Unreachable:  # a disk that stands still for half a minute: it goes on where it stopped
            if not left:
                raise


@pytest.fixture(scope="session")
async def place(tenant_server: Server) -> AsyncIterator[Place]:
    """A tenant's database that tests share: each takes an Integration UID of its own."""
    async with _place(tenant_server) as made:
        yield made


@pytest.fixture
async def fresh_place(tenant_server: Server) -> AsyncIterator[Place]:
    """A tenant's database for one test."""
    async with _place(tenant_server) as made:
        yield made


@pytest.fixture
async def pools() -> AsyncIterator[Pools]:
    """Pools as a process has them."""
    made = Pools()
    yield made
    await made.close()


@pytest.fixture
async def platform(
    platform_logins: Mapping[str, str], pools: Pools
) -> AsyncIterator[Mapping[str, psycopg.AsyncConnection]]:
    """Connections to the platform database, by component."""
    async with AsyncExitStack() as stack:
        yield {
            name.removeprefix("pipewright_"): await stack.enter_async_context(
                await psycopg.AsyncConnection.connect(dsn, autocommit=True)
            )
            for name, dsn in platform_logins.items()
        }


@pytest.fixture
async def ingest(place: Place, pools: Pools) -> AsyncIterator[psycopg.AsyncConnection]:
    """The gateway's connection to the shared tenant's database."""
    async with pools.connection("ingest", place.dsn("ingest")) as connection:
        yield connection


@pytest.fixture
async def runner(place: Place, pools: Pools) -> AsyncIterator[psycopg.AsyncConnection]:
    """The runner's connection to the shared tenant's database."""
    async with pools.connection("runner", place.dsn("runner")) as connection:
        yield connection


@pytest.fixture
def integration() -> str:
    """UID of an Integration that no other test knows."""
    return str(uuid4())
