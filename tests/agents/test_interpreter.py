"""What a worker's process asks of its interpreter."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from antiphon.agents import interpreter
from antiphon.testing.waiting import eventually


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """It is the whole process that is told: put it back."""
    thresholds, interval_s = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval_s)


class Answer:
    """Something that a handler made, and that knows itself."""

    itself: Any


async def test_what_is_in_a_cycle_does_not_wait_for_more_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that makes little may make large things: they go though far fewer objects are there than are waited for."""
    monkeypatch.setattr(interpreter, "_SWEEP_S", 0.01)
    async with interpreter.settled():
        answer = Answer()
        answer.itself = answer
        seen = weakref.ref(answer)
        del answer
        await eventually(lambda: seen() is None, 10, what="the cycle to be found")
