"""A relay between clients and a broker: it tells requests apart, and delays, cuts or changes what goes through.

A broker that is started with `KafkaCluster(relayed=True)` says that it is to be
found at its relay; clients that begin there stay there.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from enum import IntEnum
from types import TracebackType
from typing import NamedTuple, Self

from cluster import Broker


class Api(IntEnum):
    """The requests of Kafka's protocol that tests ask about."""

    PRODUCE = 0
    LIST_OFFSETS = 2
    METADATA = 3
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Request(NamedTuple):
    """What a client asks."""

    api: int
    version: int
    client: str
    """Its `client.id`: a worker's instance, for all that the worker does as a member of a group."""

    @classmethod
    def of(cls, frame: bytes) -> Self:
        api, version, _, length = struct.unpack_from(">hhih", frame)
        return cls(api, version, frame[10 : 10 + max(length, 0)].decode())


class CutError(Exception):
    """Raised by whoever looks: the connection ends here, and what was in hand does not arrive."""


async def _pass(request: Request) -> None:
    """Let a request through."""


async def _pass_answer(request: Request, answer: bytes) -> bytes:
    """Let an answer through."""
    return answer


class Relay:
    """Runs while its context does, on the event loop of the test.

    *before* sees each request before the broker does, *after* each answer
    before the client does, and returns what the client gets. Both may take
    their time, and raise `CutError`.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.before: Callable[[Request], Awaitable[None]] = _pass
        self.after: Callable[[Request, bytes], Awaitable[bytes]] = _pass_answer
        self.cuts = 0
        """How many connections were cut."""
        self._failures: list[Exception] = []
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """The bootstrap servers of clients that are to go through here."""
        return f"127.0.0.1:{self.broker.relay_port}"

    def calm(self) -> None:
        """From now on let everything through."""
        self.before, self.after = _pass, _pass_answer

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.broker.relay_port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if error is None and self._failures:
            raise self._failures[0]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connect(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked: dict[bytes, Request] = {}
        try:
            theirs, ours = await asyncio.open_connection("127.0.0.1", self.broker.behind_relay)
        except OSError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._requests(reader, ours, asked))
                pumps.create_task(self._answers(theirs, writer, asked))
        except* CutError:
            self.cuts += 1
        except* (OSError, EOFError):
            pass
        except* Exception as error:
            self._failures.append(error)
        finally:
            # As a network does: no farewell.
            writer.transport.abort()
            ours.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[bytes, Request]
    ) -> None:
        while True:
            frame = await _frame(reader)
            request = Request.of(frame)
            asked[frame[4:8]] = request
            await self.before(request)
            await _send(writer, frame)

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[bytes, Request]
    ) -> None:
        while True:
            frame = await _frame(reader)
            await _send(writer, await self.after(asked.pop(frame[:4]), frame))


def refused(request: Request, answer: bytes, code: int) -> bytes:
    """Return *answer* as it would be had the broker refused with *code* whatever *request* asked for."""
    changed = bytearray(answer)
    for at in _codes(request, answer):
        struct.pack_into(">h", changed, at, code)
    return bytes(changed)


# From these versions on lengths are varints, and tags may follow everything.
_FLEXIBLE = {
    Api.PRODUCE: 9,
    Api.INIT_PRODUCER_ID: 2,
    Api.ADD_PARTITIONS_TO_TXN: 3,
    Api.ADD_OFFSETS_TO_TXN: 3,
    Api.END_TXN: 3,
    Api.TXN_OFFSET_COMMIT: 3,
}


def _codes(request: Request, answer: bytes) -> list[int]:
    """Return where in *answer* errors stand; of what was produced, of the first partition alone."""
    flexible = request.version >= _FLEXIBLE[Api(request.api)]
    reading = _Reading(answer, 5 if flexible else 4, flexible=flexible)
    if request.api == Api.PRODUCE:
        reading.count()
        reading.text()
        reading.count()
        return [reading.at + 4]
    reading.at += 4
    if request.api not in (Api.ADD_PARTITIONS_TO_TXN, Api.TXN_OFFSET_COMMIT):
        return [reading.at]
    found: list[int] = []
    for _topic in range(reading.count()):
        reading.text()
        for _partition in range(reading.count()):
            found.append(reading.at + 4)
            reading.at += 6
            reading.tags()
        reading.tags()
    return found


class _Reading:
    """A place in an answer, and what stands there."""

    def __init__(self, answer: bytes, at: int, *, flexible: bool) -> None:
        self.answer = answer
        self.at = at
        self.flexible = flexible

    def count(self) -> int:
        if self.flexible:
            return self._varint() - 1
        self.at += 4
        return int.from_bytes(self.answer[self.at - 4 : self.at])

    def text(self) -> None:
        if self.flexible:
            length = self._varint() - 1
            self.at += length
        else:
            self.at += 2 + int.from_bytes(self.answer[self.at : self.at + 2])

    def tags(self) -> None:
        if self.flexible:
            assert self._varint() == 0, "expected no tags"

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.answer[self.at]
            self.at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


async def _send(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)
    with contextlib.suppress(ConnectionError):
        await writer.drain()
