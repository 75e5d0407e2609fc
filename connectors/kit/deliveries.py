"""Trials of deliveries: mapped, told apart, proved and refused, and spoiled in each part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from connectors import mapping, verify
from connectors.code import Code, CodeFailed
from connectors.kit import proofs
from connectors.kit.proofs import NotProvable, Proved, Wire
from connectors.kit.results import Result, Trials, why
from connectors.kit.samples import Sample
from connectors.manifest import Manifest
from connectors.mapping import Ignored, MappingError
from connectors.mistakes import ConfigError
from connectors.verify import AnyVerifier, Coded, SignatureRefused
from connectors.verify.coded import VerifierFailed
from connectors.webhook import Webhook
from pipewright import events

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAX_SPOILED: Final = 400
"""Spoiled bodies of one sample."""
_SPOILS: Final[tuple[Any, ...]] = (None, 0, "", [], {})
_LONG_AFTER: Final = timedelta(days=2)
_FORM: Final = "application/x-www-form-urlencoded"
_CLOUDEVENT: Final = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class _Hook:
    """A sample's webhook under its settings."""

    webhook: Webhook
    config: Mapping[str, Any]

    @classmethod
    def of(cls, manifest: Manifest, sample: Sample) -> _Hook:
        config = dict(manifest.configure(sample.data.get("config", {})))
        webhook = manifest.webhook_of(config)
        if webhook is None:
            raise ConfigError("the manifest has no webhook, so that there is nothing to be sent")
        return cls(webhook, manifest.plain(config))

    def wire(self, body: Any, headers: Mapping[str, str]) -> Wire:
        """The document in the first shape that the webhook takes."""
        kind, raw = "application/json", json.dumps(body)
        match self.webhook.body.accepts[0]:
            case "form" if "json" not in self.webhook.body.accepts:
                kind, raw = _FORM, urlencode({self.webhook.body.field: raw})
            case "text" if "json" not in self.webhook.body.accepts:
                kind = "text/plain"
            case "cloudevent" if "json" not in self.webhook.body.accepts:
                kind = _CLOUDEVENT
        lower = {name.lower(): value for name, value in headers.items()}
        return Wire(headers={"content-type": kind, **lower}, body=raw.encode(), config=self.config)


def delivery(manifest: Manifest, sample: Sample) -> Iterator[Result]:
    """Is it mapped to the golden records, and told apart as it says?"""
    trials, data = Trials(manifest, sample), sample.data
    try:
        hook = _Hook.of(manifest, sample)
        wire = hook.wire(data["body"], data.get("headers", {}))
        opened = mapping.open_delivery(hook.webhook, headers=wire.headers, raw=wire.body)
        said = mapping.map_delivery(hook.webhook, opened, event=data["event"], config=hook.config)
    except (ConfigError, MappingError) as error:
        yield trials.failed("mapped", f"{error}{why(error)}")
        return
    told = [] if isinstance(said, Ignored) else said
    found = [{"event": event, "record": events.record_json(record)} for event, record in told]
    yield trials.same("mapped", found=found, wanted=data["records"])
    if not data.keys() & {"delivery", "headers"}:
        return
    try:
        identity = mapping.identify(hook.webhook, opened, hook.config)
    except MappingError as error:
        yield trials.failed("told apart", str(error))
        return
    yield trials.same(
        "told apart",
        found={"delivery": identity.id, "event": identity.event},
        wanted={"delivery": data.get("delivery", identity.id), "event": data["event"]},
    )


async def proved(manifest: Manifest, code: Code, sample: Sample) -> list[Result]:
    """Is a genuine delivery taken, and every other one refused?"""
    trials = Trials(manifest, sample)
    try:
        hook = _Hook.of(manifest, sample)
        wire = hook.wire(sample.data["body"], sample.data.get("headers", {}))
        scheme = hook.webhook.verify
        good = proofs.prove(scheme, wire, now=NOW, signer=code.signer)
        other = proofs.prove(scheme, wire, now=NOW, secret=proofs.OTHER, signer=code.signer)
    except (ConfigError, NotProvable) as error:
        return [trials.failed("verified", str(error))]
    covers, found = proofs.covers(scheme), [await _taken(trials, scheme, good)]
    changed = replace(good, claim=replace(good.claim, body=_flipped(good.claim.body)))
    if covers.body:
        found.append(await _refused(trials, "a changed byte", scheme, changed))
    else:
        found.append(trials.not_covered("a changed byte", "this kind of proof does not cover the body"))
    wrong = replace(good, claim=replace(good.claim, headers=other.claim.headers, body=other.claim.body))
    if wrong.claim != good.claim:
        found.append(await _refused(trials, "a wrong key", scheme, wrong))
    else:
        found.append(trials.not_covered("a wrong key", "this kind of proof has no key"))
    for name in sorted(hook.webhook.verify.proofs & good.claim.headers.keys()):
        fewer = {key: value for key, value in good.claim.headers.items() if key != name}
        without = replace(good, claim=replace(good.claim, headers=fewer))
        found.append(await _refused(trials, f"no header {name}", scheme, without))
        other_shape = replace(good, claim=replace(good.claim, headers={**fewer, name: "~"}))
        found.append(await _refused(trials, f"a senseless header {name}", scheme, other_shape))
    found.append(await _old(trials, scheme, good, covers.time))
    return found


