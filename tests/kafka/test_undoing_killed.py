"""Workflows that are undone while agents and coordinators are killed, as processes on Apache Kafka: once, and backwards.

One mesh for all: each test kills some of its workers, and the next one starts them again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from crew import Crew, Process
from trade import Placed, Undone, begun
from world import PARTITIONS, World

from antiphon.bus.intervention import Act, SagaIntervened, SagaParked
from antiphon.bus.names import ACTIVITY
from antiphon.bus.partition import partition_for
from antiphon.bus.record import Outgoing
from antiphon.bus.undo import undo_requested
from antiphon.compensation.reading import read_sagas
from antiphon.compensation.saga import Phase, Saga
from antiphon.schemas.event import envelope_of
from antiphon.schemas.ids import root_id
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka

# What a busy machine may take for what a quiet one does in a second or two.
PATIENCE_S = 90.0
TRADE = Path(__file__).parent / "trade.py"
COORDINATOR = "compensation"
WORKERS = {
    "stock": (f"{TRADE}:stock",),
    "card": (f"{TRADE}:card",),
    "others": (f"{TRADE}:gift", f"{TRADE}:parcel"),
    COORDINATOR: (COORDINATOR,),
}


class Street:
    """The workers of all tests of this module, by name."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.namespace = f"t{uuid.uuid4().hex[:12]}"
        self.crew = Crew(
            folder, bootstrap_servers=bootstrap, namespace=self.namespace, partitions=PARTITIONS, session_timeout=3
        )
        self.crew.environment["TRADE_FOLDER"] = str(folder)
        self._running: dict[str, Process] = {}

    def __getitem__(self, name: str) -> Process:
        return self._running[name]

    def start(self, name: str, *words: str) -> Process:
        """Start the worker of that name, or another one."""
        process = self._running[name] = self.crew.start(*(words or WORKERS[name]))
        return process

    def kill(self, *names: str) -> None:
        """Kill -9."""
        for name in names:
            self._running.pop(name).kill()

    async def up(self) -> None:
        """Have all workers run."""
        for name in WORKERS:
            if name not in self._running or self._running[name].exit_code is not None:
                self.start(name)
        for process in self._running.values():
            await process.ready()

    async def died(self, name: str) -> None:
        """Wait until a worker has killed itself."""
        await self._running.pop(name).ended()


