"""A Tenant's wrapping key in a real Vault, rotated while events come in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg

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
