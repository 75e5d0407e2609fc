"""Servers that stop, die or are sealed, and two operators at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import partial

import yaml

from dev import files, process, product
from dev.faults.judge import Judge
from dev.faults.kinds import kind
from dev.faults.oracles import Broken
from dev.faults.rig import PROVISIONER, Rig
from dev.faults.stories import CREATE, DELETE, RESUME, SUSPEND, Story
from dev.faults.world import Subject
from dev.faults.writes import Call, Treatment, Write

SECOND = "provisioner-second"


class At:
    """Tells when the n-th write comes, and lets it pass."""

    def __init__(self, number: int) -> None:
        self._left, self.reached = number, threading.Event()

    def meet(self, call: Call, write: Write | None) -> Treatment | None:
        """Count."""
        if write is not None:
            self._left -= 1
            if self._left <= 0:
                self.reached.set()
        return None


def _during(
    judge: Judge, story: Story, at: int, disturb: Callable[[Rig], None], *, within: float = 90
) -> list[Broken]:
    """At a write in the middle of the story something happens to a server."""
    fault = At(at)

    def meanwhile(_: Subject) -> None:
        judge.rig.until(fault.reached.is_set, within=20, says=f"write {at} is reached")
        disturb(judge.rig)

    return judge.play(story, fault, meanwhile=meanwhile, within=within)


def _paused(name: str, seconds: float, rig: Rig) -> None:
    rig.stack.kill(name, signal.SIGSTOP)
    threading.Event().wait(seconds)
    rig.stack.kill(name, signal.SIGCONT)


def killed(name: str, rig: Rig) -> None:
    """A server dies, and is started again."""
    rig.stack.kill(name, signal.SIGKILL)
    rig.until(partial(_started, name, rig), within=60, says=f"{name} runs again")
    rig.reconnect()


def _started(name: str, rig: Rig) -> bool:
    """Whether it could be started; a port is not free the instant its owner is killed."""
    rig.stack.start(name)
    return True


def sealed(rig: Rig) -> None:
    """Sealed while the operator works."""
    rig.vault.send("PUT", "sys/seal")
    threading.Event().wait(2.0)
    rig.unseal()


_MIDDLE = {"create": 20, "suspend": 4, "resume": 3, "delete": 5}
_VAULT = {"create": 7, "suspend": 1, "resume": 1, "delete": 3}
for _story in (CREATE, SUSPEND, RESUME, DELETE):
    for _name in ("kube-apiserver", "etcd", "postgres"):
        _sampled = _story is CREATE and _name == "postgres"
        kind(f"{_story.name}: SIGSTOP {_name} for 3 s")(
            partial(_during, story=_story, at=_MIDDLE[_story.name], disturb=partial(_paused, _name, 3.0))
        )
        kind(f"{_story.name}: SIGKILL {_name}", sampled=_sampled)(
            partial(_during, story=_story, at=_MIDDLE[_story.name], disturb=partial(killed, _name))
        )
    kind(f"{_story.name}: Vault sealed for 2 s")(
        partial(_during, story=_story, at=_VAULT[_story.name], disturb=sealed)
    )


@kind("create: two operators, the leader stopped past its Lease, then let go")
def two_operators(judge: Judge) -> list[Broken]:
    """R16: the second takes over; the first, let go, writes nothing more and ends."""
    rig = judge.rig
    path = product.settings_file(rig.stack.folder, PROVISIONER)
    settings = yaml.safe_load(path.read_text())
    port = rig.stack.layout.ports["runner"]
    own = {"identity": "provisioner-1", "listen": {"host": "127.0.0.1", "port": port}}
    files.write(product.settings_file(rig.stack.folder, SECOND), yaml.safe_dump(settings | own))
    fault = At(_MIDDLE["create"])
    learned = judge.learn(CREATE)
    subject = judge.begin(CREATE)
    rig.switch.fault = fault
    process.start(rig.process(SECOND))
    try:
        CREATE.act(rig, subject)
        rig.until(fault.reached.is_set, within=20, says="the leader has begun")
        rig.stack.kill(PROVISIONER, signal.SIGSTOP)
        rig.until(lambda: CREATE.done(rig, subject), within=60, says="the second has taken over")
        rig.stack.kill(PROVISIONER, signal.SIGCONT)
        rig.until(lambda: not rig.running(), within=30, says="the first has ended")
        rig.port = port
        return judge.verdict(CREATE, subject, learned.reference)
    finally:
        rig.switch.fault = None
        rig.port = rig.stack.layout.ports[PROVISIONER]
        process.stop(rig.stack.folder, SECOND)
        rig.revive()
