"""The OCI operations against a registry that answers oddly; with a real one: tests/contract."""

import hashlib
import json
from typing import Any

import pytest

from connectors import actions, catalogue
from connectors.calls import Account
from connectors.oci import operations, reference, registry
from connectors.oci.operations import OPERATIONS
from connectors.outbound import Outbound
from connectors.webhook import schema
from pipewright import errors
from pipewright.ports import Secret

DISTRIBUTION = catalogue.load()["distribution"]
OCI = "application/vnd.oci.image.manifest.v1+json"
CONTENT = json.dumps({"schemaVersion": 2, "mediaType": OCI, "config": {}, "layers": []})
DIGEST = f"sha256:{hashlib.sha256(CONTENT.encode()).hexdigest()}"
OTHER = "sha256:" + "b" * 64
PLACE = "/v2/acme/shop/manifests"
TAGS = "/v2/acme/shop/tags/list"


async def perform(action: str, provider: Any, client: Outbound, **inputs: str) -> Any:
    provider.on("/v2/", {})
    account = Account(
        config={"baseUrl": provider.url},
        credentials={"username": Secret("ci"), "password": Secret("s3cret")},
    )
    given = {"repository": "acme/shop", **inputs}
    return await actions.perform(DISTRIBUTION, action, inputs=given, account=account, client=client)


def error(code: str, message: str = "a message") -> dict[str, Any]:
    return {"errors": [{"code": code, "message": message, "detail": {}}]}


def test_the_operations_that_the_schema_offers_are_those_that_there_are() -> None:
    found = schema()["properties"]["actions"]["additionalProperties"]["properties"]["oci"]["enum"]
    assert found == list(OPERATIONS)


def test_every_registry_has_the_operations_and_each_may_be_repeated() -> None:
    for name, manifest in catalogue.load().items():
        if manifest.category != "registry" or name == "ecr-sns":
            continue
        wanted = set(OPERATIONS) - ({"delete"} if name == "docker-hub" else set())
        assert {action.operation for action in manifest.actions.values()} == wanted, name
        assert all(action.idempotent for action in manifest.actions.values()), name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Acme/shop",
        "acme//shop",
        "/acme",
        "acme/",
        "acme/../shop",
        "acme/shop:v1",
        "a" * 256,
        "acme/sh%6Fp",
    ],
)
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(errors.Stalled, match="repository must be"):
        reference.repository(text)


@pytest.mark.parametrize("text", ["", ".v1", "v1/x", "v 1", "x" * 129, "v1\n", "..", "sha256:" + "a" * 64])
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(errors.Stalled, match="tag must be a tag"):
        reference.tag(text)


@pytest.mark.parametrize(
    "text", ["", "latest", "sha256:abc", "sha256:" + "A" * 64, "md5:" + "a" * 32, "sha512:" + "a" * 64]
)
def test_what_is_no_digest_that_can_be_checked_is_refused(text: str) -> None:
    with pytest.raises(errors.Stalled, match="digest must be"):
        reference.digest(text)


async def test_a_digest_that_only_the_content_tells_is_reckoned(provider: Any, client: Outbound) -> None:
    provider.on(f"{PLACE}/v1", CONTENT)
    assert await perform("resolve", provider, client, tag="v1") == {"digest": DIGEST, "mediaType": OCI}
    assert [seen.method for seen in provider.asked(f"{PLACE}/v1")] == ["HEAD", "GET"]


async def test_a_manifest_that_has_not_its_digest_is_copied_nowhere(provider: Any, client: Outbound) -> None:
    provider.on(f"{PLACE}/v2", status=404)
    provider.on(f"{PLACE}/{OTHER}", CONTENT)
    with pytest.raises(errors.Stalled, match="has not the digest") as refused:
        await perform("tag", provider, client, digest=OTHER, tag="v2")
    assert refused.value.reason == "ProviderRefused"  # nothing was done
    assert all(seen.method != "PUT" for seen in provider.seen)


async def test_what_the_registry_says_that_it_stored_is_compared(provider: Any, client: Outbound) -> None:
    provider.on(f"{PLACE}/v2", status=404)
    provider.on(f"{PLACE}/v2", status=201, headers={"Docker-Content-Digest": OTHER})
    provider.on(f"{PLACE}/{DIGEST}", CONTENT)
    with pytest.raises(errors.Stalled, match=f"stored {OTHER} where {DIGEST} was sent") as refused:
        await perform("tag", provider, client, digest=DIGEST, tag="v2")
    assert refused.value.reason == "AnswerNotUnderstood"  # something was done


