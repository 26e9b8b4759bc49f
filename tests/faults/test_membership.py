"""Who belongs to a group, and who does not any more, with processes on Apache Kafka."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from accounts import Audited, Booked, auditor, ledger
from groups import group_epoch
from probe import Act, Answered, Asked, probe
from relay import Api, Relay, Request
from world import AUDITOR, LEDGER, PATIENCE_S, PROBE, World, deposits

from antiphon.bus.names import COORDINATOR
from antiphon.testing.waiting import eventually
from shop import CardRefunded, OrderPlaced, ParcelRefused, StockReleased

pytestmark = pytest.mark.kafka

PROTOCOLS = ["consumer", "classic"]
SHOP = Path(__file__).parents[2] / "examples/3-order/shop.py"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_f06_a_zombie(relay: Relay, namespace: str, tmp_path: Path, protocol: str) -> None:
    """Frozen in the midst of a commit, past the session: its commit is void when it wakes, the successor's counts."""
    address = f"127.0.0.1:{relay.broker.port}"
    async with World(
        address, namespace, tmp_path, through=relay.address, group_protocol=protocol, session_timeout=3
    ) as world:
        zombie = await world.start(PROBE, instance="zombie").ready()
        woken = asyncio.Event()

        async def freeze(request: Request) -> None:
            if (request.api, request.client) == (Api.TXN_OFFSET_COMMIT, "zombie") and not woken.is_set():
                zombie.send(signal.SIGSTOP)
                await woken.wait()

        relay.before = freeze
        [event] = await world.ask(Asked(key="a", n=1))
        await world.begun(1)
        world.start(PROBE, instance="successor")
        await world.came(Answered, 1)
        woken.set()
        zombie.send(signal.SIGCONT)
        await eventually(lambda: zombie.said("a transaction failed"), PATIENCE_S, what="its commit to be refused")

        await world.ask(*(Asked(key=f"k{n}", n=n) for n in range(2, 12)))
        await world.came(Answered, 11)
        assert await world.instances("probe", event) == [("successor", "completed")]
        assert await world.crew.stop() == [0, 0]
        assert await world.wrong(probe) == []


async def test_f29_two_coordinators_of_one_saga(relay: Relay, namespace: str, tmp_path: Path) -> None:
    """One is frozen in the midst of a commit, another one undoes: what the first would have said is void, each undo is asked for once."""
    address = f"127.0.0.1:{relay.broker.port}"
    async with World(address, namespace, tmp_path, through=relay.address, session_timeout=3) as world:
        zombie = await world.start(COORDINATOR, instance="zombie").ready()
        agents = await world.start(f"{SHOP}:stock", f"{SHOP}:card", f"{SHOP}:parcel").ready()
        woken = asyncio.Event()

        async def freeze(request: Request) -> None:
            if (request.api, request.client) == (Api.TXN_OFFSET_COMMIT, "zombie") and not woken.is_set():
                zombie.send(signal.SIGSTOP)
                await woken.wait()

        relay.before = freeze
        await world.publish([OrderPlaced(order="7", item="lamp", price=41, city="Atlantis")])
        await world.came(ParcelRefused, 1)
        world.start(COORDINATOR, instance="successor")
        await world.came(StockReleased, 1)
        woken.set()
        zombie.send(signal.SIGCONT)
        await eventually(lambda: zombie.said("a transaction failed"), PATIENCE_S, what="its commit to be refused")

        await world.publish([OrderPlaced(order="8", item="lamp", price=41, city="Atlantis")])
        await world.came(StockReleased, 2)
        assert sorted(event.order for event in await world.events(CardRefunded)) == ["7", "8"]
        assert sorted(event.order for event in await world.events(StockReleased)) == ["7", "8"]
        assert agents.exit_code is None
        assert await world.crew.stop() == [0, 0, 0]


@pytest.mark.parametrize(("protocol", "rounds"), [("consumer", 5), ("classic", 3)])
async def test_f08_a_rebalance_storm(kafka: str, namespace: str, tmp_path: Path, protocol: str, rounds: int) -> None:
    """Workers of two chained agents come, and go in order or by force, one after the other, while events pour in."""
    async with World(kafka, namespace, tmp_path, group_protocol=protocol, session_timeout=3) as world:
        await world.publish(deposits(0, 100))
        steady = await world.start(LEDGER, AUDITOR).ready()
        storm = asyncio.create_task(_come_and_go(world, rounds))
        while not storm.done():
            await world.publish(deposits(len(world.asked), 100))
            await world.came(Audited, len(world.asked) - 500)
        assert await storm == rounds
        await world.came(Audited, len(world.asked))
        assert steady.exit_code is None
        assert await world.wrong(ledger, auditor) == []


async def _come_and_go(world: World, rounds: int) -> int:
    for number in range(rounds):
        passing = await world.start(LEDGER, AUDITOR).ready()
        if number % 2:
            passing.kill()
        else:
            passing.send(signal.SIGTERM)
            assert await passing.ended() == 0
    return rounds


