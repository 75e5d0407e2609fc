"""A real Kafka protocol server, franz-go's kfake, and what a consumer reads from it."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev import assets, certificates, ports, process
from dev.process import Process
from dev.progress import Progress

PARTITIONS = 3
USER = "acme"


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """What a consumer reads."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, kw_only=True)
class Broker:
    """The server, and how it is reached."""

    port: int
    authority: Path | None = None
    """Whose certificates it shows; None without TLS."""
    password: str = field(default="", repr=False)
    """Of `USER`; empty: nobody needs one."""

    @property
    def address(self) -> str:
        """As `host:port`."""
        return f"127.0.0.1:{self.port}"

    def properties(self, *, password: str | None = None) -> dict[str, str]:
        """What a client says to be let in."""
        if self.authority is None:
            return {}
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.authority),
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": USER,
            "sasl.password": self.password if password is None else password,
        }

    def messages(self, topic: str) -> list[Message]:
        """All of a topic, by partition and offset."""
        import confluent_kafka  # the other contract tests do not need it

        consumer = confluent_kafka.Consumer(
            {
                **self.properties(),
                "bootstrap.servers": self.address,
                "group.id": "of-the-tests",
                "enable.auto.commit": "false",
                "enable.metrics.push": "false",
            }
        )
        try:
            parts = [confluent_kafka.TopicPartition(topic, part, 0) for part in range(PARTITIONS)]
            count = sum(consumer.get_watermark_offsets(part, timeout=10.0)[1] for part in parts)
            consumer.assign(parts)
            found: list[Message] = []
            while len(found) < count:
                read: Any = consumer.consume(1, timeout=10.0)[0]
                error = read.error()
                if error and error.code() == confluent_kafka.KafkaError.GROUP_AUTHORIZATION_FAILED:
                    continue  # what the group has read nobody needs here
                assert error is None, error
                headers = tuple(read.headers() or ())
                found.append(Message(read.partition(), read.offset(), read.key(), read.value(), headers))
        finally:
            consumer.close()
        return sorted(found)

    def events(self, topic: str) -> list[dict[str, Any]]:
        """The values."""
        return [json.loads(message.value) for message in self.messages(topic)]


@contextmanager
def running(
    folder: Path,
    *,
    topics: Sequence[str],
    guarded: bool = False,
    writable: Sequence[str] = (),
    faults: Sequence[Mapping[str, Any]] = (),
) -> Iterator[Broker]:
    """Until the block ends; a guarded one has TLS, and its user may do what it wants on `writable` alone."""
    made = Broker(port=ports.free())
    config: dict[str, Any] = {
        "port": made.port, "topics": dict.fromkeys(topics, PARTITIONS), "faults": list(faults),
    }  # fmt: skip
    if guarded:
        certificates.serving(folder)
        made = Broker(port=made.port, authority=folder / "ca.crt", password=secrets.token_urlsafe(24))
        config |= {
            "certificate": str(folder / "tls.crt"),
            "key": str(folder / "tls.key"),
            "users": [{"name": USER, "password": made.password, "write": list(writable)}],
        }
    (folder / "config.json").write_text(json.dumps(config))
    binary = assets.binaries(assets.KAFKA, Progress())["kafka"]
    place = Process(
        name="kafka",
        folder=folder,
        command=(str(binary), str(folder / "config.json")),
        ready=lambda: _listens(made.port),
    )
    process.start(place)
    try:
        yield made
    finally:
        process.stop(folder, "kafka")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
