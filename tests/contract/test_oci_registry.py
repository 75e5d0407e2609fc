"""The OCI operations and the connector `distribution` against CNCF Distribution, a real registry.

One has tokens that a server of the test grants, deletes, and notifies; the other asks for Basic and deletes
nothing.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from aiohttp import web
from joserfc.jwk import RSAKey

from connectors import actions, mapping, verify
from connectors.oci import registry as oci
from connectors.verify import Claim, SignatureRefused
from connectors.webhook import Webhook
from pipewright import errors
from pipewright.ports import Secret
from tests.contract.registries import DISTRIBUTION, HOOK_SECRET, INDEX, MANIFEST, Neighbour, Registry, running

BCRYPT = "writer:$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"
"""The password is abc: a published vector of jBCrypt."""


@pytest.fixture(scope="module")
async def neighbour() -> AsyncIterator[Neighbour]:
    key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
    made = Neighbour(key=key)
    app = web.Application()
    app.router.add_get("/token", made.grant)
    app.router.add_post("/hook", made.hook)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = str(site.name)
    yield made
    await runner.cleanup()


@pytest.fixture(scope="module")
async def registry(neighbour: Neighbour, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    assert neighbour.key is not None
    (folder / "jwks.json").write_text(json.dumps({"keys": [neighbour.key.as_dict(private=False)]}))
    token = {
        "realm": f"{neighbour.url}/token",
        "service": "registry.test",
        "issuer": "tests",
        "jwks": str(folder / "jwks.json"),
    }
    endpoint = {
        "name": "pipewright",
        "url": f"{neighbour.url}/hook",
        "headers": {"Authorization": [f"Bearer {HOOK_SECRET}"]},
        "timeout": "2s",
        "threshold": 3,
        "backoff": "100ms",
    }
    async with running(
        folder, neighbour, auth={"token": token}, notifications={"endpoints": [endpoint]}
    ) as made:
        yield made


@pytest.fixture(scope="module")
async def small(neighbour: Neighbour, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registry]:
    folder = tmp_path_factory.mktemp("small-registry")
    (folder / "htpasswd").write_text(f"{BCRYPT}\n")
    auth = {"htpasswd": {"realm": "small", "path": str(folder / "htpasswd")}}
    async with running(folder, neighbour, auth=auth, storage={"inmemory": {}}) as made:
        yield made


async def test_a_tag_is_found_moved_and_deleted_each_once(registry: Registry) -> None:
    first = await registry.push("acme/shop", "v1", "latest", words="one", index=True)
    second = await registry.push("acme/shop", "v2", words="two")
    found = await registry.perform("resolve", repository="acme/shop", tag="latest")
    assert found == {"digest": first, "mediaType": INDEX}
    for changed in (True, False):
        found = await registry.perform("retag", repository="acme/shop", source="v2", tag="latest")
        assert found == {"digest": second, "previous": first if changed else second, "changed": changed}
    for changed in (True, False):
        found = await registry.perform("tag", repository="acme/shop", digest=first, tag="stable")
        assert found == {"digest": first, "previous": "" if changed else first, "changed": changed}
    found = await registry.perform("resolve", repository="acme/shop", tag="stable")
    assert found == {"digest": first, "mediaType": INDEX}
    for deleted in (True, False):
        assert await registry.perform("delete", repository="acme/shop", digest=second) == {"deleted": deleted}
    with pytest.raises(errors.Stalled, match="no acme/shop:v2"):
        await registry.perform("resolve", repository="acme/shop", tag="v2")
    assert set(registry.neighbour.scopes) >= {
        "repository:acme/shop:pull",
        "repository:acme/shop:pull,push",
        "repository:acme/shop:delete",
    }


async def test_tags_come_in_pages(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = [f"v{number}" for number in range(7)]
    await registry.push("acme/paged", *tags)
    monkeypatch.setattr(oci, "PAGE", 3)
    found = await registry.perform("list-tags", repository="acme/paged")
    assert found == {"count": 7, "tags": tags}


async def test_what_is_not_there_is_told(registry: Registry) -> None:
    await registry.push("acme/empty", "v1")
    with pytest.raises(errors.Stalled, match="has not acme/nothing: no such repository"):
        await registry.perform("list-tags", repository="acme/nothing")
    with pytest.raises(errors.Stalled, match="no acme/empty@sha256:0000"):
        await registry.perform("tag", repository="acme/empty", digest="sha256:" + "0" * 64, tag="v2")


async def test_who_may_only_read_tags_and_deletes_nothing(registry: Registry) -> None:
    pushed = await registry.push("acme/read", "v1")
    reader = registry.account("reader")
    found = await registry.perform("resolve", account=reader, repository="acme/read", tag="v1")
    assert found["digest"] == pushed
    for action, inputs in (("tag", {"tag": "v2"}), ("delete", {})):
        with pytest.raises(errors.Stalled) as refused:
            await registry.perform(action, account=reader, repository="acme/read", digest=pushed, **inputs)
        assert refused.value.reason == "CredentialsRefused"
        assert "UNAUTHORIZED" in str(refused.value) or "DENIED" in str(refused.value)
    assert await registry.perform("list-tags", repository="acme/read") == {"count": 1, "tags": ["v1"]}


async def test_a_wrong_password_is_told_without_it(registry: Registry) -> None:
    account = registry.account(password="hunter2")
    with pytest.raises(errors.Stalled, match="grants no token for the credentials") as refused:
        await actions.check(DISTRIBUTION, account=account, client=registry.client)
    assert "hunter2" not in str(refused.value)
    await actions.check(DISTRIBUTION, account=registry.account(), client=registry.client)


async def test_the_login_is_not_shown_to_a_token_server_that_nobody_named(registry: Registry) -> None:
    account = registry.account(tokenUrl="https://tokens.example.com")
    before = len(registry.neighbour.scopes)
    with pytest.raises(errors.Stalled, match="the credentials are not sent there"):
        await registry.perform("list-tags", account=account, repository="acme/shop")
    assert len(registry.neighbour.scopes) == before


async def test_a_registry_that_asks_for_basic_and_deletes_nothing(small: Registry) -> None:
    shown = "Basic " + base64.b64encode(b"writer:abc").decode()
    pushed = await small.push("shop", "v1", authorization=shown)
    account = small.account(password="abc")
    await actions.check(DISTRIBUTION, account=account, client=small.client)
    found = await small.perform("retag", account=account, repository="shop", source="v1", tag="v2")
    assert found == {"digest": pushed, "previous": "", "changed": True}
    assert await small.perform("list-tags", account=account, repository="shop") == {
        "count": 2,
        "tags": ["v1", "v2"],
    }
    with pytest.raises(errors.Stalled, match="deletes nothing by digest"):
        await small.perform("delete", account=account, repository="shop", digest=pushed)
    with pytest.raises(errors.Stalled, match="refused the credentials"):
        await actions.check(DISTRIBUTION, account=small.account(password="abd"), client=small.client)


async def _told(registry: Registry, *wanted: tuple[str, str, str]) -> dict[tuple[str, str, str], Any]:
    """What the registry's own notifications became, once these (event, repository, tag) have come."""
    webhook = cast("Webhook", DISTRIBUTION.webhook)
    config = DISTRIBUTION.configure({"baseUrl": registry.url})
    async with asyncio.timeout(20):
        while True:
            found: dict[tuple[str, str, str], Any] = {}
            for headers, body in list(registry.neighbour.deliveries):
                opened = mapping.open_delivery(webhook, headers=headers, raw=body)
                identity = mapping.identify(webhook, opened, config)
                said = mapping.map_delivery(webhook, opened, event=identity.event, config=config)
                for _, record in said if isinstance(said, list) else []:
                    record = cast("Any", record)
                    found[record.event, record.repository, record.tag] = record
            if found.keys() >= set(wanted):
                return found
            await asyncio.sleep(0.05)


