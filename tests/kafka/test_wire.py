"""Clients that know CloudEvents, Avro and Kafka, and nothing of ours, start a workflow and read its end.

Below the line there is no import of antiphon: what stands there anybody could
have written, in any language, from docs/reference/wire.md.
"""

# The strangers' libraries say little or nothing of their types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import fastavro
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry import avro as confluent_avro
from confluent_kafka.serialization import MessageField, SerializationContext

from antiphon.testing.registry import RegistryServer

pytestmark = pytest.mark.kafka

SUPPORT = Path(__file__).parents[2] / "examples" / "1-first-agent" / "support.py"


@pytest.fixture
def triage(kafka: str, namespace: str, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Start the first example's agent as a process; it is stopped in order at the end."""
    running: list[subprocess.Popen[bytes]] = []

    def run(*options: str) -> None:
        command = [sys.executable, "-m", "antiphon.cli", "run", f"{SUPPORT}:triage", "-b", kafka, "-n", namespace]
        with (tmp_path / "log").open("wb") as log:
            running.append(subprocess.Popen([*command, *options], cwd=tmp_path, stdout=log, stderr=log))

    yield run
    for process in running:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()


@pytest.fixture
def registry() -> Iterator[str]:
    """The address of a schema registry."""
    with RegistryServer() as server:
        yield server.url


# ------------------------------------------------------------------------- nothing of ours below this line

TICKET = {
    "type": "record",
    "name": "Ticket",
    "namespace": "com.example.helpdesk",
    "fields": [
        {"name": "body", "type": "string"},
        {"name": "ticket_id", "type": "string"},
        {"name": "channel", "type": "string"},
    ],
}
DATA = {"ticket_id": "T-7", "body": "refund?", "channel": "phone"}


def test_single_object_encoding(kafka: str, namespace: str, triage: Callable[..., None]) -> None:
    """With fastavro and confluent-kafka alone: the schema goes to its topic, the event to its own."""
    triage()
    opened, triaged, schemas = topics(kafka, namespace)
    fingerprint, value = encoded()
    id = str(uuid.uuid4())
    publish(kafka, schemas, fingerprint, json.dumps(TICKET).encode(), {})
    publish(kafka, opened, id, value, cloud_event(id))

    answer = first(kafka, triaged)

    said = answer.value() or b""
    assert said[:2] == b"\xc3\x01"
    written = first(kafka, schemas, lambda record: record.key() == said[2:10].hex().encode())
    assert decoded(json.loads(written.value() or b""), said[10:]) == {
        "ticket_id": "T-7",
        "queue": "billing",
    }
    assert_answers(answer, id)


def test_confluent_framing(kafka: str, namespace: str, triage: Callable[..., None], registry: str) -> None:
    """With a registry, and the serializers of Confluent's own client."""
    triage("--registry", registry)
    opened, triaged, _ = topics(kafka, namespace)
    client: Any = SchemaRegistryClient({"url": registry})  # Its types are not complete, nor are the serializers'.
    avro: Any = confluent_avro
    # It makes its topics before it tells its schemas.
    until(lambda: f"{opened}-value" in client.get_subjects(), what="the agent's schemas")
    serialize = avro.AvroSerializer(client, client.get_latest_version(f"{opened}-value").schema.schema_str)
    value = serialize({"ticket_id": "T-7", "body": "hello"}, SerializationContext(opened, MessageField.VALUE))
    id = str(uuid.uuid4())
    publish(kafka, opened, id, value, cloud_event(id))

    answer = first(kafka, triaged)

    read = avro.AvroDeserializer(client)(answer.value(), SerializationContext(triaged, MessageField.VALUE))
    assert read == {"ticket_id": "T-7", "queue": "general"}
    assert_answers(answer, id)


@pytest.mark.skipif(shutil.which("kcat") is None, reason="needs kcat: apt-get install kcat")
def test_kcat(kafka: str, namespace: str, triage: Callable[..., None], tmp_path: Path) -> None:
    """A shell is enough: kcat starts the workflow, and reads the headers of its end."""
    triage()
    opened, triaged, schemas = topics(kafka, namespace)
    fingerprint, value = encoded()
    (tmp_path / "event").write_bytes(value)
    (tmp_path / "schema").write_text(json.dumps(TICKET))
    id = str(uuid.uuid4())
    kcat(kafka, "-P", "-t", schemas, "-k", fingerprint, tmp_path / "schema")
    headers = [word for name, value in cloud_event(id).items() for word in ("-H", f"{name}={value}")]
    kcat(kafka, "-P", "-t", opened, "-k", id, *headers, tmp_path / "event")

    first(kafka, triaged)
    seen = kcat(kafka, "-C", "-t", triaged, "-o", "beginning", "-e", "-f", "%k|%h\n")

    [line] = seen.splitlines()
    key, _, told = line.partition("|")
    read = {name: value for name, _, value in (pair.partition("=") for pair in told.split(","))}
    assert (key, read["ce_correlationid"], read["ce_causationid"], read["ce_type"]) == (id, id, id, "ticket.triaged")


def encoded() -> tuple[str, bytes]:
    """Return the schema's fingerprint in hex and the ticket, by Avro's single-object encoding."""
    avro: Any = fastavro  # Its types are not complete.
    schema = avro.parse_schema(TICKET)
    fingerprint: str = avro.schema.fingerprint(avro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO")
    body = io.BytesIO()
    avro.schemaless_writer(body, schema, DATA)
    return fingerprint, b"\xc3\x01" + bytes.fromhex(fingerprint) + body.getvalue()


def decoded(schema: object, body: bytes) -> object:
    avro: Any = fastavro  # As above.
    return avro.schemaless_reader(io.BytesIO(body), avro.parse_schema(schema), None)


def topics(kafka: str, namespace: str) -> tuple[str, str, str]:
    """Return the names of the topics, once the agent has made them and stands ready."""
    names = [f"{namespace}.{topic}" for topic in ("ticket.opened", "ticket.triaged", "antiphon.schemas")]
    admin: Any = AdminClient({"bootstrap.servers": kafka})
    until(lambda: admin.list_topics(timeout=10).topics.keys() >= {*names}, what="the agent's topics")
    return names[0], names[1], names[2]


def cloud_event(id: str) -> dict[str, str]:
    """Return the headers that CloudEvents asks for, and no more."""
    return {"ce_specversion": "1.0", "ce_id": id, "ce_type": "ticket.opened", "ce_source": "/helpdesk"}


def publish(kafka: str, topic: str, key: str, value: bytes, headers: dict[str, str]) -> None:
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    failed: list[KafkaError] = []

    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    producer.produce(topic, value, key, headers=cast("Any", headers), on_delivery=report)
    assert (producer.flush(20), failed) == (0, [])


def first(kafka: str, topic: str, wanted: Callable[[Message], bool] = lambda _: True) -> Message:
    """Return the first committed record of *topic* that is *wanted*; waits for it."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "someone.else", "isolation.level": "read_committed"})
    metadata: Any = consumer.list_topics(topic, timeout=10)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in metadata.topics[topic].partitions])
    found: list[Message] = []

    def look() -> bool:
        record = consumer.poll(0.2)
        if record is not None and record.error() is None and wanted(record):
            found.append(record)
        return bool(found)

    try:
        until(look, what=f"a record on {topic}")
    finally:
        consumer.close()
    return found[0]


def assert_answers(answer: Message, id: str) -> None:
    """It says in CloudEvents' words which event it answers, and stands under the workflow's key."""
    headers = {name: value.decode() for name, value in cast("list[tuple[str, bytes]]", answer.headers())}
    assert (answer.key(), headers["ce_correlationid"], headers["ce_causationid"]) == (id.encode(), id, id)
    assert (headers["ce_specversion"], headers["ce_type"], headers["ce_source"], headers["content-type"]) == (
        "1.0",
        "ticket.triaged",
        "/agents/triage",
        "application/avro",
    )
    assert {"ce_id", "ce_time"} <= headers.keys()


def kcat(kafka: str, *arguments: str | os.PathLike[str]) -> str:
    done = subprocess.run(
        ["kcat", "-b", kafka, "-q", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(condition: Callable[[], bool], *, what: str, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"expected {what} within {within_s:.0f} s"
        time.sleep(0.02)
