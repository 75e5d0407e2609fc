"""Plays a story and lets the oracles judge it; keeps each story's reference, and clears up after itself."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dev.faults import oracles, stories, world
from dev.faults.admin import TENANTS
from dev.faults.oracles import Broken, Reference
from dev.faults.rig import Late, Rig
from dev.faults.stories import READY_WITHIN, Story
from dev.faults.world import Subject
from dev.faults.writes import Fault, Write, masked

GENERATION = re.compile(r"^/tenant/.*(generation|observedGeneration)$")

KEPT = 8
"""Tenants of earlier faults that may be there; then they are deleted together."""


class Log:
    """A growing file, read from where it was read last."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> str:
        """What was added since the last call, up to the last whole line."""
        if not self._path.exists():
            return ""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the undisturbed runs of a story taught."""

    writes: Sequence[Write]
    reference: Reference


class Judge:
    """Runs stories on one rig, one after the other."""

    within = READY_WITHIN
    """Seconds from the end of a fault to the story's goal: O6."""
    reached_within = 20.0
    """Seconds from what the user does to any write of the story."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        logs = rig.stack.folder / "logs"
        self._logs = {
            "the API server's audit log": Log(logs / "audit.jsonl"),
            "Vault's audit log": Log(logs / "vault-audit.jsonl"),
            "PostgreSQL's log": Log(logs / "postgres.log"),
        }
        self._learned: dict[str, Learned] = {}
        self._left: list[str] = []

    # -- learning ------------------------------------------------------------------------------------------

    def learn(self, story: Story) -> Learned:
        """Play it twice undisturbed: the sequence of writes, and the reference with its mask."""
        if story.name not in self._learned:
            first, writes, counts, trail = self._clean(story)
            second, again, _, _ = self._clean(story)
            # what serves different conditions is done side by side: the order may differ
            differing = {write.target for write in writes} ^ {write.target for write in again}
            if differing:
                told = ", ".join(f"{label} ({occurrence})" for label, occurrence in sorted(differing))
                raise AssertionError(f"{story.name}: only one of two undisturbed runs writes {told}")
            made = oracles.reference(first, second, counts=counts, audit=trail)
            self._learned[story.name] = Learned(writes=writes, reference=made)
        return self._learned[story.name]

    def _clean(self, story: Story) -> tuple[world.State, list[Write], Counter[str], Counter[str]]:
        subject = self.begin(story)
        story.act(self.rig, subject)
        looks = self.finish(story, subject)
        self.identify(subject)
        found = self.state(subject)
        broken = [*oracles.rest(looks), *self.globally()]
        if broken:
            raise AssertionError(f"{story.name}, undisturbed: {broken}")
        writes, events = list(self.rig.switch.writes), self._new_logs()
        rows = self._trail(subject)
        self.leave(subject, story)
        return found, writes, self._counts(subject, events), Counter(action for action, _ in rows)

    # -- playing -------------------------------------------------------------------------------------------

    def begin(self, story: Story) -> Subject:
        """A fresh tenant in a clean place; what was said and logged before is not this story's."""
        if len(self._left) >= KEPT:
            self.clear()
        self.rig.revive()
        subject = story.prepare(self.rig)
        self._left.append(subject.name)
        self.identify(subject)
        self.forget_logs()
        return subject

    def forget_logs(self) -> None:
        """What was logged until now is not to be judged."""
        self._new_logs()
        self.rig.said()

    def finish(self, story: Story, subject: Subject, *, within: float | None = None) -> list[int]:
        """Wait for the goal, and for rest; the writes of each look. Raises Late."""
        rig, within = self.rig, within or self.within
        if story.deletes:
            rig.until(lambda: story.done(rig, subject), within=within, says=f"{subject.name} is gone")
            rig.until(rig.idle, within=5, says="the operator is idle")
            count = len(rig.switch.writes)
            rig.until(rig.idle, within=5, says="the operator is idle")
            return [len(rig.switch.writes) - count]
        rig.until(
            lambda: story.done(rig, subject), within=within, says=f"{story.name} {subject.name} is done"
        )
        return self.settled(story, subject)

    def play(
        self,
        story: Story,
        fault: Fault | None,
        *,
        meanwhile: Callable[[Subject], None] = lambda _: None,
        within: float | None = None,
    ) -> list[Broken]:
        """Prepare, act with the fault on, do something meanwhile, then judge."""
        learned = self.learn(story)
        subject = self.begin(story)
        self.rig.switch.fault = fault
        try:
            story.act(self.rig, subject)
            meanwhile(subject)
        finally:
            self.rig.switch.fault = None
        self.rig.revive()
        return self.verdict(story, subject, learned.reference, within=within)

    def verdict(
        self,
        story: Story,
        subject: Subject,
        wanted: Reference,
        *,
        within: float | None = None,
        edited: bool = False,
    ) -> list[Broken]:
        """All oracles on one tenant, then on all of them.

        edited: the spec was changed on the way, so the Tenant has another generation than the reference's.
        """
        try:
            looks = self.finish(story, subject, within=within)
        except Late as late:
            told = (self.find(subject.name) or {}).get("status", {}).get("conditions", [])
            return [Broken("O6", f"{late}; {[it for it in told if it['status'] != 'True'][:3]}")]
        self.identify(subject)
        found, logs = self.state(subject), self._new_logs()
        if edited:
            found = {path: value for path, value in found.items() if not GENERATION.search(path)}
            kept = {path: value for path, value in wanted.state.items() if not GENERATION.search(path)}
            wanted = dataclasses.replace(wanted, state=kept)
        broken = [*oracles.end_state(wanted, found), *oracles.rest(looks), *self.globally()]
        broken += oracles.secrets(subject.secrets, self._texts(subject, logs))
        broken += oracles.counts(wanted.counts, self._counts(subject, logs))
        broken += oracles.audit(
            wanted.audit,
            self._trail(subject),
            transactions=self.rig.switch.transactions,
            namespaces=self._namespaces(subject),
            state=self._state(subject),
        )
        self.leave(subject, story)
        return broken

    def globally(self) -> list[Broken]:
        """O3 and O4: of all tenants."""
        now = world.everybody(self.rig)
        return [*oracles.orphans(now), *oracles.owners(now)]

    # -- what a judge of another kind sees otherwise -------------------------------------------------------

    def find(self, name: str) -> dict[str, Any] | None:
        """The object as it is now."""
        return world.find(self.rig, name)

    def identify(self, subject: Subject) -> None:
        """Learn ids, and the secrets while they are there."""
        world.identify(self.rig, subject)

    def state(self, subject: Subject) -> world.State:
        """Everything of the subject."""
        return world.state(self.rig, subject)

    def settled(self, story: Story, subject: Subject) -> list[int]:
        """Wait for the goal and for rest; the writes of each look."""
        return stories.settled(self.rig, subject, story.goal)

    def is_of(self, subject: Subject, target: dict[str, Any]) -> bool:
        """Whether an object of the API server is the subject's."""
        return subject.name in (target.get("name"), target.get("namespace"))

    def texts(self, subject: Subject) -> dict[str, str]:
        """All places in which no secret may be, with what was added since they were looked at last."""
        return self._texts(subject, self._new_logs())

    # -- evidence ------------------------------------------------------------------------------------------

    def _new_logs(self) -> dict[str, str]:
        return {place: log.new() for place, log in self._logs.items()}

    def _texts(self, subject: Subject, logs: dict[str, str]) -> dict[str, str]:
        kubernetes = self.rig.kubernetes
        events = kubernetes.get("/apis/events.k8s.io/v1/events")
        space = kubernetes.get(f"/api/v1/namespaces/{subject.name}")
        return {
            **logs,
            f"the {self.rig.kind}": json.dumps(self.find(subject.name)),
            "its namespace": json.dumps(space),
            "an Event": json.dumps(events),
            "the operator's log": self.rig.said(),
            "the metrics": self.rig.metrics(),
        }

    def _counts(self, subject: Subject, logs: dict[str, str]) -> Counter[str]:
        """Creates and deletes: of the API server's audit log, and of what the proxy saw committed."""
        found = oracles.committed(self.rig.switch.transactions)
        for line in logs["the API server's audit log"].splitlines():
            entry: dict[str, Any] = json.loads(line)
            target = entry.get("objectRef", {})
            code = entry.get("responseStatus", {}).get("code")
            kind = target.get("resource")
            ours = self.is_of(subject, target) or (kind == "namespaces" and entry["verb"] == "create")
            if entry["user"]["username"] != self.rig.account or not ours or kind in ("events", "leases"):
                continue
            if target.get("subresource"):
                continue
            if code == 201:
                found[masked(f"create {kind} {target.get('name', '')}")] += 1
            elif entry["verb"] == "delete" and code == 200:
                found[masked(f"delete {kind} {target.get('name', '')}")] += 1
        return found

    def _trail(self, subject: Subject) -> list[tuple[str, str]]:
        with self.rig.using("pipewright") as platform:
            rows = platform.execute(
                "SELECT action, detail FROM pipewright.audit WHERE tenant_id = %s ORDER BY id", [subject.id]
            ).fetchall()
        return [(str(action), str(detail)) for action, detail in rows]

    def _namespaces(self, subject: Subject) -> list[str]:
        with self.rig.using("pipewright") as platform:
            rows = platform.execute(
                "SELECT uid FROM pipewright.registry_namespaces WHERE tenant_id = %s", [subject.id]
            ).fetchall()
        return [str(row[0]) for row in rows]

    def _state(self, subject: Subject) -> str | None:
        with self.rig.using("pipewright") as platform:
            row = platform.execute(
                "SELECT state FROM pipewright.registry WHERE uid = %s", [subject.uid]
            ).fetchone()
        return None if row is None else str(row[0])

    # -- clearing up ---------------------------------------------------------------------------------------

    def leave(self, subject: Subject, story: Story) -> None:
        """What no operator takes away goes now; the rest is cleared up later."""
        if story.deletes and world.find(self.rig, subject.name) is None:
            self._left.remove(subject.name)
            self._purge(subject)

    def clear(self) -> None:
        """Delete what earlier faults left, all at once, with the operator undisturbed."""
        self.rig.switch.fault = None
        self.rig.revive()
        for name in set(self._left):
            path = f"{TENANTS}/{name}"
            if self.rig.kubernetes.get(path) is not None:
                self.rig.kubernetes.patch(path, {"spec": {"deletionPolicy": "Delete"}})
                self.rig.kubernetes.delete(path)
        left, self._left = self._left, []
        for name in left:
            self.rig.until(partial(self._gone, name), within=60, says=f"{name} is gone")
        self.rig.until(self.rig.idle, within=10, says="the operator is idle")

    def _gone(self, name: str) -> bool:
        return world.find(self.rig, name) is None

    def _purge(self, subject: Subject) -> None:
        """A retained tenant's things, which no operator takes away."""
        rig, tenant_id = self.rig, subject.id
        if rig.kubernetes.get(f"/api/v1/namespaces/{subject.name}") is not None:
            rig.kubernetes.delete(f"/api/v1/namespaces/{subject.name}")
        if self._state(subject) != "Retained":
            return
        rig.sql.execute(f"DROP DATABASE IF EXISTS pw_{tenant_id} WITH (FORCE)")
        for (role,) in rig.sql.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE %s", [f"pw_{tenant_id}%"]
        ).fetchall():
            rig.sql.execute(f"DROP ROLE {role}")
        for path in ("platform/database", "user/database"):
            rig.vault.send("DELETE", f"tenants/metadata/{tenant_id}/{path}")
        rig.vault.send("POST", f"transit/keys/{tenant_id}/config", {"deletion_allowed": True})
        rig.vault.send("DELETE", f"transit/keys/{tenant_id}")
