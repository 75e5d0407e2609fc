"""What happens to an Integration while a fault happens to the runner: made, registered, rotated, deleted.

What there is of one lies in the namespace, in the platform database, in Vault and at the CI system; the
oracles are those of tenants.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from dev.faults import world
from dev.faults.judge import Judge
from dev.faults.oracles import Broken
from dev.faults.rig import Rig
from dev.faults.runner_rig import HOME, RunnerRig
from dev.faults.stories import READY_WITHIN, Story
from dev.faults.world import State, Subject

INTEGRATIONS = f"/apis/pipewright.dev/v1alpha1/namespaces/{HOME}/integrations"
ROTATE = "pipewright.dev/rotate-requested-at"
_OWN = re.compile(r"^ft-[0-9a-f]{8}$")


def is_ready(found: Mapping[str, Any] | None) -> bool:
    """Whether it is Ready for its generation, with one secret."""
    return is_true(found, "Ready") and len(_keys(found)) == 1


def is_rotated(found: Mapping[str, Any] | None) -> bool:
    """Whether the second secret alone is good."""
    return is_true(found, "Ready") and _keys(found) == [2]


def is_true(found: Mapping[str, Any] | None, kind: str) -> bool:
    """Whether a condition is True for the generation that the object has."""
    told = ((found or {}).get("status") or {}).get("conditions") or []
    return any(
        it["type"] == kind
        and it["status"] == "True"
        and it["observedGeneration"] == (found or {})["metadata"]["generation"]
        for it in told
    )


def _keys(found: Mapping[str, Any] | None) -> list[int]:
    webhook = ((found or {}).get("status") or {}).get("webhook") or {}
    return [key["id"] for key in webhook.get("keys", [])]


def project_of(subject: Subject) -> str:
    """The project at the CI system: each Integration has one of its own."""
    return f"acme/{subject.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationStory(Story):
    """What is there before the fault, what the user does then, and when it has come about."""

    rotates: bool = False

    @property
    def begins_ready(self) -> bool:
        """Whether there is an Integration before the fault."""
        return self.deletes or self.rotates or self.change is not None

    def prepare(self, rig: Rig) -> Subject:
        """What is there before; the sequence of writes begins after it."""
        subject = Subject(name=f"ft-{uuid.uuid4().hex[:8]}")
        if self.begins_ready:
            create(rig, subject, self.spec)
            settled(rig, subject, is_ready)
        rig.switch.begin()
        return subject

    def act(self, rig: Rig, subject: Subject) -> None:
        """What the user does."""
        if self.deletes:
            rig.kubernetes.delete(rig.path(subject.name))
        elif self.rotates:
            # in whole seconds, and later than the secret that counts was made; asked for when it is due:
            # a time to come is told in the status first, if the runner is quick enough to see it coming
            asked = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
            rig.until(lambda: datetime.now(UTC) >= asked, within=2, says="the next second begins")
            body = {"metadata": {"annotations": {ROTATE: asked.strftime("%Y-%m-%dT%H:%M:%SZ")}}}
            rig.kubernetes.patch(rig.path(subject.name), body)
        elif self.change is not None:
            rig.kubernetes.patch(rig.path(subject.name), {"spec": self.change})
        else:
            create(rig, subject, self.spec)

    def done(self, rig: Rig, subject: Subject) -> bool:
        """Whether it has come about."""
        found = rig.kubernetes.get(rig.path(subject.name))
        return found is None if self.deletes else self.goal(found)


def create(rig: Rig, subject: Subject, webhook: Mapping[str, Any]) -> None:
    """Create the Integration and remember its UID."""
    document = {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "Integration",
        "metadata": {"name": subject.name},
        "spec": {
            "connector": "github",
            "config": {"baseUrl": cast("RunnerRig", rig).provider_address},
            "credentials": {"secretRef": {"name": "token"}},
            "projects": [project_of(subject)],
            "webhook": dict(webhook.get("webhook", {})),
        },
    }
    subject.uid = rig.kubernetes.send("POST", INTEGRATIONS, document)["metadata"]["uid"]


def settled(rig: Rig, subject: Subject, goal: Any) -> list[int]:
    """Wait until the goal is reached and a look writes nothing; the writes of each look."""
    rig.until(
        lambda: goal(rig.kubernetes.get(rig.path(subject.name))),
        within=READY_WITHIN,
        says=f"{subject.name} {goal.__name__.replace('_', ' ')}",
    )
    looks = [rig.look(subject.name)]
    while looks[-1] and len(looks) < 6:
        looks.append(rig.look(subject.name))
    return [*looks, rig.look(subject.name)]


REGISTERED: Mapping[str, Any] = {"webhook": {"register": True, "rotation": {"overlap": "0s"}}}
CREATE = IntegrationStory(name="integration create", spec={}, goal=is_ready)
REGISTER = IntegrationStory(name="integration register", spec=REGISTERED, goal=is_ready)
ROTATION = IntegrationStory(name="integration rotate", spec=REGISTERED, rotates=True, goal=is_rotated)
DELETE = IntegrationStory(name="integration delete", spec=REGISTERED, deletes=True)
STORIES = (CREATE, REGISTER, ROTATION, DELETE)


class IntegrationJudge(Judge):
    """Runs stories of Integrations on one rig, one after the other."""

    rig: RunnerRig

    def find(self, name: str) -> dict[str, Any] | None:
        """The Integration as it is now."""
        found: dict[str, Any] | None = self.rig.kubernetes.get(self.rig.path(name))
        return found

    def identify(self, subject: Subject) -> None:
        """The tenant's id, and the webhook's secrets while they are there."""
        subject.id = self.rig.tenant_id
        kept = self._kept(subject)
        values = [str(kept[name]) for name in ("secret", "previous") if name in kept]
        subject.secrets += [value for value in values if value not in subject.secrets]

    def state(self, subject: Subject) -> State:
        """Everything of this Integration, with its name, ids and UID replaced by words."""
        kept, found = self._kept(subject), self.find(subject.name)
        document = {
            "integration": found,
            # that of a deleted one is collected by the cluster, in its own time
            "secret": found and self.rig.kubernetes.get(self._secret(subject)),
            "route": self._rows(
                "SELECT hook_id, connector, projects, enabled, allow_unsigned, webhook_keys,"
                " sealed_secret IS NOT NULL FROM pipewright.routes WHERE integration_uid = %s",
                subject,
            ),
            "notes": self._rows(
                "SELECT project, tried, url, webhook_key, reason, missed"
                " FROM pipewright.webhook_registrations WHERE integration_uid = %s ORDER BY project",
                subject,
            ),
            "vault": {
                # another version would mean that a secret was made twice
                "version": (self._metadata(subject) or {}).get("current_version"),
                "fields": sorted(kept),
                "number": kept.get("number"),
            },
            "provider": [
                {"active": hook["active"], "events": hook["events"]} for hook in self._hooks(subject)
            ],
            "holds together": self._consistent(subject, kept),
        }
        return world.plain(document, subject)

    def settled(self, story: Story, subject: Subject) -> list[int]:
        """Wait for the goal and for rest; the writes of each look."""
        return settled(self.rig, subject, story.goal)

    def is_of(self, subject: Subject, target: dict[str, Any]) -> bool:
        """Whether an object of the API server is the subject's."""
        return str(target.get("name", "")).startswith(subject.name)

    def globally(self) -> list[Broken]:
        """O3: no route, note, secret or webhook belongs to an Integration that is not there."""
        listed = self.rig.kubernetes.get(INTEGRATIONS)["items"]
        uids = {it["metadata"]["uid"] for it in listed}
        with self.rig.using("pipewright") as platform:
            routes = platform.execute(
                "SELECT integration_uid::text, hook_id FROM pipewright.routes"
            ).fetchall()
            notes = platform.execute(
                "SELECT DISTINCT integration_uid::text FROM pipewright.webhook_registrations"
            ).fetchall()
        kept = set(self.rig.vault.list(f"tenants/metadata/{self.rig.tenant_id}/platform/integrations"))
        paths = {f"/hooks/{hook_id}" for _, hook_id in routes}
        places = {
            "a route": {uid for uid, _ in routes},
            "a note": {uid for (uid,) in notes},
            "a secret in Vault": kept,
        }
        broken = [
            Broken("O3", f"{place} is of {uid}, which no Integration is")
            for place, found in places.items()
            for uid in sorted(found - uids)
        ]
        lost = [
            hook["project"]
            for hook in self.rig.hooks("")
            if not any(hook["url"].endswith(path) for path in paths)
        ]
        return broken + [Broken("O3", f"a webhook of {project} leads nowhere") for project in lost]

    # -- evidence ------------------------------------------------------------------------------------------

    def _counts(self, subject: Subject, logs: dict[str, str]) -> Counter[str]:
        """Besides those in the cluster: webhooks that were made and removed at the CI system."""
        found = super()._counts(subject, logs)
        for write in self.rig.switch.writes:
            made = write.label.startswith(("provider: POST", "provider: DELETE"))
            if write.system == "provider" and made and write.outcome == "applied":
                found[write.label] += 1
        return found

    def _trail(self, subject: Subject) -> list[tuple[str, str]]:
        return []  # the runner changes nothing that the platform's trail is about

    def _namespaces(self, subject: Subject) -> list[str]:
        return []

    def _state(self, subject: Subject) -> str | None:
        return None

    def _kept(self, subject: Subject) -> Mapping[str, Any]:
        path = f"tenants/data/{self.rig.tenant_id}/platform/integrations/{subject.uid}"
        found: Mapping[str, Any] = (self.rig.vault.get(path) or {}).get("data") or {}
        return found

    def _metadata(self, subject: Subject) -> Mapping[str, Any] | None:
        path = f"tenants/metadata/{self.rig.tenant_id}/platform/integrations/{subject.uid}"
        found: Mapping[str, Any] | None = self.rig.vault.get(path)
        return found

    def _secret(self, subject: Subject) -> str:
        return f"/api/v1/namespaces/{HOME}/secrets/{subject.name}-webhook"

    def _hooks(self, subject: Subject) -> list[dict[str, Any]]:
        return self.rig.hooks(project_of(subject))

    def _rows(self, statement: str, subject: Subject) -> Sequence[Any]:
        with self.rig.using("pipewright") as platform:
            return [list(row) for row in platform.execute(statement, [subject.uid or None]).fetchall()]

    def _consistent(self, subject: Subject, kept: Mapping[str, Any]) -> dict[str, Any]:
        """The secret in Vault is the projected one, and the one that the CI system signs with."""
        shown = self.rig.kubernetes.get(self._secret(subject))
        if shown is None or not kept:
            return {"secrets": "absent"}
        fields = {name: base64.b64decode(value).decode() for name, value in shown["data"].items()}
        hooks = self._hooks(subject)
        return {
            "projected": fields["secret"] == kept["secret"],
            "at the provider": [
                (hook["secret"] == kept["secret"], hook["url"] == fields["url"]) for hook in hooks
            ],
        }

    # -- clearing up ---------------------------------------------------------------------------------------

    def leave(self, subject: Subject, story: Story) -> None:
        """A deleted one has left nothing; the rest is cleared up later."""
        if story.deletes and self.find(subject.name) is None:
            self._left.remove(subject.name)

    def clear(self) -> None:
        """Delete what earlier faults left, all at once, with the runner undisturbed."""
        self.rig.switch.fault = None
        self.rig.revive()
        for it in self.rig.kubernetes.get(INTEGRATIONS)["items"]:
            if _OWN.match(it["metadata"]["name"]):
                self.rig.kubernetes.delete(self.rig.path(it["metadata"]["name"]))
        self._left = []
        self.rig.until(
            lambda: not self.rig.kubernetes.get(INTEGRATIONS)["items"],
            within=60,
            says="the Integrations are gone",
        )
        self.rig.until(self.rig.idle, within=10, says="the runner is idle")
