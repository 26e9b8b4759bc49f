"""Replays on Apache Kafka: nobody's offsets or groups, no effects, no topic that stays, also where the replay is killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient
from groups import group_epoch

from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.tether import Tethered
from antiphon.bus.names import Names
from antiphon.bus.record import TopicPartition
from antiphon.bus.schema_topic import TopicStore
from antiphon.compensation.coordinator import coordinator
from antiphon.replay.choice import Choice
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.leftovers import Leftover, remove_leftovers, sandboxes
from antiphon.replay.reading import read_recording
from antiphon.replay.sandbox import Ground, SandboxReplay
from antiphon.replay.schemas import KeptSchemas
from antiphon.schemas.codec import Codec
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from tests.replay.claims import AGENTS, fired, replayed, three_claims, undone

pytestmark = pytest.mark.kafka

PATIENCE_S = 90.0
SLOW = """\
import time

from antiphon import Agent, Event


class ClaimFiled(Event):
    claim: str
    amount: int


payer = Agent("payer")


@payer.on(ClaimFiled)
async def pay(filed: ClaimFiled) -> None:
    print("paying", flush=True)
    time.sleep(600)
"""


class Onlooker:
    """Sees of a mesh what a replay must not touch."""

    def __init__(self, bootstrap: str, mesh: MemoryMesh) -> None:
        self._bootstrap = bootstrap
        self._mesh = mesh

    async def seen(self) -> tuple[object, ...]:
        """Return every topic's end, every group's offsets, and how often each group has changed."""
        topics = [topic for topic in await self._mesh.bus.topics() if topic.startswith(self._mesh.names.topic(""))]
        ends = await self._mesh.bus.bounds(topics)
        heartbeats = self._mesh.names.topic("antiphon.agents")
        groups = [self._mesh.names.group(agent.name) for agent in AGENTS]
        offsets = await asyncio.to_thread(self._offsets, groups)
        epochs = [await group_epoch(self._bootstrap, group) for group in groups]
        return {place: end for place, end in ends.items() if place.topic != heartbeats}, offsets, epochs

    def _offsets(self, groups: list[str]) -> dict[str, dict[TopicPartition, tuple[int, str | None]]]:
        client: Any = AdminClient({"bootstrap.servers": self._bootstrap})  # Its futures are not typed.
        found: dict[str, dict[TopicPartition, tuple[int, str | None]]] = {}
        for group in groups:
            [future] = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
            said = future.result().topic_partitions
            found[group] = {TopicPartition(one.topic, one.partition): (one.offset, one.metadata) for one in said}
        return found


async def test_f28_a_replay_touches_nobody_and_does_nothing(kafka: str, namespace: str) -> None:
    """While the mesh and its coordinator run: in both modes all is as it was, no effect, no undo, no member joins, no topic stays."""
    bus, names = KafkaBus(KafkaConfig(bootstrap_servers=kafka)), Names(namespace)
    mesh = MemoryMesh(2, bus=bus, names=names, store=TopicStore(bus, names, partitions=2))
    try:
        await three_claims(mesh)
        async with mesh.running(*AGENTS, coordinator()):
            onlooker, effects = Onlooker(kafka, mesh), [*fired]
            recording = await read_recording(bus, names, mesh.codec, Choice())
            chosen, consumers = Choice().of(recording.handlings), [agent.consumer() for agent in AGENTS]
            before = await eventually(lambda: twice(onlooker), PATIENCE_S, what="the mesh to come to rest")
            replayed.clear()
            here = HandlerReplay(recording, consumers, Codec(KeptSchemas(behind=mesh.store)))
            compared = [one async for one in here.run(chosen)]
            ground = Ground(bus=bus, names=names, store=mesh.store, partitions=2)
            sandbox = SandboxReplay(recording, consumers, ground)
            compared += await asyncio.wait_for(sandbox.run(chosen), PATIENCE_S)
            after = await onlooker.seen()

        def has_gone() -> bool:
            client: Any = AdminClient({"bootstrap.servers": kafka})  # Its futures are not typed.
            groups = client.list_consumer_groups(request_timeout=15).result().valid
            topics = client.list_topics(timeout=15).topics
            inside = sandbox.names.topic("")
            return not [name for name in (*topics, *(one.group_id for one in groups)) if name.startswith(inside)]

        await eventually(lambda: asyncio.to_thread(has_gone), PATIENCE_S, what="the sandbox to go")
    finally:
        await bus.close()
    assert [(one.differences, one.skipped, one.state_known) for one in compared] == [([], None, True)] * 24
    assert (after, fired, undone, replayed) == (before, effects, [], [True] * 6)


async def twice(onlooker: Onlooker) -> tuple[object, ...]:
    """Return what is seen, once it is the same twice; nothing before."""
    first = await onlooker.seen()
    await asyncio.sleep(0)
    return first if first == await onlooker.seen() else ()


async def test_f28_what_a_killed_replay_left_goes_with_the_next(kafka: str, namespace: str, tmp_path: Path) -> None:
    """Kill -9 in the middle of a sandbox: its topics are known by their names, and removed once nobody is there any more."""
    bus, names = KafkaBus(KafkaConfig(bootstrap_servers=kafka)), Names(namespace)
    mesh = MemoryMesh(2, bus=bus, names=names, store=TopicStore(bus, names, partitions=2))
    environment = {"ANTIPHON_BOOTSTRAP_SERVERS": kafka, "ANTIPHON_NAMESPACE": namespace}
    (tmp_path / "slow.py").write_text(SLOW)
    log = tmp_path / "replay.log"
    command = [sys.executable, "-m", "antiphon.cli", "replay", "run", "--last", "9", "--mode", "sandbox"]
    try:
        await three_claims(mesh)
        process = Tethered([*command, "--agent", "payer=slow.py:payer"], log=log, cwd=tmp_path, environment=environment)
        await eventually(lambda: "paying" in log.read_text(), PATIENCE_S, what="the candidate to be at it")
        process.stop(by=signal.SIGKILL)
        [left] = sandboxes(await bus.topics(), names)

        async def removed() -> list[Leftover]:
            return [*await remove_leftovers(bus, names, silent_s=1)]

        found = await eventually(removed, PATIENCE_S, what="the sandbox to be removed")

        async def is_gone() -> bool:
            return not sandboxes(await bus.topics(), names)

        await eventually(is_gone, PATIENCE_S, what="its topics to go")
    finally:
        await bus.close()
    assert [one.namespace for one in found] == [left.namespace]
