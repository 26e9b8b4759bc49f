"""Durable state: what a delivery sees, and what it leaves."""

import pytest

from antiphon.bus.state import REMEMBERED, PartitionState, StateNotJsonError


def test_nested_changes_are_kept() -> None:
    """A list inside the mapping may be appended to; nobody has to assign it again."""
    state = PartitionState("stock.state", 3, {"order-7": b'{"items":[1]}'})
    view = state.view()
    view.mapping("order-7")["items"].append(2)

    [record] = state.store(view.changed())

    assert (record.key, record.value, record.partition) == (b"order-7", b'{"items":[1,2]}', 3)
    assert state.load("order-7") == {"items": [1, 2]}


def test_looking_is_no_change() -> None:
    """A delivery that only reads writes nothing to the changelog."""
    state = PartitionState("stock.state", 0, {"a": b'{"n":1}'})
    view = state.view()
    assert (view.mapping("a"), view.changed()) == ({"n": 1}, {})


def test_an_emptied_mapping_is_forgotten() -> None:
    """Its record is a tombstone, so compaction removes it."""
    state = PartitionState("stock.state", 0, {"a": b'{"n":1}'})
    view = state.view()
    view.mapping("a").clear()
    [record] = state.store(view.changed())
    assert (record.value, state.load("a")) == (None, {})


def test_a_failed_attempt_leaves_nothing() -> None:
    """Two views do not see each other's changes until they are stored."""
    state = PartitionState("stock.state", 0)
    state.view().mapping("a")["n"] = 1
    assert state.view().mapping("a") == {}


def test_what_json_cannot_say_is_refused_with_the_key() -> None:
    """The handler's author must learn which key, and what to store instead."""
    view = PartitionState("stock.state", 0).view()
    view.mapping("order-7")["when"] = object()
    with pytest.raises(StateNotJsonError, match="under 'order-7'"):
        view.changed()


def test_remembered_effects_go_when_their_delivery_is_over() -> None:
    """Other events' effects under the same key stay."""
    value = b'{"n":1,"%s":{"e1":{"mail":1},"e2":{"mail":2}}}' % REMEMBERED.encode()
    state = PartitionState("stock.state", 0, {"a": value})

    state.store(state.without_remembered({}, "a", "e1"))

    assert state.load("a") == {"n": 1, REMEMBERED: {"e2": {"mail": 2}}}