class Town(World):
    """One test's view of the street."""

    def __init__(self, street: Street, folder: Path) -> None:
        super().__init__(street.bootstrap, street.namespace, folder)
        self.street = street

    async def order(self, *moods: str, within: timedelta | None = None, partition: int | None = None) -> str:
        """Place an order; returns its workflow's id."""
        id = next(id for id in iter(root_id, "") if partition in (None, partition_for(id.encode(), PARTITIONS)))
        deadline = None if within is None else datetime.now(UTC) + within
        await self.mesh.publish(Placed(order=id, moods=[*moods]), id=id, deadline=deadline)
        return id

    def let_go(self, order: str) -> None:
        """End what is held of an order."""
        (self.street.folder / f"go {order}").touch()

    def mend(self, order: str) -> None:
        """Have what fails of an order fail no more."""
        (self.street.folder / f"mended {order}").touch()

    def attempted(self, order: str) -> list[str]:
        """Return what was begun of an order, repeats included."""
        lines = [line.partition(" ") for line in begun(self.street.folder)]
        return [what for of, _, what in lines if of == order]

    async def until_begun(self, order: str, *what: str) -> None:
        await eventually(lambda: {*what} <= {*self.attempted(order)}, PATIENCE_S, what=f"{what} to begin")

    async def undone(self, order: str) -> list[str]:
        """Return what was undone of an order, as Kafka has it, in order."""
        found = [event for event in await self.events(Undone) if event.order == order]
        assert [event.left for event in found] == [0] * len(found)
        return [event.what for event in found]

    async def requested(self, order: str) -> list[str]:
        """Return who was asked to undo something of an order."""
        found = [one for name in ("stock", "card", "gift") for one in await self.events(undo_requested(name))]
        return [one.agent for one in found if envelope_of(one).correlation_id == order]

    async def says(self, act: Act, order: str) -> None:
        await self.mesh.publish(SagaIntervened(act=act, actor="ann", reason="she knows"), correlation_id=order)

    async def saga(self, order: str) -> Saga:
        kept = await read_sagas(self.bus, self.names, [partition_for(order.encode(), PARTITIONS)])
        return kept.get(order, Saga())

    async def until(self, order: str, phase: Phase) -> Saga:
        """Wait until a workflow is in *phase*."""

        async def there() -> bool:
            return (await self.saga(order)).phase is phase

        await eventually(there, PATIENCE_S, what=f"{order} to be {phase.value}")
        return await self.saga(order)

    async def until_known(self, order: str, *agents: str) -> None:
        """Wait until the coordinator keeps what *agents* did for an order."""

        async def known() -> bool:
            return {*agents} <= {effect.agent for effect in (await self.saga(order)).effects.values()}

        await eventually(known, PATIENCE_S, what=f"the coordinator to know what {agents} did")

    async def because(self, order: str) -> str:
        """Wait until a workflow has failed; return why."""

        async def why() -> str | None:
            failure = (await self.saga(order)).failure
            return None if failure is None else failure.reason

        return str(await eventually(why, PATIENCE_S, what=f"{order} to fail"))

    async def repeat_activity(self) -> None:
        """Write all activity a second time."""
        topic = self.names.topic(ACTIVITY)
        records = (await self._run(ACTIVITY)).records[ACTIVITY]
        await self.bus.publish(
            [Outgoing(topic, None, one.value, [*one.headers], partition=one.partition) for one in records]
        )

    async def limit(self, topic: str, size: int) -> None:
        """Have the broker take no larger records on *topic*."""
        admin: Any = AdminClient({"bootstrap.servers": self.street.bootstrap})
        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        [done] = admin.incremental_alter_configs([resource]).values()
        await asyncio.to_thread(done.result)


