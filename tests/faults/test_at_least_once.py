"""What an agent promises that trades exactly once for latency: nothing is lost, and repeats are known by their ids."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from crew import Crew
from mill import Flour, Ground, mill

from antiphon.bus.errors import CommitError
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.memory import MemoryBus, MemoryMember, Point
from antiphon.bus.names import Names
from antiphon.bus.schema_topic import TopicStore
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

EVENTS, KILLS = 600, 2


async def ids(mesh: MemoryMesh) -> dict[str, list[str]]:
    """Return under which ids each event's answer came."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for envelope, flour in await mesh.events(Flour):
        found[flour.n].append(envelope.id)
    return found


async def test_at_least_once_in_memory() -> None:
    """Every other commit fails between records and offsets: all come, some twice, under the same ids; activity likewise."""
    fails = iter([True, False] * 1_000)

    async def fail_often(point: Point, _member: MemoryMember) -> None:
        if point is Point.WRITTEN and next(fails):
            raise CommitError("REFUSED")

    mesh = MemoryMesh(2, bus=MemoryBus(partitions=2, faults=fail_often))
    await mesh.prepare(mill)
    await mesh.publish(*(Ground(n=str(n)) for n in range(20)))
    async with mesh.running(mill):

        async def repeated() -> bool:
            found = await ids(mesh)
            return len(found) == 20 and max(map(len, found.values())) > 1

        await eventually(repeated, what="an answer to each, and a second to some")
    found = await ids(mesh)
    assert {len({*same}) for same in found.values()} == {1}
    handled = await mesh.handled()
    assert {entry.outcome for entry in handled} == {"completed"}
    assert {emitted.id for entry in handled for emitted in entry.emitted} == {
        id for same in found.values() for id in same
    }


@pytest.mark.kafka
async def test_at_least_once_killed_on_kafka(kafka: str, namespace: str, tmp_path: Path) -> None:
    """Two kill -9 in mid-flow: every event has its answer, and answers that came twice have one id."""
    names = Names(namespace)
    bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka))
    mesh = MemoryMesh(2, bus=bus, names=names, store=TopicStore(bus, names, partitions=2))
    await mesh.prepare(mill)
    await mesh.codec.announce([Flour], topic_of=names.topic)
    with Crew(tmp_path, bootstrap_servers=kafka, namespace=namespace, partitions=2) as crew:
        worker = crew.start(f"{Path(__file__).parent / 'mill.py'}:mill")
        for share in range(KILLS + 1):
            size = EVENTS // (KILLS + 1)
            await mesh.publisher.publish([Ground(n=str(n)) for n in range(share * size, (share + 1) * size)])
            wanted = (share + 1) * size if share == KILLS else share * size + size // 4

            async def through(count: int = wanted) -> bool:
                return len(await ids(mesh)) >= count

            await eventually(through, 90, what=f"{wanted} answers; {crew.logs()}")
            if share < KILLS:
                worker.kill()
                worker = crew.start(f"{Path(__file__).parent / 'mill.py'}:mill")
        assert await crew.stop() == [0]
    found = await ids(mesh)
    await bus.close()
    assert found.keys() == {str(n) for n in range(EVENTS)}
    assert {len({*same}) for same in found.values()} == {1}
