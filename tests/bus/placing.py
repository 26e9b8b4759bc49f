"""What the tests of the engine are about: an agent that is told `Placed` and says `Done`, and a world to run it in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from antiphon.bus.consumer import Consumer
from antiphon.bus.middleware.lineage import lineage
from antiphon.bus.retry import RetryPolicy
from antiphon.schemas.event import Event
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

QUICK = RetryPolicy(attempts=3, base_s=0.001, cap_s=0.002)


class Placed(Event, type="test.placed"):
    n: int = 0


class Done(Event, type="test.done"):
    n: int = 0


def consumer(function: Callable[[Any], Awaitable[Iterable[Event]]], name: str = "under-test", **more: Any) -> Consumer:
    """Make a consumer that hears `Placed` and may emit `Done`."""

    async def handler(event: Event) -> list[Event]:
        return [*await function(event)]

    hears = {"test.placed": Placed}
    return Consumer(name=name, hears=hears, emits=frozenset({Done}), handler=lineage(name)(handler), **more)


class World(MemoryMesh):
    """The mesh, with words of these tests' own."""

    async def place(self, *numbers: int, key: str | None = None) -> None:
        for n in numbers:
            await self.publish(Placed(n=n), key=key)

    async def numbers(self) -> list[int]:
        return sorted(event.n for _, event in await self.events(Done))

    async def until_done(self, *numbers: int) -> None:
        """Wait until exactly these `Done` events are committed."""

        async def there() -> bool:
            return await self.numbers() == sorted(numbers)

        await eventually(there, 10, what=f"Done {sorted(numbers)}")


async def answer(event: Placed) -> list[Event]:
    return [Done(n=event.n)]
