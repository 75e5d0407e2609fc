"""Rotation of a Tenant's database passwords: what is due when, and that a crash at any write does no harm."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.tenant import objects
from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.plan import plan_tenant
from controllers.tenant.reconcile import reconcile
from pipewright import errors, names
from pipewright.api.v1alpha1 import Tenant
from pipewright.backends.memory import MemoryCluster, MemoryDataKeys, MemoryGrants, MemorySecretStore
from pipewright.backends.memory_postgres import (
    MemoryDatabases,
    MemoryDumps,
    MemoryLogins,
    MemoryRegistry,
    MemoryServer,
)
from pipewright.facts import LOGINS, Database, Login, Registration, SecretAccess, Server
from pipewright.plan import Ref
from pipewright.ports import ProvisionerPorts, Secret, ServerPorts

UID, ID, SPACE = "11111111-2222-3333-4444-555555555555", "abcdefghjkmn", "namespace-uid"
ISSUED = datetime(2026, 6, 1, 12, tzinfo=UTC)
ACCESS = SecretAccess(role="r", policy="p", namespaces=("team-a",), service_accounts=(), policies=())


def tenant(*, asked: str | None = None, **rotation: str) -> Tenant:
    annotations = {} if asked is None else {names.ROTATE_ANNOTATION: asked}
    metadata = {"name": "team-a", "uid": UID, "generation": 1, "annotations": annotations}
    return Tenant.parse({"metadata": metadata, "spec": {"database": {"rotation": rotation}}})


DAILY = tenant(every="24h", overlap="1h")
REGISTRATION = Registration(
    id=ID,
    uid=UID,
    name="team-a",
    server="main",
    state="Active",
    namespaces={"team-a": SPACE},
    bundle_version=2,
    bundle_key="key",
)


def database(version: int, **standby: Any) -> Database:
    """All logins at this version, app_a (the one of before, at version 2) as the arguments say."""
    logins = {purpose: Login(enabled=True, version=version) for purpose in LOGINS}
    logins["app_a"] = Login(**{"enabled": True, "version": 1, **standby})
    return Database(
        name=f"pw_{ID}",
        owner_uid=UID,
        connection_limit=20,
        schema_version="head",
        current=True,
        closed_to_public=True,
        logins=logins,
    )


def secret(version: int) -> Any:
    return {"metadata": {"annotations": {names.VERSION_ANNOTATION: str(version)}}}


def world(**changes: Any) -> Observed:
    """A tenant at rest at credential version 2, whose login of before was refused."""

    def there(manifest: Any, uid: str = "some-uid") -> Any:
        return {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}

    children: dict[Any, Any] = dict.fromkeys(objects.possible("team-a"))
    for build in (objects.in_namespace, objects.network, objects.access):
        for manifest in build(DAILY, tenant_id=ID, namespace="team-a"):
            children[Ref.of(manifest)] = there(manifest)
    observed = Observed(
        gateway_key="key",
        registration=REGISTRATION,
        namespaces={"team-a": there(objects.namespace(DAILY, tenant_id=ID, name="team-a"), SPACE)},
        children=children,
        connections={"team-a": secret(2)},
        database=database(2, enabled=False, refused_at=ISSUED),
        credential_version=2,
        issued_at=ISSUED,
        secret_access=ACCESS,
        wanted_access=ACCESS,
    )
    return replace(observed, **changes)


def after(**time: float) -> datetime:
    return ISSUED + timedelta(**time)


RETIRE = "retire login app_a and try its old password"
OVERLAP = {"overlap_since": after(minutes=10)}

PLANS: dict[str, tuple[Tenant, Observed, datetime, list[str], timedelta | None]] = {
    "before the period is over nothing is due, and time will tell": (
        DAILY,
        world(),
        after(hours=23),
        [],
        timedelta(hours=1),
    ),
    "when it is over new passwords are made": (
        DAILY,
        world(),
        after(hours=24),
        ["rotate credential version 2"],
        None,
    ),
    "without a period nothing is ever due": (tenant(), world(), after(days=900), [], None),
    "an annotation asks for it now": (
        tenant(asked="2026-06-01T12:30:00Z"),
        world(),
        after(minutes=30),
        ["rotate credential version 2"],
        None,
    ),
    "an annotation may name a time to come": (
        tenant(asked="2026-06-01T14:30:00+02:00"),
        world(),
        after(minutes=20),
        [],
        timedelta(minutes=10),
    ),
    "what an annotation asked for before the last rotation was done by it": (
        tenant(asked="2026-06-01T11:59:59Z"),
        world(),
        after(hours=1),
        [],
        None,
    ),
    "a version that the gateway has not is sealed to it first": (
        DAILY,
        world(credential_version=3, issued_at=after(hours=24)),
        after(hours=24),
        ["seal the gateway's credentials at version 3"],
        None,
    ),
    "then PostgreSQL is told, and nobody else": (
        DAILY,
        world(
            credential_version=3,
            issued_at=after(hours=24),
            registration=replace(REGISTRATION, bundle_version=3),
        ),
        after(hours=24),
        ["set database logins at credential version 3"],
        None,
    ),
    "then the connection Secret": (
        DAILY,
        world(connections={"team-a": secret(1)}, database=database(2)),
        after(minutes=1),
        ["write the connection Secret in team-a"],
        None,
    ),
    "the overlap counts from when the new login is in the connection Secret": (
        DAILY,
        world(database=database(2)),
        after(hours=9),
        ["begin the last overlap of login app_a"],
        None,
    ),
    "during the overlap both are let in": (
        DAILY,
        world(database=database(2, **OVERLAP)),
        after(minutes=69),
        [],
        timedelta(minutes=1),
    ),
    "at its end the old login goes, and its password is tried": (
        DAILY,
        world(database=database(2, **OVERLAP)),
        after(minutes=70),
        [RETIRE],
        None,
    ),
    "an overlap that the spec shortens is over at once": (
        tenant(every="24h", overlap="0s"),
        world(database=database(2, **OVERLAP)),
        after(minutes=11),
        [RETIRE],
        None,
    ),
    "a login that was disabled and not yet tried is tried": (
        DAILY,
        world(database=database(2, enabled=False)),
        after(hours=2),
        [RETIRE],
        None,
    ),
    "nobody is rotated while the last overlap goes on": (
        tenant(asked="2026-06-01T12:20:00Z", overlap="1h"),
        world(database=database(2, **OVERLAP)),
        after(minutes=30),
        [],
        timedelta(minutes=40),
    ),
    "nobody is rotated while a connection Secret cannot be seen": (
        DAILY,
        world(connections={"team-a": Unknown(reason="Forbidden", message="…")}),
        after(days=2),
        [],
        timedelta(seconds=10),
    ),
}


@pytest.mark.parametrize("sentence", PLANS)
def test_plan(sentence: str) -> None:
    subject, observed, now, expected, again = PLANS[sentence]
    plan = plan_tenant(subject, observed, now)
    assert ([str(action) for action in plan], plan.check_after) == (expected, again)


def test_an_annotation_that_is_no_time_is_named() -> None:
    plan = plan_tenant(tenant(asked="now"), world(), after(days=1))
    assert plan.is_empty
    told = next(fact.message for fact in plan.facts if fact.type == "DatabaseReady")
    assert "rotate-requested-at is ignored: write a time such as" in told


# --- the whole of it, with a kill at every write ------------------------------------------------------------

WRITES = {"apply", "replace", "write", "store_bundle", "set", "begin_overlap", "retire", "note_refused"}
SERVERS = (Server(name="main", region="local", database_class="standard"),)


class Killed(BaseException):
    """The process is gone."""


class Fused:
    """A port whose n-th write (of all ports together) ends the process."""

    def __init__(self, port: object, story: Story) -> None:
        self._port, self._story = port, story

    def __getattr__(self, name: str) -> Any:
        call, story = getattr(self._port, name), self._story
        if name not in WRITES:
            return call

        async def fused(*args: Any, **kwargs: Any) -> Any:
            story.count += 1
            story.done.append(name)
            if (story.count, True) == (story.at, story.before):
                raise Killed
            result = await call(*args, **kwargs)
            if story.count == story.at:
                raise Killed
            return result

        return fused


class Sealer:
    """Seals nothing, so that the test can look inside."""

    key = "key"

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        return plaintext


class Story:
    """A tenant with its servers, and a clock that goes when it is told to."""

    def __init__(self, *, at: int = 0, before: bool = False) -> None:
        self.count, self.at, self.before = 0, 0, before
        self._at, self.done = at, list[str]()
        self.time = ISSUED
        server = MemoryServer()
        self.cluster, self.registry, self.secrets = MemoryCluster(), MemoryRegistry(), MemorySecretStore()
        self.secrets.now = self.now
        self.databases, self.logins = MemoryDatabases(server), MemoryLogins(server)
        self.passwords = server.passwords
        self.ports = ProvisionerPorts(
            cluster=Fused(self.cluster, self),  # type: ignore[arg-type]
            registry=Fused(self.registry, self),  # type: ignore[arg-type]
            databases=Fused(self.databases, self),  # type: ignore[arg-type]
            logins=Fused(self.logins, self),  # type: ignore[arg-type]
            secrets=Fused(self.secrets, self),  # type: ignore[arg-type]
            grants=MemoryGrants(),
            data_keys=MemoryDataKeys(),
            sealer=Sealer(),
            dumps=MemoryDumps(server),
            servers={
                "main": ServerPorts(
                    databases=self.databases,
                    logins=Fused(self.logins, self),  # type: ignore[arg-type]
                    dumps=MemoryDumps(server),
                ),
            },
        )

    def now(self) -> datetime:
        return self.time

    async def settle(self) -> Any:
        for _ in range(40):
            try:
                outcome = await reconcile(DAILY, ports=self.ports, clock=self, servers=SERVERS)
            except Killed:
                await self.check()
                continue
            assert not outcome.results.failures, outcome.results.failures
            await self.check()
            if not outcome.results.done:
                return outcome.status
        return pytest.fail("not at rest after 40 passes")

    async def check(self) -> None:
        """Who reads the connection or the gateway's bundle is let in, whatever just happened."""
        found = await self.registry.find(uid=UID)
        if found is None or not found.bundle_version:
            return
        wanted = await self.secrets.read(names.user_path(found.id))
        if wanted is None:
            return
        purpose = wanted["user"].reveal().removeprefix(f"pw_{found.id}_")
        assert not await self.logins.is_refused(found.id, purpose=purpose, password=wanted["password"])
        bundle = json.loads(self.registry.bundles[found.id])
        tried = [bundle["password"], bundle["previousPassword"]]
        assert self.passwords[found.id]["ingest"].reveal() in tried

    async def rotate(self) -> Any:
        """Made, and a day later rotated, with the overlap passing; `at` counts from the rotation."""
        first = await self.settle()
        self.count, self.at, self.done = 0, self._at, []
        self.time += timedelta(hours=24)
        during = await self.settle()
        assert during.database.credential_version == first.database.credential_version + 1
        self.time += timedelta(minutes=61)
        return await self.settle()


