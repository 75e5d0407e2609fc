"""For authors of connectors outside of this repository: what an entry point gives, and what its parts are.

    [project.entry-points."pipewright.connectors"]
    acme = "acme_connector:CONNECTOR"

    CONNECTOR = sdk.Connector.of_package("acme_connector", "acme.yaml", sdk.Code(mapper=Builds()))

docs/connectors/authoring.md is the guide, examples/connector-acme a whole package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self

from connectors import manifest
from connectors.code import Action, Code, Lister, Mapper, Page, Signer
from connectors.document import MappingError, Opened
from connectors.manifest import Manifest
from connectors.outbound import Answer
from connectors.session import Session
from connectors.verify import Claim, SignatureRefused, Verifier
from connectors.verify.claim import mac, matches

__all__ = [
    "GROUP", "Action", "Answer", "Claim", "Code", "Connector", "Lister", "Mapper", "MappingError", "Opened",
    "Page", "Session", "SignatureRefused", "Signer", "Verifier", "mac", "matches",
]  # fmt: skip

GROUP: Final = "pipewright.connectors"
"""The group of entry points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """A manifest, and the code that stands in where it says so."""

    text: str
    """The manifest, YAML."""
    where: str
    """Names its file in messages."""
    code: Code = field(default_factory=Code)
    file: Path | None = None
    """The file itself, where there is one: its samples lie in `fixtures/` beside it."""

    @classmethod
    def of_package(cls, package: str, name: str, code: Code | None = None) -> Self:
        """The manifest `name` among a package's files.

        Raises:
            OSError, ImportError: there is none.
        """
        found = resources.files(package).joinpath(name)
        path: Any = found
        return cls(
            text=found.read_text(encoding="utf-8"),
            where=name,
            code=code or Code(),
            file=path if isinstance(path, Path) else None,
        )

    def load(self) -> Manifest:
        """The manifest, checked whole.

        Raises:
            ManifestError: the first thing that is wrong.
        """
        return manifest.parse(self.text, where=self.where, code=self.code)
