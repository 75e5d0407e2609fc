"""The OCI operations and the connector `distribution` against CNCF Distribution, a real registry.

One has tokens that a server of the test grants, deletes, and notifies; the other asks for Basic and deletes
nothing.
"""

import asyncio
import base64
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import yaml
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

from connectors import actions, catalogue, mapping, verify
from connectors.calls import Account
from connectors.oci import registry as oci
from connectors.outbound import Outbound
from connectors.verify import Claim, SignatureRefused
from connectors.webhook import Webhook
from dev import assets, ports, process
from dev.process import Process
from dev.progress import Progress
from pipewright import errors
from pipewright.ports import Secret

DISTRIBUTION = catalogue.load()["distribution"]
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ALLOWED = {"writer": {"pull", "push", "delete"}, "reader": {"pull"}}
HOOK_SECRET = "a secret of the hook"
BCRYPT = "writer:$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"
"""The password is abc: a published vector of jBCrypt."""


@dataclass
class Neighbour:
    """What a registry calls: the token server and the endpoint of its notifications."""

    key: RSAKey
    url: str = ""
    scopes: list[str] = field(default_factory=list)
    deliveries: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def grant(self, request: web.Request) -> web.Response:
        """A token for what the user may do of what is asked; the password is the user's name backwards."""
        user, _, password = base64.b64decode(request.headers["Authorization"][6:]).decode().partition(":")
        if password != user[::-1] or user not in ALLOWED:
            return web.json_response({"errors": [{"code": "UNAUTHORIZED", "message": "no"}]}, status=401)
        access = []
        if scope := request.query.get("scope", ""):
            self.scopes.append(scope)
            kind, name, asked = scope.split(":")
            given = sorted(ALLOWED[user] & set(asked.split(",")))
            access.append({"type": kind, "name": name, "actions": given})
        now = int(time.time())
        claims = {"iss": "tests", "sub": user, "aud": request.query["service"], "access": access}
        claims |= {"iat": now, "nbf": now - 10, "exp": now + 300, "jti": f"{now}-{len(self.scopes)}"}
        header = {"alg": "RS256", "typ": "JWT", "kid": self.key.kid}
        token = jwt.encode(header, claims, self.key, algorithms=["RS256"])
        return web.json_response({"token": token, "expires_in": 300})

    async def hook(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.deliveries.append((headers, await request.read()))
        return web.Response()


@dataclass(frozen=True)
class Registry:
    """A running registry, and how the connector reaches it."""

    url: str
    neighbour: Neighbour
    client: Outbound

    def account(self, user: str = "writer", *, password: str | None = None, **config: str) -> Account:
        secret = {"username": Secret(user), "password": Secret(password or user[::-1])}
        told = {"baseUrl": self.url, "tokenUrl": self.neighbour.url, **config}
        return Account(config=told, credentials=secret)

    async def perform(
        self, action: str, *, account: Account | None = None, **inputs: str
    ) -> Mapping[str, Any]:
        return await actions.perform(
            DISTRIBUTION, action, inputs=inputs, account=account or self.account(), client=self.client
        )

    async def push(
        self, repository: str, *tags: str, words: str = "", authorization: str = "", index: bool = False
    ) -> str:
        """Push an image, or an index of one, by the API as a client does; its digest."""
        headers = {"Authorization": authorization or f"Bearer {await self._token(repository)}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            config = json.dumps({"os": "linux", "architecture": "amd64", "words": words}).encode()
            layer = f"layer {words}".encode()
            for blob in (config, layer):
                async with session.post(f"{self.url}/v2/{repository}/blobs/uploads/") as begun:
                    assert begun.status == 202, await begun.text()
                    place = begun.headers["Location"]
                separator = "&" if "?" in place else "?"
                async with session.put(f"{place}{separator}digest={digest(blob)}", data=blob) as done:
                    assert done.status == 201, await done.text()
            content = manifest(
                MANIFEST,
                config={"mediaType": "application/vnd.oci.image.config.v1+json", **sized(config)},
                layers=[{"mediaType": "application/vnd.oci.image.layer.v1.tar", **sized(layer)}],
            )
            media_type = MANIFEST
            if index:
                await self._put(session, repository, digest(content), MANIFEST, content)
                content = manifest(INDEX, manifests=[{"mediaType": MANIFEST, **sized(content)}])
                media_type = INDEX
            for tag in tags:
                await self._put(session, repository, tag, media_type, content)
        return digest(content)

    async def _put(
        self, session: aiohttp.ClientSession, repository: str, name: str, media_type: str, content: bytes
    ) -> None:
        url = f"{self.url}/v2/{repository}/manifests/{name}"
        async with session.put(url, data=content, headers={"Content-Type": media_type}) as done:
            assert done.status == 201, await done.text()

    async def _token(self, repository: str) -> str:
        query = {"service": "registry.test", "scope": f"repository:{repository}:pull,push"}
        shown = {"Authorization": f"Basic {base64.b64encode(b'writer:retirw').decode()}"}
        url = f"{self.neighbour.url}/token"
        async with aiohttp.ClientSession(headers=shown) as session, session.get(url, params=query) as answer:
            return str((await answer.json())["token"])


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def sized(content: bytes) -> dict[str, Any]:
    return {"digest": digest(content), "size": len(content)}


def manifest(media_type: str, **parts: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, **parts}, indent=3).encode()


@asynccontextmanager
async def running(folder: Path, neighbour: Neighbour, **settings: Any) -> AsyncIterator[Registry]:
    port = ports.free()
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"inmemory": {}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of-the-test"},
        **settings,
    }
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    binary = assets.binaries(assets.REGISTRY, Progress())["registry"]
    place = Process(
        name="registry",
        folder=folder,
        command=(str(binary), "serve", str(folder / "config.yml")),
        ready=lambda: _listens(port),
        environment={"OTEL_TRACES_EXPORTER": "none"},
    )
    await asyncio.to_thread(process.start, place)
    reached = [f"127.0.0.1:{port}", neighbour.url.removeprefix("http://")]
    try:
        async with Outbound(allow=reached) as client:
            yield Registry(url=f"http://127.0.0.1:{port}", neighbour=neighbour, client=client)
    finally:
        await asyncio.to_thread(process.stop, folder, "registry")


def _listens(port: int) -> bool:

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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
