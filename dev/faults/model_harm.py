"""What is done to a training while the runner is at work: to its process, to Ray, to its files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from dev.faults.model_rig import gate
from dev.faults.models import CREATE, WITHIN, ModelJudge, conditions, file_of
from dev.faults.rig import Late
from dev.faults.world import Subject
from dev.faults.writes import Call, Treatment, Write

LONG = "6 minutes"
"""Longer than a training may take by the stories' spec."""
SUBMIT, FINISH = "ray: POST jobs/", "SET phase = $1, outcome"
"""Labels, or parts of them, of writes in every training."""
_FITTING = 0.3
"""Seconds of computing after the data were read, of the two or three that the fit of many trees takes."""


# --- the process that trains ------------------------------------------------------------------------------


def running(judge: ModelJudge, subject: Subject, number: int) -> dict[str, Any]:
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
        folder = running(judge, subject, number)["folder"]
        judge.rig.driver(subject.uid).kill()
        _must(not folder.exists(), "the job had written something")


def killed_fitting(judge: ModelJudge, subject: Subject) -> None:
    """It has read the data, and computes."""
    attempt = running(judge, subject, 1)
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
    folder = running(judge, subject, 1)["folder"]
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
    running(judge, subject, 1)
    judge.rig.supervisor(judge.rig.driver(subject.uid)).kill()


def stuck(judge: ModelJudge, subject: Subject, *, attempts: tuple[int, ...]) -> None:
    """It does nothing any more, and its time is over."""
    for number in attempts:
        running(judge, subject, number)
        judge.rig.driver(subject.uid).suspend()
        judge.rig.age(subject.uid, by=LONG)


def stopped(judge: ModelJudge, subject: Subject) -> None:
    """Somebody stops it by Ray's own means."""
    attempt = running(judge, subject, 1)
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
    running(judge, subject, 2)
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
    folder: Path = running(judge, subject, attempt)["folder"]
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
    path = file_of(running(judge, subject, attempt)["artifact_uri"])
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
        folder: Path = running(judge, subject, number)["folder"]
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
