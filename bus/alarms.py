"""Alarms: a consumer is called when a time has come that it named, and no record came.

    wake_at ──▶ due ──▶ all that was there is read ──▶ the partition's lane ──▶ handler(TimeCame) ──▶ Committer

What is to be done, and when, stands in the consumer's own state; an alarm only
says when to look there, so none is kept anywhere. Whoever gets a partition looks
at once, and names the next time. What a look leads to is committed with the
partition's offset where it is, so that of two owners one is refused.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Iterable, Mapping

from antiphon.bus.claims import insisting
from antiphon.bus.clock import Clock
from antiphon.bus.committer import Committer
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Delivery, Services, current
from antiphon.bus.errors import BusError
from antiphon.bus.job import Finished, Job, Owned
from antiphon.bus.outbox import Outbox
from antiphon.bus.port import Member
from antiphon.bus.record import Record, TopicPartition
from antiphon.bus.retry import RetryPolicy
from antiphon.bus.runner import Runner
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event

log = logging.getLogger(__name__)

_ASK_AGAIN_S = (0.02, 1.0)  # whether all is read: at first, and at most


class TimeCame(Event, type="antiphon.time.came", topic="antiphon.time"):
    """A time has come that the consumer named for this partition, or the partition was given to this worker.

    Nobody publishes it. It is its own workflow: what is emitted in answer to it says itself where it belongs.
    """


@dataclasses.dataclass(eq=False)
class _Alarm:
    """One partition number's alarm, from its assignment to its loss."""

    number: int
    due_us: int | None = 0
    queued: bool = False
    """A look is in the lane, or under way."""
    tries: int = 0
    """Looks in a row that failed."""
    ends: Mapping[TopicPartition, int] | None = None
    """What could be read when the time had come; a look waits until that is handled."""


@dataclasses.dataclass(slots=True, eq=False)
class Look(Job):
    """A look at a partition's state, in its lane as a job of its own."""

    alarm: _Alarm = dataclasses.field(kw_only=True)


