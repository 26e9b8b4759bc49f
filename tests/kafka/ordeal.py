"""Deposits through two chained agents whose workers, and brokers, fail at random moments in mid-flow; then the audit.

The faults and their order come from a seed, and so do the moments, counted in
events that are through. What the machine makes of them is its own: a seed
tells two runs apart, and does not make one come again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from enum import StrEnum

from accounts import Audited, Deposited, auditor, ledger
from audit import AS_AUDITED, Audit
from books import Anomaly, Books, Deposits, Findings
from cluster import Broker
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from staff import Staff

from antiphon import Mesh
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.tether import speaks_kafka
from antiphon.bus.names import Names
from antiphon.bus.record import TopicPartition
from antiphon.bus.schema_topic import TopicStore
from antiphon.bus.topics import ensure
from antiphon.schemas.codec import Codec
from antiphon.testing.waiting import eventually

_BATCH = 250
_LEAST_S = 0.6
"""Between two faults, so that the machine is not kept busy with starting Python alone."""
_PATIENCE_S = 20.0
"""After so long without the progress that the next fault waits for, it comes all the same."""
_STUCK_S = 600.0
_PAUSE_S = 1.0
"""More between two looks at the clock is a pause of this whole process, and is not counted."""


class Fault(StrEnum):
    """What is done to a worker, or to a broker."""

    KILL = "kill -9"
    FREEZE = "SIGSTOP past the session, then SIGCONT"
    RESTART = "SIGTERM and start"
    SCALE = "one worker more, or less"
    BROKER = "a broker stopped and started"


def faults_of(dice: random.Random, kills: int, stops: int) -> list[Fault]:
    """Return *kills* kills of workers and what goes with them, and *stops* of brokers, in random order."""
    some = max(kills // 6, 1)
    faults = [Fault.KILL] * kills
    faults += [Fault.FREEZE] * some + [Fault.RESTART] * some + [Fault.SCALE] * some + [Fault.BROKER] * stops
    dice.shuffle(faults)
    return faults


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """How an ordeal goes. The same values give the same deposits and the same faults."""

    seed: int
    events: int
    kills: int
    stops: int = 0
    """Of brokers."""
    accounts: int = 40
    partitions: int = 6
    session_s: float = 4.0
    """After which the brokers take a silent member for dead."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far an ordeal is."""

    published: int
    through: int
    faults: int
    of: int
    elapsed_s: float
    findings: int


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of an ordeal."""

    anomalies: Sequence[str]
    complaints: Sequence[str]
    """Of the workers: who ended without being told to, or not as told."""
    through: int
    flow_s: float
    """From the first deposit to the last one that came through."""
    audit_s: float
    faults: Counter[Fault]
    recoveries: dict[Fault, list[float]]
    """After each fault: seconds until everything was through that had been published when it struck."""
    redeliveries: int
    """How often a handler ran again for an event that one had run for."""

    @property
    def rate(self) -> float:
        return self.through / self.flow_s if self.flow_s else 0.0

    def recovery(self, fault: Fault) -> tuple[float, float]:
        """Return median and most of the seconds it took to recover from *fault*."""
        took = self.recoveries.get(fault) or [0.0]
        return statistics.median(took), max(took)


class Stopwatch:
    """Seconds that pass, without those in which this whole process stood still: a pause is no delay."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.s = 0.0

    def look(self) -> float:
        """Return the seconds so far; called several times a second."""
        now = time.monotonic()
        self.s += min(now - self._last, _PAUSE_S)
        self._last = now
        return self.s


