"""What finished in a tenant's CI, sent to a topic of Kafka as CloudEvents; people as surrogates.

    python -m pipewright.store.to_kafka --dsn-file uri --brokers kafka:9093 --topic ci --minutes 60

Run by the tenant, with a login and a topic of its own, as the other exports are: no process of the platform
connects to an address that a tenant chose, or holds its credentials. The events are structured, and keyed by
their line of work; what is sent again is the same event.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from pipewright.store import outgoing
from pipewright.store.outgoing import CloudEvent

try:
    import confluent_kafka
except ImportError as missing:
    raise ImportError(
        "the export to Kafka needs the package confluent-kafka: pip install -r requirements/kafka.txt"
    ) from missing

BATCH: Final = 500
"""Rows of a kind that are read at once."""
ANSWER: Final = 15.0
"""Seconds in which a broker must have answered first; one that refuses who asks is believed at once."""
_DEFAULTS: Final = {"client.id": "pipewright", "message.timeout.ms": "60000", "enable.metrics.push": "false"}
_FIXED: Final = {"acks": "all", "enable.idempotence": "true"}
"""A message is sent when all replicas in sync have it; tried again it is there once, in its order."""


class PropertyError(ValueError):
    """The producer's properties are none. The message has no value of theirs: it may be a password."""


class Topic:
    """A topic that takes events; what it refuses is told at the next call."""

    def __init__(self, brokers: str, topic: str, *, properties: Mapping[str, str]) -> None:
        """`properties` are librdkafka's.

        Raises:
            PropertyError: one is none, or says what the command says.
            ConnectionError: no broker answers, or not about this topic.
        """
        self._brokers, self._topic = brokers, topic
        self._trouble, self._shut_out = "", False
        self._refused: confluent_kafka.KafkaError | None = None
        self._producer = self._made(properties)
        self._look()

    def send(self, event: CloudEvent) -> None:
        """Hand it to the producer, which sends several at once.

        Raises:
            ConnectionError: one that was sent before was refused.
        """
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    event.structured(),
                    event.partitionkey,
                    headers={"content-type": outgoing.MEDIA_TYPE},
                    on_delivery=self._delivered,
                )
                break
            except BufferError:  # the brokers are slower than the database
                self._served(1.0)
            except confluent_kafka.KafkaException as refused:  # such as one that is too large
                code = refused.args[0].code()
                self._refused = confluent_kafka.KafkaError(code)  # in the words of one refused by a broker
                self._check()
        self._served(0)

    def finish(self) -> None:
        """Return when the brokers have all of them.

        Raises:
            ConnectionError: they refused one, or did not take it in time.
        """
        while self._producer.flush(1.0):
            self._check()
        self._check()

    def _made(self, properties: Mapping[str, str]) -> confluent_kafka.Producer:
        fixed = {"bootstrap.servers": self._brokers, **_FIXED}
        for name in fixed.keys() & properties.keys():
            raise PropertyError(f"{name} is not one for the file: it is {fixed[name]}")
        try:
            return confluent_kafka.Producer(
                {**_DEFAULTS, **properties, **fixed, "error_cb": self._troubled, "log_level": 0}
            )
        except confluent_kafka.KafkaException as wrong:
            text = wrong.args[0].str()
            for value in sorted(properties.values(), key=len, reverse=True):
                text = text.replace(value, "…") if value else text
            raise PropertyError(f"{text} (properties are librdkafka's)") from None

    def _look(self) -> None:
        """Ask for the topic, so that what cannot work ends before the history is read."""
        until = time.monotonic() + ANSWER
        while True:
            try:
                found = self._producer.list_topics(self._topic, timeout=1.0).topics[self._topic].error
                break
            except confluent_kafka.KafkaException as silent:
                self._producer.poll(0)
                told = self._trouble or silent.args[0].str()
                if self._shut_out or time.monotonic() >= until:
                    raise ConnectionError(f"no broker of {self._brokers} answers: {told}") from None
        if found is not None and not found.retriable():
            self._refused = found
            self._check()

    def _served(self, seconds: float) -> None:
        self._producer.poll(seconds)
        self._check()

    def _check(self) -> None:
        if self._refused is None:
            return
        self._producer.purge()
        told = f"the brokers did not take the events for the topic {self._topic}: {self._refused.str()}"
        raise ConnectionError(f"{told}; {self._trouble}" if self._trouble else told)

    def _delivered(self, error: confluent_kafka.KafkaError | None, _: confluent_kafka.Message) -> None:
        self._refused = self._refused or error

    def _troubled(self, error: confluent_kafka.KafkaError) -> None:
        self._trouble = error.str()
        self._shut_out = error.code() in (
            confluent_kafka.KafkaError._AUTHENTICATION,
            confluent_kafka.KafkaError._SSL,
        )


