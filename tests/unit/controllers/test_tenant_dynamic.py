"""Short-lived logins of a Tenant: what is planned, what is told, and what Vault runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controllers.tenant import status
from controllers.tenant.observed import Observed
from controllers.tenant.plan import plan_teardown, plan_tenant
from controllers.tenant.rules import suspension
from controllers.tenant.rules.dynamic import terms
from pipewright import actions as act
from pipewright import conditions
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import DatabaseRole, DynamicLogins, DynamicTerms
from pipewright.plan import Results
from pipewright.store import dynamic
from tests.unit.controllers.test_tenant_plan import (
    ACCESS,
    COMPLETE,
    DATABASE,
    ID,
    NOW,
    PLAIN,
    REGISTRATION,
    sentences,
    tenant,
)
from tests.unit.controllers.test_tenant_suspension import SILENT, STOPPED

ASKS = tenant(database={"dynamicCredentials": {"ttl": "15m", "maxLogins": 4}, "connectionLimit": 20})
STOPS = tenant(database={"dynamicCredentials": {}}, suspended=True)
LEAVES = tenant(database={"dynamicCredentials": {}}, deleting=True)
ASKING = replace(ACCESS, policy="… and logins")
LENT = replace(
    ASKING,
    database_role=DatabaseRole(
        path=f"database/creds/pipewright-tenant-{ID}",
        connection="main",
        creation=("…",),
        revocation=("…",),
        ttl=timedelta(minutes=15),
    ),
)
OPEN, SHUT = DynamicLogins(open=True, ended=0), DynamicLogins(open=False, ended=0)
ABLE = replace(COMPLETE, dynamic=True)
LENDING = replace(ABLE, database=replace(DATABASE, dynamic=OPEN), secret_access=LENT, wanted_access=LENT)
assert LENT.database_role
OTHERWISE = replace(LENT, database_role=replace(LENT.database_role, ttl=timedelta(minutes=1)))
BEGIN = "begin short-lived logins in Vault"
GRANT, WITHDRAW = "grant access to the tenant's Vault path", "end short-lived logins in Vault"
LET, CLOSE = "open the database to short-lived logins", "close the database to short-lived logins"

PLANS: dict[str, tuple[Tenant, Observed, list[str]]] = {
    "nobody asks": (PLAIN, ABLE, []),
    "asked for, both doors open": (ASKS, replace(ABLE, wanted_access=LENT), [GRANT, LET]),
    "at rest": (ASKS, LENDING, []),
    "the policy goes before the role": (ASKS, replace(LENDING, secret_access=ACCESS), [GRANT]),
    "Vault lacks its role": (ASKS, replace(LENDING, secret_access=ASKING), [BEGIN]),
    "Vault's role has other terms": (ASKS, replace(LENDING, secret_access=OTHERWISE), [BEGIN]),
    "a token may be renewed for another time": (
        ASKS,
        replace(LENDING, secret_access=replace(LENT, longest=timedelta(1))),
        [GRANT],
    ),
    "a Vault that does not answer holds the database not up": (
        ASKS,
        replace(ABLE, wanted_access=LENT, secret_access=SILENT),
        [LET],
    ),
    "closed by hand": (ASKS, replace(LENDING, database=replace(DATABASE, dynamic=SHUT)), [LET]),
    "taken out of the spec": (PLAIN, replace(LENDING, wanted_access=ACCESS), [WITHDRAW, GRANT, CLOSE]),
    "closed for good": (PLAIN, replace(ABLE, database=replace(DATABASE, dynamic=SHUT)), []),
    "what ended is dropped": (
        ASKS,
        replace(LENDING, database=replace(DATABASE, dynamic=replace(OPEN, ended=2))),
        ["drop short-lived logins that ended"],
    ),
    "suspended, the door is shut with the others": (
        STOPS,
        replace(STOPPED, dynamic=True, database=LENDING.database),
        ["suspend the tenant's database logins"],
    ),
    "suspended and shut": (
        STOPS,
        replace(
            STOPPED,
            dynamic=True,
            database=replace(STOPPED.database, dynamic=SHUT),  # type: ignore[type-var]
            wanted_access=LENT,
        ),
        [],
    ),
    "resumed, the policy comes first": (
        ASKS,
        replace(ABLE, database=LENDING.database, secret_access=None, wanted_access=LENT),
        [GRANT],
    ),
    "the settings lost the engine": (
        ASKS,
        replace(LENDING, dynamic=False, wanted_access=ACCESS),
        [WITHDRAW, GRANT, CLOSE],
    ),
}


@pytest.mark.parametrize("sentence", PLANS)
def test_plan(sentence: str) -> None:
    subject, observed, expected = PLANS[sentence]
    assert sorted(sentences(plan_tenant(subject, observed, NOW))) == sorted(expected)


def test_a_vault_without_a_connection_to_the_server_holds_nothing_else_up() -> None:
    observed = replace(LENDING, secret_access=ASKING, gateway_key="another")
    links = [list(map(str, link.actions)) for link in plan_tenant(ASKS, observed, NOW).chains]
    assert [BEGIN] in links
    assert len(links) > 1


def test_the_role_goes_before_the_policy_that_says_whether_to_look_for_it() -> None:
    planned = sentences(plan_tenant(PLAIN, replace(LENDING, wanted_access=ACCESS), NOW))
    assert planned.index(WITHDRAW) < planned.index(GRANT)


def test_the_terms_are_those_of_the_spec_on_the_tenants_own_server() -> None:
    expected = DynamicTerms(server="main", ttl=timedelta(minutes=15), logins=4, connection_limit=20)
    assert terms(ASKS, REGISTRATION, available=True) == expected
    planned = plan_tenant(ASKS, replace(ABLE, wanted_access=LENT), NOW)
    assert [it.dynamic for it in planned if isinstance(it, act.GrantSecretAccess)] == [expected]
    assert terms(ASKS, REGISTRATION, available=False) is None
    assert terms(PLAIN, REGISTRATION, available=True) is None


def told(subject: Tenant, observed: Observed, aspect: str) -> tuple[str, str, str]:
    planned = plan_tenant(subject, observed, NOW)
    projected = status.project(subject, observed, planned, Results(), now=NOW)
    found = conditions.find(projected.conditions, aspect)
    assert found is not None
    return found.status, found.reason, found.message


def test_who_asks_where_vault_makes_none_is_told() -> None:
    word, reason, message = told(ASKS, COMPLETE, "DatabaseReady")
    assert (word, reason) == ("False", "DynamicCredentialsUnavailable")
    assert "spec.database.dynamicCredentials" in message
    assert told(ASKS, COMPLETE, "Stalled")[0] == "True"
    assert told(ASKS, LENDING, "DatabaseReady")[0] == "True"


def test_a_suspended_tenant_is_not_stopped_while_short_lived_logins_come_in() -> None:
    observed = replace(STOPPED, database=replace(STOPPED.database, dynamic=OPEN))  # type: ignore[type-var]
    assert suspension.LOGINS in told(STOPS, observed, "Suspended")[2].partition("still to be stopped:")[2]


def test_status_names_the_path_only_while_vault_makes_logins() -> None:
    for observed, path in ((LENDING, f"database/creds/pipewright-tenant-{ID}"), (COMPLETE, None)):
        planned = plan_tenant(ASKS, observed, NOW)
        projected = status.project(ASKS, observed, planned, Results(), now=NOW)
        assert projected.vault
        assert projected.vault.credentials == path


def test_a_retained_database_is_shut_to_short_lived_logins_too() -> None:
    shut = {purpose: replace(login, enabled=False) for purpose, login in DATABASE.logins.items()}
    observed = replace(
        LENDING,
        registration=replace(REGISTRATION, state="Deleting", namespaces={}),
        children={},
        database=replace(DATABASE, logins=shut, dynamic=OPEN),
    )
    assert "disable database logins" in sentences(plan_teardown(LEAVES, observed))


def test_vault_gets_statements_that_it_does_not_cut_in_pieces() -> None:
    """It splits at semicolons, unless END stands outside of quotes."""
    made = dynamic.creation(ID, logins=4, connection_limit=20)
    for text in (*made, *dynamic.revocation()):
        assert "$$" not in text or " END " in text
    assert f"IN ROLE pw_{ID}_dynamic" in made[1]
    assert "'{{password}}'" in made[1]
    assert "CONNECTION LIMIT 20" in made[1]
    with pytest.raises(ValueError, match="12 lower-case letters"):
        dynamic.creation("a'; DROP", logins=1, connection_limit=1)
