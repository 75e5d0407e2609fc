"""kubectl with one kubeconfig: the way in which people and this stack talk to an API server."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

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
        """One object, or a List, as JSON; None when there is no such object."""
        done = self.attempt("get", *arguments, "--output", "json", "--ignore-not-found")
        if done.returncode:
            raise Problem(f"kubectl get {' '.join(arguments)} failed: {done.stderr.strip()}")
        return dict(json.loads(done.stdout)) if done.stdout.strip() else None

    def apply(self, *documents: dict[str, Any]) -> str:
        """Server-side apply of documents; returns kubectl's list of what it did."""
        return self.run(*_APPLY, "--filename", "-", given=yaml.safe_dump_all(documents))

    def apply_files(self, paths: list[Path]) -> str:
        """Server-side apply of files, in this order and in one call."""
        named = [part for path in paths for part in ("--filename", str(path))]
        return self.run(*_APPLY, *named)

    def token(self, account: str, *, namespace: str, audience: str = "", hours: int = 24) -> str:
        """A fresh ServiceAccount token (TokenRequest) for the API server, or for another audience."""
        wanted = ("--audience", audience) if audience else ()
        return self.run(
            "create", "token", account, "--namespace", namespace, "--duration", f"{hours}h", *wanted
        ).strip()


_APPLY = ("apply", "--server-side", "--field-manager", FIELD_MANAGER)
