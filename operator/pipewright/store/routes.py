"""What the runner tells the gateway, in the platform database: routes, triggers, active models.

Each change is announced on the channel `pipewright_changes` (see `changes`), and the gateway loads again.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import psycopg
from psycopg.rows import class_row, dict_row

from pipewright.store import rows
from pipewright.store.records import ModelPointer, Route, Trigger, WebhookRegistration


def new_hook_id() -> str:
    """A path that nobody guesses: 32 URL-safe characters, 192 bits."""
    return secrets.token_urlsafe(24)


# --- routes ---------------------------------------------------------------------------------------------


async def upsert_route(conn: psycopg.AsyncConnection, route: Route) -> None:
    """Write an integration's whole route, whatever was there: the sealed secret is bound to its hook id."""
    await conn.execute(_UPSERT_ROUTE, rows.values(route))


async def find_route(conn: psycopg.AsyncConnection, *, integration_uid: str) -> Route | None:
    """An integration's route."""
    found = await _routes(conn, integration_uid)
    return found[0] if found else None


async def load_routes(conn: psycopg.AsyncConnection) -> list[Route]:
    """All routes, disabled ones too: their hooks are known, and answered as disabled."""
    return await _routes(conn, None)


async def delete_route(conn: psycopg.AsyncConnection, *, integration_uid: str) -> None:
    """Remove an integration's route; none counts as done."""
    await conn.execute("DELETE FROM pipewright.routes WHERE integration_uid = %s", [integration_uid])


async def _routes(conn: psycopg.AsyncConnection, integration_uid: str | None) -> list[Route]:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_ROUTES, {"uid": integration_uid})
        lists = ("projects", "webhook_keys")
        return [Route(**row | {name: tuple(row[name]) for name in lists}) async for row in cursor]


# --- registrations --------------------------------------------------------------------------------------


async def find_registrations(
    conn: psycopg.AsyncConnection, *, integration_uid: str
) -> list[WebhookRegistration]:
    """What is, or may be, registered at the provider for an integration, by project."""
    async with conn.cursor(row_factory=class_row(WebhookRegistration)) as cursor:
        await cursor.execute(_REGISTRATIONS, [integration_uid])
        return await cursor.fetchall()


async def note_registration(conn: psycopg.AsyncConnection, row: WebhookRegistration) -> None:
    """Write the whole note. Without a route the pool's block ends in `errors.BackendError`."""
    await conn.execute(_NOTE_REGISTRATION, rows.values(row))


async def forget_registration(conn: psycopg.AsyncConnection, *, integration_uid: str, project: str) -> None:
    """Remove a note; none counts as done."""
    await conn.execute(
        "DELETE FROM pipewright.webhook_registrations WHERE integration_uid = %s AND project = %s",
        [integration_uid, project],
    )


# --- triggers -------------------------------------------------------------------------------------------


async def replace_triggers(
    conn: psycopg.AsyncConnection, *, workflow_uid: str, triggers: Sequence[Trigger]
) -> None:
    """Make these the workflow's triggers, all of them; none removes it. Call it in a transaction."""
    assert all(trigger.workflow_uid == workflow_uid for trigger in triggers)
    await conn.execute("DELETE FROM pipewright.triggers WHERE workflow_uid = %s", [workflow_uid])
    for trigger in triggers:
        await conn.execute(rows.insert("triggers", Trigger), rows.values(trigger))


async def find_triggers(conn: psycopg.AsyncConnection, *, workflow_uid: str) -> list[Trigger]:
    """A workflow's triggers, in order."""
    return await _triggers(conn, workflow_uid)


async def load_triggers(conn: psycopg.AsyncConnection) -> list[Trigger]:
    """All triggers."""
    return await _triggers(conn, None)


async def _triggers(conn: psycopg.AsyncConnection, workflow_uid: str | None) -> list[Trigger]:
    async with conn.cursor(row_factory=class_row(Trigger)) as cursor:
        await cursor.execute(_TRIGGERS, {"uid": workflow_uid})
        return await cursor.fetchall()


# --- model pointers -------------------------------------------------------------------------------------


async def promote(conn: psycopg.AsyncConnection, pointer: ModelPointer, *, expected: int | None) -> bool:
    """Make a version the active one, if the pointer is still at generation `expected` (None: not there yet).

    `pointer.generation` is not read: the new generation is one more. False: somebody else was first. When
    the namespace has another default model of this task, the pool's block ends in `errors.Conflict`.
    """
    statement = _FIRST if expected is None else _NEXT
    cursor = await conn.execute(statement, rows.values(pointer) | {"expected": expected})
    return cursor.rowcount == 1


