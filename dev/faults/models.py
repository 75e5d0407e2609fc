"""What happens to a Model while a fault happens to the runner: trained, trained again, deleted.

What there is of one lies in the cluster, in the tenant's journal, in the platform database, in the artifact
store and on Ray; the oracles are those of tenants.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from dev.faults import world
from dev.faults.integrations import is_true
from dev.faults.judge import Judge
from dev.faults.model_rig import ENDED, MODELS, ModelRig
from dev.faults.oracles import Broken, Reference
from dev.faults.rig import Rig
from dev.faults.stories import Story
from dev.faults.world import State, Subject

WITHIN = 120.0
"""Seconds from the end of a fault to a trained model: a failed attempt is followed after ten."""
YEAR = "400 days"
"""Longer ago than the last turn of a schedule that asks once a year, in whichever year this is played."""
_COUNTED = ("INTO pipewright.trainings", "SET phase = $1, outcome", "pipewright.model_pointers")
_OWN = re.compile(r"^ft-[0-9a-f]{8}$")

SPEC: Mapping[str, Any] = {
    "task": "RunFailure",
    "data": {"minRuns": 200},
    "training": {"deadline": "5m", "retries": 1, "hyperparameters": {"trees": 10}},
    "serving": {"default": False},
}
AGAIN: Mapping[str, Any] = {
    "training": {"schedule": "0 0 1 1 *", "hyperparameters": {"trees": 12}},
}
"""It is time to train again, and what comes out is another version although the runs are the same."""


def made(found: Mapping[str, Any] | None, *, attempt: int) -> bool:
    """Whether a version of this attempt predicts, for the Model's generation, and nothing trains."""
    status = (found or {}).get("status") or {}
    active, last = status.get("active") or {}, status.get("lastTraining") or {}
    return (
        is_true(found, "Ready")
        and (last.get("attempt"), last.get("outcome")) == (attempt, "Passed")
        and f"/trainings/{attempt}-" in (active.get("artifact") or {}).get("uri", "")
    )


def is_trained(found: Mapping[str, Any] | None) -> bool:
    """Whether the first training's version predicts."""
    return made(found, attempt=1)


