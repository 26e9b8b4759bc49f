"""Workflows that are undone while agents and coordinators are killed, as processes on Apache Kafka: once, and backwards.

Killing takes seconds, since the brokers wait for whoever may come back. So two stories are told once each, in one mesh: many
workflows are under way when somebody is killed. Each test looks at one of them.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from crew import Crew, Process
from mortal import DEATHS, deaths
from trade import CardTaken, Errand, Ordered, Placed, Rung, TillWanted, Undone, begun
from world import PARTITIONS, World

from antiphon.bus.intervention import Act, SagaIntervened, SagaParked
from antiphon.bus.names import ACTIVITY
from antiphon.bus.partition import partition_for
from antiphon.bus.record import Outgoing
from antiphon.bus.undo import undo_requested
from antiphon.compensation.reading import read_kept, read_workflows
from antiphon.compensation.workflow import Phase, Workflow
from antiphon.schemas.event import envelope_of
from antiphon.schemas.ids import root_id
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka

# What a busy machine may take for what a quiet one does in a second or two.
PATIENCE_S = 90.0
TRADE = Path(__file__).parent / "trade.py"
COORDINATOR = "compensation"
UNDER = (sys.executable, str(Path(__file__).parent / "mortal.py"))
WORKERS = {
    "stock": (f"{TRADE}:stock",),
    "card": (f"{TRADE}:card",),
    "others": (f"{TRADE}:gift", f"{TRADE}:parcel"),
    "errands": (f"{TRADE}:errands",),
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
        self.crew.environment |= {"TRADE_FOLDER": str(folder), "MORTAL_FOLDER": str(folder)}
        self._running: dict[str, Process] = {}

    def __getitem__(self, name: str) -> Process:
        return self._running[name]

    def start(self, name: str, *words: str, under: Sequence[str] = ()) -> Process:
        """Start the worker of that name, or another one."""
        process = self._running[name] = self.crew.start(*(words or WORKERS[name]), under=under)
        return process

    def kill(self, *names: str) -> None:
        """Kill -9."""
        for name in names:
            self._running.pop(name).kill()

    async def up(self) -> None:
        """Have all workers run, those that died too."""
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

    async def order(
        self,
        *moods: str,
        within: timedelta | None = None,
        partition: int | None = None,
        by: type[Errand] = Placed,
    ) -> str:
        """Place an order, or have a saga see to it; returns its workflow's id."""
        id = next(id for id in iter(root_id, "") if partition in (None, partition_for(id.encode(), PARTITIONS)))
        deadline = None if within is None else datetime.now(UTC) + within
        await self.mesh.publish(by(order=id, moods=[*moods]), id=id, deadline=deadline)
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

    async def kept(self, order: str) -> Workflow:
        kept = await read_kept(self.bus, self.names, [partition_for(order.encode(), PARTITIONS)])
        return kept.get(order, Workflow())

    async def until(self, order: str, phase: Phase) -> Workflow:
        """Wait until a workflow is in *phase*."""

        async def there() -> bool:
            return (await self.kept(order)).phase is phase

        await eventually(there, PATIENCE_S, what=f"{order} to be {phase.value}")
        return await self.kept(order)

    async def until_known(self, order: str, *agents: str) -> None:
        """Wait until the coordinator keeps what *agents* did for an order."""

        async def known() -> bool:
            return {*agents} <= {effect.agent for effect in (await self.kept(order)).effects.values()}

        await eventually(known, PATIENCE_S, what=f"the coordinator to know what {agents} did")

    async def until_asked(self, order: str, agent: str) -> None:
        """Wait until *agent* is asked to undo something of an order."""

        async def asked() -> bool:
            return agent in await self.requested(order)

        await eventually(asked, PATIENCE_S, what=f"{agent} to be asked")

    async def told(self, order: str) -> Phase:
        """Wait until the saga of an order has ended; return how."""

        async def ended() -> Phase | None:
            seen = await read_workflows(self.bus, self.names, ["errands"], [partition_for(order.encode(), PARTITIONS)])
            phases = [Phase(run["phase"]) for _, run in seen[order].runs if run["phase"] != Phase.COMPENSATING.value]
            return next(iter(phases), None)

        phase = await eventually(ended, PATIENCE_S, what=f"the saga of {order} to end")
        assert phase is not None
        return phase

    async def because(self, order: str) -> str:
        """Wait until a workflow has failed; return why."""

        async def why() -> str | None:
            failure = (await self.kept(order)).failure
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


