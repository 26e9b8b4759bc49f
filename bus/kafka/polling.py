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

from antiphon.bus.errors import BusError, CommitError, MemberFailedError
from antiphon.bus.kafka.absence import Absence
from antiphon.bus.kafka.chatter import library, log
from antiphon.bus.kafka.client import GroupClient
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig, member_consumer
from antiphon.bus.kafka.failures import REFUSED, denied, error_of, unreachable
from antiphon.bus.kafka.handshake import NOT_LET_IN
from antiphon.bus.kafka.holdings import Holdings
from antiphon.bus.kafka.inbox import Inbox
from antiphon.bus.kafka.jumps import Jumps
from antiphon.bus.kafka.lasting import Lasting
from antiphon.bus.kafka.ownership import Ownership, Work
from antiphon.bus.kafka.records import named, offsets_of, partitions_of, record_of
from antiphon.bus.kafka.resting import Rest
from antiphon.bus.kafka.sessions import resident
from antiphon.bus.port import Assigned, Lost, Membership, Records, Revoked
from antiphon.bus.record import Committed, Record, TopicPartition, in_words, size_of
from antiphon.bus.right import Operation, Resource

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
        embedded: bool,
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
        self._embedded = embedded
        self._rest = Rest() if embedded else None
        self._look_s = _LOOK_S if membership.exactly_once else _LOOK_AT_LEAST_ONCE_S
        self._commands: deque[Callable[[], None]] = deque()
        self._closing = threading.Event()
        self._held = Holdings()
        self._client: GroupClient
        self._jumps: Jumps
        self._absence = Absence(config, membership)
        self._unknown = Lasting()
        self._say_again: dict[TopicPartition, float] = {}
        """When to say once more that what stands next cannot be read."""
        self._most = min(_CAUTIOUS, config.batch)
        """Records taken from the client at a time: fewer of large ones."""
        self._throttled = False
        self._refused = False
        self._denied: str | None = None
        """The topic of which an error was said last."""

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

    def again(self, partitions: frozenset[TopicPartition]) -> None:
        """Void what was taken of *partitions* and begin them again where they are truly committed."""
        self._command(lambda: self._while_open(lambda: self._begin_again(partitions)))

    def note(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Note that *offsets* are committed, by whomever."""
        self._held.committed.update({partition: committed.offset for partition, committed in offsets.items()})

    def commit(self, offsets: Mapping[TopicPartition, Committed], work: Work) -> Future[None]:
        """Commit *offsets* of *work* outside a transaction; the future raises `CommitError`."""
        done: Future[None] = Future()

        def command() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                self._commit(offsets, work)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._command(command)
        return done

    def last(self, partition: TopicPartition, end: int) -> int | None:
        """Return one past the last record of a *partition* that ends at *end*, as far as that is known; None: not owned."""
        return self._held.last(partition, end)

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
                if self._jumps.adrift:
                    self._go_on_elsewhere()
                if self._jumps.left:
                    self._jumps.look_for_topics()
                self._absence.probe(self._client.consumer)
                self._fall_back()
            reason = "it was closed"
        except BusError as error:
            self.inbox.fail(error)
            reason = str(error)
        except Exception as error:
            lacking = self._lacking(error)
            if lacking is not None:
                self.inbox.fail(lacking)
            reason = str(lacking or (error_of(error) if isinstance(error, KafkaException) else repr(error)))
            log.warning("a group member failed", exc_info=error, extra={"group": self._membership.group})
        try:
            self._leave()
        finally:
            self.inbox.fail(MemberFailedError(self._membership.group, reason))
            self.finished.set_result(None)
            self._run_commands()

    def _lacking(self, error: Exception) -> BusError | None:
        """Return *error* as what this client may not do, or how it is not let in; None where it is another."""
        if not isinstance(error, KafkaException):
            return None
        known = error_of(error)
        if known.code() in NOT_LET_IN:
            return unreachable(self._config, 0.0, known)
        names = {Resource.GROUP: self._membership.group, Resource.TOPIC: self._denied or self._named_in(known)}
        return denied(self._config, known, Operation.READ, names)

    def _named_in(self, error: KafkaError) -> str | None:
        """Return the topic that the client's words name, if they name one of this member's."""
        return next((topic for topic in self._membership.topics if topic in (error.str() or "")), None)

    def _join(self) -> None:
        self._client = GroupClient(self._subscribed, self._protocol)
        self._jumps = Jumps(self._client, self._membership, self._held, self._ownership, self.inbox)

    def _subscribed(self, protocol: GroupProtocol) -> Consumer:
        options = {**member_consumer(self._config, self._membership, protocol), "error_cb": self._on_error}
        if self._embedded:
            options["client.id"] = resident(self._membership.instance)
        consumer = Consumer(options, logger=library)
        consumer.subscribe(
            [*self._membership.topics], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        return consumer

    def _leave(self) -> None:
        self._closing.set()
        self._forget(frozenset(self._held.assigned))
        with contextlib.suppress(AttributeError):  # it may never have come to be
            self._client.close()

    def _run_commands(self) -> None:
        while self._commands:
            with contextlib.suppress(IndexError):
                self._commands.popleft()()

    def _look(self) -> None:
        """Take what has come, and hold fetching up while the taker is behind."""
        wait_s = self._look_s
        if self._throttled and not self.inbox.full:
            self._throttled = False
            self._fetch_from(self._held.flowing)
        if self._throttled or not self._held.flowing:
            # Nothing can come but news of the group: wait for commands instead, they are not kept waiting so.
            self.wake.wait(wait_s)
            self.wake.clear()
            wait_s = 0.0
        first = self._client.consumer.poll(wait_s)
        if first is not None:
            self._take(first)
        if self._held.waning:
            self._pause_waning()
        if self._held.assigned:
            self._ownership.hear(self._client.metadata())
        if self.inbox.full and not self._throttled:
            self._hold_up()
        elif self._rest is not None and self._rest.is_due(self._held.flowing):
            self._client.pause(self._held.flowing)
            self.wake.wait(self._rest.begin())
            self.wake.clear()
            if not self._throttled:
                self._fetch_from(self._held.flowing)

    def _take(self, first: Message) -> None:
        """Put *first* into the inbox, and what has come with it."""
        # `consume` alone would wait its whole time for a full batch.
        batch = [first, *self._client.consumer.consume(self._most - 1, 0)] if self._most > 1 else [first]
        records, astray = self._held.came(self._records(batch))
        if astray:
            # An assigned partition is at its beginning until it is sought. Where the client has an answer about that only
            # afterwards, it asks again half a second later, and goes there.
            log.info("the client has gone back; seeking again", extra={"partitions": in_words(astray)})
            self._client.seek({partition: self._held.at[partition] for partition in astray})
        if records:
            if self._rest is not None:
                self._rest.came(TopicPartition(record.topic, record.partition) for record in records)
            size = sum(map(size_of, records))
            self._most = min(self._config.batch, max(1, _LOOK_BYTES * len(records) // (size or 1)))
            self.inbox.put(Records(records), size)

    def _note_end(self, partition: TopicPartition, offset: int | None) -> None:
        self._held.ended[partition] = offset or 0
        if self._rest is not None:
            self._rest.ended(partition)

    def _hold_up(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self.inbox.full and not self._commands and not self._closing.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                self._throttled = True
                self._client.pause(self._held.flowing)
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
                    self._jumps.adrift.add(TopicPartition(message.topic() or "", message.partition() or 0))
                elif error.code() in _UNREADABLE:
                    self._say_unreadable(TopicPartition(message.topic() or "", message.partition() or 0), error)
                else:
                    self._denied = message.topic() or self._denied
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
                    "offset": self._held.at.get(partition),
                    "reason": error.str(),
                    "remedy": "raise ANTIPHON_CLIENT_RECEIVE_MESSAGE_MAX_BYTES, or move the group's offset past them",
                },
            )

    def _announce(self) -> None:
        """Tell the taker of fresh partitions once it is known what is committed for them.

        Not before older producers of this name are fenced, and nothing is under way that could still change it, see `_settled`.
        A commit may begin between `restart` and this thread's hearing of it, and what it commits must not be handed out again.
        """
        held = self._held
        if not held.fresh or not self._ready():
            return
        asked = self._settled()
        if not asked:
            return
        try:
            answers = self._client.consumer.committed(named(asked), timeout=_ASK_S)
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() in REFUSED:
                raise
            level, since_s = self._unknown.still(time.monotonic())
            log.log(
                level,
                "committed offsets are not known yet",
                extra={"group": self._membership.group, "reason": error.str(), "since_s": round(since_s, 1)},
            )
            return
        self._unknown.over()
        unsettled = {answer.partition for answer in answers if _is_unsettled(answer)}
        known = {
            TopicPartition(answer.topic, answer.partition): Committed(answer.offset, answer.metadata or "")
            if answer.offset >= 0
            else None
            for answer in answers
            if answer.error is None
            if answer.partition not in unsettled
            if (answer.topic, answer.partition) in held.fresh
        }
        jumps = self._jumps.forgotten(known)
        begin = {
            partition: OFFSET_BEGINNING if committed is None else committed.offset
            for partition, committed in known.items()
        }
        held.at |= begin
        held.begun_at |= begin
        self.note({partition: committed for partition, committed in known.items() if committed is not None})
        for partition in known:
            held.ended.pop(partition, None)
        held.fresh -= known.keys()
        if known:
            self._ownership.hear(self._client.metadata())
            self.inbox.put(Assigned(known), self._ownership.begin(known))
        for jumped in jumps:
            self.inbox.put(jumped)

    def _settled(self) -> set[TopicPartition]:
        """Return the fresh partitions of which no transaction is under way here, and what else is to be asked for with them.

        Whoever is given the partition that decides restores the state that all of its number share. So by then no transaction
        may be under way that holds work of any of them: neither of this member, nor of whoever had the number before. In whose
        case the group says so when it is asked what is committed, so that is asked for those too that are not given
        to this member yet. What is worked on here meanwhile changes state that is here.
        """
        held, deciding = self._held, self._membership.deciding
        told = held.assigned - held.fresh
        asked: set[TopicPartition] = set()
        for number in {partition.partition for partition in held.fresh}:
            together = {partition for partition in held.fresh if partition.partition == number}
            if (deciding, number) in together:
                together |= {TopicPartition(topic, number) for topic in self._membership.topics} - told
                if self._ownership.settle(together, 0.0):
                    asked |= together
            else:
                asked |= {partition for partition in together if self._ownership.settle([partition], 0.0)}
        return asked

    def _go_on_elsewhere(self) -> None:
        """Let what is adrift go on where it can, and have the client fetch it again there."""
        held = self._held
        for partition in self._jumps.go_on():
            self._client.revive(partition, held.at, held.assigned)
            if waiting := (held.assigned if self._throttled else held.assigned - held.flowing):
                self._client.pause(waiting)

    # Commands.

    def _while_open(self, command: Callable[[], None]) -> None:
        # `close` may still assign partitions, and somebody be quick to resume them.
        if not self._closing.is_set():
            command()

    def _pause(self, partitions: Collection[TopicPartition]) -> None:
        self._held.waning |= self._held.flowing.intersection(partitions)

    def _pause_waning(self) -> None:
        """Fetch no more of what is not wanted, once there is enough of it for when it is."""
        enough = {partition for partition in self._held.waning if self.inbox.holds_enough(partition)}
        self._held.waning -= enough
        self._held.flowing -= enough
        if enough and not self._throttled:
            self._client.pause(enough)

    def _resume(self, partitions: Collection[TopicPartition]) -> None:
        self._held.waning.difference_update(partitions)
        mine = self._held.assigned.intersection(partitions) - self._held.flowing - self._held.fresh
        self._held.flowing |= mine
        if mine and not self._throttled:
            self._fetch_from(mine)

    def _fetch_from(self, partitions: Collection[TopicPartition]) -> None:
        self._client.fetch({partition: self._held.at[partition] for partition in partitions})

    def _restart(self) -> None:
        self._throttled = False
        self._begin_again(frozenset(self._held.assigned))

    def _begin_again(self, partitions: frozenset[TopicPartition]) -> None:
        given = partitions & self._held.assigned
        told = given - self._held.fresh
        self._ownership.end(told)
        self._client.pause(given)
        self._held.flowing -= given
        self._held.waning -= given
        self._held.fresh |= told
        self.inbox.void(told)
        if told:
            self.inbox.put(Lost(told))

    def _commit(self, offsets: Mapping[TopicPartition, Committed], work: Work) -> None:
        self._ownership.ticket(work)
        try:
            answers = self._client.consumer.commit(offsets=offsets_of(offsets), asynchronous=False)
        except (KafkaException, RuntimeError) as exception:
            reason = str(error_of(exception)) if isinstance(exception, KafkaException) else str(exception)
            raise CommitError(reason) from exception
        failed = [answer.error for answer in answers if answer.error is not None]
        if failed:
            raise CommitError(f"{failed[0].name()}: {failed[0].str()}")

    # What the client calls from within `poll` and `close`.

    def _on_assign(self, _: Consumer, partitions: list[Offset]) -> None:
        fresh = partitions_of(partitions)
        # Anywhere: what is committed is asked for later, and sought. Without an offset the client would look
        # it up itself, and stop for good where there is none.
        self._client.assign([Offset(*partition, OFFSET_BEGINNING) for partition in fresh])
        self._held.assigned |= fresh
        self._held.fresh |= fresh
        self._absence.ended()

    def _on_revoke(self, _: Consumer, partitions: list[Offset]) -> None:
        revoked = partitions_of(partitions)
        told = revoked - self._held.fresh
        self.inbox.void(revoked)
        if told and not self._closing.is_set():
            # Committed meanwhile is with what the group says now: later it says nothing until this returns.
            self._ownership.hear(self._client.metadata())
            self._await_release(told)
            self._run_commands()
            # What shares state with these and begins again elsewhere: as they do, only when nothing of it is under way.
            numbers = {partition.partition for partition in told}
            let_go = told | {partition for partition in self._held.fresh if partition.partition in numbers}
            if not self._ownership.settle(let_go, 2 * self._membership.transaction_timeout_s):
                log.warning("partitions were given up during a commit", extra={"partitions": sorted(told)})
        self._forget(revoked)
        self._jumps.left |= {topic for topic, _ in revoked}
        self._client.unassign(partitions)

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

    def _on_lost(self, _: Consumer, partitions: list[Offset]) -> None:
        lost = partitions_of(partitions)
        told = lost - self._held.fresh
        self._forget(lost)
        self.inbox.void(lost)
        if told:
            self.inbox.put(Lost(told))
        self._client.unassign(partitions)

    def _forget(self, partitions: frozenset[TopicPartition]) -> None:
        self._ownership.end(partitions)
        self._held.forget(partitions)

    def _on_error(self, error: KafkaError) -> None:
        code = error.code()
        if code == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - librdkafka's own errors are spelt so
            self._absence.began()
        elif code == KafkaError._FATAL and _UNSUPPORTED in error.str() and self._may_fall_back:  # noqa: SLF001 - as above
            self._refused = True
        elif code in REFUSED or code == KafkaError._FATAL or error.fatal():  # noqa: SLF001 - as above
            raise KafkaException(error)
        else:
            library.info("%s: %s", error.name(), error.str())

    @property
    def _may_fall_back(self) -> bool:
        return self._client.by_increments and self._config.group_protocol is None

    def _fall_back(self) -> None:
        """Join anew where brokers know KIP-848's protocol, but have it switched off."""
        if self._refused:
            self._refused = False
            self._on_classic()
            self._client.fall_back()


def _is_unsettled(answer: Offset) -> bool:
    return answer.error is not None and answer.error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT
