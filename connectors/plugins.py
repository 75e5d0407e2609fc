"""All connectors of one process: those of this release, those in the operator's folders, and installed ones.

    catalogue/*.yaml ─┐
    folders/*.yaml ───┼─► Found: what can be used by name, and what cannot be, with the reason
    entry points ─────┘   (only of distributions that the settings list: nothing else is imported)

What comes from outside never stops the process. It never takes the name of a connector of this release, and
of two that want one name neither is used: which of them came first is no reason to believe it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from types import MappingProxyType
from typing import Final

from connectors import catalogue, manifest, sdk
from connectors.manifest import Manifest
from connectors.mistakes import ManifestError

LARGEST: Final = 1024 * 1024
"""Bytes of a manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is."""

    connectors: Mapping[str, Manifest]
    """By the connector's name."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """What cannot be used: the connector's name, or else that of its file or package, to the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """Something that wants a name."""

    name: str
    source: str
    """Where it is from, for messages."""
    found: Manifest | str
    """The manifest, or why there is none."""
    listed: bool = True
    """Whether the settings ask for it."""


def load(*, folders: Sequence[Path] = (), packages: Sequence[str] = ()) -> Found:
    """All connectors. `packages` are the distributions whose entry points may run in this process.

    Raises:
        ManifestError: one of this release is wrong.
    """
    own = catalogue.load()
    offers: dict[str, list[_Offer]] = {}
    for offer in (*_of_folders(folders), *_of_packages(packages)):
        offers.setdefault(offer.name, []).append(offer)
    connectors, broken = dict(own), dict[str, str]()
    for name, offered in offers.items():
        wanting = [offer for offer in offered if offer.listed]
        if not wanting and name not in own:
            broken[name] = str(offered[0].found)
        if not wanting:
            continue
        sources = " and ".join(sorted(offer.source for offer in wanting))
        first = wanting[0].found
        if name in own:
            broken[f"{name} of {sources}"] = f"{name} is a connector of this release: give it another name"
        elif len(wanting) > 1:
            broken[name] = f"{sources} have a connector of this name: keep one of them"
        elif isinstance(first, Manifest):
            connectors[name] = first
        else:
            broken[name] = first
    return Found(connectors=MappingProxyType(connectors), broken=MappingProxyType(broken))


def _of_folders(folders: Iterable[Path]) -> Iterator[_Offer]:
    for folder in folders:
        try:
            files = sorted(path for path in folder.iterdir() if path.suffix == ".yaml")
        except OSError as error:
            reason = f"connectors.folders: cannot read {folder}: {error.strerror}"
            yield _Offer(name=str(folder), source=str(folder), found=reason)
            continue
        for file in files:
            yield _of_file(file)


def _of_file(file: Path) -> _Offer:
    try:
        if file.stat().st_size > LARGEST:
            raise ManifestError(f"{file}: a manifest has at most {LARGEST // 1024} KiB")
        found = manifest.parse(file.read_text(encoding="utf-8"), where=str(file))
        if file.stem != found.name:
            raise ManifestError(f"{file}: metadata.name is {found.name}: call the file {found.name}.yaml")
    except OSError as error:
        return _Offer(name=file.stem, source=str(file), found=f"cannot read {file}: {error.strerror}")
    except UnicodeDecodeError:
        return _Offer(name=file.stem, source=str(file), found=f"{file}: is no text in UTF-8")
    except ManifestError as error:
        return _Offer(name=file.stem, source=str(file), found=str(error))
    return _Offer(name=found.name, source=str(file), found=found)


def _of_packages(packages: Iterable[str]) -> Iterator[_Offer]:
    allowed = {_normal(name): name for name in packages}
    seen: set[str] = set()
    for point in sorted(metadata.entry_points(group=sdk.GROUP), key=lambda point: (point.name, point.value)):
        package = point.dist.name if point.dist is not None else ""
        if _normal(package) in allowed:
            seen.add(_normal(package))
            yield _of_point(point, package)
        else:
            reason = (
                f"the package {package} brings it, and connectors.packages in the settings does not list that"
            )
            yield _Offer(name=point.name, source=f"the package {package}", found=reason, listed=False)
    for missing in sorted(allowed.keys() - seen):
        reason = f"connectors.packages: {allowed[missing]} is not installed, or brings no connector"
        yield _Offer(name=allowed[missing], source="connectors.packages", found=reason)


def _of_point(point: EntryPoint, package: str) -> _Offer:
    source = f"the package {package}"
    found: Manifest | str
    try:
        made = point.load()
        if not isinstance(made, sdk.Connector):
            raise ManifestError(
                f"the entry point {point.name} = {point.value} is no connectors.sdk.Connector"
            )
        found = made.load()
        if found.name != point.name:
            raise ManifestError(
                f"metadata.name is {found.name}: the entry point {point.name} must be called so, too"
            )
    except ManifestError as error:
        found = f"{source}: {error}"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an import runs whatever the author wrote
        found = f"{source}: {point.value} cannot be loaded: {type(error).__name__}"
    return _Offer(name=point.name, source=source, found=found)


def _normal(name: str) -> str:
    """A distribution's name as packaging compares them (PyPA, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()
