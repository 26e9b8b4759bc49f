"""What an operator is told of a word that came too late."""

from __future__ import annotations

import pytest

from antiphon.bus.intervention import Act
from antiphon.compensation.reading import Seen, overruled
from antiphon.testing.facts import did, said, told, undid

PARKED = [did("root", "a+"), did("a+", "failed!"), undid("a+", outcome="dead_lettered")]
OTHER = said(Act.SKIP).model_copy(update={"actor": "bob", "reason": "by hand"})


@pytest.mark.parametrize(
    ("act", "first", "instead"),
    [
        (Act.SKIP, OTHER, "skipped by bob: by hand"),
        (Act.SKIP, undid("a+"), "it is compensated"),
        (Act.SKIP, None, None),
        (Act.CANCEL, OTHER, "failed, said by agent"),
        (Act.RETRY, OTHER, None),
    ],
)
def test_somebody_else_was_first(act: Act, first: object, instead: str | None) -> None:
    """What was decided, or how it stands; nothing where the word was heard, or may yet be."""
    mine = said(act)
    facts = [*PARKED, *([first] if first else []), mine]
    kept, _ = told(facts)  # type: ignore[arg-type]  # facts and words of operators
    assert overruled(mine, Seen(kept)) == instead


def test_a_cancelled_workflow_was_cancelled() -> None:
    """By whoever was the first to say so."""
    mine = said(Act.CANCEL)
    kept, _ = told([did("root", "a+"), did("b", "c"), mine])
    assert overruled(mine, Seen(kept)) is None
