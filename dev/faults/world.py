"""What there is of a tenant on the three servers, as plain values, and what there is of all tenants."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from dev.faults.admin import TENANTS
from dev.faults.rig import LOOK, Rig

State = Mapping[str, Any]
"""Path → value: a flattened document without what is random."""

COLLECTIONS = {
    "/api/v1": ("resourcequotas", "limitranges", "serviceaccounts", "secrets", "configmaps"),
    "/apis/networking.k8s.io/v1": ("networkpolicies",),
    "/apis/rbac.authorization.k8s.io/v1": ("rolebindings", "roles"),
}
"""What is looked for in a tenant's namespace."""

_CLUSTERS_OWN = {"default", "kube-root-ca.crt"}
_DROPPED = {"managedFields", "resourceVersion", "creationTimestamp", "lastTransitionTime", LOOK}
_ABSENT = "absent"
_TIME = re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)?")

_MAKER = re.compile(r"\bpipewright_maker_[0-9a-z]\b")
"""It follows from the tenant's id, so two learning runs may happen to have the same one."""


@dataclass(slots=True, kw_only=True)
class Subject:
    """The tenant of one fault."""

    name: str
    uid: str = ""
    id: str = ""
    secrets: list[str] = field(default_factory=list)
    """Values that must be nowhere but where they belong."""


def find(rig: Rig, name: str) -> dict[str, Any] | None:
    """The Tenant as it is now."""
    found: dict[str, Any] | None = rig.kubernetes.get(f"{TENANTS}/{name}")
    return found


def identify(rig: Rig, subject: Subject) -> None:
    """Learn the tenant's id, and its secrets while they are there."""
    with rig.using("pipewright") as platform:
        row = platform.execute("SELECT id FROM pipewright.registry WHERE uid = %s", [subject.uid]).fetchone()
    if row is None:
        return
    subject.id = row[0]
    found = rig.vault.get(f"tenants/data/{subject.id}/platform/database")
    values = [str(value) for value in ((found or {}).get("data") or {}).values()]
    subject.secrets += [value for value in values if value not in subject.secrets]


def state(rig: Rig, subject: Subject) -> State:
    """Everything of this tenant, with its name, id and UID replaced by words."""
    document = {
        "tenant": find(rig, subject.name),
        "kubernetes": _kubernetes(rig, subject),
        "postgres": _postgres(rig, subject),
        "registry": _registry(rig, subject),
        "vault": _vault(rig, subject),
        "holds together": _consistent(rig, subject),
    }
    return plain(document, subject)


def plain(document: Any, subject: Subject) -> State:
    """A document as path and value, with the subject's name, id and UID, and all times, replaced by words."""
    text = json.dumps(document, default=str)
    # two learning runs within one second would show the same time, which no later run has
    text = _TIME.sub("<time>", text)
    text = _MAKER.sub("<maker>", text)
    for value, word in ((subject.uid, "<uid>"), (subject.id, "<id>"), (subject.name, "<name>")):
        text = text.replace(value, word) if value else text
    return dict(_flat(json.loads(text)))


def _kubernetes(rig: Rig, subject: Subject) -> dict[str, Any]:
    found: dict[str, Any] = {"namespace": rig.kubernetes.get(f"/api/v1/namespaces/{subject.name}")}
    for prefix, plurals in COLLECTIONS.items():
        for plural in plurals:
            listed = rig.kubernetes.get(f"{prefix}/namespaces/{subject.name}/{plural}")
            for item in listed["items"]:
                name = item["metadata"]["name"]
                item.pop("status", None)  # of a quota: the use, which the cluster counts in its own time
                if name not in _CLUSTERS_OWN:
                    found[f"{plural}/{name}"] = item
    return found


def _postgres(rig: Rig, subject: Subject) -> dict[str, Any]:
    if not subject.id:
        return {}
    name = f"pw_{subject.id}"
    database = rig.sql.execute(
        "SELECT datallowconn, datconnlimit, datacl::text, shobj_description(oid, 'pg_database')"
        " FROM pg_database WHERE datname = %s",
        [name],
    ).fetchone()
    roles = rig.sql.execute(
        "SELECT rolname, rolcanlogin, rolinherit, rolconnlimit, rolconfig::text, rolsuper,"
        " shobj_description(oid, 'pg_authid'), ARRAY(SELECT roleid::regrole::text FROM pg_auth_members"
        " WHERE member = r.oid ORDER BY 1), ARRAY(SELECT member::regrole::text FROM pg_auth_members"
        " WHERE roleid = r.oid ORDER BY 1) FROM pg_roles r WHERE rolname LIKE %s ORDER BY 1",
        [f"{name}%"],
    ).fetchall()
    found: dict[str, Any] = {"database": database, "roles": {row[0]: row[1:] for row in roles}}
    if database is not None and database[0]:
        with rig.using(name) as inside:
            schemas = inside.execute(
                "SELECT nspname, nspowner::regrole::text, nspacl::text FROM pg_namespace"
                " WHERE nspname !~ '^pg_' ORDER BY 1"
            ).fetchall()
            defaults = inside.execute(
                "SELECT defaclrole::regrole::text, defaclacl::text FROM pg_default_acl ORDER BY 1, 2"
            ).fetchall()
            found |= {"schemas": schemas, "default privileges": defaults}
    return found


