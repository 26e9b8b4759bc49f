"""Which workflows are exported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.tracing.spans.sampling import Facts, Reason, Sampling, chosen
from antiphon.tracing.state import State


def facts(**told: object) -> Facts:
    """A workflow of which nothing is remarkable but what is told."""
    plain: dict[str, object] = {
        "correlation_id": "7",
        "state": State.COMPLETED,
        "duration_us": 1_000,
        "cost": {"USD": 0.1},
    }
    return Facts(**{**plain, **told})  # type: ignore[arg-type]


NOTHING = Sampling(share=0.0)


@pytest.mark.parametrize(
    ("sampling", "workflow", "reason"),
    [
        (NOTHING, facts(), None),
        (Sampling(), facts(), Reason.SHARE),
        (NOTHING, facts(state=State.FAILED), Reason.FAILED),
        (NOTHING, facts(state=State.COMPENSATED), Reason.FAILED),
        (NOTHING, facts(state=State.PARKED), Reason.FAILED),
        (NOTHING, facts(state=State.STALLED), None),
        (NOTHING, facts(duration_us=60_000_000), None),
        (NOTHING, facts(duration_us=60_000_001), Reason.SLOW),
        (Sampling(share=0.0, slow_s=None), facts(duration_us=1 << 50), None),
        (NOTHING, facts(cost={"EUR": 0.2, "USD": 1.01}), Reason.COSTLY),
        (Sampling(share=0.0, costly=None), facts(cost={"USD": 1e6}), None),
        (NOTHING, facts(confidence=0.5), None),
        (NOTHING, facts(confidence=0.49), Reason.UNSURE),
        (Sampling(share=0.0, unsure=None), facts(confidence=0.0), None),
    ],
)
def test_what_is_kept_and_why(sampling: Sampling, workflow: Facts, reason: Reason | None) -> None:
    """What failed, was slow, dear or unsure always; of the rest a share."""
    assert sampling.keeps(workflow) is reason


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_has_all_of_a_smaller_one(id: str, one: float, other: float) -> None:
    """So a share can be changed, and two tracers may differ in it, without tearing traces."""
    small, large = sorted((one, other))
    assert chosen(id, large) or not chosen(id, small)
    assert chosen(id, 1.0)
    assert not chosen(id, 0.0)
