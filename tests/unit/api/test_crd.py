"""The committed CRDs and pages are what the types say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipewright.api import crd, reference, yamltext
from pipewright.api.meta import Resource
from pipewright.api.v1alpha1 import KINDS, Tenant, WorkflowRun

CHECKOUT = Path(__file__).parents[3]


def schema_of(kind: type[Resource]) -> dict[str, Any]:
    schema: dict[str, Any] = crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def below(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from below(field, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if part in schema:
            yield from below(schema[part], f"{path}.{part}")


def test_the_committed_files_are_what_the_types_say() -> None:
    assert crd.differing(CHECKOUT) == []


def test_each_kind_has_its_page() -> None:
    assert {path.stem for path in (CHECKOUT / "docs").glob("*.md")} >= {kind.singular for kind in KINDS}


def test_writing_then_checking_finds_no_difference(tmp_path: Path) -> None:
    assert crd.main(["--root", str(tmp_path)]) == 0
    assert crd.main(["--root", str(tmp_path), "--check"]) == 0
    assert {path.name for path in (tmp_path / "crds").iterdir()} == {f"{kind.plural}.yaml" for kind in KINDS}


def test_a_file_that_differs_is_named_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crd.write(tmp_path)
    changed = tmp_path / "crds" / "tenants.yaml"
    changed.write_text("kind: Other\n")
    assert crd.main(["--root", str(tmp_path), "--check"]) == 1
    assert f"{changed} is not what the types say: run `make crds`" in capsys.readouterr().err
    assert changed.read_text() == "kind: Other\n"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    crd.write(tmp_path)
    (tmp_path / "crds" / "models.yaml").unlink()
    assert crd.differing(tmp_path) == [tmp_path / "crds" / "models.yaml"]


def test_the_crd_of_a_kind_that_is_no_more_goes(tmp_path: Path) -> None:
    crd.write(tmp_path)
    left_over = tmp_path / "crds" / "gadgets.yaml"
    left_over.write_text("kind: CustomResourceDefinition\n")
    assert crd.differing(tmp_path) == [left_over]
    crd.write(tmp_path)
    assert not left_over.exists()


def test_a_page_whose_table_is_old_is_named_and_renewed(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "tenant.md"
    page.parent.mkdir(parents=True)
    page.write_text(f"# Tenant\n\n{reference.BEGIN}\nold\n{reference.END}\n\nThe end.\n")
    crd.write(tmp_path)
    text = page.read_text()
    assert text.startswith("# Tenant\n")
    assert text.endswith("\nThe end.\n")
    assert "| `database.connectionLimit` | integer (1 to 1000) | `20` | How many connections" in text
    assert "old" not in text.split("###")[0]


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="the table of fields goes between"):
        reference.replace("# Tenant\n", crd.definition(Tenant))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_same_types_give_the_same_bytes(kind: type[Resource]) -> None:
    assert yamltext.dump(crd.definition(kind)) == yamltext.dump(crd.definition(kind))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_text_of_a_crd_reads_as_the_crd(kind: type[Resource]) -> None:
    assert yaml.safe_load(yamltext.dump(crd.definition(kind))) == crd.definition(kind)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=12)
    | st.sampled_from(["on", "No", "null", "1e3", "0x1F", "~", "- a", "a: b", "a #b", "12:30", ""])
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["on", "y", "a", "b-c", "-", "1"]),
    st.recursive(
        SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text("ony"), inner), max_leaves=8
    ),
    min_size=1,
)


@settings(max_examples=60)
@given(DOCUMENTS)
def test_any_json_document_reads_as_it_was_written(document: dict[str, Any]) -> None:
    assert yaml.safe_load(yamltext.dump(document)) == document


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_each_field_has_a_sentence(kind: type[Resource]) -> None:
    silent = [
        path
        for path, field in below(schema_of(kind), "")
        if path.count(".") > 0
        and not path.endswith((".items", ".additionalProperties", ".metadata"))
        and not field.get("description", "").endswith(".")
    ]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_only_words_of_a_structural_schema_are_used(kind: type[Resource]) -> None:
    foreign = {
        "$ref",
        "$defs",
        "title",
        "const",
        "oneOf",
        "allOf",
        "examples",
        "discriminator",
        "propertyNames",
    }
    assert [path for path, field in below(schema_of(kind), "") if foreign & field.keys()] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_each_rule_has_a_message(kind: type[Resource]) -> None:
    rules = [
        rule for _, field in below(schema_of(kind), "") for rule in field.get("x-kubernetes-validations", [])
    ]
    assert rules
    assert all(rule["rule"] and rule["message"] for rule in rules)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_each_kind_is_listed_by_category_with_readiness_reason_and_age(kind: type[Resource]) -> None:
    spec = crd.definition(kind)["spec"]
    columns = [column["name"] for column in spec["versions"][0]["additionalPrinterColumns"]]
    summary = "Succeeded" if kind is WorkflowRun else "Ready"
    assert spec["names"]["categories"] == ["pipewright"]
    assert spec["versions"][0]["subresources"] == {"status": {}}
    assert columns[:2] == [summary, "Reason"]
    assert columns[3] == "Age"


def test_short_names_are_unique() -> None:
    short_names = [name for kind in KINDS for name in kind.short_names]
    assert sorted(short_names) == ["pint", "pml", "ptn", "pwf", "pwr"]
