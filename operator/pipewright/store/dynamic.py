"""SQL that Vault's database engine runs as `pipewright_vault`: a short-lived login is made, and taken away.

A login is a member of the tenant's group `pw_<id>_dynamic` and of nothing else. The group may connect to the
tenant's database, and may act as the owner of `app` without having its rights by itself: so whatever a login
makes there is the owner's, and the login can be dropped. To close the database to all of them is one REVOKE.

Vault splits a text at its semicolons, unless the word END stands in it outside of quotes; double braces are
its placeholders. https://developer.hashicorp.com/vault/docs/secrets/databases/postgresql
"""

from __future__ import annotations

from string import Template

from pipewright.store import roles

_BOUND = Template("""\
DO $$$$ BEGIN
PERFORM pg_advisory_xact_lock(hashtextextended('$group', 0));
IF $logins <= (SELECT count(*) FROM pg_auth_members WHERE roleid = '$group'::regrole
    AND member NOT IN ('$vault'::regrole, '$maker'::regrole))
THEN RAISE EXCEPTION '$logins short-lived logins live already (database.dynamicCredentials.maxLogins)';
END IF; END $$$$""")
"""Counted under a lock: two that come at once are counted one after the other."""

_MAKE = Template("""\
CREATE ROLE "{{name}}" LOGIN INHERIT CONNECTION LIMIT $limit IN ROLE $group
    PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';
ALTER ROLE "{{name}}" SET role = $owner;
ALTER ROLE "{{name}}" SET search_path = app, history, extensions""")

_LET_DROP = Template("""\
DO $$$$ BEGIN
IF current_setting('server_version_num')::int >= 160000
THEN EXECUTE 'GRANT "{{name}}" TO $maker WITH ADMIN TRUE, INHERIT FALSE, SET FALSE';
END IF; END $$$$""")
"""15 has no such options, and there the maker's CREATEROLE reaches every role anyway."""

_LOCK = """\
DO $$ BEGIN
IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{{name}}')
THEN ALTER ROLE "{{name}}" NOLOGIN PASSWORD NULL;
PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';
END IF; END $$"""

_DROP = """\
DO $$ BEGIN
DROP ROLE IF EXISTS "{{name}}";
EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $$"""
"""Where something in the tenant's database depends on it, it stays, locked, for the provisioner to drop."""


def creation(tenant_id: str, *, logins: int, connection_limit: int) -> tuple[str, ...]:
    """What makes a login of this tenant's, if not so many live already."""
    words = {
        "group": roles.dynamic_group(tenant_id),
        "owner": roles.app_owner(tenant_id),
        "logins": f"{logins:d}",
        "limit": f"{connection_limit:d}",
        "vault": roles.VAULT,
        "maker": roles.maker(tenant_id),
    }
    return tuple(text.substitute(words) for text in (_BOUND, _MAKE, _LET_DROP))


def revocation() -> tuple[str, ...]:
    """What takes a login away: it is locked and its sessions ended, then it is dropped."""
    return (_LOCK, _DROP)
