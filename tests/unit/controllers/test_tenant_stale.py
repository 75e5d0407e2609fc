"""A plan that was made for a Tenant whose place another has taken meanwhile: it takes nothing away."""

from __future__ import annotations

import pytest

from pipewright import actions as act
from pipewright import errors
from pipewright.actions import ProvisionerAction
from pipewright.apply import provisioner
from tests.unit.controllers.test_tenant_crash import HEIR, UID, World, tenant


@pytest.mark.parametrize("late", [act.RevokeSecretAccess, act.PurgeSecrets])
async def test_what_the_heir_has_is_not_taken_away_by_the_owner_before(
    late: type[act.RevokeSecretAccess] | type[act.PurgeSecrets],
) -> None:
    world = World()
    await world.settle(tenant())
    made = await world.registry.find(uid=UID)
    assert made is not None
    await world.registry.rebind(made.id, uid=HEIR, name="heir", previous_uid=UID, namespaces=())
    before = await world.state(HEIR)
    action: ProvisionerAction = late(tenant_id=made.id, uid=UID)
    with pytest.raises(errors.OwnedByOther, match=HEIR):
        await provisioner.perform(action, ports=world.ports)
    assert await world.state(HEIR) == before
    wrapped = await world.registry.wrapped_data_key(made.id)
    assert wrapped is not None
    await world.keys.open(made.id, wrapped)


async def test_a_namespace_is_not_bound_for_the_owner_before() -> None:
    world = World()
    await world.settle(tenant())
    made = await world.registry.find(uid=UID)
    assert made is not None
    await world.registry.rebind(made.id, uid=HEIR, name="heir", previous_uid=UID, namespaces=())
    bind = act.BindNamespace(tenant_id=made.id, name="late", uid="some-uid", tenant_uid=UID)
    with pytest.raises(errors.OwnedByOther, match=HEIR):
        await provisioner.perform(bind, ports=world.ports)
