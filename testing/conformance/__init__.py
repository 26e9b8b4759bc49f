"""The promises of the ports, as tests that every implementation inherits.

    class TestMyBus(BusSuite):
        @pytest.fixture
        async def bus(self) -> AsyncIterator[Bus]:
            ...

Needs pytest and pytest-asyncio in its auto mode. Tests of one class may share
a cluster: every test uses topics and groups of its own.
"""

import pytest

# Before they are imported: their assertions shall say what they compared.
pytest.register_assert_rewrite(
    "antiphon.testing.conformance.groups",
    "antiphon.testing.conformance.index",
    "antiphon.testing.conformance.topics",
    "antiphon.testing.conformance.transactions",
)

from antiphon.testing.conformance.groups import GroupPromises  # noqa: E402 - see above
from antiphon.testing.conformance.index import IndexSuite  # noqa: E402 - see above
from antiphon.testing.conformance.topics import TopicPromises  # noqa: E402 - see above
from antiphon.testing.conformance.transactions import TransactionPromises  # noqa: E402 - see above


class BusSuite(TopicPromises, GroupPromises, TransactionPromises):
    """Everything `antiphon.bus.port` promises. Override the fixture `bus`."""


__all__ = ["BusSuite", "IndexSuite"]
