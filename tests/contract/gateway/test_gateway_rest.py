"""REST: each route asks for its own right, shows one tenant's namespace only, and pages."""

import pytest

from gateway import parts

ROUTES = [
    ("POST", "models/run-failure/predictions", "create models/predictions"),
    ("POST", "models/run-failure/predictions/batch", "create models/predictions"),
    ("GET", "models/run-failure/predictions", "get models/predictions"),
    ("GET", "models/run-failure/report", "get models/report"),
    ("GET", "workflows/heal/decisions", "get workflows/decisions"),
    ("GET", "integrations/github/deliveries", "get integrations/deliveries"),
    ("GET", "integrations/github/artifacts", "get integrations/artifacts"),
    ("POST", "integrations/github/history", "create integrations/history"),
    ("GET", "integrations/github/deadletters", "get integrations/deadletters"),
    ("GET", "integrations/github/deadletters/d-1/payload", "get integrations/payloads"),
    ("POST", "integrations/github/deadletters/replay", "update integrations/deadletters"),
    ("POST", "integrations/github/deadletters/d-1/replay", "update integrations/deadletters"),
    ("DELETE", "integrations/github/deadletters", "delete integrations/deadletters"),
    ("DELETE", "integrations/github/deadletters/d-1", "delete integrations/deadletters"),
]
RUN = {"project": "acme/shop", "pipeline": "ci", "branch": "main", "trigger": "push", "sha": "a" * 40}


def body_of(method, path):
    if method != "POST" or not path.startswith("models"):
        return {}
    return {"json": {"runs": [RUN]} if path.endswith("/batch") else RUN}


@pytest.mark.parametrize(
    ("method", "path", "right"), ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES]
)
async def test_a_route_needs_a_token_of_somebody_who_may(world, hook, tenant, method, path, right):
    url, options = f"/v1/namespaces/{tenant.namespace}/{path}", body_of(method, path)
    anonymous = await world.ask(method, url, **options)
    assert (anonymous.status, anonymous.headers["WWW-Authenticate"]) == (401, 'Bearer realm="pipewright"')
    assert (await world.rest(method, url, token="bad-token", **options)).status == 401
    stranger = await world.rest(method, url, token="eve:elsewhere", **options)
    assert stranger.status == 403
    assert f"may not {right}" in stranger.body["detail"]
    claimed = await world.ask(
        method, url, headers={"X-Remote-User": "admin", "X-Forwarded-User": "admin"}, **options
    )
    assert claimed.status == 401


@pytest.mark.parametrize(
    ("method", "path", "right"), ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES]
)
async def test_a_namespace_that_is_no_tenants_is_404_only_for_those_who_may(world, method, path, right):
    url, options = f"/v1/namespaces/nobodys/{path}", body_of(method, path)
    assert (await world.rest(method, url, token="eve:elsewhere", **options)).status == 403
    assert (await world.rest(method, url, token="admin", **options)).status == 404


@pytest.mark.parametrize(
    ("method", "path", "right"), ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES]
)
async def test_without_the_api_server_rest_is_503_and_hooks_go_on(
    serve, github, model_file, method, path, right
):
    async with serve() as world:
        tenant = await world.tenant()
        hook = await world.hook(tenant)
        world.cluster.up = False
        answer = await world.rest(
            method, f"/v1/namespaces/{tenant.namespace}/{path}", **body_of(method, path)
        )
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        assert (await world.deliver(hook, "workflow_run", github("requested"))).status == 202


async def test_ask_whether_a_run_will_fail(world, hook, tenant, model_file, github):
    pointer = await world.promote(tenant, model_file)
    url = f"/v1/namespaces/{tenant.namespace}/models/run-failure/predictions"
    unknown = await world.rest("POST", url, json=RUN)
    assert (unknown.status, unknown.body["band"]) == (200, "unsure")
    for run in range(6):
        await world.deliver(
            hook, "workflow_run", github("completed", run=run, minute=run, conclusion="failure")
        )
    answer = await world.rest("POST", url, json=RUN)
    assert answer.body["model"] == {"name": "run-failure", "version": pointer.version}
    assert answer.body["probability"] > unknown.body["probability"]
    assert any("failed" in reason for reason in answer.body["reasons"])


