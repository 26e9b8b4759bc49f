"""Who should handle an event, and whether anybody is there to do it: read from heartbeats."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping

from antiphon.bus.heartbeat import AgentSeen

SILENT_AFTER = 3
"""A worker is taken for gone after this many intervals without a heartbeat."""


@dataclasses.dataclass(frozen=True)
class Subscriptions:
    """What the agents of a mesh hear and say, as their workers last told.

    An agent hears what its live workers hear; where none is live, what the one
    seen last heard, so that an agent that is down still owes its events. What
    older, ended workers of other versions heard does not count.
    """

    agents: Mapping[str, tuple[AgentSeen, ...]]
    """The workers that speak for each agent."""
    live: frozenset[str]
    """Agents of which at least one worker is live."""
    _heard: Mapping[str, tuple[tuple[str, str], ...]]
    _hearers: Mapping[str, list[str]]
    """... without the topics: the coordinator asks for every event, again and again."""
    _said: Mapping[tuple[str, str], frozenset[str]]
    _failing: frozenset[str]
    _joined: frozenset[tuple[str, str]]
    _undoable_ahead: frozenset[str]
    _starting: frozenset[tuple[str, str]] = frozenset()
    _asked: frozenset[tuple[str, str]] = frozenset()
    _conducting: frozenset[str] = frozenset()

    def hearers(self, type: str, topic: str | None) -> list[str]:
        """Return the agents that hear events of *type* on *topic*, sorted; on any topic where it is None."""
        if topic is None:
            return self._hearers.get(type, [])
        return sorted({agent for agent, at in self._heard.get(type, ()) if at == topic})

    @property
    def heard(self) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """By event type: the agents that hear it, each with the topic on which it does."""
        return self._heard

    @property
    def failing(self) -> frozenset[str]:
        """The event types that fail a workflow."""
        return self._failing

    def fails(self, type: str) -> bool:
        """Say whether some agent declares that events of *type* fail their workflow."""
        return type in self._failing

    def joins(self, agent: str, type: str) -> bool:
        """Say whether *agent* hears events of *type* as part of a join."""
        return (agent, type) in self._joined

    def starts(self, agent: str, type: str) -> bool:
        """Say whether an event of *type* starts a saga of *agent*."""
        return (agent, type) in self._starting

    @property
    def sagas(self) -> list[str]:
        """The agents that are sagas, sorted."""
        return sorted(self._conducting)

    def conducts(self, agent: str) -> bool:
        """Say whether *agent* is a saga."""
        return agent in self._conducting

    def asks(self, agent: str, type: str) -> bool:
        """Say whether an event of *type* is a command of *agent*, a saga."""
        return (agent, type) in self._asked

    def leads_to_undoable(self, type: str) -> bool:
        """Say whether of an event of *type*, at any distance, something may come that its agent can undo."""
        return type in self._undoable_ahead

    def declared(self, agent: str, version: str | None) -> frozenset[str] | None:
        """Return the types that *agent* may emit, in *version* if given; None where nobody told, or it may emit any."""
        of_agent = [said for (name, v), said in self._said.items() if name == agent and version in (None, v)]
        return frozenset(type for said in of_agent for type in said) or None


def subscriptions(agents: Iterable[AgentSeen], *, now_us: int) -> Subscriptions:
    """Read heartbeats, in any order and with repeats."""
    latest: dict[tuple[str, str], AgentSeen] = {}
    for seen in agents:
        known = latest.get((seen.agent, seen.instance))
        if known is None or _age_rank(seen) > _age_rank(known):
            latest[seen.agent, seen.instance] = seen
    workers: defaultdict[str, list[AgentSeen]] = defaultdict(list)
    said: defaultdict[tuple[str, str], frozenset[str]] = defaultdict(frozenset)
    for seen in latest.values():
        workers[seen.agent].append(seen)
        for version, _, emits in seen.versions:
            said[seen.agent, version] |= {emitted.type for emitted in emits}
    live = frozenset(agent for agent, all in workers.items() if any(is_live(seen, now_us=now_us) for seen in all))
    speaking = {agent: _speaking(all, now_us=now_us) for agent, all in workers.items()}
    heard: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for agent, voices in speaking.items():
        for heart in (heart for voice in voices for heart in voice.hears):
            heard[heart.type].append((agent, heart.topic))
    failing = frozenset(emitted.type for seen in latest.values() for emitted in seen.emits if emitted.fails)
    speakers = [voice for all in speaking.values() for voice in all]
    return Subscriptions(
        agents=speaking,
        live=live,
        _heard={type: tuple(at) for type, at in heard.items()},
        _hearers={type: sorted({agent for agent, _ in at}) for type, at in heard.items()},
        _said=dict(said),
        _failing=failing,
        _joined=frozenset((voice.agent, heart.type) for voice in speakers for heart in voice.hears if heart.join),
        _undoable_ahead=_undoable_ahead(speakers),
        _starting=frozenset((voice.agent, heart.type) for voice in speakers for heart in voice.hears if heart.starts),
        _asked=frozenset((voice.agent, said.type) for voice in speakers for said in voice.emits if said.command),
        _conducting=frozenset(voice.agent for voice in speakers for heart in voice.hears if heart.starts),
    )


def is_live(seen: AgentSeen, *, now_us: int) -> bool:
    """Say whether a worker is still there, as far as its last heartbeat tells."""
    return not seen.stopped and now_us - seen.time_us <= SILENT_AFTER * seen.interval_s * 1_000_000


def _undoable_ahead(voices: Iterable[AgentSeen]) -> frozenset[str]:
    """Return the types of which something undoable may come: backwards from what is undoable, hop by hop.

    A saga may say at any of its events that something is to be undone, so these count too.
    """
    found: set[str] = set()
    causes: defaultdict[str, set[str]] = defaultdict(set)
    for voice in voices:
        is_saga = any(heart.starts for heart in voice.hears)
        for heart in voice.hears:
            answers = {said.type for said in voice.emits} if heart.leads_to is None else {*heart.leads_to}
            if not answers.isdisjoint(voice.undoes) or (is_saga and answers):
                found.add(heart.type)
            for answer in answers:
                causes[answer].add(heart.type)
    ahead = [*found]
    while ahead:
        new = causes[ahead.pop()] - found
        found |= new
        ahead += new
    return frozenset(found)


def _speaking(workers: Iterable[AgentSeen], *, now_us: int) -> tuple[AgentSeen, ...]:
    ranked = sorted(workers, key=_age_rank)
    return tuple(seen for seen in ranked if is_live(seen, now_us=now_us)) or (ranked[-1],)


def _age_rank(seen: AgentSeen) -> tuple[int, bool, str]:
    # A worker that stops may say so within the microsecond of its last heartbeat; the rest is for a fixed order.
    return (seen.time_us, seen.stopped, repr(seen))
