"""What the runner is composed of, as the settings say."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import runner
from controllers.model import tracking
from pipewright import errors
from pipewright.backends.mlflow import MlflowTracking
from pipewright.settings import Settings
from tests.unit.controllers.test_model_plan import PLAIN, finished, seen
from tests.unit.pipewright.test_settings import GOOD


def settings(**changes: Any) -> Settings:
    return Settings.model_validate({**GOOD, "component": "runner", "controllers": ["model"], **changes})


async def test_without_mlflow_in_the_settings_nothing_is_told() -> None:
    async with AsyncExitStack() as resources:
        assert runner._tracking(settings(), resources) is None


async def test_mlflow_of_the_settings_is_asked_with_the_token_of_its_file(tmp_path: Path) -> None:
    told = {"uri": "http://127.0.0.1:1/", "tokenFile": str(tmp_path / "token"), "username": "runner"}
    async with AsyncExitStack() as resources:
        made = runner._tracking(settings(mlflow=told), resources)
        assert isinstance(made, MlflowTracking)
        [run] = tracking.due(PLAIN, seen(finished())).runs
        with pytest.raises(errors.Forbidden, match="token cannot be read from its file"):
            await made.record(run)
        (tmp_path / "token").write_text("a-canary")
        with pytest.raises(errors.Unreachable, match="MLflow did not answer") as broken:
            await made.record(run)
        assert "canary" not in str(broken.value)
