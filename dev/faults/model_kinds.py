"""What else happens to a training: its process dies, Ray goes, files cannot be written or are others.

Each ends in a word that tells why, a version that was active before stays so, and no attempt is made more
than the spec allows. Servers that refuse or die while it trains change nothing of what is there in the end.
"""

from __future__ import annotations

import dataclasses
import itertools
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import cast

from dev.faults import crash, servers
from dev.faults import model_harm as harm
from dev.faults.judge import Judge
from dev.faults.kinds import Kind, Some, calls, met, writes
from dev.faults.model_endings import Disturb, Ending, trouble
from dev.faults.model_rig import ModelRig
from dev.faults.models import ABANDON, AGAIN, CREATE, RETRAIN, SPEC, STORIES, WITHIN, ModelJudge, ModelStory
from dev.faults.oracles import Broken
from dev.faults.world import Subject
from dev.faults.writes import Call, Cut, Delay, Refuse, Treatment, Write

SLOW = dataclasses.replace(
    CREATE,
    name="model create, slow",
    spec={
        **SPEC,
        "training": {**SPEC["training"], "hyperparameters": {"trees": 100, "learningRate": 0.01}},
    },
)
REFUSED = dataclasses.replace(
    CREATE, name="model create, refused", spec={**SPEC, "evaluation": {"gates": {"minAccuracy": 1}}}
)
REFUSED_AGAIN = dataclasses.replace(
    RETRAIN,
    name="model retrain, refused",
    change={**AGAIN, "evaluation": {"gates": {"minAccuracy": 1}}},
)


PASSED = "GatesPassed"
_FAILED = ("False", "TrainingFailed")


def _troubles() -> Iterator[Kind]:
    first = partial(_trouble, story=CREATE)
    again = partial(_trouble, story=RETRAIN)

    def recovers(word: str) -> Ending:
        return Ending(words=(word, PASSED), active=2)

    def stays(*words: str) -> Ending:
        return Ending(words=(PASSED, *words), active=1, training=_FAILED)

    yield first("driver killed before it reads", harm.killed_at_once, recovers("OutOfMemory"))
    yield _trouble("driver killed while it fits", harm.killed_fitting, recovers("OutOfMemory"), story=SLOW)
    yield first(
        "driver killed before it writes the model",
        partial(harm.killed_fitted, file="model"),
        recovers("OutOfMemory"),
    )
    yield first(
        "driver killed between model and report",
        partial(harm.killed_fitted, file="report.json"),
        recovers("OutOfMemory"),
        sampled=True,
    )
    yield first(
        "each driver killed",
        partial(harm.killed_at_once, attempts=(1, 2)),
        Ending(words=("OutOfMemory",) * 2, active=None, ready=("False", "TrainingFailed"), training=_FAILED),
    )
    yield again(
        "each driver killed",
        partial(harm.killed_at_once, attempts=(2, 3)),
        stays("OutOfMemory", "OutOfMemory"),
    )
    yield first("Ray's supervisor of the job killed", harm.killed_supervisor, recovers("JobFailed"))
    yield first("job stopped by somebody", harm.stopped, recovers("JobStopped"))
    yield first(
        "job stuck until the deadline", partial(harm.stuck, attempts=(1,)), recovers("DeadlineExceeded")
    )
    yield again(
        "each job stuck until the deadline",
        partial(harm.stuck, attempts=(2, 3)),
        stays("DeadlineExceeded", "DeadlineExceeded"),
    )
    yield first("Ray head killed before the job", harm.head_killed_before, Ending(words=(PASSED,), active=1))
    yield first("Ray head killed while it trains", harm.head_killed, Ending(words=(PASSED,), active=1))
    yield first("Ray head killed twice", partial(harm.head_killed, times=2), recovers("JobLost"))
    yield first("Ray head killed after the report", harm.head_killed_after, Ending(words=(PASSED,), active=1))
    yield again(
        "Ray head away past the deadline",
        harm.head_away_too_long,
        Ending(words=(PASSED, "DeadlineExceeded", PASSED), active=3),
    )
    yield first(
        "store takes no window",
        harm.no_window_first,
        Ending(words=(PASSED,), active=1),
        before=harm.without_runner,
    )
    yield again(
        "store takes no window",
        harm.no_window,
        Ending(words=(PASSED, PASSED), active=2),
        before=harm.windows_away,
    )
    yield first("store takes no model", partial(harm.no_room, attempts=(1,)), recovers("JobFailed"))
    yield again(
        "store takes no model, ever", partial(harm.no_room, attempts=(2, 3)), stays("JobFailed", "JobFailed")
    )
    for how, content in (("altered", b"another"), ("removed", None)):
        yield first(
            f"model {how} before it is judged",
            partial(harm.altered, file="model", content=content),
            recovers("ArtifactMismatch"),
        )
        yield first(
            f"model {how} before it is promoted",
            partial(harm.altered_late, attempt=1, content=content),
            Ending(words=(PASSED, PASSED), active=2),
        )
        yield again(
            f"model {how} before it is promoted",
            partial(harm.altered_late, attempt=2, content=content),
            Ending(words=(PASSED, PASSED, PASSED), active=3),
        )
    yield first(
        "report is no report",
        partial(harm.altered, file="report.json", content=b"{"),
        recovers("InvalidReport"),
    )
    yield first(
        "report removed", partial(harm.altered, file="report.json", content=None), recovers("NoReport")
    )
    yield _trouble(
        "gate missed",
        harm.nothing,
        Ending(
            words=("GatesFailed",),
            active=None,
            ready=("False", "GatesFailed"),
            training=("False", "GatesFailed"),
        ),
        story=REFUSED,
    )
    yield _trouble(
        "gate missed",
        harm.nothing,
        Ending(words=(PASSED, "GatesFailed"), active=1, training=("False", "GatesFailed")),
        story=REFUSED_AGAIN,
    )


