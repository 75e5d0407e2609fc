"""Servers and a CI system that refuse, are slow or cut off while something happens to an Integration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from dev.faults import crash
from dev.faults.integrations import DELETE, REGISTER, ROTATION, STORIES, IntegrationStory
from dev.faults.judge import Judge
from dev.faults.kinds import Kind, Some, calls, met, writes
from dev.faults.oracles import Broken
from dev.faults.world import Subject
from dev.faults.writes import Cut, Delay, Refuse, Treatment

WITHIN = 90.0
"""Seconds in which a story comes about although some calls were refused, waits included."""

_REFUSALS: Mapping[str, tuple[Treatment, str, bool]] = {
    "kubernetes 409 Conflict": (Refuse(409, "Conflict"), "kubernetes", True),
    "kubernetes 500": (Refuse(500, "InternalError"), "kubernetes", False),
    "kubernetes truncated": (Cut(), "kubernetes", False),
    "vault 412": (Refuse(412), "vault", True),
    "vault 503 sealed": (Refuse(503, "Vault is sealed"), "vault", False),
    "vault truncated": (Cut(), "vault", False),
    "postgres cut before a write": (Refuse(0), "postgres", True),
    "postgres cut after a write": (Cut(), "postgres", True),
    "provider 429 Retry-After": (Refuse(429, retry_after=1), "provider", False),
    "provider cut after a write": (Cut(), "provider", True),
    "provider slow": (Delay(0.4), "provider", False),
}
_SAMPLED = {"vault 412", "postgres cut after a write", "provider 429 Retry-After"}


def _some(
    judge: Judge, *, story: IntegrationStory, treatment: Treatment, system: str, only_writes: bool
) -> list[Broken]:
    """One of the story's calls is met; what is there in the end, and how often made, stays the same."""
    fault = Some(treatment, writes(system) if only_writes else calls(system), times=1, every=1)

    def wait(subject: Subject) -> None:
        judge.rig.until(
            lambda: fault.met >= fault.times or story.done(judge.rig, subject),
            within=WITHIN,
            says=f"{treatment} was met",
        )

    return met(fault, judge.play(story, fault, meanwhile=wait, within=WITHIN))


KINDS: tuple[Kind, ...] = tuple(
    Kind(
        id=f"{story.name}: {name}",
        play=partial(_some, story=story, treatment=treatment, system=system, only_writes=only_writes),
        sampled=story is REGISTER and name in _SAMPLED,
    )
    for name, (treatment, system, only_writes) in _REFUSALS.items()
    for story in (REGISTER, ROTATION, DELETE)
    # a deletion writes nothing but the finalizer to the cluster, and perhaps loses its own answer
    if not (story is DELETE and only_writes and system == "kubernetes")
)


def everything(judge: Judge, *, every: bool = False) -> list[crash.Crash | Kind]:
    """All faults there are: the sweeps of each story, then the others."""
    swept = [case for story in STORIES for case in crash.sweep(judge, story, every=every)]
    return [*swept, *KINDS]


def sample(judge: Judge, *, crashes: int) -> list[crash.Crash | Kind]:
    """So many crashes, evenly over the sweep, alternating variants, and the sampled others."""
    swept = [case for story in STORIES for case in crash.sweep(judge, story)]
    pairs = list(zip(swept[::2], swept[1::2], strict=True))
    step = len(pairs) / crashes
    chosen = [pairs[int(step * index + step / 2)][index % 2] for index in range(crashes)]
    return [*chosen, *(kind for kind in KINDS if kind.sampled)]
