"""Expressions: what compiles, where an error points, what values become, and what cannot be made to hurt."""

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipewright import events, expressions
from pipewright.events import (
    ArtifactRef,
    DurationForecast,
    Event,
    EventType,
    FailureCause,
    JobRef,
    Prediction,
    Retry,
    RunRef,
    Scan,
)
from pipewright.expressions import EvaluationError, ExpressionError, Payload, StepResult, Template

NINE = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


def event(event_type: EventType = "pipelinerun.finished", **changes: Any) -> Event:
    return Event(
        **{
            "type": event_type,
            "id": "d-1",
            "integration": "github",
            "project": "acme/shop",
            "pipeline": "ci",
            "branch": "main",
            "sha": "5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665",
            "trigger": "push",
            "actor": "p_19",
            "outcome": "failure",
            "run": RunRef(id="8810002", number=412, attempt=1, url="https://example.org/412"),
            "job": JobRef(id="77", name="test", runner="r", labels=("linux", "x64"))
            if event_type.startswith("taskrun")
            else None,
            "queued_at": NINE,
            "started_at": NINE + timedelta(minutes=1),
            "finished_at": NINE + timedelta(minutes=21),
            **changes,
        }
    )


PREDICTION = Prediction(
    probability=0.3,
    band="low",
    reasons=("the last 3 runs on this branch passed",),
    model="a1b2",
    retry=Retry(probability=0.91, band="high"),
)


def holds(condition: str, *, on: Event | None = None, prediction: Prediction | None = PREDICTION) -> bool:
    on = on or event()
    environment = expressions.conditions(on.type)
    return environment.condition(condition).holds(expressions.bind_event(environment, on, prediction))


TRUE = [
    "event.outcome == 'failure' && prediction.retry.probability > 0.7",
    "event.type == 'pipelinerun.finished' && event.id == 'd-1' && event.integration == 'github'",
    "event.finishedAt - event.startedAt > duration('10m')",
    "event.startedAt - event.queuedAt == duration('60s')",
    "event.finishedAt > timestamp('2026-05-04T09:20:59Z') && event.finishedAt.getHours() == 9",
    "string(event.queuedAt) == '2026-05-04T09:00:00Z'",
    "event.run.attempt < 3 && event.run.number == 412 && event.run.id == '8810002'",
    "event.branch in ['main', 'release']",
    "event.branch.matches('^(main|release/.+)$') && event.sha.matches('^[0-9a-f]{40}$')",
    "event.project.startsWith('acme/') && event.project.split('/')[1] == 'shop'",
    "event.branch.upperAscii() == 'MAIN' && event.branch.replace('m', 'p') == 'pain'",
    "prediction.reasons.exists(r, r.contains('passed'))",
    "prediction.band != 'unsure' && prediction.model == 'a1b2'",
    "has(prediction.retry) && prediction.retry.band == 'high'",
    "[1, 2, 3].map(n, n * 2).filter(n, n > 2).size() == 2",
    "event.outcome == 'success' ? false : true",
    "'failure' in {'failure': 1}",
]


@pytest.mark.parametrize("condition", TRUE)
def test_true(condition: str) -> None:
    assert holds(condition)


def test_a_condition_that_does_not_hold_is_false() -> None:
    assert not holds("event.branch == 'develop'")


def test_a_jobs_event_has_its_job() -> None:
    job = event("taskrun.finished")
    assert holds(
        "event.job.name == 'test' && 'x64' in event.job.labels && event.outcome == 'failure'", on=job
    )


def test_a_time_that_the_provider_did_not_tell_is_the_next_one() -> None:
    assert holds("event.queuedAt == event.startedAt", on=event(queued_at=None))
    assert holds("event.startedAt == event.finishedAt", on=event(queued_at=None, started_at=None))