async def test_runs_asked_about_together_get_the_answers_that_each_gets_alone(
    world, hook, tenant, model_file, github
):
    await world.promote(tenant, model_file)
    for run in range(6):
        await world.deliver(
            hook, "workflow_run", github("completed", run=run, minute=run, conclusion="failure")
        )
    url = f"/v1/namespaces/{tenant.namespace}/models/run-failure/predictions"
    runs = [RUN, {**RUN, "pipeline": "unheard of"}, {**RUN, "branch": "feature"}, RUN]
    alone = [(await world.rest("POST", url, json=run)).body for run in runs]
    together = await world.rest("POST", f"{url}/batch", json={"runs": runs})
    assert together.status == 200
    answers = together.body["predictions"]
    told = [(it["band"], it["model"], len(it["reasons"])) for it in answers]
    assert told == [(it["band"], it["model"], len(it["reasons"])) for it in alone]
    assert [it["probability"] for it in answers] == pytest.approx(
        [it["probability"] for it in alone], abs=1e-3
    )
    assert answers[0]["probability"] > answers[1]["probability"]


@pytest.mark.parametrize(
    "runs", [[], [RUN] * 101, [RUN, {"pipeline": "ci"}]], ids=["none", "101", "one is wrong"]
)
async def test_a_wrong_batch_is_422(world, tenant, model_file, runs):
    url = f"/v1/namespaces/{tenant.namespace}/models/run-failure/predictions/batch"
    answer = await world.rest("POST", url, json={"runs": runs})
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")


async def test_which_integration_a_run_belongs_to_is_asked_where_there_are_several(
    world, hook, tenant, model_file, github
):
    await world.promote(tenant, model_file)
    other = await world.hook(tenant, name="enterprise")
    for run in range(6):
        await world.deliver(other, "workflow_run", github("completed", run=run, conclusion="failure"))
    url = f"/v1/namespaces/{tenant.namespace}/models/run-failure/predictions"
    assert (await world.rest("POST", url, json=RUN)).status == 422
    mine = await world.rest("POST", url, json={**RUN, "integration": "github"})
    theirs = await world.rest("POST", url, json={**RUN, "integration": "enterprise"})
    assert mine.body["band"] == "unsure"
    assert theirs.body["probability"] > mine.body["probability"]
    assert (await world.rest("POST", url, json={**RUN, "integration": "gone"})).status == 404


WRONG = {
    "no project": {"pipeline": "ci"},
    "an unknown field": {**RUN, "colour": "red"},
    "attempt 0": {**RUN, "attempt": 0},
    "a text where a number should be": {**RUN, "attempt": "secret-value"},
}


@pytest.mark.parametrize("run", WRONG.values(), ids=WRONG)
async def test_a_wrong_run_is_422_and_its_values_are_not_repeated(world, tenant, model_file, run):
    url = f"/v1/namespaces/{tenant.namespace}/models/run-failure/predictions"
    answer = await world.rest("POST", url, json=run)
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert "secret-value" not in str(answer.body)


async def test_a_model_without_an_active_version_is_404_and_says_where_to_look(world, tenant):
    url = f"/v1/namespaces/{tenant.namespace}/models/run-failure/predictions"
    answer = await world.rest("POST", url, json=RUN)
    assert (answer.status, answer.body["reason"]) == (404, "NoActiveVersion")
    assert "get model run-failure" in answer.body["detail"]


