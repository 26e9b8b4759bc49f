"""A tracer as it is deployed: a process on Apache Kafka, which is killed while it reads."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from antiphon import Agent, Event
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.schema_topic import TopicStore
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing import Index, Search
from antiphon.tracing.index.errors import IndexFileError

pytestmark = pytest.mark.kafka

ORDERS = 1_500
_AT_ONCE = 500


class Ordered(Event):
    n: int


class Packed(Event):
    n: int


class Sent(Event):
    n: int


pack, send = Agent("pack"), Agent("send")


@pack.on(Ordered)
async def packed(ordered: Ordered) -> Packed:
    return Packed(n=ordered.n)


@send.on(Packed)
async def sent(packed: Packed) -> Sent:
    return Sent(n=packed.n)


@contextlib.contextmanager
def tracer(*argv: str, index: Path, broker: str, namespace: str) -> Generator[subprocess.Popen[bytes]]:
    """`antiphon tracer` with *argv*, killed when the block ends if it has not ended by itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "antiphon.cli", "tracer", *argv, "--index", str(index)],
        env={**os.environ, "ANTIPHON_BOOTSTRAP_SERVERS": broker, "ANTIPHON_NAMESPACE": namespace},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def counted(index: Path) -> tuple[dict[str, int], int, int]:
    """Workflows by state, events, deliveries; none where there is no index yet."""
    try:
        with Index.opened(index) as opened:
            extent = opened.extent()
            return opened.states(), extent.events, extent.deliveries
    except IndexFileError:
        return {}, 0, 0


async def test_killed_while_it_reads_it_goes_on_where_it_was(kafka: str, namespace: str, tmp_path: Path) -> None:
    """Nothing is lost, nothing is there twice: the index is the one that a rebuild makes, and each workflow has ended well."""
    index, again = tmp_path / "index", tmp_path / "again"
    names, bus = Names(namespace), KafkaBus(KafkaConfig(bootstrap_servers=kafka))
    mesh = MemoryMesh(4, bus=bus, names=names, store=TopicStore(bus, names, partitions=4))
    try:
        async with mesh.running(pack, send):
            for first in range(0, ORDERS, _AT_ONCE):
                with tracer("run", index=index, broker=kafka, namespace=namespace) as process:
                    before = counted(index)[1]

                    def reads(before: int = before) -> bool:
                        return counted(index)[1] > before

                    await mesh.publisher.publish([Ordered(n=first + n) for n in range(_AT_ONCE)])
                    await eventually(reads, 90, what="something to be read")
                    process.send_signal(signal.SIGKILL)
                    process.wait()
            with tracer("run", index=index, broker=kafka, namespace=namespace):
                expected = ({"completed": ORDERS}, 3 * ORDERS, 2 * ORDERS)
                await eventually(lambda: counted(index) == expected, 90, what=f"{expected}")
            with tracer("rebuild", index=again, broker=kafka, namespace=namespace) as process:
                assert process.wait(90) == 0
    finally:
        await bus.close()
    with Index.opened(index) as one, Index.opened(again) as other:
        assert [*one.workflows(Search())] == [*other.workflows(Search())]
    assert counted(again) == expected
