"""Types → CustomResourceDefinitions, and the command that writes them.

``python -m pipewright.api.crd`` writes ``crds/`` and the tables of fields in ``docs/``; ``--check``
only names those that differ. They are committed, so that a cluster needs nothing of ours to know the
kinds, and a review sees what a change of a type does to the API. Same types, same bytes.
"""

import argparse
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipewright.api import reference, yamltext
from pipewright.api.meta import CATEGORY, Base, Column, Resource
from pipewright.api.scalars import LABEL_PATTERN
from pipewright.api.schema import Schema, structural
from pipewright.api.v1alpha1 import KINDS

CHECKOUT = Path(__file__).resolve().parents[3]
_HEAD = "# Generated from operator/pipewright/api by `make crds`: change the types, not this file.\n"

_TYPE_META = {
    "apiVersion": {
        "type": "string",
        "description": "The version of the schema that this object is written in: pipewright.dev/v1alpha1.",
    },
    "kind": {"type": "string", "description": "The kind of this object."},
}


def definition(kind: type[Resource]) -> dict[str, Any]:
    """Return the CustomResourceDefinition of ``kind``.

    Raises:
        SchemaError: a type of it cannot become a CRD.
    """
    names = {
        "plural": kind.plural,
        "singular": kind.singular,
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "shortNames": list(kind.short_names),
        "categories": [CATEGORY],
    }
    version = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in kind.printer_columns],
        "selectableFields": [{"jsonPath": path} for path in kind.selectable_fields],
        "schema": {"openAPIV3Schema": _root(kind)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": kind.scope,
            "names": names,
            "versions": [{key: value for key, value in version.items() if value != []}],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    spelled = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
    }
    return spelled | ({"priority": column.priority} if column.priority else {})


def _root(kind: type[Resource]) -> Schema:
    """Return the schema of the whole object; of metadata a CRD may bound the name only."""
    name = {
        "type": "string",
        "minLength": 1,
        "maxLength": kind.name_length,
        "pattern": LABEL_PATTERN,
        "description": f"The object's name: a DNS label of at most {kind.name_length} characters.",
    }
    return {
        "type": "object",
        "description": inspect.getdoc(kind),
        **dict(_extra(kind)),
        "required": ["spec"],
        "properties": {
            **_TYPE_META,
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": _part(kind, "spec"),
            "status": _part(kind, "status"),
        },
    }


def _extra(kind: type[Resource]) -> Mapping[str, Any]:
    extra = kind.model_config.get("json_schema_extra")
    return extra if isinstance(extra, Mapping) else {}


def _part(kind: type[Resource], part: str) -> Schema:
    """Return the schema of ``spec`` or ``status``; a spec that may be left out gets its defaults."""
    field = kind.model_fields[part]
    assert isinstance(field.annotation, type)
    assert issubclass(field.annotation, Base)
    schema = structural(field.annotation) | {"description": field.description}
    return schema if part == "status" or field.is_required() else schema | {"default": {}}


# -- Files ---------------------------------------------------------------------------------------------------


def generated(root: Path) -> dict[Path, str]:
    """Return the text of each generated file of the checkout ``root``.

    Raises:
        SchemaError: a type cannot become a CRD.
        ValueError: a page in ``docs/`` lacks the marks between which its table goes.
    """
    texts = {}
    for kind in KINDS:
        document = definition(kind)
        texts[root / "crds" / f"{kind.plural}.yaml"] = _HEAD + yamltext.dump(document)
        page = root / "docs" / f"{kind.singular}.md"
        if page.exists():
            texts[page] = reference.replace(page.read_text(encoding="utf-8"), document)
    return texts


def differing(root: Path) -> list[Path]:
    """Return the generated files of ``root`` that are not what the types say, and CRDs of no kind."""
    wanted = generated(root)
    left_over = [path for path in (root / "crds").glob("*.yaml") if path not in wanted]
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    return sorted(left_over + stale)


def write(root: Path) -> None:
    """Make the generated files of ``root`` what the types say; the CRD of a kind that is no more goes."""
    texts = generated(root)
    for path in differing(root):
        text = texts.get(path)
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the files; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipewright.api.crd", description="Generate the CRDs.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file differs")
    parser.add_argument("--root", type=Path, default=CHECKOUT, metavar="FOLDER", help="the checkout")
    given = parser.parse_args(arguments)
    if not given.check:
        write(given.root)
        return 0
    stale = differing(given.root)
    for path in stale:
        sys.stderr.write(f"{path} is not what the types say: run `make crds` and commit it\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
