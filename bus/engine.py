"""The engine: runs one consumer on one group member, exactly once, parallel by key.

    Member ──take──▶ Progress ──▶ Lanes ──▶ Runner ──▶ finished ──▶ Committer ──commit──▶ Member
            (intake)              (by key)  (handlers)              (transactions)

Four things go on at once, all on one event loop: the intake takes what the
broker gives, runners drain lanes, the committer commits what is finished while
handlers go on, and timers bring retries back. Blocking calls live behind
`Member`. Whatever goes wrong with a transaction has one answer: forget all that
is uncommitted and begin again from what is committed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import random
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from antiphon.bus.alarms import Alarms
from antiphon.bus.claim import in_full
from antiphon.bus.claims import HEADROOM, Claims
from antiphon.bus.clock import Clock, WallClock
from antiphon.bus.committer import Committer
from antiphon.bus.consumer import Consumer, Guarantee, Lane
from antiphon.bus.dead_letter import dead_letter
from antiphon.bus.errors import BrokerUnreachableError, CommitError, MemberFailedError
from antiphon.bus.guard import MAX_HOPS
from antiphon.bus.heartbeat import InFlight
from antiphon.bus.job import Finished, Job, Owned
from antiphon.bus.names import Names
from antiphon.bus.numbers import Numbers
from antiphon.bus.offsets import Progress
from antiphon.bus.outbox import Outbox
from antiphon.bus.port import Assigned, Bus, Jumped, Lost, Member, Membership, MissingOffsets, Records, Revoked
from antiphon.bus.pressure import Bounds, Pressure
from antiphon.bus.record import Committed, Outgoing, Record, TopicPartition, in_words
from antiphon.bus.retry import RetryPolicy
from antiphon.bus.runner import Runner
from antiphon.bus.state import PartitionState
from antiphon.bus.states import States, StateSettings
from antiphon.bus.stopped import Stopped
from antiphon.bus.telemetry import SILENT, Status, Telemetry
from antiphon.bus.undo import UndoRequested, undo_requested
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.errors import NotAnEventError
from antiphon.schemas.event import Event

log = logging.getLogger(__name__)

# While handlers wait for something, records are taken in by so many in one turn of the event loop: a partition that is resumed
# brings thousands, and whoever's time is up meanwhile would wait until all are in hand, and crowd behind one another from then on.
_AT_ONCE = 128
_SAVE_S = 5.0  # a disk that hangs must not keep a worker from stopping


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineSettings(Bounds):
    """Bounds, and what else differs between workers. Times are seconds."""

    instance: str
    partitions: int
    """Of every topic of the mesh."""
    batch: int = 4_000
    """Deliveries in one transaction, at most."""
    max_hops: int = MAX_HOPS
    """How many agents may lead to an event, one after the other; 0: any number."""
    session_timeout_s: float = 10.0
    transaction_timeout_s: float = 8.0
    revoke_grace_s: float = 5.0
    on_missing_offsets: MissingOffsets = MissingOffsets.EARLIEST
    commits: RetryPolicy = dataclasses.field(default_factory=lambda: RetryPolicy(attempts=20, base_s=0.1, cap_s=5.0))
    """How long to wait after a failed transaction, and after how many in a row to give up."""
    letters: RetryPolicy = dataclasses.field(default_factory=lambda: RetryPolicy(base_s=1.0, cap_s=30.0, jitter=False))
    """How long to wait between tries of dead letters that are refused."""
    state: StateSettings = dataclasses.field(default_factory=StateSettings)
    clock: Clock = dataclasses.field(default_factory=WallClock)
    """What alarms go by."""


class Engine:
    """Runs *consumer* until `drain`ed. One engine is one member of one consumer group."""

    def __init__(
        self,
        bus: Bus,
        consumer: Consumer,
        *,
        names: Names,
        codec: Codec,
        settings: EngineSettings,
        claims: Claims | None = None,
        telemetry: Telemetry = SILENT,
    ) -> None:
        claims = claims or Claims()
        self._bus = bus
        self._telemetry = telemetry
        self._consumer = consumer
        self._names = names
        self._settings = settings
        self._owned: dict[TopicPartition, Owned] = {}
        self._deciding = names.redrive(consumer.name)
        self._numbers = Numbers(self._deciding)
        self._classes = {one.version: _classes(one) for one in consumer.versions}
        """By version: what its handler gets of each event type."""
        self._largest = claims.limit + HEADROOM
        self._committer = Committer(
            consumer, names=names, codec=codec, instance=settings.instance, most=settings.batch, limit=claims.limit
        )
        outbox = Outbox(
            consumer,
            names=names,
            codec=codec,
            claims=claims,
            partitions=settings.partitions,
            partition_for=bus.partition_for,
            telemetry=telemetry,
        )
        self._runner = Runner(
            consumer,
            names=names,
            codec=codec,
            claims=claims,
            committer=self._committer,
            outbox=outbox,
            max_hops=settings.max_hops,
            activity_logs=settings.activity_logs,
        )
        self._states = States(
            bus, consumer, topic=names.state(consumer.name), instance=settings.instance, settings=settings.state
        )
        self._runner.on_room = self._resume_where_there_is_room
        self._alarms = Alarms(
            consumer,
            owned=self._owned,
            runner=self._runner,
            committer=self._committer,
            outbox=outbox,
            clock=settings.clock,
            retry=settings.commits,
        )
        self._runner.on_look, self._runner.on_wake = self._alarms.look, self._alarms.wake_at
        self._stopped = Stopped(consumer.name, names.dead(consumer.name))
        self._pressure = Pressure(settings, concurrency=consumer.concurrency, owned=self._owned, stopped=self._stopped)
        self._reopening: asyncio.Task[None] | None = None
        self._lag: Mapping[TopicPartition, int] | None = None
        self._draining = asyncio.Event()
        self._random = random.Random()  # noqa: S311 - jitter, not a secret
        self._standing_by: asyncio.TimerHandle | None = None
        self._abandoned = 0
        """Of those it was to finish when it was told to stop."""
        self.handed_back = 0
        """Deliveries that were in hand when it was told to stop, and are not finished here."""
        self.ready = asyncio.Event()
        """Set while this member has partitions, or the group has had the time to give it some and gave none: it stands by.

        Not set from when they were lost until others, or the same, are given.
        """

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics it reads, as the cluster calls them."""
        plain = {event_class.__event__.topic for event_class in self._classes[self._consumer.version].values()}
        return tuple(sorted([self._deciding, *(self._names.topic(topic) for topic in plain)]))

    def status(self) -> Status:
        """Say how it stands. Any thread may ask, also while the event loop is blocked."""
        owned = list(self._owned.values())  # one step: the loop's thread may change the dictionary meanwhile
        return Status(
            agent=self._consumer.name,
            ready=self.ready.is_set(),
            draining=self._draining.is_set(),
            partitions=len(owned),
            paused=sum(one.paused for one in owned),
            in_flight=len(self._runner.running),
            lanes=self._runner.lanes,
            stopped=sum(one.tp in self._stopped for one in owned),
            in_hand_bytes=sum(one.progress.size for one in owned),
            lag=None if self._lag is None else {tp: lag for tp, lag in self._lag.items() if tp in self._owned},
            restored=self._states.restored,
            to_restore=self._states.to_restore,
            state_bytes=self._states.size,
            figures=()
            if self._consumer.figures is None
            else (*self._consumer.figures({one.tp.partition for one in owned}),),
        )

    def in_hand(self, task: asyncio.Task[Any]) -> dict[str, object] | None:
        """Return the log fields of the event that *task* is handling. Any thread may ask."""
        jobs = list(self._runner.running)
        return next((job.fields(self._consumer.name) for job in jobs if job.runner is task), None)

    def in_flight(self) -> list[InFlight]:
        """Return what is being handled right now."""
        return [
            InFlight(event_id=job.envelope.id, type=job.envelope.type, since_us=job.started_us)
            for job in self._runner.running
        ]

    async def measure(self) -> None:
        """Ask how far behind it is, for `status`: the broker a question or two, nothing of any event.

        Raises `BusError` where the broker does not answer; what was known before is kept.
        """
        asked = [(owned.tp, owned.progress.next, owned.progress.unfinished) for owned in self._owned.values()]
        behind = await self._member.behind({tp: position for tp, position, _ in asked}) if asked else {}
        self._lag = {tp: behind[tp] + unfinished for tp, _, unfinished in asked if tp in behind}

    def drain(self) -> None:
        """Start nothing more; `run` returns when what runs is finished and committed, or the grace period is over."""
        self._draining.set()
        for owned in self._owned.values():
            owned.closing = True
        self._runner.drop_queued(lambda job: True)

    async def run(self, *, grace_s: float = 30.0) -> int:
        """Run until drained; returns how many deliveries had to be abandoned (0: a clean stop).

        Raises `BusError` where the member can go on no longer.
        """
        member = await self._bus.join(
            Membership(
                group=self._names.group(self._consumer.name),
                topics=self.topics,
                instance=self._settings.instance,
                exactly_once=self._consumer.guarantee is Guarantee.EXACTLY_ONCE,
                session_timeout_s=self._settings.session_timeout_s,
                transaction_timeout_s=self._settings.transaction_timeout_s,
                revoke_grace_s=self._settings.revoke_grace_s,
                on_missing_offsets=self._settings.on_missing_offsets,
                deciding=self._deciding,
            )
        )
        try:
            return await self._run(member, grace_s)
        finally:
            await self._runner.stop()
            await self._states.close()
            await member.close()

    async def _run(self, member: Member, grace_s: float) -> int:
        self._await_partitions()
        intake = asyncio.create_task(self._intake(member), name=f"{self._consumer.name} intake")
        commits = asyncio.create_task(self._commit(member), name=f"{self._consumer.name} commits")
        drained = asyncio.create_task(self._draining.wait())
        tending = asyncio.create_task(self._states.tend(self._prove, self._busy), name=f"{self._consumer.name} state")
        ringing = asyncio.create_task(self._alarms.ring(member), name=f"{self._consumer.name} alarms")
        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner.on_broken = functools.partial(_fail, broken)
        tasks = (intake, commits, drained, tending, ringing, broken)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises what ended it
            tending.cancel()
            await asyncio.wait([tending])
            # The intake goes on: what the group takes away meanwhile must be let go, or the
            # transaction that has the rest in it is refused.
            return await self._finish(commits, grace_s)
        finally:
            self._stop_waiting()
            if self._reopening is not None:
                self._reopening.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if not intake.cancelled():
                intake.exception()  # it is told by now, or nobody's business any more

    async def _finish(self, commits: asyncio.Task[None], grace_s: float) -> int:
        """Let what runs come to its end and be committed."""
        self.drain()
        settled = asyncio.create_task(self._settled())
        await asyncio.wait([settled, commits], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        if settled.done() and not commits.done():
            await self._save(commits)
            return self._abandoned
        settled.cancel()
        self._abandoned += len(self._runner.running)
        self.handed_back += len(self._runner.running)
        self._runner.abandon(lambda job: True)
        await self._runner.idle()
        if not commits.done():
            # What did finish within the grace period is committed all the same.
            await asyncio.wait([commits, asyncio.create_task(self._committer.idle())], return_when="FIRST_COMPLETED")
        return self._abandoned

    async def _save(self, commits: asyncio.Task[None]) -> None:
        """Leave copies of state from which the next worker of this instance has nothing to read any more."""
        saving = asyncio.create_task(self._states.save(self._prove))
        await asyncio.wait([saving, commits], timeout=_SAVE_S, return_when=asyncio.FIRST_COMPLETED)
        saving.cancel()
        await asyncio.wait([saving])
        if not saving.cancelled() and (error := saving.exception()) is not None:
            log.warning("the last of the state was not copied to disk", extra={"reason": str(error)})

    async def _prove(self, number: int, records: list[Outgoing]) -> bool:
        """Commit *records* of a partition's state with its offset, in a transaction that begins now; False: it was lost."""
        owned = next((owned for tp, owned in self._owned.items() if tp.partition == number), None)
        if owned is None:
            return False
        try:
            await self._committer.remember(owned, records)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False
        return True

    def _busy(self) -> set[str]:
        return {job.state_key for job in self._runner.running}

    def _await_partitions(self) -> None:
        """Be not ready until partitions are given, or the group has had the time to."""
        self.ready.clear()
        self._stop_waiting()
        self._standing_by = asyncio.get_running_loop().call_later(self._settings.session_timeout_s, self.ready.set)

    def _stop_waiting(self) -> None:
        if self._standing_by is not None:
            self._standing_by.cancel()

    async def _settled(self) -> None:
        await self._runner.idle()
        await self._committer.idle()

    # Intake: what the group gives and takes.

    async def _intake(self, member: Member) -> None:
        self._member = member
        while True:
            match await member.take():
                case Records(records):
                    await self._take_in(records)
                case Assigned() if self._draining.is_set():
                    pass  # somebody else's soon
                case Assigned(partitions):
                    await self._assign(member, partitions)
                case Revoked(partitions, release):
                    orphaned = self._numbers.take(partitions, self._owned)
                    await self._revoke(orphaned.union(partitions))
                    member.again(orphaned)
                    release()
                case Lost(partitions):
                    lost = self._owned.keys() & partitions
                    orphaned = self._numbers.take(partitions, self._owned)
                    self._lose(orphaned.union(partitions))
                    member.again(orphaned)
                    if lost:
                        self._tell(logging.WARNING, "partitions lost; what is in hand of them is done elsewhere", lost)
                    if not self._owned:
                        self._await_partitions()
                case Jumped() as jumped:
                    self._tell_of(jumped)

    async def _assign(self, member: Member, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        self._stop_waiting()  # restoring may take longer than that; it is ready after it
        ready = self._numbers.give(partitions)
        if kept_waiting := self._numbers.waiting & partitions.keys():
            # No fault: they go where their number is once all workers hear the same.
            self._tell(
                logging.INFO, "partitions wait: another worker, of another version, has their number", kept_waiting
            )
        fresh = {tp.partition for tp in ready} - {tp.partition for tp in self._owned}
        restored = await self._restored(fresh)
        if self._draining.is_set():
            return
        # Inputs are co-partitioned: partition 3 of every topic shares one state.
        states = {owned.tp.partition: owned.state for owned in self._owned.values()}
        states |= restored
        for tp, committed in ready.items():
            self._owned[tp] = Owned(tp, Progress.from_committed(committed), states[tp.partition])
        if ready:
            self._alarms.given(fresh)
            self._tell(logging.INFO, "partitions assigned", ready)
            member.resume([tp for tp in ready if tp not in self._stopped])
        self.ready.set()

    async def _restored(self, numbers: Collection[int]) -> Mapping[int, PartitionState]:
        """Restore state; brokers that do not answer are asked again, as after a failed transaction."""
        tries = 0
        while True:
            try:
                return await self._states.restore(numbers)
            except BrokerUnreachableError as error:
                tries += 1
                if self._settings.commits.gives_up(tries, error):
                    raise
                delay_s = self._settings.commits.delay_s(tries, self._random)
                log.warning("state is not restored yet; trying again", extra={"reason": str(error)})
                await asyncio.sleep(delay_s)

    async def _revoke(self, partitions: Collection[TopicPartition]) -> None:
        """Let what runs finish within the grace period and be committed, then let go."""
        leaving = {id(owned) for tp in partitions if (owned := self._owned.get(tp))}
        for tp in partitions:
            if owned := self._owned.get(tp):
                owned.closing = True
        self._runner.drop_queued(lambda job: id(job.owned) in leaving)
        try:
            async with asyncio.timeout(self._settings.revoke_grace_s * 0.8):
                await self._runner.idle(lambda job: id(job.owned) in leaving)
                await self._committer.idle()
        except TimeoutError:
            log.warning(
                "partitions are given up with work in hand; it is done again elsewhere",
                extra={
                    "agent": self._consumer.name,
                    "events": sum(id(job.owned) in leaving for job in self._runner.running),
                    "uncommitted": self._committer.uncommitted,
                },
            )
        self._lose(partitions)
        self._tell(logging.INFO, "partitions given up", partitions)

    def _lose(self, partitions: Collection[TopicPartition]) -> None:
        gone = {id(owned) for tp in partitions if (owned := self._owned.pop(tp, None))}
        if gone:
            if self._draining.is_set():
                self.handed_back += sum(id(job.owned) in gone for job in self._runner.running)
            self._committer.forget(lambda owned: id(owned) in gone)
            self._runner.abandon(lambda job: id(job.owned) in gone)
            self._resume_if_relieved()
            self._states.drop({tp.partition for tp in partitions} - {tp.partition for tp in self._owned})
            self._alarms.taken({tp.partition for tp in partitions})

    def _tell_of(self, jumped: Jumped) -> None:
        self._telemetry.jumped(self._consumer.name)
        topic, partition = jumped.partition
        log.error(
            "events are gone that were not read; going on elsewhere",
            extra={
                "agent": self._consumer.name,
                "topic": topic,
                "partition": partition,
                "expected_offset": jumped.expected,
                "first_offset": jumped.first,
                "end_offset": jumped.end,
                "goes_on_at": jumped.to,
                "gone": "unknown: the topic was made anew" if jumped.gone is None else f"up to {jumped.gone}",
            },
        )

    def _tell(self, level: int, what: str, partitions: Collection[TopicPartition]) -> None:
        extra = {"agent": self._consumer.name, "partitions": in_words(partitions), "owned": len(self._owned)}
        log.log(level, what, extra=extra)

    async def _take_in(self, records: Sequence[Record]) -> None:
        for first in range(0, len(records), _AT_ONCE):
            self._accept(records[first : first + _AT_ONCE])
            # Nothing is to be gained where no handler waits, and turns cost.
            if self._runner.running:
                await asyncio.sleep(0)

    def _accept(self, records: Sequence[Record]) -> None:
        topic, partition, owned = "", -1, None
        for record in records:
            # They come by partition, a few hundred at a time.
            if record.partition != partition or record.topic != topic:
                topic, partition = record.topic, record.partition
                owned = self._owned.get(TopicPartition(topic, partition))
            # A record of a partition that is not owned any more was on its way
            # when that was lost; its new owner gets it too.
            if owned is None or owned.closing or not owned.progress.take(record.offset, in_full(record)):
                continue
            self._enqueue(owned, record)
        if paused := self._pressure.too_much():
            self._member.pause(paused)
        self._runner.wake()

    def _enqueue(self, owned: Owned, record: Record) -> None:
        try:
            envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        except NotAnEventError as error:
            letter = dead_letter(
                self._names.dead(self._consumer.name),
                record,
                error,
                agent=self._consumer.name,
                reason="undecodable",
                attempts=0,
                limit=self._largest,
            )
            log.warning("a record is no event and was set aside", extra={"reason": str(error), **_place(record)})
            self._telemetry.unreadable(self._consumer.name)
            self._committer.add(Finished(owned, record.offset, [letter], None))
            return
        by = self._consumer.version_for(envelope.correlation_id)
        event_class = self._classes[by.version].get(envelope.type)
        if event_class is None:
            # Another type on a topic that several share: not this consumer's business.
            self._committer.add(Finished(owned, record.offset, [], None))
            return
        owned.pending += 1
        # An event without a key still belongs to its workflow's lane and state.
        key = record.key if record.key is not None else envelope.correlation_id.encode()
        lane = record.partition if self._consumer.lane is Lane.PARTITION else (record.partition, key)
        self._runner.add(lane, Job(owned, record, envelope, event_class, by))

    def _resume_where_there_is_room(self, owned: Owned) -> None:
        if self._pressure.has_room(owned):
            self._member.resume([owned.tp])

    def _resume_if_relieved(self) -> None:
        if resumed := self._pressure.relieved():
            self._member.resume(resumed)

    # Commits: what is finished becomes visible.

    async def _commit(self, member: Member) -> None:
        failed = 0
        while True:
            batch = await self._committer.next_batch()
            began_s = time.perf_counter()
            try:
                self._states.check()
                await member.commit(batch.transaction)
            except CommitError as error:
                log.warning(
                    "a transaction failed; beginning again from what is committed", extra={"reason": error.reason}
                )
                self._telemetry.not_committed(self._consumer.name, time.perf_counter() - began_s)
                if self._draining.is_set():
                    finished = batch.deliveries + self._committer.waiting
                    self.handed_back += finished
                    self._abandoned += finished + len(self._runner.running)
                self._lose(list(self._owned))
                self._await_partitions()
                self._committer.failed(batch)
                if self._stopped.stop(batch.transaction.records, error):
                    self._reopen(member)
                else:
                    failed += 1
                if self._settings.commits.gives_up(failed, error):
                    reason = f"{failed} transactions in a row failed, the last one with {error.reason}"
                    raise MemberFailedError(self._names.group(self._consumer.name), reason) from error
                await asyncio.sleep(self._settings.commits.delay_s(failed, self._random))
                await member.restart()
            else:
                failed = 0
                self._telemetry.committed(self._consumer.name, time.perf_counter() - began_s)
                self._states.committed(batch.transaction.records)
                self._committer.committed(batch)
                self._resume_if_relieved()
                for owned in batch.owned:
                    self._resume_where_there_is_room(owned)

    def _reopen(self, member: Member) -> None:
        """Let stopped partitions go on once their letters are taken; they are tried out again and again."""

        async def reopen() -> None:
            tries = 0
            while self._stopped:
                tries += 1
                await asyncio.sleep(self._settings.letters.delay_s(tries, self._random))
                for tp in await self._stopped.try_out(member.try_out):
                    if (owned := self._owned.get(tp)) is not None:
                        owned.paused = False
                        member.resume([tp])

        if self._reopening is None or self._reopening.done():
            self._reopening = asyncio.create_task(reopen(), name=f"{self._consumer.name} letters")


def _classes(consumer: Consumer) -> dict[str, type[Event]]:
    """Return what *consumer* reads events as, requests to undo included."""
    classes = dict(consumer.hears)
    if consumer.undoes:
        classes[UndoRequested.__event__.type] = undo_requested(consumer.name)
    return classes


def _fail(broken: asyncio.Future[None], error: BaseException) -> None:
    if not broken.done():
        broken.set_exception(error)


def _place(record: Record) -> dict[str, object]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}
