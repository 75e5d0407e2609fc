"""Connectors from outside: folders and installed packages; what is broken or not listed stops nobody."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors import catalogue, plugins
from connectors.verify import Coded
from connectors.webhook import Webhook

ROOT = Path(__file__).parents[3]
ACME = ROOT / "examples" / "connector-acme"
DRONE = (catalogue.folder() / "drone.yaml").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "connectors"
    made.mkdir()
    return made


def named(name: str) -> str:
    return DRONE.replace("name: drone", f"name: {name}", 1)


def test_without_settings_there_is_what_this_release_has() -> None:
    found = plugins.load()
    assert found.connectors == catalogue.load()
    assert found.broken == {}


def test_a_manifest_in_a_folder_is_a_connector(folder: Path) -> None:
    (folder / "ours.yaml").write_text(named("ours"))
    (folder / "README.md").write_text("no manifest")
    found = plugins.load(folders=[folder])
    assert set(found.connectors) - set(catalogue.load()) == {"ours"}
    assert found.broken == {}


def test_what_is_wrong_in_a_folder_is_told_and_the_rest_works(folder: Path, tmp_path: Path) -> None:
    (folder / "ours.yaml").write_text(named("ours"))
    (folder / "bad.yaml").write_text("apiVersion: connector/v2")
    (folder / "other.yaml").write_text(named("theirs"))
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe")
    (folder / "large.yaml").write_text("#" * (plugins.LARGEST + 1))
    (folder / "drone.yaml").write_text(DRONE)
    found = plugins.load(folders=[folder, tmp_path / "nowhere"])
    assert set(found.connectors) - set(catalogue.load()) == {"ours"}
    assert found.connectors["drone"] is catalogue.load()["drone"]
    reasons = dict(found.broken)
    assert reasons.pop(f"drone of {folder}/drone.yaml").startswith("drone is a connector of this release")
    assert reasons.pop(str(tmp_path / "nowhere")).startswith("connectors.folders: cannot read")
    assert "metadata.name is theirs" in reasons.pop("other")
    assert "is no text in UTF-8" in reasons.pop("bytes")
    assert "at most 1024 KiB" in reasons.pop("large")
    assert "bad.yaml: $" in reasons.pop("bad")
    assert reasons == {}


def test_of_two_that_want_one_name_neither_is_used(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "more"
    other.mkdir()
    for place in (folder, other):
        (place / "ours.yaml").write_text(named("ours"))
    found = plugins.load(folders=[folder, other])
    assert "ours" not in found.connectors
    assert found.broken["ours"].endswith("have a connector of this name: keep one of them")


# --- packages ----------------------------------------------------------------------------------------------

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution on the path, as an installer does."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def make(package: str, points: str, **modules: str) -> None:
        info = site / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[pipewright.connectors]\n{points}\n")
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_listed_package_brings_its_connector_with_its_code(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ACME / "src"))
    install("acme-connector", "acme = acme_connector:CONNECTOR")
    found = plugins.load(packages=["Acme_Connector"])
    assert found.broken == {}
    acme = found.connectors["acme"]
    assert isinstance(acme.webhook, Webhook)
    assert isinstance(acme.webhook.verify, Coded)
    assert acme.webhook.verify.proofs == {"x-acme-proof"}
    assert acme.actions["retry-failed"].code is not None
    assert acme.sync is not None
    assert acme.sync.lister is not None


def test_code_of_a_package_that_is_not_listed_is_never_loaded(install: Install, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    install("sly", "sly = sly_module:CONNECTOR", sly_module=f"open({str(trace)!r}, 'w')")
    found = plugins.load(packages=[])
    assert "connectors.packages in the settings does not list" in found.broken["sly"]
    assert not trace.exists()
    assert "sly_module" not in sys.modules


def test_a_package_that_is_not_listed_takes_no_name_from_another(install: Install, folder: Path) -> None:
    install("sly", "ours = sly_module:CONNECTOR\ngithub = sly_module:CONNECTOR", sly_module="")
    (folder / "ours.yaml").write_text(named("ours"))
    found = plugins.load(folders=[folder])
    assert "ours" in found.connectors
    assert found.broken == {}


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("raise SystemExit(3)", "b_module:CONNECTOR cannot be loaded: SystemExit"),
        ("import no_such_thing", "cannot be loaded: ModuleNotFoundError"),
        ("CONNECTOR = 'x'", "is no connectors.sdk.Connector"),
        (
            "from connectors import sdk\nCONNECTOR = sdk.Connector(text='a: [', where='x.yaml')",
            "x.yaml: not YAML",
        ),
        (
            f"from connectors import sdk\nCONNECTOR = sdk.Connector(text={named('other')!r}, where='x.yaml')",
            "metadata.name is other: the entry point b must be called so, too",
        ),
    ],
)
def test_a_broken_package_is_told_and_the_rest_works(install: Install, module: str, reason: str) -> None:
    install("b", "b = b_module:CONNECTOR", b_module=module)
    found = plugins.load(packages=["b"])
    assert found.connectors == catalogue.load()
    assert reason in found.broken["b"]
    assert found.broken["b"].startswith("the package b: ")


def test_a_listed_package_that_is_not_there_is_told() -> None:
    found = plugins.load(packages=["nowhere"])
    assert found.broken == {
        "nowhere": "connectors.packages: nowhere is not installed, or brings no connector"
    }