REFUSED: dict[str, tuple[str, EventType, int, int, str]] = {
    # expression, on, line, column, begin of the message
    "an unknown field": (
        "event.outcom == 'failure'",
        "pipelinerun.finished",
        1,
        6,
        "pipelinerun.finished has no field 'outcom'; it has type, id,",
    ),
    "an unknown field of a part": (
        "event.run.name == ''",
        "pipelinerun.finished",
        1,
        10,
        "Run has no field 'name'; it has id, number,",
    ),
    "an undeclared name": (
        "evnt == 1",
        "pipelinerun.finished",
        1,
        1,
        "nothing is called 'evnt' here; there is event, prediction",
    ),
    "a wrong type": ("event.outcome == 1", "pipelinerun.finished", 1, 15, "== does not take (string, int)"),
    "a wrong type, further down": (
        "event.outcome == 'failure' &&\n  event.run.attempt > '2'",
        "pipelinerun.finished",
        2,
        21,
        "> does not take (int, string)",
    ),
    "not a bool": ("event.outcome", "pipelinerun.finished", 1, 1, "must be true or false, this is of"),
    "not certainly a bool": ("dyn(true)", "pipelinerun.finished", 1, 1, "must be true or false"),
    "an end too early": ("event.outcome ==", "pipelinerun.finished", 1, 17, "mismatched input the end"),
    "nothing": ("  ", "pipelinerun.finished", 1, 1, "the expression is empty"),
    "a quote without end": ("event.branch == 'main", "pipelinerun.finished", 1, 17, "token recognition"),
    "the outcome of a run that just started": (
        "event.outcome == 'failure'",
        "pipelinerun.started",
        1,
        6,
        "pipelinerun.started has no field 'outcome'",
    ),
    "the start of a run that waits": (
        "event.startedAt > event.queuedAt",
        "pipelinerun.queued",
        1,
        6,
        "pipelinerun.queued has no field 'startedAt'",
    ),
    "the job of a run": (
        "event.job.name == ''",
        "pipelinerun.finished",
        1,
        6,
        "pipelinerun.finished has no field 'job'",
    ),
    "a made message": (
        "pipelinerun.finished{} == event",
        "pipelinerun.finished",
        1,
        1,
        "a message cannot be made here",
    ),
    "a function that is not offered": (
        "'%s'.format([1]) == ''",
        "pipelinerun.finished",
        1,
        12,
        "the function 'format' is not offered here",
    ),
    "a function that does not exist": (
        "now() > event.startedAt",
        "pipelinerun.finished",
        1,
        4,
        "nothing is called 'now'",
    ),
    "a pattern that is computed": (
        "event.branch.matches(event.sha)",
        "pipelinerun.finished",
        1,
        21,
        "the pattern of matches must be a literal",
    ),
    "too deep": ("(" * 40 + "true" + ")" * 40, "pipelinerun.finished", 1, 1, "is nested too deeply"),
    "too long": ("true || " * 250 + "true", "pipelinerun.finished", 1, 1, "has 2004 characters"),
    "characters that are none": (
        "event.branch == '\ud800'",
        "pipelinerun.finished",
        1,
        1,
        "contains characters",
    ),
    "NUL": ("true\0|| false", "pipelinerun.finished", 1, 1, "contains characters"),
}


