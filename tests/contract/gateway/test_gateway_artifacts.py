"""Registries at the gateway, on the real database: what they tell is kept, listed and decided on."""

import copy
import json

import pytest

from connectors import mapping
from pipewright.backends.runner.actions import ConnectorActions
from tests.contract.registries import MANIFEST, Neighbour, running

HARBOR = {"baseUrl": "https://harbor.acme.example"}
DIGEST = "sha256:" + "8a9e9863" * 8
REPORT = "application/vnd.security.vulnerability.report; version=1.1"


def told(kind, *, tag="v1", at=1777885580, **counts):
    """A delivery of Harbor."""
    resource = {"digest": DIGEST, "tag": tag, "resource_url": f"harbor.acme.example/acme/shop:{tag}"}
    if kind == "SCANNING_COMPLETED":
        resource["scan_overview"] = {REPORT: {"scan_status": "Success", "summary": {"summary": counts}}}
    return {
        "type": kind,
        "occur_at": at,
        "operator": "ada",
        "event_data": {
            "resources": [resource],
            "repository": {"name": "shop", "namespace": "acme", "repo_full_name": "acme/shop"},
        },
    }


async def harbor(world, tenant, **options):
    return await world.hook(tenant, name="harbor", connector="harbor", config=HARBOR, **options)


async def send(world, hook, payload, **headers):
    sent = {"Content-Type": "application/json", "Authorization": hook.secret, **headers}
    return await world.ask("POST", f"/hooks/{hook.id}", data=json.dumps(payload).encode(), headers=sent)


async def listed(world, tenant, **query):
    url = f"/v1/namespaces/{tenant.namespace}/integrations/harbor/artifacts"
    answer = await world.rest("GET", url, params=query)
    assert answer.status == 200, answer.body
    return answer.body


async def test_a_push_is_kept_once_and_listed_with_a_surrogate(world, tenant):
    hook = await harbor(world, tenant)
    first = await send(world, hook, told("PUSH_ARTIFACT"))
    again = await send(world, hook, told("PUSH_ARTIFACT"))
    assert (first.status, first.body, again.body) == (202, {"accepted": True}, {"duplicate": True})
    [(surrogate,)] = await tenant.rows("SELECT surrogate FROM pipewright.actors WHERE login = 'ada'")
    [(delivery,)] = await tenant.rows("SELECT delivery_id FROM pipewright.deliveries")
    assert await listed(world, tenant) == {
        "items": [
            {
                "event": "published",
                "project": "acme/shop",
                "repository": "acme/shop",
                "tag": "v1",
                "digest": DIGEST,
                "mediaType": "",
                "actor": surrogate,
                "at": "2026-05-04T09:06:20Z",
                "outcome": "",
                "vulnerabilities": {},
                "url": "",
                "delivery": delivery,
            }
        ],
        "next": None,
    }


async def test_the_same_change_under_another_id_is_no_other_row_and_fires_nothing(world, tenant):
    await world.trigger(tenant, event="artifact.published")
    hook = await harbor(world, tenant)
    payload = told("PUSH_ARTIFACT")
    await send(world, hook, payload)
    assert (await send(world, hook, payload | {"more": 1})).body == {"accepted": True}
    assert await tenant.rows("SELECT count(*) FROM pipewright.artifacts") == [(1,)]
    found = await tenant.rows("SELECT fired FROM pipewright.decisions ORDER BY id")
    assert found == [(True,), (False,)]
    await send(world, hook, told("PUSH_ARTIFACT", at=1777885581))
    assert await tenant.rows("SELECT count(*) FROM pipewright.decisions WHERE fired") == [(2,)]


