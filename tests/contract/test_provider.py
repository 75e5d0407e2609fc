"""The github connector against the provider simulator, a real process on loopback."""

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from aiohttp import web

from connectors import actions, catalogue, mapping, verify
from connectors.actions import OutcomeUnknown
from connectors.calls import Account
from connectors.outbound import Outbound
from connectors.verify import Claim
from connectors.webhook import Webhook
from dev import places
from dev.simulator import story
from dev.web import demand
from pipewright import errors
from pipewright.backends.runner.actions import ConnectorActions
from pipewright.ports import Secret
from pipewright.records import RunRecord

GITHUB = catalogue.load()["github"]
SHA = "5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665"
HOOK_SECRET = "a secret of the hook"
COMMENTS = f"/repos/acme/shop/commits/{SHA}/comments"


@dataclass(frozen=True)
class Simulator:
    """The running process: how to ask it, and how the connector reaches it."""

    url: str
    token: str

    def ask(self, method: str, path: str, document: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        return demand(f"{self.url}{path}", method=method, document=document, headers=headers)

    @property
    def place(self) -> str:
        return self.url.removeprefix("http://")

    def account(self, token: str | None = None) -> Account:
        return Account(config={"baseUrl": self.url}, credentials={"token": Secret(token or self.token)})

    def calls(self) -> list[str]:
        return [
            f"{call['method']} {call['path']} {call['status']}" for call in self.ask("GET", "/_sim/calls")
        ]

    async def until(self, path: str, fact: Callable[[Any], bool], *, within: float = 20) -> Any:
        deadline = time.monotonic() + within
        while not fact(found := await asyncio.to_thread(self.ask, "GET", path)):
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)
        return found


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    folder = tmp_path_factory.mktemp("provider")
    process = subprocess.Popen(
        [sys.executable, "-m", "dev.provider", "--state", str(folder)],
        cwd=places.ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "operator"},
    )
    try:
        deadline = time.monotonic() + 30
        while not (folder / "address").exists():
            assert process.poll() is None, "the simulator ended"
            assert time.monotonic() < deadline, "the simulator does not listen"
            time.sleep(0.02)
        yield Simulator((folder / "address").read_text(), (folder / "token").read_text())
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[Outbound]:
    async with Outbound(allow=[simulator.place]) as outbound:
        yield outbound


async def comment(
    simulator: Simulator, client: Outbound, *, text: str = "It runs again.", account: Account | None = None
) -> Any:
    return await actions.perform(
        GITHUB,
        "comment",
        inputs={"project": "acme/shop", "sha": SHA, "body": text},
        account=account or simulator.account(),
        client=client,
    )


async def test_a_comment_is_written_and_its_address_comes_back(
    simulator: Simulator, client: Outbound
) -> None:
    outputs = await comment(simulator, client, text='It runs again: ${{ 1 }} "quoted" 世界')
    (written,) = [
        found for found in simulator.ask("GET", "/_sim/comments") if str(found["id"]) == outputs["id"]
    ]
    assert written["body"] == 'It runs again: ${{ 1 }} "quoted" 世界'
    assert outputs["url"] == f"https://github.com/acme/shop/commit/{SHA}#commitcomment-{outputs['id']}"


async def test_accepted_credentials_pass_the_check(simulator: Simulator, client: Outbound) -> None:
    await actions.check(GITHUB, account=simulator.account(), client=client)


async def test_a_classic_token_that_may_do_too_little_is_told(simulator: Simulator, client: Outbound) -> None:
    told = {"path": "/rate_limit", "status": 200, "headers": {"X-OAuth-Scopes": "gist"}}
    simulator.ask("POST", "/_sim/faults", told)
    account = simulator.account()
    found = await ConnectorActions(client).check(
        connector="github", config=account.config, credentials=account.credentials
    )
    assert (found.accepted, found.reason) == (False, "ScopesMissing")


async def test_refused_credentials_stop_with_the_providers_words(
    simulator: Simulator, client: Outbound
) -> None:
    canary = "ghp_canary0123456789"
    for call in (
        actions.check(GITHUB, account=simulator.account(canary), client=client),
        comment(simulator, client, account=simulator.account(canary)),
    ):
        with pytest.raises(errors.Stalled) as refused:
            await call
        assert refused.value.reason == "CredentialsRefused"
        assert (
            "GitHub Actions refused the credentials (status 401): Bad credentials; check"
            in refused.value.message
        )
        assert canary not in refused.value.message


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ümlaut"])
async def test_a_token_that_is_none_is_never_sent(simulator: Simulator, client: Outbound, token: str) -> None:
    account = Account(config={"baseUrl": simulator.url}, credentials={"token": Secret(token)})
    before = simulator.calls()
    with pytest.raises(
        errors.Stalled, match=r"the Secret lacks token|the Secret's field token is missing, empty or no token"
    ):
        await comment(simulator, client, account=account)
    assert simulator.calls() == before


