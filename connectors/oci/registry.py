"""One registry by the OCI Distribution API: list tags, find what a tag is, copy it under another, delete.

What is copied is checked: a manifest is taken only if its bytes have the digest that names it, and what the
registry then says it stored must be that digest too. Nothing here follows a redirect or a foreign link.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

from connectors import calls
from connectors.calls import Calls
from connectors.oci import reference
from connectors.outbound import Answer
from connectors.paging import next_link
from pipewright import errors

MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Of those that a registry has, the first is asked for: an index, not the image of one platform."""
MAX_MANIFEST: Final = 4 * 1024 * 1024
"""Bytes: what the specification asks registries to take."""
MAX_TAGS: Final = 10_000
PAGE: Final = 1000
"""Tags of one page: some registries have a smaller limit of their own."""
MAX_PAGES: Final = 200
_MEDIA_TYPE: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)
_ACCEPT: Final = {"Accept": ", ".join(MANIFEST_TYPES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest or an index, with its bytes as they are."""

    digest: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a tag or a digest is."""

    digest: str
    media_type: str


class Registry:
    """One Integration's registry."""

    def __init__(self, session: Calls) -> None:
        self._session = session

    async def tags(self, repository: str, *, most: int = MAX_TAGS) -> tuple[str, ...]:
        """The repository's tags, in the registry's order; `most` of them.

        Raises:
            errors.Stalled, errors.Waiting, errors.Unreachable: as `Calls.refuse`.
        """
        place: str | None = f"{self._place(repository)}/tags/list?n={min(PAGE, most)}"
        found: dict[str, None] = {}
        for _ in range(MAX_PAGES):
            assert place is not None, "there was a next page"
            answer = await self._good(await self._session.send("GET", place), about=repository)
            listed = _object(answer).get("tags")
            found.update(dict.fromkeys(tag for tag in listed or () if reference.is_tag(tag)))
            place = self._next(answer, place)
            if place is None or len(found) >= most:
                return tuple(found)[:most]
        raise errors.Stalled("ProviderRefused", f"the list of tags has more than {MAX_PAGES} pages")

    async def find(self, repository: str, name: str) -> Found | None:
        """What this tag or digest is; None if the repository has it not, or there is no such repository.

        Raises:
            errors.Stalled, errors.Waiting, errors.Unreachable: as `Calls.refuse`.
        """
        place = f"{self._place(repository)}/manifests/{quote(name, safe=':')}"
        answer = await self._session.send("HEAD", place, headers=_ACCEPT)
        if answer.status == 404:
            return None
        if 200 <= answer.status < 300 and reference.is_digest(_digest_header(answer)):
            return Found(digest=_digest_header(answer), media_type=_media_type(answer))
        if answer.status == 429 or answer.status >= 500:
            self._session.refuse(answer)
        # A HEAD tells no reason, and some registries tell no digest: the manifest itself does.
        manifest = await self.manifest(repository, name)
        return None if manifest is None else Found(digest=manifest.digest, media_type=manifest.media_type)

    async def manifest(self, repository: str, name: str) -> Manifest | None:
        """The manifest of this tag or digest, checked; None if it is not there.

        Raises:
            errors.Stalled: it is not what its digest says; else as `Calls.refuse`.
        """
        place = f"{self._place(repository)}/manifests/{quote(name, safe=':')}"
        answer = await self._session.send("GET", place, headers=_ACCEPT, max_bytes=MAX_MANIFEST)
        if answer.status == 404:
            return None
        await self._good(answer, about=f"{repository}@{name}" if ":" in name else f"{repository}:{name}")
        if not answer.complete:
            raise errors.Stalled("ProviderRefused", f"the manifest has more than {MAX_MANIFEST} bytes")
        told = name if reference.is_digest(name) else _digest_header(answer)
        digest = told if reference.is_digest(told) else reference.digest_of(answer.body)
        if not reference.same(answer.body, digest):
            raise errors.Stalled(
                "ProviderRefused", f"the registry gave a manifest that has not the digest {digest}"
            )
        return Manifest(digest=digest, media_type=_media_type(answer), content=answer.body)

    async def put(self, repository: str, tag: str, manifest: Manifest) -> None:
        """Have the tag name this manifest, whose content the repository already has.

        Raises:
            errors.Stalled: the registry says that it stored something else (`AnswerNotUnderstood`: it did
                something); else as `Calls.refuse`.
        """
        answer = await self._session.send(
            "PUT",
            f"{self._place(repository)}/manifests/{tag}",
            headers={"Content-Type": manifest.media_type},
            body=manifest.content,
        )
        await self._good(answer, about=f"{repository}:{tag}")
        told = _digest_header(answer)
        if not told:
            stored = await self.find(repository, tag)
            told = stored.digest if stored is not None else "nothing"
        if told not in (manifest.digest, reference.digest_of(manifest.content)):
            raise errors.Stalled(
                "AnswerNotUnderstood", f"the registry stored {told[:200]} where {manifest.digest} was sent"
            )

    async def delete(self, repository: str, digest: str) -> bool:
        """Delete the manifest, with every tag that names it; False if it was not there.

        Raises:
            errors.Stalled, errors.Waiting, errors.Unreachable: as `Calls.refuse`.
        """
        answer = await self._session.send("DELETE", f"{self._place(repository)}/manifests/{digest}")
        if answer.status == 404 and await self.find(repository, digest) is None:
            return False
        if answer.status in (404, 405) or _code(answer) == "UNSUPPORTED":
            raise errors.Stalled(
                "ProviderRefused",
                f"{self._session.title} deletes nothing by digest (status {answer.status}): "
                "it is switched off there, or this registry has no such call",
            )
        await self._good(answer, about=f"{repository}@{digest}")
        return True

    def _place(self, repository: str) -> str:
        return f"{self._session.base_url}/v2/{repository}"

    def _next(self, answer: Answer, place: str) -> str | None:
        """The next page, which has to be the registry's own: the credentials are sent there.

        Raises:
            errors.Stalled: it is elsewhere.
        """
        target = next_link(answer.headers.get("link", ""))
        if not target:
            return None
        url = urljoin(place, target)
        here, there = urlsplit(place), urlsplit(url)
        if (there.scheme, there.netloc, there.path) != (here.scheme, here.netloc, here.path):
            raise errors.Stalled("ProviderRefused", "the list of tags goes on at another address")
        return url

    async def _good(self, answer: Answer, *, about: str) -> Answer:
        """The answer, if it is good.

        Raises:
            as `Calls.refuse`; what is not there is told by its name.
        """
        if answer.status == 404:
            code = _code(answer)
            known = {"NAME_UNKNOWN": "no such repository", "MANIFEST_UNKNOWN": "no such tag or digest"}
            raise errors.Stalled(
                "ProviderRefused", f"{self._session.title} has not {about}: {known.get(code, 'not found')}"
            )
        self._session.refuse(answer)
        return answer


def _object(answer: Answer) -> dict[str, Any]:
    """The JSON object of a whole answer.

    Raises:
        errors.Stalled: it is none.
    """
    if not answer.complete:
        raise errors.Stalled("ProviderRefused", "a page of the list of tags is too large")
    found = calls.body_of(answer)
    if not isinstance(found, dict) or not isinstance(found.get("tags") or [], list):
        raise errors.Stalled("ProviderRefused", "the answer is no list of tags")
    return found


def _digest_header(answer: Answer) -> str:
    return answer.headers.get("docker-content-digest", "")


def _media_type(answer: Answer) -> str:
    """What the manifest calls itself: its own word if there is one, since the header may be a proxy's."""
    header = answer.headers.get("content-type", "").partition(";")[0].strip()
    try:
        own = json.loads(answer.body).get("mediaType") if answer.body else None
    except (ValueError, RecursionError, AttributeError):
        own = None
    return own if isinstance(own, str) and _MEDIA_TYPE.fullmatch(own) else header


def _code(answer: Answer) -> str:
    """The first code in the body of an error; empty where there is none."""
    found = calls.body_of(answer)
    listed = found.get("errors") if isinstance(found, dict) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    code = first.get("code") if isinstance(first, dict) else None
    return code if isinstance(code, str) else ""