async def test_recorded_predictions_are_listed_by_run(world, hook, tenant, model_file, github):
    await world.promote(tenant, model_file)
    for run in (1, 2):
        await world.deliver(hook, "workflow_run", github("completed", run=run, conclusion="failure"))
    url = f"/v1/namespaces/{tenant.namespace}/models/run-failure/predictions"
    every = await world.rest("GET", url)
    assert len(every.body["items"]) == 4
    one = await world.rest("GET", url, params={"run": "2"})
    assert {(each["run"], each["kind"], each["integration"]) for each in one.body["items"]} == {
        ("2", "run", "github"),
        ("2", "retry", "github"),
    }


async def test_decisions_are_paged_newest_first(world, hook, tenant, github):
    await world.trigger(tenant, condition="event.run.id == '3'")
    for run in range(5):
        await world.deliver(hook, "workflow_run", github("completed", run=run, conclusion="failure"))
    url = f"/v1/namespaces/{tenant.namespace}/workflows/heal/decisions"
    first = await world.rest("GET", url, params={"limit": "3"})
    assert [(each["event"]["run"]["id"], each["fired"]) for each in first.body["items"]] == [
        ("4", False),
        ("3", True),
        ("2", False),
    ]
    assert first.body["items"][1]["workflowRun"].startswith("heal-")
    second = await world.rest("GET", url, params={"limit": "3", "cursor": first.body["next"]})
    assert [each["event"]["run"]["id"] for each in second.body["items"]] == ["1", "0"]
    assert second.body["next"] is None


async def test_deliveries_are_paged_newest_first(world, hook, tenant, github):
    for number in range(5):
        await world.deliver(hook, "workflow_run", github("requested", run=number), id=f"d-{number}")
    url = f"/v1/namespaces/{tenant.namespace}/integrations/github/deliveries"
    seen, cursor = [], None
    while True:
        page = await world.rest("GET", url, params={"limit": "2", **({"cursor": cursor} if cursor else {})})
        seen += [each["id"] for each in page.body["items"]]
        cursor = page.body["next"]
        if cursor is None:
            break
    assert seen == ["d-4", "d-3", "d-2", "d-1", "d-0"]


async def test_a_delivery_that_was_ignored_says_why_and_one_that_was_stored_says_so(
    world, hook, tenant, github
):
    await world.deliver(hook, "workflow_run", github("requested"), id="d-1")
    await world.deliver(hook, "workflow_run", github("requested", project="acme/x"), id="d-2")
    await world.deliver(hook, "ping", {"zen": "x"}, id="d-3")
    await world.deliver(hook, "workflow_run", github("requested", project="acme/x"), id="d-2")
    page = await world.rest("GET", f"/v1/namespaces/{tenant.namespace}/integrations/github/deliveries")
    assert [(each["id"], each["outcome"], each["reason"]) for each in page.body["items"]] == [
        ("d-2", "ignored", "the project is not among the Integration's projects"),
        ("d-3", "ignored", "events of the kind ping are not used"),
        ("d-1", "stored", ""),
    ]


@pytest.mark.parametrize("cursor", ["x", "W10=", "WyJhIiwgImIiXQ==", "9" * 30, "%00"])
@pytest.mark.parametrize("path", ["integrations/github/deliveries", "workflows/heal/decisions"])
async def test_a_made_up_cursor_is_400(world, hook, tenant, path, cursor):
    answer = await world.rest("GET", f"/v1/namespaces/{tenant.namespace}/{path}", params={"cursor": cursor})
    assert (answer.status, answer.body["reason"]) == (400, "BadCursor")


async def test_one_tenant_never_sees_anothers_rows(world, hook, tenant, github, model_file):
    await world.promote(tenant, model_file)
    await world.trigger(tenant)
    await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"))
    stranger = await world.tenant()
    await world.hook(stranger)
    await world.promote(stranger, model_file)
    for path in (
        "models/run-failure/predictions",
        "workflows/heal/decisions",
        "integrations/github/deliveries",
    ):
        mine = await world.rest("GET", f"/v1/namespaces/{tenant.namespace}/{path}")
        theirs = await world.rest("GET", f"/v1/namespaces/{stranger.namespace}/{path}")
        assert mine.body["items"], path
        assert theirs.body["items"] == [], path


