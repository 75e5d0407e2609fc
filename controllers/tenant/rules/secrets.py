"""The tenant's way into Vault, its connection Secret, and what is sealed for the gateway."""

from __future__ import annotations

from collections.abc import Iterable

from controllers.tenant.observed import Observed, Unknown, credentials_to_be, missing_namespaces
from controllers.tenant.rules import dynamic
from controllers.tenant.rules.database import are_set
from controllers.tenant.rules.rotation import noted_version
from controllers.tenant.rules.words import ACCESS, DATABASE, NAMESPACES, SECRETS, Plan, unknown
from pipewright import actions as act
from pipewright import names
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
    if (
        wanted is None
        or tenant.spec.suspended
        or dynamic.without_role(access) == dynamic.without_role(wanted)
    ):
        grant: tuple[ProvisionerAction, ...] = ()
    else:
        # a role that goes does so before the policy, which says whether there is one to look for
        withdraw = dynamic.withdrawal(registration, access, wanted)
        grant = (*withdraw, _grant(tenant, registration, observed, wanted.namespaces))
    # a rotation reaches the bundle, then the database, then what clients read: each finds the door open
    rotating = isinstance(version, int) and (
        registration.bundle_version not in (None, version)
        or (
            version > 1
            and not (isinstance(observed.database, Database) and are_set(observed.database, version))
        )
    )
    new = merge(
        Plan() if rotating else _in_new_namespaces(tenant, registration, observed),
        dynamic.role(tenant, registration, observed),
    )
    if not isinstance(version, int) or not observed.connections:
        waits = says(SECRETS, False, "Progressing", "comes when the namespaces and the credentials are there")
        return merge(chain(SECRETS, *grant), new, waits)
    bundle = (registration.bundle_version, registration.bundle_key, registration.bundle_address)
    sealed = bundle == (version, observed.gateway_key, observed.address)
    return merge(
        chain(
            SECRETS,
            *grant,
            *(() if sealed else (act.SealGatewayBundle(tenant_id=registration.id, version=version),)),
            *(() if rotating else _projections(tenant, registration, observed, version)),
        ),
        new,
        _there(tenant, observed),
    )


def _there(tenant: Tenant, observed: Observed) -> Plan:
    if observed.without_vault:
        message = (
            "the tenant's connection Secret is there; without Vault it has no path for secrets of its own"
        )
        return says(SECRETS, True, "WithoutVault", message)
    return says(SECRETS, True, SECRETS, SHUT if tenant.spec.suspended else THERE)


def _in_new_namespaces(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """The same for namespaces that are created in this look, once they are bound and the logins are set."""
    new, version = missing_namespaces(tenant, observed), credentials_to_be(registration, observed)
    if not new or version is None:
        return Plan()
    bound = observed.wanted_access.namespaces if observed.wanted_access is not None else ()
    sealed = bool(observed.connections) or registration.bundle_version is not None
    grant = _grant(tenant, registration, observed, tuple(sorted({*bound, *new})))
    return chain(
        SECRETS,
        *(() if observed.without_vault or tenant.spec.suspended else (grant,)),
        *(() if sealed else (act.SealGatewayBundle(tenant_id=registration.id, version=version),)),
        *(_projection(tenant, registration, name, version) for name in new),
        after=(NAMESPACES, ACCESS, DATABASE),
    )


def _grant(
    tenant: Tenant, registration: Registration, observed: Observed, namespaces: tuple[str, ...]
) -> act.GrantSecretAccess:
    return act.GrantSecretAccess(
        tenant_id=registration.id,
        namespaces=namespaces,
        dynamic=dynamic.terms(tenant, registration, available=observed.dynamic),
    )


def _projections(
    tenant: Tenant, registration: Registration, observed: Observed, version: int
) -> Iterable[ProvisionerAction]:
    for namespace, found in observed.connections.items():
        assert not isinstance(found, Unknown)
        if noted_version(found) != version or _noted_address(found) != observed.address:
            yield _projection(tenant, registration, namespace, version)


def _projection(
    tenant: Tenant, registration: Registration, namespace: str, version: int
) -> ProvisionerAction:
    return act.ProjectConnection(
        tenant_id=registration.id,
        uid=tenant.uid,
        tenant_name=tenant.name,
        namespace=namespace,
        version=version,
    )


def _noted_address(secret: object) -> str | None:
    annotations = secret.get("metadata", {}).get("annotations", {}) if isinstance(secret, dict) else {}
    noted: str | None = annotations.get(names.ADDRESS_ANNOTATION)
    return noted
