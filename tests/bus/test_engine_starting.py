"""The engine on the bus in memory: what it refuses to start with."""

from __future__ import annotations

import pytest

from antiphon.bus.errors import MissingTopicsError, PartitionCountError
from antiphon.bus.port import TopicSpec
from tests.bus.placing import World, answer, consumer


async def test_a_topic_of_another_width_is_refused_at_start(world: World) -> None:
    """Inputs that are not co-partitioned would never meet."""
    await world.bus.create([TopicSpec("test.placed", 7)])
    with pytest.raises(PartitionCountError, match=r"expected topic 'test\.placed' to have 4 partitions"):
        await world.worker(consumer(answer)).run()


async def test_where_topics_may_not_be_created_the_error_names_them(world: World) -> None:
    """Whoever runs the cluster can be sent the message as it is."""
    with pytest.raises(MissingTopicsError, match=r"test\.placed.*antiphon topics apply"):
        await world.worker(consumer(answer), create_topics=False).run()
