"""Waiting under a deadline, and time that passes at once."""

import asyncio

import pytest

from antiphon.testing import eventually
from antiphon.testing.virtual import run_virtually


async def test_returns_what_the_condition_found() -> None:
    """The first true value, of a function or of a coroutine function."""
    found: list[str] = []

    async def there() -> list[str]:
        found.append("event")
        return found if len(found) == 3 else []

    assert await eventually(there) == ["event"] * 3
    assert await eventually(lambda: found) is found


def test_says_what_did_not_come() -> None:
    """A test that fails at its deadline must say what it waited for."""
    with pytest.raises(TimeoutError, match=r"expected the order to ship within 600 s, and it did not"):
        run_virtually(eventually(lambda: False, 600, what="the order to ship"))


def test_virtual_time_keeps_the_order_of_timers() -> None:
    """An hour is as good as a second, but for what comes first."""
    done: list[str] = []

    async def after(seconds: float, name: str) -> None:
        await asyncio.sleep(seconds)
        done.append(name)

    async def race() -> None:
        await asyncio.gather(after(3600, "hour"), after(1, "second"), after(60, "minute"))

    run_virtually(race())
    assert done == ["second", "minute", "hour"]


def test_a_simulation_that_stands_still_says_so() -> None:
    """Nothing outside can ever wake it, so waiting would be for ever."""

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="stands still"):
        run_virtually(wait())
