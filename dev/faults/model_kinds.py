"""What else happens to a training: its process dies, Ray goes, files cannot be written or are others.

Each ends in a word that tells why, a version that was active before stays so, and no attempt is made more
than the spec allows. Servers that refuse or die while it trains change nothing of what is there in the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil

from dev.faults import crash, oracles, servers
from dev.faults.admin import Kubernetes
from dev.faults.judge import Judge
from dev.faults.kinds import Kind, Some, calls, met, writes
from dev.faults.model_rig import ModelRig, gate
from dev.faults.models import (
    ABANDON,
    AGAIN,
    CREATE,
    RETRAIN,
    SPEC,
    STORIES,
    WITHIN,
    ModelJudge,
    ModelStory,
    conditions,
    digest,
    file_of,
    rest,
)
from dev.faults.oracles import Broken
from dev.faults.rig import Late
from dev.faults.world import Subject
from dev.faults.writes import Call, Cut, Delay, Refuse, Treatment, Write

LONG = "6 minutes"
"""Longer than a training may take by the stories' spec."""
SUBMIT, FINISH = "ray: POST jobs/", "SET phase = $1, outcome"
"""Labels, or parts of them, of writes in every training."""
_ATTEMPT = re.compile(r"/trainings/(\d+)-")
_FITTING = 0.3
"""Seconds of computing after the data were read, of the two or three that the fit of many trees takes."""

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


# --- the process that trains ------------------------------------------------------------------------------


def _attempt(judge: ModelJudge, subject: Subject, number: int) -> dict[str, Any]:
    """An attempt that runs; its folder lies at `folder`."""

    def there() -> dict[str, Any] | None:
        found = judge.rig.trainings(subject.uid)
        running = len(found) == number and found[-1]["finished_at"] is None
        return found[-1] if running else None

    found = judge.rig.until(there, within=WITHIN, says=f"attempt {number} is under way")
    return {**found, "folder": file_of(found["report_uri"]).parent}


def killed_at_once(judge: ModelJudge, subject: Subject, *, attempts: tuple[int, ...] = (1,)) -> None:
    """SIGKILL, as the kernel does it where memory is short, before the job has read anything."""
    for number in attempts:
        folder = _attempt(judge, subject, number)["folder"]
        judge.rig.driver(subject.uid).kill()
        _must(not folder.exists(), "the job had written something")


def killed_fitting(judge: ModelJudge, subject: Subject) -> None:
    """It has read the data, and computes."""
    attempt = _attempt(judge, subject, 1)
    window = file_of(attempt["window_uri"])
    driver, content = judge.rig.driver(subject.uid), window.read_bytes()
    driver.suspend()
    aside = window.rename(window.with_name("aside"))
    with gate(window):
        driver.resume()
        with window.open("wb") as file:  # waits until the job reads, and until it has read
            file.write(content)
        spent = _cpu(driver)
    aside.rename(window)
    judge.rig.until(lambda: _cpu(driver) > spent + _FITTING, within=60, says="it computes")
    driver.kill()
    _must(not attempt["folder"].exists(), "the fit was over")


def killed_fitted(judge: ModelJudge, subject: Subject, *, file: str) -> None:
    """It is about to write one of its files: `model`, or with that written `report.json`."""
    folder = _attempt(judge, subject, 1)["folder"]
    driver = judge.rig.driver(subject.uid)
    driver.suspend()
    with gate(folder / f".{file}.{driver.pid}"):
        driver.resume()
        judge.rig.until(partial(_waits, driver), within=60, says="the job writes its file")
        driver.kill()
        judge.rig.until(lambda: not driver.is_running(), within=10, says="it is dead")
    _must((folder / "model").exists() is (file != "model"), "the model was not there, or was there already")
    _must(not (folder / "report.json").exists(), "the report was there already")


def killed_supervisor(judge: ModelJudge, subject: Subject) -> None:
    """Ray's own process that answers for the job: its driver is lost."""
    _attempt(judge, subject, 1)
    judge.rig.supervisor(judge.rig.driver(subject.uid)).kill()


