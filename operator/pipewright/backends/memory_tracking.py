"""The registry of trainings in dictionaries, held to the same contract tests as MLflow."""

from __future__ import annotations

import hashlib

from pipewright import errors
from pipewright.tracking_facts import TrackedRun, TrackedVersion


class MemoryTracking:
    """`ports.training.Tracking`."""

    def __init__(self) -> None:
        self.runs: dict[str, TrackedRun] = {}
        """Run id → run."""
        self.owners: dict[str, str] = {}
        """Registered model → tenant id."""
        self.versions: dict[str, list[tuple[str, TrackedVersion]]] = {}
        """Registered model → run id and version, the first one is number 1."""
        self.aliases: dict[str, str] = {}
        """Registered model → the number that predicts."""
        self.trouble: Exception | None = None
        """What each call raises."""
        self.calls = 0

    async def record(self, run: TrackedRun) -> str:
        """Keep it, unless it is there."""
        self._answer()
        for run_id, known in self.runs.items():
            if known.submission_id == run.submission_id:
                return run_id
        run_id = hashlib.sha256(run.submission_id.encode()).hexdigest()[:32]
        self.runs[run_id] = run
        return run_id

    async def register(self, version: TrackedVersion, *, run_id: str) -> str:
        """Keep it, unless it is there, and move the alias."""
        self._answer()
        if self.owners.setdefault(version.model, version.owner) != version.owner:
            raise errors.OwnedByOther(f"the registered model {version.model} is not this tenant's")
        made = self.versions.setdefault(version.model, [])
        if run_id not in [of for of, _ in made]:
            made.append((run_id, version))
        number = str([of for of, _ in made].index(run_id) + 1)
        self.aliases[version.model] = number
        return number

    def _answer(self) -> None:
        self.calls += 1
        if self.trouble is not None:
            raise self.trouble
