"""What clients are told: a user may tune them, and not talk them out of a promise."""

from __future__ import annotations

from confluent_kafka import Consumer

from antiphon.bus.kafka.config import (
    GroupProtocol,
    KafkaConfig,
    Option,
    Options,
    member_consumer,
    member_producer,
    publisher,
    reader,
)
from antiphon.bus.port import Membership

MEMBERSHIP = Membership(group="staging.stock", topics=("order.placed",), instance="a1")


def test_promises_cannot_be_overridden() -> None:
    """The user's options reach every client; those that exactly-once rests on stay."""
    careless: dict[str, Option] = {
        "isolation.level": "read_uncommitted",
        "enable.auto.commit": True,
        "enable.idempotence": False,
        "partitioner": "random",
        "transactional.id": "mine",
        "compression.type": "zstd",
    }
    config = KafkaConfig(options=careless)
    consumer = member_consumer(config, MEMBERSHIP, GroupProtocol.CONSUMER)
    producer = member_producer(config, MEMBERSHIP)
    assert _of(consumer, "isolation.level", "enable.auto.commit") == ["read_committed", False]
    assert _of(producer, "enable.idempotence", "partitioner", "transactional.id", "compression.type") == [
        True,
        "murmur2_random",
        "staging.stock/a1",
        "zstd",
    ]
    assert _of(publisher(config), "enable.idempotence", "partitioner") == [True, "murmur2_random"]
    assert _of(reader(config, ends=True), "isolation.level", "enable.auto.commit") == ["read_committed", False]


def test_both_group_protocols_co_partition() -> None:
    """A join rests on it. Each protocol takes other options, and refuses the other's."""
    broker = member_consumer(KafkaConfig(), MEMBERSHIP, GroupProtocol.CONSUMER)
    members = member_consumer(KafkaConfig(), MEMBERSHIP, GroupProtocol.CLASSIC)
    assert (broker.get("group.remote.assignor"), broker.get("session.timeout.ms")) == ("range", None)
    assert (members.get("partition.assignment.strategy"), members.get("session.timeout.ms")) == ("range", 10_000)


def test_a_transaction_is_over_before_its_partitions_move_on() -> None:
    """Otherwise the next owner would wait for a dead one's transaction."""
    producer = member_producer(KafkaConfig(), MEMBERSHIP)
    consumer = member_consumer(KafkaConfig(), MEMBERSHIP, GroupProtocol.CLASSIC)
    assert int(producer["transaction.timeout.ms"]) < int(consumer["session.timeout.ms"])


def test_at_least_once_has_no_transactions() -> None:
    """It is written idempotently all the same."""
    membership = Membership(group="g", topics=("t",), instance="i", exactly_once=False)
    producer = member_producer(KafkaConfig(), membership)
    assert (producer.get("transactional.id"), producer["enable.idempotence"]) == (None, True)


def test_secrets_are_not_shown() -> None:
    """A configuration ends up in logs and tracebacks."""
    assert "hunter2" not in repr(KafkaConfig(options={"sasl.password": "hunter2"}))


def _of(options: Options, *names: str) -> list[Option]:
    return [options[name] for name in names]


def test_a_short_poll_interval_is_for_members() -> None:
    """A reader is in no group: its client would refuse one below a session time-out that it does not have."""
    config = KafkaConfig(options={"max.poll.interval.ms": 4_000})
    Consumer(reader(config, ends=True)).close()
    assert member_consumer(config, MEMBERSHIP, GroupProtocol.CLASSIC)["max.poll.interval.ms"] == 4_000