async def test_a_rotation_goes_from_vault_to_the_bundle_to_postgresql_to_the_clients() -> None:
    story = Story()
    status = (await story.rotate()).database
    assert story.done == [
        "replace",
        "store_bundle",
        "set",
        "write",
        "apply",
        "begin_overlap",
        "retire",
        "note_refused",
    ]
    assert (status.credential_version, status.active_login) == (2, "app_b")
    assert (status.rotated_at, status.next_rotation_at) == (after(hours=24), after(hours=48))
    assert status.old_credential_refused_at == after(hours=24, minutes=61)
    found = await story.registry.find(uid=UID)
    assert found is not None
    made = await story.databases.find(found.id)
    assert made is not None
    assert {purpose for purpose, login in made.logins.items() if login.enabled} == set(LOGINS) - {"app_a"}
    kept = await story.secrets.read(names.platform_path(found.id), version=1)
    now = await story.secrets.read(names.platform_path(found.id))
    assert kept is not None
    assert now is not None
    assert {purpose for purpose in LOGINS if kept[purpose] == now[purpose]} == {"app_a"}


async def test_two_rotations_come_back_to_the_first_login() -> None:
    story = Story()
    await story.rotate()
    story.time += timedelta(hours=24)
    assert (await story.settle()).database.active_login == "app_a"


