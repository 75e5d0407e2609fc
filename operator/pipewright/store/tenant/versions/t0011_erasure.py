"""Erasure of a person: a row of `actors` may lose its login, raw bodies that mention it may be deleted."""

from pipewright.store import schema

revision = "t0011"
down_revision = "t0010"


def upgrade() -> None:
    """Create the list of erasures and the one way in which the gateway deletes raw bodies."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.actors ALTER login DROP NOT NULL;
COMMENT ON COLUMN pipewright.actors.login IS 'null: the person was erased, and the surrogate is a new one';

CREATE TABLE pipewright.erasures (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL,
    login text,
    requested_at timestamptz NOT NULL,
    requested_by text NOT NULL,
    known boolean NOT NULL,
    at_day date,
    at_integration uuid,
    at_delivery text,
    searched bigint NOT NULL DEFAULT 0,
    deleted bigint NOT NULL DEFAULT 0,
    unreadable bigint NOT NULL DEFAULT 0,
    finished_at timestamptz,
    CHECK ((login IS NULL) = (finished_at IS NOT NULL))
);
COMMENT ON TABLE pipewright.erasures IS 'who asked for the erasure of a person, and how far it is';
COMMENT ON COLUMN pipewright.erasures.login IS 'what is searched for; gone when the search has ended';
CREATE INDEX erasures_open ON pipewright.erasures (id) WHERE finished_at IS NULL;
GRANT SELECT, INSERT, UPDATE ON pipewright.erasures TO pipewright_ingest;

CREATE FUNCTION pipewright.delete_event_bodies(day date, integrations uuid[], deliveries text[])
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM pipewright.events e USING unnest(integrations, deliveries) AS u (integration, delivery_id)
    WHERE e.integration = u.integration AND e.delivery_id = u.delivery_id
        AND e.received_at >= day::timestamp AT TIME ZONE 'UTC'
        AND e.received_at < (day + 1)::timestamp AT TIME ZONE 'UTC';
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
GRANT EXECUTE ON FUNCTION pipewright.delete_event_bodies(date, uuid[], text[]) TO pipewright_ingest;
"""
