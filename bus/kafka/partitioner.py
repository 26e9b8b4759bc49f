"""Where the client puts a key: what `bus.partition` says, from librdkafka, which takes a sixth of the time.

`rd_kafka_msg_partitioner_murmur2` is part of librdkafka's public API, and does
not look at the topic that it is handed. It is found through the Python
client's own extension, which is linked with it; where it is not, because
somebody linked that otherwise, `bus.partition` answers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

from confluent_kafka import cimpl

from antiphon.bus import partition


def _found() -> Callable[[bytes, int], int]:
    try:
        # `CDLL` gives the interpreter's lock away meanwhile, and getting it back takes longer than all else of an event.
        native = ctypes.PyDLL(cimpl.__file__).rd_kafka_msg_partitioner_murmur2
    except (OSError, AttributeError):  # pragma: no cover - by how the client was built
        return partition.partition_for
    # Without `argtypes`, which would be gone through at every call: what is given is a pointer, or an int as C has it, but for
    # the length, which is a size_t, made once for each.
    native.restype = ctypes.c_int32
    length = lru_cache(maxsize=1_024)(ctypes.c_size_t)

    def partition_for(key: bytes, partitions: int) -> int:
        """Return the partition of *key* in a topic of *partitions*."""
        found: int = native(None, key, length(len(key)), partitions, None, None)
        return found

    return partition_for


partition_for = _found()