async def test_loopback_is_refused_unless_the_platform_team_allows_it(simulator: Simulator) -> None:
    before = simulator.calls()
    async with Outbound() as client:
        with pytest.raises(errors.Stalled, match="must be called by https, not http"):
            await comment(simulator, client)
        account = Account(
            config={"baseUrl": simulator.url.replace("http:", "https:")}, credentials={"token": Secret("t")}
        )
        with pytest.raises(errors.Stalled, match=r"not on the public Internet; .* outbound\.allow"):
            await comment(simulator, client, account=account)
    assert simulator.calls() == before


async def test_a_run_that_does_not_exist_stops(simulator: Simulator, client: Outbound) -> None:
    with pytest.raises(errors.Stalled) as refused:
        await actions.perform(
            GITHUB,
            "rerun-failed-jobs",
            inputs={"project": "acme/shop", "run": "404"},
            account=simulator.account(),
            client=client,
        )
    assert (refused.value.reason, refused.value.message) == (
        "ProviderRefused",
        "GitHub Actions answered 404: Not Found",
    )


@pytest.mark.parametrize(
    ("action", "inputs", "reason", "message"),
    [
        (
            "delete-everything",
            {},
            "UnknownAction",
            "has no action delete-everything; it has cancel-run, comment, read-log, rerun-failed-jobs",
        ),
        ("comment", {"project": "acme/shop"}, "InvalidInput", "is required"),
        (
            "rerun-failed-jobs",
            {"project": "../..", "run": "1"},
            "InvalidInput",
            "an input must not be . or ..",
        ),
    ],
)
async def test_what_cannot_be_asked_is_not_sent(
    simulator: Simulator, client: Outbound, action: str, inputs: dict[str, str], reason: str, message: str
) -> None:
    before = simulator.calls()
    with pytest.raises(errors.Stalled) as refused:
        await actions.perform(GITHUB, action, inputs=inputs, account=simulator.account(), client=client)
    assert refused.value.reason == reason
    assert message in refused.value.message
    assert simulator.calls() == before


# --- answers that are none ---------------------------------------------------------------------------------


def fault(simulator: Simulator, **how: Any) -> None:
    simulator.ask("POST", "/_sim/faults", {"path": COMMENTS, **how})


WAITS: dict[str, tuple[dict[str, Any], float]] = {
    "too many requests": ({"status": 429, "headers": {"Retry-After": "17"}}, 17),
    "unavailable": ({"status": 503, "headers": {"Retry-After": "40"}}, 40),
    "unavailable without a word": ({"status": 503}, 30),
    "unavailable for ever": ({"status": 503, "headers": {"Retry-After": "999999"}}, 3600),
    "unavailable since long ago": (
        {"status": 503, "headers": {"Retry-After": "Mon, 04 May 2020 09:00:00 GMT"}},
        1,
    ),
    "unavailable until nonsense": ({"status": 503, "headers": {"Retry-After": "soon"}}, 30),
    "a second quota is spent": ({"status": 403, "headers": {"Retry-After": "60"}}, 60),
}


@pytest.mark.parametrize(("how", "seconds"), WAITS.values(), ids=WAITS.keys())
async def test_a_busy_provider_says_how_long_to_wait(
    simulator: Simulator, client: Outbound, how: dict[str, Any], seconds: float
) -> None:
    fault(simulator, **how)
    with pytest.raises(errors.Waiting) as waiting:
        await comment(simulator, client)
    assert (waiting.value.reason, waiting.value.after) == ("ProviderBusy", timedelta(seconds=seconds))
    assert waiting.value.message == f"GitHub Actions asks to wait (status {how['status']})"


async def test_for_the_runner_a_busy_provider_puts_the_action_off(
    simulator: Simulator, client: Outbound
) -> None:
    fault(simulator, status=429, headers={"Retry-After": "17"})
    account = simulator.account()
    performed = await ConnectorActions(client).perform(
        connector="github",
        action="comment",
        config=account.config,
        credentials=account.credentials,
        inputs={"project": "acme/shop", "sha": SHA, "body": "It runs again."},
    )
    assert (performed.phase, performed.after) == ("Failed", timedelta(seconds=17))


