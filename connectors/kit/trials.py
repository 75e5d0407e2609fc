"""Samples against their golden results, and proofs that must hold or must not: one `Result` for each trial.

delivery   mapped · told apart · verified · refused when a byte is changed, the key is wrong, a header is
           missing, it is old · however a part of the body is spoiled, an answer that is known
history    the records of recorded answers
action     what is asked of the provider, and what comes of its answers
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlencode, urlsplit

from connectors import actions, mapping, sync, verify
from connectors.calls import Calls
from connectors.code import Code, CodeFailed
from connectors.kit import proofs, recorded
from connectors.kit.proofs import NotProvable, Proved, Wire
from connectors.kit.recorded import CANARY, FixedClock, Recorded
from connectors.kit.samples import Sample
from connectors.manifest import Manifest
from connectors.mapping import Ignored, MappingError
from connectors.mistakes import ConfigError
from connectors.verify import AnyVerifier, Coded, SignatureRefused
from connectors.verify.coded import VerifierFailed
from connectors.webhook import Webhook
from pipewright import errors, events, records
from pipewright.records import RecordError

Outcome = Literal["passed", "failed", "not covered"]
NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
_SINCE: Final = datetime(2026, 1, 5, tzinfo=UTC)
MAX_SPOILED: Final = 400
"""Spoiled bodies of one sample."""
_SPOILS: Final[tuple[Any, ...]] = (None, 0, "", [], {})
_OWN: Final = Path(__file__).parents[1]
_LONG_AFTER: Final = timedelta(days=2)
_FORM: Final = "application/x-www-form-urlencoded"
_CLOUDEVENT: Final = "application/cloudevents+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one trial."""

    connector: str
    sample: str
    """The file's name, below the connector's folder of samples."""
    trial: str
    outcome: Outcome
    message: str = ""


async def run(manifest: Manifest, code: Code, samples: Iterable[Sample]) -> list[Result]:
    """All trials of these samples."""
    found: list[Result] = []
    for sample in samples:
        match sample.kind:
            case "delivery":
                found += delivery(manifest, sample)
                found += await proved(manifest, code, sample)
                found += spoiled(manifest, sample)
            case "history":
                found.append(await history(manifest, sample))
            case "action":
                found.append(await action(manifest, sample))
    return found


@dataclass(frozen=True, slots=True)
class _Trials:
    manifest: Manifest
    sample: Sample

    def passed(self, trial: str) -> Result:
        return self._result(trial, "passed", "")

    def failed(self, trial: str, message: str) -> Result:
        return self._result(trial, "failed", message)

    def not_covered(self, trial: str, message: str) -> Result:
        return self._result(trial, "not covered", message)

    def same(self, trial: str, *, found: Any, wanted: Any) -> Result:
        if found == wanted:
            return self.passed(trial)
        return self.failed(trial, f"{_where(found, wanted)}")

    def _result(self, trial: str, outcome: Outcome, message: str) -> Result:
        folder = "" if self.sample.kind == "delivery" else f"{self.sample.file.parent.name}/"
        return Result(
            connector=self.manifest.name,
            sample=f"{folder}{self.sample.file.name}",
            trial=trial,
            outcome=outcome,
            message=message,
        )


