"""Azure Pipelines, Bitbucket, CircleCI and Jenkins: proofs, requests, and each real payload that we have."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from connectors import catalogue, verify
from connectors.actions import check, perform
from connectors.calls import Account
from connectors.kit import samples
from connectors.outbound import Answer
from connectors.scopes import Scopes
from connectors.verify.claim import Claim, SignatureRefused
from connectors.webhook import Webhook
from dev import places
from pipewright import errors
from pipewright.ports import Secret

PAYLOADS = places.SHARED_DATA / "webhook-payloads"
SYSTEMS = ("azure-pipelines", "bitbucket", "circleci", "jenkins")
PROJECT = "be9b3917-87e6-42a4-a549-2bc06a7a878f"
CONFIG: dict[str, dict[str, Any]] = {
    "azure-pipelines": {"organization": "acme"},
    "jenkins": {"baseUrl": "https://jenkins.example.com/ci"},
}
BASIC = base64.b64encode(b"pipewright:hunter2").decode()
SIGNED = hmac.new(b"hunter2", b"{}", hashlib.sha256).hexdigest()


def webhook(name: str) -> Webhook:
    return cast("Webhook", catalogue.load()[name].webhook)


# --- proofs ------------------------------------------------------------------------------------------------

PROOFS = {
    "azure-pipelines": ("authorization", f"Basic {BASIC}"),
    "bitbucket": ("x-hub-signature", f"sha256={SIGNED}"),
    "circleci": ("circleci-signature", f"v1={SIGNED},v2=future"),
    "jenkins": ("authorization", f"Basic {BASIC}"),
}


@pytest.mark.parametrize("name", SYSTEMS)
async def test_a_delivery_is_proved_as_its_system_does_it(name: str) -> None:
    def claim(secret: str, headers: dict[str, str]) -> Claim:
        now = datetime(2026, 3, 2, tzinfo=UTC)
        return Claim(headers=headers, body=b"{}", secrets=(Secret(secret),), now=now)

    given = dict([PROOFS[name]])
    await verify.verify(webhook(name).verify, claim("hunter2", given))
    for wrong in (claim("hunter3", given), claim("hunter2", {})):
        with pytest.raises(SignatureRefused):
            await verify.verify(webhook(name).verify, wrong)


# --- requests ----------------------------------------------------------------------------------------------


class Asked:
    """A client that notes what it is asked, and gives one answer."""

    def __init__(self, status: int, body: Any = None, **headers: str) -> None:
        text = body if isinstance(body, bytes) else b"<html>" if body is None else json.dumps(body).encode()
        self.answer = Answer(status=status, headers=headers, body=text, complete=True)
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: dict[str, str] = {}
        self.max_bytes = 0

    async def request(
        self, method: str, url: str, *, headers: Any, body: Any = None, max_bytes: int, **_: Any
    ) -> Answer:
        self.max_bytes = max_bytes
        self.asked.append((method, url, json.loads(body) if body else None))
        self.headers = dict(headers)
        return self.answer


def account(name: str) -> Account:
    http = catalogue.load()[name].http
    assert http is not None
    return Account(
        config=CONFIG.get(name, {}),
        credentials={field: Secret(f"s-{field}") for field in http.auths[0].fields},
    )


async def done(name: str, action: str, inputs: dict[str, Any], client: Asked) -> Any:
    return await perform(
        catalogue.load()[name], action, inputs=inputs, account=account(name), client=cast("Any", client)
    )


RUN = "fda08377-fe7e-46b1-8992-3a7aaecac9c3"
AZURE = f"https://dev.azure.com/acme/{PROJECT}/_apis"
ON = {"project": f"acme/{PROJECT}"}


async def test_a_log_is_read_whatever_bytes_are_in_it() -> None:
    client = Asked(200, b"\x1b[32mStarted\x1b[0m by ada\r\n\xff+ make\x00\n")
    found = await done("jenkins", "read-log", {"project": "team/shop", "number": "31"}, client)
    assert found == {"tail": "Started by ada\n+ make\n"}
    assert client.asked == [("GET", "https://jenkins.example.com/ci/job/team/job/shop/31/consoleText", None)]


async def test_an_address_of_a_job_is_below_that_of_jenkins() -> None:
    client = Asked(201)
    await done("jenkins", "build", {"project": "team/shop", "branch": "feature/cart"}, client)
    assert client.asked == [
        ("POST", "https://jenkins.example.com/ci/job/team/job/shop/job/feature%252Fcart/build", None)
    ]


async def test_of_a_long_log_the_last_whole_lines_come() -> None:
    lines = [f"line {number:04d}" for number in range(1000)]
    client = Asked(200, "\n".join(lines).encode())
    found = await done("jenkins", "read-log", {"project": "team/shop", "number": "31"}, client)
    assert found == {"tail": "\n".join(lines[-400:])}
    assert client.max_bytes == 10 * 1024 * 1024


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_action_has_a_sample(name: str) -> None:
    found, _ = samples.read([catalogue.folder() / "fixtures" / name])
    tried = {sample.data["action"] for sample in found if sample.kind == "action"}
    assert tried == set(catalogue.load()[name].actions)


@pytest.mark.parametrize(
    ("name", "path", "header", "value"),
    [
        ("azure-pipelines", "https://dev.azure.com/acme/_apis/projects", "Authorization", ":s-token"),
        ("bitbucket", "https://api.bitbucket.org/2.0/user", "Authorization", "Bearer s-token"),
        ("circleci", "https://circleci.com/api/v2/me", "Circle-Token", "s-token"),
        ("jenkins", "https://jenkins.example.com/ci/me/api/json", "Authorization", "s-username:s-token"),
    ],
)
async def test_a_check_is_one_request_with_the_credentials(
    name: str, path: str, header: str, value: str
) -> None:
    client = Asked(200, {})
    found = await check(catalogue.load()[name], account=account(name), client=cast("Any", client))
    assert found is None
    assert client.asked == [("GET", path, None)]
    given = client.headers[header]
    assert (base64.b64decode(given[6:]).decode() if given.startswith("Basic ") else given) == value


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        ("account, pipeline:write, repository", ()),
        ("read:user:bitbucket,write:pipeline:bitbucket", ()),
        ("account, pipeline", ("pipeline:write",)),
    ],
)
async def test_bitbucket_tells_what_a_token_may_do(granted: str, missing: tuple[str, ...]) -> None:
    client = Asked(200, {}, **{"x-oauth-scopes": granted})
    found = await check(
        catalogue.load()["bitbucket"], account=account("bitbucket"), client=cast("Any", client)
    )
    names = tuple(sorted(name.strip() for name in granted.split(",")))
    assert found == Scopes(granted=names, missing=missing)


async def test_bitbucket_takes_an_api_token_of_an_account() -> None:
    client = Asked(200, {})
    of_person = Account(config={}, credentials={"email": Secret("a@b.example"), "apiToken": Secret("t")})
    await check(catalogue.load()["bitbucket"], account=of_person, client=cast("Any", client))
    assert client.headers["Authorization"] == f"Basic {base64.b64encode(b'a@b.example:t').decode()}"


@pytest.mark.parametrize(
    ("name", "action", "inputs", "body", "told"),
    [
        ("azure-pipelines", "cancel-run", {**ON, "run": "1"}, {"message": "TF400813"}, "TF400813"),
        *(
            ("bitbucket", "stop-pipeline", {"project": "a/b", "run": "1"}, {"error": {"message": told}}, told)
            for told in ["The pipeline is not running"]
        ),
        (
            "circleci",
            "cancel-workflow",
            {"run": RUN},
            {"message": "Workflow not found"},
            "Workflow not found",
        ),
        ("jenkins", "stop", {"project": "a/b", "number": "1"}, None, "Jenkins answered 404"),
    ],
)
async def test_a_refusal_is_told_in_the_systems_words(
    name: str, action: str, inputs: dict[str, Any], body: Any, told: str
) -> None:
    with pytest.raises(errors.Stalled, match=told):
        await done(name, action, inputs, Asked(404, body))


@pytest.mark.parametrize(
    ("name", "action", "inputs"),
    [
        ("jenkins", "stop", {"project": "team/..", "number": "1"}),
        ("jenkins", "build", {"project": "team/shop", "branch": ".."}),
        ("jenkins", "stop", {"project": "shop", "number": "1"}),
        ("azure-pipelines", "cancel-run", {"project": "acme/web shop", "run": "1"}),
        ("bitbucket", "stop-pipeline", {"project": "acme/shop", "run": "1/steps"}),
        ("circleci", "cancel-workflow", {"run": "../me"}),
    ],
)
async def test_an_input_that_leads_elsewhere_is_refused(name: str, action: str, inputs: Any) -> None:
    client = Asked(200, {})
    with pytest.raises(errors.Stalled, match="must"):
        await done(name, action, inputs, client)
    assert client.asked == []