async def test_a_spent_quota_is_waited_for_until_its_reset(simulator: Simulator, client: Outbound) -> None:
    reset = int(time.time()) + 600
    fault(simulator, status=403, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset)})
    with pytest.raises(errors.Waiting) as waiting:
        await comment(simulator, client)
    assert timedelta(seconds=580) < waiting.value.after <= timedelta(seconds=601)


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_an_error_of_the_server_leaves_open_whether_it_was_done(
    simulator: Simulator, client: Outbound, status: int
) -> None:
    fault(simulator, status=status, after=True)
    before = len(simulator.ask("GET", "/_sim/comments"))
    with pytest.raises(
        OutcomeUnknown, match=f"comment: GitHub Actions answered {status}; it may have been done"
    ):
        await comment(simulator, client)
    assert len(simulator.ask("GET", "/_sim/comments")) == before + 1


async def test_an_error_of_the_server_to_a_harmless_request_is_tried_again(
    simulator: Simulator, client: Outbound
) -> None:
    simulator.ask("POST", "/_sim/faults", {"path": "/rate_limit", "status": 500})
    with pytest.raises(errors.Unreachable) as again:
        await actions.check(GITHUB, account=simulator.account(), client=client)
    assert type(again.value) is errors.Unreachable


async def test_a_slow_answer_leaves_open_whether_it_was_done(simulator: Simulator, client: Outbound) -> None:
    hurried = dataclasses.replace(GITHUB, http=dataclasses.replace(GITHUB.http, timeout_seconds=1))
    inputs = {"project": "acme/shop", "sha": SHA, "body": "slow"}
    fault(simulator, status=201, delay=5.0)
    with pytest.raises(OutcomeUnknown) as unanswered:
        await actions.perform(hurried, "comment", inputs=inputs, account=simulator.account(), client=client)
    assert unanswered.value.message == (
        f"comment: {simulator.place} gave no whole answer within 1 s; it may have been done"
    )


async def test_a_server_that_is_not_there_is_surely_not_reached(
    client: Outbound, simulator: Simulator
) -> None:
    async with Outbound(allow=["127.0.0.1:1"]) as other:
        account = Account(config={"baseUrl": "http://127.0.0.1:1"}, credentials={"token": Secret("t")})
        with pytest.raises(errors.Unreachable) as unreached:
            await comment(simulator, other, account=account)
    assert type(unreached.value) is errors.Unreachable
    assert unreached.value.message == "127.0.0.1:1 cannot be reached"


async def test_an_oversized_answer_is_not_read(simulator: Simulator, client: Outbound) -> None:
    fault(simulator, status=201, bytes=3_000_000)
    with pytest.raises(errors.Stalled) as refused:
        await comment(simulator, client)
    assert refused.value.reason == "AnswerTooLarge"
    assert "exceeds 1048576 bytes" in refused.value.message


async def test_a_long_message_of_the_provider_is_cut_and_cleaned(
    simulator: Simulator, client: Outbound
) -> None:
    token = simulator.token
    fault(simulator, status=422, body={"message": f"no\x1b[31m {token} \u202e\r\n" + "x" * 500})
    with pytest.raises(errors.Stalled) as refused:
        await comment(simulator, client)
    words = refused.value.message.removeprefix("GitHub Actions answered 422: ")
    assert words.startswith("no [31m … x")
    assert len(words) == 200
    assert token not in refused.value.message


@pytest.mark.parametrize("body", [[], None, "text", {"message": {"a": 1}}, {"message": ""}, {"other": 1}])
async def test_a_refusal_without_words_is_still_a_sentence(
    simulator: Simulator, client: Outbound, body: Any
) -> None:
    fault(simulator, status=410, body=body if body is not None else [])
    with pytest.raises(errors.Stalled) as refused:
        await comment(simulator, client)
    assert refused.value.message == "GitHub Actions answered 410"


async def test_an_answer_without_its_outputs_says_that_it_was_done(
    simulator: Simulator, client: Outbound
) -> None:
    fault(simulator, status=201, body={"hello": 1})
    with pytest.raises(errors.Stalled) as refused:
        await comment(simulator, client)
    assert refused.value.reason == "AnswerNotUnderstood"
    assert refused.value.message.startswith("comment was done, but its answer has no output id")