def export(
    conn: psycopg.Connection[Any], topic: Topic, *, kinds: Sequence[str], since: datetime, until: datetime
) -> Counter[str]:
    """Send what finished in [since, until), the oldest first; how many of each kind.

    Raises:
        ConnectionError: the brokers did not take them. What was sent before may be sent again.
    """
    sent: Counter[str] = Counter()
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # one moment for all kinds
    with conn.transaction():
        streams = [
            _events(conn, kind, rank, {"since": since, "until": until})
            for rank, kind in enumerate(outgoing.KINDS)
            if kind in kinds
        ]
        for _, _, kind, event in heapq.merge(*streams, key=lambda found: found[:2]):
            topic.send(event)
            sent[kind] += 1
    topic.finish()
    return sent


def _events(
    conn: psycopg.Connection[Any], kind: str, rank: int, span: Mapping[str, datetime]
) -> Iterator[tuple[datetime, int, str, CloudEvent]]:
    with conn.cursor(f"to_kafka_{kind}", row_factory=dict_row) as cursor:
        cursor.itersize = BATCH
        cursor.execute(outgoing.KINDS[kind].query().encode(), span)
        for row in cursor:
            event = outgoing.event(kind, row)
            yield event.time, rank, kind, event


def properties(text: str) -> dict[str, str]:
    """Lines of `name=value`; empty ones and comments (#) say nothing.

    Raises:
        PropertyError: names the line.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise PropertyError(f"line {number} must be name=value, or begin with #")
        found[name.strip()] = value.strip()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, and print how much it was."""
    parser = argparse.ArgumentParser(prog="python -m pipewright.store.to_kafka", description=__doc__)
    parser.add_argument("--dsn-file", type=Path, required=True, help="holds a PostgreSQL URI of the tenant")
    parser.add_argument("--brokers", required=True, help="some of them, as host:port,host:port")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--config-file", type=Path, help="librdkafka's properties: TLS, SASL, compression …")
    parser.add_argument(
        "--kinds", default=",".join(outgoing.USUAL), help=f"of {', '.join(outgoing.KINDS)}; %(default)s"
    )
    span = parser.add_mutually_exclusive_group()
    span.add_argument("--minutes", type=int, default=60, help="what finished in so many before --until")
    span.add_argument("--since", type=datetime.fromisoformat, help="a moment with its offset")
    parser.add_argument("--until", type=datetime.fromisoformat, help="another; now without it")
    chosen = parser.parse_args(arguments)
    until = chosen.until or datetime.now(UTC)
    since = chosen.since or until - timedelta(minutes=chosen.minutes)
    if until.tzinfo is None or since.tzinfo is None:
        parser.error("--since and --until must have an offset, such as 2026-01-31T08:30:00+00:00")
    kinds = chosen.kinds.split(",")
    for unknown in set(kinds) - outgoing.KINDS.keys():
        parser.error(f"--kinds: {unknown} is none of {', '.join(outgoing.KINDS)}")
    try:
        given = properties(chosen.config_file.read_text()) if chosen.config_file else {}
        topic = Topic(chosen.brokers, chosen.topic, properties=given)
        with psycopg.connect(chosen.dsn_file.read_text().strip(), options="-c TimeZone=UTC") as conn:
            sent = export(conn, topic, kinds=kinds, since=since, until=until)
    except PropertyError as wrong:
        parser.error(f"--config-file {chosen.config_file}: {wrong}")
    except ConnectionError as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    sys.stdout.write(", ".join(f"{sent[kind]} {kind}s" for kind in kinds) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