class AgentsDied(NamedTuple):
    """Orders that were under way when the stock died, in undoing one of them, and then the card, in acting for one."""

    undoing: str
    """The stock died in undoing this one."""
    acting: str
    """The card died in acting for this one, which had failed already."""
    asked_meanwhile: Sequence[str]
    """Who was asked to undo something of it while the card was dead."""
    owing: str
    """It failed while the stock was dead."""
    undone_meanwhile: Sequence[str]
    phase_meanwhile: Phase
    to_fail: str
    """The stock had acted for it before; it failed when all were back."""
    conducted: str
    """A saga's: its card refused while the stock was dead."""


@pytest.fixture(scope="module")
def agents_died(street: Street, tmp_path_factory: pytest.TempPathFactory) -> AgentsDied:
    async def story() -> AgentsDied:
        await street.up()
        async with Town(street, tmp_path_factory.mktemp("agents")) as town:
            owing, to_fail = [await town.order("card:holds", "card:refuses") for _ in range(2)]
            conducted = await town.order("card:holds", "card:refuses", by=Ordered)
            acting = await town.order("gift:refuses", "card:holds", "card:dies")
            for order in (owing, to_fail, conducted):
                await town.until_known(order, "stock", "gift")
            await town.until_begun(acting, "card")
            undoing = await town.order("card:refuses", "-stock:dies")
            await street.died("stock")
            for order in (owing, conducted):
                town.let_go(order)
                await town.until_asked(order, "stock")
            undone, phase = await town.undone(owing), (await town.kept(owing)).phase
            town.let_go(acting)
            await street.died("card")
            await town.because(acting)
            asked = await town.requested(acting)
            await street.up()
            town.let_go(to_fail)
            return AgentsDied(undoing, acting, asked, owing, undone, phase, to_fail, conducted)

    return asyncio.run(story())


class CoordinatorDied(NamedTuple):
    """Orders that were under way when the coordinator was killed, and all its activity written again before it was back."""

    undoing: str
    """It was being undone."""
    conducted: str
    """So was this one, a saga's: that was killed too."""
    parked: str
    decided: Mapping[Act, str]
    """An operator had spoken about them just before."""
    short: str
    """Its deadline passed meanwhile."""
    long: str
    """Its deadline did not."""
    because: str
    long_phase: Phase
    """How these two stood when it was back."""
    thrice: str
    """Placed twice at once, and again meanwhile."""
    over: str
    """It had been undone before."""
    over_asked: Sequence[str]


@pytest.fixture(scope="module")
def coordinator_died(street: Street, tmp_path_factory: pytest.TempPathFactory) -> CoordinatorDied:
    async def story() -> CoordinatorDied:
        await street.up()
        async with Town(street, tmp_path_factory.mktemp("coordinator")) as town:
            decided = {
                act: await town.order("parcel:refuses", "-card:fails") for act in (Act.FORCE, Act.RETRY, Act.SKIP)
            }
            parked = await town.order("parcel:refuses", "-card:fails")
            over = await town.order("parcel:refuses")
            thrice = root_id()
            placed = Placed(order=thrice, moods=["card:refuses"])
            await asyncio.gather(*(town.mesh.publish(placed, id=thrice) for _ in range(2)))
            undoing, conducted = [
                await town.order("parcel:refuses", "-card:holds", by=errand) for errand in (Placed, Ordered)
            ]
            long = await town.order("card:holds", within=timedelta(hours=1))
            for order in (*decided.values(), parked):
                await town.until(order, Phase.PARKED)
            await town.until(over, Phase.COMPENSATED)
            over_asked = await town.requested(over)
            await town.because(thrice)
            for order in (undoing, conducted):
                await town.until_begun(order, "-card", "-gift")
            short = await town.order("card:holds", within=timedelta(seconds=4))
            for order in (short, long):
                await town.until_known(order, "stock", "gift")
            over_us = (await town.kept(short)).deadline_us
            assert over_us is not None
            town.mend(decided[Act.RETRY])
            for act, order in decided.items():
                await town.says(act, order)
            street.kill(COORDINATOR, "errands")
            for order in (undoing, conducted):
                town.let_go(order)
            await town.mesh.publish(placed, id=thrice)
            await town.repeat_activity()
            await eventually(lambda: time.time() * 1e6 > over_us, what="the deadline to pass")
            await street.up()
            because, long_phase = await town.because(short), (await town.kept(long)).phase
            for order in (short, long):
                town.let_go(order)
            for partition in range(PARTITIONS):  # behind all there was to read
                await town.until(await town.order("card:refuses", partition=partition), Phase.COMPENSATED)
            return CoordinatorDied(
                undoing, conducted, parked, decided, short, long, because, long_phase, thrice, over, over_asked
            )

    return asyncio.run(story())


