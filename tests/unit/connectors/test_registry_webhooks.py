"""How each registry proves its deliveries, and what it takes to have those of one that proves nothing."""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from connectors import catalogue, mapping
from connectors.verify import Claim, FetchedVerifier, SignatureRefused, Verifier
from connectors.verify.oidc import OidcBearer
from connectors.verify.sns import SnsMessage
from connectors.webhook import Webhook
from pipewright.ports import Secret

NOW = datetime(2026, 5, 4, 9, 6, tzinfo=UTC)
BODY = b'{"domain":"docker"}'
SECRET = "s3cret-of-the-hook"
MAC = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()


def verifier(connector: str) -> Any:
    return cast("Webhook", catalogue.load()[connector].webhook).verify


def claim(headers: dict[str, str], *, secrets: tuple[str, ...] = (SECRET,), **more: Any) -> Claim:
    return Claim(headers=headers, body=BODY, secrets=[Secret(each) for each in secrets], now=NOW, **more)


PROVED = {
    "acr": {"authorization": f"Bearer {SECRET}"},
    "artifactory": {"x-jfrog-event-auth": MAC},
    "distribution": {"authorization": f"Bearer {SECRET}"},
    "ecr": {"x-api-key": SECRET},
    "harbor": {"authorization": SECRET},
}


@pytest.mark.parametrize(("connector", "headers"), PROVED.items(), ids=PROVED.keys())
def test_a_delivery_is_proved_by_its_header_and_by_either_secret_while_one_is_rotated(
    connector: str, headers: dict[str, str]
) -> None:
    check = cast("Verifier", verifier(connector)).check
    check(claim(headers))
    check(claim(headers, secrets=("the next one", SECRET)))
    for secrets in (("another",), ()):
        with pytest.raises(SignatureRefused):
            check(claim(headers, secrets=secrets))
    with pytest.raises(SignatureRefused):
        check(claim({}))


@pytest.mark.parametrize(
    ("connector", "headers"),
    [
        ("acr", {"authorization": SECRET}),
        ("acr", {"authorization": f"Basic {SECRET}"}),
        ("artifactory", {"x-jfrog-event-auth": SECRET}),
        ("artifactory", {"x-jfrog-event-auth": MAC[:-1] + ("0" if MAC[-1] != "0" else "1")}),
        ("artifactory", {"x-jfrog-event-auth": f"sha256={MAC}"}),
        ("distribution", {"authorization": f"bearer {SECRET}"}),
        ("ecr", {"x-api-key": SECRET + " "}),
        ("ecr", {"authorization": SECRET}),
        ("harbor", {"authorization": f"Bearer {SECRET}"}),
        ("harbor", {"x-harbor-token": SECRET}),
    ],
)
def test_what_is_not_proved_is_refused(connector: str, headers: dict[str, str]) -> None:
    with pytest.raises(SignatureRefused) as refused:
        cast("Verifier", verifier(connector)).check(claim(headers))
    assert SECRET not in str(refused.value)


def test_artifactorys_signature_covers_the_body() -> None:
    changed = Claim(headers=PROVED["artifactory"], body=BODY + b" ", secrets=[Secret(SECRET)], now=NOW)
    with pytest.raises(SignatureRefused):
        cast("Verifier", verifier("artifactory")).check(changed)


@pytest.mark.parametrize("connector", ["docker-hub", "quay"])
def test_what_proves_nothing_needs_the_integrations_word(connector: str) -> None:
    check = cast("Verifier", verifier(connector)).check
    check(claim({}, allow_unsigned=True))
    with pytest.raises(SignatureRefused, match="not allowed by this Integration"):
        check(claim({}))


def test_the_connectors_that_need_a_key_of_the_provider_ask_for_it_where_it_is() -> None:
    found = verifier("artifact-registry")
    assert isinstance(found, OidcBearer)
    assert found.jwks_url == "https://www.googleapis.com/oauth2/v3/certs"
    assert isinstance(verifier("ecr-sns"), SnsMessage)
    for connector in ("artifact-registry", "ecr-sns"):
        assert isinstance(verifier(connector), FetchedVerifier)
        with pytest.raises(SignatureRefused):
            cast("FetchedVerifier", verifier(connector)).key_url(claim({}))


def test_a_subscription_of_sns_is_a_delivery_with_a_name() -> None:
    webhook = cast("Webhook", catalogue.load()["ecr-sns"].webhook)
    asked = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=y"
    raw = (
        '{"Type": "SubscriptionConfirmation", "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",'
        f' "Message": "You have chosen", "SubscribeURL": "{asked}"}}'
    )
    headers = {"content-type": "text/plain; charset=UTF-8"}
    opened = mapping.open_delivery(webhook, headers=headers, raw=raw.encode())
    told = mapping.identify(webhook, opened)
    assert told.event == "SubscriptionConfirmation"
    found = mapping.map_delivery(webhook, opened, event=told.event)
    assert found == mapping.Ignored(f"confirm the subscription: open once {asked}")
