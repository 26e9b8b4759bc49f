"""The order in which an agent met the events of a key: kept again, though they come from several topics.

Between topics a broker keeps no order. Where two agents speak at the same time,
either may be heard first, and a join answers the one that came last: another
parent, and other ids from there on. So what comes too early is held back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from antiphon.bus.record import Record, TopicPartition
from antiphon.replay.recording import Handling

Pair = tuple[str, str]
"""Event id and agent."""


def place_of(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)


class _Held(NamedTuple):
    number: int
    record: Record
    hand_over: Callable[[Record], None]


class Ordering:
    """Holds back what comes before something that came before it then. Whoever knows that nothing else comes lets go of it."""

    def __init__(self, handlings: Sequence[Handling]) -> None:
        self._before: dict[Pair, Pair | None] = {}
        self._numbers: dict[Pair, int] = {}
        last: dict[tuple[str, str], Pair] = {}
        for number, one in enumerate(handlings):
            key = (one.agent, one.state_key)
            self._before[one.pair], self._numbers[one.pair] = last.get(key), number
            last[key] = one.pair
        self._after: Mapping[Pair, Pair] = {before: pair for pair, before in self._before.items() if before is not None}
        self._passed: set[Pair] = set()
        self._held: dict[Pair, _Held] = {}
        self.on_hold: Callable[[], None] = lambda: None
        """Called when something is held back."""

    @property
    def held(self) -> Set[Pair]:
        return self._held.keys()

    def arrived(self, agent: str, record: Record, hand_over: Callable[[Record], None]) -> None:
        """Hand *record* over as soon as its turn is: now, or behind what it waits for."""
        id = (dict(record.headers).get("ce_id") or b"").decode(errors="replace")
        pair = (id, agent)
        before = self._before.get(pair)
        if pair in self._passed or before is None or before in self._passed:
            self._pass(pair, record, hand_over)
            return
        self._held[pair] = _Held(self._numbers[pair], record, hand_over)
        self.on_hold()

    def let_go(self) -> None:
        """Hand over what was held back and had come first: what it waits for does not come."""
        pair = min(self._held, key=lambda one: self._held[one].number)
        held = self._held.pop(pair)
        self._pass(pair, held.record, held.hand_over)

    def forget(self, agent: str, partitions: Iterable[TopicPartition]) -> None:
        """Drop what is held back of *partitions* for *agent*: it is given anew. What is held of others is not."""
        gone = {*partitions}
        self._held = {
            pair: one for pair, one in self._held.items() if pair[1] != agent or place_of(one.record) not in gone
        }

    def _pass(self, pair: Pair, record: Record, hand_over: Callable[[Record], None]) -> None:
        self._passed.add(pair)
        hand_over(record)
        # Behind it may come what waited for it; a chain of those is followed without recursion.
        following = self._after.get(pair)
        while following is not None and (held := self._held.pop(following, None)) is not None:
            self._passed.add(following)
            held.hand_over(held.record)
            following = self._after.get(following)
