"""Every public name, used as a user would. Never run: mypy and basedpyright read it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import assert_type

from antiphon import Agent, Context, Event, Mesh, PermanentError, Published, RetryPolicy, Saga, Step, Worker, agent
from antiphon.schemas.budget import Budget
from antiphon.testing.context import context


class Placed(Event, type="order.placed", key="order"):
    order: str


class Reserved(Event):
    order: str


class Missing(Event, fails=True):
    order: str


class Opened(Event):
    order: str


class Released(Event):
    order: str


@agent
async def reserve(order: Placed) -> Reserved | None:
    return Reserved(order=order.order)


@agent(name="streaming", version="1", concurrency=5, retry=RetryPolicy(attempts=3), timeout=1.5)
async def stream(order: Placed, context: Context) -> AsyncIterator[Reserved]:
    context.log.info("heard", order=order.order)
    yield Reserved(order=order.order)


stock = Agent("stock", version="1.2.0", concurrency=200, guarantee="at_least_once", state_expires=timedelta(days=7))


@stock.on(Placed)
def check(order: Placed, context: Context) -> Reserved | Missing:
    if context.attempt > 1:
        raise PermanentError(order.order)
    context.state["seen"] = context.once_sync("look", lambda: 1)
    context.spend(model="small", input_tokens=1, output_tokens=1, cost=0.1)
    context.confidence(0.9)
    return Missing(order=order.order)


@stock.undoes(Reserved)
async def release(reserved: Reserved, context: Context) -> Released:
    assert_type(await context.once("call", lambda: 7), int)
    assert_type(context.remaining(), float | None)
    assert_type(context.budget, Budget | None)
    assert_type(context.now(), datetime)
    return Released(order=reserved.order)


async def use() -> None:
    """A decorated function keeps its type."""
    assert_type(await reserve(Placed(order="7")), Reserved | None)
    assert_type(check(Placed(order="7"), context()), Reserved | Missing)
    assert_type(await release(Reserved(order="7"), context(attempt=2)), Released)
    async for event in stream(Placed(order="7"), context()):
        assert_type(event, Reserved)


def asked(placed: Opened) -> Released:
    """What a saga asks for."""
    return Released(order=placed.order)


def is_done(reserved: Reserved) -> bool:
    """Whether a step is taken."""
    return bool(reserved.order)


saga = Saga(
    "order",
    version="1",
    starts=Opened,
    steps=[Step("release", action=asked, done=Reserved, kind="retriable", timeout=5, repeat_while=is_done)],
)


async def publish() -> None:
    """An application's side."""
    async with Mesh() as mesh:
        assert_type(await mesh.publish(Placed(order="7"), key="7"), Published)
        assert_type(await mesh.request(Placed(order="7"), until=Reserved, timeout=30), Reserved)


def worker(run: Worker) -> None:
    """Running agents from one's own program."""
    run.stop()
