"""The registry of tenants, and the audit trail of what was provisioned."""

from pipewright.store import schema

revision = "p0001"
down_revision = None


def upgrade() -> None:
    """Create registry and audit, and the function that tells listeners which table changed."""
    schema.run(_SQL)


_SQL = """
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT USAGE ON SCHEMA pipewright TO pipewright_provisioner, pipewright_runner, pipewright_gateway;

CREATE TABLE pipewright.registry (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9]{12}$'),
    uid text NOT NULL UNIQUE,
    name text NOT NULL,
    server text NOT NULL,
    state text NOT NULL DEFAULT 'Active' CHECK (state IN ('Active', 'Deleting', 'Retained', 'Deleted')),
    wrapped_data_key text,
    bundle bytea,
    bundle_version integer,
    bundle_key text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN pipewright.registry.bundle IS 'what the gateway needs for the tenant, sealed to its key';
COMMENT ON COLUMN pipewright.registry.bundle_key IS 'fingerprint of the key that the bundle is sealed to';

CREATE TABLE pipewright.registry_namespaces (
    uid text PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES pipewright.registry,
    name text NOT NULL,
    UNIQUE (tenant_id, name)
);
CREATE INDEX ON pipewright.registry_namespaces (name);

CREATE TABLE pipewright.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL DEFAULT session_user,
    tenant_id text,
    action text NOT NULL,
    phase text NOT NULL,
    detail text NOT NULL DEFAULT ''
);
CREATE INDEX ON pipewright.audit (tenant_id, at);

CREATE FUNCTION pipewright.notify_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('pipewright_changes', TG_TABLE_NAME);
    RETURN NULL;
END
$$;

CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON pipewright.registry
    FOR EACH STATEMENT EXECUTE FUNCTION pipewright.notify_change();
CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON pipewright.registry_namespaces
    FOR EACH STATEMENT EXECUTE FUNCTION pipewright.notify_change();

GRANT SELECT, INSERT, UPDATE ON pipewright.registry TO pipewright_provisioner;
GRANT SELECT, INSERT, DELETE ON pipewright.registry_namespaces TO pipewright_provisioner;
GRANT INSERT (tenant_id, action, phase, detail) ON pipewright.audit TO pipewright_provisioner;

GRANT SELECT (id, uid, name, server, state, bundle_version, bundle_key, created_at,
    updated_at) ON pipewright.registry TO pipewright_runner;
GRANT SELECT ON pipewright.registry TO pipewright_gateway;
GRANT SELECT ON pipewright.registry_namespaces TO pipewright_runner, pipewright_gateway;
"""
