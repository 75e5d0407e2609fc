"""What the operator is told of the world: old lists, lost frames, watches that fall silent, fast edits."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from dev.faults import stories, world
from dev.faults.admin import TENANTS
from dev.faults.judge import Judge
from dev.faults.kinds import Frames, kind
from dev.faults.oracles import Broken
from dev.faults.stories import CHANGE, CHANGED, CREATE, DELETE, SPEC, Story
from dev.faults.world import Subject
from dev.faults.writes import Call, DropFrames, Hole, Replay, Treatment, Write


class Frozen:
    """LIST of Tenants is answered with an old list, and a watch brings nothing: a server that lags."""

    def __init__(self, listed: Any) -> None:
        self._body, self.served = json.dumps(listed).encode(), 0

    def meet(self, call: Call, write: Write | None) -> Treatment | None:
        """Old answers for LIST and WATCH of Tenants; everything else is today's."""
        if not call.label.endswith(" tenants"):
            return None
        if call.watches:
            return Hole()
        if call.lists:
            self.served += 1
            return Replay(self._body)
        return None


@kind("recreate: a stale list with the old deletionTimestamp after a restart", sampled=True)
def stale_deletion(judge: Judge) -> list[Broken]:
    """R2: the list shows the namesake being deleted; the new Tenant's things stay untouched."""
    rig, learned = judge.rig, judge.learn(CREATE)
    old = judge.begin(DELETE)
    DELETE.act(rig, old)
    listed = rig.kubernetes.get(TENANTS)
    if not any(it["metadata"].get("deletionTimestamp") for it in listed["items"]):
        return [Broken("O6", "the Tenant was gone before it was listed")]
    judge.finish(DELETE, old, within=60)
    rig.switch.begin()
    judge.forget_logs()
    new = Subject(name=old.name)
    stories.create(rig, new, SPEC)
    stories.settled(rig, new)
    before = len(rig.switch.writes)
    fault = rig.switch.fault = Frozen(listed)
    try:
        rig.restart()
        rig.until(lambda: fault.served > 0 and rig.idle(), within=10, says="the stale list was worked on")
        time.sleep(1.0)  # for what a wrong operator would do now: there is no fact to wait for
        written = len(rig.switch.writes) - before
    finally:
        rig.switch.fault = None
    rig.restart()
    broken = [Broken("O5", f"{written} writes because of a stale list")] if written else []
    return broken + judge.verdict(CREATE, new, learned.reference)


@kind("change: a stale list with the old spec after a restart")
def stale_spec(judge: Judge) -> list[Broken]:
    """R3: the list shows the spec of before; what is written is today's."""
    rig, learned = judge.rig, judge.learn(CHANGE)
    subject = judge.begin(CHANGE)
    listed = rig.kubernetes.get(TENANTS)
    CHANGE.act(rig, subject)
    judge.finish(CHANGE, subject)
    fault = rig.switch.fault = Frozen(listed)
    try:
        rig.restart()
        rig.until(lambda: fault.served > 0 and rig.idle(), within=10, says="the stale list was worked on")
    finally:
        rig.switch.fault = None
    rig.restart()
    return judge.verdict(CHANGE, subject, learned.reference)


def _dropped(judge: Judge, story: Story, frame: bytes) -> list[Broken]:
    """Frames of one type do not come; the operator looks again by its period, here of three seconds."""
    rig, learned = judge.rig, judge.learn(story)
    subject = judge.begin(story)
    drop = Frames(Hole())
    drop.treatment = DropFrames(subject.name.encode(), (frame,), drop.count)
    rig.switch.fault = drop
    rig.restart(resync=3.0)
    try:
        rig.until(lambda: drop.opened > 0, within=15, says="the watch is open")
        story.act(rig, subject)
        rig.until(lambda: drop.dropped > 0, within=10, says="a frame was dropped")
        broken = judge.verdict(story, subject, learned.reference)
    finally:
        rig.switch.fault = None
        rig.restart()
    return broken


@kind("change: MODIFIED frames are lost")
def lost_modified(judge: Judge) -> list[Broken]:
    """R4: the change is found at the periodic look."""
    return _dropped(judge, CHANGE, b"MODIFIED")


