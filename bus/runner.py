"""Runners: tasks that drain lanes, and what one attempt at one event comes to."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic_ns
from typing import Any, TypeVar

from antiphon.bus.claims import HEADROOM, Claims, insisting
from antiphon.bus.committer import Committer
from antiphon.bus.consumer import Consumer, Lane
from antiphon.bus.dead_letter import dead_letter
from antiphon.bus.delivery import Delivery, Outcome, Services, current
from antiphon.bus.errors import HandlerTimeoutError, PermanentError, UndoneBeforeError
from antiphon.bus.guard import MAX_HOPS, over_limit
from antiphon.bus.handler import Handler
from antiphon.bus.job import Job, Owned
from antiphon.bus.kept_log import KeptLog
from antiphon.bus.lanes import LaneQueue, Lanes
from antiphon.bus.names import Names
from antiphon.bus.outbox import Outbox
from antiphon.bus.record import Outgoing
from antiphon.bus.sampling import Sampler, kind_of
from antiphon.bus.state import REMEMBERED, dump
from antiphon.bus.tombstones import is_marked, mark
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import now_us
from antiphon.schemas.errors import EncodeError, RegistryError, SchemaError, UnknownSchemaError
from antiphon.schemas.event import Event, seal

log = logging.getLogger(__name__)
E = TypeVar("E", bound=Event)

# After so many events in a row runners let others at the event loop, also where no handler ever waits. All of them
# together: so many of each of a thousand runners would keep commits and heartbeats waiting for seconds. Counted, not
# timed, so that a simulation takes the same turns again.
_TURN = 64
# How many tasks are woken in one turn of the event loop.
_WAKE = 16
_STORE_RETRY_S = 1.0


class Runner:
    """Drains lanes with up to `consumer.concurrency` long-lived tasks.

    A task is made when there is more to do than tasks to do it, and kept: making
    one per event costs more than most handlers do.
    """

    def __init__(
        self,
        consumer: Consumer,
        *,
        names: Names,
        codec: Codec,
        claims: Claims,
        committer: Committer,
        outbox: Outbox,
        max_hops: int = MAX_HOPS,
        activity_logs: int = 0,
    ) -> None:
        self._consumer = consumer
        self._max_hops = max_hops or sys.maxsize
        self._names = names
        self._codec = codec
        self.claims = claims
        self._committer = committer
        self._outbox = outbox
        self._activity_logs = activity_logs
        # What keeps state across keys, a saga for one, has a shape of its own for it, and does nothing that could come late.
        self._marks = consumer.lane is Lane.KEY
        self._lanes: Lanes[Job] = Lanes()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: list[asyncio.Future[None]] = []
        self._dispatching = False
        self._turn = 0
        """Events that were attempted in this turn of the event loop."""
        self._retries = Sampler()
        """Says which of the attempts that failed are told of in the log."""
        self._random = random.Random()  # noqa: S311 - jitter, not a secret
        self._stopping = False
        self.running: dict[Job, None] = {}
        """Jobs whose handlers run now, oldest first."""
        self._watchers: list[tuple[Callable[[Job], bool], asyncio.Future[None]]] = []
        self.on_room: Callable[[Owned], None] = lambda owned: None
        """Called when a record of a paused partition is finished."""
        self.on_broken: Callable[[BaseException], None]
        """Called where a runner ended by a fault that is no handler's: its event would stay in hand for ever."""
        self.on_look: Callable[[Job, Services], Awaitable[None]]
        """Called with a job that no record stands behind, in its turn."""
        self.on_wake: Callable[[int, int], None]
        """Called with a partition's number when a delivery of it names a time."""

    # Lanes.

    @property
    def lanes(self) -> int:
        """The number of lanes with work."""
        return len(self._lanes)

    def add(self, lane: object, job: Job) -> None:
        """Queue *job*; `wake` starts it."""
        self._lanes.add(lane, job)

    def wake(self) -> None:
        """See to it that ready lanes are worked on, by a few more tasks each turn of the loop.

        A task that is woken drains lanes until its handler waits for something,
        and only then is another one of use; but a turn of the loop costs too much
        to start a thousand waiting handlers one a turn.
        """
        if not self._dispatching and self._lanes.ready:
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatching = False
        # Where one runner used up a turn, another one has nothing to add.
        wanted = min(len(self._lanes.ready), 1 if self._turn >= _TURN else _WAKE)
        self._turn = 0
        while wanted and self._resting:
            rest = self._resting.pop()
            if not rest.done():
                rest.set_result(None)
                wanted -= 1
        for _ in range(min(wanted, self._consumer.concurrency - len(self._tasks))):
            task = asyncio.create_task(self._drain(), name=f"{self._consumer.name} runner {len(self._tasks)}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)
            wanted -= 1
        if not wanted:
            # Somebody was there to be woken, so there may be more of them, and more to do.
            self.wake()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.on_broken(error)

    def drop_queued(self, gone: Callable[[Job], bool]) -> None:
        """Forget queued jobs that are *gone*; those that run go on."""
        self._lanes.drop(gone, running=lambda job: job.runner is not None)

    def abandon(self, gone: Callable[[Job], bool]) -> None:
        """Forget queued jobs that are *gone* and cancel those that run; nothing of them is committed."""
        self.drop_queued(gone)
        for job in list(self.running):
            if gone(job) and not job.abandoned:
                job.abandoned = True
                if job.runner is not None:
                    job.runner.cancel()

    async def idle(self, which: Callable[[Job], bool] = lambda job: True) -> None:
        """Return when none of the jobs *which* names is running."""
        if any(which(job) for job in self.running):
            quiet = asyncio.get_running_loop().create_future()
            self._watchers.append((which, quiet))
            await quiet

    def _tell_watchers(self) -> None:
        waiting: list[tuple[Callable[[Job], bool], asyncio.Future[None]]] = []
        for which, quiet in self._watchers:
            if any(which(job) for job in self.running):
                waiting.append((which, quiet))
            elif not quiet.done():
                quiet.set_result(None)
        self._watchers = waiting

    async def stop(self) -> None:
        """Cancel everything."""
        self._stopping = True
        for job in self.running:
            job.abandoned = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _drain(self) -> None:
        lanes = self._lanes
        task = asyncio.current_task()
        while True:
            while lanes.ready and self._turn < _TURN:
                self._turn += 1
                await self._attempt(lanes.take(), task)
            self.wake()
            rest = asyncio.get_running_loop().create_future()
            self._resting.append(rest)
            await rest

    # One attempt.

    async def _attempt(self, lane: LaneQueue[Job], task: asyncio.Task[None] | None) -> None:
        """Handle the lane's first job once, in *task*: finished, or held back for a retry."""
        job = lane.first
        assert job is not None  # noqa: S101 - a lane that is ready has one
        job.runner = task
        job.started_us = now_us()
        job.began_ns = monotonic_ns()
        self.running[job] = None
        delay_s: float | None = None
        try:
            delay_s = await (self._handle(job) if type(job) is Job else self._look(job))
        except asyncio.CancelledError:
            # This job alone was given up, unless the whole runner is to stop.
            if self._stopping or not job.abandoned or job.runner is None:
                raise
            job.runner.uncancel()
        finally:
            job.runner = None
            del self.running[job]
            if delay_s is None or job.abandoned:
                self._lanes.done(lane)
                job.owned.pending -= 1
                if job.owned.paused:
                    self.on_room(job.owned)
            else:
                asyncio.get_running_loop().call_later(delay_s, self._again, lane)
            if self._watchers:
                self._tell_watchers()

    def _again(self, lane: LaneQueue[Job]) -> None:
        # A partition that is being given up starts nothing more, retries included.
        if lane.first is not None and lane.first.owned.closing:
            self.drop_queued(lambda job: job.owned.closing)
        self._lanes.release(lane)
        self.wake()

    async def _look(self, job: Job) -> None:
        await self.on_look(job, _Services(self, self._committer, job))

    async def _handle(self, job: Job) -> float | None:  # noqa: C901, PLR0911, PLR0912 - in one piece: a call more costs every event
        """Return None where the job is finished, or how long to wait before the next attempt (seconds)."""
        if job.envelope.deadline_us is not None and job.envelope.deadline_us <= job.started_us:
            self._settle(job, None, Outcome.EXPIRED)
            return None
        if job.envelope.hops >= self._max_hops or job.envelope.budget is not None:
            refusal = over_limit(job.envelope, job.spent, max_hops=self._max_hops)
            if refusal is not None:
                self._set_aside(job, None, refusal, refusal.reason)
                return None
        try:
            value = job.record.value or await insisting(self.claims.value_of, job.record)
            try:
                event = self._codec.decode(job.event_class, value or b"")
            except UnknownSchemaError:
                event = await self.decode(job.event_class, value)
            seal(event, job.envelope)
        except SchemaError as error:
            self._set_aside(job, None, error, "undecodable")
            return None
        state = job.owned.state
        if not state.complete:
            await self._fetch(job, event)
        if self._marks and state.size and (kept := state.value(job.state_key)) and is_marked(kept, job.envelope.id):
            undone = UndoneBeforeError(self._consumer.name, job.envelope.type)
            self._settle(job, None, Outcome.SKIPPED, error=undone)
            return None
        delivery = Delivery(  # by place: by name it takes as long again
            job.record,
            event,
            job.envelope,
            self._consumer.name,
            job.by.version,
            job.attempt,
            state.view(),
            _Services(self, self._committer, job),
            job.started_us,
            job.spent,
            KeptLog(self._activity_logs, event) if self._activity_logs else None,
        )
        current.set(delivery)
        try:
            if job.by.timeout_s is None:
                produced = await job.by.handler(event)
            else:
                produced = await self._in_time(job.by.handler, event, job.by.timeout_s)
            if job.by.emits is None:
                await self.announce(produced)
            outgoing, emitted, large = self._outbox.encode(produced)
            if large:
                # Before the transaction: whoever reads the event will find what it names.
                await insisting(self.claims.keep, large)
            if job.envelope.undoes is not None and self._marks:
                mark(delivery.state.mapping(job.state_key), job.envelope.undoes, job.started_us)
            changed = delivery.state.changed()
            if changed:
                self.claims.fitting(changed)
        except (PermanentError, EncodeError) as error:
            self._set_aside(job, delivery, error, "permanent")
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if job.abandoned or self._stopping or (task is not None and task.cancelling()):
                raise
            # The handler's own doing: it awaited something that somebody cancelled.
            return self._failed(job, delivery, error)
        except Exception as error:
            return self._failed(job, delivery, error)
        else:
            self._settle(job, delivery, Outcome.COMPLETED, outgoing=outgoing, emitted=emitted, changed=changed)
        return None

    async def _fetch(self, job: Job, event: Event) -> None:
        """Have in memory what the handler may ask for: it asks without waiting."""
        also = () if self._consumer.reads is None else self._consumer.reads(event)
        await job.owned.state.fetch([job.state_key, *also])

    async def _in_time(self, handler: Handler, event: Event, limit_s: float) -> Sequence[Event]:
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                return await handler(event)
        except TimeoutError as error:
            if limit.expired():
                raise HandlerTimeoutError(self._consumer.name, limit_s) from error
            raise

    async def decode(self, event_class: type[E], value: bytes | None) -> E:
        """Read *value*; a writer's schema that is not known yet is fetched.

        A store that cannot be reached holds up this event's lane until it can:
        what is good must not be set aside because a registry is down.
        """
        while True:
            try:
                return self._codec.decode(event_class, value or b"")
            except UnknownSchemaError as error:
                reference = error.reference
            try:
                await self._codec.learn(reference)
            except RegistryError as error:
                log.warning("a schema cannot be fetched; trying again", extra={"reason": str(error)})
                await asyncio.sleep(_STORE_RETRY_S)

    async def announce(self, produced: Sequence[Event]) -> None:
        """Publish the schemas of what nobody could foresee; a store that cannot be reached holds this lane up too."""
        while True:
            try:
                return await self._codec.announce({type(event) for event in produced}, topic_of=self._names.topic)
            except RegistryError as error:
                log.warning("a schema cannot be published; trying again", extra={"reason": str(error)})
            await asyncio.sleep(_STORE_RETRY_S)

    # What an attempt comes to.

    def _failed(self, job: Job, delivery: Delivery, error: BaseException) -> float | None:
        policy = job.by.retry
        if policy.gives_up(job.attempt, error):
            self._set_aside(job, delivery, error, "exhausted")
            return None
        outcome = Outcome.TIMED_OUT if isinstance(error, HandlerTimeoutError) else Outcome.RETRIED
        self._committer.add(self._outbox.attempt(job, delivery, outcome, error=error))
        delay_s = policy.delay_s(job.attempt, self._random)
        left_out = self._retries.left_out(kind_of(error))
        if left_out is not None:
            told = {"left_out": left_out} if left_out else {}
            extra = {**delivery.fields(), "delay_s": round(delay_s, 3), **told}
            log.warning("handler failed; will retry", exc_info=error, extra=extra)
        job.attempt += 1
        job.spent += tuple(delivery.usage)
        return delay_s

    def _set_aside(self, job: Job, delivery: Delivery | None, error: BaseException, reason: str) -> None:
        letter = dead_letter(
            self._names.dead(self._consumer.name),
            job.record,
            error,
            agent=self._consumer.name,
            reason=reason,
            attempts=job.attempt,
            limit=self.claims.limit + HEADROOM,
        )
        log.error("an event was set aside", exc_info=error, extra={**job.fields(self._consumer.name), "reason": reason})
        self._settle(job, delivery, Outcome.DEAD_LETTERED, outgoing=[letter], error=error)

    def _settle(
        self,
        job: Job,
        delivery: Delivery | None,
        outcome: Outcome,
        *,
        outgoing: Sequence[Outgoing] = (),
        emitted: list[bytes] | None = None,
        changed: Mapping[str, bytes | None] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """The last word on a job: its offset, effects and activity go to the committer together."""
        if job.abandoned:
            return
        state = job.owned.state
        if changed or state.size or not state.complete:
            changed = state.without_remembered(changed or {}, job.state_key, job.envelope.id)
        written = state.store(changed, workflow=job.envelope.key is None, by=job.envelope.id) if changed else ()
        self._committer.add(
            self._outbox.attempt(
                job,
                delivery,
                outcome,
                error=error,
                records=[*outgoing, *written],
                emitted=emitted,
                changed=bool(written),
                final=True,
            )
        )


class _Services:
    """What a delivery asks of its worker. Implements `delivery.Services`."""

    __slots__ = ("_committer", "_job", "_runner")

    def __init__(self, runner: Runner, committer: Committer, job: Job) -> None:
        self._runner = runner
        self._committer = committer
        self._job = job

    async def decode(self, event_class: type[E], value: bytes) -> E:
        return await self._runner.decode(event_class, await insisting(self._runner.claims.resolve, value))

    def remembered(self, delivery: Delivery) -> dict[str, Any]:
        mapping = self._job.owned.state.load(delivery.state_key)
        found: dict[str, Any] = mapping.get(REMEMBERED, {}).get(delivery.envelope.id, {})
        delivery.effects = found
        return found

    async def remember(self, delivery: Delivery, name: str, result: Any) -> None:
        """Put the result into the durable state, and into the view, whose own changes wait for the delivery's end."""
        state, key = self._job.owned.state, delivery.state_key
        durable = state.load(key)
        durable.setdefault(REMEMBERED, {}).setdefault(delivery.envelope.id, {})[name] = result
        changed = self._runner.claims.fitting({key: dump(key, durable)})
        view = delivery.state.mapping(key)
        view.setdefault(REMEMBERED, {}).setdefault(delivery.envelope.id, {})[name] = result
        records = state.store(changed, workflow=self._job.envelope.key is None, by=delivery.envelope.id)
        delivery.effects = durable[REMEMBERED][delivery.envelope.id]
        await self._committer.remember(self._job.owned, records)

    @property
    def state_room(self) -> int:
        return self._runner.claims.limit

    def wake_at(self, time_us: int) -> None:
        self._runner.on_wake(self._job.owned.tp.partition, time_us)