async def test_a_body_too_big_for_a_json_route_is_413(world, hook, tenant):
    url = f"/v1/namespaces/{tenant.namespace}/models/run-failure/predictions"
    answer = await world.rest("POST", url, data=b'{"project": "' + b"x" * 70_000 + b'"}')
    assert answer.status == 413


async def test_openapi_names_every_route_and_how_to_authenticate(world):
    found = (await world.ask("GET", "/openapi.json")).body
    integration = "/v1/namespaces/{namespace}/integrations/{name}"
    reports = (
        "anomalies", "cost", "failing-jobs", "failure-trend", "flaky-jobs", "flaky-tests", "mttr",
        "productivity", "recommendations", "retries", "time-to-green",
    )  # fmt: skip
    assert sorted(found["paths"]) == [
        "/hooks/{hook_id}",
        f"{integration}/artifacts",
        f"{integration}/commits",
        f"{integration}/deadletters",
        f"{integration}/deadletters/replay",
        f"{integration}/deadletters/{{delivery_id}}",
        f"{integration}/deadletters/{{delivery_id}}/payload",
        f"{integration}/deadletters/{{delivery_id}}/replay",
        *(f"{integration}/{path}" for path in ("deliveries", "deployments", "erasures", "history", "jobs")),
        f"{integration}/prices",
        *(f"{integration}/reports/{name}" for name in reports),
        *(f"{integration}/{path}" for path in ("runs", "steps", "tests")),
        "/v1/namespaces/{namespace}/models/{name}/predictions",
        "/v1/namespaces/{namespace}/models/{name}/predictions/batch",
        "/v1/namespaces/{namespace}/models/{name}/report",
        "/v1/namespaces/{namespace}/workflows/{name}/decisions",
    ]
    assert found["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


async def test_metrics_name_routes_and_outcomes_and_nobody(world, hook, tenant, github):
    await world.deliver(hook, "workflow_run", github("requested"))
    await world.deliver(hook, "workflow_run", github("requested"), headers={"X-Hub-Signature-256": ""})
    text = (await world.ask("GET", "/metrics")).body
    assert 'pipewright_gateway_requests_total{code="202",method="POST",route="/hooks/{hook_id}"}' in text
    assert 'pipewright_gateway_deliveries_total{outcome="SignatureRefused"}' in text
    assert "pipewright_gateway_directory_age_seconds" in text
    for secret in (tenant.id, tenant.namespace, hook.id, hook.secret):
        assert secret not in text


async def test_every_error_is_a_problem(world, tenant):
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("DELETE", "/hooks/x", 405),
        ("GET", f"/v1/namespaces/{tenant.namespace}/models/UPPER/predictions", 422),
    ):
        answer = await world.rest(method, path)
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
        assert answer.body["status"] == status


async def test_a_tenant_that_fills_its_calls_is_told_to_wait_and_another_is_answered(serve):
    async with serve(limits=parts.Limits(tenant_calls=1)) as world:
        greedy, other = await world.tenant(), await world.tenant()
        await world.hook(greedy)
        path = "/v1/namespaces/{}/workflows/heal/decisions"
        async with world.parts.calls.enter(greedy.id):
            refused = await world.rest("GET", path.format(greedy.namespace))
            answered = await world.rest("GET", path.format(other.namespace))
            history = f"/v1/namespaces/{greedy.namespace}/integrations/github/history"
            imported = await world.rest("POST", history, data=b"\n")
        assert (refused.status, refused.body["reason"], answered.status) == (429, "Busy", 200)
        assert imported.status == 200  # it has limits of its own
        assert (await world.rest("GET", path.format(greedy.namespace))).status == 200
        assert len(world.parts.calls) == 0
