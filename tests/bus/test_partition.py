"""A key's partition, held against another client's."""

import pytest
from aiokafka import partitioner as aiokafka_partitioner  # pyright: ignore[reportMissingTypeStubs] - it has none
from hypothesis import given
from hypothesis import strategies as st

from antiphon.bus.kafka import partitioner
from antiphon.bus.partition import murmur2, partition_for


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"", 0x106E08D9),
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_golden_values(key: bytes, hashed: int) -> None:
    """The values that Kafka's own tests of its Java client hold (`UtilsTest.testMurmur2`)."""
    assert murmur2(key) == hashed & 0xFFFFFFFF


@given(key=st.binary(max_size=80), partitions=st.integers(1, 200))
def test_every_key_goes_where_another_client_sends_it(key: bytes, partitions: int) -> None:
    """A publisher on aiokafka and an agent on confluent-kafka must meet on one partition."""
    theirs: int = aiokafka_partitioner.DefaultPartitioner()(key, range(partitions), [])  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType] - untyped
    assert partition_for(key, partitions) == theirs
    assert partitioner.partition_for(key, partitions) == theirs


def test_the_client_itself_is_asked() -> None:
    """What every event of a fast agent asks is answered by librdkafka here, in a fraction of the time."""
    assert partitioner.partition_for is not partition_for
