"""A real S3 server with one bucket: Versity's gateway over a folder, which checks each signature."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dev import assets, ports, process
from dev.process import Process
from dev.progress import Progress
from pipewright.backends.artifacts.bucket import S3Access, S3Artifacts
from pipewright.ports import Secret

REGION = "eu-central-1"
BUCKET = "artifacts"


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """The server, and how it is reached."""

    port: int
    key: str
    secret: str = field(repr=False)
    folder: Path
    """Each bucket is a folder here."""

    @property
    def host(self) -> str:
        """As `host:port`."""
        return f"127.0.0.1:{self.port}"

    def access(self, *, secret: str | None = None, region: str = REGION) -> S3Access:
        """How our store reaches it."""
        pair = (Secret(self.key), Secret(secret or self.secret))
        return S3Access(region=region, endpoint=f"http://{self.host}", credentials=lambda: pair)

    def store(self, prefix: str, *, bucket: str = BUCKET, max_bytes: int = 1024 * 1024) -> S3Artifacts:
        """A store of its own for each test."""
        return S3Artifacts(f"s3://{bucket}/{prefix}", self.access(), max_bytes=max_bytes)


@contextmanager
def running(folder: Path) -> Iterator[Buckets]:
    """Until the block ends."""
    made = Buckets(
        port=ports.free(), key="of-the-tests", secret=secrets.token_urlsafe(24), folder=folder / "buckets"
    )
    (made.folder / BUCKET).mkdir(parents=True)
    (folder / "metadata").mkdir()
    binary = assets.binaries(assets.S3, Progress())["versitygw"]
    place = Process(
        name="versitygw",
        folder=folder,
        # metadata beside the files: not every file system here has extended attributes
        command=(
            str(binary), "--port", made.host, "--region", REGION, "--quiet",
            "posix", "--sidecar", str(folder / "metadata"), str(made.folder),
        ),
        ready=lambda: _listens(made.port),
        environment={"ROOT_ACCESS_KEY": made.key, "ROOT_SECRET_KEY": made.secret},
    )  # fmt: skip
    process.start(place)
    try:
        yield made
    finally:
        process.stop(folder, "versitygw")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
