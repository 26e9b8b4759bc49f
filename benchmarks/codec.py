"""What it costs to write and to read one event of seven fields, beside fastavro alone on the same data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from io import BytesIO
from uuid import UUID

from pydantic import Field

from antiphon.schemas import binary
from antiphon.schemas.avro import schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.event import Event
from antiphon.schemas.store import MemoryStore


class Plain(Event):
    """Fields that go to fastavro as they stand."""

    order_id: str
    customer: str
    number: int
    weight: float
    express: bool
    note: str
    total: int


class Rich(Event):
    """Fields that Avro writes as something else."""

    order_id: str
    note: str | None = None
    at: datetime
    total: Decimal = Field(max_digits=10, decimal_places=2)
    customer: UUID
    tags: list[str]
    number: int


EVENTS: tuple[Event, ...] = (
    Plain(
        order_id="A-7", customer="Ada", number=7, weight=1.5, express=True, note="ring twice " * 3, total=123_456_789
    ),
    Rich(
        order_id="A-7",
        at=datetime(2026, 11, 22, 10, tzinfo=UTC),
        total=Decimal("19.90"),
        customer=UUID("0199f2c1-0000-7000-8000-000000000000"),
        tags=["a", "b"],
        number=7,
    ),
)


def microseconds(work: Callable[[], object], times: int = 5_000, rounds: int = 7) -> float:
    """Return the best of a few rounds: what it costs while nobody else has the processor."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(times):
            work()
        best = min(best, time.perf_counter() - start)
    return best / times * 1e6


async def main() -> None:
    codec = Codec(MemoryStore())
    await codec.announce(type(event) for event in EVENTS)
    for event in EVENTS:
        value = codec.encode(event)
        schema, _ = binary.parse(schema_of(type(event)))
        data = event.__dict__

        def raw_write(schema: object = schema, data: object = data) -> None:
            binary.write(BytesIO(), schema, data)

        def raw_read(schema: object = schema, avro: bytes = value[10:]) -> object:
            return binary.read(BytesIO(avro), schema, None)

        write = microseconds(partial(codec.encode, event))
        read = microseconds(partial(codec.decode, type(event), value))
        print(
            f"{type(event).__name__:6} encode {write:5.1f} us ({write / microseconds(raw_write):.2f} x fastavro alone)"
            f"   decode {read:5.1f} us ({read / microseconds(raw_read):.2f} x)"
        )


if __name__ == "__main__":
    asyncio.run(main())
