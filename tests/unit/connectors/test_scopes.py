"""What a token may do: read from what each provider tells, and compared with what the connector needs."""

from typing import Any

import pytest

from connectors import actions
from connectors.calls import Account
from connectors.mistakes import ManifestError
from connectors.outbound import Outbound
from connectors.scopes import Scopes
from pipewright import errors
from pipewright.backends.runner.actions import ConnectorActions
from pipewright.ports import Secret
from pipewright.runner_facts import CredentialCheck

BEARER = {"kind": "bearer", "field": "token"}
CREDENTIALS = {"token": Secret("canary-token")}
SELF = "/api/v4/personal_access_tokens/self"


async def told(name: str, provider: Any, client: Outbound) -> CredentialCheck:
    return await ConnectorActions(client).check(
        connector=name, config={"baseUrl": provider.url}, credentials=CREDENTIALS
    )


# sentence: (connector, headers, body, (granted, missing) or None where nothing is told)
TOLD: dict[str, tuple[str, dict[str, str], Any, tuple[tuple[str, ...], tuple[str, ...]] | None]] = {
    "a classic token of GitHub": (
        "github",
        {"X-OAuth-Scopes": "workflow, repo"},
        {},
        (("repo", "workflow"), ()),
    ),
    "one for public repositories": ("github", {"X-OAuth-Scopes": "public_repo"}, {}, (("public_repo",), ())),
    "one that may do too little": (
        "github",
        {"X-OAuth-Scopes": "gist, read:org"},
        {},
        (("gist", "read:org"), ("repo",)),
    ),
    "one that may do nothing": ("github", {"X-OAuth-Scopes": ""}, {}, ((), ("repo",))),
    "a fine-grained token of GitHub": ("github", {}, {}, None),
    "a token of GitLab": ("gitlab", {}, {"scopes": ["api", "read_api"]}, (("api", "read_api"), ())),
    "one that may only read": ("gitlab", {}, {"scopes": ["read_api"]}, (("read_api",), ("api",))),
    "an answer without scopes": ("gitlab", {}, {"id": 1}, None),
    "scopes that are no list": ("gitlab", {}, {"scopes": "api"}, None),
    "scopes that are no texts": (
        "gitlab",
        {},
        {"scopes": ["api", 5, None, "a\nb", "x" * 101, ""]},
        (("api",), ()),
    ),
    "no object": ("gitlab", {}, ["api"], None),
}


@pytest.mark.parametrize(("name", "headers", "body", "scopes"), TOLD.values(), ids=TOLD.keys())
async def test_what_a_provider_tells(
    provider: Any,
    client: Outbound,
    name: str,
    headers: dict[str, str],
    body: Any,
    scopes: tuple[tuple[str, ...], tuple[str, ...]] | None,
) -> None:
    provider.on("/rate_limit" if name == "github" else SELF, body, headers=headers)
    found = await told(name, provider, client)
    if scopes is None:
        assert (found.accepted, found.reason, found.scopes) == (True, "CredentialsValid", None)
        return
    granted, missing = scopes
    assert found.scopes is not None
    assert (found.scopes.granted, found.scopes.missing) == (granted, missing)
    assert (found.accepted, found.reason) == (
        (False, "ScopesMissing") if missing else (True, "CredentialsValid")
    )
    for scope in missing:
        assert f"lacks the scopes {scope}:" in found.message
    assert len(provider.seen) == 1
    assert "canary" not in found.message


async def test_more_scopes_than_can_be_told_are_still_compared(provider: Any, client: Outbound) -> None:
    provider.on(SELF, {"scopes": ["zz_api", *(f"scope-{number:03}" for number in range(200)), "api"]})
    found = await told("gitlab", provider, client)
    assert found.scopes is not None
    assert (len(found.scopes.granted), found.scopes.missing) == (64, ())


async def test_a_token_that_is_refused_tells_nothing(provider: Any, client: Outbound) -> None:
    provider.on("/rate_limit", {"message": "Bad credentials"}, status=401, headers={"X-OAuth-Scopes": ""})
    found = await told("github", provider, client)
    assert (found.accepted, found.reason, found.scopes) == (False, "CredentialsRefused", None)


async def test_a_connector_may_need_several_and_leave_a_choice(
    connector: Any, provider: Any, client: Outbound
) -> None:
    manifest = connector(
        BEARER,
        check={
            "get": "/me",
            "scopes": {"granted": "body.may", "required": ["builds", ["write", "admin"], "x"]},
        },
    )
    provider.on("/me", {"may": ["admin", "x"]})
    account = Account(config={}, credentials=CREDENTIALS)
    found = await actions.check(manifest, account=account, client=client)
    assert found == Scopes(granted=("admin", "x"), missing=("builds",))


@pytest.mark.parametrize(
    ("scopes", "message"),
    [
        ({"granted": "body.scopes"}, "'required' is a required property"),
        ({"granted": "body.scopes", "required": []}, "$.check.scopes.required"),
        ({"granted": "body.scopes", "required": ["two words"]}, "$.check.scopes.required[0]"),
        (
            {"granted": "item.scopes", "required": ["api"]},
            "check.scopes.granted: line 1, column 5: nothing is called 'item.scopes' here",
        ),
    ],
)
def test_scopes_that_a_manifest_has_wrong_are_refused(
    connector: Any, scopes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ManifestError) as refused:
        connector(BEARER, check={"get": "/me", "scopes": scopes})
    assert message in str(refused.value)


async def test_a_check_that_is_too_large_is_told(connector: Any, provider: Any, client: Outbound) -> None:
    provider.on("/me", {"filler": "x" * 70_000})
    account = Account(config={}, credentials=CREDENTIALS)
    with pytest.raises(errors.Stalled, match="Xen CI answered with more than 65536 bytes"):
        await actions.check(connector(BEARER), account=account, client=client)
