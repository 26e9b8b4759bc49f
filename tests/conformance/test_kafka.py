"""The promises of the bus's port, on Apache Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.port import Bus
from antiphon.testing.conformance import BusSuite


@pytest.mark.kafka
class TestKafka(BusSuite):
    """With the broker assigning partitions, as Kafka 4 does by itself."""

    @pytest.fixture
    async def bus(self, kafka: str) -> AsyncIterator[Bus]:
        bus: Bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka))
        await bus.topics()  # From its first answer on the bus knows what the cluster can do.
        yield bus
        await bus.close()


@pytest.mark.kafka
class TestKafkaClassic(BusSuite):
    """With members assigning among themselves, as brokers before Kafka 4 have it."""

    @pytest.fixture
    async def bus(self, kafka: str) -> AsyncIterator[Bus]:
        bus: Bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka, group_protocol=GroupProtocol.CLASSIC))
        await bus.topics()  # From its first answer on the bus knows what the cluster can do.
        yield bus
        await bus.close()
