"""How a Model ends after trouble with its training: told beforehand, looked at all the while, and at rest."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from dev.faults import oracles
from dev.faults.admin import Kubernetes
from dev.faults.judge import Judge
from dev.faults.model_rig import ModelRig
from dev.faults.models import WITHIN, ModelJudge, ModelStory, conditions, digest, file_of, rest
from dev.faults.oracles import Broken
from dev.faults.rig import Late
from dev.faults.world import Subject

_ATTEMPT = re.compile(r"/trainings/(\d+)-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a Model is to be in the end."""

    words: tuple[str, ...]
    """The word of each attempt's end, the first one first."""
    active: int | None
    """The attempt whose version predicts."""
    ready: tuple[str, str] = ("True", "Active")
    training: tuple[str, str] = ("False", "Idle")


def ending(judge: ModelJudge, subject: Subject) -> Ending:
    """How it is now."""
    told = conditions(judge.find(subject.name))
    found = [_ATTEMPT.search(each["artifact_uri"]) for each in judge.pointers(subject)]
    return Ending(
        words=tuple(each["reason"].partition(":")[0] for each in judge.rig.trainings(subject.uid)),
        active=next((int(each.group(1)) for each in found if each), None),
        ready=told.get("Ready", ("", "")),
        training=told.get("Training", ("", "")),
    )


class Witness:
    """Looks at a Model all the while: whether it is Ready, and by which version."""

    def __init__(self, rig: ModelRig, subject: Subject) -> None:
        self.seen: set[tuple[str, str]] = set()
        self._own, self._path = Kubernetes(rig.cluster), rig.path(subject.name)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(0.2):
            with contextlib.suppress(Exception):  # a server that does not answer has nothing to tell
                found = self._own.get(self._path) or {}
                active = (found.get("status") or {}).get("active") or {}
                attempt = _ATTEMPT.search((active.get("artifact") or {}).get("uri", ""))
                ready = conditions(found).get("Ready", ("", ""))[0]
                self.seen.add((ready, attempt.group(1) if attempt else ""))

    @contextmanager
    def looking(self) -> Iterator[None]:
        """For this block."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


Disturb = Callable[[ModelJudge, Subject], None]


def trouble(
    judge: Judge,
    *,
    story: ModelStory,
    disturb: Disturb,
    ends: Ending,
    before: Disturb = lambda _judge, _subject: None,
) -> list[Broken]:
    """Something happens to a training; in the end it is as told, and rests."""
    own = cast("ModelJudge", judge)
    rig, subject = own.rig, own.begin(story)
    witness = Witness(rig, subject)
    with witness.looking():
        try:
            before(own, subject)
            story.act(rig, subject)
            disturb(own, subject)
        finally:
            rig.switch.fault = None
        rig.revive()
        broken = _ended(own, subject, ends)
    if story.begins_ready:
        allowed = {("True", "1"), ("True", str(ends.active))}
        broken += [
            Broken(
                "O1", f"meanwhile Ready was {ready or 'not there'}, the active attempt {attempt or 'none'}"
            )
            for ready, attempt in sorted(witness.seen - allowed)
        ]
    own.clear()
    return broken


def _ended(judge: ModelJudge, subject: Subject, ends: Ending) -> list[Broken]:
    """The ending, the oracles on it, and that it stays so."""
    rig = judge.rig
    try:
        rig.until(lambda: ending(judge, subject) == ends, within=WITHIN, says="it ends as told")
    except Late:
        return [Broken("O6", f"it is {ending(judge, subject)}, not {ends}")]
    looks = rest(rig, subject)
    judge.identify(subject)
    judge.state(subject)  # its jobs have ended
    broken = [*oracles.rest(looks), *judge.globally()]
    broken += oracles.secrets(subject.secrets, judge.texts(subject))
    if ending(judge, subject) != ends:
        broken.append(Broken("O5", f"then it was {ending(judge, subject)}"))
    for pointer in judge.pointers(subject):
        if digest(file_of(pointer["artifact_uri"])) != pointer["artifact_sha256"]:
            broken.append(Broken("O1", "the active version's file is not the one that was judged"))
    submitted = {it["submission_id"] for it in rig.trainings(subject.uid)}
    strange = [it["submission_id"] for it in rig.jobs(subject.uid) if it["submission_id"] not in submitted]
    return broken + [Broken("O2", f"Ray has a job {each} of no attempt") for each in strange]
