"""The thread that owns a member's consumer: it keeps the member in its group, whatever the event loop does.

Every call on the consumer is made here. The client serialises calls by
sleeping and trying again, so a second thread would starve this one, or this one
the second.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.errors import BusError, CommitError, MemberFailedError, OffsetsGoneError, UnknownTopicError
from antiphon.bus.kafka.chatter import library, log
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig, member_consumer
from antiphon.bus.kafka.failures import REFUSED, error_of, unreachable
from antiphon.bus.kafka.inbox import Inbox
from antiphon.bus.kafka.ownership import Ownership
from antiphon.bus.kafka.records import named, offsets_of, partitions_of, record_of
from antiphon.bus.kafka.resting import Rest
from antiphon.bus.port import Assigned, Jumped, Lost, Membership, MissingOffsets, Records, Revoked
from antiphon.bus.record import Committed, Record, TopicPartition, in_words, size_of

# How long one look for records may take: a command waits for it.
_LOOK_S = 0.02
_LOOK_AT_LEAST_ONCE_S = 0.005
# What the client says of records that it cannot give, and how often to pass that on.
_UNREADABLE = frozenset((KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG))  # noqa: SLF001 - as below
_SAY_AGAIN_S = 30.0
# How much it may bring, and how many records while nobody knows how large they are.
_LOOK_BYTES = 4 * 1024 * 1024
_CAUTIOUS = 50
# How long the taker may be behind before fetching is paused. Pausing drops what the client has fetched ahead.
_PATIENCE_S = 0.1
_ASK_S = 2.0
_PROBE_S = 2.0
_UNSUPPORTED = KafkaError(KafkaError.UNSUPPORTED_VERSION).str()


class Polling(threading.Thread):
    """One member's consumer."""

    def __init__(
        self,
        config: KafkaConfig,
        membership: Membership,
        protocol: GroupProtocol,
        ownership: Ownership,
        ready: Callable[[], bool],
        on_classic: Callable[[], None],
        *,
        rests: bool,
    ) -> None:
        super().__init__(name=f"antiphon-poll-{membership.group}", daemon=True)
        self.finished: Future[None] = Future()
        self.wake = threading.Event()
        self.inbox = Inbox(ownership, config.prefetch, config.prefetch_bytes, self.wake.set)
        self._config = config
        self._membership = membership
        self._protocol = protocol
        self._ownership = ownership
        self._ready = ready
        self._on_classic = on_classic
        self._rest = Rest() if rests else None
        self._look_s = _LOOK_S if membership.exactly_once else _LOOK_AT_LEAST_ONCE_S
        self._commands: deque[Callable[[], None]] = deque()
        self._closing = threading.Event()
        self._consumer: Consumer
        self._assigned: set[TopicPartition] = set()
        self._fresh: set[TopicPartition] = set()
        """Assigned, and the taker has not been told yet."""
        self._flowing: set[TopicPartition] = set()
        self._at: dict[TopicPartition, int] = {}
        """What comes next of each partition that the taker knows."""
        self._committed: dict[TopicPartition, int] = {}
        """The last offset that this member knows to be committed, of any partition it ever had."""
        self._begun_at: dict[TopicPartition, int] = {}
        """Where each began when it was assigned."""
        self._sought: set[TopicPartition] = set()
        """Of which nothing has come since they were sought."""
        self._adrift: set[TopicPartition] = set()
        """The broker does not have what comes next."""
        self._say_again: dict[TopicPartition, float] = {}
        """When to say once more that what stands next cannot be read."""
        self._left: set[str] = set()
        """Topics of which every partition was taken away: perhaps there is no such topic any more."""
        self._most = min(_CAUTIOUS, config.batch)
        """Records taken from the client at a time: fewer of large ones."""
        self._ended: dict[TopicPartition, int] = {}
        """Where each was found to have no more, if it was."""
        self._throttled = False
        self._refused = False
        self._down_since: float | None = None
        self._next_probe = 0.0

    # The event loop's side.

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Stop fetching from *partitions* soon."""
        self._command(lambda: self._while_open(lambda: self._pause(partitions)))

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Fetch from *partitions* soon."""
        self._command(lambda: self._while_open(lambda: self._resume(partitions)))

    def restart(self) -> None:
        """Void what was taken and begin every partition again where it is truly committed."""
        self._command(lambda: self._while_open(self._restart))

    def note(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Note that *offsets* are committed, by whomever."""
        self._committed.update({partition: committed.offset for partition, committed in offsets.items()})

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> Future[None]:
        """Commit *offsets* outside a transaction; the future raises `CommitError`."""
        done: Future[None] = Future()

        def command() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                self._commit(offsets)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._command(command)
        return done

    def last(self, partition: TopicPartition, end: int) -> int | None:
        """Return one past the last record of a *partition* that ends at *end*, as far as that is known; None: not owned.

        What a transaction ends with takes an offset, so the end of the log is no
        measure of whether there is anything left: being told that there is nothing more is.
        """
        at = self._at.get(partition)
        return at if at is None or self._ended.get(partition, -1) >= end else end

    def close(self) -> None:
        """Leave the group at once; `finished` says when."""
        self._closing.set()
        self.wake.set()

    def _command(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        self.wake.set()
        if self.finished.done():
            # Nobody else will: a commit after the end must fail, not wait.
            self._run_commands()

    # The thread's side.

    def run(self) -> None:
        """Poll until closed, or until the member can go on no longer."""
        try:
            self._join()
            while not self._closing.is_set():
                self._run_commands()
                self._announce()
                self._look()
                if self._adrift:
                    self._go_on_elsewhere()
                if self._left:
                    self._look_for_topics()
                self._probe()
                self._fall_back()
            reason = "it was closed"
        except BusError as error:
            self.inbox.fail(error)
            reason = str(error)
        except Exception as error:
            reason = str(error_of(error)) if isinstance(error, KafkaException) else repr(error)
            log.warning("a group member failed", exc_info=error, extra={"group": self._membership.group})
        try:
            self._leave()
        finally:
            self.inbox.fail(MemberFailedError(self._membership.group, reason))
            self.finished.set_result(None)
            self._run_commands()

    def _join(self) -> None:
        options = {
            **member_consumer(self._config, self._membership, self._protocol),
            "error_cb": self._on_error,
        }
        self._consumer = Consumer(options, logger=library)
        self._consumer.subscribe(
            [*self._membership.topics], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _leave(self) -> None:
        self._closing.set()
        self._forget(frozenset(self._assigned))
        with contextlib.suppress(KafkaException, RuntimeError, AttributeError):
            self._consumer.close()

    def _run_commands(self) -> None:
        while self._commands:
            with contextlib.suppress(IndexError):
                self._commands.popleft()()

    def _look(self) -> None:
        """Take what has come, and hold fetching up while the taker is behind."""
        wait_s = self._look_s
        if self._throttled and not self.inbox.full:
            self._throttled = False
            self._fetch_from(self._flowing)
        if self._throttled or not self._flowing:
            # Nothing can come but news of the group: wait for commands instead, they are not kept waiting so.
            self.wake.wait(wait_s)
            self.wake.clear()
            wait_s = 0.0
        first = self._consumer.poll(wait_s)
        if first is not None:
            # `consume` alone would wait its whole time for a full batch.
            batch = [first, *self._consumer.consume(self._most - 1, 0)] if self._most > 1 else [first]
            records = self._records(batch)
            if self._sought:
                records = self._in_place(records)
            if records:
                self._note(records)
                size = sum(map(size_of, records))
                self._most = min(self._config.batch, max(1, _LOOK_BYTES * len(records) // (size or 1)))
                self.inbox.put(Records(records), size)
        if self._assigned:
            self._ownership.hear(self._consumer.consumer_group_metadata())
        if self.inbox.full and not self._throttled:
            self._hold_up()
        elif self._rest is not None and self._rest.is_due(self._flowing):
            self._consumer.pause(named(self._flowing))
            self.wake.wait(self._rest.begin())
            self.wake.clear()
            if not self._throttled:
                self._fetch_from(self._flowing)

    def _in_place(self, records: Sequence[Record]) -> list[Record]:
        """Leave out what comes from below where its partition was sought, and seek again.

        An assigned partition is at its beginning until then, and the client may
        look that up while the broker changes, and go there after the seek.
        """
        kept: list[Record] = []
        astray: set[TopicPartition] = set()
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            if partition in self._sought and record.offset < self._at[partition]:
                astray.add(partition)
            else:
                self._sought.discard(partition)
                kept.append(record)
        if astray:
            log.info("the client read from elsewhere; seeking again", extra={"partitions": in_words(astray)})
            for partition in astray:
                self._consumer.seek(Offset(*partition, self._at[partition]))
        return kept

    def _note(self, records: Sequence[Record]) -> None:
        last = {(record.topic, record.partition): record.offset for record in records}
        came = {TopicPartition(*partition): offset + 1 for partition, offset in last.items()}
        self._at.update(came)
        if self._rest is not None:
            self._rest.came(came)

    def _note_end(self, partition: TopicPartition, offset: int | None) -> None:
        self._ended[partition] = offset or 0
        if self._rest is not None:
            self._rest.ended(partition)

    def _hold_up(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self.inbox.full and not self._commands and not self._closing.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                self._throttled = True
                self._consumer.pause(named(self._flowing))
                return
            self.wake.wait(left)
            self.wake.clear()

    def _records(self, messages: Sequence[Message]) -> list[Record]:
        records: list[Record] = []
        add = records.append
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own errors are spelt so
                    self._note_end(TopicPartition(message.topic() or "", message.partition() or 0), message.offset())
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - as above
                    self._adrift.add(TopicPartition(message.topic() or "", message.partition() or 0))
                elif error.code() in _UNREADABLE:
                    self._say_unreadable(TopicPartition(message.topic() or "", message.partition() or 0), error)
                else:
                    self._on_error(error)
                continue
            add(record_of(message))
        return records

    def _say_unreadable(self, partition: TopicPartition, error: KafkaError) -> None:
        """Say that the client does not give what stands next on *partition*; it tries again, many times a second."""
        now = time.monotonic()
        if now >= self._say_again.get(partition, now):
            self._say_again[partition] = now + _SAY_AGAIN_S
            log.error(
                "records cannot be unpacked; their partition stands still",
                extra={
                    "group": self._membership.group,
                    "topic": partition.topic,
                    "partition": partition.partition,
                    "offset": self._at.get(partition),
                    "reason": error.str(),
                    "remedy": "raise ANTIPHON_CLIENT_RECEIVE_MESSAGE_MAX_BYTES, or move the group's offset past them",
                },
            )

    def _announce(self) -> None:
        """Tell the taker of fresh partitions once it is known what is committed for them.

        Not before older producers of this name are fenced, and no transaction
        with work of these partitions is under way here: either could still
        change it. A commit may begin between `restart` and this thread's
        hearing of it, and what it commits must not be handed out again.
        """
        if not self._fresh or not self._ready():
            return
        asked = [partition for partition in self._fresh if self._ownership.settle([partition], 0.0)]
        if not asked:
            return
        try:
            answers = self._consumer.committed(named(asked), timeout=_ASK_S)
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() in REFUSED:
                raise
            log.info("committed offsets are not known yet", extra={"reason": error.str()})
            return
        known = {
            TopicPartition(answer.topic, answer.partition): Committed(answer.offset, answer.metadata or "")
            if answer.offset >= 0
            else None
            for answer in answers
            if answer.error is None
        }
        jumps = self._forgotten(known)
        begin = {
            partition: OFFSET_BEGINNING if committed is None else committed.offset
            for partition, committed in known.items()
        }
        self._at |= begin
        self._begun_at |= begin
        self.note({partition: committed for partition, committed in known.items() if committed is not None})
        for partition in known:
            self._ended.pop(partition, None)
        self._fresh -= known.keys()
        if known:
            self._ownership.hear(self._consumer.consumer_group_metadata())
            self.inbox.put(Assigned(known), self._ownership.begin(known))
        for jumped in jumps:
            self.inbox.put(jumped)

    # Where the broker does not have what comes next.

    def _forgotten(self, known: dict[TopicPartition, Committed | None]) -> list[Jumped]:
        """Find partitions of which the group forgot what it had committed: it does so when a topic is deleted."""
        jumps: list[Jumped] = []
        for partition, committed in [*known.items()]:
            if committed is None and (expected := self._committed.get(partition, 0)) > 0:
                jumped = self._jump(partition, expected, anew=True)
                if jumped is None:
                    del known[partition]
                    continue
                known[partition] = Committed(jumped.to)
                self._keep(jumped)
                jumps.append(jumped)
        return jumps

    def _go_on_elsewhere(self) -> None:
        """Let partitions go on whose next offset the broker does not have, as the membership says, and tell of it."""
        # What is not being fetched is found out again once it is: resuming seeks.
        adrift, self._adrift = self._adrift & self._flowing, set()
        for partition in adrift:
            expected = self._at[partition]
            if expected < 0:
                continue  # it had none when it was assigned, and has been sent to the beginning since
            jumped = self._jump(partition, expected)
            if jumped is None:
                self._adrift.add(partition)
            elif jumped.first <= expected <= jumped.end:
                self._revive(partition)  # it is there by now
            elif jumped.anew:
                self._begin_anew(jumped)
            else:
                if expected == self._begun_at[partition]:
                    self._keep(jumped)
                self._at[partition] = jumped.to
                self._ended.pop(partition, None)
                self.inbox.put(jumped)
                self._revive(partition)

    def _begin_anew(self, jumped: Jumped) -> None:
        """Give a partition back to the taker as another one: what it has in hand has offsets of another log."""
        partition = jumped.partition
        self._ownership.end([partition])
        self._flowing.discard(partition)
        self.inbox.void([partition])
        self.inbox.put(Lost(frozenset([partition])))
        self._keep(jumped)
        self.inbox.put(jumped)
        self._at[partition] = self._begun_at[partition] = jumped.to
        self._ended.pop(partition, None)
        self._revive(partition)
        self.inbox.put(Assigned({partition: Committed(jumped.to)}), self._ownership.begin([partition]))

    def _revive(self, partition: TopicPartition) -> None:
        """Have the client fetch *partition* again, where it is to go on: after such an error it refuses to seek."""
        if self._protocol is GroupProtocol.CONSUMER:
            self._consumer.incremental_unassign(named([partition]))
            self._consumer.incremental_assign([Offset(*partition, self._at[partition])])
        else:
            self._consumer.assign([Offset(*one, self._at.get(one, OFFSET_BEGINNING)) for one in self._assigned])
        if held := (self._assigned if self._throttled else self._assigned - self._flowing):
            self._consumer.pause(named(held))

    def _keep(self, jumped: Jumped) -> None:
        """Commit where a partition goes on, or whoever is next would jump again. Nothing of it may be in hand."""
        self._committed[jumped.partition] = jumped.to
        try:
            self._consumer.commit(offsets=[Offset(*jumped.partition, jumped.to)], asynchronous=False)
        except KafkaException as exception:
            log.info("where a partition goes on is not committed yet", extra={"reason": error_of(exception).str()})

    def _jump(self, partition: TopicPartition, expected: int, *, anew: bool = False) -> Jumped | None:
        """Say where *partition* goes on; None where no broker says so now. Raises `OffsetsGoneError`."""
        try:
            first, end = self._consumer.get_watermark_offsets(Offset(*partition), timeout=_ASK_S)
        except KafkaException as exception:
            log.info("a partition's offsets are not known yet", extra={"reason": error_of(exception).str()})
            return None
        policy = self._membership.on_missing_offsets
        anew = anew or expected > end
        if policy is MissingOffsets.STOP and (anew or expected < first):
            raise OffsetsGoneError(self._membership.group, *partition, expected=expected, first=first, end=end)
        to = end if policy is MissingOffsets.LATEST else first
        return Jumped(partition, expected, first, end, to, anew=anew)

    def _look_for_topics(self) -> None:
        """Say so where a topic that was taken away whole is there no more. Raises `UnknownTopicError` by policy."""
        left, self._left = self._left - {topic for topic, _ in self._assigned}, set()
        for topic in left:
            try:
                metadata = self._consumer.list_topics(topic, timeout=1.0)
            except KafkaException:
                continue  # nobody answers, which is looked after elsewhere
            found = metadata.topics.get(topic)
            if found is None or (found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART):
                if self._membership.on_missing_offsets is MissingOffsets.STOP:
                    raise UnknownTopicError(topic, ())
                log.error(
                    "a topic does not exist any more; waiting for it to be made anew",
                    extra={"topic": topic, "group": self._membership.group},
                )

    # Commands.

    def _while_open(self, command: Callable[[], None]) -> None:
        # `close` may still assign partitions, and somebody be quick to resume them.
        if not self._closing.is_set():
            command()

    def _pause(self, partitions: Collection[TopicPartition]) -> None:
        mine = self._flowing.intersection(partitions)
        self._flowing -= mine
        if mine and not self._throttled:
            self._consumer.pause(named(mine))

    def _resume(self, partitions: Collection[TopicPartition]) -> None:
        mine = self._assigned.intersection(partitions) - self._flowing - self._fresh
        self._flowing |= mine
        if not self._throttled:
            self._fetch_from(mine)

    def _fetch_from(self, partitions: Collection[TopicPartition]) -> None:
        self._consumer.resume(named(partitions))
        for partition in partitions:
            self._sought.add(partition)
            # `resume` alone is noticed when the client next looks up, which may be a second later. `seek` wakes it.
            self._consumer.seek(Offset(*partition, self._at[partition]))

    def _restart(self) -> None:
        told = frozenset(self._assigned - self._fresh)
        self._ownership.end(told)
        self._consumer.pause(named(self._assigned))
        self._flowing.clear()
        self._throttled = False
        self._fresh |= told
        self.inbox.void(told)
        if told:
            self.inbox.put(Lost(told))

    def _commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        self._ownership.ticket(offsets)
        try:
            answers = self._consumer.commit(offsets=offsets_of(offsets), asynchronous=False)
        except (KafkaException, RuntimeError) as exception:
            reason = str(error_of(exception)) if isinstance(exception, KafkaException) else str(exception)
            raise CommitError(reason) from exception
        failed = [answer.error for answer in answers if answer.error is not None]
        if failed:
            raise CommitError(f"{failed[0].name()}: {failed[0].str()}")

    # What the client calls from within `poll` and `close`.

    def _on_assign(self, consumer: Consumer, partitions: list[Offset]) -> None:
        fresh = partitions_of(partitions)
        # Anywhere: what is committed is asked for later, and sought. Without an offset the client would look
        # it up itself, and stop for good where there is none.
        anywhere = [Offset(*partition, OFFSET_BEGINNING) for partition in fresh]
        if self._protocol is GroupProtocol.CONSUMER:
            consumer.incremental_assign(anywhere)
        else:
            consumer.assign(anywhere)
        consumer.pause(partitions)
        self._assigned |= fresh
        self._fresh |= fresh
        self._back()

    def _on_revoke(self, consumer: Consumer, partitions: list[Offset]) -> None:
        revoked = partitions_of(partitions)
        told = revoked - self._fresh
        self.inbox.void(revoked)
        if told and not self._closing.is_set():
            # Committed meanwhile is with what the group says now: later it says nothing until this returns.
            self._ownership.hear(consumer.consumer_group_metadata())
            self._await_release(told)
            if not self._ownership.settle(told, 2 * self._membership.transaction_timeout_s):
                log.warning("partitions were given up during a commit", extra={"partitions": sorted(told)})
        self._forget(revoked)
        self._left |= {topic for topic, _ in revoked}
        if self._protocol is GroupProtocol.CONSUMER:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _await_release(self, partitions: frozenset[TopicPartition]) -> None:
        released = threading.Event()

        def release() -> None:
            released.set()
            self.wake.set()

        self.inbox.put(Revoked(partitions, release))
        deadline = time.monotonic() + self._membership.revoke_grace_s
        while not released.is_set() and not self._closing.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                extra = {"group": self._membership.group, "partitions": in_words(partitions)}
                log.warning("partitions were not let go in time and are taken away", extra=extra)
                self.inbox.put(Lost(partitions))
                return
            self.wake.wait(left)
            self.wake.clear()
            self._run_commands()

    def _on_lost(self, consumer: Consumer, partitions: list[Offset]) -> None:
        lost = partitions_of(partitions)
        told = lost - self._fresh
        self._forget(lost)
        self.inbox.void(lost)
        if told:
            self.inbox.put(Lost(told))
        if self._protocol is GroupProtocol.CONSUMER:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _forget(self, partitions: frozenset[TopicPartition]) -> None:
        self._ownership.end(partitions)
        for known in (self._assigned, self._fresh, self._flowing, self._sought):
            known.difference_update(partitions)
        for partition in partitions:
            self._at.pop(partition, None)
            self._ended.pop(partition, None)

    def _on_error(self, error: KafkaError) -> None:
        code = error.code()
        if code == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - librdkafka's own errors are spelt so
            if self._down_since is None:
                self._down_since = time.monotonic()
                log.warning(
                    "no broker answers; trying again",
                    extra={"group": self._membership.group, "gives_up_after_s": self._config.give_up_s},
                )
        elif code == KafkaError._FATAL and _UNSUPPORTED in error.str() and self._may_fall_back:  # noqa: SLF001 - as above
            self._refused = True
        elif code in REFUSED or code == KafkaError._FATAL or error.fatal():  # noqa: SLF001 - as above
            raise KafkaException(error)
        else:
            library.info("%s: %s", error.name(), error.str())

    @property
    def _may_fall_back(self) -> bool:
        return self._protocol is GroupProtocol.CONSUMER and self._config.group_protocol is None

    def _fall_back(self) -> None:
        """Join anew where brokers know KIP-848's protocol, but have it switched off."""
        if self._refused:
            self._refused = False
            self._protocol = GroupProtocol.CLASSIC
            self._on_classic()
            self._consumer.close()
            self._join()

    def _probe(self) -> None:
        """While no broker is there, look whether one has come back; give up after the configured time."""
        now = time.monotonic()
        if self._down_since is None or now < self._next_probe:
            return
        self._next_probe = now + _PROBE_S
        try:
            self._consumer.list_topics(self._membership.topics[0], timeout=1.0)
        except KafkaException as exception:
            if now - self._down_since > self._config.give_up_s:
                raise unreachable(self._config, now - self._down_since, error_of(exception)) from exception
        else:
            self._back()

    def _back(self) -> None:
        if self._down_since is not None:
            after_s = round(time.monotonic() - self._down_since, 1)
            self._down_since = None
            log.info("a broker answers again", extra={"group": self._membership.group, "after_s": after_s})
