"""What came of a trial, and how it is told: where values differ, and what code raised behind a refusal."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from connectors.kit.samples import Sample
from connectors.manifest import Manifest

Outcome = Literal["passed", "failed", "not covered"]
_OWN: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one trial."""

    connector: str
    sample: str
    """The file's name, below the connector's folder of samples."""
    trial: str
    outcome: Outcome
    message: str = ""


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of one sample, told by what each came to."""

    manifest: Manifest
    sample: Sample

    def passed(self, trial: str) -> Result:
        """It is as it must be."""
        return self._result(trial, "passed", "")

    def failed(self, trial: str, message: str) -> Result:
        """It is not."""
        return self._result(trial, "failed", message)

    def not_covered(self, trial: str, message: str) -> Result:
        """It cannot be tried, and why."""
        return self._result(trial, "not covered", message)

    def same(self, trial: str, *, found: Any, wanted: Any) -> Result:
        """Whether two JSON values are equal, and else where they differ first."""
        if found == wanted:
            return self.passed(trial)
        return self.failed(trial, f"{where(found, wanted)}")

    def _result(self, trial: str, outcome: Outcome, message: str) -> Result:
        folder = "" if self.sample.kind == "delivery" else f"{self.sample.file.parent.name}/"
        return Result(
            connector=self.manifest.name,
            sample=f"{folder}{self.sample.file.name}",
            trial=trial,
            outcome=outcome,
            message=message,
        )


def where(found: Any, wanted: Any, at: str = "") -> str:
    """The first place where two JSON values differ, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in sorted({*found, *wanted}):
            if name not in found or name not in wanted:
                return f"{at}.{name}: {'is missing' if name in wanted else 'is too much'}".lstrip(".")
            if found[name] != wanted[name]:
                return where(found[name], wanted[name], f"{at}.{name}")
    if isinstance(found, list) and isinstance(wanted, list):
        for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
            if one != other:
                return where(one, other, f"{at}[{number}]")
        return f"{at or 'the list'}: has {len(found)} elements, the sample {len(wanted)}".lstrip(".")
    return f"{at or 'it'}: is {_shown(found)}, the sample says {_shown(wanted)}".lstrip(".")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:199]}…"


def why(error: BaseException) -> str:
    """What code raised behind a refusal, and where: its author may know, whom a tenant may not ask."""
    found: BaseException | None = error
    while found is not None and type(found).__module__.partition(".")[0] in ("connectors", "pipewright"):
        found = found.__cause__ or found.__context__
    if found is None or not found.__traceback__:
        return ""
    last = traceback.extract_tb(found.__traceback__)[-1]
    if Path(last.filename).is_relative_to(_OWN):
        return ""
    return f" ({type(found).__name__}: {found}, {last.filename}:{last.lineno})"