def stuck(judge: ModelJudge, subject: Subject, *, attempts: tuple[int, ...]) -> None:
    """It does nothing any more, and its time is over."""
    for number in attempts:
        _attempt(judge, subject, number)
        judge.rig.driver(subject.uid).suspend()
        judge.rig.age(subject.uid, by=LONG)


def stopped(judge: ModelJudge, subject: Subject) -> None:
    """Somebody stops it by Ray's own means."""
    attempt = _attempt(judge, subject, 1)
    judge.rig.driver(subject.uid)
    judge.rig.ask_ray("POST", f"jobs/{attempt['submission_id']}/stop")


def _cpu(driver: psutil.Process) -> float:
    spent = driver.cpu_times()
    return float(spent.user + spent.system)


def _waits(driver: psutil.Process) -> bool:
    """Whether it sleeps, for longer than anything but a closed gate lets it."""
    before = _cpu(driver)
    for _ in range(20):
        if driver.status() != psutil.STATUS_SLEEPING:
            return False
        time.sleep(0.05)
    return _cpu(driver) == before and before > 0.3


def _must(holds: bool, otherwise: str) -> None:
    """A fault that did not meet what it was for proves nothing."""
    if not holds:
        raise Late(f"the fault came too late: {otherwise}")


# --- Ray --------------------------------------------------------------------------------------------------


class Meets:
    """Does something once, when a write with this in its label comes, before it is forwarded."""

    def __init__(self, text: str, act: Callable[[], None], *, times: int = 1) -> None:
        self._text, self._act, self._left = text, act, times
        self.over = threading.Event()

    def meet(self, call: Call, write: Write | None) -> Treatment | None:
        """Act, in the proxies' thread."""
        if write is not None and self._text in call.label and self._left:
            self._left -= 1
            self._act()
            if not self._left:
                self.over.set()
        return None


def _says_unreachable(judge: ModelJudge, subject: Subject) -> bool:
    return any(reason == "Unreachable" for _, reason in conditions(judge.find(subject.name)).values())


def _told_unreachable(judge: ModelJudge, subject: Subject) -> None:
    there = partial(_says_unreachable, judge, subject)
    judge.rig.until(there, within=60, says="a condition says Unreachable")


def head_killed(judge: ModelJudge, subject: Subject, *, times: int = 1) -> None:
    """While the job runs, which goes with it: a new head knows nothing of it."""
    for phase in ("Submitted", "Resubmitted")[:times]:
        judge.rig.driver(subject.uid)
        judge.rig.until(partial(_is_noted, judge, subject, phase), within=20, says=f"the job is {phase}")
        judge.rig.end_ray()
        _told_unreachable(judge, subject)
        judge.rig.start_ray()


def _is_noted(judge: ModelJudge, subject: Subject, phase: str) -> bool:
    return bool(judge.rig.trainings(subject.uid)[-1]["phase"] == phase)


def head_killed_before(judge: ModelJudge, subject: Subject) -> None:
    """The moment before the job is submitted."""
    fault = Meets(SUBMIT, judge.rig.end_ray)
    judge.rig.switch.fault = fault
    judge.rig.until(fault.over.is_set, within=30, says="the job is submitted")
    _told_unreachable(judge, subject)
    judge.rig.start_ray()


def head_killed_after(judge: ModelJudge, subject: Subject) -> None:
    """The report is written, and nobody has read it; it survives the cluster, which stays away."""
    with held(judge, subject):
        judge.rig.end_ray()
    try:
        judge.rig.until(lambda: CREATE.done(judge.rig, subject), within=WITHIN, says="the report decides")
    finally:
        judge.rig.start_ray()