# --- a run that heals --------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """A hook: takes what it can verify and map, answers the next codes as told."""

    url: str
    records: list[Any]
    ids: list[str]
    codes: list[int]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    webhook = cast("Webhook", GITHUB.webhook)
    hook = Receiver(url="", records=[], ids=[], codes=[])

    async def take(request: web.Request) -> web.Response:
        raw, headers = await request.read(), {name.lower(): value for name, value in request.headers.items()}
        claim = Claim(headers=headers, body=raw, secrets=[Secret(HOOK_SECRET)], now=datetime.now(UTC))
        await verify.verify(webhook.verify, claim)
        opened = mapping.open_delivery(webhook, headers=headers, raw=raw)
        identity = mapping.identify(webhook, opened)
        hook.ids.append(identity.id)
        if hook.codes:
            return web.Response(status=hook.codes.pop(0))
        found = mapping.map_delivery(webhook, opened, event=identity.event)
        assert isinstance(found, list)
        hook.records.extend(record for _, record in found)
        return web.Response(status=202)

    application = web.Application()
    application.router.add_post("/hook", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield hook
    await runner.cleanup()


def scripted(project: str) -> list[Any]:
    told = story(at=datetime(2026, 5, 4, 9, tzinfo=UTC))
    return [[{**record, "project": project} for record in attempt] for attempt in (told.first, told.second)]


async def test_a_failed_run_is_re_run_and_passes(
    simulator: Simulator, client: Outbound, receiver: Receiver
) -> None:
    attempts = scripted("acme/healed")
    await asyncio.to_thread(
        simulator.ask,
        "POST",
        "/_sim/hooks",
        {"url": receiver.url, "secret": HOOK_SECRET, "project": "acme/healed"},
    )
    run = (
        await asyncio.to_thread(simulator.ask, "POST", "/_sim/runs", {"attempts": attempts, "delay": 0.05})
    )["id"]

    def stands(attempt: int, conclusion: str) -> Callable[[Any], bool]:
        return lambda runs: any(
            (found["id"], found["attempt"], found["conclusion"]) == (run, attempt, conclusion)
            for found in runs
        )

    await simulator.until("/_sim/runs", stands(1, "failure"))
    outputs = await actions.perform(
        GITHUB,
        "rerun-failed-jobs",
        inputs={"project": "acme/healed", "run": run},
        account=simulator.account(),
        client=client,
    )
    assert outputs == {"status": 201}
    await simulator.until("/_sim/runs", stands(2, "success"))
    await simulator.until(
        "/_sim/deliveries",
        lambda sent: (
            sum(found["project"] == "acme/healed" and found["codes"] == [202] for found in sent)
            == 2 * 3 + 3 * (len(attempts[0]) - 1) + 3 * (len(attempts[1]) - 1)
        ),
    )
    runs = [record for record in receiver.records if isinstance(record, RunRecord)]
    assert [(record.attempt, record.phase, record.outcome) for record in runs] == [
        (1, "queued", ""),
        (1, "started", ""),
        (1, "finished", "failure"),
        (2, "queued", ""),
        (2, "started", ""),
        (2, "finished", "success"),
    ]
    jobs = [
        record for record in receiver.records if not hasattr(record, "number") and record.phase == "finished"
    ]
    assert {record.run for record in jobs} == {run}
    assert [record.name for record in jobs if record.outcome == "failure"] == ["checkout flow"]
    shown = await asyncio.to_thread(simulator.ask, "GET", f"/repos/acme/healed/actions/runs/{run}")
    assert (shown["run_attempt"], shown["conclusion"]) == (2, "success")


async def test_a_running_run_cannot_be_re_run(simulator: Simulator, client: Outbound) -> None:
    run = simulator.ask("POST", "/_sim/runs", {"attempts": scripted("acme/busy"), "delay": 30})["id"]
    with pytest.raises(errors.Stalled, match="This workflow is already running"):
        await actions.perform(
            GITHUB,
            "rerun-failed-jobs",
            inputs={"project": "acme/busy", "run": run},
            account=simulator.account(),
            client=client,
        )


async def test_a_delivery_is_not_retried_but_can_be_redelivered_as_it_was(
    simulator: Simulator, receiver: Receiver
) -> None:
    receiver.codes = [503]
    fixture = places.ROOT / "connectors/catalogue/fixtures/github/run-failed.json"
    body = json.loads(fixture.read_text())["body"]
    body["repository"]["full_name"] = "acme/redelivered"
    hook = {"url": receiver.url, "secret": HOOK_SECRET, "project": "acme/redelivered"}
    await asyncio.to_thread(simulator.ask, "POST", "/_sim/hooks", hook)
    sent = await asyncio.to_thread(
        simulator.ask, "POST", "/_sim/deliver", [{"event": "workflow_run", "payload": body}]
    )
    assert sent == {"statuses": {"503": 1}}
    assert receiver.records == []
    again = await asyncio.to_thread(simulator.ask, "POST", "/_sim/redeliver", {"id": receiver.ids[0]})
    assert again == {"statuses": [202]}
    assert receiver.ids[0] == receiver.ids[1]
    assert [record.project for record in receiver.records] == ["acme/redelivered"]
