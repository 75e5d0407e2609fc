"""What a deletion does, as a Tenant's status tells it: a projection, never a thing that steers."""

from typing import Annotated, Literal

from pydantic import Field

from pipewright.api.meta import Base, Count, Digest, DnsLabel, Time

Fate = Literal["Goes", "Stays"]
Size = Literal["Under100Mi", "Under1Gi", "Under10Gi", "Under100Gi", "Over100Gi"]
StageName = Literal[
    "Refused", "Freeze", "Access", "Resources", "FinalDump", "Namespaces", "Database", "Secrets", "Registry"
]


class PlannedNamespace(Base):
    """A namespace of a Tenant that is being deleted."""

    name: DnsLabel
    """The namespace's name."""
    fate: Fate
    """Goes with all that lies in it, or Stays without access bindings, as each adopted one does."""


class PlannedResources(Base):
    """Custom resources of one kind in the tenant's namespaces."""

    kind: Annotated[str, Field(max_length=63)]
    """Their kind."""
    count: Count
    """How many are still there."""
    fate: Fate
    """Goes, or Stays where it is."""


class PlannedDatabase(Base):
    """The database of a Tenant that is being deleted."""

    name: Annotated[str, Field(max_length=63)]
    """The database's name on its server."""
    fate: Fate
    """Goes for good, or Stays with its logins disabled."""
    size: Size | None = None
    """The class of its size; absent while the server does not say."""


class PlannedSecrets(Base):
    """What lies in Vault of a Tenant that is being deleted."""

    path: Annotated[str, Field(max_length=255)]
    """The path below the mount; it has no role and no policy any more when the deletion is done."""
    fate: Fate
    """Goes with every version and the data key, or Stays where nobody is let in."""


class LastDump(Base):
    """The dump that was taken before the drop; `pg_restore` reads it."""

    path: Annotated[str, Field(max_length=255)]
    """Its path below the artifact store."""
    sha256: Digest
    """The SHA-256 of its bytes."""
    bytes: Count
    """Its length."""
    taken_at: Time
    """When it was finished."""


class Blocker(Base):
    """Something that the deletion waits for."""

    part: Annotated[str, Field(max_length=63)]
    """What waits: namespaces, access, database, secrets."""
    reason: Annotated[str, Field(max_length=63)]
    """Why, as one CamelCase word."""
    message: Annotated[str, Field(max_length=1024)]
    """What it waits for, and what helps."""


class DeletionPlan(Base):
    """What a deletion takes away, what it leaves, and what it waits for."""

    policy: Literal["Retain", "Delete"]
    """The deletion policy that is followed."""
    stage: StageName
    """The stage that it is in; each begins when the one before it is done."""
    namespaces: Annotated[tuple[PlannedNamespace, ...], Field(max_length=16)] = ()
    """The tenant's namespaces that are still there."""
    resources: Annotated[tuple[PlannedResources, ...], Field(max_length=8)] = ()
    """Pipewright's custom resources in them, by kind."""
    database: PlannedDatabase | None = None
    """The database, while it is there."""
    last_dump: LastDump | None = None
    """The dump of the database, once it is taken."""
    secrets: Annotated[tuple[PlannedSecrets, ...], Field(max_length=4)] = ()
    """The paths in Vault."""
    blockers: Annotated[tuple[Blocker, ...], Field(max_length=8)] = ()
    """What it waits for now; empty while it goes on by itself."""
