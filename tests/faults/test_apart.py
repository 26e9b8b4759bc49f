"""Ten agents under load, each a process of its own: one is deployed, scaled, killed, removed and broken, one is added."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import pytest
from choir import SINGERS, Answered, Intoned
from crew import Process
from groups import group_epoch
from world import PATIENCE_S, World

from antiphon.bus.names import dead_topic
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka

CHOIR = Path(__file__).with_name("choir.py")
BATCH = 20


def part(name: str) -> str:
    return f"{CHOIR}:{name.replace('-', '_')}"


class Load:
    """Events that keep coming, some at a time, and how long the nine take to answer each lot."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.intoned = 0
        self.took_s: list[float] = []

    async def lot(self) -> None:
        """Intone some, and wait until the nine have answered."""
        began = time.monotonic()
        events = [Intoned(n=self.intoned + number) for number in range(BATCH)]
        await self._world.publish(events)
        self.intoned += BATCH
        await eventually(self._answered, PATIENCE_S, what="the nine to answer")
        self.took_s.append(time.monotonic() - began)

    async def _answered(self) -> bool:
        topic = self._world.names.topic(Answered.__event__.topic)
        bounds = await self._world.bus.bounds([topic])
        if sum(end for _, end in bounds.values()) < self.intoned * len(SINGERS):
            return False
        heard = Counter(answer.singer for answer in await self._world.events(Answered))
        return all(heard[name] >= self.intoned for name in SINGERS)

    @asynccontextmanager
    async def meanwhile(self) -> AsyncIterator[None]:
        """Keep them coming while the block does what it does, one lot at the least."""
        over = asyncio.Event()

        async def go_on() -> None:
            await self.lot()
            while not over.is_set():
                await self.lot()

        going_on = asyncio.create_task(go_on())
        yield
        over.set()
        await going_on


async def test_f09_what_happens_to_one_agent_happens_to_no_other(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The nine others keep their generation, log nothing that is wrong, and answer each event once; of the one nothing is lost or repeated."""
    nine = [world.start(part(name)) for name in SINGERS]
    for process in nine:
        await process.ready()
    load = Load(world)
    await load.lot()
    before = await epochs(world)
    calm = await quiet(load)

    async with load.meanwhile():
        first = await world.start(part("soloist")).ready()
        await world.start(part("descant")).ready()
        second = await world.start(part("soloist_2")).ready()
        await stopped(first)
        third = await world.start(part("soloist_2")).ready()
        second.kill()
        await stopped(third)
        broken = await world.start(part("soloist_broken")).ready()
    stirred = median(load.took_s)

    await eventually(lambda: through(world, load.intoned), PATIENCE_S, what="the soloist to be through")
    await stopped(broken)
    sung = Counter((answer.singer, answer.n) for answer in await world.events(Answered))
    # What the soloist could not sing it has set aside, the rest it has sung: together each event once.
    assert set(sung.values()) == {1}
    assert Counter(name for name, _ in sung if name in SINGERS) == dict.fromkeys(SINGERS, load.intoned)
    assert Counter(name for name, _ in sung)["soloist"] + await letters(world) == load.intoned
    assert await epochs(world) == before
    assert [line for process in nine for line in process.lines() if line["level"] not in ("info", "debug")] == []
    with capsys.disabled():
        told = f"the nine answered {BATCH} events in {calm:.2f} s, and in {stirred:.2f} s while the tenth was changed"
        sys.stdout.write(f"\n{told}\n")


async def quiet(load: Load) -> float:
    for _ in range(5):
        await load.lot()
    took, load.took_s = median(load.took_s), []
    return took


async def epochs(world: World) -> list[int]:
    return [await group_epoch(world.settings.bootstrap_servers, world.names.group(name)) for name in SINGERS]


async def stopped(process: Process) -> None:
    process.send(signal.SIGTERM)
    assert await process.ended() == 0


async def letters(world: World) -> int:
    bounds = await world.bus.bounds([world.names.topic(dead_topic("soloist"))])
    start = {place: first for place, (first, _) in bounds.items()}
    return len([one async for one in world.bus.read(start, {place: end for place, (_, end) in bounds.items()})])


async def through(world: World, count: int) -> bool:
    sung = sum(answer.singer == "soloist" for answer in await world.events(Answered))
    return sung + await letters(world) >= count
