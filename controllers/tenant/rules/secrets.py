"""The tenant's way into Vault, its connection Secret, and what is sealed for the gateway."""

from __future__ import annotations

from collections.abc import Iterable

from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.rules.database import are_set
from controllers.tenant.rules.rotation import noted_version
from controllers.tenant.rules.words import SECRETS, Plan, unknown
from pipewright import actions as act
from pipewright.actions import ProvisionerAction
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Database, Registration
from pipewright.plan import chain, merge, says

THERE = "the tenant's Vault path and connection Secret are there"
SHUT = "the tenant's connection Secret is there; its way into Vault is suspended"


def secrets(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Vault lets the tenant in, and each projection of the credentials is at their version."""
    access, version, wanted = observed.secret_access, observed.credential_version, observed.wanted_access
    for part in (access, version, observed.database, *observed.connections.values()):
        if isinstance(part, Unknown):
            return unknown(SECRETS, part)
    if wanted is None or access == wanted or tenant.spec.suspended:
        grant: tuple[ProvisionerAction, ...] = ()
    else:
        grant = (act.GrantSecretAccess(tenant_id=registration.id, namespaces=wanted.namespaces),)
    if not isinstance(version, int) or not observed.connections:
        waits = says(SECRETS, False, "Progressing", "comes when the namespaces and the credentials are there")
        return merge(chain(SECRETS, *grant), waits)
    sealed = (registration.bundle_version, registration.bundle_key) == (version, observed.gateway_key)
    # a rotation reaches the bundle, then the database, then what clients read: each finds the door open
    rotating = registration.bundle_version not in (None, version) or (
        version > 1 and not (isinstance(observed.database, Database) and are_set(observed.database, version))
    )
    return merge(
        chain(
            SECRETS,
            *grant,
            *(() if sealed else (act.SealGatewayBundle(tenant_id=registration.id, version=version),)),
            *(() if rotating else _projections(tenant, registration, observed, version)),
        ),
        says(SECRETS, True, SECRETS, SHUT if tenant.spec.suspended else THERE),
    )


def _projections(
    tenant: Tenant, registration: Registration, observed: Observed, version: int
) -> Iterable[ProvisionerAction]:
    for namespace, found in observed.connections.items():
        assert not isinstance(found, Unknown)
        if noted_version(found) != version:
            yield act.ProjectConnection(
                tenant_id=registration.id,
                uid=tenant.uid,
                tenant_name=tenant.name,
                namespace=namespace,
                version=version,
            )