@pytest.mark.parametrize("before", [True, False], ids=["before a write", "after a write"])
async def test_killed_at_any_write_the_rotation_ends_the_same_and_nobody_is_locked_out(before: bool) -> None:
    reference = Story()
    expected = (await reference.rotate()).database
    for at in range(1, reference.count + 1):
        story = Story(at=at, before=before)
        status = (await story.rotate()).database
        found = {**status.dump(), "name": None}
        assert found == {**expected.dump(), "name": None}, f"killed at write {at}"


async def test_an_old_password_that_is_still_accepted_is_said() -> None:
    story = Story()
    await story.settle()
    story.time += timedelta(hours=24)
    await story.settle()

    async def accepted(*_: Any, **__: Any) -> bool:
        return False

    story.logins.is_refused = accepted  # type: ignore[method-assign]
    story.time += timedelta(hours=2)
    outcome = await reconcile(DAILY, ports=story.ports, clock=story, servers=SERVERS)
    [failure] = outcome.results.failures
    assert isinstance(failure.error, errors.BackendError)
    assert "still accepts the old password" in failure.error.message
    assert outcome.status.database
    assert outcome.status.database.old_credential_refused_at is None


async def test_a_rotation_by_somebody_else_counts() -> None:
    store = MemorySecretStore()
    await store.create("x/platform/database", {"a": Secret("1")}, owner=UID)
    assert await store.replace("x/platform/database", {"a": Secret("2")}, expected=1)
    assert not await store.replace("x/platform/database", {"a": Secret("3")}, expected=1)
    assert await store.read("x/platform/database") == {"a": Secret("2")}
