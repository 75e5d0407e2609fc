"""A sample of the faults of Integrations: the runner as a real process on real servers, and the oracles."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dev.faults.__main__ import attempt
from dev.faults.integration_kinds import sample
from dev.faults.integrations import CREATE, REGISTER, STORIES, IntegrationJudge
from dev.faults.runner_rig import runner_rig

CRASHES = 5


@pytest.fixture(scope="module")
def judge() -> Iterator[IntegrationJudge]:
    """Servers of its own, with a tenant that stays."""
    with runner_rig() as made:
        made.start()
        yield IntegrationJudge(made)


@pytest.mark.timeout(1200)
def test_every_story_writes_the_same_in_two_undisturbed_runs(judge: IntegrationJudge) -> None:
    for story in STORIES:
        learned = judge.learn(story)
        print(story.name, [write.label for write in learned.writes])
        assert len(learned.writes) >= 4, f"{story.name} has few writes: are the proxies bypassed?"
    systems = {write.system for write in judge.learn(REGISTER).writes}
    assert systems == {"kubernetes", "vault", "postgres", "provider"}


@pytest.mark.timeout(1200)
def test_a_sample_of_all_faults_breaks_no_oracle(judge: IntegrationJudge) -> None:
    begun, broken, tried = time.monotonic(), {}, 0
    for case in sample(judge, crashes=CRASHES):
        started = time.monotonic()
        found = attempt(case, judge)
        tried += 1
        print(f"{time.monotonic() - started:5.1f} s  {case.id}")
        if found:
            broken[case.id] = found
    print(f"faults: {tried} tried, {len(broken)} broke an oracle, {time.monotonic() - begun:.0f} s")
    assert not broken


@pytest.mark.timeout(120)
def test_the_oracles_notice_what_a_runner_left_behind(judge: IntegrationJudge) -> None:
    stray = "11111111-2222-3333-4444-555555555555"
    place = f"tenants/data/{judge.rig.tenant_id}/platform/integrations/{stray}"
    judge.rig.vault.send("POST", place, {"data": {"secret": "x"}})
    hook = {"url": "https://hooks.example/hooks/nobody", "secret": "x", "project": "acme/stray"}
    judge.rig.provider.tell("hooks", hook)
    try:
        found = {it.how for it in judge.play(CREATE, None) if it.oracle == "O3"}
    finally:
        judge.rig.vault.send("DELETE", place.replace("/data/", "/metadata/"))
    assert found == {
        f"a secret in Vault is of {stray}, which no Integration is",
        "a webhook of acme/stray leads nowhere",
    }
