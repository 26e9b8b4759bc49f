"""The promises of the bus's port, on Apache Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from antiphon.testing.conformance import BusSuite

from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.port import Bus


@pytest.mark.kafka
class TestKafka(BusSuite):
    """With the broker assigning partitions, as Kafka 4 does by itself."""

    @pytest.fixture
    async def bus(self, kafka: str) -> AsyncIterator[Bus]:
        bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka))
        yield bus
        await bus.close()


@pytest.mark.kafka
class TestKafkaClassic(BusSuite):
    """With members assigning among themselves, as brokers before Kafka 4 have it."""

    @pytest.fixture
    async def bus(self, kafka: str) -> AsyncIterator[Bus]:
        bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka, group_protocol=GroupProtocol.CLASSIC))
        yield bus
        await bus.close()