async def test_what_a_registry_does_not_say_that_it_stored_is_looked_up(
    provider: Any, client: Outbound
) -> None:
    provider.on(f"{PLACE}/v2", status=404)
    provider.on(f"{PLACE}/v2", status=201)
    provider.on(f"{PLACE}/v2", headers={"Docker-Content-Digest": OTHER})
    provider.on(f"{PLACE}/{DIGEST}", CONTENT)
    with pytest.raises(errors.Stalled, match=f"stored {OTHER} where {DIGEST} was sent"):
        await perform("tag", provider, client, digest=DIGEST, tag="v2")


async def test_a_tag_is_put_as_the_bytes_are(provider: Any, client: Outbound) -> None:
    provider.on(f"{PLACE}/v2", status=404)
    provider.on(f"{PLACE}/v2", status=201, headers={"Docker-Content-Digest": DIGEST})
    provider.on(f"{PLACE}/{DIGEST}", CONTENT)
    found = await perform("tag", provider, client, digest=DIGEST, tag="v2")
    assert found == {"digest": DIGEST, "previous": "", "changed": True}
    (put,) = [seen for seen in provider.seen if seen.method == "PUT"]
    assert (put.body, put.headers["Content-Type"]) == (CONTENT.encode(), OCI)


async def test_a_tag_that_names_the_digest_is_left_alone(provider: Any, client: Outbound) -> None:
    provider.on(f"{PLACE}/v2", headers={"Docker-Content-Digest": DIGEST})
    found = await perform("tag", provider, client, digest=DIGEST, tag="v2")
    assert found == {"digest": DIGEST, "previous": DIGEST, "changed": False}
    assert [seen.method for seen in provider.seen] == ["GET", "HEAD"]


async def test_a_tag_that_moved_meanwhile_is_not_followed(provider: Any, client: Outbound) -> None:
    provider.on(f"{PLACE}/candidate", headers={"Docker-Content-Digest": OTHER})
    with pytest.raises(errors.Stalled, match=f"acme/shop:candidate is {OTHER} by now and not {DIGEST}"):
        await perform("retag", provider, client, source="candidate", digest=DIGEST, tag="v2")


async def test_a_tag_that_is_not_there_is_told(provider: Any, client: Outbound) -> None:
    provider.on(f"{PLACE}/v9", error("MANIFEST_UNKNOWN"), status=404)
    with pytest.raises(errors.Stalled, match="the registry has no acme/shop:v9"):
        await perform("resolve", provider, client, tag="v9")


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (
            403,
            error("DENIED", "tag is immutable"),
            r"refused the credentials \(status 403\): DENIED: tag is immutable",
        ),
        (412, error("PRECONDITION", "immutable tag"), "answered 412: PRECONDITION: immutable tag"),
        (400, error("TAG_INVALID"), "answered 400: TAG_INVALID"),
        (404, error("NAME_UNKNOWN"), "has not acme/shop:v2: no such repository"),
        (400, "nonsense", "answered 400"),
    ],
)
async def test_the_registrys_own_words_are_told(
    status: int, body: Any, problem: str, provider: Any, client: Outbound
) -> None:
    provider.on(f"{PLACE}/v2", status=404)
    provider.on(f"{PLACE}/v2", body, status=status)
    provider.on(f"{PLACE}/{DIGEST}", CONTENT)
    with pytest.raises(errors.Stalled, match=problem):
        await perform("tag", provider, client, digest=DIGEST, tag="v2")


@pytest.mark.parametrize(
    ("status", "failure"), [(429, errors.Waiting), (503, errors.Waiting), (500, errors.Unreachable)]
)
async def test_a_registry_that_is_busy_or_broken_is_asked_once(
    status: int, failure: type[Exception], provider: Any, client: Outbound
) -> None:
    provider.on(f"{PLACE}/v1", status=status)
    with pytest.raises(failure):
        await perform("resolve", provider, client, tag="v1")
    assert len(provider.asked(f"{PLACE}/v1")) == 1


