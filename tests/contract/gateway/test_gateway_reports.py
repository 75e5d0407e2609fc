"""REST over history: runs and jobs by pages, reports over days, prices; each by its right, people hidden."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
GETS = {
    "runs": "runs", "jobs": "jobs", "reports/failure-trend": "reports", "reports/failing-jobs": "reports",
    "reports/productivity": "reports", "reports/mttr": "reports", "reports/time-to-green": "reports",
    "reports/flaky-jobs": "reports", "reports/cost": "reports", "reports/anomalies": "reports",
    "reports/retries": "reports", "reports/recommendations": "reports",
    "prices": "prices",
}  # fmt: skip


def run(number: int, outcome: str, *, ago: float, **more: Any) -> dict[str, Any]:
    """A line of history: a run of ten minutes that finished so many hours ago."""
    end = NOW - timedelta(hours=ago)
    return {
        "type": "run", "project": "acme/shop", "pipeline": "ci", "id": str(number), "attempt": 1,
        "branch": "main", "sha": f"sha-{number}", "actor": "octocat", "outcome": outcome,
        "queuedAt": (end - timedelta(minutes=11)).isoformat(),
        "startedAt": (end - timedelta(minutes=10)).isoformat(), "finishedAt": end.isoformat(),
    } | more  # fmt: skip


def job(number: int, outcome: str, *, ago: float, **more: Any) -> dict[str, Any]:
    end = NOW - timedelta(hours=ago)
    return {
        "type": "job", "project": "acme/shop", "run": str(number), "attempt": 1, "id": f"j-{number}",
        "name": "unit", "outcome": outcome, "labels": ["x64", "linux"],
        "startedAt": (end - timedelta(minutes=6)).isoformat(), "finishedAt": end.isoformat(),
    } | more  # fmt: skip


HISTORY = [
    run(1, "success", ago=40), run(2, "failure", ago=30, sha="a"),
    run(2, "success", ago=29, sha="a", attempt=2), run(3, "error", ago=20, branch="dev"),
    run(4, "success", ago=10, project="acme/site", actor="hubot"),
    job(2, "failure", ago=30), job(2, "success", ago=29, id="j-2b", attempt=2), job(3, "error", ago=20),
]  # fmt: skip


async def test_whether_running_a_job_again_helps_and_what_to_mend_first(world, tenant):
    base = f"/v1/namespaces/{tenant.namespace}/integrations/github"
    await world.hook(tenant, projects=("acme/shop",))
    lines = []
    for number in range(12):
        for attempt, (e2e, unit) in enumerate((("failure", "failure"), ("success", "failure"))):
            on = {"ago": 60 - 2 * number - attempt / 2, "sha": f"s{number}", "attempt": attempt + 1}
            lines.append(job(number, e2e, id=f"e-{number}-{attempt}", name="e2e", **on))
            lines.append(job(number, unit, id=f"u-{number}-{attempt}", **on))
    lines.append(job(99, "success", ago=1, id="once", sha="alone", name="e2e"))
    answer = await world.rest("POST", f"{base}/history", data="\n".join(json.dumps(line) for line in lines))
    assert answer.status == 200, answer.body
    found = (await world.rest("GET", f"{base}/reports/retries")).body["items"]
    e2e, unit = found
    assert (e2e["name"], e2e["commits"], e2e["disagreed"], e2e["reruns"], e2e["passed"]) == (
        "e2e",
        12,
        12,
        12,
        12,
    )
    assert (unit["name"], unit["disagreed"], unit["reruns"], unit["passed"]) == ("unit", 0, 12, 0)
    assert (e2e["machineMinutes"], e2e["waitMinutes"]) == (pytest.approx(72.0), pytest.approx(360.0))
    assert unit["passes"]["high"] < 0.5 < e2e["passes"]["low"]
    prices = {"machineMinute": "0.01", "personMinute": "2"}
    (one,) = (await world.rest("GET", f"{base}/reports/recommendations", params=prices)).body["items"]
    assert (one["name"], one["category"]) == ("e2e", "flaky_test")
    assert 300 < one["saves"] < 720.72


async def test_what_ran_otherwise_than_usual_is_told_beside_what_is_usual(world, tenant):
    base = f"/v1/namespaces/{tenant.namespace}/integrations/github"
    await world.hook(tenant, projects=("acme/shop",))
    lines = [job(number, "success", ago=100 - number, id=f"j-{number}") for number in range(40)]
    slow = (NOW - timedelta(hours=50, minutes=30)).isoformat()
    lines.append(job(40, "success", ago=50, id="j-slow", startedAt=slow))
    lines += [job(number, "failure", ago=50 - number / 2, id=f"j-{number}") for number in range(41, 56)]
    answer = await world.rest("POST", f"{base}/history", data="\n".join(json.dumps(line) for line in lines))
    assert answer.status == 200, answer.body
    found = (await world.rest("GET", f"{base}/reports/anomalies")).body["items"]
    assert {(it["of"], it["measure"], it["shape"]) for it in found} == {
        ("job", "duration", "outlier"),
        ("job", "failureRate", "incident"),
        ("runner", "failureRate", "incident"),
    }
    (outlier,) = [it for it in found if it["shape"] == "outlier"]
    assert outlier["key"] == ["acme/shop", "ci", "unit"] or outlier["key"] == ["acme/shop", "", "unit"]
    assert (outlier["job"], outlier["found"], outlier["usual"]) == ("j-slow", 1800.0, pytest.approx(360.0))
    (incident,) = [it for it in found if it["of"] == "runner"]
    assert (incident["key"], incident["until"]) == (["linux, x64"], None)
    assert incident["found"] > 0.7 > incident["usual"]
    one = await world.rest("GET", f"{base}/reports/anomalies", params={"limit": "1"})
    assert one.body["items"] == found[:1]
    none = await world.rest("GET", f"{base}/reports/anomalies", params={"project": "acme/site"})
    assert none.body["items"] == []


@pytest.fixture
async def url(world, tenant) -> str:
    """An Integration with this history, rolled up."""
    base = f"/v1/namespaces/{tenant.namespace}/integrations/github"
    await world.hook(tenant, projects=("acme/shop", "acme/site"))
    body = "\n".join(json.dumps(line) for line in HISTORY)
    answer = await world.rest("POST", f"{base}/history", data=body)
    assert answer.status == 200, answer.body
    await world.parts.rollups.refresh(tenant.id)
    return base


@pytest.mark.parametrize(("path", "right"), GETS.items(), ids=GETS)
async def test_each_route_needs_its_own_right_in_the_namespace(world, hook, tenant, path, right):
    base = f"/v1/namespaces/{tenant.namespace}/integrations/github/{path}"
    assert (await world.ask("GET", base)).status == 401
    stranger = await world.rest("GET", base, token="eve:elsewhere")
    assert stranger.status == 403
    assert f"may not get integrations/{right}" in stranger.body["detail"]
    assert (await world.rest("GET", base.replace("/github/", "/gone/"))).status == 404
    nobodys = f"/v1/namespaces/nobodys/integrations/github/{path}"
    assert (await world.rest("GET", nobodys, token="eve:elsewhere")).status == 403
    assert (await world.rest("GET", nobodys)).status == 404


@pytest.mark.parametrize("path", GETS)
async def test_no_route_shows_another_integrations_history_or_a_login(world, url, tenant, path):
    mine = await world.rest("GET", f"{url}/{path}")
    assert mine.status == 200
    assert "octocat" not in json.dumps(mine.body)
    await world.hook(tenant, name="other")
    other = await world.rest("GET", f"{url.replace('/github', '/other')}/{path}")
    assert (other.status, other.body) == (200, {"items": [], "next": None})


async def test_runs_come_newest_first_page_by_page(world, url):
    found, cursor = [], None
    while True:
        params = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = await world.rest("GET", f"{url}/runs", params=params)
        assert page.status == 200, page.body
        found += [(each["run"], each["attempt"]) for each in page.body["items"]]
        cursor = page.body["next"]
        if cursor is None:
            break
    assert found == [("4", 1), ("3", 1), ("2", 2), ("2", 1), ("1", 1)]


async def test_a_run_shows_what_is_known_of_it(world, url):
    page = await world.rest("GET", f"{url}/runs", params={"run": "2", "outcome": "failure"})
    [item] = page.body["items"]
    actor = item.pop("actor")
    assert len(actor) == 16
    seen = item.pop("seenAt")
    assert seen
    assert item == {
        "run": "2", "attempt": 1, "number": 0, "project": "acme/shop", "pipeline": "ci", "trigger": "",
        "branch": "main", "sha": "a", "url": "", "jobs": 1, "failedJobs": ["unit"], "phase": "finished",
        "outcome": "failure", **{key: _z(HISTORY[1][key]) for key in ("queuedAt", "startedAt", "finishedAt")},
    }  # fmt: skip


def _z(text: str) -> str:
    return text.replace("+00:00", "Z")


FILTERS = {
    "project": ({"project": "acme/site"}, ["4"]),
    "branch": ({"branch": "dev"}, ["3"]),
    "sha": ({"sha": "a"}, ["2", "2"]),
    "outcome": ({"outcome": "success"}, ["4", "2", "1"]),
    "run": ({"run": "1"}, ["1"]),
    "pipeline": ({"pipeline": "cd"}, []),
    "since": ({"since": (NOW - timedelta(hours=25)).isoformat()}, ["4", "3"]),
    "until": ({"until": (NOW - timedelta(hours=35)).isoformat()}, ["1"]),
    "until is not included": ({"until": (NOW - timedelta(hours=40)).isoformat()}, []),
    "phase": ({"phase": "started"}, []),
}


@pytest.mark.parametrize(("params", "runs"), FILTERS.values(), ids=FILTERS)
async def test_runs_are_filtered(world, url, params, runs):
    page = await world.rest("GET", f"{url}/runs", params=params)
    assert [each["run"] for each in page.body["items"]] == runs


async def test_what_has_not_finished_is_listed_apart(world, hook, tenant, github):
    await world.deliver(hook, "workflow_run", github("in_progress", run=9))
    base = f"/v1/namespaces/{tenant.namespace}/integrations/github/runs"
    assert (await world.rest("GET", base)).body["items"] == []
    [item] = (await world.rest("GET", base, params={"phase": "started"})).body["items"]
    assert (item["run"], item["outcome"], item["finishedAt"]) == ("9", "", None)


async def test_jobs_are_listed_with_their_runs_pipeline(world, url):
    page = await world.rest("GET", f"{url}/jobs", params={"limit": "2"})
    assert [(each["job"], each["pipeline"], each["labels"]) for each in page.body["items"]] == [
        ("j-3", "ci", ["x64", "linux"]), ("j-2b", "ci", ["x64", "linux"]),
    ]  # fmt: skip
    rest = await world.rest("GET", f"{url}/jobs", params={"limit": "2", "cursor": page.body["next"]})
    assert [each["job"] for each in rest.body["items"]] == ["j-2"]
    of_run = await world.rest("GET", f"{url}/jobs", params={"run": "2", "job": "unit", "outcome": "success"})
    assert [each["job"] for each in of_run.body["items"]] == ["j-2b"]


async def test_the_trend_counts_by_day_and_by_hour(world, url):
    by_day = await world.rest("GET", f"{url}/reports/failure-trend")
    assert sum(each["finished"] for each in by_day.body["items"]) == 5
    assert sum(each["failed"] for each in by_day.body["items"]) == 1
    assert sum(each["broken"] for each in by_day.body["items"]) == 1
    by_hour = await world.rest(
        "GET", f"{url}/reports/failure-trend", params={"by": "hour", "project": "acme/site"}
    )
    [only] = by_hour.body["items"]
    hour = (NOW - timedelta(hours=10)).replace(minute=0, second=0)
    assert only == {
        "at": _z(hour.isoformat()), "finished": 1, "succeeded": 1, "failed": 0, "broken": 0, "cancelled": 0,
        "skipped": 0, "reruns": 0, "failureRate": 0.0, "meanSeconds": 600.0, "longestSeconds": 600.0,
        "meanQueueSeconds": 60.0,
    }  # fmt: skip


async def test_the_other_reports_say_what_happened(world, url):
    failing = await world.rest("GET", f"{url}/reports/failing-jobs")
    [unit] = failing.body["items"]
    assert (unit["name"], unit["pipeline"], unit["finished"], unit["failed"]) == ("unit", "ci", 3, 2)
    assert unit["lastDay"] == (NOW - timedelta(hours=20)).date().isoformat()
    teams = await world.rest("GET", f"{url}/reports/productivity")
    assert {(each["project"], each["finished"], each["reruns"]) for each in teams.body["items"]} == {
        ("acme/shop", 4, 1), ("acme/site", 1, 0),
    }  # fmt: skip
    assert all(each["meanPeople"] == 1 for each in teams.body["items"])
    mttr = await world.rest("GET", f"{url}/reports/mttr", params={"branch": "main"})
    [main] = mttr.body["items"]
    assert (main["repairs"], main["meanSeconds"]) == (1, 3600.0)
    [green] = (await world.rest("GET", f"{url}/reports/time-to-green")).body["items"]
    assert (green["commits"], green["longestSeconds"]) == (1, 3600.0)
    [flaky] = (await world.rest("GET", f"{url}/reports/flaky-jobs")).body["items"]
    assert (flaky["name"], flaky["commits"], flaky["failures"], flaky["successes"]) == ("unit", 1, 1, 1)


async def test_runners_cost_what_their_price_says(world, url):
    unpriced = await world.rest("GET", f"{url}/reports/cost", params={"by": "runner"})
    [only] = unpriced.body["items"]
    assert (only["key"], only["currency"], only["cost"]) == ("linux, x64", None, None)
    price = {"runner": "linux, x64", "currency": "EUR", "perMinute": "0.01", "validFrom": "2020-01-01"}
    for _ in range(2):
        assert (await world.rest("PUT", f"{url}/prices", json={"prices": [price]})).status == 204
    [listed] = (await world.rest("GET", f"{url}/prices")).body["items"]
    assert float(listed.pop("perMinute")) == 0.01
    assert listed == {"runner": "linux, x64", "currency": "EUR", "validFrom": "2020-01-01"}
    [only] = (await world.rest("GET", f"{url}/reports/cost")).body["items"]
    assert (only["key"], only["jobs"], only["currency"], float(only["cost"])) == ("acme/shop", 3, "EUR", 0.18)


async def test_prices_are_set_by_those_who_may(world, url, tenant, state):
    price = {"runner": "", "currency": "EUR", "perMinute": 1, "validFrom": "2020-01-01"}
    stranger = await world.rest("PUT", f"{url}/prices", token="eve:elsewhere", json={"prices": [price]})
    assert stranger.status == 403
    assert "may not update integrations/prices" in stranger.body["detail"]
    for wrong in ({"currency": "euro"}, {"perMinute": -1}, {"runner": "x" * 401}, {"runner": "\0"}, {"x": 1}):
        answer = await world.rest("PUT", f"{url}/prices", json={"prices": [price | wrong]})
        assert answer.status == 422, wrong
    await state(tenant, "Suspended")
    assert (await world.rest("PUT", f"{url}/prices", json={"prices": [price]})).status == 409
    assert (await world.rest("GET", f"{url}/prices")).status == 200


WRONG = [
    ("runs", {"since": "2026-01-01T00:00:00Z", "until": "2025-01-01T00:00:00Z"}),
    ("runs", {"since": "2020-01-01T00:00:00Z"}),
    ("runs", {"until": "0001-01-01T00:00:00Z"}),
    ("runs", {"since": "9999-12-31T23:59:59-12:00"}),
    ("runs", {"outcome": "great"}),
    ("runs", {"branch": "x\0"}),
    ("runs", {"branch": "x" * 256}),
    ("runs", {"limit": "201"}),
    ("jobs", {"phase": "over"}),
    ("reports/failure-trend", {"since": "2020-01-01"}),
    ("reports/failure-trend", {"by": "hour", "since": (NOW - 40 * DAY).date().isoformat()}),
    ("reports/failure-trend", {"by": "week"}),
    ("reports/retries", {"since": (NOW - 100 * DAY).date().isoformat()}),
    ("reports/recommendations", {"personMinute": "-1"}),
    ("reports/anomalies", {"since": (NOW - 40 * DAY).date().isoformat()}),
    ("reports/cost", {"until": "0001-01-01"}),
    ("reports/cost", {"by": "actor"}),
    ("reports/mttr", {"since": "tomorrow"}),
]


@pytest.mark.parametrize(("path", "params"), WRONG)
async def test_what_is_out_of_bounds_is_422(world, hook, tenant, path, params):
    base = f"/v1/namespaces/{tenant.namespace}/integrations/github/{path}"
    answer = await world.rest("GET", base, params=params)
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")


@pytest.mark.parametrize(
    "cursor", ["x", "e30=", "WzEsMiwzXQ==", "é", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsImEiLDBd"]
)
async def test_a_cursor_that_is_none_of_ours_is_400(world, hook, tenant, cursor):
    base = f"/v1/namespaces/{tenant.namespace}/integrations/github/runs"
    answer = await world.rest("GET", base, params={"cursor": cursor})
    assert (answer.status, answer.body["reason"]) == (400, "BadCursor")


async def test_the_routes_are_described(world):
    paths = (await world.ask("GET", "/openapi.json")).body["paths"]
    base = "/v1/namespaces/{namespace}/integrations/{name}"
    for path in GETS:
        described = paths[f"{base}/{path}"]["get"]
        assert described["security"] == [{"token": []}]
        assert described["responses"]["200"]["content"]["application/json"]["schema"]
