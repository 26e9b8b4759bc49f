"""Which of many like log lines are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.bus import sampling
from antiphon.bus.retry import RetryPolicy
from antiphon.bus.sampling import Sampler, kind_of
from antiphon.schemas.event import Event
from antiphon.testing.waiting import eventually
from tests.bus.placing import Placed, World, consumer


def test_the_first_of_a_second_are_written_and_then_some() -> None:
    """Another second begins anew, and says what was left out before; another kind is counted by itself."""
    now_s = 7.0
    sampler = Sampler(most=3, clock_s=lambda: now_s)

    first = [sampler.left_out("down") for _ in range(8)]
    other = sampler.left_out("up")
    now_s = 8.5
    later = [sampler.left_out("down") for _ in range(2)]

    assert (first, other, later) == ([0, 0, 0, None, None, 2, None, None], 0, [2, 0])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=200), st.integers(1, 5))
def test_every_line_is_written_or_counted(lines: list[tuple[str, int]], most: int) -> None:
    """Of each kind: what was written, what that said was left out, and at most one less than a round of the last ones."""
    now_s = 0
    sampler = Sampler(most=most, clock_s=lambda: float(now_s))
    said = dict.fromkeys("abc", 0)
    for kind, seconds in lines:
        now_s += seconds
        left_out = sampler.left_out(kind)
        if left_out is not None:
            said[kind] += 1 + left_out

    for kind, told in said.items():
        assert 0 <= sum(of == kind for of, _ in lines) - told < most


def test_a_kind_is_the_line_that_raises() -> None:
    """Whatever the error says, and whatever led there."""

    def one(seat: int) -> None:
        raise LookupError(seat)

    def other() -> None:
        raise LookupError(1)

    def raised(seat: int | None) -> LookupError:
        try:
            other() if seat is None else one(seat)
        except LookupError as error:
            return error
        raise AssertionError

    assert kind_of(raised(1)) == kind_of(raised(2))
    assert kind_of(raised(1)) != kind_of(raised(None))
    assert kind_of(LookupError(1)) == kind_of(LookupError(2))


async def test_a_flood_of_retries_is_told_of_in_samples(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred lines and one for each further hundred, which say for how many; what is set aside is told each time."""
    monkeypatch.setattr(sampling, "monotonic", lambda: 0.0)

    async def fails(event: Placed) -> list[Event]:
        raise LookupError(event.n)

    async def are_aside() -> bool:
        return len(await world.records("under-test.dead")) == 350

    async with world.running(consumer(fails, retry=RetryPolicy(attempts=2, base_s=0.0))):
        await world.place(*range(350))
        await eventually(are_aside, 20, what="every event to be set aside")

    retries = [line for line in caplog.records if line.message == "handler failed; will retry"]
    letters = [line for line in caplog.records if line.message == "an event was set aside"]
    assert [line.__dict__.get("left_out", 0) for line in retries] == [0] * 100 + [99, 99]
    assert len(letters) == 350
    assert [entry.outcome for entry in await world.handled()].count("retried") == 350
