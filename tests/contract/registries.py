"""CNCF Distribution for tests: a real registry, what it calls, and an image pushed to it as a client does."""

import asyncio
import base64
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

from connectors import actions, catalogue
from connectors.calls import Account
from connectors.outbound import Outbound
from dev import assets, ports, process
from dev.process import Process
from dev.progress import Progress
from pipewright.ports import Secret

DISTRIBUTION = catalogue.load()["distribution"]
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ALLOWED = {"writer": {"pull", "push", "delete"}, "reader": {"pull"}}
HOOK_SECRET = "a secret of the hook"


@dataclass
class Neighbour:
    """What a registry calls: the token server and the endpoint of its notifications."""

    key: RSAKey | None = None
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
        assert self.key is not None, "only a registry with tokens asks for one"
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
        named = {"tokenUrl": self.neighbour.url} if self.neighbour.url else {}
        told = {"baseUrl": self.url, **named, **config}
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
