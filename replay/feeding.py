"""What a sandbox is given, so that its workers can do again what was done: state, and the events that come from outside."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence, Set

from antiphon.bus.activity import Handled
from antiphon.bus.claim import DATAREF
from antiphon.bus.consumer import Consumer
from antiphon.bus.names import Names, redrive_topic
from antiphon.bus.record import Outgoing, Record
from antiphon.bus.redrive import EDITED
from antiphon.bus.state import WORKFLOW
from antiphon.replay.ledger import Ledger
from antiphon.replay.recording import ONGOING, Handling, Recording, StatesBefore


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fed:
    """An event that a sandbox is given, as none of its agents says it."""

    number: int
    handling: Handling
    """The first of those that it led to."""
    topic: str
    """The plain name."""
    record: Record
    edited: bool
    """Only its one agent hears it, instead of what everybody else heard."""
    behind: Set[tuple[str, str]]
    """What was handled under its key since the one before it was given, by event id and agent."""
    workflows: Set[str]
    """The workflows of those."""

    def outgoing(self, names: Names) -> Outgoing:
        """Return its record in the sandbox of *names*; what was too large for one is claimed there too."""
        value = b"" if DATAREF in dict(self.record.headers) else self.record.value
        partition = self.handling.entry.partition
        return Outgoing(names.topic(self.topic), self.record.key, value, self.record.headers, partition=partition)


class Feed:
    """Gives the events that *chosen* were handlings of, in the order in which each key met them.

    What one of *consumers* emitted in a handling that is done again comes by
    itself, and is waited for; where it does not come this time, nothing waits
    for it any more once nobody owes anything in its workflow.
    """

    def __init__(self, recording: Recording, chosen: Sequence[Handling], consumers: Mapping[str, Consumer]) -> None:
        self._ledger = Ledger([*consumers.values()])
        self._over: set[tuple[str, str]] = set()
        self.done = 0
        """How many of those that were to be handled again were."""
        self._wanted = {handling.pair for handling in chosen}
        self._waiting: dict[str, list[Fed]] = {}
        for one in fed(recording, chosen, consumers):
            self._waiting.setdefault(one.handling.state_key, []).append(one)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to give, and nothing left to be handled."""
        return not self._waiting and not self.owed

    @property
    def owed(self) -> int:
        """How many handlings somebody is at, or will be."""
        return self._ledger.owed

    def only_owes(self, pairs: Set[tuple[str, str]]) -> bool:
        """Say whether nobody is at anything, or will be, but for *pairs*."""
        return self._ledger.all_in(pairs)

    def large(self) -> list[bytes]:
        """Return the values that are claimed."""
        every = (one.record for waiting in self._waiting.values() for one in waiting)
        return [record.value or b"" for record in every if DATAREF in dict(record.headers)]

    def due(self) -> Iterator[Fed]:
        """Yield what nothing has to be waited for; the caller says of each that it is `given`."""
        for waiting in [*self._waiting.values()]:
            while waiting and self._is_due(waiting[0]):
                yield waiting[0]

    def given(self, one: Fed) -> None:
        entry = one.handling.entry
        waiting = self._waiting[one.handling.state_key]
        waiting.remove(one)
        if not waiting:
            del self._waiting[one.handling.state_key]
        if one.edited:
            self._ledger.owes(entry.event_id, one.handling.agent, entry.correlation_id)
        else:
            self._ledger.published(entry.event_id, entry.event_type, entry.correlation_id)

    def handled(self, agent: str, entry: Handled) -> None:
        """Take note of what activity says."""
        self._ledger.handled(agent, entry)
        pair = (entry.event_id, agent)
        if entry.outcome not in ONGOING and pair not in self._over:
            self._over.add(pair)
            self.done += pair in self._wanted

    def _is_due(self, one: Fed) -> bool:
        if one.behind <= self._over:
            return True
        # Something does not come this time. Nobody knows that before all that might lead to it was given and is handled.
        earlier = (other for waiting in self._waiting.values() for other in waiting if other.number < one.number)
        return all(map(self._ledger.settled, one.workflows)) and not any(
            other.handling.entry.correlation_id in one.workflows for other in earlier
        )


def fed(recording: Recording, chosen: Sequence[Handling], consumers: Mapping[str, Consumer]) -> list[Fed]:
    """Return what must come from outside for *consumers* to handle *chosen* again, in order; what is gone cannot come."""
    own = [handling for handling in chosen if handling.agent in consumers]
    by_itself = {emitted.id for handling in own for emitted in handling.entry.emitted}
    heard: dict[str, set[str]] = {}
    behind: dict[str, dict[tuple[str, str], str]] = {}
    found: list[Fed] = []
    for handling in own:
        entry, record = handling.entry, recording.event_of(handling)
        before = behind.setdefault(handling.state_key, {})
        topics = heard.setdefault(entry.event_id, set())
        edited = record is not None and EDITED in dict(record.headers)
        topic = (
            redrive_topic(handling.agent)
            if edited
            else consumers[handling.agent].hears[entry.event_type].__event__.topic
        )
        comes = topic in topics or (entry.event_id in by_itself and not edited)
        if record is not None and not comes:
            # An edited one comes behind the one that it stands for, where that comes too.
            own_first = (
                {handling.pair} if edited and (topics or entry.event_id in by_itself) else set[tuple[str, str]]()
            )
            found.append(
                Fed(
                    number=len(found),
                    handling=handling,
                    topic=topic,
                    record=record,
                    edited=edited,
                    behind=frozenset(before.keys() | own_first),
                    workflows=frozenset({*before.values(), entry.correlation_id} if before or own_first else ()),
                )
            )
            before.clear()
        topics.add(topic)
        before[handling.pair] = entry.correlation_id
    return found


def seeds(chosen: Sequence[Handling], states: StatesBefore, names: Names) -> list[Outgoing]:
    """Return the records of the state that stood before the first of each agent's and key's handlings.

    Where it is not known, nothing stands there: as in the mode `handler`, the report counts that.
    """
    first: dict[tuple[str, str], Handling] = {}
    for handling in chosen:
        first.setdefault((handling.agent, handling.state_key), handling)
    found: list[Outgoing] = []
    for (agent, key), handling in first.items():
        before = states.before(handling)
        if before.value is not None:
            headers = WORKFLOW if handling.entry.key is None else ()
            partition = handling.entry.partition
            found.append(Outgoing(names.state(agent), key.encode(), before.value, headers, partition=partition))
    return found
