"""A Ray cluster by its Jobs REST API (Ray 2.x, dashboard port). Nothing here imports Ray.

`ml/` goes to the cluster as a package of Ray's own kind (`gcs://_ray_pkg_<hash>.zip`), uploaded when the
cluster does not have it; the job's description goes in an environment variable.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from ml import contract
from pipewright import errors
from pipewright.ports import Secret
from pipewright.training_facts import JobPhase, JobPlace, JobStatus, Pod, one_line

TIMEOUT = aiohttp.ClientTimeout(total=20, connect=5)
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""
_PACKED = {".py", ".toml"}
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy's threads wait for each other by spinning, and the sums of a training are small."""

_PHASES: Mapping[str, JobPhase] = {
    "PENDING": "Pending",
    "RUNNING": "Running",
    "SUCCEEDED": "Succeeded",
    "FAILED": "Failed",
    "STOPPED": "Stopped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A zip with Python code and the data files it reads, named by its content."""

    name: str
    content: bytes = field(repr=False)

    @classmethod
    def of(cls, folder: Path) -> Package:
        """A folder's code and data below the folder's own name; the same files give the same bytes."""
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in folder.rglob("*") if path.suffix in _PACKED):
                entry = zipfile.ZipInfo(str(path.relative_to(folder.parent)), date_time=_EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes())
        content = sink.getvalue()
        return cls(name=f"_ray_pkg_{hashlib.sha256(content).hexdigest()[:32]}.zip", content=content)


class RayCompute:
    """`pipewright.ports.training.Compute` on one Ray cluster. `close` ends its connections.

    The token's file is read for each request, so that a token that was changed is taken up.
    """

    def __init__(self, address: str, *, token_file: Path | None, package: Package) -> None:
        self._address = address.rstrip("/")
        self._token_file = token_file
        self._package = package
        self._session: aiohttp.ClientSession | None = None

    async def submit(self, job: contract.TrainingJob, *, place: JobPlace, pod: Pod) -> None:
        """Start the job, unless the cluster knows it: Ray answers 500 to a known submission id."""
        if await self.status(job.submission_id, place=place) is not None:
            return
        await self._upload()
        text = contract.to_json(job).encode()
        wanted = {
            "submission_id": job.submission_id,
            "entrypoint": "python -m ml.train",
            "entrypoint_num_cpus": 1,
            "runtime_env": {
                "py_modules": [f"gcs://{self._package.name}"],
                "env_vars": {contract.JOB_VARIABLE: base64.b64encode(text).decode(), **_ONE_THREAD},
            },
            "metadata": {"tenant": place.tenant_id, "model": place.model_uid},
        }
        code, _ = await self._ask("POST", "/api/jobs/", json=wanted)
        if code == 200:
            return
        if await self.status(job.submission_id, place=place) is None:
            raise _refused("submit a job", code)

    async def status(self, submission_id: str, *, place: JobPlace) -> JobStatus | None:
        """The job's state by `GET /api/jobs/<id>`; 404 is None."""
        code, body = await self._ask("GET", f"/api/jobs/{submission_id}")
        if code == 404:
            return None
        phase = _PHASES.get(str(body.get("status"))) if code == 200 else None
        if phase is None:
            raise _refused("look at a job", code)
        return JobStatus(phase=phase, message=one_line(body.get("message")) if phase == "Failed" else "")

    def trouble(self, compute: str, *, image: str) -> errors.Stalled | None:
        """None: it is there, by the settings."""
        return None

    async def stop(self, submission_id: str, *, place: JobPlace) -> None:
        """`POST /api/jobs/<id>/stop`; Ray ends the process within seconds, forcibly if need be."""
        code, _ = await self._ask("POST", f"/api/jobs/{submission_id}/stop")
        if code not in (200, 404):
            raise _refused("stop a job", code)

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    def _token(self) -> Secret | None:
        if self._token_file is None:
            return None
        try:
            return Secret(self._token_file.read_text().strip())
        except OSError as broken:
            raise errors.Forbidden(f"Ray's token cannot be read from its file: {broken.strerror}") from None

    async def _upload(self) -> None:
        path = f"/api/packages/gcs/{self._package.name}"
        code, _ = await self._ask("GET", path)
        if code == 404:
            code, _ = await self._ask("PUT", path, data=self._package.content)
        if code != 200:
            raise _refused("upload the training package", code)

    async def _ask(self, method: str, path: str, **body: Any) -> tuple[int, Mapping[str, Any]]:
        """Status code and JSON object of the answer.

        Raises:
            Unreachable: no answer.
            Forbidden: the token is missing or wrong.
        """
        token = self._token()
        headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        try:
            async with self._session.request(
                method, self._address + path, headers=headers, allow_redirects=False, **body
            ) as answer:
                if answer.status in (401, 403):
                    raise errors.Forbidden("Ray refuses our token: check `ray.tokenFile` in the settings")
                json = answer.content_type == "application/json"
                found = await answer.json() if json and answer.status == 200 else {}
                return answer.status, found if isinstance(found, dict) else {}
        except (aiohttp.ClientError, TimeoutError, ValueError) as broken:
            raise errors.Unreachable(f"Ray did not answer ({type(broken).__name__})") from None


def _refused(what: str, code: int) -> errors.BackendError:
    if code >= 500:
        return errors.Unreachable(f"Ray could not {what}: it answered {code}")
    return errors.BackendError(f"Ray refused to {what}: it answered {code}")
