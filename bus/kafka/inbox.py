"""Between a member's polling thread and the event loop: what was taken, until somebody takes it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import TypeAlias

from antiphon.bus.errors import BusError
from antiphon.bus.kafka.ownership import Ownership
from antiphon.bus.port import Assigned, Lost, Records, Taken
from antiphon.bus.record import Record, TopicPartition, size_of

Waiter: TypeAlias = "asyncio.Future[None]"


class Inbox:
    """A queue with one taker. Nothing put is lost; whoever puts looks at `full` first.

    Records of paused partitions are held back when it is their turn, and come
    first once resumed. Some are kept so rather than fetched again: a client that
    is paused drops what it has fetched ahead.
    """

    def __init__(self, ownership: Ownership, room: int, room_bytes: int, on_room: Callable[[], None]) -> None:
        self._ownership = ownership
        self._room = room
        self._room_bytes = room_bytes
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._items: deque[tuple[Taken, int]] = deque()
        """What is to be taken, with the term that an `Assigned` begins, or the bytes of `Records`."""
        self._waiting = 0
        self._waiting_bytes = 0
        self._paused: set[TopicPartition] = set()
        self._held: dict[TopicPartition, list[Record]] = {}
        self._held_bytes: dict[TopicPartition, int] = {}
        self._waiter: Waiter | None = None
        self._failure: BusError | None = None

    # The polling thread's side.

    @property
    def full(self) -> bool:
        return self._waiting >= self._room or self._waiting_bytes >= self._room_bytes

    def put(self, taken: Taken, number: int = 0) -> None:
        """Queue *taken*; *number* is the term that an `Assigned` begins, or the bytes of `Records`."""
        with self._lock:
            if isinstance(taken, Records):
                self._waiting += len(taken.records)
                self._waiting_bytes += number
            self._items.append((taken, number))
            self._wake()

    def void(self, partitions: Collection[TopicPartition]) -> None:
        """Drop the records of *partitions* that nobody has taken."""
        with self._lock:
            for partition in partitions:
                self._held.pop(partition, None)
                self._held_bytes.pop(partition, None)
            kept: deque[tuple[Taken, int]] = deque()
            self._waiting = self._waiting_bytes = 0
            for taken, number in self._items:
                if not isinstance(taken, Records):
                    kept.append((taken, number))
                    continue
                left = [record for record in taken.records if (record.topic, record.partition) not in partitions]
                if left:
                    size = sum(map(size_of, left))
                    self._waiting += len(left)
                    self._waiting_bytes += size
                    kept.append((Records(left), size))
            self._items = kept

    def holds_enough(self, partition: TopicPartition) -> bool:
        """Say whether no more of a paused *partition* is to be fetched for when it is resumed."""
        with self._lock:
            return (
                2 * len(self._held.get(partition, ())) >= self._room
                or sum(map(len, self._held.values())) >= self._room
                or sum(self._held_bytes.values()) >= self._room_bytes
            )

    def fail(self, error: BusError) -> None:
        """Have the taker raise *error* once it has taken what is there. The first one counts."""
        with self._lock:
            self._failure = self._failure or error
            self._wake()

    # The event loop's side.

    async def take(self) -> Taken:
        """Return what is next; raises what `fail` was told when nothing is left."""
        while True:
            with self._lock:
                taken = self._next()
                if taken is not None:
                    return taken
                if self._failure is not None:
                    raise self._failure
                self._waiter = waiter = self._loop.create_future()
            await waiter

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Hold back records of *partitions*."""
        with self._lock:
            self._paused.update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Let records of *partitions* through again, those held back first."""
        with self._lock:
            self._paused.difference_update(partitions)
            held = [record for partition in partitions for record in self._held.pop(partition, ())]
            if held:
                size = sum(self._held_bytes.pop(partition, 0) for partition in partitions)
                self._waiting += len(held)
                self._waiting_bytes += size
                self._items.appendleft((Records(held), size))
                self._wake()

    def _next(self) -> Taken | None:
        while self._items:
            taken, number = self._items.popleft()
            match taken:
                case Records(records):
                    was_full = self.full
                    self._waiting -= len(records)
                    self._waiting_bytes -= number
                    if was_full and not self.full:
                        self._on_room()
                    if self._paused and not (records := self._let_through(records)):
                        continue
                    return Records(records)
                case Assigned(partitions):
                    self._ownership.tell(partitions, number)
                    self._paused.update(partitions)
                case Lost(partitions):
                    self._ownership.untell(partitions)
                    self._paused.difference_update(partitions)
                case _:
                    pass
            return taken
        return None

    def _let_through(self, records: Collection[Record]) -> list[Record]:
        through: list[Record] = []
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            if partition in self._paused:
                self._held.setdefault(partition, []).append(record)
                self._held_bytes[partition] = self._held_bytes.get(partition, 0) + size_of(record)
            else:
                through.append(record)
        return through

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            # A loop that has been closed waits for nothing.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_resolve, waiter)


def _resolve(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)
