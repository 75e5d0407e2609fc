"""Actions that look for what they need, or are led to a storage: over the wire, to a provider of our own."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.actions import perform
from connectors.calls import Account
from pipewright import errors
from pipewright.ports import Secret

LOG = {
    "title": "Log",
    "description": "Reads a log.",
    "get": "/jobs/${{ input.id }}/log",
    "follow": True,
    "idempotent": True,
    "input": {
        "type": "object",
        "additionalProperties": False,
        "required": ["id"],
        "properties": {"id": {"type": "string", "description": "x"}},
    },
    "output": {"tail": "tail"},
}
FIND = {
    "get": "/jobs",
    "within": "list.jobs",
    "when": "item.name == input.id",
    "inputs": {"id": "string(item.number)"},
}


@pytest.fixture
def read(connector, client):
    async def log(**parts: Any) -> Any:
        made = connector({"kind": "bearer", "field": "token"}, actions={"log": {**LOG, **parts}})
        account = Account(config={}, credentials={"token": Secret("canary-token")})
        return await perform(made, "log", inputs={"id": "7"}, account=account, client=client)

    return log


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_read_without_the_credentials(provider, read, status):
    provider.on("/jobs/7/log", status=status, headers={"Location": "/storage?sig=x"})
    provider.on("/storage", "last line\n")
    assert await read() == {"tail": "last line\n"}
    asked, led = provider.seen
    assert asked.headers["Authorization"] == "Bearer canary-token"
    assert "canary" not in str(led)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data", "AddressRefused"),
        ("https://10.0.0.1/log", "AddressRefused"),
        ("http://storage.example/log", "AddressRefused"),
        ("https://user:password@storage.example/log", "AddressRefused"),
        ("file:///etc/passwd", "AddressRefused"),
        ("/again", "ProviderRefused"),
        ("", "ProviderRefused"),
    ],
)
async def test_a_redirect_leads_nowhere_that_is_not_allowed_and_not_on(provider, read, target, reason):
    provider.on("/jobs/7/log", status=302, headers={"Location": target} if target else {})
    provider.on("/again", status=302, headers={"Location": "/jobs/7/log"})
    with pytest.raises(errors.Stalled) as refused:
        await read()
    assert refused.value.reason == reason
    assert len(provider.seen) == (2 if target == "/again" else 1)


async def test_a_log_that_is_too_long_is_told_as_such(provider, read):
    provider.on("/jobs/7/log", status=302, headers={"Location": "/storage"})
    provider.on("/storage", "x" * 5000)
    with pytest.raises(errors.Stalled) as refused:
        await read(maxResponseBytes=4096)
    assert refused.value.reason == "AnswerTooLarge"


JOBS = [
    None,
    {"name": "7"},
    {"name": "6", "number": 600},
    {"name": "7", "number": 700},
    {"name": "7", "number": 8},
]


async def test_the_first_item_that_is_it_and_tells_gives_what_is_needed(provider, read):
    provider.on("/jobs", {"list": {"jobs": JOBS}})
    provider.on("/jobs/700/log", "found\n")
    assert await read(find=FIND, accept="text/plain") == {"tail": "found\n"}
    assert provider.seen[1].headers["Accept"] == "text/plain"


@pytest.mark.parametrize("body", [{}, {"list": []}, {"list": {"jobs": JOBS[:3]}}, {"list": {"jobs": "7"}}])
async def test_what_is_not_there_is_not_found_and_nothing_is_done(provider, read, body):
    provider.on("/jobs", body)
    with pytest.raises(errors.Stalled) as refused:
        await read(find=FIND)
    assert (refused.value.reason, len(provider.seen)) == ("NotFound", 1)
