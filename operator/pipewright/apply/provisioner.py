"""The provisioner's actions as port calls.

Secret values are only here and in `credentials`, between two ports: order is the secret store by
check-and-set, then the database, then the projections, so that a crash in between finds the values again.
"""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import assert_never
from urllib.parse import quote

from pipewright import errors, names
from pipewright.actions import ProvisionerAction, objects, tenant
from pipewright.apply.credentials import Credentials
from pipewright.facts import Sweep, active_login, standby_login
from pipewright.plan import Ref
from pipewright.ports import ProvisionerPorts, Secret

UPGRADE_TURN = timedelta(seconds=30)
AGAIN = timedelta(seconds=1)
"""When to look again at what changed between a look and a write."""


async def perform(
    action: ProvisionerAction, *, ports: ProvisionerPorts, credentials: Credentials | None = None
) -> None:
    """Do one action. The ports are those `at` the tenant's own server, the credentials those of the pass."""
    credentials = credentials or Credentials(ports.secrets)
    match action:
        case objects.ApplyObject():
            await ports.cluster.apply(action.manifest)
        case objects.CreateObject():
            await ports.cluster.create(action.manifest)
        case objects.CorrectDrift():
            await ports.cluster.apply(action.manifest)
        case objects.DeleteObject():
            await ports.cluster.delete(action.ref, uid=action.uid)
        case objects.RemoveMetadata():
            await ports.cluster.remove_metadata(
                action.ref, uid=action.uid, labels=action.labels, annotations=action.annotations
            )
        case tenant.RegisterTenant():
            await ports.registry.register(uid=action.uid, name=action.name, servers=action.servers)
        case tenant.CreateNamespace():
            await _create_namespace(action, ports)
        case tenant.BindNamespace():
            await ports.registry.bind_namespace(
                action.tenant_id, name=action.name, uid=action.uid, owner=action.tenant_uid
            )
        case tenant.UnbindNamespace():
            await ports.registry.unbind_namespace(action.tenant_id, name=action.name, uid=action.uid)
        case tenant.IssueCredentials():
            await credentials.issue(action.tenant_id, owner=action.uid)
        case tenant.CreateDatabase():
            await ports.databases.create(
                action.tenant_id, uid=action.uid, connection_limit=action.connection_limit
            )
        case tenant.LimitConnections():
            await ports.databases.limit_connections(
                action.tenant_id, connection_limit=action.connection_limit
            )
        case tenant.MigrateDatabase():
            await _migrate_database(action, ports)
        case tenant.CreateExtension():
            await ports.databases.create_extension(action.tenant_id, name=action.name)
        case tenant.SetLogins():
            await _set_logins(action, ports, credentials)
        case tenant.RotateCredentials():
            await credentials.rotate(action.tenant_id, expected=action.version)
        case tenant.BeginOverlap():
            await ports.logins.begin_overlap(action.tenant_id, purpose=action.purpose, at=action.at)
        case tenant.RetireLogin():
            await _retire_login(action, ports, credentials)
        case tenant.ProjectConnection():
            await _project_connection(action, ports, credentials)
        case tenant.GrantSecretAccess():
            await ports.grants.grant(action.tenant_id, namespaces=action.namespaces, dynamic=action.dynamic)
        case tenant.GrantDatabaseRole():
            await ports.grants.grant_database_role(action.tenant_id, action.terms)
        case tenant.WithdrawDatabaseRole():
            await ports.grants.withdraw_database_role(action.tenant_id)
        case tenant.OpenDynamicLogins():
            await ports.logins.open_dynamic(action.tenant_id, uid=action.uid)
        case tenant.CloseDynamicLogins():
            await ports.logins.close_dynamic(action.tenant_id, uid=action.uid)
        case tenant.DropEndedLogins():
            await ports.logins.drop_ended(action.tenant_id, uid=action.uid)
        case tenant.SealGatewayBundle():
            await _seal_gateway_bundle(action, ports, credentials)
        case tenant.RotateDataKey():
            await ports.data_keys.rotate(action.tenant_id, expected=action.version)
        case tenant.RewrapDataKey():
            await _rewrap_data_key(action, ports)
        case tenant.MarkTenant():
            await ports.registry.mark(
                action.tenant_id, uid=action.uid, state=action.state, abandoned=action.abandoned
            )
        case tenant.DisableLogins():
            await ports.logins.disable(action.tenant_id, uid=action.uid)
        case tenant.SuspendLogins():
            await ports.logins.suspend(action.tenant_id, uid=action.uid)
        case tenant.ResumeLogins():
            await ports.logins.resume(action.tenant_id, uid=action.uid)
        case tenant.TakeDump():
            dump = await ports.dumps.take(action.tenant_id, uid=action.uid)
            await ports.registry.record_dump(action.tenant_id, dump)
        case tenant.RebindTenant():
            await ports.registry.rebind(
                action.tenant_id,
                uid=action.uid,
                name=action.name,
                previous_uid=action.previous_uid,
                namespaces=action.namespaces,
            )
        case tenant.HandOverDatabase():
            await ports.databases.hand_over(action.tenant_id, uid=action.uid, previous=action.previous)
        case tenant.HandOverSecrets():
            await ports.secrets.hand_over(action.tenant_id, owner=action.uid, previous=action.previous)
        case tenant.RenewCredentials():
            await credentials.renew(action.tenant_id, expected=action.version)
        case tenant.DropDatabase():
            await ports.databases.drop(action.tenant_id, uid=action.uid)
        case tenant.RevokeSecretAccess():
            await ports.registry.confirm(action.tenant_id, uid=action.uid)
            await ports.grants.revoke(action.tenant_id)
        case tenant.PurgeSecrets():
            await ports.registry.confirm(action.tenant_id, uid=action.uid)
            await ports.secrets.purge(action.tenant_id, owner=action.uid)
            await ports.data_keys.destroy(action.tenant_id)
        case tenant.RecordProof():
            assert ports.isolation is not None  # it made the proof
            await ports.isolation.proofs.record(action.tenant_id, action.proof)
        case tenant.ExpireHistory():
            await _expire_history(action, ports)
        case _:
            assert_never(action)