async def test_changes_are_paged_and_filtered(world, tenant):
    hook = await harbor(world, tenant)
    for tag in ("v1", "v2", "v3"):
        await send(world, hook, told("PUSH_ARTIFACT", tag=tag))
    await send(world, hook, told("DELETE_ARTIFACT", tag="v1"))
    seen, cursor = [], None
    while True:
        page = await listed(world, tenant, limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [(each["event"], each["tag"]) for each in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [("deleted", "v1"), ("published", "v3"), ("published", "v2"), ("published", "v1")]
    deleted = await listed(world, tenant, event="deleted")
    assert [each["tag"] for each in deleted["items"]] == ["v1"]
    assert (await listed(world, tenant, repository="acme/other"))["items"] == []
    url = f"/v1/namespaces/{tenant.namespace}/integrations/harbor/artifacts"
    for query in ({"event": "pulled"}, {"cursor": "x"}, {"repository": "x" * 256}):
        assert (await world.rest("GET", url, params=query)).status in (400, 422)


async def test_a_workflow_is_triggered_by_a_scan_and_knows_its_counts(world, tenant, eventually):
    condition = "event.outcome == 'success' && event.scan.critical == 0 && event.artifact.tag == 'v1'"
    await world.trigger(tenant, workflow="release", event="artifact.scanned", condition=condition)
    hook = await harbor(world, tenant)
    await send(world, hook, told("SCANNING_COMPLETED", Critical=2, High=1))
    await send(world, hook, told("SCANNING_COMPLETED", at=1777885590, High=1))
    [run] = await eventually(lambda: _made(world, tenant))
    assert run["spec"]["event"] == {
        "integration": "harbor",
        "deliveryId": run["spec"]["event"]["deliveryId"],
        "type": "artifact.scanned",
        "project": "acme/shop",
    }
    found = await tenant.rows("SELECT fired, reason, event FROM pipewright.decisions ORDER BY id")
    assert [(fired, reason) for fired, reason, _ in found] == [
        (False, "condition is false"),
        (True, "fired"),
    ]
    event = found[1][2]
    assert event["scan"] == {"critical": 0, "high": 1, "medium": 0, "low": 0, "unknown": 0}
    assert (event["artifact"]["digest"], event["artifact"]["at"]) == (DIGEST, "2026-05-04T09:06:30Z")
    assert "run" not in event
    scanned = await listed(world, tenant, event="scanned")
    assert [each["vulnerabilities"]["critical"] for each in scanned["items"]] == [0, 2]


async def _made(world, tenant):
    """The WorkflowRuns of the tenant."""
    return [run for (namespace, _), run in world.cluster.created.items() if namespace == tenant.namespace]


async def test_a_condition_on_a_run_is_no_condition_on_an_artifact(world, tenant):
    await world.trigger(tenant, event="artifact.published", condition="event.run.attempt == 1")
    hook = await harbor(world, tenant)
    assert (await send(world, hook, told("PUSH_ARTIFACT"))).status == 202
    [(fired, reason)] = await tenant.rows("SELECT fired, reason FROM pipewright.decisions")
    assert not fired
    assert "artifact.published has no field 'run'" in reason


async def test_an_artifact_of_another_project_is_ignored(world, tenant):
    hook = await harbor(world, tenant, projects=["acme/other"])
    answer = await send(world, hook, told("PUSH_ARTIFACT"))
    assert answer.body == {"ignored": "the project is not among the Integration's projects"}


async def test_without_the_secret_nothing_is_taken(world, tenant):
    hook = await harbor(world, tenant)
    answer = await send(world, hook, told("PUSH_ARTIFACT"), Authorization="Bearer x")
    assert (answer.status, answer.body["reason"]) == (401, "SignatureRefused")


PUSH = {"name": "shop", "repository": "acme/shop", "namespace": "acme", "updated_tags": ["latest"]}


@pytest.mark.parametrize("allowed", [False, True])
async def test_what_nobody_signed_needs_the_integrations_word(world, tenant, allowed):
    hook = await world.hook(tenant, name="quay", connector="quay", allow_unsigned=allowed)
    answer = await send(world, hook, PUSH)
    assert answer.status == (202 if allowed else 401)
    found = await tenant.rows("SELECT event, tag, digest, at = seen_at FROM pipewright.artifacts")
    assert found == ([("published", "latest", "", True)] if allowed else [])


async def test_equal_bodies_count_once_in_a_while(world, tenant, monkeypatch):
    hook = await world.hook(tenant, name="quay", connector="quay", allow_unsigned=True)
    seen = []
    identify = mapping.identify

    def spied(*args, received_at, **more):
        seen.append(received_at)
        return identify(*args, received_at=received_at.replace(hour=len(seen) // 3, minute=0), **more)

    monkeypatch.setattr(mapping, "identify", spied)
    answers = [(await send(world, hook, copy.deepcopy(PUSH))).status for _ in range(4)]
    assert answers == [202, 200, 202, 200]
    assert await tenant.rows("SELECT count(*) FROM pipewright.artifacts") == [(2,)]


async def test_an_artifact_is_no_line_of_an_imported_history(world, tenant):
    await harbor(world, tenant)
    line = {
        "type": "artifact",
        "event": "published",
        "project": "acme/shop",
        "repository": "shop",
        "tag": "v1",
    }
    url = f"/v1/namespaces/{tenant.namespace}/integrations/harbor/history"
    answer = await world.rest("POST", url, data=json.dumps(line))
    assert (answer.status, answer.body["detail"]) == (
        422,
        "line 1: type: must be run, job, step, test, commit or deployment",
    )


async def test_who_pushed_stays_known_while_the_artifact_is(world, tenant):
    hook = await harbor(world, tenant)
    await send(world, hook, told("PUSH_ARTIFACT"))
    async with tenant.connect("readonly") as reader:
        found = await (await reader.execute("SELECT repository, actor FROM history.artifacts")).fetchall()
    [(surrogate,)] = await tenant.rows("SELECT surrogate FROM pipewright.actors WHERE login = 'ada'")
    assert found == [("acme/shop", surrogate)]


async def test_a_real_registrys_push_starts_a_workflow_that_tags_it(world, tenant, eventually, tmp_path):
    """From the registry's own notification to the action that a step names, as the runner performs it."""
    await world.trigger(tenant, event="artifact.published", condition="event.artifact.tag == 'candidate'")
    hook = await world.hook(
        tenant, name="registry", connector="distribution", config={"baseUrl": "https://registry.acme.example"}
    )
    endpoint = {
        "name": "pipewright",
        "url": f"{world.url}/hooks/{hook.id}",
        "headers": {"Authorization": [f"Bearer {hook.secret}"]},
        "timeout": "5s",
        "threshold": 3,
        "backoff": "100ms",
    }
    async with running(tmp_path, Neighbour(), notifications={"endpoints": [endpoint]}) as registry:
        pushed = await registry.push("acme/shop", "candidate", authorization="none")
        await eventually(lambda: _made(world, tenant))
        [(event,)] = await tenant.rows("SELECT event FROM pipewright.decisions WHERE fired")
        assert (event["artifact"]["digest"], event["artifact"]["mediaType"]) == (pushed, MANIFEST)
        account = registry.account()
        performed = await ConnectorActions(registry.client).perform(
            connector="distribution",
            action="retag",
            config=account.config,
            credentials=account.credentials,
            inputs={
                "repository": event["artifact"]["repository"],
                "source": "candidate",
                "digest": event["artifact"]["digest"],
                "tag": "stable",
            },
        )
        assert performed.phase == "Succeeded"
        assert performed.result == {"digest": pushed, "previous": "", "changed": True}
        # and its own push of the tag is told, too
        found = "SELECT tag FROM pipewright.artifacts WHERE tag = 'stable' AND digest = %s"
        await eventually(lambda: tenant.rows(found, pushed))