async def test_s02_a_step_refuses(town: Town, agents_died: AgentsDied) -> None:
    """What was done before is undone, although who has to is killed in it; in Kafka once."""
    order = agents_died.undoing
    kept = await town.until(order, Phase.COMPENSATED)
    assert kept.failure is not None
    assert kept.failure.reason == "trade.refused, said by card"
    assert (await town.undone(order), town.attempted(order).count("-stock")) == (["gift", "stock"], 2)


async def test_s02_a_step_of_a_saga_refuses(town: Town, agents_died: AgentsDied) -> None:
    """What its other steps did is undone, in the end by an agent that was dead when it was asked; and the saga knows."""
    order = agents_died.conducted
    kept = await town.until(order, Phase.COMPENSATED)
    assert kept.failure is not None
    assert (kept.failure.saga, kept.failure.scope) == ("errands", order)
    assert (await town.undone(order), await town.told(order)) == (["gift", "stock"], Phase.COMPENSATED)


async def test_s15_an_undo_does_not_overtake_its_action(town: Town, agents_died: AgentsDied) -> None:
    """An action whose agent is killed before its commit is waited for, done again, and undone: nothing is left of it."""
    order = agents_died.acting
    await town.until(order, Phase.COMPENSATED)
    assert agents_died.asked_meanwhile == []
    assert (await town.undone(order), town.attempted(order).count("card")) == (["card", "stock"], 2)


async def test_s32_a_participant_is_restarted_between_action_and_undo(town: Town, agents_died: AgentsDied) -> None:
    """Killed with what it did committed: its successor undoes it."""
    await town.until(agents_died.to_fail, Phase.COMPENSATED)
    assert await town.undone(agents_died.to_fail) == ["gift", "stock"]


async def test_s33_a_participant_is_down_at_undo_time(town: Town, agents_died: AgentsDied) -> None:
    """It is asked, and does it when it is back."""
    assert (agents_died.undone_meanwhile, agents_died.phase_meanwhile) == (["gift"], Phase.COMPENSATING)
    await town.until(agents_died.owing, Phase.COMPENSATED)
    assert await town.undone(agents_died.owing) == ["gift", "stock"]


async def test_s12_a_diamond_fails_at_its_end(town: Town, coordinator_died: CoordinatorDied) -> None:
    """The coordinator is killed in the middle of undoing: the branches are undone before the root, each once."""
    await town.until(coordinator_died.undoing, Phase.COMPENSATED)
    undone = await town.undone(coordinator_died.undoing)
    assert (sorted(undone[:2]), undone[2:]) == (["card", "gift"], ["stock"])


async def test_s12_a_saga_is_undone_where_its_join_refuses(town: Town, coordinator_died: CoordinatorDied) -> None:
    """Saga and coordinator are killed in the middle of it: each branch is undone once, and then the root."""
    order = coordinator_died.conducted
    await town.until(order, Phase.COMPENSATED)
    undone = await town.undone(order)
    assert (sorted(undone[:2]), undone[2:], await town.told(order)) == (["card", "gift"], ["stock"], Phase.COMPENSATED)


async def test_s21_an_undo_fails_for_ever(town: Town, coordinator_died: CoordinatorDied) -> None:
    """It is parked, told once, and stays so when the coordinator is killed; what led to it is as it was."""
    order = coordinator_died.parked
    assert (await town.kept(order)).phase is Phase.PARKED
    assert "stock" not in await town.undone(order)
    told = [one for one in await town.events(SagaParked) if envelope_of(one).correlation_id == order]
    assert [(one.agent, one.problem) for one in told] == [("card", "ConnectionError: -card")]


async def test_s22_an_operator_decides(town: Town, coordinator_died: CoordinatorDied) -> None:
    """The coordinator is killed when he has spoken: it goes as told, once, and who said so and why is kept."""
    orders = coordinator_died.decided
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


async def test_s29_s30_killed_while_a_deadline_passes(town: Town, coordinator_died: CoordinatorDied) -> None:
    """When the coordinator is back, the short one is undone, and the long one goes on to its end."""
    _, _, _, _, short, long, because, long_phase, *_ = coordinator_died
    await town.until(short, Phase.COMPENSATED)
    await town.until(long, Phase.COMPLETED)
    # Four seconds from when it was asked for; a busy machine may take some of them until the root has its time.
    [root] = [one for one in await town.events(Placed) if one.order == short]
    deadline_us = envelope_of(root).deadline_us
    assert deadline_us is not None
    had_s = round((deadline_us - envelope_of(root).time_us) / 1_000_000, 1)
    assert (because, long_phase) == (f"deadline of {had_s:g} s passed", Phase.RUNNING)
    assert (sorted(await town.undone(short)), await town.undone(long)) == (["card", "gift", "stock"], [])