async def _create_namespace(action: tenant.CreateNamespace, ports: ProvisionerPorts) -> None:
    ref = Ref.of(action.manifest)
    found = await ports.cluster.create(action.manifest) or await ports.cluster.get(ref)
    # the label tells whose it is: it may have been there already
    metadata = found["metadata"] if found is not None else {}
    if (metadata.get("labels") or {}).get(names.UID_LABEL) != action.uid or "deletionTimestamp" in metadata:
        raise errors.Waiting("NamespaceAppeared", f"the {ref} appeared or went meanwhile", after=AGAIN)
    await ports.registry.bind_namespace(
        action.tenant_id, name=ref.name, uid=metadata["uid"], owner=action.uid
    )


async def _migrate_database(action: tenant.MigrateDatabase, ports: ProvisionerPorts) -> None:
    if not await ports.registry.begin_upgrade(action.tenant_id):
        raise errors.Waiting("UpgradeWaits", "another tenant is upgraded first", after=UPGRADE_TURN)
    try:
        await ports.databases.migrate(action.tenant_id)
    except (errors.Unreachable, errors.Conflict):
        raise  # says nothing about the revision: it is tried again
    except errors.BackendError as broken:
        await ports.registry.fail_upgrade(action.tenant_id, reason=broken.message)
        raise
    await ports.registry.finish_upgrade(action.tenant_id)


async def _set_logins(action: tenant.SetLogins, ports: ProvisionerPorts, credentials: Credentials) -> None:
    passwords = await credentials.of(action.tenant_id, version=action.version)
    standby = standby_login(action.version)
    await ports.logins.set(
        action.tenant_id,
        passwords={purpose: it for purpose, it in passwords.items() if purpose != standby},
        version=action.version,
        granted=action.granted,
        suspended=action.suspended,
    )


async def _retire_login(
    action: tenant.RetireLogin, ports: ProvisionerPorts, credentials: Credentials
) -> None:
    await ports.logins.retire(action.tenant_id, purpose=action.purpose, uid=action.uid)
    old = (await credentials.newest(action.tenant_id))[action.purpose]
    if not await ports.logins.is_refused(action.tenant_id, purpose=action.purpose, password=old):
        where = ports.logins.connection(action.tenant_id)
        raise errors.BackendError(
            f"server {where.server} still accepts the old password of login"
            f" {ports.logins.username(action.tenant_id, action.purpose)}: look at its pg_hba.conf"
        )
    await ports.logins.note_refused(action.tenant_id, purpose=action.purpose, at=action.at)


