"""The connectors' pages: generated from the manifests, committed, and one for each."""

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from connectors import catalogue, coverage, docs, overview, verify, webhook

CONNECTORS = catalogue.load()
PAGES = docs.CHECKOUT / docs.PLACE


def test_the_committed_pages_are_what_the_manifests_say() -> None:
    assert docs.differing(docs.CHECKOUT) == [], "run `make crds` and commit what it writes"


def test_a_page_that_was_changed_or_is_of_no_connector_is_found_and_mended(tmp_path: Path) -> None:
    assert docs.main(["--root", str(tmp_path)]) == 0
    assert docs.main(["--check", "--root", str(tmp_path)]) == 0
    folder = tmp_path / docs.PLACE
    (folder / "github.md").write_text("changed")
    (folder / "travel.md").write_text("of no connector")
    assert docs.differing(tmp_path) == [folder / "github.md", folder / "travel.md"]
    assert docs.main(["--check", "--root", str(tmp_path)]) == 1
    docs.write(tmp_path)
    assert docs.differing(tmp_path) == []


@pytest.mark.parametrize("name", CONNECTORS)
def test_a_page_names_all_that_the_connector_wants_and_does(name: str) -> None:
    found, page = CONNECTORS[name], (PAGES / f"{name}.md").read_text()
    words = {*found.credentials, *found.config["properties"], *found.actions, found.maturity}
    words |= {
        field for action in found.actions.values() for field in (*action.input["properties"], *action.output)
    }
    assert [word for word in sorted(words) if f"`{word}`" not in page and f"### {word}" not in page] == []
    assert f"[`{name}`]({name}.md)" in (PAGES / "README.md").read_text()


def test_of_what_a_ci_system_has_not_its_manifest_says_why() -> None:
    found = {name: data for name, data in docs.manifests().items() if data["metadata"]["category"] == "ci"}
    said = {name: coverage.lacking(data) for name, data in found.items()}
    without = [(name, part) for name, parts in said.items() for part, reason in parts.items() if not reason]
    assert without == [], "give metadata.lacks a sentence"
    for name, parts in said.items():
        page = (PAGES / f"{name}.md").read_text()
        assert [reason for reason in parts.values() if reason not in page] == []


@pytest.mark.parametrize("name", CONNECTORS)
def test_the_integration_of_a_page_is_one_that_the_connector_takes(name: str) -> None:
    found, page = CONNECTORS[name], (PAGES / f"{name}.md").read_text()
    block = page.split("```yaml\n")[1].split("```")[0]
    spec = yaml.safe_load(textwrap.dedent(block))["spec"]
    assert found.configure(spec.get("config", {})) is not None
    (project,) = spec["projects"]
    asked = [action.input["properties"].get("project", {}) for action in found.actions.values()]
    assert [each["pattern"] for each in asked if not re.search(each.get("pattern", ""), project)] == []


def test_each_word_of_the_schema_has_its_sentence() -> None:
    found = webhook.schema()
    assert set(found["properties"]["metadata"]["properties"]["maturity"]["enum"]) == set(overview.MATURITY)
    assert set(found["properties"]["metadata"]["properties"]["tried"]["enum"]) == set(overview.TRIED)
    assert set(found["properties"]["metadata"]["properties"]["lacks"]["properties"]) == set(coverage.PARTS)
    assert {*docs.PROOFS, "one-of"} == set(verify.KINDS)
    assert set(found["$defs"]["webhookBody"]["properties"]["accepts"]["items"]["enum"]) == set(docs.SHAPES)
