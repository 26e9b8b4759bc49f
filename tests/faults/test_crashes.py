"""Workers that are killed, stopped and told to end, as processes on Apache Kafka: in Kafka everything happens once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import psutil
import pytest
from crew import Process
from parcels import Placed, Refunded, Released, Shipped, card, parcel, steps, stock
from probe import Act, Answered, Asked, attempts, probe
from relay import Api, CutError, Relay, Request
from world import HERE, PROBE, World

from antiphon.compensation.coordinator import coordinator
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka


def held(*numbers: int) -> list[Asked]:
    """Return events, each of a key of its own, whose handlers last until the test lets go."""
    return [Asked(key=f"k{n}", n=n, act=Act.HOLD) for n in numbers]


async def test_f01_killed_between_handler_and_commit(world: World) -> None:
    """The event is handed out again, so its handler runs twice; what it said can be read once."""
    first = await world.start(PROBE).ready()
    await world.ask(Asked(key="a", n=1), Asked(key="a", n=2, act=Act.DIE), Asked(key="a", n=3))
    assert await first.ended() == -signal.SIGKILL

    world.start(PROBE)

    answers = await world.came(Answered, 3)
    assert [(answer.n, answer.place) for answer in answers] == [(1, 0), (2, 1), (3, 2)]
    assert world.attempts[2] == 2
    assert await world.wrong(probe) == []


@pytest.mark.parametrize("arrives", [False, True], ids=["before it arrives", "before its answer does"])
async def test_f02_killed_during_a_commit(relayed: World, relay: Relay, arrives: bool) -> None:
    """Whether the broker has heard of the commit or not: once, and handled again only where it has not."""
    first = await relayed.start(PROBE).ready()

    async def kill(request: Request) -> None:
        if request.api == Api.END_TXN and first.exit_code is None and relayed.attempts[1]:
            first.kill()
            raise CutError

    async def kill_afterwards(request: Request, answer: bytes) -> bytes:
        await kill(request)
        return answer

    if arrives:
        relay.after = kill_afterwards
    else:
        relay.before = kill
    await relayed.ask(Asked(key="a", n=1))
    assert await first.ended() == -signal.SIGKILL

    relayed.start(PROBE)

    await relayed.ask(Asked(key="a", n=2))
    assert [(answer.n, answer.place) for answer in await relayed.came(Answered, 2)] == [(1, 0), (2, 1)]
    assert relayed.attempts == {1: 1 if arrives else 2, 2: 1}
    assert await relayed.wrong(probe) == []


async def test_f03_killed_during_an_undo(world: World) -> None:
    """The agent that gives money back and the coordinator are killed in it: both go on, and it is given back once."""
    shop = f"{HERE / 'parcels.py'}"
    others = [f"{shop}:stock", f"{shop}:parcel", "compensation"]
    cashier, rest = world.start(f"{shop}:card"), await world.start(*others).ready()
    await world.publish([Placed(refuse=True)])
    assert await cashier.ended() == -signal.SIGKILL
    rest.kill()

    world.start(f"{shop}:card")
    world.start(*others)

    assert len(await world.came(Released, 1)) == 1
    await world.publish([Placed(refuse=False)])
    await world.came(Shipped, 1)
    assert [len(await world.events(said)) for said in (Refunded, Released)] == [1, 1]
    assert steps(world.folder) == ["refund", "refund", "release"]
    assert await world.crew.stop() == [0, 0]
    assert await world.wrong(stock, card, parcel, coordinator()) == []


async def test_f04_told_to_end_with_work_in_hand(world: World) -> None:
    """It is finished and committed, the exit code is 0, and whoever comes next has nothing of it to do."""
    first = await world.start(PROBE).ready()
    await drains(world, first, first.pid)


async def drains(world: World, worker: Process, pid: int) -> None:
    """Have *worker*, whose own process is *pid*, handle three events, and end meanwhile."""
    await world.ask(*held(1, 2, 3))
    await world.begun(1, 2, 3)
    os.kill(pid, signal.SIGTERM)
    await eventually(lambda: worker.said("stopping"), what="the worker to be stopping")
    world.go()
    assert await worker.ended() == 0

    world.start(PROBE)

    await world.ask(Asked(key="k1", n=4), Asked(key="k2", n=5), Asked(key="k3", n=6))
    await world.came(Answered, 6)
    assert world.attempts == dict.fromkeys(range(1, 7), 1)
    assert await world.wrong(probe) == []


async def test_f05_more_work_than_grace(world: World) -> None:
    """What does not end in time is cancelled, not committed, and handed out again, once; the exit code says so."""
    first = await world.start(PROBE, grace=0.3).ready()
    await world.ask(Asked(key="k1", n=1), *held(2))
    await world.came(Answered, 1)
    await world.begun(2)
    first.send(signal.SIGTERM)
    assert await first.ended() == 1
    assert first.said("stopped; what was not finished is handed out again")[0]["handed_back"] == 1

    world.go()
    world.start(PROBE)

    await world.came(Answered, 2)
    assert world.attempts == {1: 1, 2: 2}
    assert await world.wrong(probe) == []


@pytest.fixture
def alone() -> list[str]:
    """Return the words that start a program as the first process of its own namespace."""
    words = ["unshare", *(["--user", "--map-root-user"] if os.geteuid() else []), "--fork", "--pid", "--kill-child"]
    if shutil.which(words[0]) is None or subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs unshare(1), and leave to make a namespace of processes")
    return words


async def test_f33_first_process_of_a_container(world: World, alone: list[str]) -> None:
    """In a namespace of its own, where signals without a handler do nothing: it drains all the same."""
    worker = await world.start(PROBE, under=[*alone, "sh", "-c", 'exec "$@"', "sh"]).ready()
    [inner] = psutil.Process(worker.pid).children()

    await drains(world, worker, inner.pid)

    assert {pid for pid, n in attempts(world.folder) if n <= 3} == {1}
