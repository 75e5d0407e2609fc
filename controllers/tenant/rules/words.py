"""The words that a Tenant's rules share: its conditions, its waits, and what to say of a silent server."""

from __future__ import annotations

from datetime import datetime, timedelta

from controllers.tenant.observed import Unknown
from pipewright import plan
from pipewright.actions import ProvisionerAction
from pipewright.api.v1alpha1 import Tenant
from pipewright.plan import says

Plan = plan.Plan[ProvisionerAction]

NAMESPACES = "NamespacesReady"
ACCESS = "AccessReady"
NETWORK = "NetworkReady"
DATABASE = "DatabaseReady"
SECRETS = "SecretsReady"
ASPECTS = (NAMESPACES, ACCESS, NETWORK, DATABASE, SECRETS)
"""What `Ready` sums up."""
SUSPENDED = "Suspended"
"""True is the abnormal state, so it counts for nothing among the others."""
ISOLATION = "IsolationVerified"
APART = (ISOLATION,)
"""A tenant works before its isolation was proved, and a hole is told by itself."""
CONDITIONS = (*ASPECTS, *APART)

RETRY = timedelta(seconds=10)
"""When to look again at a server that did not answer."""
SOON = timedelta(seconds=1)
"""When to look again at what is going away or coming into effect by itself."""


def requested(tenant: Tenant, annotation: str) -> datetime | None:
    """The time that an annotation of the Tenant names; None when there is none, or it is no RFC 3339."""
    return tenant.metadata.requested(annotation)


def unknown(aspect: str, part: Unknown) -> Plan:
    """Nothing is known of this part, so nothing is done about it until its server answers."""
    return Plan(facts=says(aspect, False, part.reason, part.message).facts, check_after=RETRY)