async def test_f09_an_agent_comes_and_goes(world: World) -> None:
    """What the brokers call the generation of the others' groups is the same after it as before, and they have work meanwhile."""
    others = ("probe", "auditor")
    await world.start(PROBE, AUDITOR).ready()
    before = await _epochs(world, others)

    added = await world.start(LEDGER).ready()
    await world.publish(deposits(0, 50))
    await world.came(Audited, 50)
    added.send(signal.SIGTERM)
    assert await added.ended() == 0
    killed = await world.start(LEDGER).ready()
    killed.kill()
    await world.ask(Asked(key="a", n=1))
    await world.came(Answered, 1)

    assert await _epochs(world, others) == before
    assert await _epochs(world, ("ledger",)) > (0,)


async def _epochs(world: World, agents: Sequence[str]) -> tuple[int, ...]:
    address = world.settings.bootstrap_servers
    return tuple([await group_epoch(address, world.names.group(agent)) for agent in agents])


class Patience(NamedTuple):
    """What became of slow events, on two workers whose time-outs are shorter than these."""

    attempts: Counter[int]
    wrong: list[str]
    blocked: list[dict[str, Any]]
    """The warnings about a blocked event loop."""
    answered: list[int]
    """In the order in which a reader saw them come."""
    codes: list[int]


SLOW, BLOCKING, FAILING, QUICK = 1, 2, 3, range(10, 30)


@pytest.fixture(scope="module")
def patience(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Patience]:
    """By each protocol: a handler of nine seconds, one that blocks, one that fails, and quick ones, all at once."""

    async def both() -> dict[str, Patience]:
        stories = [_be_patient(kafka, tmp_path_factory.mktemp(protocol), protocol) for protocol in PROTOCOLS]
        return dict(zip(PROTOCOLS, await asyncio.gather(*stories), strict=True))

    return asyncio.run(both())


async def _be_patient(kafka: str, folder: Path, protocol: str) -> Patience:
    namespace = f"t{uuid.uuid4().hex[:12]}"
    limits: dict[str, Any] = {"session_timeout": 4}
    if protocol == "classic":  # by the other one it cannot be set below 45 s
        limits["client_max_poll_interval_ms"] = 4_000
    async with World(kafka, namespace, folder, group_protocol=protocol, **limits) as world:
        workers = [await world.start(PROBE).ready(), await world.start(PROBE).ready()]
        await world.ask(
            Asked(key="slow", n=SLOW, act=Act.LAST, seconds=9.0),
            Asked(key="failing", n=FAILING, act=Act.FAIL),
        )
        await world.begun(SLOW, FAILING)
        await world.ask(Asked(key="blocking", n=BLOCKING, act=Act.BLOCK, seconds=8.0))
        await world.ask(*(Asked(key=f"k{n}", n=n) for n in QUICK))
        answers = await world.came(Answered, len(QUICK) + 2)
        await eventually(lambda: world.attempts[FAILING] == 4, PATIENCE_S, what="the failing one to be given up")
        codes = await world.crew.stop()
        blocked = [line for worker in workers for line in worker.said("the event loop is blocked")]
        return Patience(world.attempts, await world.wrong(probe, fold=False), blocked, [a.n for a in answers], codes)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_f07_a_blocking_handler_keeps_its_place(patience: dict[str, Patience], protocol: str) -> None:
    """For longer than the session, with somebody ready to take over: warned of, and handled once."""
    [warning] = patience[protocol].blocked
    assert warning["agent"] == "probe"
    assert "time.sleep" in warning["stack"]
    assert patience[protocol].attempts[BLOCKING] == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_f34_a_handler_longer_than_every_time_out(patience: dict[str, Patience], protocol: str) -> None:
    """Longer than the session and than the client's own limit between polls: finished by whoever began it, once."""
    assert patience[protocol].attempts[SLOW] == 1
    assert SLOW in patience[protocol].answered


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_backoff_holds_up_no_partition(patience: dict[str, Patience], protocol: str) -> None:
    """While one event waits to be tried again, for longer than the session, the others are done, and nobody is evicted."""
    assert patience[protocol].attempts == {SLOW: 1, BLOCKING: 1, FAILING: 4, **dict.fromkeys(QUICK, 1)}
    assert (patience[protocol].wrong, patience[protocol].codes) == ([], [0, 0])


async def test_two_deployments_on_one_cluster(kafka: str, namespace: str, tmp_path: Path) -> None:
    """Each with its namespace, agents of the same names: neither hears, nor takes, what is the other's."""
    (tmp_path / "green").mkdir()
    (tmp_path / "blue").mkdir()
    async with (
        World(kafka, f"{namespace}.green", tmp_path / "green") as green,
        World(kafka, f"{namespace}.blue", tmp_path / "blue") as blue,
    ):
        workers = [world.start(LEDGER, AUDITOR) for world in (green, blue)]
        for first in range(0, 200, 50):
            await green.publish(deposits(first, 50))
            await blue.publish(deposits(1_000 + first, 50))
        for world, begins in ((green, 0), (blue, 1_000)):
            booked = await world.came(Booked, 200)
            assert sorted(booking.n for booking in booked) == [*range(begins, begins + 200)]
            await world.came(Audited, 200)
            assert await world.wrong(ledger, auditor) == []
        assert [worker.exit_code for worker in workers] == [None, None]
