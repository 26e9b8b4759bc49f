"""The promises of the bus's port, on the embedded broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from antiphon.testing.conformance import BusSuite

from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.port import Bus


@pytest.mark.embedded
class TestEmbedded(BusSuite):
    """Through the same client as Kafka."""

    @pytest.fixture
    async def bus(self, embedded: str) -> AsyncIterator[Bus]:
        bus = KafkaBus(KafkaConfig(bootstrap_servers=embedded))
        yield bus
        await bus.close()