def is_trained_again(found: Mapping[str, Any] | None) -> bool:
    """Whether the second one's does."""
    return made(found, attempt=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStory(Story):
    """What is there before the fault, what the user does then, and when it has come about."""

    trains: bool = False
    """A job is under way before, and does not get on."""

    @property
    def begins_ready(self) -> bool:
        """Whether a version predicts before the fault."""
        return not self.trains and (self.deletes or self.change is not None)

    def prepare(self, rig: Rig) -> Subject:
        """What is there before; the sequence of writes begins after it."""
        own = cast("ModelRig", rig)
        subject = self._begun(own)
        if subject is None:
            subject = Subject(name=f"ft-{uuid.uuid4().hex[:8]}")
            if self.begins_ready or self.trains:
                create(rig, subject, self.spec)
            if self.begins_ready:
                settled(rig, subject, is_trained)
        if self.change is not None:
            own.age(subject.uid, by=YEAR)
        if self.trains:
            own.driver(subject.uid).send_signal(signal.SIGSTOP)
            rig.until(partial(_is_under_way, own, subject), within=30, says="the training is told of")
        rig.switch.begin()
        return subject

    def _begun(self, rig: ModelRig) -> Subject | None:
        if not self.begins_ready or self.spec is not SPEC:
            return None
        return rig.take(2, 1) if self.deletes else rig.take(1)

    def act(self, rig: Rig, subject: Subject) -> None:
        """What the user does."""
        if self.deletes:
            rig.kubernetes.delete(rig.path(subject.name))
        elif self.change is not None:
            rig.kubernetes.patch(rig.path(subject.name), {"spec": self.change})
        else:
            create(rig, subject, self.spec)

    def done(self, rig: Rig, subject: Subject) -> bool:
        """Whether it has come about."""
        found = rig.kubernetes.get(rig.path(subject.name))
        return found is None if self.deletes else self.goal(found)


def create(rig: Rig, subject: Subject, spec: Mapping[str, Any]) -> None:
    """Create the Model and remember its UID."""
    document = {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": subject.name},
        "spec": dict(spec),
    }
    subject.uid = rig.kubernetes.send("POST", MODELS, document)["metadata"]["uid"]


def _is_under_way(rig: ModelRig, subject: Subject) -> bool:
    (training,) = rig.trainings(subject.uid)
    return bool(training["phase"] == "Submitted") and is_true(
        rig.kubernetes.get(rig.path(subject.name)), "Training"
    )


def settled(rig: Rig, subject: Subject, goal: Any) -> list[int]:
    """Wait until the goal is reached and a look writes nothing; the writes of each look."""
    rig.until(
        lambda: goal(rig.kubernetes.get(rig.path(subject.name))),
        within=WITHIN,
        says=f"{subject.name} {goal.__name__.replace('_', ' ')}",
    )
    return rest(rig, subject)


def rest(rig: Rig, subject: Subject) -> list[int]:
    """The writes of each look, until one writes nothing, and of one more."""
    looks = [rig.look(subject.name)]
    while looks[-1] and len(looks) < 6:
        looks.append(rig.look(subject.name))
    return [*looks, rig.look(subject.name)]


CREATE = ModelStory(name="model create", spec=SPEC, goal=is_trained)
RETRAIN = ModelStory(name="model retrain", spec=SPEC, change=AGAIN, goal=is_trained_again)
DELETE = ModelStory(name="model delete", spec=SPEC, deletes=True)
ABANDON = ModelStory(name="model delete while it trains", spec=SPEC, deletes=True, trains=True)
STORIES = (CREATE, RETRAIN, DELETE, ABANDON)
"""In this order one Model may live through the first three."""


class ModelJudge(Judge):
    """Runs stories of Models on one rig, one after the other."""

    rig: ModelRig
    within = WITHIN
    reached_within = 90.0

    def begin(self, story: Story) -> Subject:
        """A Model in a clean place, perhaps one that was trained by the story before."""
        subject = super().begin(story)
        self._left = list(dict.fromkeys(self._left))
        return subject

    def find(self, name: str) -> dict[str, Any] | None:
        """The Model as it is now."""
        found: dict[str, Any] | None = self.rig.kubernetes.get(self.rig.path(name))
        return found

    def identify(self, subject: Subject) -> None:
        """The tenant's id, Ray's token and the passwords of the tenant's database."""
        subject.id = self.rig.tenant_id
        kept = self.rig.vault.get(f"tenants/data/{subject.id}/platform/database")["data"]
        subject.secrets = [
            (self.rig.stack.folder / "ray.token").read_text().strip(),
            *map(str, kept.values()),
        ]

    def state(self, subject: Subject) -> State:
        """Everything of this Model, with its name, ids and UID replaced by words."""
        self.rig.until(partial(self._is_quiet, subject), within=30, says="its jobs have ended")
        found, pointers = self.find(subject.name), self.pointers(subject)
        trainings: list[Any] = list(map(_without_chance, self.rig.trainings(subject.uid)))
        jobs = [job["status"] for job in self.rig.jobs(subject.uid)]
        if found is None:  # it may have been trained once or twice before it was deleted
            trainings = sorted({(it["outcome"], it["reason"].partition(":")[0]) for it in trainings})
            jobs = list(set(jobs))
        document = {
            "model": found,
            "trainings": trainings,
            "pointers": pointers,
            "files": self._files(subject),
            "jobs": sorted(jobs),
            "holds together": [
                digest(file_of(each["artifact_uri"])) == each["artifact_sha256"] for each in pointers
            ],
        }
        return world.plain(document, subject)

    def _is_quiet(self, subject: Subject) -> bool:
        """A report may be there, and be judged, before Ray says that its job has ended."""
        ended = all(job["status"] in ENDED for job in self.rig.jobs(subject.uid))
        return ended and not self.rig.drivers(subject.uid)

    def pointers(self, subject: Subject) -> list[dict[str, Any]]:
        """What the gateway follows for this Model."""
        return self.rig.rows(
            "SELECT model, task, is_default, version, artifact_uri, artifact_sha256, metrics, generation,"
            " control_share FROM pipewright.model_pointers WHERE model_uid::text = %s",
            subject.uid,
            database="pipewright",
        )

    def _files(self, subject: Subject) -> dict[str, str]:
        """Path → digest; a report tells how long it took, so that it is there is all."""
        home = self.rig.home(subject.uid or "none")
        return {
            str(path.relative_to(home)): "a report" if path.name == "report.json" else digest(path)
            for path in sorted(home.rglob("*"))
            if path.is_file()
        }

    def settled(self, story: Story, subject: Subject) -> list[int]:
        """Wait for the goal and for rest; the writes of each look."""
        return settled(self.rig, subject, story.goal)

    def is_of(self, subject: Subject, target: dict[str, Any]) -> bool:
        """Whether an object of the API server is the subject's."""
        return str(target.get("name", "")).startswith(subject.name)

    def globally(self) -> list[Broken]:
        """O3: no pointer, attempt, file, job or process belongs to a Model that is not there."""
        uids = {it["metadata"]["uid"] for it in self.rig.kubernetes.get(MODELS)["items"]}
        pointers = self.rig.rows(
            "SELECT model_uid::text FROM pipewright.model_pointers", database="pipewright"
        )
        running = self.rig.rows(
            "SELECT DISTINCT model_uid::text FROM pipewright.trainings WHERE finished_at IS NULL"
        )
        open_ = {row["model_uid"] for row in running}
        places = {
            "a pointer": {row["model_uid"] for row in pointers},
            "an attempt without an end": open_,
            "a folder in the artifact store": {path.name for path in self.rig.store.glob("*/models/*")},
            "a job that runs": {job["metadata"]["model"] for job in self.rig.jobs()},
        }
        broken = [
            Broken("O3", f"{place} is of {uid}, which no Model is")
            for place, found in places.items()
            for uid in sorted(found - uids)
        ]
        if not open_:
            broken += [Broken("O3", f"the process {each.pid} trains nothing") for each in self.rig.drivers()]
            broken += [Broken("O3", f"{path.name} was begun and left") for path in self.rig.drafts()]
        return broken

    def verdict(
        self,
        story: Story,
        subject: Subject,
        wanted: Reference,
        *,
        within: float | None = None,
        edited: bool = False,
    ) -> list[Broken]:
        """All oracles; a Model that none found fault with may be what another story begins with."""
        broken = super().verdict(story, subject, wanted, within=within, edited=edited)
        if broken:
            self.rig.spare = [each for each in self.rig.spare if each[1] is not subject]
        return broken

    # -- evidence ------------------------------------------------------------------------------------------

    def _counts(self, subject: Subject, logs: dict[str, str]) -> Counter[str]:
        """Besides those in the cluster: jobs given to Ray, attempts and their ends, the pointer's changes.

        How far an attempt is may be noted again, or not at all: the cluster knows it better.
        """
        found = super()._counts(subject, logs)
        for write in self.rig.switch.writes:
            if write.label == "ray: POST jobs/" and write.outcome == "applied":
                found[write.label] += 1
        for transaction in self.rig.switch.transactions:
            for write in transaction.writes:
                if any(text in write.label for text in _COUNTED) and not write.tag.endswith(" 0"):
                    found[write.label] += 1
        return found

    def _trail(self, subject: Subject) -> list[tuple[str, str]]:
        return []  # the runner changes nothing that the platform's trail is about

    def _namespaces(self, subject: Subject) -> list[str]:
        return []

    def _state(self, subject: Subject) -> str | None:
        return None

    # -- clearing up ---------------------------------------------------------------------------------------

    def leave(self, subject: Subject, story: Story) -> None:
        """A deleted one has left nothing; one that was trained may be used again, or is cleared up later."""
        if not story.deletes:
            self.rig.spare.append((1 if story.change is None else 2, subject))
        elif self.find(subject.name) is None:
            self._left.remove(subject.name)

    def clear(self) -> None:
        """Delete what earlier faults left, all at once, with the runner undisturbed."""
        self.rig.switch.fault = None
        self.rig.revive()
        for it in self.rig.kubernetes.get(MODELS)["items"]:
            if _OWN.match(it["metadata"]["name"]):
                self.rig.kubernetes.delete(self.rig.path(it["metadata"]["name"]))
        self._left, self.rig.spare = [], []
        self.rig.until(
            lambda: not self.rig.kubernetes.get(MODELS)["items"], within=90, says="the Models are gone"
        )
        self.rig.until(self.rig.idle, within=10, says="the runner is idle")


def _without_chance(training: Mapping[str, Any]) -> dict[str, Any]:
    """An attempt without what took how long."""
    report = {key: value for key, value in (training["report"] or {}).items() if key != "durationSeconds"}
    return {**training, "report": report}


def file_of(uri: str) -> Path:
    """Where an address of the store lies."""
    return Path(urlsplit(uri).path)


def digest(path: Path) -> str:
    """SHA-256 of a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def conditions(found: Mapping[str, Any] | None) -> dict[str, tuple[str, str]]:
    """Condition → (status, reason)."""
    told = ((found or {}).get("status") or {}).get("conditions") or []
    return {it["type"]: (it["status"], it["reason"]) for it in told}


def told(found: Mapping[str, Any] | None) -> str:
    """A Model's conditions, for a sentence."""
    return json.dumps({kind: " ".join(pair) for kind, pair in conditions(found).items()})
