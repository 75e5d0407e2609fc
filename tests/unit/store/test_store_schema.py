"""The two script trees: one line of revisions each, with a sentence, forward only."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from pipewright import store
from pipewright.store import schema

TREES: tuple[schema.Tree, ...] = ("platform", "tenant")
FOLDER = Path(next(iter(store.__path__)))


def _revisions(tree: schema.Tree) -> list[ModuleType]:
    found = []
    for path in sorted((FOLDER / tree / "versions").glob("[pt]*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append(module)
    return found


@pytest.mark.parametrize("tree", TREES)
def test_revisions_are_one_line_in_the_order_of_their_files(tree: schema.Tree) -> None:
    line = _revisions(tree)
    assert line[0].down_revision is None
    assert [each.down_revision for each in line[1:]] == [each.revision for each in line[:-1]]
    assert all(each.__name__.startswith(f"{each.revision}_") for each in line)
    assert schema.head(tree) == line[-1].revision


@pytest.mark.parametrize("tree", TREES)
def test_every_revision_says_what_it_does_and_goes_forward_only(tree: schema.Tree) -> None:
    for each in _revisions(tree):
        assert each.__doc__
        assert not hasattr(each, "downgrade")