@pytest.mark.parametrize(("source", "on", "line", "column", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_when_it_compiles(source: str, on: EventType, line: int, column: int, message: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        expressions.conditions(on).condition(source)
    assert (refused.value.line, refused.value.column) == (line, column)
    assert refused.value.message.startswith(message)


def test_an_error_shows_the_place_with_a_caret() -> None:
    with pytest.raises(ExpressionError) as refused:
        expressions.conditions("pipelinerun.finished").condition("true &&\n  event.colour == 'red'")
    assert str(refused.value).splitlines()[-2:] == ["  event.colour == 'red'", "       ^"]


NO_VALUE = {
    "a prediction that is not there cannot be compared": "prediction.probability < 0.5",
    "nor can its retry": "prediction.retry.probability > 0.7",
    "an index beyond the end": "event.project.split('/')[7] == ''",
    "a key that is not there": "{'a': 1}['b'] == 1",
    "a division by zero": "1 / (event.run.number - 412) == 1",
    "an overflow": "event.run.number + 9223372036854775807 > 0",
    "a text that is no time": "timestamp(event.branch) > event.startedAt",
    "a text that is no number": "int(event.branch) == 1",
}


@pytest.mark.parametrize("condition", NO_VALUE.values(), ids=NO_VALUE.keys())
def test_no_value(condition: str) -> None:
    with pytest.raises(EvaluationError):
        holds(condition, prediction=None)


def test_a_condition_can_ask_whether_there_is_a_prediction() -> None:
    assert holds("!has(prediction.probability) && !has(prediction.retry)", prediction=None)
    assert holds("has(prediction.probability)")
    assert holds("!has(prediction.retry) || prediction.retry.probability > 0.9")


def test_a_prediction_of_zero_is_there() -> None:
    zero = Prediction(
        probability=0.0, band="low", reasons=(), model="", retry=Retry(probability=0.0, band="low")
    )
    assert holds(
        "has(prediction.probability) && prediction.probability == 0.0 && has(prediction.retry)",
        prediction=zero,
    )


LASTS = Prediction(
    duration=DurationForecast(
        p50=300.0, p90=600.0, p95=900.5, reasons=("12 runs of this pipeline",), model="c3"
    )
)


@pytest.mark.parametrize(
    "condition",
    [
        "event.finishedAt - event.startedAt > duration(string(prediction.duration.p95) + 's')",
        "prediction.duration.p50 == 300.0 && prediction.duration.p90 < prediction.duration.p95",
        "has(prediction.duration) && !has(prediction.probability) && prediction.reasons.size() == 0",
        "prediction.duration.model == 'c3' && prediction.duration.reasons[0].startsWith('12 runs of')",
    ],
)
def test_a_condition_sees_how_long_a_run_was_said_to_take(condition: str) -> None:
    assert holds(condition, prediction=LASTS)


def test_a_condition_sees_why_a_run_failed() -> None:
    cause = FailureCause(
        kind="flaky", owner="team", transient=0.9, reasons=("the job e2e failed",), model="d4"
    )
    said = Prediction(cause=cause)
    for condition in (
        "prediction.cause.kind == 'flaky' && prediction.cause.transient > 0.7",
        "prediction.cause.owner == 'team' && !has(prediction.cause.category)",
        "!has(prediction.duration) && prediction.cause.reasons.exists(it, it.contains('e2e'))",
    ):
        assert holds(condition, prediction=said), condition
    with pytest.raises(EvaluationError):
        holds("prediction.cause.transient > 0.5")


def test_a_duration_that_nobody_forecast_is_no_number() -> None:
    assert holds("!has(prediction.duration)")
    with pytest.raises(EvaluationError):
        holds("prediction.duration.p95 < 1.0")


def test_what_is_absent_does_not_matter_where_the_rest_decides() -> None:
    assert not holds("event.branch == 'develop' && prediction.probability > 0.5", prediction=None)
    assert holds("event.branch == 'main' || prediction.probability > 0.5", prediction=None)


HEAVY = {
    "three loops within each other": "{0}.all(a, {0}.all(b, {0}.all(c, a + b + c >= 0)))",
    "a list that is copied and copied": "{0}.map(a, {0}.map(b, {0}.map(c, [a, b, c]))).size() > 0",
    "a text that doubles again and again": "['aaaaaaaa']"
    + ".map(a, a + a + a + a + a + a + a + a)" * 12
    + " == []",
    "a list of shared lists that is compared": "[1]"
    + ".map(a, [a, a, a, a, a, a, a, a, a, a])" * 9
    + " == [dyn(1)]",
    "a pattern of many states": "event.branch.matches('((a{{1,1000}}){{1,1000}})')",
    "a long pattern of many states": "event.branch.matches('" + "(x{{1,1000}})" * 30 + "')",
    "a pattern tried in every round": "{0}.all(a, {0}.all(b, !event.run.url.matches('(a|b|ab)*c$')))",
    "a text that is replaced into a giant": "event.id" + ".replace('', event.run.url)" * 2 + " == ''",
}
NUMBERS = "[" + ", ".join(str(number) for number in range(150)) + "]"


@pytest.mark.parametrize("source", HEAVY.values(), ids=HEAVY.keys())
def test_a_heavy_expression_is_refused_at_once(source: str) -> None:
    source = source.format(NUMBERS)
    environment = expressions.conditions("pipelinerun.finished")
    took = []
    for _ in range(3):  # the quickest: a collection of the whole session's garbage may fall into one
        began = time.thread_time()  # the CPU's time: others may keep the machine busy meanwhile
        with pytest.raises(ExpressionError):
            environment.condition(source)
        took.append(time.thread_time() - began)
    assert min(took) < 0.1


ITEMS = st.sampled_from(["event.run.url", "event.branch", "'x'", "a", "b", "prediction.reasons[0]"])
PARTS = st.recursive(
    ITEMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: f"({two[0]} + {two[1]})"),
        inner.map(lambda one: f"{one}.lowerAscii()"),
        st.tuples(inner, inner).map(lambda two: f"{two[0]}.replace('x', {two[1]})"),
        st.tuples(inner, st.integers(1, 80)).map(
            lambda two: f"[{', '.join(str(n) for n in range(two[1]))}].map(i, {two[0]}).join('')"
        ),
        st.tuples(inner, st.integers(1, 12)).map(
            lambda two: f"[{two[0]}, 'y'].map(a, a{' + a' * two[1]}).join(',')"
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(text=PARTS)
def test_whatever_compiles_ends_within_100_ms(text: str) -> None:
    long = event(branch="x" * 255, run=RunRef(id="1", number=1, attempt=1, url="https://" + "x" * 2000))
    environment = expressions.conditions(long.type)
    try:
        condition = environment.condition(f"['x'].all(a, ['x'].all(b, {text} != ''))")
    except ExpressionError:
        return
    scope = expressions.bind_event(environment, long, PREDICTION)
    began = time.process_time()
    condition.holds(scope)
    assert time.process_time() - began < 0.1


def test_the_runtimes_budget_is_an_evaluation_error() -> None:
    environment = expressions.payloads()
    scope = expressions.bind_payload(Payload(body={"list": list(range(200))}, headers={}))
    condition = environment.condition("body.list.all(a, body.list.all(b, true))")
    with pytest.raises(EvaluationError, match="loops over too much"):
        condition.holds(scope)


def test_compiling_the_same_again_is_free() -> None:
    environment = expressions.conditions("pipelinerun.finished")
    assert environment.expression("event.branch") is environment.expression("event.branch")


def test_a_scope_belongs_to_its_environment() -> None:
    finished, started = (
        expressions.conditions("pipelinerun.finished"),
        expressions.conditions("pipelinerun.started"),
    )
    with pytest.raises(TypeError):
        started.condition("true").holds(expressions.bind_event(finished, event(), None))


# --- steps, outputs, payloads ------------------------------------------------------------------------------

STEPS = {
    "rerun": StepResult(outcome="success", outputs={"status": "201"}),
    "tell-people": StepResult(outcome="skip"),
}


def step_scope() -> expressions.Scope:
    return expressions.bind_step(expressions.steps("pipelinerun.finished"), event(), PREDICTION, STEPS)


@pytest.mark.parametrize(
    "condition",
    [
        "steps.rerun.outcome == 'success' && steps.rerun.outputs.status == '201'",
        "steps['tell-people'].outcome == 'skip' && !has(steps['tell-people'].outputs.status)",
        "'rerun' in steps && !('other' in steps)",
        "steps.all(name, steps[name].outcome != 'failure')",
        "event.branch == 'main' && prediction.retry.probability > 0.9",
    ],
)
def test_a_step_sees_the_steps_before_it(condition: str) -> None:
    assert expressions.steps("pipelinerun.finished").condition(condition).holds(step_scope())


def test_a_step_that_is_not_there_has_no_value() -> None:
    with pytest.raises(EvaluationError, match="other"):
        expressions.steps("pipelinerun.finished").condition("steps.other.outcome == 'x'").holds(step_scope())


def test_a_steps_field_is_checked_when_it_compiles() -> None:
    with pytest.raises(ExpressionError, match="Step has no field 'result'; it has outcome, outputs"):
        expressions.steps("pipelinerun.finished").condition("steps.rerun.result == 'x'")


def test_outputs_that_are_too_big_are_refused() -> None:
    with pytest.raises(EvaluationError, match="outputs of step big are too big"):
        expressions.bind_step(
            expressions.steps("pipelinerun.finished"),
            event(),
            None,
            {"big": StepResult(outcome="success", outputs={"a": "x" * 5000})},
        )


VALUES: list[tuple[Any, str, Any]] = [
    ({"id": 12345678901}, "string(result.id)", "12345678901"),
    ({"id": 2**63 - 1}, "result.id", 2**63 - 1),
    ({"id": 2**63}, "result.id", float(2**63)),
    ({"id": -(2**70)}, "result.id", float(-(2**70))),
    ({"a": None}, "result.a == null", True),
    ({"a": None}, "has(result.a)", True),
    ({}, "has(result.a)", False),
    ({}, "has(result.a) ? result.a : 'none'", "none"),
    ({"a": [1, [2, {"b": [None, 3]}]]}, "result.a[1][1].b[1]", 3),
    ({"a": [1, [2, {"b": [None, 3]}]]}, "result.a", [1, [2, {"b": [None, 3]}]]),
    ({"a": "x\0y\ud800z"}, "result.a", "x\ufffdy\ufffdz"),
    ({"a": "Grüße, 世界 🎈"}, "result.a.size()", 11),
    ({"a": 1.5, "b": True}, "[result.a, result.b]", [1.5, True]),
    ({"a": "2026-05-04T09:00:00Z"}, "timestamp(result.a)", NINE),
    ([1, 2], "result[1]", 2),
    ("text", "result + '!'", "text!"),
]


@pytest.mark.parametrize(("result", "source", "value"), VALUES)
def test_json_goes_in_and_plain_values_come_out(result: Any, source: str, value: Any) -> None:
    assert expressions.outputs().expression(source).value(expressions.bind_result(result)) == value


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "result",
    [
        nested(65),
        list(range(300)),
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 10**400},
        {"a": object()},
        "x" * 70_000,
    ],
    ids=["too deep", "too many", "not a number", "infinite", "a giant number", "no JSON", "too long"],
)
def test_a_result_that_cannot_be_handled_is_refused(result: Any) -> None:
    with pytest.raises(EvaluationError):
        expressions.bind_result(result)


@given(
    body=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    ),
    source=st.sampled_from(
        [
            "body",
            "body.a",
            "body[0]",
            "has(body.a.b)",
            "body == body",
            "string(body)",
            "body.size()",
            "body.a in body",
        ]
    ),
)
def test_any_json_gives_a_value_or_an_evaluation_error(body: Any, source: str) -> None:
    program = expressions.payloads().expression(source)
    try:
        program.value(expressions.bind_payload(Payload(body=body, headers={"x": "\ud800"})))
    except EvaluationError:
        return


# --- templates ---------------------------------------------------------------------------------------------

RENDERED = {
    "a text without holes": ("hello $ {{ }} }}", "hello $ {{ }} }}"),
    "a hole": ("run ${{ event.run.number }} failed", "run 412 failed"),
    "only a hole": ("${{ event.branch }}", "main"),
    "two holes side by side": ("${{ event.branch }}${{event.outcome}}", "mainfailure"),
    "an escaped hole": ("$${{ event.branch }}", "${{ event.branch }}"),
    "a hole with braces": ("${{ {'a': {'b': 'c'}}.a.b }}", "c"),
    "a hole with braces in a text": ("${{ 'a}}b' + \"c}}\" }}", "a}}bc}}"),
    "a hole with a quote in a text": ("${{ 'it\\'s }}' }}", "it's }}"),
    "true": ("${{ event.run.attempt == 1 }}", "true"),
    "a fraction": ("${{ prediction.retry.probability }}", "0.91"),
    "a whole fraction": ("${{ 2.0 * 2.0 }}", "4"),
    "a time": ("${{ event.startedAt }}", "2026-05-04T09:01:00Z"),
    "a duration": ("${{ event.finishedAt - event.startedAt }}", "1200s"),
    "a list": ("${{ prediction.reasons }}", '["the last 3 runs on this branch passed"]'),
    "a map with a time": ("${{ {'at': event.startedAt} }}", '{"at":"2026-05-04T09:01:00Z"}'),
    "null": ("[${{ null }}]", "[]"),
    "a step's output": ("${{ steps.rerun.outputs.status }}", "201"),
}


@pytest.mark.parametrize(("source", "text"), RENDERED.values(), ids=RENDERED.keys())
def test_rendered(source: str, text: str) -> None:
    assert Template(source, expressions.steps("pipelinerun.finished")).render(step_scope()) == text


def test_only_what_comes_from_holes_is_escaped() -> None:
    template = Template("/a/${{ event.project }}/b", expressions.steps("pipelinerun.finished"))
    escaped = template.render(step_scope(), write=lambda value: str(value).replace("/", "%2F"))
    assert escaped == "/a/acme%2Fshop/b"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("${{ event.run.attempt == 1 }}", True),
        ("${{ {'a': [1, 'b']} }}", {"a": [1, "b"]}),
        ("${{ null }}", None),
        (" ${{ event.run.attempt == 1 }}", " true"),
        ("${{ 1 }}${{ 2 }}", "12"),
        ("text", "text"),
        ("", ""),
    ],
)
def test_a_single_hole_keeps_its_type(source: str, value: Any) -> None:
    assert Template(source, expressions.steps("pipelinerun.finished")).value(step_scope()) == value