async def test_s46_two_start_one_workflow_at_once(town: Town, coordinator_died: CoordinatorDied) -> None:
    """With one id it is one, also when the coordinator is killed before a third time."""
    await town.until(coordinator_died.thrice, Phase.COMPENSATED)
    assert sorted(await town.requested(coordinator_died.thrice)) == ["gift", "stock"]


async def test_s48_a_topic_that_is_read_again_fires_nothing(town: Town, coordinator_died: CoordinatorDied) -> None:
    """All activity comes once more, to a coordinator that was killed before: nothing is asked again."""
    before = coordinator_died.over_asked
    assert (sorted(before), await town.requested(coordinator_died.over)) == (["card", "gift", "stock"], before)


async def test_s31_killed_again_and_again(town: Town) -> None:
    """The coordinator, its successor and an agent, whenever some more of twelve workflows is undone: each effect once in Kafka."""
    await town.street.start("successor", COORDINATOR).ready()
    orders = [await town.order("parcel:refuses") for _ in range(12)]

    async def undone(least: int) -> bool:
        return sum(event.order in orders for event in await town.events(Undone)) >= least

    for least, victims in ((1, [COORDINATOR]), (12, ["successor", "card"])):
        await eventually(lambda least=least: undone(least), PATIENCE_S, what=f"{least} to be undone")  # type: ignore[misc]
        town.street.kill(*victims)
    await town.street.up()
    for order in orders:
        await town.until(order, Phase.COMPENSATED)
        found = await town.undone(order)
        assert (sorted(found), found[-1]) == (["card", "gift", "stock"], "stock")


async def test_s31_killed_at_every_commit(town: Town) -> None:
    """The coordinator and a saga, before each of their first commits and as soon as it is done: each effect once, and undone once."""
    street, folder = town.street, town.street.folder
    mortal = {COORDINATOR: COORDINATOR, "errands": f"{TRADE}:errands"}
    street.kill(*mortal)
    for name, words in mortal.items():
        street.start(name, words, under=UNDER)
    orders = [await town.order("parcel:refuses", by=Ordered, partition=partition) for partition in range(PARTITIONS)]

    async def all_died() -> bool:
        for name, words in mortal.items():
            if street[name].exit_code is not None:
                street.start(name, words, under=UNDER)
        return all(deaths(folder, name) == DEATHS for name in mortal)

    await eventually(all_died, PATIENCE_S, what="both to have died as often as they do")
    street.kill(*mortal)
    await street.up()
    for order in orders:
        await town.until(order, Phase.COMPENSATED)
        assert await town.told(order) is Phase.COMPENSATED
        undone = await town.undone(order)
        assert (sorted(undone[:2]), undone[2:]) == (["card", "gift"], ["stock"])
    assert sorted(one.order for one in await town.events(CardTaken) if one.order in orders) == sorted(orders)


async def test_s15_an_undo_leaves_a_tombstone_for_its_action(town: Town) -> None:
    """A till that was closed is asked to give back first, and, open again, passes over what it was to take."""
    street = town.street
    street.crew.environment["TRADE_CLOSED"] = "yes"
    closed = street.start("till", f"{TRADE}:till")
    del street.crew.environment["TRADE_CLOSED"]
    await street.start("tills", f"{TRADE}:tills").ready()
    await closed.ready()
    order = await town.order(by=Rung)
    await town.until(order, Phase.COMPENSATED)
    street.kill("till")
    street.start("till", f"{TRADE}:till")
    [wanted] = await town.came(TillWanted, 1)

    async def outcomes() -> list[str]:
        return [outcome for _, outcome in await town.instances("till", envelope_of(wanted).id)]

    assert await eventually(outcomes, PATIENCE_S, what="the till to have it in hand") == ["skipped"]
    assert town.attempted(order) == ["-till"]
    street.kill("till", "tills")


async def test_s50_state_cannot_be_written(town: Town) -> None:
    """The broker refuses what the coordinator keeps: nothing is asked. When it is taken again, the same coordinator goes on."""
    states = town.names.state("compensation")
    # The marker that ends a transaction has to fit (78 bytes): a broker that cannot write one holds up those of others too.
    await town.limit(states, 120)
    order = await town.order("card:refuses")
    refused = town.street[COORDINATOR]
    await eventually(lambda: refused.said("a transaction failed"), PATIENCE_S, what="the state to be refused")
    assert await town.requested(order) == []
    await town.limit(states, 1_048_588)
    await town.until(order, Phase.COMPENSATED)
    assert (await town.undone(order), refused.exit_code) == (["gift", "stock"], None)
