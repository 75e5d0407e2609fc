"""Where the servers' binaries come from."""

import re
from pathlib import Path

import pytest

from dev import assets, places
from dev.problem import Problem
from dev.progress import Progress

QUIET = Progress(quiet=True)
FAMILIES = [assets.KUBERNETES, assets.VAULT, assets.REGISTRY, assets.S3, assets.KAFKA]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_version_in_the_folders_name_is_the_one_that_go_mod_requires(family: assets.Family) -> None:
    required = (places.ROOT / "dev" / "assets" / family.name / "go.mod").read_text()
    assert f"{family.module} {assets.version(family)}" in required
    ours = r"-[0-9a-f]{8}" if family is assets.KAFKA else ""
    assert re.fullmatch(
        re.escape(f"{family.name}-{assets.version(family)}") + ours, assets.folder(family).name
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_package_that_is_built_is_a_tool_of_its_module(family: assets.Family) -> None:
    module = (places.ROOT / "dev" / "assets" / family.name / "go.mod").read_text()
    block = re.search(r"^tool (\([^)]*\)|\S+)", module, re.MULTILINE)
    assert block is not None
    assert set(family.packages.values()) == set(re.findall(r"[\w.-]+/\S+", block[1]))


def test_a_change_of_our_own_code_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, module = assets.folder(assets.KAFKA), places.ROOT / "dev" / "assets" / "kafka"
    copy = tmp_path / "dev" / "assets" / "kafka"
    copy.mkdir(parents=True)
    for path in (module / "go.mod", module / "main.go"):
        (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(places, "ROOT", tmp_path)
    assert assets.folder(assets.KAFKA).name == before.name
    with (copy / "main.go").open("a") as file:
        file.write("// more\n")
    assert assets.folder(assets.KAFKA).name != before.name


def test_envtests_binaries_are_used_and_only_the_missing_one_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, cache = tmp_path / "envtest", tmp_path / "cache"
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(theirs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    ours = assets.folder(assets.KUBERNETES)
    theirs.mkdir()
    ours.mkdir(parents=True)
    for path in (theirs / "etcd", theirs / "kube-apiserver", theirs / "kubectl"):
        path.touch()
    (ours / "kube-controller-manager").touch()
    assert assets.binaries(assets.KUBERNETES, QUIET) == {
        "etcd": theirs / "etcd",
        "kube-apiserver": theirs / "kube-apiserver",
        "kubectl": theirs / "kubectl",
        "kube-controller-manager": ours / "kube-controller-manager",
    }


def test_a_named_folder_without_binaries_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(Problem, match="has no etcd and no kube-apiserver"):
        assets.binaries(assets.KUBERNETES, QUIET)


def test_a_failed_build_shows_the_compilers_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GOFLAGS", "-mod=vendor")  # a user's flag that would break the build is not heard
    broken = assets.Family(
        name="vault", module="github.com/hashicorp/vault", packages={"x": "no.such/package"}, about={}
    )
    with pytest.raises(Problem, match=r"Building x failed(.|\n)*no\.such/package"):
        assets.binaries(broken, QUIET)
    assert not (assets.folder(broken) / "x").exists()