@pytest.mark.parametrize(
    ("source", "line", "column", "message"),
    [
        ("a\nbc ${{ event.colour }}", 2, 13, "pipelinerun.finished has no field 'colour'"),
        ("${{ event.branch +\n  event.colour }}", 2, 8, "pipelinerun.finished has no field 'colour'"),
        ("one ${{ event.branch", 1, 5, "this hole has no end"),
        ("one ${{ }}", 1, 8, "the expression is empty"),
        ("${{ event }}", 1, 4, "a pipelinerun.finished is no text"),
        ("${{ b'abc' }}", 1, 4, "a BYTES is no text"),
        ("${{ event.branch }}" * 51, 1, 1, "has 51 holes, at most 50"),
        ("x" * 16_001, 1, 1, "has 16001 characters"),
    ],
)
def test_a_template_that_does_not_compile_points_into_the_whole_text(
    source: str, line: int, column: int, message: str
) -> None:
    with pytest.raises(ExpressionError) as refused:
        Template(source, expressions.steps("pipelinerun.finished"))
    assert (refused.value.line, refused.value.column) == (line, column)
    assert refused.value.message.startswith(message)


def test_a_rendered_text_is_bounded() -> None:
    big = {"rerun": StepResult(outcome="success", outputs={"a": "x" * 4096})}
    environment = expressions.steps("pipelinerun.finished")
    template = Template("${{ steps.rerun.outputs.a }}" * 20, environment)
    with pytest.raises(EvaluationError, match="at most 65536"):
        template.render(expressions.bind_step(environment, event(), None, big))


