"""Artifacts in a tenant's database: what registries told of them, each change once, in whatever order.

A row is a change, not a state: that an image was deleted does not take away that it was pushed. The same
change under another delivery id is the same row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from pipewright.records import SEVERITIES, ArtifactRecord
from pipewright.store.records import Artifact, Delivery


async def keep(
    conn: psycopg.AsyncConnection,
    records: Sequence[ArtifactRecord],
    *,
    delivery: Delivery,
    actors: Mapping[str, str],
) -> None:
    """Keep what a delivery says of artifacts; `actors` is what `history.surrogates` returned."""
    found = [_row(record, delivery=delivery, actors=actors) for record in records]
    await conn.execute(_KEEP, [Jsonb(found)])


async def page(
    conn: psycopg.AsyncConnection,
    *,
    integration: str,
    repository: str | None = None,
    event: str | None = None,
    limit: int = 50,
    before: int | None = None,
) -> list[Artifact]:
    """An integration's artifacts, last told first; `before` is the id of the last one on the page before."""
    asked = {
        "integration": integration,
        "repository": repository,
        "event": event,
        "limit": limit,
        "before": before,
    }
    async with conn.cursor(row_factory=class_row(Artifact)) as cursor:
        await cursor.execute(_PAGE, asked)
        return await cursor.fetchall()


def _row(record: ArtifactRecord, *, delivery: Delivery, actors: Mapping[str, str]) -> dict[str, Any]:
    """A row's columns in JSON's types; `actor` is the surrogate."""
    return {
        "integration": delivery.integration,
        "event": record.event,
        "project": record.project,
        "repository": record.repository,
        "tag": record.tag,
        "digest": record.digest,
        "media_type": record.media_type,
        "actor": actors.get(record.actor),
        "at": (record.at or delivery.received_at).isoformat(),
        "outcome": record.outcome,
        **{name: getattr(record, name) for name in SEVERITIES},
        "url": record.url,
        "delivery_id": delivery.delivery_id,
        "seen_at": delivery.received_at.isoformat(),
    }


_COLUMNS = {
    "integration": "uuid",
    "event": "text",
    "project": "text",
    "repository": "text",
    "tag": "text",
    "digest": "text",
    "media_type": "text",
    "actor": "text",
    "at": "timestamptz",
    "outcome": "text",
    **dict.fromkeys(SEVERITIES, "bigint"),
    "url": "text",
    "delivery_id": "text",
    "seen_at": "timestamptz",
}
_KEEP = f"""
INSERT INTO pipewright.artifacts ({", ".join(_COLUMNS)})
SELECT {", ".join("a.id" if name == "actor" else f"new.{name}" for name in _COLUMNS)}
FROM jsonb_to_recordset(%s) AS new ({", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())})
LEFT JOIN pipewright.actors a ON a.surrogate = new.actor
ORDER BY new.repository, new.tag, new.digest, new.event, new.at
ON CONFLICT DO NOTHING
"""  # noqa: S608 - names are ours
_PAGE = f"""
SELECT f.id, f.integration::text, f.event, f.project, f.repository, f.tag, f.digest, f.media_type,
    coalesce(a.surrogate, '') AS actor, f.at, f.outcome, {", ".join(f"f.{name}" for name in SEVERITIES)},
    f.url, f.delivery_id, f.seen_at
FROM pipewright.artifacts f LEFT JOIN pipewright.actors a ON a.id = f.actor
WHERE f.integration = %(integration)s AND f.id < coalesce(%(before)s, 9223372036854775807)
    AND (%(repository)s::text IS NULL OR f.repository = %(repository)s)
    AND (%(event)s::text IS NULL OR f.event = %(event)s)
ORDER BY f.id DESC LIMIT %(limit)s
"""  # noqa: S608 - names are ours
