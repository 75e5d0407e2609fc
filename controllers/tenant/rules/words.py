"""The words that a Tenant's rules share: its conditions, its waits, and what to say of a silent server."""

from __future__ import annotations

from datetime import timedelta

from controllers.tenant.observed import Unknown
from pipewright import plan
from pipewright.actions import ProvisionerAction
from pipewright.plan import says

Plan = plan.Plan[ProvisionerAction]

NAMESPACES = "NamespacesReady"
ACCESS = "AccessReady"
NETWORK = "NetworkReady"
DATABASE = "DatabaseReady"
SECRETS = "SecretsReady"
CONDITIONS = (NAMESPACES, ACCESS, NETWORK, DATABASE, SECRETS)

RETRY = timedelta(seconds=10)
"""When to look again at a server that did not answer."""
SOON = timedelta(seconds=1)
"""When to look again at what is going away or coming into effect by itself."""


def unknown(aspect: str, part: Unknown) -> Plan:
    """Nothing is known of this part, so nothing is done about it until its server answers."""
    return Plan(facts=says(aspect, False, part.reason, part.message).facts, check_after=RETRY)
