"""The crash sweep: the operator is killed before a write, or after it was applied and before its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from dev.faults import world
from dev.faults.judge import Judge
from dev.faults.kinds import kind
from dev.faults.oracles import Broken
from dev.faults.stories import SUSPEND, Story
from dev.faults.writes import Call, Kill, Write, distinct


@dataclass(slots=True)
class CrashAt:
    """Kills once, at the write with this label and occurrence."""

    target: tuple[str, int]
    before: bool
    struck: bool = False

    def meet(self, call: Call, write: Write | None) -> Kill | None:
        """Kill at the target."""
        if self.struck or write is None or write.target != self.target:
            return None
        self.struck = True
        return Kill(before=self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """One fault of the sweep."""

    story: Story
    write: Write
    before: bool

    @property
    def id(self) -> str:
        """Its name in reports."""
        return f"crash {self.story.name} {self._when} #{self.write.number} {self.write.label}"

    @property
    def key(self) -> str:
        """What it is known by in every learning: writes of different chains change places."""
        return f"crash {self.story.name} {self._when} {self.write.label}, {self.write.occurrence}"

    @property
    def _when(self) -> str:
        return "before" if self.before else "after"

    def run(self, judge: Judge) -> list[Broken]:
        """Play the story, let the operator die at the write, start it again, and judge."""
        fault = CrashAt(self.write.target, self.before)

        return judge.play(self.story, fault, meanwhile=lambda _: _died(judge, self.write))


def _died(judge: Judge, write: Write) -> None:
    judge.rig.until(
        judge.rig.switch.killed.is_set, within=judge.reached_within, says=f"{write.label} is reached"
    )
    judge.rig.until(lambda: not judge.rig.running(), within=10, says="the operator has died")
    judge.rig.switch.fault = None


def sweep(judge: Judge, story: Story, *, every: bool = False) -> list[Crash]:
    """Both variants at each write of the story. every: also at those that only a rollback can follow."""
    writes: Sequence[Write] = judge.learn(story).writes
    chosen = writes if every else distinct(writes)
    return [Crash(story=story, write=write, before=before) for write in chosen for before in (True, False)]


@kind("suspend: the operator dies before it ends a session", sampled=True)
def open_session(judge: Judge) -> list[Broken]:
    """The logins are shut by then, so nothing but what is noted on them says that sessions may be left."""
    rig, learned = judge.rig, judge.learn(SUSPEND)
    ends = next(write for write in learned.writes if "pg_terminate_backend" in write.label)
    subject = judge.begin(SUSPEND)
    kept = rig.vault.get(f"tenants/data/{subject.id}/platform/database")
    with world.log_in(rig, subject, kept["data"]["app_a"]) as session:
        rig.switch.fault = CrashAt(ends.target, before=True)
        try:
            SUSPEND.act(rig, subject)
            _died(judge, ends)
        finally:
            rig.switch.fault = None
        rig.revive()
        broken = judge.verdict(SUSPEND, subject, learned.reference)
        try:
            session.execute("SELECT 1")
            broken.append(Broken("O1", "a session of the suspended tenant goes on"))
        except psycopg.OperationalError:
            session.close()
    return broken
