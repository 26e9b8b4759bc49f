"""The promises of the bus's port, kept in memory."""

from collections.abc import AsyncIterator

import pytest

from antiphon.bus.memory import MemoryBus
from antiphon.bus.port import Bus
from antiphon.testing.conformance import BusSuite


class TestMemoryBus(BusSuite):
    """In turn, as `antiphon try` runs it."""

    @pytest.fixture
    async def bus(self) -> AsyncIterator[Bus]:
        bus = MemoryBus()
        yield bus
        await bus.close()


class TestSeededMemoryBus(BusSuite):
    """In an order drawn from a seed, as a simulation runs it."""

    @pytest.fixture(params=range(3))
    async def bus(self, request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
        bus = MemoryBus(seed=request.param)
        yield bus
        await bus.close()