def _registry(rig: Rig, subject: Subject) -> dict[str, Any]:
    with rig.using("pipewright") as platform:
        row = platform.execute(
            "SELECT name, server, state, bundle_version, bundle_key, bundle IS NOT NULL,"
            " wrapped_data_key IS NOT NULL FROM pipewright.registry WHERE uid = %s",
            [subject.uid],
        ).fetchone()
        spaces = platform.execute(
            "SELECT name FROM pipewright.registry_namespaces WHERE tenant_id = %s ORDER BY 1", [subject.id]
        ).fetchall()
    return {"row": row, "namespaces": spaces}


def _vault(rig: Rig, subject: Subject) -> dict[str, Any]:
    if not subject.id:
        return {}
    role = f"pipewright-tenant-{subject.id}"
    platform = rig.vault.get(f"tenants/metadata/{subject.id}/platform/database")
    user = rig.vault.get(f"tenants/metadata/{subject.id}/user/database")
    return {
        "policy": rig.vault.get(f"sys/policies/acl/{role}"),
        "role": rig.vault.get(f"auth/kubernetes/role/{role}"),
        "database role": rig.vault.get(f"database/roles/{role}"),
        # another version of the passwords would mean that they were made twice; a projection may be repeated
        "passwords": platform and [platform["current_version"], platform["custom_metadata"]],
        "projection": user and bool(user["current_version"]),
        "key": (rig.vault.get(f"transit/keys/{subject.id}") or {}).get("latest_version"),
    }


def _consistent(rig: Rig, subject: Subject) -> dict[str, Any]:
    """The password in Vault is the projected one, and PostgreSQL takes it, or refuses it, as it should."""
    if not subject.id:
        return {}
    kept = rig.vault.get(f"tenants/data/{subject.id}/platform/database")
    shown = rig.vault.get(f"tenants/data/{subject.id}/user/database")
    if not kept or not shown:
        return {"passwords": _ABSENT}
    password = kept["data"]["app_a"]
    try:
        with log_in(rig, subject, password):
            answer = "let in"
    except psycopg.OperationalError as refused:
        answer = "refused" if "not permitted" in str(refused) else "not let in"
    return {"projected": shown["data"]["password"] == password, "login": answer}


def log_in(rig: Rig, subject: Subject, password: str) -> psycopg.Connection[Any]:
    """A session of the tenant's active login."""
    return psycopg.connect(
        host=rig.database.host,
        port=rig.database.port,
        dbname=f"pw_{subject.id}",
        user=f"pw_{subject.id}_app_a",
        password=password,
        connect_timeout=5,
    )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _DROPPED:
                yield from _flat(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{path}/{index}")
    else:
        yield path, value


# --- all tenants ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Everybody:
    """Ids found in each place, the registry, and the UID that each database, role and namespace carries."""

    registry: Mapping[str, tuple[str, str]]
    """Id → (UID, state)."""
    tenants: frozenset[str]
    """UIDs of the Tenants there are."""
    places: Mapping[str, frozenset[str]]
    """Place (databases, roles, policies …) → ids that have something there."""
    owners: frozenset[tuple[str, str, str]]
    """(thing, id, UID that it carries)."""


def everybody(rig: Rig) -> Everybody:
    """Look at all of it."""
    with rig.using("pipewright") as platform:
        rows = platform.execute("SELECT id, uid, state FROM pipewright.registry").fetchall()
    marked = rig.sql.execute(
        "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname LIKE 'pw\\_%'"
        " UNION ALL"
        " SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname LIKE 'pw\\_%'"
    ).fetchall()
    spaces = rig.kubernetes.get("/api/v1/namespaces?labelSelector=pipewright.dev/tenant-id")["items"]
    listed = rig.kubernetes.get(TENANTS)["items"]
    policy = re.compile(r"^pipewright-tenant-(.*)$")
    found = {
        "databases": {name[3:] for name, _ in marked if len(name) == 15},
        "roles": {name[3:15] for name, _ in marked if len(name) > 15},
        "namespaces": {it["metadata"]["labels"]["pipewright.dev/tenant-id"] for it in spaces},
        "policies": _ids(rig.vault.list("sys/policies/acl"), policy),
        "Vault roles": _ids(rig.vault.list("auth/kubernetes/role"), policy),
        "database roles": _ids(rig.vault.list("database/roles"), policy),
        "secrets": {key.rstrip("/") for key in rig.vault.list("tenants/metadata")},
        "transit keys": set(rig.vault.list("transit/keys")),
    }
    owners = {(name, name[3:15], json.loads(comment)["uid"]) for name, comment in marked if comment}
    for it in spaces:
        labels = it["metadata"]["labels"]
        name = f"namespace {it['metadata']['name']}"
        owners.add((name, labels["pipewright.dev/tenant-id"], labels.get("pipewright.dev/tenant-uid", "")))
    return Everybody(
        registry={tenant_id: (uid, state) for tenant_id, uid, state in rows},
        tenants=frozenset(it["metadata"]["uid"] for it in listed),
        places={place: frozenset(ids) for place, ids in found.items()},
        owners=frozenset(owners),
    )


def _ids(names: list[str], pattern: re.Pattern[str]) -> set[str]:
    return {match.group(1) for name in names if (match := pattern.match(name))}
