"""Which past handlings are to be run again."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from antiphon.bus.activity import Handled
from antiphon.bus.delivery import Outcome
from antiphon.bus.guard import GUARD_ERRORS
from antiphon.replay.recording import Handling
from antiphon.schemas.condition import Condition

_FAILED = frozenset({Outcome.DEAD_LETTERED, Outcome.EXPIRED})
_HANDLED = frozenset({Outcome.COMPLETED, Outcome.DEAD_LETTERED})


class Span(NamedTuple):
    """Offsets of a topic, its plain name."""

    topic: str
    partition: int | None
    """None: of every partition."""
    first: int
    end: int | None
    """Exclusive; None: all that follow."""

    def holds(self, topic: str, partition: int, offset: int) -> bool:
        """Say whether that place lies in it."""
        return (
            topic == self.topic
            and self.partition in (None, partition)
            and offset >= self.first
            and (self.end is None or offset < self.end)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What is meant; of what is empty, anything."""

    workflows: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    """Of the events that were handled."""
    event: str | None = None
    """This one, and all that followed from it."""
    where: tuple[Condition, ...] = ()
    """That the data of the events fits; who chooses says which do."""
    spans: tuple[Span, ...] = ()
    """Where the events stood."""
    since_us: int | None = None
    until_us: int | None = None
    failed: bool = False
    """Only workflows in which an event was set aside."""
    dead: bool = False
    """Only handlings that ended with the event set aside."""
    last: int | None = None
    """Only so many workflows, the latest to begin."""

    def workflows_in(
        self, handlings: Sequence[Handling], fitting: Collection[tuple[str, str]] | None = None
    ) -> set[str]:
        """Return the workflows that hold anything that is meant; *fitting*: of the handlings whose data fits, event and agent."""
        meant = [handling for handling in handlings if self._takes(handling, fitting)]
        failed = {one.entry.correlation_id for one in handlings if one.entry.outcome in _FAILED}
        found = [
            id
            for id in dict.fromkeys(handling.entry.correlation_id for handling in meant)
            if (not self.failed or id in failed) and (not self.workflows or id in self.workflows)
        ]
        return {*(found if self.last is None else found[-self.last :])}

    def of(self, handlings: Sequence[Handling], fitting: Collection[tuple[str, str]] | None = None) -> list[Handling]:
        """Return the handlings that are meant, in their order; those in which no handler ran never are."""
        if self == _EVERYTHING and fitting is None:
            return [handling for handling in handlings if _was_called(handling.entry)]
        workflows = self.workflows_in(handlings, fitting)
        below = None if self.event is None else _following(self.event, handlings)
        return [
            handling
            for handling in handlings
            if handling.entry.correlation_id in workflows
            and _was_called(handling.entry)
            and self._takes(handling, fitting)
            and (below is None or handling.entry.event_id in below)
        ]

    def _takes(self, handling: Handling, fitting: Collection[tuple[str, str]] | None) -> bool:
        entry = handling.entry
        return (
            (fitting is None or handling.pair in fitting)
            and (not self.dead or entry.outcome == Outcome.DEAD_LETTERED)
            and (not self.spans or any(one.holds(entry.topic, entry.partition, entry.offset) for one in self.spans))
            and (not self.agents or handling.agent in self.agents)
            and (not self.types or entry.event_type in self.types)
            and (self.since_us is None or entry.started_us >= self.since_us)
            and (self.until_us is None or entry.started_us < self.until_us)
        )


_EVERYTHING = Choice()


def _following(event: str, handlings: Iterable[Handling]) -> set[str]:
    """Return *event*, an id or the beginning of one, and all that followed from it; causes begin before what they cause."""
    found: set[str] = set()
    for handling in handlings:
        id = handling.entry.event_id
        if id in found or id.startswith(event):
            found |= {id, *(emitted.id for emitted in handling.entry.emitted)}
    return found


def _was_called(entry: Handled) -> bool:
    """Say whether a handler was: not with an event that was past its deadline, or over a limit that travels with it."""
    return entry.outcome in _HANDLED and (entry.error is None or entry.error.type not in GUARD_ERRORS)
