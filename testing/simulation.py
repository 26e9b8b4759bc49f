"""Agents under a broker and workers that fail, in orders drawn from a seed: at the end everything was done once.

The engine, the codec and the worker are those that run on Kafka; the broker is
a `MemoryBus`, and time is virtual, so that an hour of time-outs takes no time.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from antiphon.bus.activity import Activity
from antiphon.bus.clock import Clock
from antiphon.bus.memory import MemoryBus
from antiphon.bus.names import Names
from antiphon.bus.publisher import Publisher
from antiphon.bus.record import Record, TopicPartition
from antiphon.bus.topics import ensure
from antiphon.schemas.codec import Codec
from antiphon.schemas.event import Event
from antiphon.schemas.ids import caused_id
from antiphon.schemas.store import MemoryStore
from antiphon.testing.chaos import Chaos, Fault, SimulatedError
from antiphon.testing.mesh import consumers_of
from antiphon.testing.oracle import Run, problems
from antiphon.testing.quiet import quiet
from antiphon.testing.virtual import run_virtually

__all__ = ["Fault", "Run", "Simulated", "SimulatedError", "Simulation", "SimulationError", "simulate"]

Check: TypeAlias = Callable[[Run], None]
"""Looks at a run when all is done; raises `AssertionError` where something is wrong with it."""

_SETTLED_S = 600.0  # virtual
_ABORTED_S = 20.0  # virtual; longer than a crash goes unnoticed, and than a transaction may take
_PAUSE = 0.2  # how likely, after each event
_SHOWN = 12


class SimulationError(AssertionError):
    """A seed under which something was lost, repeated or put out of order."""

    def __init__(self, seed: int, problems: Sequence[str], faults: Sequence[str]) -> None:
        self.seed = seed
        self.problems = problems
        self.faults = faults
        more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        lines = [
            f"expected every event to be handled once and in order; with seed {seed}:",
            *(f"  {problem}" for problem in [*problems[:_SHOWN], *more]),
            "what went wrong before, in order:",
            *(f"  {fault}" for fault in faults or ["nothing"]),
            f"Run it again with seeds=[{seed}].",
        ]
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Simulated:
    """What a simulation was made of, when nothing was found."""

    schedules: int
    faults: int
    seconds: float
    """Of real time."""

    def __str__(self) -> str:
        rate = self.schedules / self.seconds * 60 if self.seconds else 0.0
        return f"{self.schedules} schedules with {self.faults} faults in {self.seconds:.1f} s ({rate:,.0f} a minute)"


class Simulation:
    """Agents, what is published to them, and what may go wrong; `run` plays it with one seed."""

    def __init__(  # noqa: PLR0913 - all but two have a default
        self,
        agents: Iterable[object],
        events: Sequence[Event],
        *,
        before: Iterable[object] = (),
        faults: Collection[Fault] = frozenset(Fault),
        most: int = 12,
        check: Check | None = None,
        fold: bool = True,
        partitions: int = 3,
        workers: int = 3,
        state_dir: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._consumers = consumers_of(agents)
        self._before = consumers_of(before)
        self._events = events
        self._faults = faults
        self._most = most
        self._check = check
        self._fold = fold
        self._partitions = partitions
        self._workers = workers
        self._state_dir = state_dir
        self._clock = clock
        self._codec = Codec(MemoryStore())

    def run(self, seed: int) -> Run:
        """Play one schedule; raises `SimulationError` where something does not hold at its end.

        The same seed gives the same run: the same faults, the same records.
        """
        return run_virtually(self._play(seed))

    async def _play(self, seed: int) -> Run:
        codec = self._codec
        folder = None if self._state_dir is None else self._state_dir / f"seed-{seed}"
        if folder is not None:
            # Of the same seed played before; it would be taken for this run's, as the topics are called the same.
            shutil.rmtree(folder, ignore_errors=True)
        chaos = Chaos(
            self._consumers,
            before=self._before,
            seed=seed,
            codec=codec,
            partitions=self._partitions,
            workers=self._workers,
            faults=self._faults,
            most=self._most,
            state_dir=folder,
            clock=self._clock,
        )
        bus = chaos.bus
        await ensure(bus, self._consumers, Names(), partitions=self._partitions, may_create=True)
        await codec.announce(self._classes())
        publishing = asyncio.create_task(self._publish(chaos, codec, seed))
        while not publishing.done() or not (chaos.over or self._finished(bus)):
            chaos.tend()
            await asyncio.sleep(0.2)
        publishing.result()
        await chaos.calm()
        # By then the transactions of the crashed are aborted; until then nobody can read behind them.
        await asyncio.sleep(_ABORTED_S)
        stuck = await self._settle(bus)
        await chaos.end()
        run = Run(seed, chaos.happened, await _read(bus), codec)
        found = [*stuck, *(f"a worker ended: {error!r}" for error in chaos.unexpected)]
        found += await problems(run, self._consumers, fold=self._fold)
        if found:
            raise SimulationError(seed, found, chaos.happened)
        self._look(run)
        return run

    def _look(self, run: Run) -> None:
        if self._check is None:
            return
        try:
            self._check(run)
        except AssertionError as error:
            raise SimulationError(run.seed, [str(error) or "the check failed"], run.faults) from error

    def _classes(self) -> list[type[Event]]:
        versions = [version for consumer in self._consumers for version in consumer.versions]
        heard = [event_class for version in versions for event_class in version.hears.values()]
        said = [event_class for version in versions for event_class in version.emits or ()]
        return [Activity, *heard, *said]

    async def _publish(self, chaos: Chaos, codec: Codec, seed: int) -> None:
        """Publish some at a time, so that faults find work in every stage."""
        publisher = Publisher(chaos.bus, codec, Names())
        for number, event in enumerate(self._events):
            await publisher.publish([event], id=caused_id("simulation", str(seed), number))
            if chaos.chance.random() < _PAUSE:
                await asyncio.sleep(chaos.chance.choice((0.001, 0.1, 2.0)))

    async def _settle(self, bus: MemoryBus) -> list[str]:
        deadline = asyncio.get_running_loop().time() + _SETTLED_S
        while not self._finished(bus):
            if asyncio.get_running_loop().time() > deadline:
                left = ", ".join(map(str, self._unfinished(bus)))
                return [f"stuck: with nothing going wrong any more, no worker finished {left} in {_SETTLED_S:g} s"]
            await asyncio.sleep(0.05)
        return []

    def _finished(self, bus: MemoryBus) -> bool:
        return next(self._unfinished(bus), None) is None

    def _unfinished(self, bus: MemoryBus) -> Iterator[TopicPartition]:
        """Yield where a group has not committed past the last event."""
        for consumer in self._consumers:
            committed = bus.committed(Names().group(consumer.name))
            asked = [Names().undo(consumer.name)] if consumer.undoes else []
            for topic in [*consumer.topics, *asked]:
                for number in range(self._partitions):
                    tp = TopicPartition(topic, number)
                    done = committed.get(tp)
                    records, _ = bus.log(tp).read(0 if done is None else done.offset, 1)
                    if records:
                        yield tp


def simulate(  # noqa: PLR0913 - all but two have a default
    agents: Iterable[object],
    events: Sequence[Event],
    *,
    before: Iterable[object] = (),
    seeds: Iterable[int] = range(100),
    faults: Collection[Fault] = frozenset(Fault),
    most: int = 12,
    check: Check | None = None,
    fold: bool = True,
    partitions: int = 3,
    workers: int = 3,
    state_dir: Path | None = None,
    clock: Clock | None = None,
) -> Simulated:
    """Run *agents* on *events* once for every seed, while workers crash, stall, join, leave and lose answers.

    *agents* are decorated functions, `Agent`s or `Consumer`s. In each run at
    most *most* of *faults* happen, to at most *workers* workers at a time; then
    one more worker finishes what is left, and what can be read is compared with
    what went in: every event has one final outcome with each agent that hears
    it, what an agent emitted is there once and in the order of its causes key by
    key, nothing can be read of what was aborted, and state and effects are what
    the handlers make of the events one after the other (*fold*; leave it out
    where handlers do not give the same answer again). Then *check* is asked.
    With *before*, the same agents of an older version, each worker is of the one or the other,
    as in a rolling deploy or one that is rolled back; only the last one is of the new version.
    With *state_dir* workers keep copies of state there, and come back to them.
    Alarms go by *clock*: a `testing.virtual.VirtualClock` where handlers go by it too.

    Raises `SimulationError`, an `AssertionError` that says with which seed what
    went wrong; `seeds=[that]` plays it again, and leaves the log on.
    """
    wanted = [*seeds]
    simulation = Simulation(
        agents,
        events,
        before=before,
        faults=faults,
        most=most,
        check=check,
        fold=fold,
        partitions=partitions,
        workers=workers,
        state_dir=state_dir,
        clock=clock,
    )
    began, happened = time.perf_counter(), 0
    with quiet(indeed=len(wanted) > 1):
        for seed in wanted:
            happened += len(simulation.run(seed).faults)
    return Simulated(len(wanted), happened, time.perf_counter() - began)


async def _read(bus: MemoryBus) -> dict[str, list[Record]]:
    bounds = await bus.bounds(await bus.topics())
    found: dict[str, list[Record]] = {tp.topic: [] for tp in bounds}
    for tp, (first, end) in sorted(bounds.items()):
        # Partition by partition: across them there is no order to speak of.
        found[tp.topic] += [record async for record in bus.read({tp: first}, {tp: end})]
    return found
