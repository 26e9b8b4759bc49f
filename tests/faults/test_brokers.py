"""Brokers that are killed: one of three, which leads; and the only one there is."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from accounts import Audited, Deposited, auditor, ledger
from cluster import Broker, KafkaCluster
from confluent_kafka.admin import AdminClient
from crew import Process
from probe import Answered, Asked, probe
from world import AUDITOR, LEDGER, PROBE, World, deposits

pytestmark = pytest.mark.kafka

BEFORE, AFTER = 2_000, 200
# Until whoever gives up does; an outage must be longer to show anything of those who do not.
GIVE_UP_S = 5
# Over which an idle worker's use of a core is measured.
IDLE_S = 3.0


class Outage(NamedTuple):
    """What became of three workers whose only broker was killed, and came back."""

    wrong: list[str]
    grown: float
    """The memory of the one with work in hand at the outage's end, against its beginning."""
    gave_up: int
    last_words: str
    idle_cpu: tuple[float, float]
    """What share of a core the idle one used, before and after, in percent."""
    codes: list[int]


@pytest.fixture(scope="module")
def outage(fragile: Broker, tmp_path_factory: pytest.TempPathFactory) -> Outage:
    """One outage with three workers: one in the midst of its work, one idle, one that is configured to give up soon."""
    return asyncio.run(_survive(fragile, tmp_path_factory))


async def _survive(broker: Broker, folders: pytest.TempPathFactory) -> Outage:
    address, namespace = f"127.0.0.1:{broker.port}", f"t{uuid.uuid4().hex[:12]}"
    async with World(address, namespace, folders.mktemp("outage"), session_timeout=3) as world:
        await world.publish(deposits(0, BEFORE))
        idle, impatient = world.start(PROBE), world.start(PROBE, give_up=GIVE_UP_S)
        await asyncio.gather(idle.ready(), impatient.ready())
        await world.ask(*(Asked(key=f"k{n}", n=n) for n in range(10)))
        await world.came(Answered, 10)
        before = await _cpu(idle)
        busy = world.start(LEDGER, AUDITOR)
        await world.came(Audited, 100)

        broker.kill()
        began = _memory(busy)
        gave_up = await impatient.ended()
        grown = _memory(busy) / began
        broker.start()
        await asyncio.to_thread(broker.wait)

        await world.publish(deposits(BEFORE, AFTER))
        await world.ask(*(Asked(key=f"k{n}", n=n) for n in range(10, 20)))
        await world.came(Answered, 20)
        await world.came(Audited, BEFORE + AFTER)
        after = await _cpu(idle)
        codes = await world.crew.stop()
        wrong = await world.wrong(ledger, auditor, probe)
        return Outage(wrong, grown, gave_up, impatient.text(), (before, after), codes)


async def _cpu(worker: Process) -> float:
    """Return what share of a core *worker* uses, in percent."""
    return await asyncio.to_thread(psutil.Process(worker.pid).cpu_percent, IDLE_S)


def _memory(worker: Process) -> int:
    return psutil.Process(worker.pid).memory_info().rss


def test_f10_all_brokers_down(outage: Outage) -> None:
    """In the midst of its work: memory does not grow meanwhile, then it goes on, and nothing is lost or repeated."""
    assert (outage.wrong, outage.codes) == ([], [0, 0])
    assert outage.grown < 1.2


def test_stuck_after_all_brokers_were_down(outage: Outage) -> None:
    """Whoever waited for the configured time ends, and says why, so that it is started again; nobody hangs for days."""
    assert outage.gave_up == 3
    assert "error: no broker at 127.0.0.1" in outage.last_words
    assert "(connection refused, tried for " in outage.last_words


def test_a_metadata_loop_after_a_restart(outage: Outage) -> None:
    """A worker that had nothing to do uses no more of a core after its broker came back than before."""
    before, after = outage.idle_cpu
    # A core kept busy is a hundred; one that idles a few, and a quiet second is not like another.
    assert after < 4 * max(before, 2.0)


async def test_f11_leader_and_coordinators_move(kafka_cluster: KafkaCluster, namespace: str, tmp_path: Path) -> None:
    """The broker that coordinates the group, and leads a third of all else, is killed under load: nobody notices."""
    async with World(kafka_cluster.bootstrap_servers, namespace, tmp_path, session_timeout=3) as world:
        await world.publish(deposits(0, BEFORE))
        worker = world.start(LEDGER, AUDITOR)
        await world.came(Audited, 100)
        coordinator = kafka_cluster.brokers[await _coordinator(world, "ledger")]

        coordinator.kill()
        await world.publish([Deposited(account="late", n=BEFORE, amount=1)])
        await world.came(Audited, BEFORE + 1)

        coordinator.start()
        await asyncio.to_thread(coordinator.wait)
        assert worker.exit_code is None
        assert await world.crew.stop() == [0]
        assert await world.wrong(ledger, auditor) == []


async def test_a_loop_of_questions_to_a_dead_leader(
    kafka_cluster: KafkaCluster, namespace: str, tmp_path: Path
) -> None:
    """Nobody keeps a core busy with asking a broker that was killed; a worker that starts just then waits for who leads next."""
    async with World(kafka_cluster.bootstrap_servers, namespace, tmp_path, session_timeout=3) as world:
        idle = world.start(PROBE)
        await idle.ready()
        await world.ask(*(Asked(key=f"k{n}", n=n) for n in range(10)))
        await world.came(Answered, 10)
        before = await _cpu(idle)
        leader = kafka_cluster.brokers[0]
        process = psutil.Process(idle.pid)

        leader.kill()
        process.cpu_percent()
        late = world.start(PROBE)
        await late.ready()
        during = process.cpu_percent()

        leader.start()
        await asyncio.to_thread(leader.wait)
        await world.ask(*(Asked(key=f"k{n}", n=n) for n in range(10, 20)))
        await world.came(Answered, 20)
        assert await world.crew.stop() == [0, 0]
        assert await world.wrong(probe) == []
        # As above.
        assert during < 4 * max(before, 2.0)


async def _coordinator(world: World, agent: str) -> int:
    admin: Any = AdminClient({"bootstrap.servers": world.settings.bootstrap_servers})  # Its futures are not typed.
    group = world.names.group(agent)
    described = await asyncio.to_thread(admin.describe_consumer_groups([group])[group].result)
    return int(described.coordinator.id)
