"""Between the polling thread and the event loop nothing is lost, repeated or reordered."""

from __future__ import annotations

import asyncio

import pytest

from antiphon.bus.errors import MemberFailedError
from antiphon.bus.kafka.inbox import Inbox
from antiphon.bus.kafka.ownership import Ownership
from antiphon.bus.port import Assigned, Lost, Records, Taken
from antiphon.bus.record import Record, TopicPartition

P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)


def records(partition: int, *offsets: int) -> list[Record]:
    return [Record("orders", partition, offset, None, None, [], 0) for offset in offsets]


def inbox(room: int = 100, room_bytes: int = 1_000_000) -> tuple[Inbox, list[str]]:
    said: list[str] = []
    return Inbox(Ownership(), room, room_bytes, lambda: said.append("room")), said


async def test_order() -> None:
    """As it was put."""
    box, _ = inbox()
    taken: list[Taken] = [Assigned({P0: None}), Lost(frozenset({P0}))]
    for one in taken:
        box.put(one)
    assert [await box.take(), await box.take()] == taken


async def test_a_waiting_taker_is_woken_from_another_thread() -> None:
    """It sleeps meanwhile, and a taker that was cancelled takes nothing along."""
    box, _ = inbox()
    given_up = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    given_up.cancel()
    waiting = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    await asyncio.to_thread(box.put, Records(records(0, 1)))
    assert await waiting == Records(records(0, 1))


async def test_records_of_a_paused_partition_come_first_once_resumed() -> None:
    """Those of others are not kept waiting."""
    box, _ = inbox()
    box.pause([P0])
    box.put(Records(records(0, 1, 2) + records(1, 7)))
    box.put(Records(records(0, 3) + records(1, 8)))
    quiet = [await box.take(), await box.take()]
    box.put(Records(records(0, 4)))
    box.resume([P0])
    assert quiet == [Records(records(1, 7)), Records(records(1, 8))]
    assert [await box.take(), await box.take()] == [Records(records(0, 1, 2, 3)), Records(records(0, 4))]


async def test_void_records_never_come() -> None:
    """Neither those waiting nor those held back; others stay."""
    box, _ = inbox()
    box.pause([P0])
    box.put(Records(records(0, 1)))
    box.put(Records(records(0, 2) + records(1, 7)))
    assert await box.take() == Records(records(1, 7))
    box.put(Records(records(0, 3) + records(1, 8)))
    box.void([P0])
    box.resume([P0])
    assert await box.take() == Records(records(1, 8))


async def test_full_and_room_again() -> None:
    """Whoever puts is told once, when it is worth going on."""
    box, said = inbox(room=3)
    box.put(Records(records(0, 1, 2)))
    box.put(Records(records(0, 3)))
    full = box.full
    await box.take()
    await box.take()
    assert (full, box.full, said) == (True, False, ["room"])


async def test_full_by_bytes() -> None:
    """A few large records fill it as many small ones do; what is held back or void takes no room."""
    box, said = inbox(room_bytes=3_000)
    large = [Record("orders", 0, offset, None, b"x" * 1_000, [("h", b"y" * 500)], 0) for offset in range(2)]
    box.put(Records(large), 3_000)
    full = box.full
    box.void([P0])
    voided = box.full
    box.put(Records(large), 3_000)
    box.pause([P0])
    waiting = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    held = box.full
    box.resume([P0])
    assert (full, voided, held, box.full, said) == (True, False, False, True, ["room"])
    assert await waiting == Records(large)


async def test_failure_comes_after_what_is_there() -> None:
    """And stays: a member that failed once does not recover."""
    box, _ = inbox()
    box.put(Records(records(0, 1)))
    box.fail(MemberFailedError("stock", "first"))
    box.fail(MemberFailedError("stock", "second"))
    assert await box.take() == Records(records(0, 1))
    for _again in range(2):
        with pytest.raises(MemberFailedError, match="first"):
            await box.take()