async def _old(trials: Trials, scheme: AnyVerifier, good: Proved, tolerance: timedelta | None) -> Result:
    late = NOW + (tolerance + timedelta(seconds=1) if tolerance is not None else _LONG_AFTER)
    old = replace(good, claim=replace(good.claim, now=late))
    if tolerance is not None:
        return await _refused(trials, "an old one", scheme, old)
    if isinstance(scheme, Coded) and (await _refused(trials, "an old one", scheme, old)).outcome == "passed":
        return trials.passed("an old one")
    return trials.not_covered("an old one", "this proof has no time: a delivery counts once by its id alone")


async def _taken(trials: Trials, scheme: AnyVerifier, given: Proved) -> Result:
    try:
        await verify.verify(scheme, given.claim, keys=given)
    except SignatureRefused as error:
        return trials.failed("verified", str(error))
    return trials.passed("verified")


async def _refused(trials: Trials, what: str, scheme: AnyVerifier, given: Proved) -> Result:
    try:
        await verify.verify(scheme, given.claim, keys=given)
    except SignatureRefused as error:
        text = str(error)
        if isinstance(error, VerifierFailed):
            return trials.failed(what, f"{text}{why(error)}; raise SignatureRefused")
        if any(secret in text for secret in (proofs.SECRET, proofs.OTHER)):
            return trials.failed(what, "the refusal has the secret in it")
        return trials.passed(what)
    return trials.failed(what, "is taken, and must be refused")


def _flipped(body: bytes) -> bytes:
    """The body with another letter in its middle."""
    middle = next((at for at in range(len(body) // 2, len(body)) if chr(body[at]).isalnum()), len(body) // 2)
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def spoiled(manifest: Manifest, sample: Sample) -> Iterator[Result]:
    """However a part of the body is spoiled, does it give records or a refusal, and nothing else?"""
    trials = Trials(manifest, sample)
    try:
        hook = _Hook.of(manifest, sample)
    except ConfigError:
        return  # `delivery` says so
    for number, (at, body) in enumerate(_spoiled(sample.data["body"])):
        if number >= MAX_SPOILED:
            break
        wire = hook.wire(body, sample.data.get("headers", {}))
        try:
            opened = mapping.open_delivery(hook.webhook, headers=wire.headers, raw=wire.body)
            mapping.map_delivery(hook.webhook, opened, event=sample.data["event"], config=hook.config)
            mapping.identify(hook.webhook, opened, hook.config)
        except MappingError as error:
            if isinstance(error.__cause__, CodeFailed):
                yield trials.failed("spoiled", f"with {at}: {error}{why(error)}; raise MappingError")
                return
        except Exception as error:  # noqa: BLE001 - just this is looked for
            yield trials.failed("spoiled", f"with {at}: {type(error).__name__}: {error}")
            return
    yield trials.passed("spoiled")


def _spoiled(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The body with one part of it replaced, the outer parts first; and how, in words."""
    waiting: list[tuple[Any, ...]] = [(name,) for name in body]
    while waiting:
        path = waiting.pop(0)
        value: Any = body
        for step in path:
            value = value[step]
        for spoil in _SPOILS:
            yield f"{'.'.join(map(str, path))} = {json.dumps(spoil)}", _put(body, path, spoil)
        below = (
            value if isinstance(value, dict) else range(min(len(value), 3)) if isinstance(value, list) else ()
        )
        waiting += [(*path, step) for step in below]


def _put(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    if not path:
        return to
    step, *rest = path
    if isinstance(value, dict):
        return {**value, step: _put(value[step], tuple(rest), to)}
    return [_put(each, tuple(rest), to) if number == step else each for number, each in enumerate(value)]