class Alarms:
    """Rings for the partition numbers that one engine owns. A consumer that `wakes` not costs nothing."""

    def __init__(
        self,
        consumer: Consumer,
        *,
        owned: Mapping[TopicPartition, Owned],
        runner: Runner,
        committer: Committer,
        outbox: Outbox,
        clock: Clock,
        retry: RetryPolicy,
    ) -> None:
        self._consumer = consumer
        self._owned = owned
        self._runner = runner
        self._committer = committer
        self._outbox = outbox
        self._clock = clock
        self._retry = retry
        self._random = random.Random()  # noqa: S311 - jitter, not a secret
        self._alarms: dict[int, _Alarm] = {}
        self._changed = asyncio.Event()

    # What the engine and handlers say.

    def given(self, numbers: Iterable[int]) -> None:
        """These are owned now, their state restored: look at once."""
        if self._consumer.wakes:
            for number in numbers:
                self._alarms[number] = _Alarm(number)
            self._changed.set()

    def taken(self, numbers: Iterable[int]) -> None:
        """Of these something was lost: no alarm of theirs rings any more. What is still owned begins again."""
        for number in {*numbers} & self._alarms.keys():
            del self._alarms[number]
            if self._owner(number) is not None:
                self.given([number])

    def wake_at(self, number: int, time_us: int) -> None:
        """Look at *time_us*, if not before."""
        if not self._consumer.wakes:
            message = f"expected a consumer with wakes=True to name a time, got {self._consumer.name!r} without"
            raise ValueError(message)
        alarm = self._alarms.get(number)
        if alarm is not None and (alarm.due_us is None or time_us < alarm.due_us):
            alarm.due_us = time_us
            self._changed.set()

    # When they ring.

    async def ring(self, member: Member) -> None:
        """Queue a look wherever it is time, until cancelled."""
        pause_s, most_s = _ASK_AGAIN_S
        while True:
            self._changed.clear()
            due = [alarm for alarm in self._waiting() if alarm.due_us is not None and alarm.due_us <= self._now()]
            if due and not await self._queue_read(member, due):
                # Records are on their way, or the broker does not answer.
                await self._change(pause_s)
                pause_s = min(2 * pause_s, most_s)
                continue
            pause_s = _ASK_AGAIN_S[0]
            await self._change(None)

    def _waiting(self) -> list[_Alarm]:
        return [alarm for alarm in self._alarms.values() if alarm.due_us is not None and not alarm.queued]

    async def _change(self, most_s: float | None) -> None:
        """Return when something has changed, the next alarm is due, or after *most_s*."""
        now_us = self._now()
        ahead = [due_us for alarm in self._waiting() if (due_us := alarm.due_us) is not None and due_us > now_us]
        ringing = self._clock.call_at(min(ahead), self._changed.set) if ahead else None
        try:
            async with asyncio.timeout(most_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            if ringing is not None:
                ringing.cancel()

    async def _queue_read(self, member: Member, due: Iterable[_Alarm]) -> bool:
        """Queue a look for each that is *due* and has all read that was there; returns whether that is all of them."""
        places = {alarm.number: self._places(alarm.number) for alarm in due}
        positions = {owned.tp: owned.progress.next for of_number in places.values() for owned in of_number}
        try:
            behind = await member.behind(positions) if positions else {}
        except BusError as error:
            log.debug("whether all is read is not known", extra={"reason": str(error)})
            return False
        all_queued = True
        for alarm in due:
            if self._alarms.get(alarm.number) is not alarm or alarm.queued:
                continue
            if alarm.ends is None and all(owned.tp in behind for owned in places[alarm.number]):
                alarm.ends = {owned.tp: positions[owned.tp] + behind[owned.tp] for owned in places[alarm.number]}
            all_queued &= self._queue(alarm, behind)
        return all_queued

    def _queue(self, alarm: _Alarm, behind: Mapping[TopicPartition, int]) -> bool:
        owner = self._owner(alarm.number)
        if owner is None:
            return True  # it is being given up
        # What is counted as ahead may be no record at all; once nothing is, all is read.
        if alarm.ends is None or any(
            owned.progress.next < alarm.ends.get(owned.tp, 0) and behind.get(owned.tp) != 0
            for owned in self._places(alarm.number)
        ):
            return False
        alarm.queued, alarm.ends = True, None
        owner.pending += 1
        self._runner.add(alarm.number, _look(alarm, owner, self._consumer, self._now()))
        self._runner.wake()
        return True

    def _places(self, number: int) -> list[Owned]:
        return [owned for tp, owned in self._owned.items() if tp.partition == number and not owned.closing]

    def _owner(self, number: int) -> Owned | None:
        return next(iter(self._places(number)), None)

    def _now(self) -> int:
        return self._clock.now_us()

    # One look.

    async def look(self, job: Job, services: Services) -> None:
        """Have the handler look, in its partition's lane. One that fails looks again later, and holds nothing up until then."""
        assert isinstance(job, Look)  # noqa: S101 - nothing else is given here; for the type checker
        alarm = job.alarm
        # Before the handler names the next one.
        alarm.due_us = None
        try:
            await self._handle(job, services)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if job.abandoned or (task is not None and task.cancelling()):
                raise
            self._failed(job, "it awaited what somebody cancelled", None)
        except Exception as error:
            self._failed(job, str(error), error)
        else:
            alarm.tries = 0
        finally:
            alarm.queued = False
            self._changed.set()

    async def _handle(self, job: Look, services: Services) -> None:
        event = TimeCame().sealed(job.envelope)
        state, reads = job.owned.state, self._consumer.reads
        if reads is not None:
            await state.fetch([*reads(event)])
        delivery = Delivery(
            record=job.record,
            event=event,
            envelope=job.envelope,
            agent=self._consumer.name,
            version=self._consumer.version,
            attempt=job.alarm.tries + 1,
            state=state.view(),
            services=services,
        )
        current.set(delivery)
        async with asyncio.timeout(self._consumer.timeout_s):
            produced = await self._consumer.handler(event)
        if self._consumer.emits is None:
            await self._runner.announce(produced)
        outgoing, _, large = self._outbox.encode(produced)
        if large:
            await insisting(self._runner.claims.keep, large)
        changed = self._runner.claims.fitting(delivery.state.changed())
        if job.abandoned:
            return
        records = [*outgoing, *state.store(changed, workflow=True)]
        if records:
            self._committer.add(Finished(job.owned, None, records, None))

    def _failed(self, job: Look, reason: str, error: BaseException | None) -> None:
        alarm = job.alarm
        alarm.tries += 1
        delay_s = self._retry.delay_s(alarm.tries, self._random)
        again_us = self._now() + round(delay_s * 1_000_000)
        alarm.due_us = again_us if alarm.due_us is None else min(alarm.due_us, again_us)
        log.error(
            "what was to be done by now failed; will retry",
            exc_info=error,
            extra={**job.fields(self._consumer.name), "reason": reason, "delay_s": round(delay_s, 3)},
        )


def _look(alarm: _Alarm, owned: Owned, consumer: Consumer, now_us: int) -> Look:
    envelope = Envelope.root(TimeCame.__event__.type, source=f"/agents/{consumer.name}")
    envelope.time_us = now_us
    topic, number = owned.tp
    record = Record(topic, number, owned.progress.next, None, None, [], now_us // 1_000)
    return Look(owned, record, envelope, TimeCame, consumer, attempt=alarm.tries + 1, alarm=alarm)