@kind("delete: MODIFIED frames are lost")
def lost_deletion(judge: Judge) -> list[Broken]:
    """R4: the deletionTimestamp is found at the periodic look."""
    return _dropped(judge, DELETE, b"MODIFIED")


@kind("create: the operator is down meanwhile", sampled=True)
def down_meanwhile(judge: Judge) -> list[Broken]:
    """R4: nothing of the creation was seen; the list tells it."""
    rig, learned = judge.rig, judge.learn(CREATE)
    subject = judge.begin(CREATE)
    rig.end()
    CREATE.act(rig, subject)
    rig.start()
    return judge.verdict(CREATE, subject, learned.reference)


@kind("create and delete: the operator is down meanwhile")
def never_seen(judge: Judge) -> list[Broken]:
    """R12: created and deleted unseen: the Tenant goes, and nothing of it was ever made."""
    rig = judge.rig
    subject = judge.begin(CREATE)
    rig.end()
    CREATE.act(rig, subject)
    rig.kubernetes.delete(f"{TENANTS}/{subject.name}")
    rig.start()
    rig.until(lambda: world.find(rig, subject.name) is None, within=20, says=f"{subject.name} is gone")
    return judge.globally()


@kind("create: a watch that falls silent")
def silent(judge: Judge) -> list[Broken]:
    """R10: no bytes and no end; a new watch is opened within 75 s, and nothing is missed."""
    rig, learned = judge.rig, judge.learn(CREATE)
    subject = judge.begin(CREATE)
    fault = rig.switch.fault = Frames(Hole())
    rig.restart()
    rig.until(lambda: fault.opened > 0, within=15, says="the watch is open")
    rig.switch.fault = None  # the next watch is a good one; this one stays as it is
    CREATE.act(rig, subject)
    return judge.verdict(CREATE, subject, learned.reference, within=90)


@kind("create: the spec is edited every 50 ms", sampled=True)
def edited(judge: Judge) -> list[Broken]:
    """R6: the last spec is what there is in the end."""
    rig, learned = judge.rig, judge.learn(CREATE)
    subject = judge.begin(CREATE)
    CREATE.act(rig, subject)
    stop = time.monotonic() + 3.0
    number = 10
    while time.monotonic() < stop:
        number += 1
        rig.kubernetes.patch(f"{TENANTS}/{subject.name}", {"spec": {"quota": {"pods": str(number)}}})
        threading.Event().wait(0.05)
    rig.kubernetes.patch(f"{TENANTS}/{subject.name}", {"spec": {"quota": SPEC["quota"]}})
    return judge.verdict(CREATE, subject, learned.reference, edited=True)


@kind("recreate: the same name at once")
def recreated(judge: Judge) -> list[Broken]:
    """Deleted and created again under the same name as soon as it is free."""
    rig, learned = judge.rig, judge.learn(CREATE)
    old = judge.begin(DELETE)
    DELETE.act(rig, old)
    judge.finish(DELETE, old, within=60)
    rig.switch.begin()
    judge.forget_logs()
    new = Subject(name=old.name)
    stories.create(rig, new, SPEC)
    return judge.verdict(CREATE, new, learned.reference)


@kind("change, then back while the operator is down")
def reverted(judge: Judge) -> list[Broken]:
    """R3: a change that was taken back unseen causes nothing."""
    rig, learned = judge.rig, judge.learn(CREATE)
    subject = judge.begin(CREATE)
    CREATE.act(rig, subject)
    stories.settled(rig, subject)
    rig.end()
    rig.kubernetes.patch(f"{TENANTS}/{subject.name}", {"spec": CHANGED})
    back = {"quota": SPEC["quota"], "limits": None, "database": SPEC["database"]}
    back["access"] = {"owners": None, "viewers": SPEC["access"]["viewers"]}
    rig.kubernetes.patch(f"{TENANTS}/{subject.name}", {"spec": back})
    rig.start()
    return judge.verdict(CREATE, subject, learned.reference, edited=True)
