"""Upgrade of the tenants' schema to this release's: one tenant of each server first, then the others.

A failure stops the roll-out on that server, because the next tenant would most likely fail the same way. It
goes on when the one that failed was upgraded after all, when it is deleted, or with another release.

Until its turn a tenant's database is not ready: that this release serves the schema of before is not shown.
"""

from __future__ import annotations

from datetime import timedelta

from controllers.tenant.rules.words import DATABASE, Plan, requested
from pipewright import actions as act
from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Database, Registration, Rollout
from pipewright.plan import chain, says

TURN = timedelta(seconds=30)
"""When to look again whether the others may follow."""


def upgrade(tenant: Tenant, registration: Registration, database: Database) -> Plan:
    """Upgrade now, wait for the one that goes first, or stand still because one failed."""
    rollout, migrate = registration.rollout, act.MigrateDatabase(tenant_id=registration.id)
    first = rollout is not None and rollout.holder == registration.id
    if database.current:
        # a crash came between the upgrade and the word that it is done, or it was mended by hand
        return chain(DATABASE, migrate) if first and rollout and rollout.state != "Rolling" else Plan()
    if rollout is None or rollout.state == "Rolling":
        return chain(DATABASE, migrate)
    if not first:
        return _others(rollout)
    asked = requested(tenant, names.RETRY_UPGRADE_ANNOTATION)
    if rollout.state == "Failed" and (asked is None or asked <= rollout.at):
        message = (
            f"the schema could not be upgraded, and no other tenant of the server is: {rollout.reason}. Mend"
            f" it, then set the annotation {names.RETRY_UPGRADE_ANNOTATION} to the time of now"
        )
        return says(DATABASE, False, "UpgradeFailed", message, stalled=True)
    return chain(DATABASE, migrate)


def _others(rollout: Rollout) -> Plan:
    if rollout.state == "Failed":
        message = (
            f"the schema is not upgraded, because the upgrade of tenant {rollout.name} failed: see there"
        )
        reason = "UpgradeStopped"
    else:
        message, reason = f"tenant {rollout.name} is upgraded first", "UpgradeWaits"
    return Plan(facts=says(DATABASE, False, reason, message).facts, check_after=TURN)
