"""Which runs are left alone: chance, the same for whoever asks."""

from dataclasses import replace
from datetime import UTC, datetime

from gateway.control import Control
from pipewright.store.records import ModelPointer

POINTER = ModelPointer(
    model_uid="6f1c4a1e-0000-4000-8000-000000000001", tenant_id="t", namespace="acme", model="run-failure",
    task="RunFailure", is_default=True, version="v", artifact_uri="file:///a", artifact_sha256="0" * 64,
    promoted_at=datetime(2026, 3, 1, tzinfo=UTC), control_share=0.02,
)  # fmt: skip
RUNS = [("9b2d0b5e-0000-4000-8000-000000000002", str(run), 1) for run in range(20_000)]


def group(pointer: ModelPointer) -> set[str]:
    control = Control.of(pointer)
    return {attempt[1] for attempt in RUNS if control is not None and control.has(attempt)}


def test_as_many_are_left_alone_as_the_share_says() -> None:
    assert group(replace(POINTER, control_share=0)) == set()
    # three standard deviations of a binomial: 20 and 71 runs
    assert abs(len(group(POINTER)) - 400) < 60
    assert abs(len(group(replace(POINTER, control_share=0.5))) - 10_000) < 213


def test_a_larger_share_leaves_the_same_runs_alone_and_more() -> None:
    assert group(POINTER) < group(replace(POINTER, control_share=0.05))


def test_a_run_belongs_to_it_with_all_its_attempts_and_another_model_has_others() -> None:
    control = Control.of(POINTER)
    assert control is not None
    for integration, run, _ in RUNS[:200]:
        assert control.has((integration, run, 1)) == control.has((integration, run, 7))
    assert group(POINTER) != group(replace(POINTER, model_uid="6f1c4a1e-0000-4000-8000-000000000009"))


def test_nobody_belongs_to_it_where_nothing_predicts() -> None:
    assert Control.of(None) is None