class Ordeal:
    """One run. *brokers* are those that may be stopped, one at a time; *watch* is told how it goes."""

    def __init__(
        self,
        course: Course,
        *,
        bus: KafkaBus,
        mesh: Mesh,
        names: Names,
        staff: Staff,
        kafka: str,
        brokers: Sequence[Broker] = (),
        watch: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._course = course
        self._deposits = Deposits(seed=course.seed, count=course.events, accounts=course.accounts)
        self._bus = bus
        self._mesh = mesh
        self._names = names
        self._codec = Codec(TopicStore(bus, names, partitions=course.partitions))
        self._staff = staff
        self._kafka = kafka
        self._brokers = brokers
        self._watch = watch
        self._dice = random.Random(f"faults of {course.seed}")
        self._faults = faults_of(self._dice, course.kills, course.stops if brokers else 0)
        self._struck = 0
        self._published = 0
        self._clock = Stopwatch()
        self._findings = Findings(staff.note)  # beside what was done at that time
        self._live = Books("money.audited", self._deposits, AS_AUDITED, self._findings)
        self._lowest = 0
        """Every deposit below is through."""
        self._recovering: list[tuple[Fault, float, int]] = []
        self._recoveries: defaultdict[Fault, list[float]] = defaultdict(list)
        self._broker_is_down = asyncio.Lock()
        staff.is_excused = self._broker_is_down.locked

    async def run(self) -> Verdict:
        """Run it to the end; raises `TimeoutError` where nothing comes through any more."""
        consumers = [ledger.consumer(), auditor.consumer()]
        await ensure(self._bus, consumers, self._names, partitions=self._course.partitions, may_create=True)
        await self._codec.announce({Deposited, Audited})
        following = asyncio.create_task(self._follow())
        feeding = asyncio.create_task(self._feed())
        striking = asyncio.create_task(self._strike())
        tasks = (following, feeding, striking)
        try:
            self._staff.start()
            await self._attend(tasks)
            flow_s = self._clock.look()
            await self._staff.stop()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        began = time.monotonic()
        await Audit(self._bus, self._codec, self._names, self._deposits, self._findings).run(self._live)
        return Verdict(
            anomalies=self._findings.lines(),
            complaints=self._staff.complaints,
            through=self._live.seen.count,
            flow_s=flow_s,
            audit_s=time.monotonic() - began,
            faults=Counter(self._faults[: self._struck]),
            recoveries=dict(self._recoveries),
            redeliveries=self._staff.handled() - 2 * self._course.events,
        )

    async def _attend(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Watch until everything is through, or nothing comes through any more."""
        moved_at, through = self._clock.look(), 0
        while self._live.seen.count < self._course.events or self._struck < len(self._faults):
            await asyncio.sleep(0.1)
            for task in tasks:
                if task.done():
                    task.result()  # raises what ended it
            now = self._clock.look()
            self._note_recoveries(now)
            self._staff.mend()
            self._watch(self._progress(now))
            if self._live.seen.count > through:
                moved_at, through = now, self._live.seen.count
            elif now - moved_at > _STUCK_S:
                # The audit says what is missing.
                self._findings.add(Anomaly.LOST_WRITE, f"nothing came through for {_STUCK_S:g} s after {through:,}")
                return
        self._note_recoveries(self._clock.look())
        await tasks[2]

    def _progress(self, now: float) -> Progress:
        return Progress(
            self._published,
            self._live.seen.count,
            self._struck,
            len(self._faults),
            now,
            self._findings.counts.total() + len(self._staff.complaints),
        )

    # What goes in.

    @property
    def _share(self) -> int:
        """How many events there are to a fault."""
        return max(self._course.events // (len(self._faults) + 1), 1)

    async def _feed(self) -> None:
        """Publish so much that there is always work in hand, and that some is left for the last fault."""
        deposits, n = self._deposits, 0
        while n < deposits.count:
            ahead = self._live.seen.count + 2 * self._share + 2_000
            paced = (self._struck + 4) * self._share if self._struck < len(self._faults) else deposits.count
            until = min(n + _BATCH, ahead, paced, deposits.count)
            if until <= n:
                await asyncio.sleep(0.02)
                continue
            await self._mesh.publish_all(
                [
                    Deposited(account=deposits.account(one), n=one, amount=deposits.amount(one))
                    for one in range(n, until)
                ]
            )
            self._published = n = until

    # What comes out.

    async def _follow(self) -> None:
        """Read what is committed, as it is."""
        topic = self._names.topic("money.audited")
        start = {TopicPartition(topic, partition): 0 for partition in range(self._course.partitions)}
        async for record in self._bus.read(start):
            where = f"{record.topic}[{record.partition}]@{record.offset} as it was followed"
            self._live.see(self._codec.decode(Audited, record.value or b""), where)
            while self._lowest in self._live.seen:
                self._lowest += 1

    def _note_recoveries(self, now: float) -> None:
        left: list[tuple[Fault, float, int]] = []
        for fault, struck_at, published in self._recovering:
            if self._lowest >= published:
                self._recoveries[fault].append(now - struck_at)
            else:
                left.append((fault, struck_at, published))
        self._recovering = left

    # What goes wrong.

    async def _strike(self) -> None:
        async with asyncio.TaskGroup() as going_on:
            for number, fault in enumerate(self._faults):
                least = int((number + self._dice.uniform(0.2, 1.0)) * self._share)
                await self._in_mid_flow(least)
                if fault is Fault.BROKER:
                    # One at a time, and the next one when that has all it missed: of three, one may be away.
                    await self._broker_is_down.acquire()
                self._recovering.append((fault, self._clock.s, self._published))
                await self._do(fault, going_on)
                self._struck += 1

    async def _in_mid_flow(self, least: int) -> None:
        """Wait until *least* events are through, and somebody is there to be struck."""
        began = self._clock.s
        while (waited := self._clock.s - began) < _PATIENCE_S:
            if waited > _LEAST_S and self._live.seen.count >= least and self._staff.free():
                return
            await asyncio.sleep(0.05)
        await eventually(self._staff.free, _STUCK_S, what="a worker that nothing is being done to")

    async def _do(self, fault: Fault, going_on: asyncio.TaskGroup) -> None:
        hand = self._dice.choice(self._staff.free())
        match fault:
            case Fault.KILL:
                self._staff.kill(hand)
            case Fault.FREEZE:
                going_on.create_task(self._staff.freeze(hand, self._course.session_s * self._dice.uniform(1.2, 2.5)))
            case Fault.RESTART:
                going_on.create_task(self._staff.restart(hand))
            case Fault.SCALE:
                going_on.create_task(self._staff.scale(self._dice))
            case Fault.BROKER:
                going_on.create_task(self._stop_a_broker(self._dice.choice(self._brokers), self._dice.uniform(2, 15)))

    async def _stop_a_broker(self, broker: Broker, for_s: float) -> None:
        try:
            end = self._dice.choice((broker.stop, broker.kill))
            self._staff.note(f"{end.__name__} broker {broker.node}")
            await asyncio.to_thread(end)
            await asyncio.sleep(for_s)
            self._staff.note(f"start broker {broker.node}")
            broker.start()
            await eventually(
                lambda: asyncio.to_thread(self._in_sync, broker), _STUCK_S, what=f"broker {broker.node} to catch up"
            )
            self._staff.note(f"broker {broker.node} has caught up")
        finally:
            self._broker_is_down.release()

    def _in_sync(self, broker: Broker) -> bool:
        """Say whether *broker* answers, and every broker has every record that it should have."""
        if not speaks_kafka("127.0.0.1", broker.port):
            return False
        client = AdminClient({"bootstrap.servers": self._kafka, "log_level": 0})
        try:
            topics = client.list_topics(timeout=5.0).topics.values()
        except KafkaException:
            return False
        return all(len(one.isrs) == len(one.replicas) for topic in topics for one in topic.partitions.values())
