"""F16 and F26: what may come on the wire that is no event of ours, or costs too much to read. None of it stops anybody."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
from confluent_kafka import Producer
from pydantic import BaseModel

from antiphon import Agent, Event
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.records import UNREADABLE
from antiphon.bus.names import Names
from antiphon.bus.partition import partition_for
from antiphon.bus.record import Outgoing, Record
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

Headers = list[tuple[str, bytes | None]]
DEAD = "antiphon_dead_"


class Node(BaseModel):
    below: Node | None = None


class Asked(Event, type="poison.asked"):
    n: int


class Tree(Event, type="poison.tree"):
    root: Node | None = None


class Text(Event, type="poison.text"):
    text: str


class Done(Event, type="poison.done"):
    n: int


agent = Agent("eater")


@agent.on(Asked)
async def ask(asked: Asked) -> Done:
    return Done(n=asked.n)


@agent.on(Tree)
async def climb(tree: Tree) -> Done:
    return Done(n=-1)


@agent.on(Text)
async def read(text: Text) -> Done:
    return Done(n=len(text.text))


@pytest.fixture
async def mesh(kafka: str, namespace: str) -> AsyncIterator[MemoryMesh]:
    """One partition on Kafka, with what the agent hears and says already known."""
    mesh = MemoryMesh(1, bus=KafkaBus(KafkaConfig(bootstrap_servers=kafka)), names=Names(namespace))
    await mesh.prepare(agent)
    await mesh.codec.announce([Asked, Tree, Text])
    yield mesh
    await mesh.bus.close()


def written(type: str) -> Headers:
    return to_headers(Envelope.root(type, source="/elsewhere"))


async def moves_on(mesh: MemoryMesh, letters: int) -> list[Record]:
    """Publish one more event and run the agent until that is handled; return the dead letters."""
    await mesh.publish(Asked(n=1))
    async with mesh.running(agent):
        await mesh.eventually(Done, count=1, timeout=60)

        async def set_aside() -> bool:
            return len(await mesh.records("eater.dead")) == letters

        await eventually(set_aside, 60, what=f"{letters} dead letters")
    return await mesh.records("eater.dead")


def theirs(record: Record) -> Headers:
    return [(name, value) for name, value in record.headers if not name.startswith(DEAD)]


@pytest.mark.kafka
async def test_f16_poison_is_set_aside_as_it_came(mesh: MemoryMesh) -> None:
    """Key, value and headers to the byte, in order, with why; and what stands behind it is handled."""
    good = mesh.codec.encode(Asked(n=7))
    asked = written("poison.asked")
    poison: list[tuple[bytes | None, bytes | None, Headers, str]] = [
        (b"not avro", b"{}", asked, "DecodeError"),
        (b"unknown schema", b"\xc3\x01" + bytes(8) + b"\x02", asked, "UnknownSchemaError"),
        (b"unknown id", b"\x00\x00\x00\x00\x07\x02", asked, "UnknownSchemaError"),
        (b"truncated", good[:-1], asked, "DecodeError"),
        (b"trailing", good + b"\x00", asked, "DecodeError"),
        (b"no value", None, asked, "DecodeError"),
        (b"empty", b"", asked, "DecodeError"),
        (b"no headers", good, [], "NotAnEventError"),
        (b"no id", good, [pair for pair in asked if pair[0] != "ce_id"], "NotAnEventError"),
        (b"null id", good, [("ce_id", None), *asked[2:]], "NotAnEventError"),
        (b"no text", good, [*asked, ("ce_correlationid", b"\xff\xfe")], "NotAnEventError"),
        (b"twice", b"no", [*asked, ("mine", b"1"), ("mine", None), ("mine", b"")], "DecodeError"),
        (None, b"no key", asked, "DecodeError"),
        (b"\xff", good, asked, "NotAnEventError"),
    ]
    topic = mesh.names.topic("poison.asked")
    await mesh.bus.publish([Outgoing(topic, key, value, headers, 0) for key, value, headers, _ in poison])
    letters = await moves_on(mesh, len(poison))
    got = [(letter.key, letter.value, theirs(letter), dict(letter.headers)[DEAD + "error"]) for letter in letters]
    assert sorted(got, key=repr) == sorted(
        [(key, value, headers, error.encode()) for key, value, headers, error in poison], key=repr
    )
    assert {dict(letter.headers)[DEAD + "reason"] for letter in letters} == {b"undecodable"}


@pytest.mark.kafka
async def test_f16_a_header_whose_name_is_no_text(mesh: MemoryMesh, kafka: str) -> None:
    """The client tells none of its headers, and raised what no client should: set aside, with the rest as it came."""
    kcat = shutil.which("kcat")
    if kcat is None:
        pytest.skip("no kcat, which writes what no Python client can")
    words: list[str | bytes] = [kcat, "-P", "-b", kafka, "-t", mesh.names.topic("poison.asked"), "-p", "0", "-K", ":"]
    words += ["-H", b"\xff\xfe=1", "-H", "ce_id=7"]
    await asyncio.to_thread(subprocess.run, words, input=b"key:value\n", check=True, timeout=60)
    [letter] = await moves_on(mesh, 1)
    said = dict(letter.headers)
    assert (letter.key, letter.value, said[DEAD + "error"]) == (b"key", b"value", b"NotAnEventError")
    assert [name for name, _ in theirs(letter)] == [UNREADABLE]


@pytest.mark.kafka
async def test_f26_what_costs_too_much_to_read(mesh: MemoryMesh) -> None:
    """Deep nesting and a value that claims to hold more than it does are set aside unread; many headers do no harm."""
    deep = mesh.codec.encode(Tree())[:10] + b"\x02" * 5_000 + b"\x00"
    endless = mesh.codec.encode(Text(text=""))[:10] + b"\xfe\xff\xff\xff\x0f"
    flood: Headers = [(f"h{n}", b"x" * 50) for n in range(10_000)]
    await mesh.bus.publish(
        [
            Outgoing(mesh.names.topic("poison.tree"), b"deep", deep, written("poison.tree"), 0),
            Outgoing(mesh.names.topic("poison.text"), b"endless", endless, written("poison.text"), 0),
            Outgoing(mesh.names.topic("poison.text"), b"flood", b"?", [*flood, *written("poison.text")], 0),
            Outgoing(
                mesh.names.topic("poison.asked"),
                b"flood",
                mesh.codec.encode(Asked(n=2)),
                [*flood, *written("poison.asked")],
                0,
            ),
        ]
    )
    letters = {letter.key: letter for letter in await moves_on(mesh, 3)}
    errors = {key: dict(letter.headers)[DEAD + "error"] for key, letter in letters.items()}
    assert errors == {b"deep": b"LimitError", b"endless": b"DecodeError", b"flood": b"DecodeError"}
    assert (letters[b"deep"].value, theirs(letters[b"flood"])[: len(flood)]) == (deep, flood)
    assert sorted(event.n for _, event in await mesh.events(Done)) == [1, 2]


@pytest.mark.kafka
async def test_f26_a_decompression_bomb(mesh: MemoryMesh, kafka: str) -> None:
    """Thirty megabytes that travel as thirty kilobytes: refused unread; its letter fits, and says where the record is."""
    bomb = mesh.codec.encode(Text(text=""))[:10] + b"\x80\xc6\x9b\x1c" + bytes(30_000_000)
    producer: Any = Producer({"bootstrap.servers": kafka, "compression.type": "gzip", "message.max.bytes": 40_000_000})
    producer.produce(mesh.names.topic("poison.text"), bomb, b"bomb", partition=0, headers=written("poison.text"))
    assert producer.flush(60) == 0
    [letter] = await moves_on(mesh, 1)
    headers = dict(letter.headers)
    assert (letter.key, letter.value, headers[DEAD + "error"]) == (b"bomb", b"", b"LimitError")
    assert (headers[DEAD + "left_out"], headers[DEAD + "offset"]) == (b"traceback,value", b"0")


@pytest.mark.kafka
async def test_f26_a_bomb_that_the_client_does_not_unpack(
    kafka: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody gets its bytes, so nobody can set it aside: its partition stands still and says so, the other goes on."""
    small = {"receive.message.max.bytes": 2_000_000, "fetch.max.bytes": 1_000_000}
    mesh = MemoryMesh(2, bus=KafkaBus(KafkaConfig(bootstrap_servers=kafka, options=small)), names=Names(namespace))
    await mesh.prepare(agent)
    producer: Any = Producer({"bootstrap.servers": kafka, "compression.type": "zstd", "message.max.bytes": 40_000_000})
    producer.produce(mesh.names.topic("poison.text"), bytes(20_000_000), b"bomb", partition=0)
    assert producer.flush(60) == 0
    on_the_other = next(f"k{n}" for n in range(100) if partition_for(f"k{n}".encode(), 2) == 1)
    said = "records cannot be unpacked; their partition stands still"
    async with mesh.running(agent):
        await eventually(lambda: said in caplog.messages, 60, what="the alarm")
        await mesh.publish(Asked(n=1), key=on_the_other)
        await mesh.eventually(Done, count=1, timeout=60)
    line, *_ = [vars(record) for record in caplog.records if record.message == said]
    assert (line["levelname"], line["topic"], line["partition"]) == ("ERROR", mesh.names.topic("poison.text"), 0)
    await mesh.bus.close()
