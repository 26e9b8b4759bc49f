"""The promises of the bus's port, on the embedded broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.port import Bus
from antiphon.testing.conformance import BusSuite


@pytest.mark.embedded
class TestEmbedded(BusSuite):
    """Through the same client as Kafka."""

    @pytest.fixture
    async def bus(self, embedded: str) -> AsyncIterator[Bus]:
        bus: Bus = KafkaBus(KafkaConfig(bootstrap_servers=embedded))
        await bus.topics()  # From its first answer on the bus knows what the cluster can do.
        yield bus
        await bus.close()
