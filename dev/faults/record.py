"""What was tried so far, in a file that outlives the process; void once product or harness are others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev import files
from dev.faults import oracles
from dev.faults.oracles import Broken

SOURCES = (
    "operator",
    "controllers",
    "connectors",
    "crds",
    "ml",
    "charts",
    "requirements/runtime.txt",
    "dev/faults",
    "dev/assets",
    "dev/product.py",
    "dev/provider.py",
    "dev/provider_hooks.py",
    "dev/ray.py",
    "dev/simulator.py",
)
"""What decides what the operator writes, and how that is judged: its code, kinds, rights and packages, the
job, the harness, the servers' versions, the settings. The gateway takes no part.
"""


@dataclass(slots=True)
class Record:
    """Faults by what they are known by in every learning, and the oracles that each of them broke."""

    path: Path
    fingerprint: str
    done: dict[str, list[dict[str, Any]]]

    @classmethod
    def load(cls, path: Path, fingerprint: str, *, resume: bool) -> Record:
        """The record of earlier runs of the same sources, if it is to be continued."""
        if resume and path.exists():
            found = json.loads(path.read_text())
            if found["fingerprint"] == fingerprint:
                return cls(path, fingerprint, found["done"])
        return cls(path, fingerprint, {})

    def note(self, key: str, broken: Sequence[Broken]) -> None:
        """Remember one, on disk at once."""
        self.done[key] = oracles.first(broken)
        files.write(self.path, json.dumps({"fingerprint": self.fingerprint, "done": self.done}, indent=1))


def fingerprint(root: Path) -> str:
    """Of the sources: names and content. What a learning saw is no part of it, because learnings differ."""
    digest = hashlib.sha256()
    for path in sorted(_sources(root)):
        digest.update(f"{path.relative_to(root)}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _sources(root: Path) -> Iterator[Path]:
    for name in SOURCES:
        place = root / name
        found = place.rglob("*") if place.is_dir() else iter((place,))
        yield from (path for path in found if path.is_file() and "__pycache__" not in path.parts)
