"""Manifests: all that we ship load, and one that is wrong anywhere is refused with the place named."""

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from connectors import catalogue, manifest, verify
from connectors.mistakes import ConfigError, ManifestError
from connectors.verify.unsigned import Unsigned
from connectors.webhook import Webhook
from pipewright.expressions import Template, inputs

FOLDER = Path(str(resources.files("connectors")))
FILES = sorted((FOLDER / "catalogue").glob("*.yaml"))
SCHEMA = json.loads((FOLDER / "schema.json").read_text())


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_verification_that_the_schema_offers_is_implemented() -> None:
    schema = SCHEMA["$defs"]["verify"]
    assert schema["properties"]["kind"]["enum"] == list(verify.KINDS)
    assert [rule["if"]["properties"]["kind"]["const"] for rule in schema["allOf"]] == list(verify.KINDS)


VERIFICATIONS: dict[str, dict[str, Any]] = {
    "GitHub": {"kind": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256="},
    "CircleCI": {"kind": "hmac", "header": "circleci-signature", "prefix": "v1=", "separator": ","},
    "Slack": {
        "kind": "hmac-timestamped",
        "header": "X-Slack-Signature",
        "prefix": "v0=",
        "signed": "v0:{timestamp}:{body}",
        "timestampHeader": "X-Slack-Request-Timestamp",
        "toleranceSeconds": 300,
    },
    "Buildkite": {
        "kind": "hmac-timestamped",
        "header": "X-Buildkite-Signature",
        "signed": "{timestamp}.{body}",
        "timestampField": "timestamp",
        "signatureField": "signature",
        "toleranceSeconds": 300,
    },
    "Standard Webhooks": {
        "kind": "hmac-timestamped",
        "header": "webhook-signature",
        "prefix": "v1,",
        "separator": " ",
        "signed": "{id}.{timestamp}.{body}",
        "timestampHeader": "webhook-timestamp",
        "idHeader": "webhook-id",
        "encoding": "base64",
        "keyEncoding": "base64",
        "toleranceSeconds": 300,
    },
    "GitLab": {"kind": "token", "header": "X-Gitlab-Token"},
    "Azure DevOps": {"kind": "basic", "username": "pipewright"},
    "Travis": {
        "kind": "rsa",
        "header": "Signature",
        "algorithm": "sha1",
        "keyUrl": "${{ config.baseUrl }}/config",
        "keyField": "config.notifications.webhook.public_key",
        "formField": "payload",
    },
    "Drone": {"kind": "http-signature", "toleranceSeconds": 300},
    "A signature with a key in base64": {
        "kind": "http-signature",
        "keyEncoding": "base64",
        "toleranceSeconds": 300,
    },
    "Pub/Sub": {
        "kind": "oidc",
        "issuers": ["https://accounts.google.com"],
        "jwksUrl": "https://www.googleapis.com/oauth2/v3/certs",
        "audience": "${{ config.audience }}",
        "email": "${{ config.serviceAccount }}",
    },
    "ECR": {"kind": "sns", "topicArn": "${{ config.topicArn }}", "toleranceSeconds": 3600},
    "CDEvents": {
        "kind": "one-of",
        "of": [{"kind": "hmac", "header": "X-Signature"}, {"kind": "token", "header": "Authorization"}],
    },
    "Docker Hub": {"kind": "none", "networks": ["192.0.2.0/24", "2001:db8::/32"]},
}


@pytest.mark.parametrize("options", VERIFICATIONS.values(), ids=VERIFICATIONS.keys())
def test_each_providers_verification_can_be_written(options: dict[str, Any]) -> None:
    data = github()
    data["webhook"]["verify"] = options
    found = manifest.parse(yaml.safe_dump(data), where="x").webhook
    assert found is not None
    assert isinstance(
        found.verify, type(verify.KINDS[options["kind"]](options, lambda _: Template("", inputs())))
    )
    data["webhook"]["verify"] = {**options, "colour": "red"}
    with pytest.raises(ManifestError, match="'colour'"):
        manifest.parse(yaml.safe_dump(data), where="x")


def test_the_verifications_that_are_written_are_of_all_kinds() -> None:
    by_code = {"code"}  # has a test of its own
    assert {options["kind"] for options in VERIFICATIONS.values()} == set(verify.KINDS) - by_code


def test_only_connectors_of_registries_that_prove_nothing_take_what_nobody_signed() -> None:
    hooks = {name: connector.webhook for name, connector in catalogue.load().items()}
    unsigned = {
        name
        for name, hook in hooks.items()
        if isinstance(hook, Webhook) and isinstance(hook.verify, Unsigned)
    }
    assert unsigned == {"docker-hub", "quay"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_shipped_manifest_is_valid_and_loads(file: Path) -> None:
    jsonschema.validate(yaml.safe_load(file.read_text()), SCHEMA)
    assert catalogue.load()[file.stem].name == file.stem


def github() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((FOLDER / "catalogue" / "github.yaml").read_text())
    return data


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(data: dict[str, Any]) -> None:
        at: Any = data
        for part in path[:-1]:
            at = at[part]
        if to is None:
            del at[path[-1]]
        else:
            at[path[-1]] = to

    return apply


WRONG: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another version": (change("apiVersion", to="connector/v2"), "$.apiVersion"),
    "an unknown field": (change("colour", to="red"), "'colour'"),
    "no check": (change("check", to=None), "'check' is a dependency of 'http'"),
    "a history of one who is not called": (
        lambda data: [data.pop(name) for name in ("http", "credentials", "check", "actions")],  # type: ignore[arg-type, return-value]
        "'http' is a dependency of 'sync'",
    ),
    "an unknown verification": (change("webhook", "verify", "kind", to="md5"), "$.webhook.verify.kind"),
    "an option of another kind": (change("webhook", "verify", "signed", to="{body}"), "'signed'"),
    "a weak algorithm": (change("webhook", "verify", "algorithm", to="md5"), "$.webhook.verify.algorithm"),
    "a network that is none": (
        change("webhook", "verify", to={"kind": "none", "networks": ["192.0.2.7/24"]}),
        "webhook.verify: 192.0.2.7/24 has host bits set",
    ),
    "an operation with a request's body": (
        lambda data: data["actions"].update(
            tag={
                "title": "Tag",
                "description": "Tags.",
                "oci": "tag",
                "idempotent": True,
                "body": {"x": "y"},
                "input": data["actions"]["comment"]["input"],
                "output": {},
            }
        ),
        "$.actions.tag: ",
    ),
    "an operation and a request": (change("actions", "comment", "oci", to="tag"), "$.actions.comment"),
    "an unknown operation": (
        lambda data: data["actions"]["comment"].update(oci=data["actions"]["comment"].pop("post")),
        "$.actions.comment",
    ),
    "a login that grants nothing": (
        change("http", "auth", to={"kind": "distribution", "login": {"kind": "githubApp"}}),
        "$.http.auth",
    ),
    "a login that is granted nowhere": (
        change(
            "http",
            "auth",
            to={
                "kind": "distribution",
                "login": {
                    "kind": "sigv4",
                    "accessKeyIdField": "token",
                    "secretAccessKeyField": "token",
                    "region": "x",
                    "service": "ecr",
                },
            },
        ),
        "$.http.auth",
    ),
    "two proofs in one header": (
        change(
            "webhook",
            "verify",
            to={"kind": "one-of", "of": [{"kind": "hmac", "header": "S"}, {"kind": "token", "header": "S"}]},
        ),
        "webhook.verify: two kinds of one-of look at the same header",
    ),
    "a proof among several that needs a key": (
        change(
            "webhook",
            "verify",
            to={"kind": "one-of", "of": [{"kind": "token", "header": "S"}, {"kind": "sns"}]},
        ),
        "$.webhook.verify.of[1]",
    ),
    "an id in the header that proves the sender": (
        change("webhook", "delivery", "header", to="X-Hub-Signature-256"),
        "webhook.delivery.header: x-hub-signature-256 proves the sender and is not kept",
    ),
    "an id in two places": (
        change("webhook", "delivery", "digest", to="body"),
        "$.webhook.delivery",
    ),
    "several events without a name": (
        change("webhook", "event", to=None),
        "webhook.events: without webhook.event all must have one name",
    ),
    "a form without a field": (
        change("webhook", "body", "field", to=None),
        "webhook.body.field: a form needs it, and nothing else has it",
    ),
    "an id that does not compile": (
        change("webhook", "delivery", to={"expression": "item.id"}),
        "webhook.delivery.expression: line 1, column 5: nothing is called 'item.id' here;",
    ),
    "an element without a list": (
        change("webhook", "events", 0, "map", "sha", to="item.sha"),
        "webhook.events[0].map.sha: line 1, column 5: nothing is called 'item.sha' here;",
    ),
    "times that are not told": (
        change(
            "webhook",
            "verify",
            to={
                "kind": "hmac-timestamped",
                "header": "S",
                "signed": "{timestamp}.{body}",
                "toleranceSeconds": 300,
            },
        ),
        "webhook.verify: the time is in timestampHeader or in timestampField",
    ),
    "a topic of something unknown": (
        change(
            "webhook",
            "verify",
            to={"kind": "sns", "topicArn": "${{ secret.topic }}", "toleranceSeconds": 300},
        ),
        "webhook.verify: line 1, column 11: nothing is called 'secret.topic'",
    ),
    "a header that is none": (
        change("webhook", "delivery", "header", to="X Y"),
        "$.webhook.delivery.header",
    ),
    "a path that is none": (change("check", "get", to="rate_limit"), "$.check.get"),
    "a path with a query": (change("check", "get", to="/rate_limit?x=1"), "$.check.get"),
    "a token that no credential has": (
        change("http", "auth", 0, "field", to="key"),
        "http.auth[0]: no credential is called key",
    ),
    "a mapping that does not compile": (
        change("webhook", "events", 0, "map", "sha", to="body.workflow_run."),
        "webhook.events[0].map.sha: line 1, column 19",
    ),
    "a mapping of something unknown": (
        change("webhook", "events", 0, "map", "sha", to="payload.sha"),
        "webhook.events[0].map.sha: line 1, column 8: nothing is called 'payload.sha' here;",
    ),
    "a condition that is no bool": (
        change("webhook", "events", 1, "when", to="body.action"),
        "webhook.events[1].when: line 1, column 1: must be true or false",
    ),
    "a path over something unknown": (
        change("actions", "comment", "post", to="/repos/${{ inputs.project }}"),
        "actions.comment.post: line 1, column 18: nothing is called 'inputs.project'",
    ),
    "an action of two methods": (change("actions", "comment", "get", to="/x"), "$.actions.comment"),
    "an input without a type": (
        change("actions", "comment", "input", "properties", "body", to={"description": "x"}),
        "$.actions.comment.input.properties.body",
    ),
    "a pattern that is none": (
        change("config", "properties", "baseUrl", "pattern", to="["),
        "the schema of config",
    ),
}


@pytest.mark.parametrize(("spoil", "place"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_manifest_is_refused_with_the_place(
    spoil: Callable[[dict[str, Any]], None], place: str
) -> None:
    data = github()
    spoil(data)
    with pytest.raises(ManifestError) as refused:
        manifest.parse(yaml.safe_dump(data), where="github.yaml")
    assert str(refused.value).startswith("github.yaml: ")
    assert place in str(refused.value)


def test_what_is_no_yaml_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"x\.yaml: not YAML"):
        manifest.parse("a: [", where="x.yaml")


GITHUB = catalogue.load()["github"]


def test_settings_get_their_defaults() -> None:
    assert GITHUB.configure({}) == {"baseUrl": "https://api.github.com"}
    assert GITHUB.configure({"baseUrl": "https://git.example.com/api/v3"}) == {
        "baseUrl": "https://git.example.com/api/v3"
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"baseUrl": 1}, "baseUrl must be of type string"),
        ({"baseUrl": "ftp://x"}, "baseUrl must match"),
        ({"baseUrl": "https://user:hunter2@x"}, "baseUrl must match"),
        ({"url": "https://x"}, "url is not known; known are baseUrl"),
    ],
)
def test_wrong_settings_are_named_without_their_values(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        GITHUB.configure(config)
    assert message in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_an_actions_inputs_are_known_before_it_runs() -> None:
    comment = GITHUB.actions["comment"]
    assert comment.problems(["project", "sha", "body"]) == ()
    assert comment.problems(["project", "text"]) == (
        "sha is required",
        "body is required",
        "text is not an input of comment",
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"project": "acme", "run": "1"}, "project must match"),
        ({"project": "acme/shop/x", "run": "1"}, "project must match"),
        ({"project": "acme/shop", "run": "1/cancel"}, "run must match"),
        ({"project": "acme/shop"}, "run is required"),
        ({"project": "acme/shop", "run": 1}, "run must be of type string"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GITHUB.actions["rerun-failed-jobs"].parse(inputs)


def test_rendered_texts_become_what_the_schema_wants() -> None:
    data = github()
    data["actions"]["comment"]["input"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "count": {"type": "integer", "description": "x"},
            "share": {"type": "number", "description": "x"},
            "loud": {"type": "boolean", "description": "x"},
            "text": {"type": "string", "description": "x"},
        },
    }
    action = manifest.parse(yaml.safe_dump(data), where="x").actions["comment"]
    assert action.parse({"count": "3", "share": "0.5", "loud": "true", "text": "7"}) == {
        "count": 3,
        "share": 0.5,
        "loud": True,
        "text": "7",
    }
    with pytest.raises(ConfigError, match="count must be of type integer"):
        action.parse({"count": "three"})


def test_only_what_rules_read_of_a_body_is_handed_to_them() -> None:
    assert isinstance(GITHUB.webhook, Webhook)
    reads = GITHUB.webhook.reads["workflow_job"]
    assert reads is not None
    assert set(reads) == {"action", "repository", "workflow_job"}
    assert set(reads["repository"]) == {"full_name"}
