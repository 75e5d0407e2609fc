"""An MLflow tracking server by its REST API (2.x and 3.x). Nothing here imports MLflow.

    record   ─► experiment of the tenant ─► run with the submission's tag? ─► create ─► log ─► end
    register ─► registered model ─► version of the run? ─► create ─► alias

Each step is looked for before it is made, and a run is ended last: what a crash left half done is found again
and completed, never made twice. https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from pipewright import errors
from pipewright.ports import Secret
from pipewright.tracking_facts import OWNER, SUBMISSION, TrackedRun, TrackedVersion

TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
PAUSE = 30.0
"""Seconds for which a server that did not answer is left alone: many Models would wait for it in turn."""
_API = "/api/2.0/mlflow/"
_ENDED = ("FINISHED", "FAILED", "KILLED")
_EXISTS = "RESOURCE_ALREADY_EXISTS"
_NONE = "RESOURCE_DOES_NOT_EXIST"
_LOCAL = "file://"
_FOLDER = "pipewright://folder"
"""In place of that for a file's address: MLflow takes a path as a source only below its own artifacts."""


class MlflowTracking:
    """`pipewright.ports.training.Tracking` on MLflow. `close` ends its connections.

    The token's file is read for each request, so that a token that was changed is taken up.
    """

    def __init__(
        self,
        uri: str,
        *,
        token_file: Path | None = None,
        username: str = "",
        experiment: str,
        alias: str,
        pause: float = PAUSE,
    ) -> None:
        """With a `username` the file has its password, else a bearer token.

        A run goes to the experiment `<experiment>/<group>`; `alias` marks the version that predicts.
        """
        self._uri = uri.rstrip("/")
        self._token_file, self._username = token_file, username
        self._experiment, self._alias = experiment, alias
        self._pause, self._asked_again_at, self._silence = pause, 0.0, ""
        self._session: aiohttp.ClientSession | None = None

    async def record(self, run: TrackedRun) -> str:
        """The run's id; one that has ended is left as it is."""
        with _understood():
            return await self._record(run)

    async def register(self, version: TrackedVersion, *, run_id: str) -> str:
        """The version's number, with the alias on it."""
        with _understood():
            return await self._register(version, run_id)

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    # -- runs --------------------------------------------------------------------------------------------

    async def _record(self, run: TrackedRun) -> str:
        experiment = await self._experiment_id(f"{self._experiment}/{run.group}")
        found = await self._find_run(experiment, run.submission_id)
        if found is not None and (found["status"] in _ENDED or found.get("lifecycle_stage") == "deleted"):
            return str(found["run_id"])
        info = found if found is not None else await self._create_run(experiment, run)
        run_id = str(info["run_id"])
        ended = _milliseconds(run.finished_at)
        await self._do(
            "log a run",
            "runs/log-batch",
            run_id=run_id,
            # with the same time and step each time, so that logged again they are the same
            metrics=[
                {"key": key, "value": value, "timestamp": ended, "step": 0}
                for key, value in run.metrics.items()
            ],
            params=_pairs(run.params),
        )
        status = "FINISHED" if run.succeeded else "FAILED"
        await self._do("end a run", "runs/update", run_id=run_id, status=status, end_time=ended)
        return run_id

    async def _experiment_id(self, name: str) -> str:
        found = await self._get("find an experiment", "experiments/get-by-name", experiment_name=name)
        if found is None:
            await self._make("make an experiment", "experiments/create", name=name)
            found = await self._get("find an experiment", "experiments/get-by-name", experiment_name=name)
        if found is None:
            raise errors.Unreachable(f"MLflow does not find the experiment {name} that it has just made")
        if found["experiment"].get("lifecycle_stage") == "deleted":
            raise errors.Stalled(
                "ExperimentDeleted",
                f"the experiment {name} was deleted in MLflow: restore it there, or set mlflow.experiment",
            )
        return str(found["experiment"]["experiment_id"])

    async def _find_run(self, experiment: str, submission_id: str) -> Mapping[str, Any] | None:
        found = await self._do(
            "search runs",
            "runs/search",
            experiment_ids=[experiment],
            filter=f"tags.`{SUBMISSION}` = '{submission_id}'",
            run_view_type="ALL",  # a person may have deleted it: then it is not made again
            max_results=1,
        )
        runs = found.get("runs") or []
        return runs[0]["info"] if runs else None

    async def _create_run(self, experiment: str, run: TrackedRun) -> Mapping[str, Any]:
        made = await self._do(
            "create a run",
            "runs/create",
            experiment_id=experiment,
            run_name=run.name,
            start_time=_milliseconds(run.started_at),
            tags=_pairs({**run.tags, SUBMISSION: run.submission_id}),
        )
        info: Mapping[str, Any] = made["run"]["info"]
        return info

    # -- the registry ------------------------------------------------------------------------------------

    async def _register(self, version: TrackedVersion, run_id: str) -> str:
        model = await self._model(version)
        number = await self._find_version(version.model, run_id)
        if number is None:
            source = version.source
            if source.startswith(_LOCAL):
                source = _FOLDER + source.removeprefix(_LOCAL)
            made = await self._do(
                "register a model's version",
                "model-versions/create",
                name=version.model,
                run_id=run_id,
                source=source,
                tags=_pairs(version.tags),
            )
            number = str(made["model_version"]["version"])
        aliases = {each["alias"]: str(each["version"]) for each in model.get("aliases", ())}
        if aliases.get(self._alias) != number:
            await self._do(
                "set an alias",
                "registered-models/alias",
                name=version.model,
                alias=self._alias,
                version=number,
            )
        return number

    async def _model(self, version: TrackedVersion) -> Mapping[str, Any]:
        """The registered model, made where it is missing.

        Raises:
            OwnedByOther: it carries another owner's mark, or none.
        """
        name = version.model
        found = await self._get("find a registered model", "registered-models/get", name=name)
        if found is None:
            tags = _pairs({OWNER: version.owner})
            await self._make("register a model", "registered-models/create", name=name, tags=tags)
            found = await self._get("find a registered model", "registered-models/get", name=name)
        if found is None:
            raise errors.Unreachable(f"MLflow does not find the model {name} that it has just made")
        model: Mapping[str, Any] = found["registered_model"]
        marks = {each["key"]: each.get("value") for each in model.get("tags", ())}
        if marks.get(OWNER) != version.owner:
            raise errors.OwnedByOther(
                f"the registered model {name} in MLflow is not this tenant's by its tag {OWNER}:"
                " rename or delete it there"
            )
        return model

    async def _find_version(self, model: str, run_id: str) -> str | None:
        found = await self._get(
            "search a model's versions",
            "model-versions/search",
            filter=f"name = '{model}' and run_id = '{run_id}'",
            max_results="1",
        )
        versions = (found or {}).get("model_versions") or []
        return str(versions[0]["version"]) if versions else None

    # -- requests ----------------------------------------------------------------------------------------

    async def _make(self, what: str, path: str, **body: Any) -> None:
        """Also where somebody else was a moment faster."""
        status, code, _ = await self._ask("POST", path, json=body)
        if status != 200 and code != _EXISTS:
            raise _refused(what, status, code)

    async def _do(self, what: str, path: str, **body: Any) -> Mapping[str, Any]:
        status, code, answer = await self._ask("POST", path, json=body)
        if status != 200:
            raise _refused(what, status, code)
        return answer

    async def _get(self, what: str, path: str, **params: str) -> Mapping[str, Any] | None:
        """None: there is no such thing."""
        status, code, answer = await self._ask("GET", path, params=params)
        if code == _NONE:
            return None
        if status != 200:
            raise _refused(what, status, code)
        return answer

    async def _ask(self, method: str, path: str, **body: Any) -> tuple[int, str, Mapping[str, Any]]:
        """Status, MLflow's word for what is wrong, and the answer's JSON object.

        Raises:
            Unreachable: no answer, now or a moment ago.
            Forbidden: our token or password is missing or wrong, or may not do it.
        """
        if time.monotonic() < self._asked_again_at:
            raise errors.Unreachable(self._silence)
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        try:
            async with self._session.request(
                method, self._uri + _API + path, headers=self._headers(), allow_redirects=False, **body
            ) as answer:
                if answer.status in (401, 403):
                    raise errors.Forbidden(
                        "MLflow refuses our token, or what it may do: check `mlflow.tokenFile`"
                    )
                told = await answer.json() if answer.content_type == "application/json" else {}
                found: Mapping[str, Any] = told if isinstance(told, dict) else {}
                return answer.status, str(found.get("error_code", "")), found
        except (aiohttp.ClientError, TimeoutError, ValueError) as broken:
            self._asked_again_at = time.monotonic() + self._pause
            self._silence = f"MLflow did not answer ({type(broken).__name__})"
            raise errors.Unreachable(self._silence) from None

    def _headers(self) -> Mapping[str, str]:
        if self._token_file is None:
            return {}
        try:
            token = Secret(self._token_file.read_text().strip())
        except OSError as broken:
            told = f"MLflow's token cannot be read from its file: {broken.strerror}"
            raise errors.Forbidden(told) from None
        if not self._username:
            return {"Authorization": f"Bearer {token.reveal()}"}
        pair = f"{self._username}:{token.reveal()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


@contextmanager
def _understood() -> Iterator[None]:
    """What is not MLflow may answer anything."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError) as odd:
        told = f"what answers at `mlflow.uri` does not speak as MLflow ({type(odd).__name__})"
        raise errors.BackendError(told) from None


def _refused(what: str, status: int, code: str) -> errors.BackendError:
    word = code if code.replace("_", "").isalpha() else "no reason"
    if status >= 500 or status == 429:
        return errors.Unreachable(f"MLflow could not {what}: it answered {status} ({word})")
    return errors.BackendError(f"MLflow refused to {what}: it answered {status} ({word})")


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
