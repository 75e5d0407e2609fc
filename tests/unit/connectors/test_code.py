"""Code beside a manifest: where it stands in, what it may give, and what becomes of what it raises."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from connectors import actions, manifest, mapping, sdk, sync, verify
from connectors.calls import Calls
from connectors.kit import recorded
from connectors.kit.recorded import FixedClock, Recorded
from connectors.manifest import Manifest
from connectors.mapping import Ignored, MappingError
from connectors.mistakes import ManifestError
from connectors.sync import Cursor
from connectors.verify import Claim, SignatureRefused
from connectors.webhook import Webhook
from pipewright import errors
from pipewright.ports import Secret

SETTING = {"type": "string", "description": "x"}
BASE: dict[str, Any] = {
    "apiVersion": "connector/v1",
    "metadata": {
        "name": "x", "title": "Xen CI", "category": "ci", "docs": "https://example.com/", "maturity": "alpha",
    },
    "config": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"baseUrl": SETTING | {"default": "https://xen.example/api"}},
    },
    "credentials": {"token": {"title": "Token", "description": "A token."}},
    "http": {
        "baseUrl": "${{ config.baseUrl }}",
        "auth": {"kind": "bearer", "field": "token"},
        "timeoutSeconds": 5,
        "maxResponseBytes": 65536,
        "retry": {"statuses": [503], "header": "Retry-After"},
        "message": "body.message",
    },
    "check": {"get": "/me"},
    "webhook": {
        "verify": {"kind": "code"},
        "delivery": {"expression": "body.id"},
        "event": {"expression": "body.kind"},
        "events": [{"name": "build", "code": True}],
    },
    "sync": {"sliceHours": 24, "code": True},
    "actions": {
        "run": {
            "title": "Run",
            "description": "Runs.",
            "code": True,
            "idempotent": False,
            "input": {
                "type": "object",
                "additionalProperties": False,
                "required": ["id"],
                "properties": {"id": SETTING},
            },
            "output": {"said": "body.said"},
        }
    },
}  # fmt: skip
RUN: dict[str, Any] = {
    "type": "run", "project": "acme/shop", "pipeline": "build", "id": "7", "attempt": 1, "phase": "finished",
    "outcome": "success", "startedAt": 1769848200, "finishedAt": "2026-01-31 09:31:00 +0100",
}  # fmt: skip


class Parts:
    """All parts; each does what the test gave it."""

    proofs = frozenset({"X-Proof"})

    def __init__(self, do: Any = None) -> None:
        self.do = do

    def check(self, claim: Claim) -> None:
        self.do(claim)

    def records(self, delivery: Any, *, event: str, config: Any) -> Iterable[Mapping[str, Any]]:
        return self.do(delivery, event, config)  # type: ignore[no-any-return]

    async def __call__(self, session: sdk.Session, inputs: Mapping[str, Any]) -> Any:
        return await self.do(session, inputs)

    async def pages(
        self, session: sdk.Session, *, project: str, since: datetime, until: datetime, place: str
    ) -> AsyncGenerator[sdk.Page, None]:
        async for page in self.do(session, project, place):
            yield page


def made(do: Any = None, **changes: Any) -> Manifest:
    parts = Parts(do)
    code = sdk.Code(verifier=parts, mapper=parts, actions={"run": parts}, lister=parts)
    return manifest.parse(yaml.safe_dump({**BASE, **changes}), where="x.yaml", code=code)


# --- where it stands in ------------------------------------------------------------------------------------

PARTS = Parts()
RUNS = {"run": PARTS}
WHOLE = sdk.Code(verifier=PARTS, mapper=PARTS, actions=RUNS, lister=PARTS)
HMAC = {"kind": "hmac", "header": "X-Signature"}
RULE = {"name": "build", "when": "true", "record": "run", "map": {"id": "body.id"}}


@pytest.mark.parametrize(
    ("changes", "code", "problem"),
    [
        ({}, sdk.Code(actions=RUNS), "webhook.verify: code: no verifier comes with the manifest"),
        ({}, sdk.Code(verifier=PARTS, actions=RUNS), "webhook.events[0]: code: no mapper comes"),
        ({}, sdk.Code(verifier=PARTS, mapper=PARTS, actions=RUNS), "sync: code: no lister comes"),
        ({}, sdk.Code(verifier=PARTS, mapper=PARTS, lister=PARTS), "actions.run: code: no action"),
        (
            {"webhook": {**BASE["webhook"], "verify": HMAC}},
            WHOLE,
            "webhook.verify: a verifier comes with the manifest, and the kind is not code",
        ),
        (
            {"webhook": {**BASE["webhook"], "events": [RULE]}},
            WHOLE,
            "webhook.events: a mapper comes with the manifest, and no event is code",
        ),
        ({"actions": {}}, WHOLE, "actions: run comes with the manifest, which has no action of it by code"),
        ({"webhook": {"config": "webhook"}}, WHOLE, "webhook: a verifier or a mapper comes"),
        (
            {"actions": {"run": {**BASE["actions"]["run"], "body": {"a": "b"}}}},
            WHOLE,
            "$.actions.run",
        ),
    ],
)  # fmt: skip
def test_code_and_its_place_come_together(changes: Any, code: sdk.Code, problem: str) -> None:
    with pytest.raises(ManifestError) as refused:
        manifest.parse(yaml.safe_dump({**BASE, **changes}), where="x.yaml", code=code)
    assert problem in str(refused.value)


def test_a_user_cannot_ask_for_code() -> None:
    from connectors import catalogue

    section = {"verify": HMAC, "delivery": {"digest": "body"}, "events": [{"name": "build", "code": True}]}
    with pytest.raises(ValueError, match=r"webhook\.events\[0\]"):
        catalogue.load()["generic"].configure({"webhook": section})


# --- verifier ----------------------------------------------------------------------------------------------


async def tried(do: Any) -> None:
    hook = made(do).webhook
    assert isinstance(hook, Webhook)
    assert "x-proof" in hook.hidden
    claim = Claim(
        headers={"x-proof": "p"}, body=b"{}", secrets=[Secret("s")], now=datetime(2026, 3, 1, tzinfo=UTC)
    )
    await verify.verify(hook.verify, claim)


async def test_a_verifier_that_returns_proves() -> None:
    await tried(lambda claim: None)


@pytest.mark.parametrize(
    ("error", "message"),
    [(SignatureRefused("no"), "^no$"), (KeyError("hunter2"), "^the connector's verifier failed: KeyError$")],
)
async def test_a_verifier_that_raises_refuses(error: Exception, message: str) -> None:
    def fail(_: Claim) -> None:
        raise error

    with pytest.raises(SignatureRefused, match=message):
        await tried(fail)


# --- mapper ------------------------------------------------------------------------------------------------


def mapped(do: Any) -> Any:
    hook = made(do).webhook
    assert isinstance(hook, Webhook)
    opened = mapping.open_delivery(
        hook,
        headers={"content-type": "application/json", "x-proof": "p"},
        raw=b'{"id": "d-1", "kind": "build", "secret": "hunter2"}',
    )
    assert mapping.identify(hook, opened) == mapping.Delivery("d-1", "build")
    return mapping.map_delivery(hook, opened, event="build")


def test_records_of_a_mapper_are_checked_and_their_times_read() -> None:
    def say(delivery: sdk.Opened, event: str, _: Any) -> Any:
        assert event == "build"
        assert "x-proof" not in delivery.headers
        return [RUN]

    ((kind, record),) = mapped(say)
    assert kind == "pipelinerun.finished"
    assert record.started_at == datetime(2026, 1, 31, 8, 30, tzinfo=UTC)
    assert record.finished_at == datetime(2026, 1, 31, 8, 31, tzinfo=UTC)


def test_a_mapper_that_has_nothing_to_say_ignores() -> None:
    assert isinstance(mapped(lambda *_: ()), Ignored)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["x"], "^build: a record must be a mapping"),
        ([{**RUN, "colour": "red"}], "^build: .*colour"),
        ([{**RUN, "phase": "over"}], "^build: phase"),
        ([{**RUN, "finishedAt": "soon"}], "^build: "),
        ([RUN] * (mapping.MAX_RECORDS + 1), "is more than 2000 records"),
        (None, "^build: the connector's mapper failed: TypeError$"),
    ],
)
def test_what_is_no_record_is_refused(said: Any, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        mapped(lambda *_: said)


def test_what_a_mapper_raises_is_told_by_its_name_alone() -> None:
    def fail(delivery: sdk.Opened, *_: Any) -> Any:
        raise KeyError(delivery.body["secret"])

    with pytest.raises(MappingError) as refused:
        mapped(fail)
    assert str(refused.value) == "build: the connector's mapper failed: KeyError"


# --- actions -----------------------------------------------------------------------------------------------


async def done(do: Any, *answers: Any, idempotent: bool = False) -> tuple[Any, Recorded]:
    found = made(do, actions={"run": {**BASE["actions"]["run"], "idempotent": idempotent}})
    client = Recorded.in_order(answers)
    account = recorded.account(found, {}, at_origin=False)
    given = {"inputs": {"id": "a/b"}, "account": account, "client": client, "clock": FixedClock()}
    return await actions.perform(found, "run", **given), client


async def test_an_action_sends_what_it_wants_below_the_base_address() -> None:
    async def do(session: sdk.Session, inputs: Mapping[str, Any]) -> Any:
        answer = await session.request("GET", "runs", inputs["id"], query={"q": "a b", "none": None})
        return {"said": session.json(answer)["n"] + 1}

    found, client = await done(do, {"status": 200, "body": {"n": 1}})
    assert found == {"said": 2}
    assert [(each.method, each.url) for each in client.asked] == [
        ("GET", "https://xen.example/api/runs/a%2Fb?q=a%20b")
    ]


async def post(session: sdk.Session, inputs: Mapping[str, Any]) -> Any:
    await session.request("POST", "runs", inputs["id"], body={})
    return {"said": session.json(await session.request("GET", "runs"))}


async def broken(session: sdk.Session, inputs: Mapping[str, Any]) -> Any:
    raise KeyError("hunter2")


async def broken_after(session: sdk.Session, inputs: Mapping[str, Any]) -> Any:
    await session.request("POST", "runs")
    raise KeyError("hunter2")


async def climbs(session: sdk.Session, inputs: Mapping[str, Any]) -> Any:
    await session.request("GET", "runs", "..", "me")


async def odd(session: sdk.Session, inputs: Mapping[str, Any]) -> Any:
    await session.request("TRACE", "runs")


async def wordless(session: sdk.Session, inputs: Mapping[str, Any]) -> Any:
    return {"other": 1}


OK, GONE, BROKEN = {"status": 200}, {"status": 404}, {"status": 500}
BUSY = {"status": 503, "headers": {"Retry-After": "7"}}


@pytest.mark.parametrize(
    ("do", "answers", "idempotent", "reason"),
    [
        (post, [GONE], False, "ProviderRefused"),
        (post, [BUSY], False, "ProviderBusy"),
        (post, [BROKEN], False, "OutcomeUnknown"),
        (post, [BROKEN], True, "Unreachable"),
        (post, [OK, GONE], False, "OutcomeUnknown"),
        (post, [OK, GONE], True, "ProviderRefused"),
        (broken, [], False, "ConnectorBroken"),
        (broken_after, [OK], False, "OutcomeUnknown"),
        (broken_after, [OK], True, "ConnectorBroken"),
        (climbs, [OK], False, "InvalidInput"),
        (odd, [OK], False, "ConnectorBroken"),
        (wordless, [], False, "AnswerNotUnderstood"),
    ],
)
async def test_what_may_have_been_done_is_not_repeated_blindly(
    do: Any, answers: Any, idempotent: bool, reason: str
) -> None:
    with pytest.raises((errors.Stalled, errors.Waiting, errors.BackendError)) as refused:
        await done(do, *answers, idempotent=idempotent)
    assert refused.value.reason == reason
    assert "hunter2" not in str(refused.value)


# --- listers -----------------------------------------------------------------------------------------------

SINCE, UNTIL = datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


async def read(do: Any, cursor: Cursor | None = None, **budget: int) -> list[sync.Batch]:
    found = made(do)
    assert found.sync is not None
    session = Calls(
        found, recorded.account(found, {}, at_origin=False), client=Recorded(), clock=FixedClock()
    )
    batches = sync.history(
        session,
        found.sync,
        project="acme/shop",
        since=SINCE,
        until=UNTIL,
        cursor=cursor,
        budget=sync.Budget(**budget),
    )
    return [batch async for batch in batches]


async def two(_: Any, project: str, place: str) -> AsyncGenerator[sdk.Page, None]:
    assert project == "acme/shop"
    for number in (1, 2):
        if str(number) > place:
            yield sdk.Page(records=({**RUN, "id": str(number)}, {"type": "run"}), place=str(number))
    yield sdk.Page(records=(), place=None)


async def test_a_lister_gives_records_and_what_is_none_is_left_out() -> None:
    found = await read(two)
    assert [record.id for batch in found for record in batch.records] == ["1", "2"]
    assert [len(batch.refused) for batch in found] == [1, 1, 0, 0]
    assert found[-1].cursor is None


async def test_a_lister_goes_on_where_it_was() -> None:
    first = await read(two, items=1)
    assert [record.id for batch in first for record in batch.records] == ["1"]
    cursor = first[-1].cursor
    assert cursor is not None
    again = await read(two, Cursor.parse(cursor.text()))
    assert [record.id for batch in again for record in batch.records] == ["2"]


async def test_a_lister_that_fails_is_told_by_its_name_alone() -> None:
    async def fail(*_: Any) -> AsyncGenerator[sdk.Page, None]:
        yield sdk.Page(records=(RUN,), place="1")
        raise KeyError("hunter2")

    with pytest.raises(errors.Stalled, match="lister failed: KeyError") as refused:
        await read(fail)
    assert "hunter2" not in str(refused.value)


async def test_a_place_that_cannot_be_kept_is_refused() -> None:
    async def far(*_: Any) -> AsyncGenerator[sdk.Page, None]:
        yield sdk.Page(records=(), place="x" * 5000)

    with pytest.raises(errors.Stalled, match="too long a place"):
        await read(far)


async def test_an_unending_lister_is_stopped_by_the_budget() -> None:
    async def endless(*_: Any) -> AsyncGenerator[sdk.Page, None]:
        while True:
            yield sdk.Page(records=(RUN,), place="1")

    assert len(await read(endless, items=3)) == 3
