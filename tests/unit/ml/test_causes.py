"""Causes of failures: the taxonomy's words, the model's, and both together."""

import math
import re
import time
from collections.abc import Callable

import numpy as np
import pytest

from ml import causes, taxonomy, text
from ml.causes import LASTING, TRANSIENT, CauseModel, Failure

ENOUGH = "Preparing environment\nUsing cache\n"
PODS = ENOUGH + "ERROR: Job failed (system failure): timed out waiting for pod to start\nCleaning up"
TESTS = (
    ENOUGH + "test parse ... FAILED\ntest result: FAILED. 3 passed; 1 failed\nERROR: Job failed: exit code 1"
)


@pytest.mark.parametrize(
    ("log", "name"),
    [
        (PODS, "runner_pod_waiting_timeout"),
        (TESTS, "test_failure"),
        ("fatal: unable to access 'https://g.io/': Could not resolve host: g.io", "host_resolution_failure"),
        ("toomanyrequests: You have reached your pull rate limit.", "docker_pull_limit_reached"),
        ("\x1b[31;1mERROR: Job failed: execution took longer than 1h0m0s\x1b[0;m", "job_execution_timeout"),
        ("error[E0425]: cannot find value `x` in this scope\nerror: could not compile `a`", "compile_error"),
        ("read: connection reset by peer\nerror: could not compile `a`", "connection_closed_reset_broken"),
        ("./run.sh: line 4: yarn: command not found", "os_cmd_execution_error"),
        ("npm ERR! code ELIFECYCLE", "dependencies_conflict_error"),
        ("all is well", None),
        ("", None),
    ],
)  # fmt: skip
def test_the_log_shows_its_category(log: str, name: str | None) -> None:
    found = taxonomy.findings(log)
    assert (found[0].category.name if found else None) == name


def test_the_finding_nearest_to_the_end_decides_and_a_hint_never_beats_a_pattern() -> None:
    both = taxonomy.findings(
        "Connection refused\nno space left on device\n" + "cp: x: No such file or directory\n"
    )
    assert [each.category.name for each in both] == [
        "testing_device_oom_error",
        "connection_refused",
        "repository_file_not_found",
    ]
    assert both[0].line == "no space left on device"
    assert both[-1].hint


def test_the_taxonomy_is_whole() -> None:
    known = taxonomy.categories()
    assert len(known) == 51
    for category in known.values():
        assert category.kind in ("infra", "flaky", "code", "config")
        assert category.owner in ("platform", "service", "team", "author")
        assert category.recipe.endswith(".")
        for pattern in (*category.patterns, *category.hints):
            literal = re.sub(r"\\.", "", pattern.pattern)  # \S is a class, and no capital letter
            assert literal == literal.lower(), f"{category.name}: lines are read in lower case"
            assert not pattern.search(""), f"{category.name} matches nothing at all"
    assert {each.group for each in known.values()} >= {"networking_issues", "limits_exceeded", "flaky_test"}


def test_patterns_stay_quick_on_hostile_logs() -> None:
    """A log may be one long line, or repeat the start of a pattern thousands of times."""
    for log in (
        "error " * 4000,
        "a" * 20_000,
        "container name " * 1500,
        "api curl 22 docker registry " * 800,
    ):
        with_deadline(lambda log=log: taxonomy.findings(log))


def with_deadline(work: Callable[[], object], seconds: float = 5.0) -> None:
    began = time.process_time()
    work()
    assert time.process_time() - began < seconds


@pytest.fixture(scope="module")
def model() -> CauseModel:
    failures = [Failure(log=PODS + f"\npod {n}", job="build") for n in range(8)]
    failures += [Failure(log=TESTS, job="unit") for _ in range(8)]
    failures += [Failure(log=TESTS + "\ncannot bind port 8080: in use by chrome", job="ui") for _ in range(8)]
    labels = [TRANSIENT] * 8 + [LASTING] * 8 + [TRANSIENT] * 8
    return CauseModel.fit(failures, labels)


def test_the_model_overrules_what_only_looks_like_a_broken_test(model: CauseModel) -> None:
    said = causes.judge(Failure(log=TESTS + "\ncannot bind port 9090: in use by chrome", job="ui"), model)
    assert (said.kind, said.category) == ("flaky", "test_failure")
    assert said.transient is not None
    assert said.transient >= causes.SURE
    assert any("passed when run again" in reason and "cannot bind port" in reason for reason in said.reasons)
    plain = causes.judge(Failure(log=TESTS, job="unit"), model)
    assert (plain.kind, plain.owner) == ("code", "author")
    assert plain.transient is not None
    assert plain.transient <= 1 - causes.SURE


def test_without_pattern_and_model_it_is_unsure(model: CauseModel) -> None:
    said = causes.judge(Failure(log="something odd"))
    assert (said.kind, said.category, said.transient) == ("unsure", None, None)
    assert said.reasons == ("no known pattern is in the end of its log",)
    assert causes.judge(Failure(log="something odd"), model).kind == "unsure"


def test_the_model_goes_through_json(model: CauseModel) -> None:
    again = CauseModel.from_json(model.to_json())
    failures = [Failure(log=PODS), Failure(log=TESTS, job="ui"), Failure(log="")]
    assert np.array_equal(again.probabilities(failures), model.probabilities(failures))
    assert again.to_json() == model.to_json()
    with pytest.raises(ValueError, match="not a model of causes"):
        CauseModel.from_json(model.to_json().replace('"idf', '"x').replace("pipewright-causes/1", "other"))


def test_tfidf_of_two_documents_is_as_worked_out_by_hand() -> None:
    fitted = text.TfIdf.fit([["a", "b", "b"], ["a"]])
    rare = math.log(3 / 2) + 1
    row = fitted.transform([["b", "a", "b", "c"]]).toarray()[0]
    assert row == pytest.approx(np.array([1, 2 * rare]) / math.hypot(1, 2 * rare))
    assert fitted.transform([["c"]]).toarray().tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("labels", [["x", "y", "x"], ["x", "y", "z"]])
def test_the_fit_is_where_the_penalised_loss_is_flat(labels: list[str]) -> None:
    """The intercepts' slope is nought exactly when the mean probabilities are the classes' shares."""
    x = text.TfIdf.fit([["a"], ["b"], ["c"]]).transform([["a"], ["b"], ["a", "c"]])
    fitted = text.Logistic.fit(x, labels, c=2.0)
    shares = [labels.count(each) / len(labels) for each in fitted.classes]
    probabilities = fitted.probabilities(x)
    assert probabilities.mean(axis=0) == pytest.approx(shares, abs=1e-4)
    truth = np.array([[label == each for each in fitted.classes] for label in labels])
    slope = 2.0 * x.T @ (probabilities - truth)[:, -fitted.weights.shape[1] :] + fitted.weights
    assert np.abs(slope).max() < 1e-3
