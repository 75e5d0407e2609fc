"""For which tenants the runner does anything, and how soon it looks again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pipewright import errors
from pipewright.runner_facts import TenantRef, require_active

TENANT = TenantRef(id="abcdefghjkmn", uid="tenant-uid", name="acme", state="Active", server="main")
SUSPENDED = replace(TENANT, state="Suspended")


def test_an_active_tenant_is_served() -> None:
    assert require_active(TENANT, namespace="acme") is TENANT


WAITS = {
    "no tenant": (None, "NoTenant", 30),
    "a tenant on its way": (replace(TENANT, state="Restoring"), "TenantNotActive", 5),
    "a suspended tenant": (SUSPENDED, "TenantSuspended", 30),
}


@pytest.mark.parametrize(("found", "reason", "seconds"), WAITS.values(), ids=WAITS)
def test_any_other_is_waited_for(found: TenantRef | None, reason: str, seconds: int) -> None:
    with pytest.raises(errors.Waiting) as waits:
        require_active(found, namespace="acme")
    assert (waits.value.reason, waits.value.after) == (reason, timedelta(seconds=seconds))


def test_what_looks_after_its_own_is_given_a_suspended_tenant() -> None:
    assert require_active(SUSPENDED, namespace="acme", or_suspended=True) is SUSPENDED