def head_away_too_long(judge: ModelJudge, subject: Subject) -> None:
    """It is away until the training's time is over, and longer."""
    _attempt(judge, subject, 2)
    judge.rig.driver(subject.uid)
    judge.rig.until(partial(_is_noted, judge, subject, "Submitted"), within=20, says="the job is noted")
    judge.rig.end_ray()
    _told_unreachable(judge, subject)
    judge.rig.age(subject.uid, by=LONG)
    judge.rig.until(partial(_is_told_to_stop, judge), within=60, says="it is told to stop, in vain")
    judge.rig.start_ray()


def _is_told_to_stop(judge: ModelJudge) -> bool:
    return any(write.label.endswith("/stop") for write in list(judge.rig.switch.writes))


# --- the store --------------------------------------------------------------------------------------------


@contextmanager
def held(judge: ModelJudge, subject: Subject, *, attempt: int = 1) -> Iterator[Path]:
    """The runner is away while the job ends, and comes back after this block; where its files are."""
    folder: Path = _attempt(judge, subject, attempt)["folder"]
    judge.rig.driver(subject.uid)
    judge.rig.end()
    judge.rig.until((folder / "report.json").exists, within=60, says="the job has reported")
    judge.rig.until(lambda: not judge.rig.drivers(subject.uid), within=20, says="the job has ended")
    yield folder
    judge.rig.start()


def altered(judge: ModelJudge, subject: Subject, *, file: str, content: bytes | None) -> None:
    """A file is another, or gone, when the runner looks at it first."""
    with held(judge, subject) as folder:
        _alter(folder / file, content)


def altered_late(judge: ModelJudge, subject: Subject, *, attempt: int, content: bytes | None) -> None:
    """The model is another, or gone, after it was judged and before it is promoted."""
    path = file_of(_attempt(judge, subject, attempt)["artifact_uri"])
    fault = Meets(FINISH, partial(_alter, path, content))
    judge.rig.switch.fault = fault
    judge.rig.until(fault.over.is_set, within=WITHIN, says="the attempt is judged")


def _alter(path: Path, content: bytes | None) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def no_window_first(judge: ModelJudge, subject: Subject) -> None:
    """A store that takes no window: nothing begins, and somebody is told; then it does."""
    place = judge.rig.home(subject.uid) / "windows"
    place.parent.mkdir(parents=True)
    place.write_text("in the way")
    judge.rig.start()
    _told_unreachable(judge, subject)
    _must(not judge.rig.trainings(subject.uid), "an attempt was begun")
    place.unlink()


def no_window(judge: ModelJudge, subject: Subject) -> None:
    """The same while a version predicts, whose files can be read."""
    _told_unreachable(judge, subject)
    _must(len(judge.rig.trainings(subject.uid)) == 1, "an attempt was begun")
    place = judge.rig.home(subject.uid) / "windows"
    place.unlink()
    place.with_name("aside").rename(place)


def windows_away(judge: ModelJudge, subject: Subject) -> None:
    """A file lies where the windows were: not even root can write below it."""
    place = judge.rig.home(subject.uid) / "windows"
    place.rename(place.with_name("aside"))
    place.write_text("in the way")


def no_room(judge: ModelJudge, subject: Subject, *, attempts: tuple[int, ...]) -> None:
    """A file lies where a job would write its own: neither model nor report can be written."""
    for number in attempts:
        folder: Path = _attempt(judge, subject, number)["folder"]
        folder.parent.mkdir(exist_ok=True)
        folder.write_text("in the way")
        judge.rig.until(partial(_is_over, judge, subject, number), within=WITHIN, says="the job has failed")
        folder.unlink()


def _is_over(judge: ModelJudge, subject: Subject, number: int) -> bool:
    return judge.rig.trainings(subject.uid)[number - 1]["finished_at"] is not None


def without_runner(judge: ModelJudge, subject: Subject) -> None:
    """Nobody looks at what the user does, for now."""
    judge.rig.end()


def nothing(judge: ModelJudge, subject: Subject) -> None:
    """What the story does is trouble enough."""


# --- the faults -------------------------------------------------------------------------------------------

PASSED, RECOVERED = "GatesPassed", ("False", "Idle")
_FAILED = ("False", "TrainingFailed")


