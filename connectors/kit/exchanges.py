"""Trials of histories and actions: what is asked of a recorded provider, and what comes of its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from connectors import actions, sync
from connectors.calls import Calls
from connectors.kit import recorded
from connectors.kit.recorded import CANARY, FixedClock, Recorded
from connectors.kit.results import Result, Trials, why
from connectors.kit.samples import Sample
from connectors.manifest import Manifest
from pipewright import errors, events, records
from pipewright.records import RecordError

_SINCE: Final = datetime(2026, 1, 5, tzinfo=UTC)


def _session(manifest: Manifest, config: Mapping[str, Any], client: Recorded) -> Calls:
    account = recorded.account(manifest, config, at_origin=True)
    return Calls(manifest, account, client=client, clock=FixedClock())


async def history(manifest: Manifest, sample: Sample) -> Result:
    """Do recorded answers give the golden records?"""
    trials, data = Trials(manifest, sample), sample.data
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
        return trials.failed("read", f"{error}{why(error)}")
    if refused:
        return trials.failed("read", f"left out: {'; '.join(refused[:3])}")
    return trials.same("read", found=found, wanted=data["records"])


def _origin(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"


async def action(manifest: Manifest, sample: Sample) -> Result:
    """Is the provider asked for just this, and does its answer come to just this?"""
    trials, data = Trials(manifest, sample), sample.data
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
        found["refused"], told = error.reason, f"{error.message}{why(error)}"
    if CANARY in told:
        return trials.failed("done", "a credential is in what comes of it")
    found["asked"] = [asked.told(origin) for asked in client.asked]
    wanted = {name: data[name] for name in ("outputs", "refused") if name in data}
    wanted["asked"] = [each["request"] for each in data["exchanges"]]
    if "refused" in found and "refused" not in wanted:
        return trials.failed("done", f"{found['refused']}: {told}")
    return trials.same("done", found=found, wanted=wanted)
