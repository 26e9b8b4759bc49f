"""Which past handlings are meant: every filter alone, and what they have in common."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from antiphon.replay.choice import Choice, Span
from antiphon.replay.pace import Pace
from antiphon.replay.reading import fitting, read_recording
from antiphon.schemas.condition import Condition
from antiphon.testing.mesh import MemoryMesh
from tests.replay.claims import recorded


async def told(mesh: MemoryMesh, choice: Choice) -> list[tuple[str, str]]:
    """Return what *choice* means, read anew: agent and event type."""
    found = await read_recording(mesh.bus, mesh.names, mesh.codec, choice)
    fits = await fitting(found, choice.where, mesh.codec) if choice.where else None
    return sorted((one.agent, one.entry.event_type) for one in choice.of(found.handlings, fits))


CHOICES: list[tuple[Choice, Collection[tuple[str, str]]]] = [
    (Choice(dead=True), [("payer", "claim.filed")]),
    (Choice(failed=True), [("checker", "claim.filed"), ("payer", "claim.filed")]),
    (Choice(where=(Condition.parse("amount>100"),)), [("checker", "claim.filed"), ("payer", "claim.filed")]),
    (
        Choice(where=(Condition.parse("amount<2"), Condition.parse("claim=c0")), agents=frozenset({"payer"})),
        [("payer", "claim.filed")],
    ),
    (
        Choice(where=(Condition.parse("amount<100"),), agents=frozenset({"payer"}), last=1),
        [("payer", "claim.filed")] * 2,
    ),
    (Choice(spans=(Span("claim.noted", None, 0, None),)), [("joined", "claim.noted")] * 2),
    (Choice(spans=(Span("claim.noted", None, 0, 1),)), [("joined", "claim.noted")]),
    (Choice(spans=(Span("claim.noted", 7, 0, None),)), []),
]


@pytest.mark.parametrize(("choice", "expected"), CHOICES)
async def test_each_filter_means_what_it_says(
    mesh: MemoryMesh, choice: Choice, expected: Collection[tuple[str, str]]
) -> None:
    """Alone and together; the latest workflows are those of what fits."""
    assert await told(mesh, choice) == expected


async def test_an_event_that_cannot_be_read_fits_nothing(mesh: MemoryMesh) -> None:
    """Nobody knows what is in it."""
    found = await recorded(mesh)
    for record in found.events.values():
        record.value = b"spoilt"

    assert await fitting(found, [Condition.parse("amount!=7")], mesh.codec) == set()


async def test_a_pace_lets_each_go_when_it_is_due() -> None:
    """By the clock of then, made faster; never more a second than was said."""
    now, slept = [100.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        now[0] += seconds

    pace = Pace(speed=10, rate=2, clock_s=lambda: now[0], sleep=sleep)
    for happened_s in (0, 1, 60, 60):
        await pace.next(happened_s * 1_000_000)
    assert slept == [0.5, 5.5]
