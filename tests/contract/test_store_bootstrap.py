"""An empty server becomes Pipewright's, once or again, and its schemas migrate."""

from collections.abc import Mapping
from uuid import uuid4

import psycopg
import pytest

from dev import parts
from pipewright import errors
from pipewright.backends.postgres import PostgresDatabases, PostgresLogins, Server
from pipewright.ports import LOGINS, Secret
from pipewright.store import bootstrap, roles, schema

_STATE = """
SELECT 'role', rolname, (rolsuper, rolcanlogin, rolcreatedb, rolcreaterole, rolinherit)::text
FROM pg_roles WHERE rolname LIKE 'pipewright%'
UNION ALL SELECT 'database', datname, (datallowconn, datistemplate, datacl)::text
FROM pg_database WHERE datname NOT LIKE 'pw!_%' ESCAPE '!'
UNION ALL SELECT 'member', roleid::regrole::text || ' of ' || member::regrole::text, admin_option::text
FROM pg_auth_members WHERE member::regrole::text LIKE 'pipewright%'
ORDER BY 1, 2, 3
"""


def _state(admin_dsn: str) -> list[tuple[str, str, str]]:
    with psycopg.connect(admin_dsn) as admin:
        return [tuple(row) for row in admin.execute(_STATE)]


def _passwords(platform_logins: Mapping[str, str]) -> dict[str, str]:
    return {
        login: str(psycopg.conninfo.conninfo_to_dict(dsn)["password"])
        for login, dsn in platform_logins.items()
    }


def test_running_it_again_changes_nothing(
    postgres_server: parts.Database, platform_logins: Mapping[str, str]
) -> None:
    # the first closes whatever databases other tests have made on this server
    bootstrap.bootstrap(postgres_server.admin_dsn, passwords=_passwords(platform_logins))
    before = _state(postgres_server.admin_dsn)
    bootstrap.bootstrap(postgres_server.admin_dsn, passwords=_passwords(platform_logins))
    assert _state(postgres_server.admin_dsn) == before


async def test_what_the_provisioner_made_becomes_the_makers(
    tenant_server: Server, postgres_server: parts.Database, platform_logins: Mapping[str, str]
) -> None:
    """As releases before the makers left it: the provisioner has ADMIN of the roles and granted the rest."""
    tenant_id, uid = roles.new_id(), str(uuid4())
    databases, logins = PostgresDatabases(tenant_server), PostgresLogins(tenant_server)
    await databases.create(tenant_id, uid=uid, connection_limit=20)
    await logins.set(tenant_id, passwords={purpose: Secret(purpose) for purpose in LOGINS}, version=1)
    maker, app = roles.maker(tenant_id), roles.app_owner(tenant_id)
    with psycopg.connect(postgres_server.admin_dsn, autocommit=True) as admin:
        if admin.info.server_version < 160000:
            pytest.skip("15 keeps no books of who granted a membership")
        for group in roles.GROUPS:
            admin.execute(f"GRANT {group} TO {roles.PROVISIONER} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
        before = admin.execute(_GRANTED, [f"pw_{tenant_id}%", f"pw_{tenant_id}%"]).fetchall()
        for role in roles.all_roles(tenant_id):
            admin.execute(f"GRANT {role} TO {roles.PROVISIONER} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
        for role, member in before:
            admin.execute(f"GRANT {role} TO {member} GRANTED BY {roles.PROVISIONER}")
            admin.execute(f"REVOKE {role} FROM {member} GRANTED BY {maker}")
        for role in roles.all_roles(tenant_id):
            admin.execute(f"REVOKE {role} FROM {maker}")
        bootstrap.bootstrap(postgres_server.admin_dsn, passwords=_passwords(platform_logins))
        after = admin.execute(_GRANTED, [f"pw_{tenant_id}%", f"pw_{tenant_id}%"]).fetchall()
        held = admin.execute(
            "SELECT count(*) FROM pg_auth_members WHERE member = %s::regrole AND roleid = ANY(%s::regrole[])",
            [roles.PROVISIONER, [*roles.all_roles(tenant_id), *roles.GROUPS]],
        ).fetchone()
    assert app in {role for role, _ in before}
    assert after == before
    assert held == (0,)
    await logins.set(tenant_id, passwords={purpose: Secret("new") for purpose in LOGINS}, version=2)
    await databases.drop(tenant_id, uid=uid)
    assert await databases.find(tenant_id) is None


_GRANTED = """
SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members
WHERE NOT admin_option AND (roleid::regrole::text LIKE %s OR member::regrole::text LIKE %s) ORDER BY 1, 2
"""


def test_a_forgotten_password_is_named(postgres_server: parts.Database) -> None:
    with pytest.raises(ValueError, match="pipewright_gateway"):
        bootstrap.bootstrap(
            postgres_server.admin_dsn, passwords=dict.fromkeys(roles.PLATFORM_LOGINS[:3], "x")
        )


def test_a_login_that_is_no_superuser_is_refused(
    platform_logins: Mapping[str, str],
) -> None:
    with pytest.raises(errors.Forbidden, match="superuser"):
        bootstrap.bootstrap(
            platform_logins["pipewright_provisioner"], passwords=dict.fromkeys(roles.PLATFORM_LOGINS, "x")
        )


def test_a_dead_server_is_unreachable_and_no_password_is_repeated() -> None:
    with pytest.raises(errors.Unreachable) as caught:
        bootstrap.bootstrap(
            "postgresql://postgres:canary@127.0.0.1:1/postgres",
            passwords=dict.fromkeys(roles.PLATFORM_LOGINS, "canary"),
        )
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(("tree", "database"), [("platform", "pipewright")])
def test_everything_of_ours_has_one_owner(
    postgres_server: parts.Database, platform_logins: Mapping[str, str], tree: schema.Tree, database: str
) -> None:
    dsn = psycopg.conninfo.make_conninfo(postgres_server.admin_dsn, dbname=database)
    with psycopg.connect(dsn) as admin:
        owners = admin.execute(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class"
            " WHERE relnamespace = 'pipewright'::regnamespace"
        ).fetchall()
        version = admin.execute("SELECT version_num FROM pipewright.schema_version").fetchone()
    assert owners == [("pipewright_owner",)]
    assert version == (schema.head(tree),)


def test_a_clone_has_the_templates_schema_and_owner(place, postgres_server: parts.Database) -> None:
    dsn = psycopg.conninfo.make_conninfo(postgres_server.admin_dsn, dbname=f"pw_{place.id}")
    with psycopg.connect(dsn) as admin:
        owners = admin.execute(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class"
            " WHERE relnamespace IN ('pipewright'::regnamespace, 'history'::regnamespace)"
        ).fetchall()
        version = admin.execute("SELECT version_num FROM pipewright.schema_version").fetchone()
        everybody = admin.execute(
            "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE pronamespace = 'pipewright'::regnamespace"
            " AND has_function_privilege('public', p.oid, 'EXECUTE')"
        ).fetchall()
    assert owners == [("pipewright_owner",)]
    assert version == (schema.head("tenant"),)
    assert everybody == []


def test_an_upgrade_waits_for_no_lock_forever(place, tenant_server) -> None:
    info = schema.migrator(tenant_server.migrator_dsn, database=f"pw_{place.id}")
    with psycopg.connect(info) as conn:
        assert conn.execute("SELECT current_setting('lock_timeout')").fetchone() == ("10s",)
