"""A group member with somebody who takes for it, for tests that ask what came."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from antiphon.bus.port import Assigned, Jumped, Lost, Member, Records, Revoked
from antiphon.bus.record import Committed, Record, TopicPartition
from antiphon.testing.waiting import eventually


class Reading:
    """Takes whatever *member* gives, from entering the context until leaving it; then the member is closed.

    Assigned partitions are resumed and revoked ones released at once, unless
    *resumes* or *releases* says not to.
    """

    def __init__(self, member: Member, *, resumes: bool = True, releases: bool = True) -> None:
        self.member = member
        self.records: list[Record] = []
        """Everything taken, in the order it came."""
        self.owned: dict[TopicPartition, Committed | None] = {}
        """What is assigned now, with what was committed when it was."""
        self.changes: list[Assigned | Revoked | Lost] = []
        """Everything else that was taken, in the order it came."""
        self.jumps: list[Jumped] = []
        """Where reading went on elsewhere."""
        self._resumes = resumes
        self._releases = releases
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._take())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        await self.member.close()

    async def stop(self) -> None:
        """Take no more; the member stays in its group."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task

    async def until(self, condition: Callable[[], bool], what: str, *, timeout_s: float = 30.0) -> None:
        """Wait until *condition* holds; raises what ended the taking, should it have ended."""

        def holds() -> bool:
            if self._task is not None and self._task.done() and not self._task.cancelled():
                self._task.result()
            return condition()

        try:
            await eventually(holds, timeout_s, what=what)
        except TimeoutError as error:
            error.add_note(f"so far: {len(self.records)} records, changes {self.changes}")
            raise

    async def owns(self, partitions: Iterable[TopicPartition]) -> None:
        """Wait until *partitions*, and no others, are this member's."""
        wanted = set(partitions)
        await self.until(lambda: self.owned.keys() == wanted, f"the member to own {sorted(wanted)}")

    async def got(self, count: int) -> list[Record]:
        """Wait until *count* records have come, and return them all."""
        await self.until(lambda: len(self.records) >= count, f"{count} records to come")
        return self.records

    @property
    def offsets(self) -> dict[TopicPartition, list[int]]:
        """The offsets of what was taken, by partition, in the order they came."""
        found: dict[TopicPartition, list[int]] = {}
        for record in self.records:
            found.setdefault(TopicPartition(record.topic, record.partition), []).append(record.offset)
        return found

    @property
    def revoked(self) -> frozenset[TopicPartition]:
        """Everything this member was ever asked to give back."""
        return frozenset(
            partition for change in self.changes if isinstance(change, Revoked) for partition in change.partitions
        )

    @property
    def lost(self) -> frozenset[TopicPartition]:
        """Everything this member was ever told it has lost."""
        return frozenset(
            partition for change in self.changes if isinstance(change, Lost) for partition in change.partitions
        )

    def release(self) -> None:
        """Release whatever was revoked so far."""
        for change in self.changes:
            if isinstance(change, Revoked):
                self._release(change)

    async def _take(self) -> None:
        while True:
            taken = await self.member.take()
            if isinstance(taken, Records):
                self.records.extend(taken.records)
                continue
            if isinstance(taken, Jumped):
                self.jumps.append(taken)
                continue
            self.changes.append(taken)
            match taken:
                case Assigned(partitions):
                    self.owned.update(partitions)
                    if self._resumes:
                        self.member.resume([*partitions])
                case Revoked():
                    if self._releases:
                        self._release(taken)
                case Lost(partitions):
                    self._forget(partitions)

    def _release(self, revoked: Revoked) -> None:
        revoked.release()
        self._forget(revoked.partitions)

    def _forget(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self.owned.pop(partition, None)
