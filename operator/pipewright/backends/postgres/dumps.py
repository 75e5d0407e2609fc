"""The last dump of a tenant's database, by pg_dump, streamed into the artifact store.

The login may read every table of a database that it is let into (pg_read_all_data), and is let into none but
the one that is about to be dropped. pg_dump writes no role, so there is no password in its output; what it
says on stderr may quote the tenant's names and goes nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from psycopg import conninfo as libpq

from pipewright import errors
from pipewright.backends.postgres import server as servers
from pipewright.backends.postgres.server import Server, execute
from pipewright.facts import Dump
from pipewright.ports import Secret
from pipewright.ports.training import Artifacts
from pipewright.store import connect, roles

PATIENCE_S = 20.0
"""So long one look waits for a dump; it goes on meanwhile, and a later look has it."""
AT_ONCE = 4
"""So many dumps run beside each other; the others wait their turn."""
_PIECE = 1024 * 1024
_REASONS = (
    (
        b"large object",
        "it cannot read large objects (lo_create): remove them, or set spec.finalDump to Skip",
    ),
    (b"server version mismatch", "the pg_dump of the settings is older than the server"),
    (b"permission denied", "its login may not read everything: run the bootstrap again"),
    (b"could not obtain lock", "a table is locked; it is tried again"),
)
"""What pg_dump says, and what to do."""


class PostgresDumps:
    """`ports.Dumps` on one server."""

    def __init__(self, server: Server, *, artifacts: Artifacts | None, program: Path | None) -> None:
        self._server, self._artifacts, self._program = server, artifacts, program
        self._running: dict[str, asyncio.Task[Dump]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    @property
    def missing(self) -> str:
        """What this process lacks to take one, as a sentence; empty when nothing."""
        if self._program is None or not os.access(self._program, os.X_OK):
            return "the provisioner's settings name no pg_dump that it can run (pgDump)"
        if self._artifacts is None:
            return "the provisioner's settings name no artifact store (artifacts)"
        if self._server.dumper_dsn is None:
            return f"the settings of server {self._server.name} have no dumperDsnFile"
        return ""

    async def take(self, tenant_id: str, *, uid: str) -> Dump:
        """Dump the database into `<id>/dumps/<uid>.dump`, in the place of one that is there."""
        task = self._running.get(tenant_id)
        if task is None:
            task = self._running[tenant_id] = asyncio.create_task(self._take(tenant_id, uid))
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        if not done:
            raise errors.Waiting("DumpRunning", "the final dump is being written")
        self._running.pop(tenant_id, None)
        return task.result()

    async def close(self) -> None:
        """End what still runs: its drafts are removed, and the next process begins again."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _take(self, tenant_id: str, uid: str) -> Dump:
        program, artifacts, login = self._program, self._artifacts, self._server.dumper_dsn
        if program is None or artifacts is None or login is None:
            raise errors.Stalled("FinalDumpImpossible", self.missing)
        name = roles.database(tenant_id)
        async with self._server.provisioner() as conn:
            if not await servers.require_owner(conn, tenant_id, uid=uid):
                raise errors.Conflict(f"database {name} is not there")
            await execute(conn, "GRANT CONNECT ON DATABASE {} TO {}", name, roles.DUMPER)
        source = _Source(program=program, dsn=login, database=name)
        path = (tenant_id, "dumps", f"{uid}.dump")
        async with self._turn, contextlib.aclosing(source.pieces()) as pieces:
            await artifacts.stream(artifacts.url_for(*path), pieces)
        return Dump(
            path="/".join(path),
            sha256=source.digest.hexdigest(),
            bytes=source.length,
            taken_at=datetime.now(UTC).replace(microsecond=0),
        )


@dataclass(kw_only=True)
class _Source:
    """One run of pg_dump, and what it amounted to."""

    program: Path
    dsn: Secret = field(repr=False)
    database: str
    length: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The dump in the custom format. A run that fails raises at its end: nothing of it is kept then."""
        words = libpq.conninfo_to_dict(connect.conninfo(self.dsn, dbname=self.database))
        password = str(words.pop("password", ""))
        process = await asyncio.create_subprocess_exec(
            str(self.program),
            "--format=custom",
            "--no-password",
            "--lock-wait-timeout=10s",
            f"--dbname={libpq.make_conninfo('', **words)}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", ""), "PGPASSWORD": password, "LC_ALL": "C"},
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = asyncio.create_task(_tail(process.stderr))
        try:
            while piece := await process.stdout.read(_PIECE):
                self.digest.update(piece)
                self.length += len(piece)
                yield piece
            code = await process.wait()
            if code:
                raise _trouble(self.database, code, await said)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            said.cancel()


async def _tail(stream: asyncio.StreamReader) -> bytes:
    """The last words, however many there were before: a pipe that nobody reads would stop the writer."""
    kept = b""
    while piece := await stream.read(65536):
        kept = (kept + piece)[-65536:]
    return kept


def _trouble(database: str, code: int, said: bytes) -> errors.BackendError:
    for sign, reason in _REASONS:
        if sign in said:
            return errors.BackendError(f"pg_dump of database {database}: {reason}")
    return errors.BackendError(f"pg_dump of database {database} ended with {code}; see the server's log")
