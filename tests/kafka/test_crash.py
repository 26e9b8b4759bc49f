"""Workers that are killed in mid-flow, on Apache Kafka with real processes: nothing lost, nothing repeated in Kafka.

The oracle is Kafka's own: what a read_committed reader sees at the end, against
what went in, by set, by duplicates, by order per key and by a running total.
`make soak` does the same for longer, on three brokers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ordeal import Course, Fault, Ordeal
from staff import Staff

from antiphon import Mesh
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.settings import Settings

pytestmark = pytest.mark.kafka

COURSE = Course(
    seed=int(os.environ.get("SEED", "11")),
    events=int(os.environ.get("EVENTS", "20000")),
    kills=int(os.environ.get("KILLS", "20")),
)


@pytest.fixture
def staff(kafka: str, namespace: str, tmp_path: Path) -> Iterator[Staff]:
    staff = Staff(("ledger", "auditor"), 3, folder=tmp_path, kafka=kafka, namespace=namespace)
    yield staff
    staff.end()


async def test_workers_that_fail_lose_and_repeat_nothing(kafka: str, namespace: str, staff: Staff) -> None:
    """Twenty kill -9, and zombies, restarts and rebalances, while events go through two chained agents with state."""
    settings = Settings(bootstrap_servers=kafka, namespace=namespace, partitions=COURSE.partitions)
    bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka))
    async with Mesh(bus, settings=settings) as mesh:
        names = Names(namespace)
        verdict = await Ordeal(COURSE, bus=bus, mesh=mesh, names=names, staff=staff, kafka=kafka).run()
    await bus.close()
    print(verdict)  # noqa: T201 - shown where it fails
    assert (verdict.anomalies, verdict.complaints) == ([], [])
    assert (verdict.through, verdict.faults[Fault.KILL]) == (COURSE.events, COURSE.kills)