def _trouble(
    name: str,
    disturb: Disturb,
    ends: Ending,
    *,
    story: ModelStory,
    before: Disturb = harm.nothing,
    sampled: bool = False,
) -> Kind:
    return Kind(
        id=f"{story.name}: {name}",
        play=partial(trouble, story=story, disturb=disturb, ends=ends, before=before),
        sampled=sampled,
    )


_REFUSALS: Mapping[str, tuple[Treatment, str, bool]] = {
    "ray 500": (Refuse(500), "ray", False),
    "ray 401": (Refuse(401), "ray", False),
    "ray truncated": (Cut(), "ray", False),
    "ray cut after a write": (Cut(), "ray", True),
    "ray slow": (Delay(0.4), "ray", False),
    "kubernetes 409 Conflict": (Refuse(409, "Conflict"), "kubernetes", True),
    "kubernetes truncated": (Cut(), "kubernetes", False),
    "postgres cut before a write": (Refuse(0), "postgres", True),
    "postgres cut after a write": (Cut(), "postgres", True),
}


def _some(
    judge: Judge, *, story: ModelStory, treatment: Treatment, system: str, only_writes: bool
) -> list[Broken]:
    """Some of the story's calls are met; what is there in the end, and how often made, stays the same."""
    # the first write, or every other call
    chosen, often = (writes(system), 1) if only_writes else (calls(system), 2)
    fault = Some(treatment, chosen, times=often, every=often)

    def wait(subject: Subject) -> None:
        judge.rig.until(
            lambda: fault.met >= fault.times or story.done(judge.rig, subject),
            within=WITHIN,
            says=f"{treatment} was met",
        )

    return met(fault, judge.play(story, fault, meanwhile=wait))


class Denied:
    """Ray says once that it does not know the job that it was just given, and so it is given once more."""

    def __init__(self) -> None:
        self.given, self._left = 0, 2

    def meet(self, call: Call, write: Write | None) -> Treatment | None:
        """The controller asks, and then who submits."""
        self.given += call.label == harm.SUBMIT
        if not self.given or not self._left or call.label != "ray: GET jobs/<id>":
            return None
        self._left -= 1
        return Refuse(404)


def given_twice(judge: Judge) -> list[Broken]:
    """The same submission is the same job: Ray refuses it, and one trains."""
    fault = Denied()

    def wait(subject: Subject) -> None:
        judge.rig.until(lambda: fault.given > 1, within=60, says="the job is submitted once more")

    return judge.play(CREATE, fault, meanwhile=wait)


def _while_it_trains(judge: Judge, *, happens: Callable[[ModelRig], None]) -> list[Broken]:
    """Something happens to a server that the job itself has nothing to do with."""
    own = cast("ModelJudge", judge)

    def meanwhile(subject: Subject) -> None:
        driver = own.rig.driver(subject.uid)
        driver.send_signal(signal.SIGSTOP)  # the story is not over before the server is back
        happens(own.rig)
        driver.send_signal(signal.SIGCONT)

    return judge.play(CREATE, None, meanwhile=meanwhile)


KINDS: tuple[Kind, ...] = (
    *_troubles(),
    *(
        Kind(
            id=f"{story.name}: {name}",
            play=partial(_some, story=story, treatment=treatment, system=system, only_writes=only_writes),
        )
        for name, (treatment, system, only_writes) in _REFUSALS.items()
        for story in (CREATE, ABANDON)
        if not (story is ABANDON and only_writes and system == "kubernetes")
    ),
    *(
        Kind(
            id=f"model create: SIGKILL {name} while it trains",
            play=partial(_while_it_trains, happens=partial(servers.killed, name)),
        )
        for name in ("postgres", "kube-apiserver", "etcd")
    ),
    Kind(id="model create: job submitted twice", play=given_twice),
    Kind(
        id="model create: Vault sealed while it trains",
        play=partial(_while_it_trains, happens=servers.sealed),
    ),
)


def everything(judge: Judge, *, every: bool = False) -> list[crash.Crash | Kind]:
    """All faults there are: the sweeps of all stories side by side, then the others.

    Side by side, because what one story made another may go on with: half of the trainings.
    """
    swept = [crash.sweep(judge, story, every=every) for story in STORIES]
    dealt = [case for row in itertools.zip_longest(*swept) for case in row if case is not None]
    return [*dealt, *KINDS]


def sample(judge: Judge, *, crashes: int) -> list[crash.Crash | Kind]:
    """So many crashes, evenly over the sweep of a creation, alternating variants, and the sampled others."""
    swept = crash.sweep(judge, CREATE)
    pairs = list(zip(swept[::2], swept[1::2], strict=True))
    step = len(pairs) / crashes
    chosen = [pairs[int(step * index + step / 2)][index % 2] for index in range(crashes)]
    return [*chosen, *(kind for kind in KINDS if kind.sampled)]
