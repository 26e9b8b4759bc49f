"""A canary on Apache Kafka: worker processes with one share, one of which is killed, and one of which comes later."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from crew import Crew
from tally import Added, Counted

from antiphon.bus.activity import Activity
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import ACTIVITY, Names
from antiphon.bus.share import Share
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka

PATIENCE_S = 90.0
ROUNDS, WORKFLOWS, PARTITIONS = 12, [f"order-{number}" for number in range(60)], 6
SHARE = Share.parse("30%")
AGENTS = Path(__file__).parent / "tally.py"
CANARY = f"tally={AGENTS}:tally_v2"


async def test_each_workflow_has_one_version_whoever_has_its_partition(
    kafka: str, namespace: str, tmp_path: Path
) -> None:
    """Told by flags or by the environment, in one process or two: nothing is lost, repeated or counted by the other version."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka))
    mesh = MemoryMesh(PARTITIONS, bus=bus, names=Names(namespace))
    settings = {"bootstrap_servers": kafka, "namespace": namespace, "partitions": PARTITIONS, "session_timeout": 3}
    expected = 0

    async def tell(rounds: int) -> None:
        nonlocal expected
        for _ in range(rounds):
            for workflow in WORKFLOWS:
                expected += 1
                await mesh.publisher.publish([Added(n=expected)], correlation_id=workflow)

    async def counted() -> bool:
        return len(await mesh.records(Counted.__event__.topic)) >= expected

    with Crew(tmp_path, **settings) as crew:
        flags = (f"{AGENTS}:tally", "--canary", CANARY, "--share", "30%")
        doomed = await crew.start(*flags, "--instance", "doomed").ready()
        told = crew.start(f"{AGENTS}:tally", "--processes", "2", canary=CANARY, share="30%", instance="told")
        await eventually(lambda: len(told.said("ready")) == 2, PATIENCE_S, what="both processes to be ready")
        await tell(ROUNDS // 3)
        doomed.kill()
        await tell(ROUNDS // 3)
        await crew.start(*flags, "--instance", "late").ready()
        await tell(ROUNDS // 3)
        await eventually(counted, PATIENCE_S, what=f"{expected} counts; {crew.logs()}")
        assert await crew.stop() == [0, 0]

    versions: defaultdict[str, set[str]] = defaultdict(set)
    finals: defaultdict[str, int] = defaultdict(int)
    instances: set[str] = set()
    for record in await mesh.records(ACTIVITY):
        activity = mesh.codec.decode(Activity, record.value or b"")
        instances.add(activity.instance)
        for one in activity.deliveries:
            versions[one.correlation_id].add(activity.version)
            finals[one.event_id] += 1
    counts: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for envelope, event in await mesh.events(Counted):
        counts[envelope.correlation_id].append((event.count, event.by))
    await bus.close()
    version_of = {workflow: "2" if SHARE.takes(workflow) else "1" for workflow in WORKFLOWS}
    assert counts == {w: [(n, version_of[w]) for n in range(1, ROUNDS + 1)] for w in WORKFLOWS}
    assert versions == {workflow: {version} for workflow, version in version_of.items()}
    assert (len(finals), {*finals.values()}) == (expected, {1})
    assert {"told-0", "told-1"} <= instances <= {"doomed", "told-0", "told-1", "late"}
