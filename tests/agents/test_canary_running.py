"""Two versions of an agent in one worker: each workflow is handled by one of them, and nothing else differs from one version."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from antiphon import Agent, Context, Event, RetryPolicy
from antiphon.bus.activity import Activity
from antiphon.bus.canary import beside
from antiphon.bus.consumer import Consumer, Guarantee
from antiphon.bus.contracts import of_consumers, of_workers, read_schemas
from antiphon.bus.errors import BreaksReadersError
from antiphon.bus.gate import gate
from antiphon.bus.names import ACTIVITY
from antiphon.bus.roll import read_agents
from antiphon.bus.share import Share
from antiphon.bus.subscriptions import subscriptions
from antiphon.compensation.coordinator import coordinator
from antiphon.replay.letters import settling
from antiphon.schemas.envelope import now_us
from antiphon.testing.explorer import explore
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.model.crew import NotModelledError
from antiphon.testing.simulation import Run, SimulationError, simulate
from antiphon.testing.waiting import eventually

HALF = Share(5_000)
NEW, OLD = "order-8", "order-7"
"""A workflow that half of them has in it, and one that it has not."""


class Paid(Event, key="account"):
    account: str
    fails: bool = False


class Booked(Event, key="account"):
    account: str
    count: int
    by: str


def books(version: str, **options: object) -> Consumer:
    """It counts what it hears of an account, whichever version it is."""
    agent = Agent("books", version=version, **options)  # type: ignore[arg-type]

    @agent.on(Paid)
    async def pay(paid: Paid, context: Context) -> Booked:
        if paid.fails:
            raise ConnectionError
        context.state["count"] = context.state.get("count", 0) + 1
        return Booked(account=paid.account, count=context.state["count"], by=version)

    return agent.consumer()


def both(share: Share = HALF) -> Consumer:
    return beside(books("1"), books("2"), share)


async def told(mesh: MemoryMesh, agent: str) -> list[tuple[str, str, int, str]]:
    """Return of each attempt of *agent* the workflow, the version, which attempt it was and how it ended."""
    found: list[tuple[str, str, int, str]] = []
    for record in await mesh.records(ACTIVITY):
        activity = mesh.codec.decode(Activity, record.value or b"")
        if activity.agent == agent:
            found += [(one.correlation_id, activity.version, one.attempt, one.outcome) for one in activity.deliveries]
    return found


async def test_workflows_of_one_key_count_on_across_versions() -> None:
    """One lane, one state: an account's events are counted in their order, by whichever version each belongs to."""
    mesh, workflows = MemoryMesh(), [f"w-{number}" for number in range(120)]
    async with mesh.running(both()):
        for number, workflow in enumerate(workflows):
            await mesh.publisher.publish([Paid(account=f"a-{number % 4}")], correlation_id=workflow)
        booked = await mesh.eventually(Booked, count=len(workflows))
    versions = {workflow: "2" if HALF.takes(workflow) else "1" for workflow in workflows}
    in_order = [Booked(account=f"a-{n % 4}", count=n // 4 + 1, by=versions[w]) for n, w in enumerate(workflows)]
    assert sorted(booked, key=lambda one: (one.count, one.account)) == in_order
    assert {workflow: version for workflow, version, _, _ in await told(mesh, "books")} == versions
    assert {*versions.values()} == {"1", "2"}


async def test_attempts_stay_with_the_version_and_its_own_retry_policy() -> None:
    """The old one tries three times, the canary once; a letter that is redriven goes to the version that gave it up."""
    mesh = MemoryMesh()
    old = books("1", retry=RetryPolicy(attempts=3, base_s=0.001))
    new = books("2", retry=RetryPolicy(attempts=1))
    async with mesh.running(beside(old, new, HALF)):
        for workflow in (NEW, OLD):
            await mesh.publisher.publish([Paid(account=workflow, fails=True)], correlation_id=workflow)

        async def given_up(times: int) -> bool:
            return [outcome for _, _, _, outcome in await told(mesh, "books")].count("dead_lettered") == times

        await eventually(lambda: given_up(2), 10, what="both to be set aside")
        async with settling(mesh.bus, mesh.names, "books") as settle:
            await settle.redrive([*settle.letters.values()], actor="ada@desk")
        await eventually(lambda: given_up(4), 10, what="both to be set aside again")
    attempts = [
        (OLD, "1", 1, "retried"),
        (OLD, "1", 2, "retried"),
        (OLD, "1", 3, "dead_lettered"),
        (NEW, "2", 1, "dead_lettered"),
    ]
    assert sorted(await told(mesh, "books")) == sorted(2 * attempts)


@pytest.mark.parametrize("guarantee", Guarantee)
async def test_raising_the_share_only_moves_workflows_to_the_canary(guarantee: Guarantee) -> None:
    """A restart with another figure: whoever was with it stays with it, and finds what the other version kept."""
    mesh, workflows = MemoryMesh(), [f"w-{number}" for number in range(40)]
    seen: defaultdict[str, list[str]] = defaultdict(list)
    for round_, percent in enumerate((0, 10, 50, 100), start=1):
        running = beside(books("1", guarantee=guarantee), books("2", guarantee="exactly_once"), Share(percent * 100))
        async with mesh.running(running):
            for workflow in workflows:
                await mesh.publisher.publish([Paid(account=workflow)], correlation_id=workflow)
            await mesh.eventually(Booked, count=round_ * len(workflows))
    for booked in await mesh.eventually(Booked, count=4 * len(workflows)):
        seen[booked.account].insert(booked.count - 1, booked.by)
    assert {workflow: by == sorted(by) for workflow, by in seen.items()} == dict.fromkeys(workflows, True)
    assert {by[0] + by[-1] for by in seen.values()} == {"12"}


# Joins, holds and undos.


class Wanted(Event):
    seat: str


class Priced(Event):
    price: int


class Sold(Event):
    seat: str
    by: str


class Refused(Event, fails=True):
    seat: str


class Freed(Event):
    seat: str
    by: str


def seats(version: str, name: str = "seats") -> Agent:
    """It sells a seat once it is wanted and priced, and can take that back."""
    agent = Agent(name, version=version)

    @agent.on(Wanted, Priced, join=True)
    async def sell(wanted: Wanted, priced: Priced) -> Sold:
        return Sold(seat=wanted.seat, by=version)

    @agent.undoes(Sold)
    async def free(sold: Sold) -> Freed:
        return Freed(seat=sold.seat, by=f"{version}, sold by {sold.by}")

    return agent


gate_keeper = Agent("gatekeeper")


@gate_keeper.on(Sold)
async def refuse(sold: Sold) -> Refused:
    return Refused(seat=sold.seat)


@pytest.mark.parametrize("name", ["seats", "seats_v2"])
async def test_a_join_and_an_undo_meet_the_version_of_their_workflow(name: str) -> None:
    """Also where the canary's own agent is called otherwise: it takes the other's place, its undo topic too."""
    mesh = MemoryMesh()
    crew = [beside(seats("1").consumer(), seats("2", name).consumer(name="seats"), HALF), gate_keeper, coordinator()]
    async with mesh.running(*crew, heartbeat_s=0.05):
        for workflow in (NEW, OLD):
            await mesh.publisher.publish([Wanted(seat=workflow)], correlation_id=workflow)
        for workflow in (OLD, NEW):
            await mesh.publisher.publish([Priced(price=1)], correlation_id=workflow)
        freed = await mesh.eventually(Freed, count=2, timeout=20)
    assert sorted(freed, key=lambda one: one.seat) == [
        Freed(seat=OLD, by="1, sold by 1"),
        Freed(seat=NEW, by="2, sold by 2"),
    ]


async def test_what_one_version_waits_for_the_other_goes_on_with() -> None:
    """The share was raised while a join waited, and between what was done and its undo: as after any deployment."""
    mesh = MemoryMesh()
    async with mesh.running(beside(seats("1").consumer(), seats("2").consumer(), Share(0))):
        await mesh.publisher.publish([Wanted(seat="1A")], correlation_id=NEW)
        await mesh.publisher.publish([Wanted(seat="1B"), Priced(price=1)], correlation_id="order-9")
        await mesh.eventually(Sold, count=1)
    crew = [beside(seats("1").consumer(), seats("2").consumer(), Share(10_000)), gate_keeper, coordinator()]
    async with mesh.running(*crew, heartbeat_s=0.05):
        await mesh.publisher.publish([Priced(price=1)], correlation_id=NEW)
        freed = await mesh.eventually(Freed, count=2, timeout=20)
    assert {(one.seat, one.by) for one in freed} == {("1A", "2, sold by 2"), ("1B", "2, sold by 1")}


class Entered(Event):
    door: str


class Passed(Event):
    door: str
    by: str


def doors(version: str, name: str) -> Agent:
    agent = Agent(name, version=version)

    @agent.on(Entered, holds="door")
    async def enter(entered: Entered) -> Passed:
        return Passed(door=entered.door, by=version)

    return agent


async def test_what_waits_for_a_lock_is_answered_to_the_version_that_asked() -> None:
    """One entity for both: the workflow of the one version waits for that of the other."""
    mesh = MemoryMesh()
    crew = [beside(doors("1", "doors").consumer(), doors("2", "doors_v2").consumer(name="doors"), HALF), coordinator()]
    async with mesh.running(*crew, heartbeat_s=0.05):
        for workflow in (NEW, OLD):
            await mesh.publisher.publish([Entered(door="front")], correlation_id=workflow)
        passed = await mesh.eventually(Passed, count=2, timeout=20)
    assert {one.by for one in passed} == {"1", "2"}
    assert {(workflow, version) for workflow, version, _, _ in await told(mesh, "doors")} == {(NEW, "2"), (OLD, "1")}


# Who knows that there are two.


class Weighed(Event):
    grams: int


class Stamped(Event, type="stamped"):
    cents: int


def scales(version: str, stamped: type[Event] = Stamped, weighed: type[Event] = Weighed) -> Consumer:
    agent = Agent("scales", version=version)

    async def stamp(event: Event) -> Event | None:
        return None

    stamp.__annotations__ = {"event": weighed, "return": stamped | None}
    agent.on()(stamp)
    return agent.consumer()


class Text(Event, type="stamped"):
    cents: str


class Dated(Event, type="weighed"):
    grams: int
    day: str


async def test_the_gate_asks_the_canary_too() -> None:
    """It reads what others write: a change that it could not read breaks the agent, by its version."""
    mesh = MemoryMesh()
    async with mesh.running(beside(scales("1"), scales("2", weighed=Dated), Share(10)), heartbeat_s=0.05):
        workers = await read_agents(mesh.bus, mesh.names, mesh.codec)
        schemas = await read_schemas(mesh.bus, mesh.names)
        live = of_workers(known := subscriptions(workers, now_us=now_us()), schemas)
    [seen] = workers
    assert seen.canary is not None
    assert (seen.version, seen.canary.version, seen.canary.share) == ("1", "2", 10)
    assert [(one.version, known.declared("scales", one.version)) for one in live.writes] == [
        ("1", frozenset({"stamped"})),
        ("2", frozenset({"stamped"})),
    ]
    post = Agent("post")

    @post.on(Stamped)
    async def send(stamped: Stamped) -> Weighed:
        return Weighed(grams=stamped.cents)

    [problem] = gate(of_consumers([post.consumer()]), live).problems
    assert (problem.path, problem.agents) == ("day", ("scales",))


async def test_a_canary_that_says_what_others_cannot_read_does_not_start() -> None:
    """As a deployment of it would not."""
    mesh, post = MemoryMesh(), Agent("post", version="7")

    @post.on(Stamped)
    async def send(stamped: Stamped) -> None: ...

    async with mesh.running(post, heartbeat_s=0.05):
        worker = mesh.worker(beside(scales("1"), scales("2", stamped=Text), Share(1)))
        with pytest.raises(BreaksReadersError, match="cents"):
            await worker.run()


# Under everything that can go wrong.

EVENTS = [Paid(account=f"a-{number % 5}") for number in range(30)]


def one_version_each(run: Run) -> None:
    """All that was done for a workflow was done by the version that it belongs to, and every account counted on."""
    for record in run.records[ACTIVITY]:
        activity = run.codec.decode(Activity, record.value or b"")
        for one in activity.deliveries:
            assert activity.version == ("2" if HALF.takes(one.correlation_id) else "1"), "by another version"
    counts: defaultdict[str, list[int]] = defaultdict(list)
    for booked in run.events(Booked):
        counts[booked.account].append(booked.count)
    assert dict(counts) == {f"a-{number}": [1, 2, 3, 4, 5, 6] for number in range(5)}, f"counted {dict(counts)}"


def test_workers_that_crash_leave_each_workflow_with_its_version() -> None:
    """Partitions move, attempts are made again elsewhere: state and effects are those of one run in order."""
    simulate([both()], EVENTS, seeds=range(60), check=one_version_each)


def test_the_simulation_sees_a_choice_that_is_not_by_the_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Had each worker chosen by itself, the check would tell."""
    chance = random.Random(7)

    def by_chance(consumer: Consumer, _id: str) -> Consumer:
        return chance.choice(consumer.versions)

    monkeypatch.setattr(Consumer, "version_for", by_chance)
    with pytest.raises(SimulationError, match="by another version"):
        simulate([both()], EVENTS, seeds=range(5), check=one_version_each, fold=False)


def test_the_explorer_takes_one_version_at_a_time() -> None:
    """Its events are never written, so that a class of one version cannot be read as that of the other."""
    with pytest.raises(NotModelledError, match="Explore each version by itself"):
        explore([both()], Paid(account="a"))
