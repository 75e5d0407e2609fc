"""Retention: the last sweep of each tenant, and the one way in which lines of the audit trail go."""

from pipewright.store import schema

revision = "p0008"
down_revision = "p0007"


def upgrade() -> None:
    """Remember sweeps; let the provisioner delete a tenant's old lines, and only old ones."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.upkeep ADD COLUMN swept_at timestamptz, ADD COLUMN sweep_finished boolean;

CREATE FUNCTION pipewright.expire_audit(tenant text, before timestamptz, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone integer;
BEGIN
    IF before > now() - interval '30 days' + interval '1 hour' THEN
        RAISE EXCEPTION 'the audit trail is kept for 30 days at least' USING ERRCODE = '22023';
    END IF;
    DELETE FROM pipewright.audit WHERE id IN (
        SELECT a.id FROM pipewright.audit a WHERE a.tenant_id = tenant AND a.at < before
        ORDER BY a.at LIMIT most
    );
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
GRANT EXECUTE ON FUNCTION pipewright.expire_audit(text, timestamptz, integer) TO pipewright_provisioner;
"""
