"""Prow: a message of its reporter as Pub/Sub pushes it, and Deck, which asks nobody who they are."""

import base64
import json
from typing import Any, cast

import pytest

from connectors import actions, catalogue, mapping
from connectors.calls import Account
from connectors.manifest import Manifest
from connectors.mistakes import ConfigError
from connectors.outbound import Outbound
from connectors.verify.oidc import OidcBearer
from connectors.webhook import Webhook
from pipewright.backends.runner.actions import ConnectorActions

PROW: Manifest = catalogue.load()["prow"]
WEBHOOK = cast("Webhook", PROW.webhook)
CONFIG = {
    "baseUrl": "https://prow.acme.example",
    "audience": "pipewright",
    "serviceAccount": "prow-push@acme-ci.iam.gserviceaccount.com",
}


def pushed(message: Any) -> mapping.Opened:
    data = base64.b64encode(json.dumps(message).encode()).decode()
    envelope = {"messageId": "9100000000000001", "publishTime": "2026-05-04T09:06:20.5Z", "data": data}
    raw = json.dumps({"message": envelope, "subscription": "projects/acme-ci/subscriptions/p"}).encode()
    return mapping.open_delivery(WEBHOOK, headers={"content-type": "application/json"}, raw=raw)


def test_a_message_is_read_out_of_its_envelope() -> None:
    opened = pushed(
        {
            "status": "success",
            "url": "https://prow.acme.example/view/gs/acme-prow/logs/post-shop-image/1995000000000000042",
            "refs": [{"org": "acme", "repo": "shop", "base_ref": "main", "base_sha": "5f0c2b1d"}],
            "job_type": "postsubmit",
            "job_name": "post-shop-image",
        }
    )
    assert mapping.identify(WEBHOOK, opened) == mapping.Delivery("9100000000000001", "prowjob")
    found = mapping.map_delivery(WEBHOOK, opened, event="prowjob", config=CONFIG)
    assert not isinstance(found, mapping.Ignored)
    assert [(kind, record.project, record.id) for kind, record in found] == [
        ("pipelinerun.finished", "acme/shop", "1995000000000000042")
    ]


def test_a_token_of_google_proves_the_subscription() -> None:
    assert isinstance(WEBHOOK.verify, OidcBearer)
    assert WEBHOOK.hidden >= {"authorization"}


@pytest.mark.parametrize("missing", CONFIG)
def test_who_pushes_and_where_deck_is_must_be_told(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"{missing} is required"):
        PROW.configure({name: value for name, value in CONFIG.items() if name != missing})


async def test_deck_is_asked_without_credentials(provider: Any, client: Outbound) -> None:
    provider.on("/", "<html></html>")
    config = CONFIG | {"baseUrl": provider.url}
    assert await actions.check(PROW, account=Account(config=config, credentials={}), client=client) is None
    told = await ConnectorActions(client).check(connector="prow", config=config, credentials={})
    assert (told.accepted, told.reason) == (True, "NotNeeded")
    assert [(seen.path, "Authorization" in seen.headers) for seen in provider.seen] == [("/", False)] * 2


async def test_a_deck_that_wants_a_login_is_told(provider: Any, client: Outbound) -> None:
    provider.on("/", "", status=403)
    config = CONFIG | {"baseUrl": provider.url}
    told = await ConnectorActions(client).check(connector="prow", config=config, credentials={})
    assert (told.accepted, told.reason) == (False, "CredentialsRefused")
