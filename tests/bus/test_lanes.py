"""Lanes: order within a key, freedom between keys."""

from antiphon.bus.lanes import Lanes


def test_one_key_is_one_at_a_time_and_others_are_free() -> None:
    """While somebody is at a lane its next job is not handed out; another lane's is."""
    lanes: Lanes[str] = Lanes()
    for key, job in [("a", "a1"), ("a", "a2"), ("b", "b1")]:
        lanes.add(key, job)

    first, second = lanes.take(), lanes.take()

    assert ([*first.jobs], [*second.jobs], len(lanes.ready)) == (["a1", "a2"], ["b1"], 0)


def test_done_brings_the_next_job_up() -> None:
    """A lane goes to the end of the line after each job, so a busy key does not starve the rest."""
    lanes: Lanes[str] = Lanes()
    for key, job in [("a", "a1"), ("a", "a2"), ("b", "b1")]:
        lanes.add(key, job)

    lanes.done(lanes.take())

    assert [lanes.take().first for _ in range(len(lanes.ready))] == ["b1", "a2"]


def test_a_lane_with_nothing_left_is_forgotten() -> None:
    """Keys come and go by the million; an idle one costs nothing."""
    lanes: Lanes[str] = Lanes()
    lanes.add("a", "a1")
    lanes.done(lanes.take())
    assert len(lanes) == 0


def test_dropping_spares_what_runs() -> None:
    """The first job of a lane somebody is at stays there until he says done."""
    lanes: Lanes[str] = Lanes()
    for key, job in [("a", "a1"), ("a", "a2"), ("b", "b1")]:
        lanes.add(key, job)
    at_a = lanes.take()

    dropped = lanes.drop(lambda job: True, running=lambda job: job == "a1")
    lanes.done(at_a)

    assert (sorted(dropped), len(lanes), len(lanes.ready)) == (["a2", "b1"], 0, 0)


def test_a_held_lane_that_was_dropped_does_not_come_back() -> None:
    """A retry's timer may fire after its partition is gone, and after the key's lane was made anew."""
    lanes: Lanes[str] = Lanes()
    lanes.add("a", "old")
    held = lanes.take()
    lanes.drop(lambda job: True, running=lambda job: False)
    lanes.add("a", "new")

    lanes.release(held)

    assert (len(lanes.ready), lanes.take().first, len(lanes)) == (1, "new", 1)
