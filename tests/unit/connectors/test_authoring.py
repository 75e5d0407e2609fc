"""`connectors lint` and `connectors test`: every fault is told with its place, and none goes unseen."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors import catalogue
from connectors.__main__ import main

ROOT = Path(__file__).parents[3]
ACME = ROOT / "examples" / "connector-acme"
GITHUB = (catalogue.folder() / "github.yaml").read_text()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the example that may be spoiled."""
    copy = tmp_path / "connector-acme"
    shutil.copytree(ACME, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sys.modules.pop("acme_connector", None)
    yield copy
    sys.modules.pop("acme_connector", None)


def spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([*arguments, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


# --- lint --------------------------------------------------------------------------------------------------


def test_nothing_is_wrong_with_the_example(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(capsys, "lint", "--strict", str(package)) == (0, {"ok": True, "findings": []})


def lined(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> list[tuple[int, str, str]]:
    """Line, place and message of the errors in a manifest that is called ours.yaml."""
    (tmp_path / "ours.yaml").write_text(text.replace("name: github", "name: ours", 1))
    (tmp_path / "fixtures").mkdir(exist_ok=True)
    shutil.copytree(
        catalogue.folder() / "fixtures" / "github", tmp_path / "fixtures" / "ours", dirs_exist_ok=True
    )
    code, found = asked(capsys, "lint", str(tmp_path / "ours.yaml"))
    errors = [each for each in found["findings"] if each["severity"] == "error"]
    assert code == int(bool(errors))
    assert found["ok"] is (not errors)
    return [(each["line"], each["place"], each["message"]) for each in errors]


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_a_sound_manifest_has_no_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lined(tmp_path, GITHUB, capsys) == []


WRONG: dict[str, tuple[str, str, str, str]] = {
    "an unknown field": (
        "  category: ci",
        "  category: ci\n  colour: red",
        "metadata.colour",
        "is not known",
    ),
    "a missing field": ("  category: ci\n", "", "metadata", "category is missing"),
    "a wrong word": ("kind: hmac", "kind: md5", "webhook.verify.kind", "'md5' is not one of"),
    "a path that is none": ("get: /rate_limit", "get: rate_limit", "check.get", "does not match"),
}


@pytest.mark.parametrize(("old", "new", "place", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_fault_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, place: str, message: str
) -> None:
    assert old in GITHUB
    text = GITHUB.replace(old, new, 1)
    found = lined(tmp_path, text, capsys)
    assert [(at, message in said) for _, at, said in found] == [(place, True)]
    key = place.rpartition(".")[2]
    assert f"{key}:" in text.splitlines()[found[0][0] - 1]


def test_all_expressions_that_do_not_compile_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GITHUB.replace("sha: body.workflow_run.head_sha", "sha: body.workflow_run.", 1)
    assert text != GITHUB
    text = text.replace("message: body.message", "message: payload.message", 1)
    found = lined(tmp_path, text, capsys)
    assert {(line, place) for line, place, _ in found} == {
        (line_of(text, "message: payload.message"), "http.message"),
        (line_of(text, "sha: body.workflow_run."), "webhook.events[0].map.sha"),
    }


def test_a_key_that_is_there_twice_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GITHUB.replace("  category: ci", "  category: ci\n  title: Twice\n  maturity: alpha", 1)
    found = lined(tmp_path, text, capsys)
    assert {place for _, place, _ in found} == {"title", "maturity"}


def test_what_is_no_yaml_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ((line, _, message),) = lined(tmp_path, "a: 1\nb: [", capsys)
    assert (line, message[:8]) == (2, "no YAML:") or line == 3


def test_a_name_of_this_release_or_of_another_file_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.yaml").write_text(GITHUB)
    _, found = asked(capsys, "lint", str(tmp_path / "other.yaml"))
    messages = [each["message"] for each in found["findings"] if each["place"] == "metadata.name"]
    assert messages == [
        "is github, but the file or the entry point is called other",
        "github is a connector of this release, which stays the one that is used",
    ]


def test_samples_that_are_missing_or_wrong_are_told(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = package / "fixtures" / "acme"
    (samples / "sync" / "history.json").unlink()
    (samples / "actions" / "cancel.json").unlink()
    code, found = asked(capsys, "lint", str(package))
    assert code == 1
    assert {(each["severity"], each["place"], each["message"]) for each in found["findings"]} == {
        ("error", "sync", "no sample has a history"),
        ("warning", "actions.cancel", "no sample has it done"),
    }
    (samples / "build-failed.json").write_text('{"story": "x",\n "event" 1}')
    _, found = asked(capsys, "lint", str(package))
    (wrong,) = [each for each in found["findings"] if each["file"].endswith("build-failed.json")]
    assert (wrong["line"], wrong["message"]) == (2, "no JSON: Expecting ':' delimiter")


def test_code_that_the_manifest_does_not_ask_for_is_told(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = package / "src" / "acme_connector" / "__init__.py"
    spoil(source, '"retry-failed": retry_failed', '"retry": retry_failed')
    code, found = asked(capsys, "lint", str(package))
    assert code == 1
    assert [each["message"] for each in found["findings"]] == [
        "code: no action of this name comes with the manifest"
    ]


def test_a_package_that_cannot_be_loaded_is_told_with_its_error(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(package / "src" / "acme_connector" / "__init__.py", "import re\n", "import no_such_thing\n")
    _, found = asked(capsys, "lint", str(package))
    (finding,) = found["findings"]
    assert "No module named 'no_such_thing'" in finding["message"]
    code, tried = asked(capsys, "test", str(package))
    assert (code, tried["results"][0]["outcome"]) == (1, "failed")


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_a_path_to_nothing_is_another_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lint", path]) == 2
    assert capsys.readouterr().err.startswith(f"connectors: {path}: ")


def test_findings_read_as_those_of_a_compiler(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = package / "src" / "acme_connector" / "acme.yaml"
    spoil(manifest, "timeoutSeconds: 15", "timeoutSeconds: 900")
    assert main(["lint", str(package)]) == 1
    out = capsys.readouterr().out
    line = line_of(manifest.read_text(), "timeoutSeconds")
    assert f"{manifest}:{line}:3: error: http.timeoutSeconds: 900 is greater than the maximum of 60" in out
    assert out.endswith("1 connectors: 1 errors, 0 warnings\n")


# --- test --------------------------------------------------------------------------------------------------


def test_the_example_passes(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = asked(capsys, "test", str(package))
    assert code == 0
    assert {each["outcome"] for each in found["results"]} == {"passed"}
    assert {each["trial"] for each in found["results"]} == {
        *("mapped", "told apart", "verified", "a changed byte", "a wrong key", "no header x-acme-proof"),
        *("a senseless header x-acme-proof", "an old one", "spoiled", "read", "done"),
    }


CODE = "src/acme_connector/__init__.py"
BROKEN: dict[str, tuple[str, str, str, str, str]] = {
    "a wrong outcome": (CODE, "!= 0 for step in steps", "== 9 for step in steps", "mapped", "outcome: is"),
    "an id of another shape": (
        *("src/acme_connector/acme.yaml", "+ '-' + string(body.sequence)", "+ string(body.sequence)"),
        *("told apart", 'delivery: is "8124", the sample says "812-4"'),
    ),
    "a proof that does not cover the body": (
        *(CODE, ".encode() + claim.body\n        keys", ".encode()\n        keys"),
        *("verified", "the proof is wrong"),
    ),
    "a proof that is never looked at": (
        *(CODE, "if not sdk.matches(expected, [found[2].encode()]):", "if not expected:"),
        *("a changed byte", "is taken, and must be refused"),
    ),
    "a verifier that raises": (
        *(
            CODE,
            "if found is None:\n            raise sdk",
            "if found is None:\n            raise KeyError('x')\n            raise sdk",
        ),
        *("a senseless header x-acme-proof", "KeyError"),
    ),
    "a mapper that raises": (
        *(CODE, 'raise sdk.MappingError(f"{name} must be an object")', "raise KeyError(name)"),
        *("spoiled", "KeyError: 'build'"),
    ),
    "a history that loses a day": (
        CODE,
        "if day > place",
        "if day > '2026-01-05'",
        "read",
        "the list: has 0",
    ),
    "another request": (CODE, '"retry", body=', '"again", body=', "done", "asked[1].path: is"),
    "what is sent": (CODE, '{"ticket": build["ticket"]}', "{}", "done", "asked[1].body.ticket: is missing"),
}


@pytest.mark.parametrize(("file", "old", "new", "trial", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_what_breaks_is_told(
    package: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, trial: str, message: str
) -> None:
    spoil(package / file, old, new)
    code, found = asked(capsys, "test", str(package))
    failed = [each for each in found["results"] if each["outcome"] == "failed"]
    assert code == 1
    assert any(each["trial"] == trial and message in each["message"] for each in failed), failed


def test_a_golden_result_that_is_wrong_is_told(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(
        package / "fixtures/acme/build-failed.json",
        '"branch": "main",\n        "sha"',
        '"branch": "x",\n        "sha"',
    )
    code, found = asked(capsys, "test", str(package))
    failed = [each for each in found["results"] if each["outcome"] == "failed"]
    assert code == 1
    assert [(each["sample"], each["trial"], each["message"]) for each in failed] == [
        ("build-failed.json", "mapped", '[0].record.branch: is "main", the sample says "x"')
    ]


def test_a_connector_without_samples_fails(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(package / "fixtures")
    code, found = asked(capsys, "test", str(package))
    assert code == 1
    assert found["results"][0]["message"].startswith("there are no samples in ")


def test_what_passed_is_counted(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(package)]) == 0
    assert capsys.readouterr().out == "1 connectors: 32 passed, 0 failed\n"
