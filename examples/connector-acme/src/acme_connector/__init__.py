"""Acme Builds for Pipewright: what its manifest cannot say."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors import sdk

HEADER: Final = "x-acme-proof"
TOLERANCE: Final = timedelta(minutes=5)
_PROOF: Final = re.compile(r"([0-9]{10}):([0-9a-f]{128})")


class Proof:
    """`X-Acme-Proof: <seconds>:<hex>`, an HMAC with SHA-512 over the seconds, a line break and the body."""

    proofs = frozenset({HEADER})

    def check(self, claim: sdk.Claim) -> None:
        """Return if the claim is proved."""
        found = _PROOF.fullmatch(claim.header(HEADER))
        if found is None:
            raise sdk.SignatureRefused(f"the header {HEADER} is no proof of Acme Builds")
        message = f"{found[1]}\n".encode() + claim.body
        keys = claim.keys()
        expected = [sdk.mac(key, message, algorithm="sha512", encoding="hex") for key in keys]
        if not sdk.matches(expected, [found[2].encode()]):
            raise sdk.SignatureRefused(
                "the proof is wrong: the secret is not this webhook's, or the body changed"
            )
        claim.recent(datetime.fromtimestamp(int(found[1]), UTC), tolerance=TOLERANCE)


class Signer:
    """Signs as Acme Builds does, so that `connectors test` can try `Proof`."""

    def sign(self, *, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        """The header."""
        seconds = int(now.timestamp())
        signed = sdk.mac(secret.encode(), f"{seconds}\n".encode() + body, algorithm="sha512", encoding="hex")
        return {HEADER: f"{seconds}:{signed.decode()}"}


class Builds:
    """A build with its steps as a run and its jobs."""

    def records(
        self, delivery: sdk.Opened, *, event: str, config: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        """The build that a delivery is about."""
        yield from records_of(_object(delivery.body, "build"))


def records_of(build: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The records of a build, as webhooks and the API have it.

    Raises:
        MappingError: a field is missing, or of another type.
    """
    ended = build.get("ended")
    steps = _last_tries(build)
    shared = {
        "project": build.get("repository"),
        "pipeline": build.get("plan"),
        "attempt": 1,
        "sha": build.get("commit"),
        "branch": build.get("branch"),
    }
    run = {**shared, "type": "run", "id": _id(build.get("id")), "startedAt": build.get("begun")}
    if ended is None:
        yield {**run, "phase": "started"}
        return
    outcome = "failure" if any(step.get("exit") != 0 for step in steps) else "success"
    yield {**run, "phase": "finished", "outcome": outcome, "finishedAt": ended}
    for step in steps:
        yield {
            **shared,
            "type": "job",
            "run": _id(build.get("id")),
            "id": f"{_id(build.get('id'))}-{step.get('name')}",
            "name": step.get("name"),
            "phase": "finished",
            "outcome": "success" if step.get("exit") == 0 else "failure",
            "startedAt": step.get("from"),
            "finishedAt": step.get("to"),
        }


def _last_tries(build: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    steps = build.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise sdk.MappingError("build.steps must be a list of objects")
    last: dict[str, Mapping[str, Any]] = {}
    for step in steps:
        if not isinstance(step.get("name"), str) or not isinstance(step.get("try"), int):
            raise sdk.MappingError("a step must have a name and the number of its try")
        known = last.get(step["name"])
        if known is None or step["try"] >= known["try"]:
            last[step["name"]] = step
    return list(last.values())


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise sdk.MappingError(f"{name} must be an object")
    return found


def _id(value: object) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        raise sdk.MappingError("build.id must be a number")
    return str(value)


async def retry_failed(session: sdk.Session, inputs: Mapping[str, Any]) -> Any:
    """Read the build for its ticket, then have each failed step tried again."""
    build = session.json(await session.request("GET", "builds", inputs["run"]))
    failed = [step["name"] for step in _last_tries(build) if step.get("exit") != 0]
    for name in failed:
        await session.request(
            "POST", "builds", inputs["run"], "steps", name, "retry", body={"ticket": build["ticket"]}
        )
    return {"steps": failed}


class Days:
    """The history of a repository: an index of days, and the builds of each."""

    async def pages(
        self, session: sdk.Session, *, project: str, since: datetime, until: datetime, place: str
    ) -> AsyncGenerator[sdk.Page, None]:
        """A page for each day; its place is the day."""
        repository = ("repositories", *project.split("/"))
        asked = {"from": since.date().isoformat(), "to": until.date().isoformat()}
        index = session.json(await session.request("GET", *repository, "days", query=asked))
        days = sorted(day for day in index.get("days", ()) if day > place)
        for day in days:
            found = session.json(await session.request("GET", *repository, "builds", query={"day": day}))
            yield sdk.Page(
                records=tuple(record for build in found["builds"] for record in records_of(build)), place=day
            )
        yield sdk.Page(records=(), place=None)


CONNECTOR: Final = sdk.Connector.of_package(
    "acme_connector",
    "acme.yaml",
    sdk.Code(
        verifier=Proof(),
        signer=Signer(),
        mapper=Builds(),
        actions={"retry-failed": retry_failed},
        lister=Days(),
    ),
)
"""What the entry point names."""
