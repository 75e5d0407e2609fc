"""A Tenant's secrets in a real Vault: the wrapping key is rotated, and short-lived logins are lent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from dev.problem import Problem
from dev.stack import Stack
from pipewright import names


def test_the_wrapping_key_is_rotated_on_demand_and_the_data_key_stays(
    tenants: Any, stack: Stack, eventually: Any
) -> None:
    tenant = tenants.ready()
    name, tenant_id = tenant["metadata"]["name"], tenant["status"]["id"]
    vault = stack.parts.vault()

    def row() -> tuple[str, bytes]:
        with psycopg.connect(stack.parts.database().admin_dsn, dbname="pipewright") as platform:
            found = platform.execute(
                "SELECT wrapped_data_key, bundle FROM pipewright.registry WHERE id = %s", [tenant_id]
            ).fetchone()
        assert found is not None
        return found

    def opened(wrapped: str) -> str:
        answer = vault.call("POST", f"transit/decrypt/{tenant_id}", {"ciphertext": wrapped})
        return str(answer["data"]["plaintext"])

    wrapped, bundle = row()
    assert wrapped.startswith("vault:v1:")
    key = opened(wrapped)
    # the key was made in this second; what is asked for must be later
    eventually(lambda: datetime.now(UTC).timestamp() - _made(vault, tenant_id) >= 1)
    asked = f"{names.ROTATE_DATA_KEY_ANNOTATION}={datetime.now(UTC).isoformat()}"
    tenants.kubectl.run("annotate", "tenant", name, "--overwrite", asked)
    newer, still = eventually(
        lambda: found if (found := row())[0].startswith("vault:v2:") else None, says="the key is wrapped anew"
    )
    assert opened(newer) == key
    assert still == bundle
    tenants.wait_ready(name)
    assert vault.call("GET", f"transit/keys/{tenant_id}")["data"]["latest_version"] == 2


def _made(vault: Any, tenant_id: str) -> float:
    return float(vault.call("GET", f"transit/keys/{tenant_id}")["data"]["keys"]["1"])


def test_a_tenants_own_account_gets_short_lived_logins_until_it_is_suspended_or_asks_no_more(
    tenants: Any, stack: Stack, eventually: Any
) -> None:
    wish = {"ttl": "10m", "maxLogins": 2}
    tenant = tenants.ready(database={"dynamicCredentials": wish})
    name, vault = tenant["metadata"]["name"], stack.parts.vault()
    secret, path = tenants.secret(name), tenant["status"]["vault"]["credentials"]
    token = _token(tenants, stack, tenant)

    def session(lent: Any) -> psycopg.Connection[Any]:
        where = {key: secret[key] for key in ("host", "port", "dbname")}
        who = {"user": lent["data"]["username"], "password": lent["data"]["password"]}
        return psycopg.connect(**where, **who, connect_timeout=5, autocommit=True)

    def patch(**spec: Any) -> None:
        tenants.kubectl.run("patch", "tenant", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    lent = vault.call("GET", path, token=token)
    assert lent["lease_duration"] == 600
    with session(lent) as own:
        own.execute("CREATE TABLE made (id int)")
        patch(suspended=True)
        eventually(lambda: _reason(tenants.get(name), "Suspended") == "Suspended", says="it is suspended")
        with pytest.raises(psycopg.OperationalError):
            own.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        session(lent)
    with pytest.raises(Problem, match="403"):
        vault.call("GET", path, token=token)

    patch(suspended=False)
    tenants.wait_ready(name)
    with session(lent) as own:
        assert own.execute("SELECT count(*) FROM made").fetchone() == (0,)
    with psycopg.connect(secret["uri"]) as owner:
        owner.execute("INSERT INTO made VALUES (1)")

    patch(database={"dynamicCredentials": None})
    tenants.wait_ready(name)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        session(lent)
    with pytest.raises(Problem, match="403"):
        vault.call("GET", path, token=_token(tenants, stack, tenant))
    assert "credentials" not in tenants.get(name)["status"]["vault"]


def _token(tenants: Any, stack: Stack, tenant: Any) -> str:
    jwt = tenants.kubectl.token("pipewright", namespace=tenant["metadata"]["name"], audience="vault")
    return stack.parts.vault().login(tenant["status"]["vault"]["role"], jwt)


def _reason(tenant: Any, aspect: str) -> str | None:
    conditions = (tenant.get("status") or {}).get("conditions") or []
    return next((it["reason"] for it in conditions if it["type"] == aspect), None)
