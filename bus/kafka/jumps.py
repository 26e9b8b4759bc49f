"""Where the broker does not have what comes next: retention was faster, or the topic was made anew."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.errors import OffsetsGoneError, UnknownTopicError
from antiphon.bus.kafka.chatter import log
from antiphon.bus.kafka.client import GroupClient
from antiphon.bus.kafka.failures import error_of
from antiphon.bus.kafka.holdings import Holdings
from antiphon.bus.kafka.inbox import Inbox
from antiphon.bus.kafka.ownership import Ownership
from antiphon.bus.port import Assigned, Jumped, Lost, Membership, MissingOffsets
from antiphon.bus.record import Committed, TopicPartition

_ASK_S = 2.0


class Jumps:
    """Lets partitions go on elsewhere, as the membership says, and tells of it. For the polling thread alone."""

    def __init__(
        self, client: GroupClient, membership: Membership, holdings: Holdings, ownership: Ownership, inbox: Inbox
    ) -> None:
        self._client = client
        self._membership = membership
        self._held = holdings
        self._ownership = ownership
        self._inbox = inbox
        self.adrift: set[TopicPartition] = set()
        """Partitions of which the broker does not have what comes next."""
        self.left: set[str] = set()
        """Topics of which every partition was taken away: perhaps there is no such topic any more."""

    def forgotten(self, known: dict[TopicPartition, Committed | None]) -> list[Jumped]:
        """Find partitions of which the group forgot what it had committed: it does so when a topic is deleted.

        What is *known* to be committed is mended; a partition of which no broker says anything now is taken out of it.
        """
        jumps: list[Jumped] = []
        for partition, committed in [*known.items()]:
            if committed is None and (expected := self._held.committed.get(partition, 0)) > 0:
                jumped = self._jump(partition, expected, anew=True)
                if jumped is None:
                    del known[partition]
                    continue
                known[partition] = Committed(jumped.to)
                self._keep(jumped)
                jumps.append(jumped)
        return jumps

    def go_on(self) -> list[TopicPartition]:
        """Let what is adrift go on; return the partitions that the client must be given anew, at where they are now.

        Raises `OffsetsGoneError` by policy.
        """
        # What is not being fetched is found out again once it is: resuming seeks.
        adrift, self.adrift = self.adrift & self._held.flowing, set()
        moved: list[TopicPartition] = []
        for partition in adrift:
            expected = self._held.at[partition]
            if expected < 0:
                continue  # it had none when it was assigned, and has been sent to the beginning since
            jumped = self._jump(partition, expected)
            if jumped is None:
                self.adrift.add(partition)
                continue
            moved.append(partition)
            if jumped.first <= expected <= jumped.end:
                continue  # it is there by now
            if jumped.anew:
                self._begin_anew(jumped)
                continue
            if expected == self._held.begun_at[partition]:
                self._keep(jumped)
            self._held.at[partition] = jumped.to
            self._held.ended.pop(partition, None)
            self._inbox.put(jumped)
        return moved

    def _begin_anew(self, jumped: Jumped) -> None:
        """Give a partition back to the taker as another one: what it has in hand has offsets of another log."""
        partition = jumped.partition
        self._ownership.end([partition])
        self._held.flowing.discard(partition)
        self._inbox.void([partition])
        self._inbox.put(Lost(frozenset([partition])))
        self._keep(jumped)
        self._inbox.put(jumped)
        self._held.at[partition] = self._held.begun_at[partition] = jumped.to
        self._held.ended.pop(partition, None)
        self._inbox.put(Assigned({partition: Committed(jumped.to)}), self._ownership.begin([partition]))

    def _keep(self, jumped: Jumped) -> None:
        """Commit where a partition goes on, or whoever is next would jump again. Nothing of it may be in hand."""
        self._held.committed[jumped.partition] = jumped.to
        try:
            self._client.consumer.commit(offsets=[Offset(*jumped.partition, jumped.to)], asynchronous=False)
        except KafkaException as exception:
            log.info("where a partition goes on is not committed yet", extra={"reason": error_of(exception).str()})

    def _jump(self, partition: TopicPartition, expected: int, *, anew: bool = False) -> Jumped | None:
        """Say where *partition* goes on; None where no broker says so now."""
        try:
            first, end = self._client.consumer.get_watermark_offsets(Offset(*partition), timeout=_ASK_S)
        except KafkaException as exception:
            log.info("a partition's offsets are not known yet", extra={"reason": error_of(exception).str()})
            return None
        policy = self._membership.on_missing_offsets
        anew = anew or expected > end
        if policy is MissingOffsets.STOP and (anew or expected < first):
            raise OffsetsGoneError(self._membership.group, *partition, expected=expected, first=first, end=end)
        to = end if policy is MissingOffsets.LATEST else first
        return Jumped(partition, expected, first, end, to, anew=anew)

    def look_for_topics(self) -> None:
        """Say so where a topic that was taken away whole is there no more. Raises `UnknownTopicError` by policy."""
        left, self.left = self.left - {topic for topic, _ in self._held.assigned}, set()
        for topic in left:
            try:
                metadata = self._client.consumer.list_topics(topic, timeout=1.0)
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
