"""The settings files of the three components: each names its own identity and no one else's secrets."""

import stat
from pathlib import Path

import pytest
import yaml

from dev import layout, product


@pytest.fixture
def written(tmp_path: Path) -> dict[str, dict]:
    folder = tmp_path / "state"
    chosen = layout.create(folder, durable=False, environment={})
    product.write_settings(folder, chosen, database=("127.0.0.1", 5432))
    found = {}
    for component in ("provisioner", "runner", "gateway"):
        path = product.settings_file(folder, component)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        found[component] = yaml.safe_load(path.read_text())
    return found


def test_only_the_provisioner_may_make_databases(written: dict[str, dict]) -> None:
    servers = {name: settings["servers"][0] for name, settings in written.items()}
    assert [name for name, server in servers.items() if "provisionerDsnFile" in server] == ["provisioner"]


def test_the_gateway_has_its_private_key_and_no_vault(written: dict[str, dict]) -> None:
    assert "vault" not in written["gateway"]
    assert "privateKeyFile" in written["gateway"]["gateway"]
    assert "privateKeyFile" not in written["runner"]["gateway"]
    assert "gateway" not in written["provisioner"]


def test_the_controllers_are_split_by_privilege(written: dict[str, dict]) -> None:
    assert {name: settings["controllers"] for name, settings in written.items()} == {
        "provisioner": ["tenant"],
        "runner": ["integration", "workflow", "workflowrun", "model"],
        "gateway": [],
    }


def test_each_component_listens_on_a_port_of_its_own(written: dict[str, dict]) -> None:
    assert len({settings["listen"]["port"] for settings in written.values()}) == 3


def test_a_component_only_names_files_of_its_own_or_public_ones(written: dict[str, dict]) -> None:
    for component, settings in written.items():
        others = {"provisioner", "runner", "gateway"} - {component}
        named = [value for value in _texts(settings) if "/identities/" in value]
        assert named
        assert not [value for value in named if any(f"/identities/{other}/" in value for other in others)]


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []
