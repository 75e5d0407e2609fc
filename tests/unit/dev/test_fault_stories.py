"""When a story has come about: a condition counts only for the generation that the Tenant has."""

from __future__ import annotations

from typing import Any

import pytest

from dev.faults import integration_kinds, integrations, model_kinds, models, servers, stories
from dev.faults.kinds import KINDS
from dev.faults.stories import STORIES


def tenant(*told: tuple[str, str, str], generation: int = 2) -> dict[str, Any]:
    conditions = [
        {"type": kind, "status": status, "reason": reason, "observedGeneration": generation}
        for kind, status, reason in told
    ]
    return {"metadata": {"generation": 2}, "status": {"conditions": conditions}}


WORKS = (("Ready", "True", "Ready"), ("Suspended", "False", "NotSuspended"))
ENTERING = (("Ready", "False", "Suspending"), ("Suspended", "False", "Suspending"))
STOPPED = (("Ready", "False", "Suspended"), ("Suspended", "True", "Suspended"))
LEAVING = (("Ready", "False", "Resuming"), ("Suspended", "True", "Resuming"))


@pytest.mark.parametrize(
    ("told", "suspended", "at_work"),
    [
        (WORKS, False, True),
        (ENTERING, False, False),
        (STOPPED, True, False),
        (LEAVING, False, False),
        ((), False, False),
    ],
    ids=["at work", "suspending", "suspended", "resuming", "nothing is told"],
)
def test_a_tenant_is_suspended_when_all_of_it_is_and_at_work_when_nothing_is(
    told: tuple[tuple[str, str, str], ...], suspended: bool, at_work: bool
) -> None:
    assert (stories.is_suspended(tenant(*told)), stories.is_at_work(tenant(*told))) == (suspended, at_work)
    assert stories.is_ready(tenant(*told)) is at_work


def test_what_was_said_of_an_earlier_generation_is_no_goal() -> None:
    assert not stories.is_suspended(tenant(*STOPPED, generation=1))
    assert not stories.is_at_work(tenant(*WORKS, generation=1))
    assert not stories.is_ready(None)


def test_each_story_has_a_name_of_its_own_and_each_fault_too() -> None:
    assert servers.SECOND, "the module whose faults register themselves is there"
    every_story = [*STORIES, *integrations.STORIES, *models.STORIES]
    every_kind = [*KINDS, *integration_kinds.KINDS, *model_kinds.KINDS]
    assert len({story.name for story in every_story}) == len(every_story)
    assert len({kind.id for kind in every_kind}) == len(every_kind)
    assert {"suspend", "resume"} < {story.name for story in STORIES}


def integration(*keys: int, ready: bool = True, generation: int = 2) -> dict[str, Any]:
    told = {"type": "Ready", "status": str(ready), "reason": "Ready", "observedGeneration": generation}
    webhook = {"keys": [{"id": key} for key in keys]}
    return {"metadata": {"generation": 2}, "status": {"conditions": [told], "webhook": webhook}}


def test_an_integration_is_rotated_when_the_second_secret_alone_is_good() -> None:
    assert integrations.is_rotated(integration(2))
    for other in (
        integration(1),
        integration(2, 1),
        integration(2, ready=False),
        integration(2, generation=1),
    ):
        assert not integrations.is_rotated(other)
    assert integrations.is_ready(integration(1))
    assert not integrations.is_ready(integration(2, 1))
    assert not integrations.is_ready(None)


def trained(
    attempt: int, *, by: int | None = None, outcome: str = "Passed", ready: bool = True
) -> dict[str, Any]:
    told = {"type": "Ready", "status": str(ready), "reason": "Active", "observedGeneration": 2}
    status = {
        "conditions": [told],
        "lastTraining": {"attempt": attempt, "outcome": outcome},
        "active": {"artifact": {"uri": f"file:///a/trainings/{by or attempt}-0123456789/model"}},
    }
    return {"metadata": {"generation": 2}, "status": status}


def test_a_model_is_trained_again_when_the_second_version_predicts() -> None:
    assert models.is_trained(trained(1))
    assert models.is_trained_again(trained(2))
    for other in (trained(1), trained(2, by=1), trained(2, outcome="Running"), trained(2, ready=False)):
        assert not models.is_trained_again(other)
    assert not models.is_trained(None)
