"""Events too large for a record, on Apache Kafka: what the broker would refuse must never reach it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from antiphon.agents.agent import Agent
from antiphon.agents.worker import Worker
from antiphon.bus.connect import claim_check, connect, schema_store
from antiphon.bus.mesh import Mesh
from antiphon.bus.port import Bus
from antiphon.bus.record import Outgoing, Record
from antiphon.bus.settings import Settings
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.schemas.event import Event
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka

LARGE = 3_000_000


class Asked(Event, type="large.asked"):
    n: int


class Written(Event, type="large.written"):
    text: str


class Read(Event, type="large.read"):
    n: int


writer, reader = Agent("writer"), Agent("reader")


@writer.on(Asked)
async def write(event: Asked) -> Written:
    return Written(text="x" * event.n)


@reader.on(Written)
async def read(event: Written) -> Read:
    return Read(n=len(event.text))


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[tuple[Bus, Mesh]]:
    """Run both agents as `antiphon run` does."""
    bus = connect(settings)
    store = schema_store(settings, bus, settings.names, 1)
    consumers = [writer.consumer(), reader.consumer()]
    worker = Worker(
        bus, consumers, names=settings.names, store=store, claims=claim_check(settings), partitions=settings.partitions
    )
    task = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(60):
            await worker.ready.wait()
            async with Mesh(bus, settings=settings, store=store) as mesh:
                yield bus, mesh
        worker.stop()
        await task
    finally:
        await bus.close()


async def records(bus: Bus, topic: str) -> list[Record]:
    bounds = await bus.bounds([topic])
    stop = {tp: end for tp, (_, end) in bounds.items()}
    return [record async for record in bus.read({tp: first for tp, (first, _) in bounds.items()}, stop)]


async def test_by_reference(kafka: str, namespace: str, tmp_path: Path) -> None:
    """Three megabytes go through two agents; the record holds no bytes, and a reference."""
    settings = Settings(bootstrap_servers=kafka, namespace=namespace, partitions=1, claims=str(tmp_path))
    async with running(settings) as (bus, mesh):
        assert await mesh.request(Asked(n=LARGE), until=Read, timeout=30) == Read(n=LARGE)
        [record] = await records(bus, f"{namespace}.large.written")
    assert record.value == b""
    assert (dict(record.headers)["ce_dataref"] or b"").startswith(b"claim:sha256:")


async def test_without_a_store(kafka: str, namespace: str) -> None:
    """The event that asked for it is set aside, and the next one is handled; no transaction fails."""
    settings = Settings(bootstrap_servers=kafka, namespace=namespace, partitions=1)
    async with running(settings) as (bus, mesh):
        await mesh.publish(Asked(n=LARGE))
        # Of what passes, the largest: headers, and all that the client adds, have room beside it.
        largest = 900_000 - 36 - 13
        assert await mesh.request(Asked(n=largest), until=Read, timeout=30) == Read(n=largest)

        async def set_aside() -> bool:
            return len(await records(bus, f"{namespace}.writer.dead")) == 1

        await eventually(set_aside, 30, what="the dead letter")
        [letter] = await records(bus, f"{namespace}.writer.dead")
    assert dict(letter.headers)["antiphon_dead_error"] == b"TooLargeError"


@pytest.mark.parametrize(("size", "left_out"), [(988_500, b"traceback"), (999_000, b"traceback,value")])
async def test_a_dead_letter_fits(kafka: str, namespace: str, size: int, left_out: bytes) -> None:
    """Of the largest records that clients send, too: what would not fit is left out, and the partition goes on."""
    settings = Settings(bootstrap_servers=kafka, namespace=namespace, partitions=1)
    async with running(settings) as (bus, mesh):
        headers = to_headers(Envelope.root("large.asked", source="/elsewhere"))
        await bus.publish([Outgoing(f"{namespace}.large.asked", b"k", b"?" * size, headers)])
        assert await mesh.request(Asked(n=1), until=Read, timeout=30) == Read(n=1)
        [letter] = await records(bus, f"{namespace}.writer.dead")
    assert dict(letter.headers)["antiphon_dead_left_out"] == left_out
    assert len(letter.value or b"") == (size if left_out == b"traceback" else 0)
