"""Where the cluster is, and what each kind of client is told.

One function per kind makes its options. What keeps a promise stands last in
each and cannot be overridden; what tunes stands first and can.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from antiphon.bus.port import Membership
from antiphon.bus.security import Identity, identity

SOME_TOPIC = "__consumer_offsets"
"""A topic to ask about, for those who want to know the brokers: a mesh has it always. Brokers may make what is not there because
somebody asks about it."""

Option: TypeAlias = str | int | float | bool
Options: TypeAlias = dict[str, Option]


class GroupProtocol(StrEnum):
    """How members of a consumer group agree on who reads what."""

    CONSUMER = "consumer"
    """KIP-848: the broker assigns, and kept partitions are not disturbed."""
    CLASSIC = "classic"


# Of a consumer that is not a member of a group.
_IN_NO_GROUP: Options = {
    # Asked for by the client, used by nobody: partitions are assigned by hand and nothing is committed.
    "group.id": "antiphon.reader",
    # Made for members of groups; too short for the client's own session time-out, which is none of its either.
    "max.poll.interval.ms": 86_400_000,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # Other kinds of clients cannot be told so: asking makes a topic, where brokers make what they are asked for.
    "allow.auto.create.topics": False,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KafkaConfig:
    """How to reach a cluster and how long to try."""

    bootstrap_servers: str = "127.0.0.1:9092"
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict[str, Option], repr=False)
    """librdkafka's own options, for every client alike (TLS, SASL, ...). May hold secrets: never shown."""
    group_protocol: GroupProtocol | None = None
    """None: KIP-848's where the cluster has it."""
    reach_s: float = 5.0
    """How long a first answer may take before the cluster counts as unreachable, where no address has a broker."""
    settle_s: float = 60.0
    """How long where one has: of a leader that was killed the controller learns when its session is over (9 s by default), the
    others from the controller, and clients when they ask again; a question that the dead one took along is waited for before."""
    give_up_s: float = 120.0
    """How long a member waits for brokers that are all gone before it fails, so that somebody starts it again."""
    batch: int = 500
    """Records taken from the client at a time."""
    prefetch: int = 4_000
    """Records waiting for `Member.take` before fetching is held up."""
    prefetch_bytes: int = 16 * 1024 * 1024
    """Bytes of them, likewise."""

    @property
    def identity(self) -> Identity:
        """Who clients are by their options: for errors."""
        return identity(self.options)


def member_consumer(config: KafkaConfig, membership: Membership, protocol: GroupProtocol) -> Options:
    """Make the options of a group member's consumer."""
    options = {
        # The client's own default for waiting once its buffer is full is a second: a worker that drains faster stalls.
        "fetch.queue.backoff.ms": 5,
        "fetch.error.backoff.ms": 100,
        "queued.min.messages": 20_000,
        "queued.max.messages.kbytes": 32 * 1024,
        "topic.metadata.refresh.interval.ms": 30_000,
        **_shared(config),
        "client.id": membership.instance,
        "group.id": membership.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        # Never by the client, which says nothing of it: see `Polling._go_on_elsewhere`.
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
        # Once for each end that is reached: lag is known by it, and when to rest, see `resting`.
        "enable.partition.eof": True,
        "group.protocol": protocol.value,
    }
    # Both assignors give partition n of every topic to the same member. `uniform` and `cooperative-sticky` do not.
    if protocol is GroupProtocol.CONSUMER:
        options["group.remote.assignor"] = "range"
    else:
        session_ms = int(membership.session_timeout_s * 1_000)
        options["partition.assignment.strategy"] = "range"
        options["session.timeout.ms"] = session_ms
        options["heartbeat.interval.ms"] = max(session_ms // 4, 100)
    return options


def member_producer(config: KafkaConfig, membership: Membership) -> Options:
    """Make the options of the producer that commits for a group member."""
    options = {
        # A commit flushes, so this delays nobody; it only lets a transaction's first records travel together.
        "linger.ms": 5,
        "queue.buffering.max.messages": 500_000,
        # A transaction that begins at once after another is put off while the broker closes that one: it takes
        # a few milliseconds, and the default waits a hundred.
        "retry.backoff.ms": 10,
        # How long a topic may be unknown before records to it fail: within a transaction, or nobody would learn which.
        "topic.metadata.propagation.max.ms": 5_000,
        **_shared(config),
        "client.id": membership.instance,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        # A report per record costs more than the record: the commit says whether all arrived.
        "delivery.report.only.error": True,
    }
    if membership.exactly_once:
        options["transactional.id"] = membership.transactional_id
        options["transaction.timeout.ms"] = int(membership.transaction_timeout_s * 1_000)
    return options


def publisher(config: KafkaConfig) -> Options:
    """Make the options of the producer that writes outside any transaction."""
    return {
        "linger.ms": 1,
        # A topic that was just made is not known to every broker yet.
        "retry.backoff.ms": 10,
        "topic.metadata.refresh.fast.interval.ms": 20,
        **_shared(config),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
    }


def reader(config: KafkaConfig, *, ends: bool) -> Options:
    """Make the options of a consumer that reads for itself, in no group; *ends*: only what is there."""
    return {
        # Who follows waits for news at the broker. Who reads to the end wants to hear that this is it.
        "fetch.wait.max.ms": 5 if ends else 500,
        "fetch.queue.backoff.ms": 5,
        "queued.min.messages": 5_000,
        "queued.max.messages.kbytes": 16 * 1024,
        **_shared(config),
        **_IN_NO_GROUP,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        # A transaction ends with a marker that is no record: without this nobody could tell that the end is reached.
        "enable.partition.eof": True,
    }


def surveyor(config: KafkaConfig, *, committed: bool) -> Options:
    """Make the options of a consumer that asks where partitions begin and end, *committed*: of what is committed."""
    return {
        **_shared(config),
        **_IN_NO_GROUP,
        "isolation.level": "read_committed" if committed else "read_uncommitted",
        "log_level": 0,
    }


def admin(config: KafkaConfig) -> Options:
    """Make the options of the client that asks about topics and offsets."""
    options = _shared(config)
    # Its log lists what the brokers can do, which is how KIP-848 is found; see `administration`.
    options["debug"] = "feature"
    return options


def _shared(config: KafkaConfig) -> Options:
    return {
        "reconnect.backoff.max.ms": 1_000,
        "log.connection.close": False,
        **config.options,
        "bootstrap.servers": config.bootstrap_servers,
    }
