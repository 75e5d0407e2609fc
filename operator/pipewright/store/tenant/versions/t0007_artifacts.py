"""Artifacts: what registries told of images that were pushed, deleted and scanned, a row for each change."""

from pipewright.store import schema

revision = "t0007"
down_revision = "t0006"


def upgrade() -> None:
    """Create the table, the readers' view, and the rule that the same change fires a workflow once."""
    schema.run(_SQL)


_SQL = """
CREATE TABLE pipewright.artifacts (
    id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    integration uuid NOT NULL,
    event text NOT NULL CHECK (event IN ('published', 'deleted', 'scanned')),
    project text NOT NULL,
    repository text NOT NULL,
    tag text NOT NULL DEFAULT '',
    digest text NOT NULL DEFAULT '',
    media_type text NOT NULL DEFAULT '',
    actor bigint REFERENCES pipewright.actors ON DELETE SET NULL,
    at timestamptz NOT NULL,
    outcome text NOT NULL DEFAULT '',
    critical bigint NOT NULL DEFAULT 0,
    high bigint NOT NULL DEFAULT 0,
    medium bigint NOT NULL DEFAULT 0,
    low bigint NOT NULL DEFAULT 0,
    unknown bigint NOT NULL DEFAULT 0,
    url text NOT NULL DEFAULT '',
    delivery_id text NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (integration, repository, tag, digest, event, at)
);
CREATE INDEX artifacts_page ON pipewright.artifacts (integration, id);
CREATE INDEX artifacts_actor ON pipewright.artifacts (actor);
COMMENT ON COLUMN pipewright.artifacts.at IS 'when it happened; untold, when it was received';

CREATE UNIQUE INDEX decisions_fired_once_for_artifact ON pipewright.decisions (workflow_uid, integration,
    (event ->> 'type'), (event -> 'artifact' ->> 'repository'), (event -> 'artifact' ->> 'tag'),
    (event -> 'artifact' ->> 'digest'), (event -> 'artifact' ->> 'at')) WHERE fired AND event ? 'artifact';
COMMENT ON INDEX pipewright.decisions_fired_once_for_artifact IS
    'as decisions_fired_once, for events that are about no run';

GRANT SELECT, INSERT, UPDATE ON pipewright.artifacts TO pipewright_ingest;
GRANT SELECT ON pipewright.artifacts TO pipewright_journal;

CREATE VIEW history.artifacts AS
SELECT f.integration, f.event, f.project, f.repository, f.tag, f.digest, f.media_type,
    coalesce(a.surrogate, '') AS actor, f.at, f.outcome, f.critical, f.high, f.medium, f.low, f.unknown, f.url
FROM pipewright.artifacts f LEFT JOIN pipewright.actors a ON a.id = f.actor;
GRANT SELECT ON history.artifacts TO pipewright_reader;
"""