def _troubles() -> Iterator[Kind]:
    first = partial(_trouble, story=CREATE)
    again = partial(_trouble, story=RETRAIN)

    def recovers(word: str) -> Ending:
        return Ending(words=(word, PASSED), active=2)

    def stays(*words: str) -> Ending:
        return Ending(words=(PASSED, *words), active=1, training=_FAILED)

    yield first("driver killed before it reads", killed_at_once, recovers("OutOfMemory"))
    yield _trouble("driver killed while it fits", killed_fitting, recovers("OutOfMemory"), story=SLOW)
    yield first(
        "driver killed before it writes the model",
        partial(killed_fitted, file="model"),
        recovers("OutOfMemory"),
    )
    yield first(
        "driver killed between model and report",
        partial(killed_fitted, file="report.json"),
        recovers("OutOfMemory"),
        sampled=True,
    )
    yield first(
        "each driver killed",
        partial(killed_at_once, attempts=(1, 2)),
        Ending(words=("OutOfMemory",) * 2, active=None, ready=("False", "TrainingFailed"), training=_FAILED),
    )
    yield again(
        "each driver killed",
        partial(killed_at_once, attempts=(2, 3)),
        stays("OutOfMemory", "OutOfMemory"),
    )
    yield first("Ray's supervisor of the job killed", killed_supervisor, recovers("JobFailed"))
    yield first("job stopped by somebody", stopped, recovers("JobStopped"))
    yield first("job stuck until the deadline", partial(stuck, attempts=(1,)), recovers("DeadlineExceeded"))
    yield again(
        "each job stuck until the deadline",
        partial(stuck, attempts=(2, 3)),
        stays("DeadlineExceeded", "DeadlineExceeded"),
    )
    yield first("Ray head killed before the job", head_killed_before, Ending(words=(PASSED,), active=1))
    yield first("Ray head killed while it trains", head_killed, Ending(words=(PASSED,), active=1))
    yield first("Ray head killed twice", partial(head_killed, times=2), recovers("JobLost"))
    yield first("Ray head killed after the report", head_killed_after, Ending(words=(PASSED,), active=1))
    yield again(
        "Ray head away past the deadline",
        head_away_too_long,
        Ending(words=(PASSED, "DeadlineExceeded", PASSED), active=3),
    )
    yield first(
        "store takes no window",
        no_window_first,
        Ending(words=(PASSED,), active=1),
        before=without_runner,
    )
    yield again(
        "store takes no window",
        no_window,
        Ending(words=(PASSED, PASSED), active=2),
        before=windows_away,
    )
    yield first("store takes no model", partial(no_room, attempts=(1,)), recovers("JobFailed"))
    yield again(
        "store takes no model, ever", partial(no_room, attempts=(2, 3)), stays("JobFailed", "JobFailed")
    )
    for how, content in (("altered", b"another"), ("removed", None)):
        yield first(
            f"model {how} before it is judged",
            partial(altered, file="model", content=content),
            recovers("ArtifactMismatch"),
        )
        yield first(
            f"model {how} before it is promoted",
            partial(altered_late, attempt=1, content=content),
            Ending(words=(PASSED, PASSED), active=2),
        )
        yield again(
            f"model {how} before it is promoted",
            partial(altered_late, attempt=2, content=content),
            Ending(words=(PASSED, PASSED, PASSED), active=3),
        )
    yield first(
        "report is no report",
        partial(altered, file="report.json", content=b"{"),
        recovers("InvalidReport"),
    )
    yield first("report removed", partial(altered, file="report.json", content=None), recovers("NoReport"))
    yield _trouble(
        "gate missed",
        nothing,
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
        nothing,
        Ending(words=(PASSED, "GatesFailed"), active=1, training=("False", "GatesFailed")),
        story=REFUSED_AGAIN,
    )


def _trouble(
    name: str,
    disturb: Disturb,
    ends: Ending,
    *,
    story: ModelStory,
    before: Disturb = nothing,
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
        self.given += call.label == SUBMIT
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
