"""What happens to a tenant while a fault happens to the operator: made, changed, suspended, deleted."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dev.faults import world
from dev.faults.admin import TENANTS
from dev.faults.rig import Rig
from dev.faults.world import Subject

READY_WITHIN = 30.0
"""Seconds from the end of a fault to the story's goal: O6."""

SPEC: Mapping[str, Any] = {
    "quota": {"pods": "3"},
    "access": {"viewers": [{"kind": "User", "name": "ada"}]},
    "database": {"connectionLimit": 7, "dynamicCredentials": {"ttl": "10m"}},
    "deletionPolicy": "Delete",
}
CHANGED: Mapping[str, Any] = {
    "quota": None,
    "limits": {"default": {"cpu": "1"}},
    "access": {"viewers": None, "owners": [{"kind": "User", "name": "bob"}]},
    "database": {"connectionLimit": 9, "dynamicCredentials": None},
}


def is_ready(found: Mapping[str, Any] | None) -> bool:
    """Whether the Tenant is Ready for its generation."""
    return _says(found, "Ready", "True")


def is_suspended(found: Mapping[str, Any] | None) -> bool:
    """Whether every part of it is stopped."""
    return _says(found, "Suspended", "True", "Suspended")


def is_at_work(found: Mapping[str, Any] | None) -> bool:
    """Whether it is Ready, and no part of it is stopped any more."""
    return is_ready(found) and _says(found, "Suspended", "False", "NotSuspended")


def _says(found: Mapping[str, Any] | None, kind: str, *words: str) -> bool:
    """Whether a condition has this status (and reason), for the generation that the Tenant has."""
    for told in ((found or {}).get("status") or {}).get("conditions") or []:
        if found and told["type"] == kind and (told["status"], told["reason"])[: len(words)] == words:
            return bool(told["observedGeneration"] == found["metadata"]["generation"])
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What is there before the fault, what the user does then, and when it has come about."""

    name: str
    spec: Mapping[str, Any]
    suspended: bool = False
    """Whether the Tenant is suspended before."""
    change: Mapping[str, Any] | None = None
    """A merge patch of the spec."""
    goal: Callable[[Mapping[str, Any] | None], bool] = is_ready
    deletes: bool = False

    @property
    def begins_ready(self) -> bool:
        """Whether there is a Tenant before the fault."""
        return self.deletes or self.change is not None

    def prepare(self, rig: Rig) -> Subject:
        """What is there before; the sequence of writes begins after it."""
        subject = Subject(name=f"ft-{uuid.uuid4().hex[:8]}")
        if self.begins_ready:
            create(rig, subject, self.spec)
            settled(rig, subject)
        if self.suspended:
            rig.kubernetes.patch(f"{TENANTS}/{subject.name}", {"spec": {"suspended": True}})
            settled(rig, subject, is_suspended)
        rig.switch.begin()
        return subject

    def act(self, rig: Rig, subject: Subject) -> None:
        """What the user does."""
        if self.deletes:
            rig.kubernetes.delete(f"{TENANTS}/{subject.name}")
        elif self.change is not None:
            rig.kubernetes.patch(f"{TENANTS}/{subject.name}", {"spec": self.change})
        else:
            create(rig, subject, self.spec)

    def done(self, rig: Rig, subject: Subject) -> bool:
        """Whether it has come about."""
        found = world.find(rig, subject.name)
        if self.deletes:
            return found is None or found["metadata"]["uid"] != subject.uid
        return self.goal(found)


def create(rig: Rig, subject: Subject, spec: Mapping[str, Any]) -> None:
    """Create the Tenant and remember its UID."""
    document = {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": subject.name},
        "spec": dict(spec),
    }
    subject.uid = rig.kubernetes.send("POST", TENANTS, document)["metadata"]["uid"]


def settled(
    rig: Rig, subject: Subject, goal: Callable[[Mapping[str, Any] | None], bool] = is_ready
) -> list[int]:
    """Wait until the goal is reached and a look at the Tenant writes nothing; the writes of each look, the
    last two of which ought to be none.
    """
    rig.until(
        lambda: goal(world.find(rig, subject.name)),
        within=READY_WITHIN,
        says=f"{subject.name} {goal.__name__.replace('_', ' ')}",
    )
    looks = [rig.look(subject.name)]
    while looks[-1] and len(looks) < 4:
        looks.append(rig.look(subject.name))
    return [*looks, rig.look(subject.name)]


CREATE = Story(name="create", spec=SPEC)
CHANGE = Story(name="change", spec=SPEC, change=CHANGED)
SUSPEND = Story(name="suspend", spec=SPEC, change={"suspended": True}, goal=is_suspended)
RESUME = Story(name="resume", spec=SPEC, suspended=True, change={"suspended": False}, goal=is_at_work)
DELETE = Story(name="delete", spec=SPEC, deletes=True)
RETAIN = Story(name="retain", spec={**SPEC, "deletionPolicy": "Retain"}, deletes=True)
STORIES = (CREATE, CHANGE, SUSPEND, RESUME, DELETE, RETAIN)
