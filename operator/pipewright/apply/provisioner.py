"""The provisioner's actions as port calls, and the only place where a tenant's secrets are generated.

Secret values live in local variables here between two ports and nowhere else: order is Vault by
check-and-set, then the database, then the projections, so that a crash in between finds the values again.
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import assert_never
from urllib.parse import quote

from pipewright import errors, names
from pipewright.actions import ProvisionerAction, objects, tenant
from pipewright.ports import LOGINS, ProvisionerPorts, Secret

PASSWORD_BYTES = 32
"""Entropy of a generated password; 43 characters of base64url."""


async def perform(action: ProvisionerAction, *, ports: ProvisionerPorts, server: str) -> None:
    """Do one action. `server` is the database server that a new tenant is placed on."""
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
            await ports.registry.register(uid=action.uid, name=action.name, server=server)
        case tenant.BindNamespace():
            await ports.registry.bind_namespace(action.tenant_id, name=action.name, uid=action.uid)
        case tenant.UnbindNamespace():
            await ports.registry.unbind_namespace(action.tenant_id, name=action.name, uid=action.uid)
        case tenant.IssueCredentials():
            await _issue_credentials(action, ports)
        case tenant.CreateDatabase():
            await ports.databases.create(
                action.tenant_id, uid=action.uid, connection_limit=action.connection_limit
            )
        case tenant.LimitConnections():
            await ports.databases.limit_connections(
                action.tenant_id, connection_limit=action.connection_limit
            )
        case tenant.MigrateDatabase():
            await ports.databases.migrate(action.tenant_id)
        case tenant.SetLogins():
            passwords = await _passwords(action.tenant_id, ports)
            await ports.logins.set(action.tenant_id, passwords=passwords, version=action.version)
        case tenant.ProjectConnection():
            await _project_connection(action, ports)
        case tenant.GrantSecretAccess():
            await ports.grants.grant(action.tenant_id, namespaces=action.namespaces)
        case tenant.SealGatewayBundle():
            await _seal_gateway_bundle(action, ports)
        case tenant.MarkTenant():
            await ports.registry.mark(action.tenant_id, state=action.state)
        case tenant.DisableLogins():
            await ports.logins.disable(action.tenant_id, uid=action.uid)
        case tenant.DropDatabase():
            await ports.databases.drop(action.tenant_id, uid=action.uid)
        case tenant.RevokeSecretAccess():
            await ports.grants.revoke(action.tenant_id)
        case tenant.PurgeSecrets():
            await ports.secrets.purge(action.tenant_id, owner=action.uid)
            await ports.data_keys.destroy(action.tenant_id)
        case _:
            assert_never(action)


async def _issue_credentials(action: tenant.IssueCredentials, ports: ProvisionerPorts) -> None:
    generated = {purpose: Secret(secrets.token_urlsafe(PASSWORD_BYTES)) for purpose in LOGINS}
    # False means that an earlier pass wrote them: theirs count, ours are forgotten
    await ports.secrets.create(names.platform_path(action.tenant_id), generated, owner=action.uid)


async def _passwords(tenant_id: str, ports: ProvisionerPorts) -> dict[str, Secret]:
    found = await ports.secrets.read(names.platform_path(tenant_id))
    if found is None:
        raise errors.Waiting(
            "CredentialsMissing", f"Vault has no credentials at {names.platform_path(tenant_id)} yet"
        )
    return dict(found)


async def _project_connection(action: tenant.ProjectConnection, ports: ProvisionerPorts) -> None:
    passwords = await _passwords(action.tenant_id, ports)
    where = ports.logins.connection(action.tenant_id)
    user, password = ports.logins.username(action.tenant_id, "app_a"), passwords["app_a"].reveal()
    fields = {
        "host": where.host,
        "port": str(where.port),
        "dbname": where.database,
        "user": user,
        "password": password,
        "uri": f"postgresql://{user}:{quote(password, safe='')}@{where.host}:{where.port}/{where.database}",
    }
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
                "annotations": {names.VERSION_ANNOTATION: str(action.version)},
            },
            "type": "Opaque",
            "data": {name: base64.b64encode(value.encode()).decode() for name, value in fields.items()},
        }
    )


async def _seal_gateway_bundle(action: tenant.SealGatewayBundle, ports: ProvisionerPorts) -> None:
    passwords = await _passwords(action.tenant_id, ports)
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
        "dataKey": data_key.reveal(),
    }
    sealed = ports.sealer.seal(json.dumps(bundle).encode(), context=names.bundle_context(action.tenant_id))
    await ports.registry.store_bundle(
        action.tenant_id,
        version=action.version,
        key=ports.sealer.key,
        bundle=sealed,
        wrapped_data_key=wrapped,
    )
