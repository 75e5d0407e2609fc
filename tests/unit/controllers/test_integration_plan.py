"""What an Integration needs done, as a table of sentences: (what was seen) → (what is planned)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from connectors import catalogue
from connectors.verify.unsigned import Unsigned
from connectors.webhook import Webhook
from controllers.integration.plan import Observed, Plan, Projection, Unknown, plan_integration, plan_teardown
from pipewright.api.meta import Condition
from pipewright.api.v1alpha1 import Integration
from pipewright.api.v1alpha1.integration import IntegrationStatus
from pipewright.runner_facts import CredentialCheck, Route, TenantRef, WebhookKeys

GITHUB = catalogue.load()["github"]
UID = "11111111-2222-3333-4444-555555555555"
HOOK = "abcdefghijklmnopqrstuvwxyz012345"
KEYS = WebhookKeys(hook=HOOK, version=1, number=1, issued_at=datetime(2026, 3, 1, tzinfo=UTC))
TENANT = TenantRef(id="abcdefghjkmn", uid="tenant-uid", name="acme", state="Active", server="main")
ACCEPTED = CredentialCheck(accepted=True, reason="CredentialsValid", message="accepted")


def integration(**spec: Any) -> Integration:
    metadata = {"name": "github", "namespace": "acme", "uid": UID, "generation": 1}
    wanted = {
        "connector": "github",
        "credentials": {"secretRef": {"name": "github-token"}},
        "projects": ["acme/shop"],
    } | spec
    return Integration.parse({"metadata": metadata, "spec": wanted})


ROUTE = Route(
    hook_id=HOOK,
    tenant_id=TENANT.id,
    namespace="acme",
    integration="github",
    integration_uid=UID,
    connector="github",
    projects=("acme/shop",),
    config={},
    enabled=True,
    sealed_to="key",
    keys=(1,),
)
COMPLETE = Observed(
    gateway_key="key",
    known=("github",),
    connector=GITHUB,
    tenant=TENANT,
    route=ROUTE,
    keys=KEYS,
    projection=Projection(ours=True, current=True),
    credentials=ACCEPTED,
)
NEW = replace(COMPLETE, route=None, keys=None, projection=None)
SUBJECT = integration()

HUB = replace(GITHUB, name="hub", webhook=replace(cast("Webhook", GITHUB.webhook), verify=Unsigned()))
GENERIC = catalogue.load()["generic"]
MAPPING: dict[str, Any] = {
    "verify": {"kind": "token", "header": "X-Token"},
    "delivery": {"header": "X-Id"},
    "events": [{"name": "x", "when": "true", "record": "run", "map": {"id": "body.id"}}],
}
UNSIGNED, ALLOWED = integration(), integration(webhook={"allowUnsigned": True})

ISSUE, PROJECT, PUBLISH = (
    "issue the webhook secret",
    "write the webhook's Secret in acme",
    "publish the route of github",
)


def sentences(plan: Plan) -> list[str]:
    return [str(action) for action in plan]


def facts(plan: Plan) -> dict[str, tuple[bool | None, str]]:
    return {fact.type: (fact.status, fact.reason) for fact in plan.facts}


PLANS: dict[str, tuple[Integration, Observed, list[str]]] = {
    "nothing to do is an empty plan": (SUBJECT, COMPLETE, []),
    "a new one gets secret, route and projection, in this order": (SUBJECT, NEW, [ISSUE, PUBLISH, PROJECT]),
    "a crash after the secret goes on with route and projection": (
        SUBJECT,
        replace(NEW, keys=KEYS),
        [PUBLISH, PROJECT],
    ),
    "a crash after the route goes on with the projection": (
        SUBJECT,
        replace(COMPLETE, projection=None),
        [PROJECT],
    ),
    "a route that was lost is published again": (SUBJECT, replace(COMPLETE, route=None), [PUBLISH]),
    "a Vault that lost the secret gets a new one, and everything derived from it": (
        SUBJECT,
        replace(COMPLETE, keys=None, projection=Projection(ours=True, current=False)),
        [ISSUE, PUBLISH, PROJECT],
    ),
    "a projection that somebody edited is written again": (
        SUBJECT,
        replace(COMPLETE, projection=Projection(ours=True, current=False)),
        [PROJECT],
    ),
    "another hook in the route than in Vault is published again": (
        SUBJECT,
        replace(COMPLETE, route=replace(ROUTE, hook_id="x" * 32)),
        [PUBLISH],
    ),
    "a rotated secret is good at the gateway before anybody can have it": (
        SUBJECT,
        replace(
            COMPLETE,
            keys=replace(KEYS, version=2, number=2, rotating=True),
            projection=Projection(ours=True, current=False),
        ),
        [PUBLISH, PROJECT],
    ),
    "a retired secret is taken from the gateway": (
        SUBJECT,
        replace(COMPLETE, keys=replace(KEYS, number=2), route=replace(ROUTE, keys=(2, 1))),
        [PUBLISH],
    ),
    "a new gateway key seals the route again": (SUBJECT, replace(COMPLETE, gateway_key="new"), [PUBLISH]),
    "other projects are published": (integration(projects=["acme/pay"]), COMPLETE, [PUBLISH]),
    "another config is published": (
        integration(config={"baseUrl": "https://ghe.acme.example/api/v3"}),
        COMPLETE,
        [PUBLISH],
    ),
    "a disabled webhook closes the route and keeps its path": (
        integration(webhook={"enabled": False}),
        COMPLETE,
        ["publish the route of github, closed"],
    ),
    "missing credentials do not keep events out": (
        SUBJECT,
        replace(NEW, credentials=CredentialCheck(accepted=False, reason="SecretMissing", message="…")),
        [ISSUE, PUBLISH, PROJECT],
    ),
    "a Vault that does not answer holds the webhook": (
        SUBJECT,
        replace(COMPLETE, route=None, keys=Unknown(reason="Unreachable", message="Vault is sealed")),
        [],
    ),
    "a Secret of somebody else is never overwritten": (
        SUBJECT,
        replace(NEW, projection=Projection(ours=False, current=False)),
        [],
    ),
    "a webhook that nobody signs is not made": (UNSIGNED, replace(NEW, connector=HUB), []),
    "it is when that is allowed": (
        ALLOWED,
        replace(NEW, connector=HUB),
        [ISSUE, PUBLISH, PROJECT],
    ),
    "allowing it is published": (ALLOWED, replace(COMPLETE, connector=HUB), [PUBLISH]),
    "not allowing it any more is published": (
        UNSIGNED,
        replace(COMPLETE, connector=HUB, route=replace(ROUTE, allow_unsigned=True)),
        [PUBLISH],
    ),
    "an unknown connector publishes nothing": (SUBJECT, replace(NEW, connector=None), []),
    "a config that the connector refuses publishes nothing": (integration(config={"url": "x"}), NEW, []),
}


@pytest.mark.parametrize("sentence", PLANS)
def test_plan(sentence: str) -> None:
    subject, observed, expected = PLANS[sentence]
    assert sentences(plan_integration(subject, observed)) == expected


CHECKS: dict[str, tuple[CredentialCheck | None, tuple[bool | None, str], timedelta | None]] = {
    "accepted credentials are valid": (ACCEPTED, (True, "CredentialsValid"), None),
    "refused credentials are looked at again, as their Secret is not watched": (
        CredentialCheck(accepted=False, reason="CredentialsRefused", message="…"),
        (False, "CredentialsRefused"),
        timedelta(seconds=30),
    ),
    "a missing Secret is looked for again": (
        CredentialCheck(accepted=False, reason="SecretMissing", message="…"),
        (False, "SecretMissing"),
        timedelta(seconds=30),
    ),
    "a provider that does not answer leaves it unknown": (
        CredentialCheck(accepted=None, reason="Unreachable", message="…"),
        (None, "Unreachable"),
        timedelta(seconds=60),
    ),
}


@pytest.mark.parametrize("sentence", CHECKS)
def test_credentials(sentence: str) -> None:
    check, expected, again = CHECKS[sentence]
    plan = plan_integration(SUBJECT, replace(COMPLETE, credentials=check))
    assert facts(plan)["CredentialsValid"] == expected
    assert plan.check_after == again
    assert not any(fact.stalled for fact in plan.facts)


NO_ANSWER = CredentialCheck(accepted=None, reason="Unreachable", message="GitHub is down")
LAST_SAID: dict[str, tuple[str, int, tuple[bool | None, str]]] = {
    "a provider that is down takes back nothing that it said": ("True", 1, (True, "CredentialsValid")),
    "nothing was said of this spec": ("True", 0, (None, "Unreachable")),
    "what was refused is unknown then": ("False", 1, (None, "Unreachable")),
    "what was unknown stays so": ("Unknown", 1, (None, "Unreachable")),
}


@pytest.mark.parametrize("sentence", LAST_SAID)
def test_credentials_while_the_provider_is_down(sentence: str) -> None:
    status, generation, expected = LAST_SAID[sentence]
    said = Condition(
        type="CredentialsValid",
        status=status,  # type: ignore[arg-type]
        reason="CredentialsValid",
        message="accepted",
        last_transition_time=datetime(2026, 3, 1, tzinfo=UTC),
        observed_generation=generation,
    )
    subject = SUBJECT.model_copy(update={"status": IntegrationStatus(conditions=(said,))})
    plan = plan_integration(subject, replace(COMPLETE, credentials=NO_ANSWER))
    assert facts(plan)["CredentialsValid"] == expected
    assert plan.check_after == timedelta(seconds=60)


def test_an_unknown_connector_is_stalled_and_lists_the_known() -> None:
    plan = plan_integration(integration(connector="gitlub"), replace(NEW, connector=None))
    (stalled,) = [fact for fact in plan.facts if fact.stalled]
    assert stalled.reason == "UnknownConnector"
    assert "gitlub" in stalled.message
    assert "github" in stalled.message


def test_a_connector_that_cannot_be_used_is_stalled_with_the_reason() -> None:
    seen = replace(COMPLETE, connector=None, broken="acme.yaml: $.http: 'auth' is missing")
    plan = plan_integration(integration(connector="acme"), seen)
    (stalled,) = [fact for fact in plan.facts if fact.stalled]
    assert stalled.reason == "ConnectorBroken"
    assert "acme cannot be used: acme.yaml: $.http: 'auth' is missing; the platform team" in stalled.message
    assert list(plan) == []


def test_an_invalid_config_is_stalled_and_names_the_field_but_not_its_value() -> None:
    plan = plan_integration(integration(config={"baseUrl": "canary value"}), COMPLETE)
    (stalled,) = [fact for fact in plan.facts if fact.stalled]
    assert stalled.reason == "InvalidConfig"
    assert "baseUrl" in stalled.message
    assert "canary" not in stalled.message


DELETE, WITHDRAW = "delete the webhook secret", "withdraw the route"
TEARDOWNS: dict[str, tuple[Observed, list[str]]] = {
    "the secret goes before the route, which remembers the tenant": (COMPLETE, [DELETE, WITHDRAW]),
    "a crash after the secret goes on with the route": (replace(COMPLETE, keys=None), [WITHDRAW]),
    "a crash after the route is the end": (replace(COMPLETE, keys=None, route=None), []),
    "never created is deletable at once": (NEW, []),
    "a tenant that is gone is no hindrance": (replace(COMPLETE, tenant=None), [DELETE, WITHDRAW]),
    "a tenant that is not Active is no hindrance": (
        replace(COMPLETE, tenant=replace(TENANT, state="Deleting")),
        [DELETE, WITHDRAW],
    ),
    "with neither tenant nor route nothing of ours is left": (
        replace(COMPLETE, tenant=None, route=None, keys=None),
        [],
    ),
}


@pytest.mark.parametrize("sentence", TEARDOWNS)
def test_teardown(sentence: str) -> None:
    observed, expected = TEARDOWNS[sentence]
    plan = plan_teardown(SUBJECT, observed)
    assert sentences(plan) == expected
    assert plan.facts == ()


def test_a_vault_that_does_not_answer_holds_the_teardown_and_says_so() -> None:
    plan = plan_teardown(SUBJECT, replace(COMPLETE, keys=Unknown(reason="Unreachable", message="sealed")))
    assert plan.is_empty
    assert facts(plan) == {"WebhookReady": (None, "Unreachable")}
    assert plan.check_after == timedelta(seconds=10)


WEBHOOKS: dict[str, tuple[Integration, Observed, tuple[bool | None, str], bool, str]] = {
    "what nobody signs is stalled, with what to do": (
        UNSIGNED,
        replace(NEW, connector=HUB),
        (False, "UnsignedNotAllowed"),
        True,
        "spec.webhook.allowUnsigned: github does not sign what it sends",
    ),
    "what was allowed and is not any more is stalled too": (
        UNSIGNED,
        replace(COMPLETE, connector=HUB),
        (False, "UnsignedNotAllowed"),
        True,
        "set it to true",
    ),
    "what is allowed stays visible": (
        ALLOWED,
        replace(COMPLETE, connector=HUB),
        (True, "Unsigned"),
        False,
        "keep it secret: nothing signs deliveries",
    ),
    "a connector that signs is as it was": (
        ALLOWED, COMPLETE, (True, "WebhookReady"), False, "enter url and secret",
    ),
    "a mapping that does not compile is stalled, with field and position": (
        integration(
            connector="generic", config={"webhook": {**MAPPING, "delivery": {"expression": "body.a +"}}}
        ),
        replace(COMPLETE, connector=GENERIC),
        (False, "InvalidConfig"),
        True,
        "spec.config: webhook.delivery.expression: line 1, column 9: ",
    ),
    "a mapping that lacks a part is stalled, with the part": (
        integration(connector="generic", config={"webhook": {**MAPPING, "events": [{"name": "x"}]}}),
        replace(COMPLETE, connector=GENERIC),
        (False, "InvalidConfig"),
        True,
        "spec.config: webhook.events[0]: 'when' is a required property",
    ),
    "a mapping that is right is ready": (
        integration(connector="generic", config={"webhook": MAPPING}),
        replace(COMPLETE, connector=GENERIC),
        (True, "WebhookReady"),
        False,
        "enter url and secret",
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", WEBHOOKS)
def test_webhook(sentence: str) -> None:
    subject, observed, expected, stalled, message = WEBHOOKS[sentence]
    (fact,) = [fact for fact in plan_integration(subject, observed).facts if fact.type == "WebhookReady"]
    assert (fact.status, fact.reason) == expected
    assert fact.stalled is stalled
    assert message in fact.message
    assert "\n" not in fact.message
