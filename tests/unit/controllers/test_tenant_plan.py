"""What a Tenant needs done, as a table of sentences: (what was seen) → (what is planned)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controllers.tenant import objects
from controllers.tenant import plan as plans
from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.plan import plan_teardown
from controllers.tenant.rules.words import Plan
from pipewright.actions import RegisterTenant
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import LOGINS, Database, Login, Registration, SecretAccess, Server

UID = "11111111-2222-3333-4444-555555555555"
ID = "abcdefghjkmn"
NAMESPACE_UID = "namespace-uid"
ACCESS = SecretAccess(
    role="pipewright-tenant-abcdefghjkmn",
    policy="…",
    namespaces=("team-a",),
    service_accounts=("pipewright",),
    policies=("pipewright-tenant-abcdefghjkmn",),
)


def tenant(*, deleting: bool = False, **spec: Any) -> Tenant:
    metadata = {"name": "team-a", "uid": UID, "generation": 1}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return Tenant.parse({"metadata": metadata, "spec": spec})


REGISTRATION = Registration(
    id=ID,
    uid=UID,
    name="team-a",
    server="main",
    state="Active",
    namespaces={"team-a": NAMESPACE_UID},
    bundle_version=1,
    bundle_key="key",
)
DATABASE = Database(
    name=f"pw_{ID}",
    owner_uid=UID,
    connection_limit=20,
    schema_version="0001",
    current=True,
    closed_to_public=True,
    logins={purpose: Login(enabled=True, version=1) for purpose in LOGINS},
)


def there(manifest: Any, *, uid: str = "some-uid") -> Any:
    return {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}


def complete(subject: Tenant) -> Observed:
    """Everything is as the spec asks."""
    namespace = there(objects.namespace(subject, tenant_id=ID, name="team-a"), uid=NAMESPACE_UID)
    children: dict[Any, Any] = dict.fromkeys(objects.possible("team-a"))
    for build in (objects.in_namespace, objects.network, objects.access):
        for manifest in build(subject, tenant_id=ID, namespace="team-a"):
            children[act_ref(manifest)] = there(manifest)
    secret = {"metadata": {"annotations": {"pipewright.dev/credential-version": "1"}}}
    return Observed(
        gateway_key="key",
        registration=REGISTRATION,
        namespaces={"team-a": namespace},
        children=children,
        connections={"team-a": secret},
        database=DATABASE,
        credential_version=1,
        secret_access=ACCESS,
        wanted_access=ACCESS,
    )


def act_ref(manifest: Any) -> Any:
    from pipewright.plan import Ref

    return Ref.of(manifest)


PLAIN = tenant()
COMPLETE = complete(PLAIN)
RICH = tenant(
    quota={"pods": "10", "requests.cpu": "2"},
    limits={"default": {"cpu": "500m"}},
    access={"owners": [{"kind": "User", "name": "ada"}], "viewers": [{"kind": "Group", "name": "all"}]},
)


NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def plan_tenant(subject: Tenant, observed: Observed, now: datetime = NOW) -> Plan:
    return plans.plan_tenant(subject, observed, now)


def sentences(plan: Plan) -> list[str]:
    return [str(action) for action in plan]


SERVERS = (
    Server(name="main", region="local", database_class="standard"),
    Server(name="eu-1", region="eu", database_class="standard", capacity=9),
    Server(name="eu-2", region="eu", database_class="large"),
)

PLACEMENTS = {
    "no wish": ({}, ["main", "eu-1", "eu-2"]),
    "a region": ({"region": "eu"}, ["eu-1", "eu-2"]),
    "a class": ({"class": "standard"}, ["main", "eu-1"]),
    "both": ({"region": "eu", "class": "large"}, ["eu-2"]),
}


@pytest.mark.parametrize(("wish", "fit"), PLACEMENTS.values(), ids=PLACEMENTS)
def test_a_new_tenant_may_go_to_the_servers_of_its_placement(wish: dict[str, str], fit: list[str]) -> None:
    plan = plan_tenant(tenant(placement=wish), Observed(gateway_key="key", servers=SERVERS))
    [action] = plan
    assert isinstance(action, RegisterTenant)
    assert [server.name for server in action.servers] == fit


NOWHERE = {
    "UnknownRegion": ({"region": "mars"}, "of the region mars in spec.placement; there is eu, local: choose"),
    "UnknownClass": (
        {"region": "eu", "class": "tiny"},
        "the class tiny in spec.placement; there is large",
    ),
}


@pytest.mark.parametrize("reason", NOWHERE)
def test_a_placement_that_no_server_has_is_said_with_those_that_there_are(reason: str) -> None:
    wish, says = NOWHERE[reason]
    plan = plan_tenant(tenant(placement=wish), Observed(gateway_key="key", servers=SERVERS))
    assert plan.is_empty
    [fact] = plan.facts
    assert (fact.type, fact.status, fact.reason, fact.stalled) == ("DatabaseReady", False, reason, True)
    assert says in fact.message


IN_A_NEW_NAMESPACE = [
    "create and bind Namespace team-a",
    "apply ServiceAccount team-a/pipewright",
    *(f"apply NetworkPolicy team-a/pipewright-{it}" for it in ("default-deny", "allow-dns", "same-tenant")),
    *(f"apply RoleBinding team-a/pipewright-{it}" for it in ("provisioner", "runner")),
]

TOLD = {"pipewright.dev/credential-version": "1", "pipewright.dev/address": "db-2:5432/pw"}
PLANS: dict[str, tuple[Tenant, Observed, list[str]]] = {
    "a new tenant is registered before anything is named after it": (
        PLAIN,
        Observed(gateway_key="key", servers=SERVERS),
        ["register tenant team-a"],
    ),
    "nothing to do is an empty plan": (PLAIN, COMPLETE, []),
    "quota, limits and people are an empty plan too when they are there": (RICH, complete(RICH), []),
    "a registered tenant gets its namespace, its database and its way into Vault in one look": (
        PLAIN,
        Observed(
            gateway_key="key",
            registration=replace(
                REGISTRATION, state="Provisioning", namespaces={}, bundle_version=None, bundle_key=None
            ),
            namespaces={"team-a": None},
        ),
        [
            *IN_A_NEW_NAMESPACE,
            "issue database credentials",
            f"create database for tenant {ID}",
            "set database logins at credential version 1",
            "grant access to the tenant's Vault path",
            "seal the gateway's credentials at version 1",
            "write the connection Secret in team-a",
        ],
    ),
    "credentials that a crash left behind are used": (
        PLAIN,
        Observed(
            gateway_key="key",
            registration=replace(REGISTRATION, bundle_version=None, bundle_key=None),
            namespaces={"team-a": COMPLETE.namespaces["team-a"]},
            children=COMPLETE.children,
            connections={"team-a": None},
            secret_access=ACCESS,
            wanted_access=ACCESS,
            credential_version=1,
        ),
        [
            f"create database for tenant {ID}",
            "set database logins at credential version 1",
            "seal the gateway's credentials at version 1",
            "write the connection Secret in team-a",
        ],
    ),
    "what was sealed for the gateway once is not the first version again": (
        PLAIN,
        Observed(
            gateway_key="key",
            registration=replace(REGISTRATION, namespaces={}),
            namespaces={"team-a": None},
            database=None,
        ),
        [*IN_A_NEW_NAMESPACE, "issue database credentials", f"create database for tenant {ID}"],
    ),
    "a namespace that a crash left unbound is bound": (
        PLAIN,
        replace(COMPLETE, registration=replace(REGISTRATION, namespaces={})),
        ["bind namespace team-a"],
    ),
    "a namespace that was deleted is created again": (
        PLAIN,
        replace(COMPLETE, namespaces={"team-a": None}, children={}, connections={}),
        [
            *IN_A_NEW_NAMESPACE,
            "grant access to the tenant's Vault path",
            "write the connection Secret in team-a",
        ],
    ),
    "a label that somebody removed from the namespace comes back": (
        PLAIN,
        replace(
            COMPLETE,
            namespaces={"team-a": {**COMPLETE.namespaces["team-a"], "metadata": {"uid": NAMESPACE_UID}}},  # type: ignore[dict-item]
        ),
        ["apply Namespace team-a"],
    ),
    "a quota that the spec no longer asks for is deleted": (
        PLAIN,
        replace(COMPLETE, children=complete(RICH).children),
        [
            "delete ResourceQuota team-a/pipewright",
            "delete LimitRange team-a/pipewright",
            "delete RoleBinding team-a/pipewright-owners",
            "delete RoleBinding team-a/pipewright-viewers",
        ],
    ),
    "another connection limit is set": (
        tenant(database={"connectionLimit": 5}),
        COMPLETE,
        ["limit each login to 5 connections"],
    ),
    "a database that a crash left without its mark is finished": (
        PLAIN,
        replace(COMPLETE, database=replace(DATABASE, owner_uid=None)),
        [f"create database for tenant {ID}"],
    ),
    "a database that PUBLIC may connect to is closed": (
        PLAIN,
        replace(COMPLETE, database=replace(DATABASE, closed_to_public=False)),
        [f"create database for tenant {ID}"],
    ),
    "an older schema is migrated": (
        PLAIN,
        replace(COMPLETE, database=replace(DATABASE, current=False)),
        ["migrate the database"],
    ),
    "another credential version than before reaches the gateway's bundle first": (
        PLAIN,
        replace(COMPLETE, credential_version=2),
        ["seal the gateway's credentials at version 2"],
    ),
    "a login that was dropped comes back": (
        PLAIN,
        replace(COMPLETE, database=replace(DATABASE, logins={})),
        ["set database logins at credential version 1"],
    ),
    "a connection Secret that was deleted is written again": (
        PLAIN,
        replace(COMPLETE, connections={"team-a": None}),
        ["write the connection Secret in team-a"],
    ),
    "a new gateway key makes a new bundle": (
        PLAIN,
        replace(COMPLETE, gateway_key="another"),
        ["seal the gateway's credentials at version 1"],
    ),
    "a server that moved is told to the gateway and to the tenant": (
        PLAIN,
        replace(COMPLETE, address="db-2:5432/pw"),
        ["seal the gateway's credentials at version 1", "write the connection Secret in team-a"],
    ),
    "an address that both have been told is not told again": (
        PLAIN,
        replace(
            COMPLETE,
            address="db-2:5432/pw",
            registration=replace(REGISTRATION, bundle_address="db-2:5432/pw"),
            connections={"team-a": {"metadata": {"annotations": TOLD}}},
        ),
        [],
    ),
    "a Vault policy that was changed by hand is written again": (
        PLAIN,
        replace(COMPLETE, secret_access=replace(ACCESS, policy="path *")),
        ["grant access to the tenant's Vault path"],
    ),
    "a tenant becomes Active when everything is there": (
        PLAIN,
        replace(COMPLETE, registration=replace(REGISTRATION, state="Provisioning")),
        ["mark the tenant Active"],
    ),
    "while Vault does not answer the other parts go on": (
        PLAIN,
        replace(
            COMPLETE,
            secret_access=Unknown(reason="Unreachable", message="Vault did not answer"),
            children={**COMPLETE.children, objects.possible("team-a")[2]: None},
        ),
        ["apply ServiceAccount team-a/pipewright"],
    ),
}


@pytest.mark.parametrize("sentence", PLANS)
def test_plan(sentence: str) -> None:
    subject, observed, expected = PLANS[sentence]
    assert sentences(plan_tenant(subject, observed)) == expected


def test_a_namespace_of_somebody_else_is_never_touched() -> None:
    foreign = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "uid": "foreign"}}
    observed = replace(
        COMPLETE, namespaces={"team-a": foreign}, registration=replace(REGISTRATION, namespaces={})
    )
    plan = plan_tenant(PLAIN, observed)
    assert sentences(plan) == []
    [fact] = [fact for fact in plan.facts if fact.type == "NamespacesReady"]
    assert (fact.status, fact.reason, fact.stalled) == (False, "NamespaceOwnedByOther", True)
    assert "team-a" in fact.message


EXTENDED = replace(SERVERS[0], extensions=("citext", "pg_trgm"))


def test_extensions_that_the_server_allows_are_made_one_by_one_and_none_is_dropped() -> None:
    wish = tenant(database={"extensions": ["citext", "pg_trgm"]})
    plan = plan_tenant(wish, replace(complete(wish), servers=(EXTENDED,)))
    assert [[str(action) for action in chain.actions] for chain in plan.chains] == [
        ["create extension citext"],
        ["create extension pg_trgm"],
    ]
    has = replace(DATABASE, extensions=frozenset({"citext", "pg_trgm"}))
    assert plan_tenant(wish, replace(complete(wish), servers=(EXTENDED,), database=has)).is_empty
    assert plan_tenant(PLAIN, replace(COMPLETE, servers=(EXTENDED,), database=has)).is_empty


def test_an_extension_that_the_settings_do_not_allow_is_said_and_the_others_are_made() -> None:
    wish = tenant(database={"extensions": ["citext", "dblink"]})
    plan = plan_tenant(wish, replace(complete(wish), servers=(EXTENDED,)))
    assert sentences(plan) == ["create extension citext"]
    [fact] = [fact for fact in plan.facts if fact.reason == "ExtensionNotAllowed"]
    assert (fact.type, fact.status, fact.stalled) == ("DatabaseReady", False, True)
    assert "does not allow the extensions dblink; it allows citext, pg_trgm" in fact.message


FOREIGN = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "uid": "foreign"}}


def test_nobody_elses_namespace_gets_a_grant_or_our_connection() -> None:
    observed = replace(
        COMPLETE,
        namespaces={"team-a": FOREIGN},
        registration=replace(REGISTRATION, namespaces={}, bundle_version=None),
        children={},
        connections={},
        wanted_access=None,
        secret_access=None,
    )
    assert sentences(plan_tenant(PLAIN, observed)) == []


def test_retaining_takes_no_binding_from_somebody_elses_namespace() -> None:
    observed = replace(
        GOING,
        namespaces={"team-a": FOREIGN},
        registration=replace(REGISTRATION, state="Deleting", namespaces={}),
        children={},
    )
    assert sentences(plan_teardown(RETAINING, observed)) == ["disable database logins"]


def test_a_tenant_of_another_server_is_left_alone() -> None:
    elsewhere = Unknown(reason="UnknownServer", message="it is on another server")
    assert sentences(plan_tenant(PLAIN, replace(COMPLETE, database=elsewhere, credential_version=2))) == []
    gone = replace(GOING, namespaces={"team-a": None}, database=elsewhere)
    plan = plan_teardown(DELETING, gone)
    assert plan.is_empty
    assert [fact.reason for fact in plan.facts] == ["UnknownServer"]


def test_a_database_with_another_owner_is_never_touched() -> None:
    plan = plan_tenant(PLAIN, replace(COMPLETE, database=replace(DATABASE, owner_uid="someone-else")))
    assert sentences(plan) == []
    assert [fact.reason for fact in plan.facts if fact.stalled] == ["DatabaseOwnedByOther"]


def test_an_unreachable_database_server_is_said_and_looked_at_again() -> None:
    plan = plan_tenant(PLAIN, replace(COMPLETE, database=Unknown(reason="Unreachable", message="no answer")))
    assert plan.is_empty
    assert plan.check_after is not None
    assert ("DatabaseReady", False, "Unreachable") in {(f.type, f.status, f.reason) for f in plan.facts}


def test_every_fact_of_a_complete_tenant_is_true() -> None:
    facts = plan_tenant(PLAIN, COMPLETE).facts
    assert {fact.type for fact in facts} == {
        "NamespacesReady",
        "AccessReady",
        "NetworkReady",
        "DatabaseReady",
        "SecretsReady",
    }
    assert all(fact.status for fact in facts)


DELETING = tenant(deleting=True, deletionPolicy="Delete", finalDump="Skip")
RETAINING = tenant(deleting=True)
GOING = replace(complete(DELETING), registration=replace(REGISTRATION, state="Deleting"))
RUN = {
    "apiVersion": "pipewright.dev/v1alpha1",
    "kind": "Integration",
    "metadata": {"name": "github", "namespace": "team-a", "uid": "integration-uid"},
}

TEARDOWNS: dict[str, tuple[Tenant, Observed, list[str]]] = {
    "a tenant that never was is deletable at once": (DELETING, Observed(gateway_key="key"), []),
    "freezing comes first": (
        DELETING,
        replace(GOING, registration=REGISTRATION),
        ["mark the tenant Deleting"],
    ),
    "custom resources go before their namespaces": (
        DELETING,
        replace(GOING, resources=(RUN,)),
        ["delete Integration team-a/github"],
    ),
    "namespaces go before the database": (DELETING, GOING, ["delete Namespace team-a"]),
    "the database goes when the namespaces are gone": (
        DELETING,
        replace(GOING, namespaces={"team-a": None}),
        ["drop the database"],
    ),
    "Vault access goes when the database is gone": (
        DELETING,
        replace(GOING, namespaces={"team-a": None}, database=None),
        ["revoke access to the tenant's Vault path"],
    ),
    "before the mark each stage is done once more: a crash may have cut one short": (
        DELETING,
        replace(GOING, namespaces={"team-a": None}, database=None, secret_access=None),
        [
            "drop the database",
            "revoke access to the tenant's Vault path",
            "purge the tenant's Vault path",
            "mark the tenant Deleted",
        ],
    ),
    "a deleted tenant needs nothing any more": (
        DELETING,
        Observed(gateway_key="key", registration=replace(REGISTRATION, state="Deleted")),
        [],
    ),
    "Retain takes the bindings away and leaves the namespaces": (
        RETAINING,
        GOING,
        [
            "delete RoleBinding team-a/pipewright-provisioner",
            "delete RoleBinding team-a/pipewright-runner",
        ],
    ),
    "Retain disables the logins and keeps the database": (
        RETAINING,
        replace(GOING, children={}),
        ["disable database logins"],
    ),
    "Retain keeps what Vault holds": (
        RETAINING,
        replace(
            GOING,
            children={},
            secret_access=None,
            database=replace(DATABASE, logins={"app_a": Login(enabled=False, version=1)}),
        ),
        [
            "disable database logins",
            "revoke access to the tenant's Vault path",
            "mark the tenant Retained",
        ],
    ),
    "somebody else's namespace and database stay where they are": (
        DELETING,
        replace(
            GOING,
            namespaces={"team-a": {"metadata": {"name": "team-a", "uid": "foreign"}}},
            registration=replace(REGISTRATION, state="Deleting", namespaces={}),
            database=replace(DATABASE, owner_uid="someone-else"),
            secret_access=None,
        ),
        [
            "revoke access to the tenant's Vault path",
            "purge the tenant's Vault path",
            "mark the tenant Deleted",
        ],
    ),
}


@pytest.mark.parametrize("sentence", TEARDOWNS)
def test_teardown(sentence: str) -> None:
    subject, observed, expected = TEARDOWNS[sentence]
    assert sentences(plan_teardown(subject, observed)) == expected


def test_a_namespace_that_is_going_is_waited_for() -> None:
    going = {**COMPLETE.namespaces["team-a"]}  # type: ignore[dict-item]
    going["metadata"] = {**going["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    plan = plan_teardown(DELETING, replace(GOING, namespaces={"team-a": going}))
    assert plan.is_empty
    assert plan.check_after is not None
    assert "team-a" in plan.facts[0].message


def test_a_sealed_vault_holds_the_teardown_and_says_so() -> None:
    observed = replace(
        GOING,
        namespaces={"team-a": None},
        database=None,
        secret_access=Unknown(reason="Unreachable", message="Vault answered VaultDown"),
    )
    plan = plan_teardown(DELETING, observed)
    assert plan.is_empty
    assert [fact.reason for fact in plan.facts] == ["Unreachable"]