@pytest.fixture(scope="module")
def street(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    street = Street(kafka, tmp_path_factory.mktemp("street"))
    with street.crew:
        yield street


@pytest.fixture
async def town(street: Street, tmp_path: Path) -> AsyncIterator[Town]:
    await street.up()
    async with Town(street, tmp_path) as town:
        yield town


async def test_s02_a_step_refuses(town: Town) -> None:
    """What was done before is undone, although who has to is killed in it; in Kafka once."""
    order = await town.order("card:refuses", "-stock:dies")
    await town.street.died("stock")
    await town.street.up()
    saga = await town.until(order, Phase.COMPENSATED)
    assert saga.failure is not None
    assert saga.failure.reason == "trade.refused, said by card"
    assert (await town.undone(order), town.attempted(order).count("-stock")) == (["gift", "stock"], 2)


async def test_s12_a_diamond_fails_at_its_end(town: Town) -> None:
    """The coordinator is killed in the middle of undoing: the branches are undone before the root, each once."""
    order = await town.order("parcel:refuses", "-card:holds")
    await town.until_begun(order, "-card", "-gift")
    town.street.kill(COORDINATOR)
    town.let_go(order)
    await town.street.up()
    await town.until(order, Phase.COMPENSATED)
    undone = await town.undone(order)
    assert (sorted(undone[:2]), undone[2:]) == (["card", "gift"], ["stock"])


async def test_s15_an_undo_does_not_overtake_its_action(town: Town) -> None:
    """An action whose agent is killed before its commit is waited for, done again, and undone: nothing is left of it."""
    order = await town.order("gift:refuses", "card:dies")
    await town.street.died("card")
    await town.because(order)
    assert await town.requested(order) == []
    await town.street.up()
    await town.until(order, Phase.COMPENSATED)
    assert (await town.undone(order), town.attempted(order).count("card")) == (["card", "stock"], 2)


async def test_s21_an_undo_fails_for_ever(town: Town) -> None:
    """It is parked, told once, and stays so when the coordinator is killed; what led to it is as it was."""
    order = await town.order("parcel:refuses", "-card:fails")
    await town.until(order, Phase.PARKED)
    town.street.kill(COORDINATOR)
    await town.street.up()
    other = await town.order("card:refuses", partition=partition_for(order.encode(), PARTITIONS))
    await town.until(other, Phase.COMPENSATED)
    assert (await town.saga(order)).phase is Phase.PARKED
    assert "stock" not in await town.undone(order)
    told = [one for one in await town.events(SagaParked) if envelope_of(one).correlation_id == order]
    assert [(one.agent, one.problem) for one in told] == [("card", "ConnectionError: -card")]


async def test_s22_an_operator_decides(town: Town) -> None:
    """The coordinator is killed when he has spoken: it goes as told, once, and who said so and why is kept."""
    orders = {act: await town.order("parcel:refuses", "-card:fails") for act in (Act.FORCE, Act.RETRY, Act.SKIP)}
    for order in orders.values():
        await town.until(order, Phase.PARKED)
    town.mend(orders[Act.RETRY])
    for act, order in orders.items():
        await town.says(act, order)
    town.street.kill(COORDINATOR)
    await town.street.up()
    undone: dict[Act, list[str]] = {}
    for act, order in orders.items():
        await town.until(order, Phase.COMPENSATED)
        undone[act] = sorted(await town.undone(order))
    assert undone == {
        Act.FORCE: ["gift", "stock"],
        Act.RETRY: ["card", "gift", "stock"],
        Act.SKIP: ["gift", "stock"],
    }
    kept = {envelope_of(one).correlation_id: one for one in await town.events(SagaIntervened)}
    assert {act: (kept[order].act, kept[order].actor, kept[order].reason) for act, order in orders.items()} == {
        act: (act, "ann", "she knows") for act in orders
    }


async def test_s29_s30_killed_while_a_deadline_passes(town: Town) -> None:
    """When the coordinator is back, the short one is undone, and the long one goes on to its end."""
    short = await town.order("card:holds", within=timedelta(seconds=6))
    long = await town.order("card:holds", within=timedelta(hours=1))
    for order in (short, long):
        await town.until_known(order, "stock", "gift")
    over_us = (await town.saga(short)).deadline_us
    assert over_us is not None
    town.street.kill(COORDINATOR)
    await eventually(lambda: time.time() * 1e6 > over_us, what="the deadline to pass")
    await town.street.up()
    # Six seconds from when it was asked for; a busy machine may take some of them until the root has its time.
    [root] = [one for one in await town.events(Placed) if one.order == short]
    had_s = round((over_us - envelope_of(root).time_us) / 1_000_000, 1)
    assert await town.because(short) == f"deadline of {had_s:g} s passed"
    assert (await town.saga(long)).phase is Phase.RUNNING
    for order in (short, long):
        town.let_go(order)
    await town.until(short, Phase.COMPENSATED)
    await town.until(long, Phase.COMPLETED)
    assert (sorted(await town.undone(short)), await town.undone(long)) == (["card", "gift", "stock"], [])


async def test_s31_killed_again_and_again(town: Town) -> None:
    """The coordinator and an agent, whenever some more of twelve workflows is undone: each effect once in Kafka."""
    orders = [await town.order("parcel:refuses") for _ in range(12)]

    async def undone(least: int) -> bool:
        return sum(event.order in orders for event in await town.events(Undone)) >= least

    for least, victim in ((1, COORDINATOR), (8, "card"), (16, COORDINATOR)):
        await eventually(lambda least=least: undone(least), PATIENCE_S, what=f"{least} to be undone")  # type: ignore[misc]
        town.street.kill(victim)
        await town.street.up()
    for order in orders:
        await town.until(order, Phase.COMPENSATED)
        found = await town.undone(order)
        assert (sorted(found), found[-1]) == (["card", "gift", "stock"], "stock")


async def test_s32_a_participant_is_restarted_between_action_and_undo(town: Town) -> None:
    """Killed with what it did committed: its successor undoes it."""
    order = await town.order("card:holds", "card:refuses")
    await town.until_known(order, "stock", "gift")
    town.street.kill("stock")
    await town.street.up()
    town.let_go(order)
    await town.until(order, Phase.COMPENSATED)
    assert await town.undone(order) == ["gift", "stock"]


async def test_s33_a_participant_is_down_at_undo_time(town: Town) -> None:
    """It is asked, and does it when it is back."""
    order = await town.order("card:holds", "card:refuses")
    await town.until_known(order, "stock", "gift")
    town.street.kill("stock")
    town.let_go(order)

    async def asked() -> bool:
        return "stock" in await town.requested(order)

    await eventually(asked, PATIENCE_S, what="the stock to be asked")
    assert (await town.undone(order), (await town.saga(order)).phase) == (["gift"], Phase.COMPENSATING)
    await town.street.up()
    await town.until(order, Phase.COMPENSATED)
    assert await town.undone(order) == ["gift", "stock"]


async def test_s46_two_start_one_workflow_at_once(town: Town) -> None:
    """With one id it is one, also when the coordinator is killed before a third time."""
    id = root_id()
    placed = Placed(order=id, moods=["card:refuses"])
    await asyncio.gather(*(town.mesh.publish(placed, id=id) for _ in range(2)))
    await town.because(id)
    town.street.kill(COORDINATOR)
    await town.mesh.publish(placed, id=id)
    await town.street.up()
    await town.until(id, Phase.COMPENSATED)
    assert sorted(await town.requested(id)) == ["gift", "stock"]


async def test_s48_a_topic_that_is_read_again_fires_nothing(town: Town) -> None:
    """All activity comes once more, to a coordinator that was killed before: nothing is asked again."""
    order = await town.order("parcel:refuses")
    await town.until(order, Phase.COMPENSATED)
    before = await town.requested(order)
    town.street.kill(COORDINATOR)
    await town.repeat_activity()
    await town.street.up()
    for partition in range(PARTITIONS):
        await town.until(await town.order("card:refuses", partition=partition), Phase.COMPENSATED)
    assert (sorted(before), await town.requested(order)) == (["card", "gift", "stock"], before)


async def test_s50_state_cannot_be_written(town: Town) -> None:
    """The broker refuses what the coordinator keeps: nothing is asked; when it is taken again, all is undone, once."""
    states = town.names.state("compensation")
    await town.limit(states, 40)
    order = await town.order("card:refuses")
    refused = town.street[COORDINATOR]
    await eventually(lambda: refused.said("a transaction failed"), PATIENCE_S, what="the state to be refused")
    assert await town.requested(order) == []
    town.street.kill(COORDINATOR)
    await town.limit(states, 1_048_588)
    await town.street.up()
    await town.until(order, Phase.COMPENSATED)
    assert await town.undone(order) == ["gift", "stock"]


async def test_a_killed_coordinator_is_taken_over(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    """Another one goes on with what it had begun, on its own; nothing is undone twice. How long that took is printed."""
    await town.street.start("standby", COORDINATOR).ready()
    orders = [await town.order("parcel:refuses", "-card:holds", partition=partition) for partition in range(PARTITIONS)]
    for order in orders:
        await town.until_begun(order, "-card", "-gift")
    town.street.kill(COORDINATOR)
    killed_s = time.monotonic()
    for order in orders:
        town.let_go(order)
    for order in orders:
        await town.until(order, Phase.COMPENSATED)
    took_s = time.monotonic() - killed_s
    with capsys.disabled():
        print(f"\na killed coordinator's workflows were undone {took_s:.1f} s later; the session's time-out is 3 s")  # noqa: T201
    for order in orders:
        undone = await town.undone(order)
        assert (sorted(undone), undone[-1]) == (["card", "gift", "stock"], "stock")
