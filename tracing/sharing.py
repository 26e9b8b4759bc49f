"""Which partitions a tracer reads, where several share an index: a consumer group deals them out.

The group moves no offset: it only says who reads what, and where to go on
stands in the index. A tracer that is given a partition reads on from there; one
that has lost it may still read a little of it, which changes nothing.

The group deals out the partitions of the activity topic. Whoever has number
*n* of it reads number *n* of every topic, which is where the same workflows are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid

from antiphon.bus.names import ACTIVITY, Names
from antiphon.bus.port import Assigned, Bus, Lost, Member, Membership, Revoked

_GROUP = "antiphon.tracer."
_FIRST_S = 30.0


class Share:
    """A tracer's place among those that share an index."""

    def __init__(self, bus: Bus, names: Names, *, index: str, instance: str | None = None) -> None:
        """*index*: what tells the index from others; those of one index are one group. *instance*: this tracer's name there."""
        self._bus = bus
        self._topic = names.topic(ACTIVITY)
        self._group = names.topic(f"{_GROUP}{index}")
        self._instance = instance or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._width = 1
        self._owned: set[int] = set()
        self._member: Member | None = None
        self._taking: asyncio.Task[None] | None = None
        self._dealt = asyncio.Event()
        self.turns = 0
        """How often it was given or lost some."""

    def has(self, partition: int) -> bool:
        """Say whether that number of every topic is for this tracer to read."""
        return partition % self._width in self._owned

    @property
    def partitions(self) -> frozenset[int]:
        return frozenset(self._owned)

    async def join(self) -> None:
        """Be a member, and know what there is to read; at once where it is one already. Raises `BusError`."""
        if self._taking is not None and self._taking.done():
            taking, self._taking = self._taking, None
            await self.leave()
            taking.result()
        if self._taking is None:
            self._width = (await self._bus.topics()).get(self._topic, 1)
            membership = Membership(
                group=self._group, topics=(self._topic,), instance=self._instance, exactly_once=False
            )
            self._member = await self._bus.join(membership)
            self._taking = asyncio.create_task(self._take(self._member))
        if not self._dealt.is_set():
            waiting = asyncio.ensure_future(self._dealt.wait())
            # More tracers than partitions: one of them has none, and stands by.
            await asyncio.wait([waiting, self._taking], timeout=_FIRST_S, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    async def _take(self, member: Member) -> None:
        while True:
            match await member.take():
                case Assigned(partitions):
                    # They stay paused: what stands there is read without the group.
                    self._turn({*self._owned, *(place.partition for place in partitions)})
                    self._dealt.set()
                case Revoked(partitions, release):
                    self._turn(self._owned - {place.partition for place in partitions})
                    release()
                case Lost(partitions):
                    self._turn(self._owned - {place.partition for place in partitions})
                case _:
                    pass

    def _turn(self, owned: set[int]) -> None:
        self._owned = owned
        self.turns += 1

    async def leave(self) -> None:
        """Leave the group, so that the others take over at once."""
        if self._taking is not None:
            self._taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._taking
            self._taking = None
        if self._member is not None:
            member, self._member = self._member, None
            await member.close()
        self._turn(set())
        self._dealt.clear()
