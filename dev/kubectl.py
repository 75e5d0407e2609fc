"""kubectl with one kubeconfig: the way in which people and this stack talk to an API server."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dev import objects
from dev.objects import Objects
from dev.problem import Problem

FIELD_MANAGER = "pipewright-stack"
"""The stack's own field manager: never the operator's, never kubectl's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """The binary and the identity that it uses; no other kubeconfig is ever read."""

    binary: Path
    kubeconfig: Path

    def run(self, *arguments: str, given: str | None = None, timeout: float = 60.0) -> str:
        """Standard output of one command; raises Problem with kubectl's words when it fails."""
        done = self.attempt(*arguments, given=given, timeout=timeout)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise Problem(f"kubectl {' '.join(arguments[:6])} failed: {said}")
        return done.stdout

    def attempt(
        self, *arguments: str, given: str | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """One command whose failure is an answer, too."""
        return subprocess.run(
            [self.binary, "--kubeconfig", self.kubeconfig, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            # An exec plugin of an existing cluster's kubeconfig may need the user's own environment.
            env={key: value for key, value in os.environ.items() if key != "KUBECONFIG"},
        )

    def get(self, *arguments: str) -> dict[str, Any] | None:
        """One object, or a List, as JSON; None when there is no such object.

        Simple questions (one kind; `-n`, `-l`, `-A`, `--field-selector=`) need no process of its own.
        """
        asked, served = _Asked.read(arguments), objects.of(self.kubeconfig)
        if asked and served:
            return asked.of(served)
        done = self.attempt("get", *arguments, "--output", "json", "--ignore-not-found")
        if done.returncode:
            raise Problem(f"kubectl get {' '.join(arguments)} failed: {done.stderr.strip()}")
        return dict(json.loads(done.stdout)) if done.stdout.strip() else None

    def apply(self, *documents: dict[str, Any]) -> None:
        """Server-side apply of documents, one after the other. Raises Problem with the server's words."""
        if served := objects.of(self.kubeconfig):
            for document in documents:
                served.apply(document, manager=FIELD_MANAGER)
        else:
            self.run(*_APPLY, "--filename", "-", given=yaml.safe_dump_all(documents))

    def apply_files(self, paths: list[Path]) -> list[str]:
        """Server-side apply of files, in this order and in one call; what kubectl says of each object."""
        named = [part for path in paths for part in ("--filename", str(path))]
        return self.run(*_APPLY, *named).splitlines()

    def token(self, account: str, *, namespace: str, audience: str = "", hours: int = 24) -> str:
        """A fresh ServiceAccount token (TokenRequest) for the API server, or for another audience."""
        if served := objects.of(self.kubeconfig):
            return served.token(account, namespace=namespace, audience=audience, hours=hours)
        wanted = ("--audience", audience) if audience else ()
        return self.run(
            "create", "token", account, "--namespace", namespace, "--duration", f"{hours}h", *wanted
        ).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A `get` that needs no kubectl."""

    kind: str
    name: str
    namespace: str | None
    selectors: dict[str, str]

    @classmethod
    def read(cls, arguments: tuple[str, ...]) -> _Asked | None:
        """None where kubectl has to understand it: several kinds, other options."""
        words: list[str] = []
        namespace: str | None = "default"
        selectors: dict[str, str] = {}
        left = iter(arguments)
        for word in left:
            if word in ("-n", "--namespace"):
                namespace = next(left)
            elif word == "-A":
                namespace = None
            elif word == "-l":
                selectors["labelSelector"] = next(left)
            elif word.startswith("--field-selector="):
                selectors["fieldSelector"] = word.removeprefix("--field-selector=")
            elif word.startswith("-"):
                return None
            else:
                words.append(word)
        if len(words) not in (1, 2) or any(mark in words[0] for mark in ",./"):
            return None
        name = words[1] if len(words) == 2 else ""
        if name and selectors:
            return None
        return cls(kind=words[0], name=name, namespace=namespace, selectors=selectors)

    def of(self, served: Objects) -> dict[str, Any] | None:
        """The object, or the List."""
        if self.name:
            return served.get(self.kind, self.name, self.namespace or "default")
        return served.list(self.kind, self.namespace, selectors=self.selectors)


_APPLY = ("apply", "--server-side", "--field-manager", FIELD_MANAGER)
