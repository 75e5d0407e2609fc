"""Settings: read once, refused early, with the field's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipewright import settings, settings_schema

GOOD: dict[str, Any] = {
    "component": "provisioner",
    "controllers": ["tenant"],
    "identity": "provisioner-0",
    "listen": {"port": 8080},
    "platformDatabase": {"dsnFile": "/run/platform.dsn"},
    "servers": [{"name": "main", "host": "db", "port": 5432}],
}


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "settings.yaml"
    merged = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(merged))
    return path


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    found = settings.read(written(tmp_path))
    assert (found.component, found.system_namespace, found.servers[0].name) == (
        "provisioner",
        "pipewright-system",
        "main",
    )


@pytest.mark.parametrize("key", ["pool", "node-restriction.kubernetes.io/pool", "a.b/C_d.e"])
def test_a_server_names_the_nodes_of_its_tenants(key: str, tmp_path: Path) -> None:
    server = {**GOOD["servers"][0], "nodeSelector": {key: "eu-1", "gpu": ""}}
    [found] = settings.read(written(tmp_path, servers=[server])).servers
    assert found.node_selector == {key: "eu-1", "gpu": ""}


def test_how_large_bodies_may_be_has_a_default(tmp_path: Path) -> None:
    found = settings.read(written(tmp_path, gateway={"baseUrl": "http://gateway"})).gateway
    assert found
    assert (found.hook_body_bytes, found.import_body_bytes) == (1048576, 67108864)


VAULT = {"address": "https://vault", "role": "pipewright", "jwtFile": "/run/vault.jwt"}


def test_vault_takes_a_role_or_a_token_or_is_not_there(tmp_path: Path) -> None:
    assert settings.read(written(tmp_path)).vault is None
    by_role = settings.read(written(tmp_path, vault=VAULT)).vault
    assert by_role
    assert (by_role.role, by_role.token_file) == ("pipewright", None)
    token = {"address": "https://vault", "tokenFile": "/run/vault.token"}
    by_token = settings.read(written(tmp_path, vault=token)).vault
    assert by_token
    assert by_token.token_file == Path("/run/vault.token")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown component": ({"component": "other"}, "component"),
    "a missing identity": ({"identity": None}, "identity"),
    "an unknown field": ({"vauIt": {}}, "vauIt"),
    "two ways into Vault": ({"vault": {**VAULT, "tokenFile": "/run/token"}}, "vault: .*not both"),
    "no way into Vault": ({"vault": {"address": "https://vault"}}, "vault: .*tokenFile"),
    "half a way into Vault": ({"vault": {"address": "https://vault", "role": "r"}}, "vault: .*jwtFile"),
    "no server": ({"servers": []}, "servers"),
    "two servers of one name": ({"servers": [*GOOD["servers"], *GOOD["servers"]]}, "the name main"),
    "a server without room": ({"servers": [{**GOOD["servers"][0], "capacity": 0}]}, r"servers\.0\.capacity"),
    "a region that no Tenant can name": (
        {"servers": [{**GOOD["servers"][0], "region": "EU West"}]},
        r"servers\.0\.region",
    ),
    "a node label that is none": (
        {"servers": [{**GOOD["servers"][0], "nodeSelector": {"EU pool": "a"}}]},
        r"servers\.0\.nodeSelector",
    ),
    "two node labels in the place of one": (
        {"servers": [{**GOOD["servers"][0], "nodeSelector": {"pool": "a,disk=ssd"}}]},
        r"servers\.0\.nodeSelector\.pool",
    ),
    "more node labels than anybody needs": (
        {"servers": [{**GOOD["servers"][0], "nodeSelector": {f"pool-{i}": "a" for i in range(17)}}]},
        r"servers\.0\.nodeSelector",
    ),
    "a port that is none": ({"listen": {"port": 70000}}, r"listen\.port"),
    "a hook's body larger than providers send": (
        {"gateway": {"baseUrl": "http://gateway", "hookBodyBytes": 26214401}},
        r"gateway\.hookBodyBytes",
    ),
    "an import of nothing": (
        {"gateway": {"baseUrl": "http://gateway", "importBodyBytes": 0}},
        r"gateway\.importBodyBytes",
    ),
    "a period of nothing": ({"resyncSeconds": 0}, "resyncSeconds"),
    "a store that is neither a folder nor a bucket": (
        {"artifacts": {"url": "http://store"}}, r"artifacts\.url",
    ),
    "a store with a key in its address": (
        {"artifacts": {"url": "s3://key:secret@bucket"}}, r"artifacts\.url",
    ),
    "half a key": (
        {"artifacts": {"url": "s3://bucket", "accessKeyIdFile": "/run/key"}},
        "artifacts: .*accessKeyIdFile and secretAccessKeyFile",
    ),
    "a folder in a region": (
        {"artifacts": {"url": "file:///a", "region": "eu"}}, "artifacts: .*for a bucket",
    ),
    "an MLflow without a scheme": ({"mlflow": {"uri": "mlflow.example.com"}}, r"mlflow\.uri"),
    "an MLflow with a password in its address": ({"mlflow": {"uri": "https://a:b@mlflow"}}, r"mlflow\.uri"),
    "a user of MLflow without a password": (
        {"mlflow": {"uri": "https://mlflow", "username": "runner"}}, "mlflow: .*username needs tokenFile",
    ),
    "an alias that MLflow refuses": (
        {"mlflow": {"uri": "https://mlflow", "alias": "1st"}}, r"mlflow\.alias",
    ),
    "a folder for a Ray on other machines": (
        {"artifacts": {"url": "file:///a"}, "ray": {"address": "http://ray-head.ray.svc:8265"}},
        "does not see this folder: use a bucket",
    ),
}  # fmt: skip


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "http://localhost:8265", "http://[::1]:8265"])
def test_a_ray_on_this_machine_sees_its_folders(address: str, tmp_path: Path) -> None:
    settings.read(written(tmp_path, artifacts={"url": "file:///a"}, ray={"address": address}))


def test_a_ray_elsewhere_has_a_bucket(tmp_path: Path) -> None:
    bucket = {"url": "s3://bucket/folder", "region": "eu-central-1", "endpoint": "https://s3.example.com"}
    read = settings.read(written(tmp_path, artifacts=bucket, ray={"address": "http://ray-head.ray.svc:8265"}))
    assert read.artifacts
    assert read.artifacts.is_bucket


def test_an_mlflow_needs_an_address_alone(tmp_path: Path) -> None:
    assert settings.read(written(tmp_path)).mlflow is None
    read = settings.read(written(tmp_path, mlflow={"uri": "https://mlflow.example.com/team"})).mlflow
    assert read
    assert (read.token_file, read.experiment, read.alias) == (None, "pipewright", "active")


@pytest.mark.parametrize("sentence", BAD)
def test_what_is_wrong_is_named(sentence: str, tmp_path: Path) -> None:
    changes, field = BAD[sentence]
    with pytest.raises(settings.SettingsError, match=field):
        settings.read(written(tmp_path, **changes))


def test_the_committed_schema_is_of_these_settings_and_refuses_what_they_refuse() -> None:
    committed = settings_schema.CHECKOUT / settings_schema.PLACE
    assert committed.read_text() == settings_schema.text()
    schema = jsonschema.Draft202012Validator(json.loads(committed.read_text()))
    assert schema.is_valid(GOOD)
    accepted = [
        sentence
        for sentence, (changes, _) in BAD.items()
        if schema.is_valid({key: value for key, value in {**GOOD, **changes}.items() if value is not None})
    ]
    # which a schema cannot say
    assert accepted == ["two servers of one name", "a folder for a Ray on other machines"]


def test_a_missing_variable_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPEWRIGHT_SETTINGS", raising=False)
    with pytest.raises(settings.SettingsError, match="set PIPEWRIGHT_SETTINGS"):
        settings.load()


def test_a_missing_file_and_one_that_is_no_yaml_are_named(tmp_path: Path) -> None:
    with pytest.raises(settings.SettingsError, match=r"nowhere\.yaml"):
        settings.read(tmp_path / "nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(settings.SettingsError, match="is not YAML"):
        settings.read(tmp_path / "broken.yaml")


def test_a_secret_file_is_read_without_its_line_break(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("value\n")
    assert settings.read_secret(tmp_path / "s") == "value"
    (tmp_path / "e").write_text("\n")
    with pytest.raises(settings.SettingsError, match="is empty"):
        settings.read_secret(tmp_path / "e")