async def _expire_history(action: tenant.ExpireHistory, ports: ProvisionerPorts) -> None:
    expired = await ports.databases.expire_history(
        action.tenant_id, events_before=action.events_before, runs_before=action.runs_before
    )
    audit, finished = await ports.registry.expire_audit(action.tenant_id, before=action.audit_before)
    counts = {**expired.counts, **({"audit": audit} if audit else {})}
    sweep = Sweep(at=action.at, finished=expired.finished and finished)
    await ports.registry.record_sweep(action.tenant_id, sweep, counts=counts)
    if ports.sweeps is not None:
        ports.sweeps.saw(action.tenant_id, sweep, counts=counts)


async def _project_connection(
    action: tenant.ProjectConnection, ports: ProvisionerPorts, credentials: Credentials
) -> None:
    passwords = await credentials.of(action.tenant_id, version=action.version)
    where = ports.logins.connection(action.tenant_id)
    active = active_login(action.version)
    user, password = ports.logins.username(action.tenant_id, active), passwords[active].reveal()
    fields = {
        "host": where.host,
        "port": str(where.port),
        "dbname": where.database,
        "user": user,
        "password": password,
        "uri": f"postgresql://{user}:{quote(password, safe='')}@{where.host}:{where.port}/{where.database}",
    }
    if ports.grants.available:
        await ports.secrets.write(
            names.user_path(action.tenant_id), {name: Secret(value) for name, value in fields.items()}
        )
    await ports.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": names.CONNECTION_SECRET,
                "namespace": action.namespace,
                "labels": {
                    names.TENANT_LABEL: action.tenant_name,
                    names.ID_LABEL: action.tenant_id,
                    names.UID_LABEL: action.uid,
                },
                "annotations": {
                    names.VERSION_ANNOTATION: str(action.version),
                    names.ADDRESS_ANNOTATION: where.address,
                },
            },
            "type": "Opaque",
            "data": {name: base64.b64encode(value.encode()).decode() for name, value in fields.items()},
        }
    )


async def _seal_gateway_bundle(
    action: tenant.SealGatewayBundle, ports: ProvisionerPorts, credentials: Credentials
) -> None:
    passwords = await credentials.of(action.tenant_id, version=action.version)
    # 0 would be the newest to Vault
    last = action.version - 1
    before = await credentials.find(action.tenant_id, version=last) if last else None
    wrapped = await ports.registry.wrapped_data_key(action.tenant_id)
    if wrapped is None:
        wrapped, data_key = await ports.data_keys.create(action.tenant_id)
    else:
        data_key = await ports.data_keys.open(action.tenant_id, wrapped)
    where = ports.logins.connection(action.tenant_id)
    bundle = {
        "host": where.host,
        "port": where.port,
        "dbname": where.database,
        "user": ports.logins.username(action.tenant_id, "ingest"),
        "password": passwords["ingest"].reveal(),
        # sealed before PostgreSQL is told, so until then the gateway comes in by the one before
        "previousPassword": before["ingest"].reveal() if before and "ingest" in before else None,
        "dataKey": data_key.reveal(),
    }
    sealed = ports.sealer.seal(json.dumps(bundle).encode(), context=names.bundle_context(action.tenant_id))
    await ports.registry.store_bundle(
        action.tenant_id,
        version=action.version,
        key=ports.sealer.key,
        address=where.address,
        bundle=sealed,
        wrapped_data_key=wrapped,
    )


async def _rewrap_data_key(action: tenant.RewrapDataKey, ports: ProvisionerPorts) -> None:
    wrapped = await ports.registry.wrapped_data_key(action.tenant_id)
    if wrapped is not None:
        newer = await ports.data_keys.rewrap(action.tenant_id, wrapped)
        await ports.registry.replace_data_key(action.tenant_id, expected=wrapped, wrapped=newer)
