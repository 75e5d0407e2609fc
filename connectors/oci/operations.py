"""What a manifest's action may name as `oci`: each is done once however often it is asked for.

Each looks before it does anything, and gives what it found as the `body` that the action's outputs are made
of. A tag that already names the digest is left alone; what is to be deleted and is not there was deleted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from connectors.oci import reference
from connectors.oci.registry import Registry
from pipewright import errors

Inputs = Mapping[str, Any]
Operation = Callable[[Registry, Inputs], Awaitable[Mapping[str, Any]]]

SHOWN: Final = 200
"""Tags that an action gives: outputs are kept with the run."""


async def list_tags(registry: Registry, inputs: Inputs) -> Mapping[str, Any]:
    """The tags of a repository, those with `prefix` if it is given: how many, and the first in order."""
    repository = reference.repository(inputs["repository"])
    prefix = inputs.get("prefix", "")
    found = sorted(tag for tag in await registry.tags(repository) if tag.startswith(prefix))
    return {"count": len(found), "tags": found[:SHOWN]}


async def resolve(registry: Registry, inputs: Inputs) -> Mapping[str, Any]:
    """The digest of a tag."""
    repository, tag = reference.repository(inputs["repository"]), reference.tag(inputs["tag"])
    found = await registry.find(repository, tag)
    if found is None:
        raise _missing(repository, f":{tag}")
    return {"digest": found.digest, "mediaType": found.media_type}


async def tag(registry: Registry, inputs: Inputs) -> Mapping[str, Any]:
    """Have a tag name a digest that the repository has."""
    repository = reference.repository(inputs["repository"])
    wanted, name = reference.digest(inputs["digest"]), reference.tag(inputs["tag"])
    return await _point(registry, repository, wanted, name)


async def retag(registry: Registry, inputs: Inputs) -> Mapping[str, Any]:
    """Have a tag name what another one names now: `digest`, if it is given, must be that."""
    repository = reference.repository(inputs["repository"])
    source = reference.tag(inputs["source"], name="source")
    name = reference.tag(inputs["tag"])
    expected = reference.digest(inputs["digest"]) if inputs.get("digest") else None
    found = await registry.find(repository, source)
    if found is None:
        raise _missing(repository, f":{source}")
    if expected is not None and found.digest != expected:
        raise errors.Stalled(
            "ProviderRefused",
            f"{repository}:{source} is {found.digest} by now and not {expected}: nothing was tagged",
        )
    return await _point(registry, repository, found.digest, name)


async def delete(registry: Registry, inputs: Inputs) -> Mapping[str, Any]:
    """Delete a manifest by its digest."""
    repository, digest = reference.repository(inputs["repository"]), reference.digest(inputs["digest"])
    return {"digest": digest, "deleted": await registry.delete(repository, digest)}


async def _point(registry: Registry, repository: str, digest: str, name: str) -> Mapping[str, Any]:
    """Have the tag name the digest, unless it does."""
    before = await registry.find(repository, name)
    previous = before.digest if before is not None else ""
    if previous != digest:
        manifest = await registry.manifest(repository, digest)
        if manifest is None:
            raise _missing(repository, f"@{digest}")
        await registry.put(repository, name, manifest)
    return {"digest": digest, "previous": previous, "changed": previous != digest}


def _missing(repository: str, name: str) -> errors.Stalled:
    return errors.Stalled("ProviderRefused", f"the registry has no {repository}{name}")


OPERATIONS: Final[Mapping[str, Operation]] = {
    "list-tags": list_tags,
    "resolve": resolve,
    "tag": tag,
    "retag": retag,
    "delete": delete,
}
"""What `oci` may say."""
