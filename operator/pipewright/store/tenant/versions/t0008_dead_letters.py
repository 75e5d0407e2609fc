"""Dead letters: deliveries that were proved and not understood, kept as they came until somebody decides."""

from pipewright.store import schema

revision = "t0008"
down_revision = "t0007"


def upgrade() -> None:
    """Let a delivery be refused, and keep what came of it for the ingest login alone."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.deliveries DROP CONSTRAINT deliveries_outcome_check;
ALTER TABLE pipewright.deliveries ADD CONSTRAINT deliveries_outcome_check
    CHECK (outcome IN ('stored', 'ignored', 'refused')) NOT VALID; -- wider than the one before: all rows pass
COMMENT ON COLUMN pipewright.deliveries.reason IS
    'why it was ignored or refused; never a value from its body';

CREATE TABLE pipewright.dead_letters (
    integration uuid NOT NULL,
    delivery_id text NOT NULL,
    received_at timestamptz NOT NULL,
    refusals integer NOT NULL DEFAULT 1,
    refused_at timestamptz NOT NULL,
    sealed bytea NOT NULL,
    bytes integer GENERATED ALWAYS AS (octet_length(sealed)) STORED,
    PRIMARY KEY (integration, delivery_id),
    FOREIGN KEY (integration, delivery_id) REFERENCES pipewright.deliveries ON DELETE CASCADE
);
CREATE INDEX dead_letters_received ON pipewright.dead_letters (integration, received_at);
COMMENT ON TABLE pipewright.dead_letters IS 'deliveries that were proved and not understood';
COMMENT ON COLUMN pipewright.dead_letters.sealed IS
    'headers and body, compressed, then encrypted with the tenant''s data key';
ALTER TABLE pipewright.dead_letters ALTER sealed SET STORAGE EXTERNAL;

-- Whoever stores the delivery after all (a replay, or the provider sent it again) need not know of it.
CREATE FUNCTION pipewright.bury_dead_letter() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM pipewright.dead_letters
    WHERE integration = NEW.integration AND delivery_id = NEW.delivery_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER bury_dead_letter AFTER UPDATE OF outcome ON pipewright.deliveries
    FOR EACH ROW WHEN (OLD.outcome = 'refused' AND NEW.outcome <> 'refused')
    EXECUTE FUNCTION pipewright.bury_dead_letter();

GRANT SELECT, INSERT, UPDATE, DELETE ON pipewright.dead_letters TO pipewright_ingest;
"""
