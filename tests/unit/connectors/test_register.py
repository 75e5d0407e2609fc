"""Webhooks at providers: requests as each vendor's API wants them, and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from typing import Any, cast

import pytest

from connectors import catalogue, manifest
from connectors.calls import Account, Calls
from connectors.mistakes import ManifestError
from connectors.outbound import Outbound
from connectors.register import Hook, Registrar
from connectors.registration import Registration
from connectors.webhook import Webhook
from pipewright import errors
from pipewright.ports import Secret

PATH = "/hooks/abcdefghijklmnopqrstuvwxyz012345"
URL = f"https://hooks.example{PATH}"
SECRET = Secret("canary-of-the-webhook")


def registrar(name: str, provider: Any, client: Outbound, *, project: str = "acme/shop") -> Registrar:
    found = catalogue.load()[name]
    assert found.http is not None
    wanted = cast("Webhook", found.webhook).registration
    assert isinstance(wanted, Registration)
    credentials = {field: Secret("canary-token") for field in found.http.auths[0].fields}
    account = Account(config={"baseUrl": provider.url}, credentials=credentials)
    return Registrar(Calls(found, account, client=client), wanted, project=project)


GITHUB_HOOK: dict[str, Any] = {
    "id": 7,
    "active": True,
    "events": ["workflow_run", "workflow_job", "push", "pull_request", "deployment_status"],
    "config": {"url": URL, "content_type": "json", "insecure_ssl": "0", "secret": "********"},
}
GITLAB_HOOK: dict[str, Any] = {
    "id": 7,
    "url": URL,
    "pipeline_events": True,
    "job_events": True,
    "push_events": True,
    "merge_requests_events": True,
    "deployment_events": True,
    "enable_ssl_verification": True,
    "alert_status": "executable",
}
BITBUCKET_HOOK: dict[str, Any] = {
    "uuid": "{7}",
    "url": URL,
    "active": True,
    "secret_set": True,
    "events": ["repo:commit_status_created", "repo:commit_status_updated"],
}
CIRCLECI_HOOK: dict[str, Any] = {
    "id": "7", "url": URL, "verify-tls": True, "events": ["workflow-completed", "job-completed"],
}  # fmt: skip

LISTS: dict[str, tuple[str, Callable[[list[Any]], Any], dict[str, Any]]] = {
    "github": ("/repos/acme/shop/hooks", list, GITHUB_HOOK),
    "gitlab": ("/api/v4/projects/acme%2Fshop/hooks", list, GITLAB_HOOK),
    "bitbucket": ("/2.0/repositories/acme/shop/hooks", lambda found: {"values": found}, BITBUCKET_HOOK),
    "circleci": ("/api/v2/webhook", lambda found: {"items": found}, CIRCLECI_HOOK),
}
DRIFTED: dict[str, tuple[str, dict[str, Any]]] = {
    "GitHub: switched off": ("github", {"active": False}),
    "GitHub: an event is missing": ("github", {"events": ["workflow_run"]}),
    "GitHub: of before commits and deployments were kept": (
        "github",
        {"events": ["workflow_run", "workflow_job"]},
    ),
    "GitHub: as a form": ("github", {"config": GITHUB_HOOK["config"] | {"content_type": "form"}}),
    "GitHub: without TLS": ("github", {"config": GITHUB_HOOK["config"] | {"insecure_ssl": "1"}}),
    "GitLab: an event is missing": ("gitlab", {"job_events": False}),
    "GitLab: of before commits were kept": ("gitlab", {"push_events": False}),
    "GitLab: of before deployments were kept": ("gitlab", {"deployment_events": False}),
    "GitLab: switched off after failures": ("gitlab", {"alert_status": "disabled"}),
    "GitLab: without TLS": ("gitlab", {"enable_ssl_verification": False}),
    "Bitbucket: switched off": ("bitbucket", {"active": False}),
    "Bitbucket: without a secret": ("bitbucket", {"secret_set": False}),
    "Bitbucket: an event is missing": ("bitbucket", {"events": ["repo:push"]}),
    "CircleCI: an event is missing": ("circleci", {"events": ["job-completed"]}),
    "CircleCI: without TLS": ("circleci", {"verify-tls": False}),
}


def serve(provider: Any, name: str, *hooks: dict[str, Any]) -> None:
    path, listed, _ = LISTS[name]
    provider.on("/api/v2/project/acme/shop", {"id": "scope-1"})
    provider.on(path, listed(list(hooks)))


@pytest.mark.parametrize("name", LISTS)
async def test_ours_is_found_among_others_and_is_right(name: str, provider: Any, client: Outbound) -> None:
    hook = LISTS[name][2]
    other = json.loads(json.dumps(hook).replace(URL, "https://elsewhere.example/x").replace("7", "8"))
    serve(provider, name, other, hook)
    found = await registrar(name, provider, client).find(path=PATH)
    assert found == [Hook(id="{7}" if name == "bitbucket" else "7", url=URL, current=True)]


@pytest.mark.parametrize("sentence", DRIFTED)
async def test_drift_is_seen(sentence: str, provider: Any, client: Outbound) -> None:
    name, change = DRIFTED[sentence]
    serve(provider, name, LISTS[name][2] | change)
    (found,) = await registrar(name, provider, client).find(path=PATH)
    assert not found.current


@pytest.mark.parametrize("name", LISTS)
async def test_one_whose_address_was_changed_is_found_by_its_id(
    name: str, provider: Any, client: Outbound
) -> None:
    moved = json.loads(json.dumps(LISTS[name][2]).replace(URL, "https://elsewhere.example/x"))
    serve(provider, name, moved)
    known = "{7}" if name == "bitbucket" else "7"
    (found,) = await registrar(name, provider, client).find(path=PATH, known=known)
    assert found.url == "https://elsewhere.example/x"
    assert await registrar(name, provider, client).find(path=PATH) == []


REQUESTS = {
    "github": (
        ("POST", "/repos/acme/shop/hooks"),
        ("PATCH", "/repos/acme/shop/hooks/7"),
        {"url", "content_type", "insecure_ssl", "secret"},
    ),
    "gitlab": (
        ("POST", "/api/v4/projects/acme%2Fshop/hooks"),
        ("PUT", "/api/v4/projects/acme%2Fshop/hooks/7"),
        {"url", "token", "push_events", "pipeline_events", "job_events", "enable_ssl_verification"},
    ),
    "bitbucket": (
        ("POST", "/2.0/repositories/acme/shop/hooks"),
        ("PUT", "/2.0/repositories/acme/shop/hooks/7"),
        {"description", "url", "active", "secret", "events"},
    ),
    "circleci": (
        ("POST", "/api/v2/webhook"),
        ("PUT", "/api/v2/webhook/7"),
        {"name", "url", "events", "signing-secret", "verify-tls"},
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_it_is_made_changed_and_removed(name: str, provider: Any, client: Outbound) -> None:
    create, update, fields = REQUESTS[name]
    serve(provider, name)
    provider.on(update[1], {})
    made = registrar(name, provider, client)
    await made.create(url=URL, secret=SECRET)
    await made.update("7", url=URL, secret=SECRET)
    await made.delete("7")
    sent = [seen for seen in provider.seen if seen.method != "GET"]
    assert [(seen.method, seen.path) for seen in sent] == [create, update, ("DELETE", update[1])]
    for seen in sent[:2]:
        body = json.loads(seen.body)
        told = body["config"] if name == "github" else body
        assert fields <= set(told)
        assert told["url"] == URL
        assert "canary-of-the-webhook" in told.values()
    if name == "circleci":
        assert json.loads(sent[0].body)["scope"] == {"id": "scope-1", "type": "project"}
    assert sent[2].body == b""


async def test_a_long_list_is_read_to_its_end_and_not_elsewhere(provider: Any, client: Outbound) -> None:
    path = LISTS["github"][0]
    following = {"Link": f'<{provider.url}{path}?per_page=100&page=2>; rel="next"'}
    provider.on(f"{path}?per_page=100", [], headers=following)
    provider.on(f"{path}?per_page=100&page=2", [GITHUB_HOOK])
    (found,) = await registrar("github", provider, client).find(path=PATH)
    assert found.id == "7"
    away = {"Link": '<https://elsewhere.example/hooks>; rel="next"'}
    provider.on("/repos/acme/pay/hooks", [], headers=away)
    with pytest.raises(errors.Stalled, match="another address"):
        await registrar("github", provider, client, project="acme/pay").find(path=PATH)


async def test_what_is_removed_already_is_done(provider: Any, client: Outbound) -> None:
    await registrar("github", provider, client).delete("7")  # the provider answers 404
    assert [seen.method for seen in provider.seen] == ["DELETE"]


ODD: dict[str, Any] = {
    "no list": {"message": "x"},
    "entries of another kind": [None, 3, "x", {"id": None}, {"config": {"url": URL}}],
    "an id that is none": [GITHUB_HOOK | {"id": "x" * 200}],
}


@pytest.mark.parametrize("sentence", ODD)
async def test_odd_answers_find_nothing_or_are_refused(
    sentence: str, provider: Any, client: Outbound
) -> None:
    provider.on(LISTS["github"][0], ODD[sentence])
    made = registrar("github", provider, client)
    if sentence == "no list":
        with pytest.raises(errors.Stalled, match="no list of webhooks"):
            await made.find(path=PATH)
    else:
        assert await made.find(path=PATH) == []


async def test_a_refusal_is_told_without_the_secrets(provider: Any, client: Outbound) -> None:
    told = {"message": "canary-token may not do that"}
    provider.on(LISTS["github"][0], told, status=422)
    with pytest.raises(errors.Stalled) as refused:
        await registrar("github", provider, client).create(url=URL, secret=SECRET)
    assert refused.value.reason == "ProviderRefused"
    assert "canary" not in refused.value.message


WRONG = {
    "an expression that does not compile": ("id: string(item.id)", "id: string(item.id", "list.id"),
    "a condition that is no bool": ("item.active == true\n        &&", "'x' +", "list.current"),
    "a hole that does not compile": ("${{ input.secret }}", "${{ input.secret + }}", "body.config.secret"),
    "a field that nobody knows": ("  registration:\n", "  registration:\n    retry: {}\n", "registration"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_manifest_that_is_wrong_is_refused_with_the_place(sentence: str) -> None:
    old, new, place = WRONG[sentence]
    text = (catalogue_file("github")).replace(old, new, 1)
    with pytest.raises(ManifestError, match=place):
        manifest.parse(text, where="github.yaml")


def catalogue_file(name: str) -> str:
    return resources.files("connectors").joinpath(f"catalogue/{name}.yaml").read_text(encoding="utf-8")
