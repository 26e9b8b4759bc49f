"""A handler that blocks the event loop, and who notices."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from functools import partial

import pytest

from antiphon import Agent, Event
from antiphon.agents.watchdog import Watchdog
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually


class Asked(Event):
    n: int


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]


def told(caplog: pytest.LogCaptureFixture, text: str, times: int) -> bool:
    return len(lines(caplog, text)) == times


async def test_f07_a_handler_that_blocks_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """One warning for each blocking: the agent, the event, and the line the handler stands at; one when it is over."""
    caplog.set_level(logging.INFO)
    rude, handled = Agent("rude"), list[int]()

    @rude.on(Asked)
    async def hog(asked: Asked) -> None:
        # Longer than several limits, but no longer than it takes to be noticed.
        until_s = time.monotonic() + 20
        noticed = len(handled) + 1
        while time.monotonic() < until_s and len(lines(caplog, "is blocked")) < noticed:
            time.sleep(0.01)  # noqa: ASYNC251 - blocking is the point
        time.sleep(0.3)  # noqa: ASYNC251 - as above
        handled.append(asked.n)

    mesh = MemoryMesh(partitions=1)
    async with mesh.running(rude.consumer()) as worker, Watchdog(worker.in_hand, limit_s=0.1):
        for n in (1, 2):
            await mesh.publish(Asked(n=n), key="k")
            await eventually(partial(told, caplog, "goes on", n), what="the loop to go on")

    warnings = lines(caplog, "is blocked")
    ids = [entry.event_id for entry in await mesh.handled()]
    said = [vars(record) for record in warnings]
    assert [(one["levelname"], one["agent"], one["event_id"], one["offset"]) for one in said] == [
        ("WARNING", "rude", ids[0], 0),
        ("WARNING", "rude", ids[1], 1),
    ]
    assert all("in hog" in one["stack"] for one in said)
    assert [one["stack"].splitlines()[0].partition(" frames")[2] for one in said] == [" of antiphon left out]"] * 2
    assert not any("run_forever" in one["stack"] for one in said)
    assert all(vars(record)["blocked_s"] >= 0.3 for record in lines(caplog, "goes on"))


async def test_a_loop_that_answers_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Handlers that wait as they should, however long, are no news; and the thread ends with the worker."""
    patient = Agent("patient")

    @patient.on(Asked)
    async def wait(asked: Asked) -> None:
        await asyncio.sleep(0.5)

    mesh = MemoryMesh()
    async with mesh.running(patient.consumer()) as worker, Watchdog(worker.in_hand, limit_s=0.2):
        await mesh.publish(*(Asked(n=n) for n in range(3)))

        async def done() -> bool:
            return len(await mesh.handled()) == 3

        await eventually(done, what="all to be handled")
    await eventually(
        lambda: not any(thread.name == "antiphon-watchdog" for thread in threading.enumerate()),
        what="the thread to end",
    )

    assert lines(caplog, "is blocked") == []


async def test_what_blocks_need_not_be_a_handler(caplog: pytest.LogCaptureFixture) -> None:
    """A callback of a library blocks as well; then the stack alone says who."""
    async with Watchdog(lambda task: None, limit_s=0.1):
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s and not lines(caplog, "is blocked"):
            time.sleep(0.01)  # noqa: ASYNC251 - blocking is the point

    [warning] = lines(caplog, "is blocked")
    assert "test_what_blocks_need_not_be_a_handler" in vars(warning)["stack"]
    assert "agent" not in vars(warning)