async def change_serving(
    conn: psycopg.AsyncConnection, *, model_uid: str, is_default: bool, control_share: float
) -> None:
    """Say whether the model is what `prediction` means in its namespace, and how many runs it leaves alone.

    Before its first promotion there is nothing to say it of.
    """
    await conn.execute(_SERVING, {"uid": model_uid, "default": is_default, "share": control_share})


async def find_model(conn: psycopg.AsyncConnection, *, model_uid: str) -> ModelPointer | None:
    """A model's pointer."""
    found = await _models(conn, model_uid)
    return found[0] if found else None


async def load_models(conn: psycopg.AsyncConnection) -> list[ModelPointer]:
    """All pointers."""
    return await _models(conn, None)


async def delete_model(conn: psycopg.AsyncConnection, *, model_uid: str) -> None:
    """Remove a model's pointer; none counts as done."""
    await conn.execute("DELETE FROM pipewright.model_pointers WHERE model_uid = %s", [model_uid])


async def _models(conn: psycopg.AsyncConnection, model_uid: str | None) -> list[ModelPointer]:
    async with conn.cursor(row_factory=class_row(ModelPointer)) as cursor:
        await cursor.execute(_MODELS, {"uid": model_uid})
        return await cursor.fetchall()


_UPSERT_ROUTE = f"""
{rows.insert("routes", Route)}
ON CONFLICT (integration_uid) DO UPDATE SET hook_id = excluded.hook_id, tenant_id = excluded.tenant_id,
    namespace = excluded.namespace, integration = excluded.integration, connector = excluded.connector,
    projects = excluded.projects, config = excluded.config, sealed_secret = excluded.sealed_secret,
    secret_key = excluded.secret_key, enabled = excluded.enabled,
    allow_unsigned = excluded.allow_unsigned, webhook_keys = excluded.webhook_keys, updated_at = now()
"""
_ROUTES = f"""
SELECT {rows.columns(Route)} FROM pipewright.routes
WHERE %(uid)s::uuid IS NULL OR integration_uid = %(uid)s::uuid ORDER BY hook_id
"""  # noqa: S608 - names are ours
_REGISTRATIONS = f"""
SELECT {rows.columns(WebhookRegistration)} FROM pipewright.webhook_registrations
WHERE integration_uid = %s ORDER BY project
"""  # noqa: S608 - names are ours
_NOTE_REGISTRATION = f"""
{rows.insert("webhook_registrations", WebhookRegistration)}
ON CONFLICT (integration_uid, project) DO UPDATE SET provider_id = excluded.provider_id, url = excluded.url,
    webhook_key = excluded.webhook_key, asked = excluded.asked, next_look = excluded.next_look,
    reason = excluded.reason, message = excluded.message, tried = excluded.tried,
    arrived_until = excluded.arrived_until, next_deliveries = excluded.next_deliveries,
    missed = excluded.missed, missed_since = excluded.missed_since, filled_at = excluded.filled_at
"""
_TRIGGERS = f"""
SELECT {rows.columns(Trigger)} FROM pipewright.triggers
WHERE %(uid)s::uuid IS NULL OR workflow_uid = %(uid)s::uuid ORDER BY workflow_uid, position
"""  # noqa: S608 - names are ours
_MODELS = f"""
SELECT {rows.columns(ModelPointer)} FROM pipewright.model_pointers
WHERE %(uid)s::uuid IS NULL OR model_uid = %(uid)s::uuid ORDER BY model_uid
"""  # noqa: S608 - names are ours

_SERVING = """
UPDATE pipewright.model_pointers SET is_default = %(default)s, control_share = %(share)s
WHERE model_uid = %(uid)s AND (is_default, control_share) IS DISTINCT FROM (%(default)s, %(share)s::float8)
"""
_FIRST = (
    rows.insert("model_pointers", ModelPointer, without=["generation"])
    + " ON CONFLICT (model_uid) DO NOTHING"
)
_NEXT = """
UPDATE pipewright.model_pointers SET tenant_id = %(tenant_id)s, namespace = %(namespace)s, model = %(model)s,
    task = %(task)s, is_default = %(is_default)s, version = %(version)s, artifact_uri = %(artifact_uri)s,
    artifact_sha256 = %(artifact_sha256)s, metrics = %(metrics)s, promoted_at = %(promoted_at)s,
    control_share = %(control_share)s, generation = generation + 1
WHERE model_uid = %(model_uid)s AND generation = %(expected)s
"""