@pytest.mark.parametrize("event_type", events.TYPES)
def test_every_type_of_event_can_be_bound(event_type: EventType) -> None:
    bare = event(event_type, queued_at=None, started_at=None, finished_at=None)
    assert holds(f"event.type == '{event_type}'", on=bare, prediction=None)


@pytest.mark.parametrize("source", ["null", "body.a", "[null, {'a': null}]", "body"])
def test_a_null_takes_no_reference_that_is_not_its_own(source: str) -> None:
    program = expressions.payloads().expression(source)
    scope = expressions.bind_payload(Payload(body={"a": None, "b": [None]}, headers={}))
    before = sys.getrefcount(None)
    for _ in range(2000):
        program.value(scope)
    assert sys.getrefcount(None) - before > -1000


def artifact(event_type: EventType = "artifact.scanned") -> Event:
    scanned = event_type == "artifact.scanned"
    return Event(
        type=event_type,
        id="d-1",
        integration="harbor",
        project="acme/shop",
        pipeline="",
        branch="",
        sha="",
        trigger="",
        actor="p_19",
        outcome="success" if scanned else "",
        run=None,
        job=None,
        queued_at=None,
        started_at=None,
        finished_at=None,
        artifact=ArtifactRef(
            repository="acme/shop", tag="v1", digest="sha256:a", media_type="m", url="", at=NINE
        ),
        scan=Scan(critical=0, high=3, medium=0, low=0, unknown=0) if scanned else None,
    )