async def test_its_notifications_become_artifacts(registry: Registry) -> None:
    pushed = await registry.push("acme/told", "v1", words="told")
    await registry.perform("delete", repository="acme/told", digest=pushed)
    found = await _told(registry, ("published", "acme/told", "v1"), ("deleted", "acme/told", ""))
    record = found["published", "acme/told", "v1"]
    assert (record.project, record.digest, record.media_type) == ("acme/told", pushed, MANIFEST)
    assert (record.actor, record.type) == ("writer", "artifact.published")
    assert abs((datetime.now(UTC) - record.at).total_seconds()) < 60
    assert found["deleted", "acme/told", ""].digest == pushed
    published = [key for key in found if key[1] == "acme/told" and key[0] == "published"]
    assert published == [("published", "acme/told", "v1")]  # no blob among them


async def test_its_notifications_are_proved_by_the_header(registry: Registry) -> None:
    await registry.push("acme/proved", "v1")
    await _told(registry, ("published", "acme/proved", "v1"))
    headers, body = registry.neighbour.deliveries[-1]
    verifier = cast("Webhook", DISTRIBUTION.webhook).verify

    async def check(secret: str) -> None:
        claim = Claim(headers=headers, body=body, secrets=[Secret(secret)], now=datetime.now(UTC))
        await verify.verify(verifier, claim)

    await check(HOOK_SECRET)
    with pytest.raises(SignatureRefused):
        await check("another secret")
