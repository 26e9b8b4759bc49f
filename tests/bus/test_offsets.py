"""What is committed, and what a restart makes of it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.bus.offsets import METADATA_LIMIT, Progress, Run, decode, encode
from antiphon.bus.record import Committed


def taken(*offsets: int, committed: Committed | None = None) -> Progress:
    progress = Progress.from_committed(committed)
    for offset in offsets:
        progress.take(offset)
    return progress


def handed_out(committed: Committed, log: list[int]) -> list[int]:
    """Return what a member that starts from *committed* hands to its handler of a whole *log*."""
    progress = Progress.from_committed(committed)
    return [offset for offset in log if offset >= committed.offset and progress.take(offset)]


def test_in_order_the_metadata_stays_empty() -> None:
    """The usual case costs a commit nothing, and tools that look at the group see plain offsets."""
    progress = taken(10, 11, 12)
    progress.finish(10)
    progress.finish(11)
    assert progress.committed() == Committed(12)


def test_one_past_the_last_when_all_is_finished() -> None:
    """Lag is nought when there is nothing to do."""
    progress = taken(10, 12)
    progress.finish(12)
    progress.finish(10)
    assert progress.committed() == Committed(13)


def test_nothing_taken_yet() -> None:
    """Committing before the first record moves nothing, and forgets nothing."""
    before = Committed(7, encode(7, [(9, 12)]))
    assert (Progress.from_committed(before).committed(), Progress.from_committed(None).committed()) == (
        before,
        Committed(0),
    )


def test_offset_comes_twice() -> None:
    """Only the first coming counts, whether it is finished by then or not."""
    progress = taken(1, 2)
    progress.finish(1)
    assert (progress.take(1), progress.take(2), progress.unfinished) == (False, False, 1)


def test_finishing_what_was_not_taken() -> None:
    """A delivery from before a restart must not be counted into the progress after it."""
    with pytest.raises(KeyError):
        taken(1).finish(2)


def test_what_lies_below_the_committed_offset_is_not_taken() -> None:
    """A client that reads a partition from its beginning hands out what is finished, and must change nothing."""
    progress = Progress.from_committed(Committed(900, encode(900, [(901, 950)])))
    assert [progress.take(offset) for offset in (0, 1, 899, 900, 901, 950)] == [False, False, False, True, False, True]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param("x" + encode(7, [(9, 12)])[1:], id="format of a later release"),
        pytest.param("of another client", id="not ours"),
        pytest.param("r", id="nothing after the format"),
        pytest.param("\u00fcberraschung", id="not even ASCII"),
        pytest.param(encode(7, [(9, 12)])[:-2], id="cut off"),
        pytest.param(encode(8, [(9, 12)]), id="written for another offset"),
    ],
)
def test_metadata_that_cannot_be_trusted_skips_nothing(metadata: str) -> None:
    """Handled again is safe; never handled is not."""
    assert handed_out(Committed(7, metadata), [*range(7, 14)]) == [*range(7, 14)]


@given(metadata=st.text(alphabet=st.characters(codec="utf-8"), max_size=60), offset=st.integers(0, 2**62))
def test_no_metadata_breaks_a_start(metadata: str, offset: int) -> None:
    """Whoever else writes to the group, a worker starts."""
    assert decode(Committed(offset, metadata)) == []


@given(
    offset=st.integers(0, 2**48),
    steps=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), max_size=40),
)
def test_encoding_comes_back(offset: int, steps: list[tuple[int, int]]) -> None:
    """Decoding gives the very runs that were encoded."""
    runs: list[Run] = []
    position = offset
    for unfinished, finished in steps:
        runs.append((position + unfinished, position + unfinished + finished))
        position += unfinished + finished
    assert decode(Committed(offset, encode(offset, runs))) == runs


def test_both_bodies_are_in_use() -> None:
    """Long runs are counted, scattered ones drawn."""
    long, scattered = [(5, 90_000)], [(offset, offset + 1) for offset in range(1, 100, 2)]
    assert (encode(0, long)[0], encode(0, scattered)[0]) == ("r", "b")


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[int], random.Random]:
    gaps = draw(st.lists(st.integers(1, 5), min_size=1, max_size=60))
    log, offset = list[int](), draw(st.integers(0, 10_000))
    for gap in gaps:
        offset += gap
        log.append(offset)
    return log, random.Random(draw(st.integers(0, 2**32)))


@given(history=histories(), restarts=st.integers(0, 4))
def test_no_interleaving_commits_past_an_unfinished_offset(
    history: tuple[list[int], random.Random], restarts: int
) -> None:
    """At every moment, a restart from what would be committed hands out exactly what is not finished."""
    log, chance = history
    committed, finished = Committed(log[0]), set[int]()
    for _ in range(restarts + 1):
        progress = Progress.from_committed(committed)
        todo = [offset for offset in log if offset >= committed.offset]
        in_hand: list[int] = []
        for _ in range(chance.randrange(2 * len(log) + 1)):
            if todo and chance.random() < 0.6:
                offset = todo.pop(0)
                if progress.take(offset):
                    assert offset not in finished
                    in_hand.append(offset)
                else:
                    assert offset in finished
            elif in_hand:
                offset = in_hand.pop(chance.randrange(len(in_hand)))
                progress.finish(offset)
                finished.add(offset)
            committed = progress.committed()
            assert committed.offset <= min((offset for offset in log if offset not in finished), default=log[-1] + 1)
            assert handed_out(committed, log) == [offset for offset in log if offset not in finished]


@pytest.mark.parametrize("seed", range(5))
def test_metadata_fits_for_whoever_heeds_full(seed: int) -> None:
    """However unluckily things finish: one batch more after `full`, and still every finished offset is in the commit."""
    chance = random.Random(seed)
    progress, offset = taken(0), 0
    in_hand, finished = list[int](), set[int]()
    for _ in range(60):
        while not progress.full:
            for _ in range(500):
                offset += chance.choice((1, 1, 1, 2))
                progress.take(offset)
                in_hand.append(offset)
        chance.shuffle(in_hand)
        for _ in range(min(len(in_hand), 700)):
            finished.add(in_hand[-1])
            progress.finish(in_hand.pop())
        committed = progress.committed()
        assert len(committed.metadata) <= METADATA_LIMIT
        assert committed.offset == 0
        skipped = Progress.from_committed(committed)
        assert {seen for seen in sorted(finished | {*in_hand}) if not skipped.take(seen)} == finished


def test_full_passes() -> None:
    """A partition that was paused because too much was in the air goes on when it has come down."""
    progress = taken(*range(40_000))
    was_full = progress.full
    for offset in range(40_000):
        progress.finish(offset)
    assert (was_full, progress.full, progress.committed()) == (True, False, Committed(40_000))


def test_one_slow_event_does_not_fill_the_metadata() -> None:
    """A call that takes minutes holds up its own key, while hundreds of thousands of others pass it."""
    progress = taken(*range(300_000))
    for offset in range(1, 300_000):
        progress.finish(offset)
    committed = progress.committed()
    assert (progress.full, committed.offset, len(committed.metadata)) == (False, 0, 12)


def test_taking_on_regardless_of_full_stays_within_the_limit() -> None:
    """What does not fit is handled again after a restart; what is unfinished is never skipped."""
    progress = taken(*range(60_000))
    chance = random.Random(7)
    finished = {offset for offset in range(1, 60_000) if chance.random() < 0.5}
    for offset in finished:
        progress.finish(offset)
    committed = progress.committed()
    skipped = set(range(60_000)) - {*handed_out(committed, [*range(60_000)])}
    assert len(committed.metadata) <= METADATA_LIMIT
    assert skipped
    assert skipped <= finished
