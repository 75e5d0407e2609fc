"""The stage of the demo: the stack, its administrator, the provider simulator, and the tenant's own tools."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dev import places, process, web
from dev.kubectl import Kubectl
from dev.problem import Problem
from dev.process import Process
from dev.progress import Progress
from dev.stack import Stack

T = TypeVar("T")

EXAMPLES = places.ROOT / "examples"
TENANT, NEIGHBOUR = "acme", "globex"
AUDIENCE = "pipewright"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What every step of the demo needs."""

    stack: Stack
    progress: Progress

    @property
    def kubectl(self) -> Kubectl:
        """kubectl as the administrator."""
        return self.stack.parts.system().kubectl

    def apply(self, example: str, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Apply a file of examples/, changed where this machine differs from the world of the example."""
        documents = [found for found in yaml.safe_load_all((EXAMPLES / example).read_text()) if found]
        for document in documents:
            if change is not None:
                change(document)
        self.kubectl.apply(*documents)

    def wait(self, fact: Callable[[], T | None], *, what: str, within: float) -> T:
        """Poll until the fact holds, told with the seconds it took.

        Raises Problem when it does not within so many seconds.
        """
        began = time.monotonic()
        while True:
            found = fact()
            if found is not None and found is not False:
                self.progress.say(f"{what} ({time.monotonic() - began:.1f} s)")
                return found
            if time.monotonic() - began > within:
                raise Problem(f"not so after {within:.0f} s: {what}. `make status` shows the logs.")
            time.sleep(0.2)

    def wait_condition(
        self, kind: str, name: str, condition: str = "Ready", *, within: float, namespace: str = ""
    ) -> dict[str, Any]:
        """The object once the condition is True."""
        where = ["-n", namespace] if namespace else []

        def fact() -> dict[str, Any] | None:
            found = self.kubectl.get(kind, name, *where)
            told = {it["type"]: it for it in ((found or {}).get("status") or {}).get("conditions", [])}
            return found if told.get(condition, {}).get("status") == "True" else None

        return self.wait(fact, what=f"{kind} {name} is {condition}", within=within)

    def secret(self, name: str, *, namespace: str) -> dict[str, str]:
        """A Secret's fields, decoded."""
        found = self.kubectl.get("secret", name, "-n", namespace)
        if found is None:
            raise Problem(f"the Secret {name} is not in namespace {namespace}")
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}

    def rest(self, method: str, path: str, *, document: object = None, timeout: float = 30.0) -> Any:
        """The gateway's answer to the tenant's own automation account."""
        token = self.kubectl.token("automation", namespace=TENANT, audience=AUDIENCE, hours=1)
        return web.demand(
            self.stack.gateway_url + path,
            method=method,
            document=document,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
        )


class ProviderClient:
    """The provider simulator: a process of its own on the port that the allow-list names."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.url = stack.provider_url
        self._folder = stack.folder / "provider"

    def start(self) -> None:
        """Start it, unless it runs."""
        process.start(
            Process(
                name="provider",
                folder=self._stack.folder,
                command=(
                    *(sys.executable, "-m", "dev.provider"),
                    *("--port", self.url.rsplit(":", 1)[-1], "--state", str(self._folder)),
                ),
                ready=lambda: web.ask(f"{self.url}/rate_limit") is not None,
                directory=places.ROOT,
            )
        )

    def stop(self) -> None:
        """End it; what it remembers goes with it."""
        process.stop(self._stack.folder, "provider")

    @property
    def token(self) -> str:
        """The bearer token that it accepts."""
        return Path(self._folder / "token").read_text().strip()

    def ask(self, what: str) -> Any:
        """What it remembers: runs, deliveries, calls, comments."""
        return self._call("GET", what)

    def tell(self, what: str, document: object, *, timeout: float = 30.0) -> Any:
        """Make it do something: hooks, runs, deliver."""
        return self._call("POST", what, document, timeout=timeout)

    def _call(self, method: str, what: str, document: object = None, *, timeout: float = 30.0) -> Any:
        return web.demand(
            f"{self.url}/_sim/{what}",
            method=method,
            document=document,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=timeout,
        )