@pytest.mark.parametrize(
    "condition",
    [
        "event.outcome == 'success' && event.scan.critical == 0 && event.scan.high > 2",
        "event.artifact.repository == 'acme/shop' && event.artifact.tag == 'v1'",
        "event.artifact.digest.startsWith('sha256:') && event.artifact.mediaType == 'm'",
        "event.artifact.at < timestamp('2200-01-01T00:00:00Z')",
        "event.project == 'acme/shop' && event.actor == 'p_19' && event.integration == 'harbor'",
    ],
)
def test_a_condition_on_an_artifact_holds(condition: str) -> None:
    assert holds(condition, on=artifact(), prediction=None)


@pytest.mark.parametrize(
    ("condition", "event_type", "message"),
    [
        ("event.run.id == ''", "artifact.published", "artifact.published has no field 'run'"),
        ("event.branch == ''", "artifact.scanned", "artifact.scanned has no field 'branch'"),
        ("event.scan.critical == 0", "artifact.published", "artifact.published has no field 'scan'"),
        ("event.outcome == ''", "artifact.deleted", "artifact.deleted has no field 'outcome'"),
        ("event.artifact.tag == ''", "pipelinerun.finished", "pipelinerun.finished has no field 'artifact'"),
        ("event.artifact.tags == ''", "artifact.published", "Artifact has no field 'tags'"),
        ("event.scan.critical == '0'", "artifact.scanned", "does not take (int, string)"),
    ],
)
def test_a_condition_knows_what_an_artifact_has(condition: str, event_type: EventType, message: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        expressions.conditions(event_type).condition(condition)
    assert message in refused.value.message