async def test_a_refusal_without_words_is_asked_for_them(provider: Any, client: Outbound) -> None:
    provider.on(f"{PLACE}/v1", error("DENIED", "no pull for you"), status=403)
    with pytest.raises(errors.Stalled, match="DENIED: no pull for you"):
        await perform("resolve", provider, client, tag="v1")


async def test_what_is_deleted_already_was_deleted(provider: Any, client: Outbound) -> None:
    provider.on(f"{PLACE}/{DIGEST}", error("MANIFEST_UNKNOWN"), status=404)
    assert await perform("delete", provider, client, digest=DIGEST) == {"deleted": False}


async def test_a_registry_without_the_call_has_deleted_nothing(provider: Any, client: Outbound) -> None:
    provider.on(f"{PLACE}/{DIGEST}", "no such page", status=404)
    provider.on(f"{PLACE}/{DIGEST}", headers={"Docker-Content-Digest": DIGEST})
    with pytest.raises(errors.Stalled, match="deletes nothing by digest"):
        await perform("delete", provider, client, digest=DIGEST)


@pytest.mark.parametrize(("status", "body"), [(405, error("UNSUPPORTED")), (400, error("UNSUPPORTED"))])
async def test_deletion_that_is_switched_off_is_told(
    status: int, body: Any, provider: Any, client: Outbound
) -> None:
    provider.on(f"{PLACE}/{DIGEST}", body, status=status)
    with pytest.raises(errors.Stalled, match="it is switched off there"):
        await perform("delete", provider, client, digest=DIGEST)


async def test_tags_are_listed_over_pages_in_order(provider: Any, client: Outbound) -> None:
    link = f'<{TAGS}?n=2&last=v2>; rel="next"'
    provider.on(f"{TAGS}?n=1000", {"name": "acme/shop", "tags": ["v2", "latest"]}, headers={"Link": link})
    provider.on(f"{TAGS}?n=2&last=v2", {"name": "acme/shop", "tags": ["v1", 7, "no tag", "v1"]})
    assert await perform("list-tags", provider, client) == {"count": 3, "tags": ["latest", "v1", "v2"]}
    assert await perform("list-tags", provider, client, prefix="v") == {"count": 2, "tags": ["v1", "v2"]}


@pytest.mark.parametrize("tags", [None, []])
async def test_a_repository_may_have_no_tags(tags: Any, provider: Any, client: Outbound) -> None:
    provider.on(TAGS, {"name": "acme/shop", "tags": tags})
    assert await perform("list-tags", provider, client) == {"count": 0, "tags": []}


@pytest.mark.parametrize(
    "target", ["https://evil.example/v2/acme/shop/tags/list", "/v2/other/secret/tags/list"]
)
async def test_a_list_goes_on_nowhere_else(target: str, provider: Any, client: Outbound) -> None:
    provider.on(TAGS, {"tags": ["v1"]}, headers={"Link": f'<{target}>; rel="next"'})
    with pytest.raises(errors.Stalled, match="goes on at another address"):
        await perform("list-tags", provider, client)
    assert len(provider.asked(TAGS)) == 1


async def test_a_list_that_never_ends_is_left(
    provider: Any, client: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MAX_PAGES", 3)
    provider.on(TAGS, {"tags": ["v1"]}, headers={"Link": f'<{TAGS}?last=v1>; rel="next"'})
    with pytest.raises(errors.Stalled, match="more than 3 pages"):
        await perform("list-tags", provider, client)


@pytest.mark.parametrize("body", [[], {"tags": "v1"}, {"tags": {"v1": 1}}])
async def test_what_is_no_list_of_tags_is_told(body: Any, provider: Any, client: Outbound) -> None:
    provider.on(TAGS, body)
    with pytest.raises(errors.Stalled, match="no list of tags"):
        await perform("list-tags", provider, client)


async def test_no_more_tags_are_given_than_a_step_can_keep(provider: Any, client: Outbound) -> None:
    provider.on(TAGS, {"tags": [f"v{number:04}" for number in range(900)]})
    found = await perform("list-tags", provider, client)
    assert (found["count"], len(found["tags"])) == (900, operations.SHOWN)


async def test_a_manifest_that_is_too_big_is_not_read(
    provider: Any, client: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MAX_MANIFEST", 64)
    provider.on(f"{PLACE}/v1", CONTENT + " " * 100)
    with pytest.raises(errors.Stalled, match="more than 64 bytes"):
        await perform("resolve", provider, client, tag="v1")
