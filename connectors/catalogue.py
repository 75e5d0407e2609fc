"""The connectors that this release carries: every `catalogue/*.yaml`, loaded once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from connectors import manifest
from connectors.manifest import Manifest
from connectors.mistakes import ManifestError


@cache
def load() -> Mapping[str, Manifest]:
    """All manifests by the connector's name.

    Raises:
        ManifestError: one is wrong, or its file is not named as its connector is.
    """
    found: dict[str, Manifest] = {}
    for file in sorted(folder().iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".yaml"):
            continue
        read = manifest.parse(file.read_text(encoding="utf-8"), where=file.name)
        if file.name != f"{read.name}.yaml":
            raise ManifestError(
                f"{file.name}: metadata.name is {read.name}: the file must be called {read.name}.yaml"
            )
        found[read.name] = read
    return MappingProxyType(found)


def folder() -> Path:
    """Where the manifests lie."""
    return Path(str(resources.files("connectors"))) / "catalogue"