def _where(found: Any, wanted: Any, at: str = "") -> str:
    """The first place where two JSON values differ, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in sorted({*found, *wanted}):
            if name not in found or name not in wanted:
                return f"{at}.{name}: {'is missing' if name in wanted else 'is too much'}".lstrip(".")
            if found[name] != wanted[name]:
                return _where(found[name], wanted[name], f"{at}.{name}")
    if isinstance(found, list) and isinstance(wanted, list):
        for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
            if one != other:
                return _where(one, other, f"{at}[{number}]")
        return f"{at or 'the list'}: has {len(found)} elements, the sample {len(wanted)}".lstrip(".")
    return f"{at or 'it'}: is {_shown(found)}, the sample says {_shown(wanted)}".lstrip(".")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _why(error: BaseException) -> str:
    """What code raised behind a refusal, and where: its author may know, whom a tenant may not ask."""
    found: BaseException | None = error
    while found is not None and type(found).__module__.partition(".")[0] in ("connectors", "pipewright"):
        found = found.__cause__ or found.__context__
    if found is None or not found.__traceback__:
        return ""
    last = traceback.extract_tb(found.__traceback__)[-1]
    if Path(last.filename).is_relative_to(_OWN):
        return ""
    return f" ({type(found).__name__}: {found}, {last.filename}:{last.lineno})"


# --- deliveries --------------------------------------------------------------------------------------------


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
    trials, data = _Trials(manifest, sample), sample.data
    try:
        hook = _Hook.of(manifest, sample)
        wire = hook.wire(data["body"], data.get("headers", {}))
        opened = mapping.open_delivery(hook.webhook, headers=wire.headers, raw=wire.body)
        said = mapping.map_delivery(hook.webhook, opened, event=data["event"], config=hook.config)
    except (ConfigError, MappingError) as error:
        yield trials.failed("mapped", f"{error}{_why(error)}")
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
    trials = _Trials(manifest, sample)
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


async def _old(trials: _Trials, scheme: AnyVerifier, good: Proved, tolerance: timedelta | None) -> Result:
    late = NOW + (tolerance + timedelta(seconds=1) if tolerance is not None else _LONG_AFTER)
    old = replace(good, claim=replace(good.claim, now=late))
    if tolerance is not None:
        return await _refused(trials, "an old one", scheme, old)
    if isinstance(scheme, Coded) and (await _refused(trials, "an old one", scheme, old)).outcome == "passed":
        return trials.passed("an old one")
    return trials.not_covered("an old one", "this proof has no time: a delivery counts once by its id alone")


async def _taken(trials: _Trials, scheme: AnyVerifier, given: Proved) -> Result:
    try:
        await verify.verify(scheme, given.claim, keys=given)
    except SignatureRefused as error:
        return trials.failed("verified", str(error))
    return trials.passed("verified")


async def _refused(trials: _Trials, what: str, scheme: AnyVerifier, given: Proved) -> Result:
    try:
        await verify.verify(scheme, given.claim, keys=given)
    except SignatureRefused as error:
        text = str(error)
        if isinstance(error, VerifierFailed):
            return trials.failed(what, f"{text}{_why(error)}; raise SignatureRefused")
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
    trials = _Trials(manifest, sample)
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
                yield trials.failed("spoiled", f"with {at}: {error}{_why(error)}; raise MappingError")
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


# --- histories and actions ---------------------------------------------------------------------------------


def _session(manifest: Manifest, config: Mapping[str, Any], client: Recorded) -> Calls:
    account = recorded.account(manifest, config, at_origin=True)
    return Calls(manifest, account, client=client, clock=FixedClock())


async def history(manifest: Manifest, sample: Sample) -> Result:
    """Do recorded answers give the golden records?"""
    trials, data = _Trials(manifest, sample), sample.data
    if manifest.sync is None or manifest.http is None:
        return trials.failed("read", "the manifest has no sync")
    try:
        origin = _origin(_session(manifest, data.get("config", {}), Recorded()).base_url)
        client = Recorded.by_path(data["answers"], origin=origin)
        session = _session(manifest, data.get("config", {}), client)
        since = records.parse_time("since", data["since"]) if "since" in data else _SINCE
        until = records.parse_time("until", data["until"]) if "until" in data else since + timedelta(days=1)
        found: list[dict[str, Any]] = []
        refused: list[str] = []
        async for batch in sync.history(
            session,
            manifest.sync,
            project=data["project"],
            since=since,
            until=until,
            budget=sync.Budget(pages=10_000),
        ):
            found += [dict(events.record_json(record)) for record in batch.records]
            refused += batch.refused
    except (errors.Stalled, errors.Waiting, errors.BackendError, RecordError) as error:
        return trials.failed("read", f"{error}{_why(error)}")
    if refused:
        return trials.failed("read", f"left out: {'; '.join(refused[:3])}")
    return trials.same("read", found=found, wanted=data["records"])


def _origin(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"


async def action(manifest: Manifest, sample: Sample) -> Result:
    """Is the provider asked for just this, and does its answer come to just this?"""
    trials, data = _Trials(manifest, sample), sample.data
    if manifest.http is None:
        return trials.failed("done", "the manifest has no http, so that it has no actions")
    client = Recorded.in_order([each["answer"] for each in data["exchanges"]])
    found: dict[str, Any] = {}
    origin = ""
    try:
        origin = _origin(_session(manifest, data.get("config", {}), client).base_url)
        found["outputs"] = dict(
            await actions.perform(
                manifest,
                data["action"],
                inputs=data["inputs"],
                account=recorded.account(manifest, data.get("config", {}), at_origin=True),
                client=client,
                clock=FixedClock(),
            )
        )
        told = json.dumps(found["outputs"], default=str)
    except (errors.Stalled, errors.Waiting, errors.BackendError) as error:
        found["refused"], told = error.reason, f"{error.message}{_why(error)}"
    if CANARY in told:
        return trials.failed("done", "a credential is in what comes of it")
    found["asked"] = [asked.told(origin) for asked in client.asked]
    wanted = {name: data[name] for name in ("outputs", "refused") if name in data}
    wanted["asked"] = [each["request"] for each in data["exchanges"]]
    if "refused" in found and "refused" not in wanted:
        return trials.failed("done", f"{found['refused']}: {told}")
    return trials.same("done", found=found, wanted=wanted)
