import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from antiphon.schemas.ids import caused_id, root_id

PARENTS = st.uuids().map(str) | st.text(max_size=40)
AGENTS = st.text(max_size=20)
ORDINALS = st.integers(0, 10_000)


def test_root_ids_are_of_version_7_and_sort_by_time() -> None:
    """Index and topics keep the order in which workflows began."""
    before = time.time_ns() // 1_000_000
    ids = [root_id() for _ in range(100)]
    after = time.time_ns() // 1_000_000

    assert len({*ids}) == 100
    for id in ids:
        made = uuid.UUID(id)
        assert (str(made), made.version, made.variant) == (id, 7, uuid.RFC_4122)
        assert before <= made.int >> 80 <= after


@given(PARENTS, AGENTS, ORDINALS)
def test_the_same_cause_gives_the_same_id(parent: str, agent: str, ordinal: int) -> None:
    """A redelivery or a replay emits what is known already; anything as a parent's id will do."""
    made = caused_id(parent, agent, ordinal)

    assert made == caused_id(parent, agent, ordinal)
    parsed = uuid.UUID(made)
    assert (str(parsed), parsed.version, parsed.variant) == (made, 8, uuid.RFC_4122)


@given(
    st.sets(
        st.tuples(PARENTS, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), ORDINALS),
        max_size=50,
    )
)
def test_another_cause_gives_another_id(causes: set[tuple[str, str, int]]) -> None:
    """By parent, by agent, and by place among what one handler returned."""
    causes = {cause for cause in causes if "\0" not in cause[0]}
    assert len({caused_id(*cause) for cause in causes}) == len(causes)


def test_a_workflow_s_ids_lie_together() -> None:
    """The time bits are the parent's, all the way down."""
    id = root = root_id()
    for _ in range(5):
        id = caused_id(id, "triage", 0)
    assert id[:13] == root[:13]
