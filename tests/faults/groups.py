"""What a broker says of a consumer group that no client tells: which generation it is in."""

from __future__ import annotations

import asyncio
import struct

_CONSUMER_GROUP_DESCRIBE = 69


async def group_epoch(address: str, group: str) -> int:
    """Ask the broker, in its own protocol, how often membership or subscriptions of *group* have changed (KIP-848)."""
    name = group.encode()
    header = struct.pack(">hhih", _CONSUMER_GROUP_DESCRIBE, 0, 1, -1) + b"\x00"
    body = b"\x02" + bytes([len(name) + 1]) + name + b"\x00\x00"
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(struct.pack(">i", len(header) + len(body)) + header + body)
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    answer = await reader.readexactly(length)
    writer.close()
    # Correlation id, no tags, throttle time, one group: its error, the error's text, its name, its state, its epoch.
    (code,) = struct.unpack_from(">h", answer, 10)
    assert code == 0, f"the broker answered {code} for {group}"
    at = 12
    for _text in ("error", "name", "state"):
        at += max(answer[at], 1)
    (epoch,) = struct.unpack_from(">i", answer, at)
    assert isinstance(epoch, int)
    return epoch
