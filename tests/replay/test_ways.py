"""What holds of handling again whether handlers run alone or in workers of a sandbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from antiphon import Agent, Context
from antiphon.replay.compare import Rules
from antiphon.replay.compared import Compared
from antiphon.replay.effects import Effects
from antiphon.replay.errors import CandidateError, UnrecordedEffectError
from antiphon.testing.mesh import MemoryMesh
from tests.replay.claims import ClaimClosed, ClaimFiled, ClaimPaid, again, fired, in_sandbox, pay

Way = Callable[..., Awaitable[list[Compared]]]


@pytest.mark.parametrize("way", [again, in_sandbox])
async def test_a_side_effect_without_a_record_does_not_run(way: Way, mesh: MemoryMesh) -> None:
    """As recorded its handling fails with the effect's name; forbidden it ends the replay; live it runs."""
    other, ran = Agent("payer"), list[str]()

    @other.on(ClaimFiled)
    async def pay_twice(filed: ClaimFiled, context: Context) -> ClaimPaid:
        await context.once("mail", lambda: ran.append("mail"))
        return await pay(filed, context)

    failing = await way(mesh, other.consumer())
    with pytest.raises(UnrecordedEffectError, match="'mail' of payer"):
        await way(mesh, other.consumer(), effects=Effects.FORBID)
    assert ran == []
    assert [one.raised.type for one in failing if one.raised] == ["UnrecordedEffectError"] * 3

    count = len(fired)
    await way(mesh, other.consumer(), effects=Effects.LIVE, rules=Rules(ignore=("receipt",)))
    assert (ran, len(fired)) == (["mail"] * 3, count + 2)


@pytest.mark.parametrize("way", [again, in_sandbox])
async def test_a_candidate_that_is_deaf_is_refused(way: Way, mesh: MemoryMesh) -> None:
    """Before anything runs or is made, with what it should hear."""
    other = Agent("payer")

    @other.on(ClaimClosed)
    async def ignore(closed: ClaimClosed) -> None: ...

    before = await mesh.bus.topics()
    with pytest.raises(CandidateError, match=r"expected payer to hear claim\.filed.*hears claim\.closed"):
        await way(mesh, other.consumer())
    assert await mesh.bus.topics() == before
