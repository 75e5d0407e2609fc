"""A Tenant from wish to fact. Look, think, do, say: each once, in that order.

Killed anywhere in here, the next pass ends in the same state: it believes the world, not its notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from controllers.tenant import plan, prove, status
from controllers.tenant.observe import observe
from controllers.tenant.rules import isolation
from pipewright.api.v1alpha1.tenant import Tenant, TenantStatus
from pipewright.apply import apply, provisioner
from pipewright.apply.credentials import Credentials
from pipewright.facts import Server
from pipewright.outcome import Outcome
from pipewright.plan import merge

if TYPE_CHECKING:
    from pipewright.ports import Clock, ProvisionerPorts


async def reconcile(
    tenant: Tenant,
    *,
    ports: ProvisionerPorts,
    clock: Clock,
    servers: Sequence[Server],
    wrapping_key_every: timedelta | None = None,
) -> Outcome[TenantStatus]:
    """One pass. `servers` are those that a new tenant may be placed on; see `observe`.

    Raises:
        Unreachable: the API server or the registry did not answer; nothing was done.
    """
    observed = await observe(tenant, ports=ports, servers=servers, wrapping_key_every=wrapping_key_every)
    now, look = clock.now(), isolation.Look()
    registration = observed.registration
    if registration is not None and ports.rollouts is not None:
        ports.rollouts.saw(registration.server, registration.rollout)
    # of a server that is not served nothing is known, so nothing is planned there
    own = (ports.at(registration.server) if registration else None) or ports
    if tenant.deleting:
        wanted = plan.plan_teardown(tenant, observed)
        prove.forget(observed, ports=ports)
    else:
        wanted = plan.plan_tenant(tenant, observed, now)
        look = await prove.prove(tenant, observed, wanted, ports=own, now=now)
        wanted = merge(wanted, isolation.isolation(observed, look, period=prove.period(ports), now=now))
    perform = partial(provisioner.perform, ports=own, credentials=Credentials(own.secrets))
    results = isolation.loud(look, await apply(wanted, perform))
    return Outcome(
        status=status.project(tenant, observed, wanted, results, now=now),
        results=results,
        next_look=wanted.check_after,
        finished=tenant.deleting and wanted.is_empty and not wanted.facts,
    )
