"""A relay for PostgreSQL's protocol that knows which statements change something.

It reads messages by their length and understands enough: startup, simple query, and the extended protocol's
Parse, Bind, Execute, Sync. Authentication (SCRAM) and everything else passes through as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections import deque
from dataclasses import dataclass, field

from dev.faults.writes import Call, Cut, Delay, Kill, Refuse, Switch, Transaction, Treatment, Write, masked

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_CHANGES = re.compile(
    r"(?:^|;)\s*(?P<what>INSERT|UPDATE|DELETE|MERGE|TRUNCATE|CREATE|ALTER|DROP|GRANT|REVOKE|COMMENT|REASSIGN|COPY)\b"
    r"|\bpg_terminate_backend\b",
    re.IGNORECASE,
)
"""Somewhere among statements that are sent together: the first may only say as whom."""
_END = re.compile(r"\s*(COMMIT|END)\b", re.IGNORECASE)
_PATIENCE_S = 15.0
"""For what the server had begun when its client died; a clone of a database takes the longest."""
_LITERAL = re.compile(r"E?'(?:[^']|'')*'")


def label_of(database: str, statement: str) -> str:
    """The statement as a person reads it: one line, literals masked; of several, the first that changes."""
    text = _without_literals(statement)
    found = _CHANGES.search(text)
    text = text[max(0, found.start("what")) if found else 0 :].replace('"', "")
    return f"{masked(database)}: {masked(text)[:110]}"


def changes(statement: str) -> bool:
    """Whether the statement changes something by itself."""
    return bool(_CHANGES.search(_without_literals(statement)))


def _without_literals(statement: str) -> str:
    return _LITERAL.sub("'…'", " ".join(statement.split()))


@dataclass(slots=True)
class _Exchange:
    """What the client sent up to a Sync, and what the server answered to it."""

    write: Write | None
    treatment: Treatment | None
    ends: bool
    failed: bool = False
    skipped: bool = False
    tag: str = ""


@dataclass(slots=True)
class _Session:
    """One connection of the operator, and ours to the server."""

    switch: Switch
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    database: str = ""
    in_transaction: bool = False
    transaction: int = 0
    """The number of the open one, or of the last."""
    changed: list[Write] = field(default_factory=list)
    """Writes of the open transaction that succeeded."""
    deaf: bool = False
    """The client is gone."""
    waiting: deque[_Exchange] = field(default_factory=deque)
    prepared: dict[bytes, str] = field(default_factory=dict)
    portals: dict[bytes, str] = field(default_factory=dict)

    async def run(self) -> None:
        if not await self._startup():
            return
        asking, answering = (asyncio.ensure_future(way) for way in (self._from_client(), self._from_server()))
        try:
            await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and asking.exception() is not None and self.waiting:
                # the operator died: the server carries out what it was asked, and that counts
                self.deaf = True
                await asyncio.wait((answering,), timeout=_PATIENCE_S)
        finally:
            for way in (asking, answering):
                way.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)
            self._undo()

    async def _startup(self) -> bool:
        reader, writer = self.client
        upstream, out = self.server
        while True:
            head = await reader.readexactly(8)
            length, code = struct.unpack("!II", head)
            rest = await reader.readexactly(length - 8)
            out.write(head + rest)
            await out.drain()
            if code == _CANCEL:
                return False
            if code not in (_SSL, _GSS):
                words = rest.split(b"\0")
                pairs = dict(zip(words[::2], words[1::2], strict=False))
                self.database = pairs.get(b"database", pairs.get(b"user", b"")).decode()
                return True
            writer.write(await upstream.readexactly(1))  # "N": this server does neither
            await writer.drain()

    async def _from_client(self) -> None:
        reader = self.client[0]
        batch, executed = bytearray(), list[str]()
        while True:
            kind, payload, raw = await _message(reader)
            batch += raw
            match kind:
                case b"Q":
                    executed.append(payload[:-1].decode(errors="replace"))
                case b"P":
                    name, text = payload.split(b"\0")[:2]
                    self.prepared[name] = text.decode(errors="replace")
                    continue
                case b"B":
                    portal, name = payload.split(b"\0")[:2]
                    self.portals[portal] = self.prepared.get(name, "")
                    continue
                case b"E":
                    executed.append(self.portals.get(payload.split(b"\0")[0], ""))
                    continue
                case b"D" | b"C":
                    continue
                case b"S":
                    pass
                case _:  # passwords, COPY data, Flush, Terminate
                    await self._send(bytes(batch))
                    batch.clear()
                    continue
            if not await self._ask(bytes(batch), ";".join(executed)):
                return
            batch.clear()
            executed.clear()

    async def _ask(self, raw: bytes, statement: str) -> bool:
        """Forward one exchange, unless a fault wants something else; False ends the connection."""
        ends = bool(_END.match(statement))
        writes = changes(statement) or (ends and bool(self.changed))
        call = Call(system="postgres", label=label_of(self.database, statement), writes=writes)
        inner = writes and self.in_transaction and not ends
        write, treatment = self.switch.arrive(call, transaction=self.transaction if inner else 0)
        match treatment:
            case Kill(before=True):
                self._note(write, "lost")
                self.switch.strike()
                return False
            case Refuse():
                self._note(write, "lost")
                return False
            case Delay(seconds=seconds):
                await asyncio.sleep(seconds)
        self.waiting.append(_Exchange(write=write, treatment=treatment, ends=ends))
        await self._send(raw)
        return True

    async def _from_server(self) -> None:
        reader, writer = self.server[0], self.client[1]
        while True:
            kind, payload, raw = await _message(reader)
            exchange = self.waiting[0] if self.waiting else None
            if exchange is not None:
                self._hear(exchange, kind, payload)
            if kind == b"Z":
                if payload == b"T" and not self.in_transaction:
                    self.transaction = next(self.switch.begun)
                self.in_transaction = payload == b"T"
                if payload == b"E":
                    self._undo()
                if exchange is not None:
                    self.waiting.popleft()
                    self._settle(exchange)
                    if isinstance(exchange.treatment, Kill):
                        self.switch.strike()
                        return
                    if isinstance(exchange.treatment, Cut) or (self.deaf and not self.waiting):
                        return
            if not self.deaf and (exchange is None or not isinstance(exchange.treatment, Kill | Cut)):
                try:
                    writer.write(raw)
                    await writer.drain()
                except OSError:
                    self.deaf = True

    def _hear(self, exchange: _Exchange, kind: bytes, payload: bytes) -> None:
        if kind == b"E":
            exchange.failed = True
        elif kind == b"N" and b"skipping" in payload:
            exchange.skipped = True
        elif kind == b"C":
            exchange.tag = payload[:-1].decode()

    def _settle(self, exchange: _Exchange) -> None:
        """The exchange is answered: what it changed counts now, with its transaction, or not at all."""
        committed = exchange.ends and exchange.tag == "COMMIT"
        if exchange.write is not None and not exchange.ends:
            exchange.write.tag = "skipped" if exchange.skipped else exchange.tag
            self._note(exchange.write, "refused" if exchange.failed else "applied")
            if not exchange.failed:
                self.changed.append(exchange.write)
        if exchange.write is not None and exchange.ends:
            self._note(exchange.write, "applied" if committed else "refused")
        if self.in_transaction:
            return
        if self.changed and (committed or not exchange.ends) and not exchange.tag.startswith("ROLLBACK"):
            self.switch.commit(Transaction(database=self.database, writes=tuple(self.changed)))
            self.changed = []
        self._undo()

    def _undo(self) -> None:
        for write in self.changed:
            write.outcome = "rolled back"
        self.changed = []

    def _note(self, write: Write | None, outcome: str) -> None:
        if write is not None:
            write.outcome = outcome

    async def _send(self, raw: bytes) -> None:
        self.server[1].write(raw)
        await self.server[1].drain()


class PostgresProxy:
    """Listens on loopback and relays to one server."""

    def __init__(self, *, host: str, port: int, switch: Switch) -> None:
        self._host, self._port, self._switch = host, port, switch
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> None:
        """Listen."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def stop(self) -> None:
        """Close every connection."""
        if self._listener is not None:
            self._listener.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        closing = [writer]
        try:
            server = await asyncio.open_connection(self._host, self._port)
            closing.append(server[1])
            await _Session(switch=self._switch, client=(reader, writer), server=server).run()
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side is gone, so the other goes, too
        except asyncio.CancelledError:
            return  # by `stop`, which waits for nobody; asyncio would print a trace
        finally:
            self._open.discard(task)
            for end in closing:
                with contextlib.suppress(OSError):
                    end.close()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes, bytes]:
    head = await reader.readexactly(5)
    payload = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
    return head[:1], payload, head + payload
