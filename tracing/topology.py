"""Who says what to whom, and what looks wrong about it: pure functions over what agents declare."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from antiphon.bus.consumer import Consumer
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import COORDINATOR
from antiphon.schemas.nodes import attribute
from antiphon.schemas.store import AvroSchema
from antiphon.tracing.mermaid import escaped


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentNode:
    """An agent, as it declares itself."""

    agent: str
    version: str
    hears: Mapping[str, str]
    """Event type to topic."""
    says: Mapping[str, str] | None
    """Event type to topic; None: anything."""
    leads_to: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict[str, frozenset[str]])
    """What each type it hears may make it say; a type that is not listed: all it says."""
    undoes: frozenset[str] = frozenset()
    joins: frozenset[str] = frozenset()
    fails: frozenset[str] = frozenset()
    """The types it says that fail a workflow."""
    keyed: frozenset[str] = frozenset()
    """The types it hears whose class names a key."""
    max_hops: int | None = None
    """How many agents may lead to an event that it handles; 0: any number. None: not told."""
    conducts: bool = False
    """It is a saga: it says commands, and what can be undone about them is for its steps to say."""


class Kind(StrEnum):
    """What can look wrong. The document uses these words."""

    ORPHAN_EVENT = "orphan_event"
    """Said, and heard by nobody. Often simply an end."""
    DEAD_SUBSCRIPTION = "dead_subscription"
    """Heard, and said by nobody. Often simply a beginning."""
    CYCLE = "cycle"
    """An event leads to another of its own type, and nothing ends that but a hop limit, or not even one."""
    LIMITED_CYCLE = "limited_cycle"
    """An event can lead to another of its own type, or to something else; at worst a hop limit ends it."""
    KEYED_JOIN = "keyed_join"
    """An input of a join is not keyed by the workflow, so the inputs never meet."""
    SEPARATE_JOIN = "separate_join"
    """No event leads to all inputs of a join, so they are never of one workflow."""
    MISSING_COMPENSATION = "missing_compensation"
    """A workflow can fail after this was said, and nothing undoes it."""
    NO_COORDINATOR = "no_coordinator"
    """Agents can undo, and nobody asks them to."""
    TOPIC_CONFLICT = "topic_conflict"
    """Agents disagree about where events of a type stand."""
    UNNOTICED_AGENT = "unnoticed_agent"
    """Nobody hears anything that an agent says, so no workflow fails where it is down. Often simply an end."""


NOTES = frozenset({Kind.ORPHAN_EVENT, Kind.DEAD_SUBSCRIPTION, Kind.LIMITED_CYCLE, Kind.UNNOTICED_AGENT})
"""Worth knowing, and not wrong in themselves."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that looks wrong, and what to do."""

    kind: Kind
    about: str
    """The event type or agent it is about."""
    message: str
    remedy: str


def from_consumer(consumer: Consumer, *, max_hops: int | None = None) -> AgentNode:
    """Read an agent from its code; *max_hops* is what its workers will be told."""
    emits = consumer.emits
    return AgentNode(
        agent=consumer.name,
        version=consumer.version,
        hears=_own({type: event_class.__event__.topic for type, event_class in consumer.hears.items()}),
        says=None if emits is None else _own({said.__event__.type: said.__event__.topic for said in emits}),
        leads_to=consumer.leads_to,
        undoes=frozenset(consumer.undoes),
        joins=consumer.joins,
        fails=frozenset(_own({said.__event__.type: "" for said in emits or () if said.__event__.fails})),
        keyed=frozenset(type for type, event_class in consumer.hears.items() if event_class.__event__.key is not None),
        max_hops=max_hops,
        conducts=bool(consumer.starts),
    )


def _own(types: Mapping[str, str]) -> Mapping[str, str]:
    """Leave out what the mesh's own events are: what sagas, locks and the coordinator say to each other."""
    return {type: topic for type, topic in types.items() if not type.startswith("antiphon.")}


def from_heartbeats(workers: Iterable[AgentSeen], schemas: Mapping[str, AvroSchema] | None = None) -> list[AgentNode]:
    """Read agents from the heartbeats of their workers; of each agent the newest counts.

    With the *schemas* of their classes, by digest, it is known which of them name a key.
    """
    newest: dict[str, AgentSeen] = {}
    for seen in workers:
        if seen.agent not in newest or seen.time_us > newest[seen.agent].time_us:
            newest[seen.agent] = seen
    return [
        AgentNode(
            agent=seen.agent,
            version=seen.version,
            hears=_own({part.type: part.topic for part in seen.hears}),
            # The coordinator may say anything, and its heartbeat cannot list that.
            says=None if seen.agent == COORDINATOR else _own({part.type: part.topic for part in seen.emits}),
            leads_to={part.type: frozenset(part.leads_to) for part in seen.hears if part.leads_to is not None},
            undoes=frozenset(seen.undoes),
            joins=frozenset(part.type for part in seen.hears if part.join),
            fails=frozenset(_own({part.type: part.topic for part in seen.emits if part.fails})),
            keyed=frozenset(part.type for part in seen.hears if _key((schemas or {}).get(part.schema_digest or ""))),
            max_hops=seen.max_hops,
            conducts=any(part.starts for part in seen.hears),
        )
        for _, seen in sorted(newest.items())
    ]


def _key(schema: AvroSchema | None) -> str | None:
    key: str | None = attribute(attribute(schema, "antiphon"), "key")
    return key


def document(agents: Collection[AgentNode], *, live: bool = True) -> dict[str, Any]:
    """Return the topology document: agents, events, findings."""
    shown = [agent for agent in agents if agent.agent != COORDINATOR]
    return {
        "agents": [
            {
                "agent": agent.agent,
                "version": agent.version,
                "hears": sorted(agent.hears),
                "says": None if agent.says is None else sorted(agent.says),
                "undoes": sorted(agent.undoes),
                "joins": sorted(agent.joins),
            }
            for agent in shown
        ],
        "events": [
            {
                "type": type,
                "topic": topic,
                "said_by": _sayers(shown, type),
                "heard_by": _hearers(shown, type),
                "fails": any(type in agent.fails for agent in shown),
            }
            for type, topic in sorted(_types(shown).items())
        ],
        "findings": [dataclasses.asdict(finding) for finding in lint(agents, live=live)],
    }


def lint(agents: Collection[AgentNode], *, live: bool = True) -> list[Finding]:
    """Return what looks wrong, what needs a change first. *live*: they are what runs, so the coordinator should be among them."""
    mesh = [agent for agent in agents if agent.agent != COORDINATOR]
    coordinated = len(mesh) < len(agents)
    found: list[Finding] = [
        *_conflicts(mesh),
        *_keyed_joins(mesh),
        *_separate_joins(mesh),
        *_missing_compensations(mesh),
        *_cycles(mesh),
        *(_no_coordinator(mesh) if live and not coordinated else []),
        *_dead_subscriptions(mesh),
        *_orphans(mesh),
        *_unnoticed(mesh),
    ]
    return sorted(found, key=lambda finding: finding.kind in NOTES)


def _conflicts(mesh: Collection[AgentNode]) -> Iterator[Finding]:
    topics: dict[str, set[str]] = {}
    for agent in mesh:
        for type, topic in [*agent.hears.items(), *(agent.says or {}).items()]:
            topics.setdefault(type, set()).add(topic)
    for type, named in sorted(topics.items()):
        if len(named) > 1:
            message = f"{type} stands on {' and on '.join(sorted(named))}, as different agents have it"
            yield Finding(Kind.TOPIC_CONFLICT, type, message, "import the event's class from one module everywhere")


def _keyed_joins(mesh: Iterable[AgentNode]) -> Iterator[Finding]:
    for agent in mesh:
        for type in sorted(agent.joins & agent.keyed):
            message = f"{agent.agent} joins {type}, whose class names a key of its own: the inputs never meet"
            yield Finding(Kind.KEYED_JOIN, type, message, "leave key= out of the event's class line")


def _separate_joins(mesh: Collection[AgentNode]) -> Iterator[Finding]:
    """Find joins of what no event leads to together. What nobody here says may be published into any workflow."""
    leads_to = _reachable(mesh)
    if any(agent.says is None for agent in mesh):
        return
    for agent in mesh:
        origins = [
            {type} | {start for start, reached in leads_to.items() if type in reached} for type in sorted(agent.joins)
        ]
        if origins and all(_sayers(mesh, type) for type in agent.joins) and not set.intersection(*origins):
            inputs = " and ".join(sorted(agent.joins))
            message = (
                f"{agent.agent} joins {inputs}, and no event leads to all of them: they are of different workflows"
            )
            remedy = "have one event lead to both, or publish one of them with the correlation id of the other"
            yield Finding(Kind.SEPARATE_JOIN, agent.agent, message, remedy)


def _missing_compensations(mesh: Collection[AgentNode]) -> Iterator[Finding]:
    """Find what is said and cannot be undone, in workflows that can fail.

    Only where somebody undoes something: a mesh without any undo has decided
    that its failures are a person's business.
    """
    if not any(agent.undoes for agent in mesh):
        return
    leads_to = _reachable(mesh)
    failing = {type for agent in mesh for type in agent.fails}
    for agent in mesh:
        for type in sorted(set() if agent.conducts else set(agent.says or ()) - agent.undoes - failing):
            after = sorted(failing & leads_to.get(type, set()))
            if after:
                yield Finding(
                    Kind.MISSING_COMPENSATION,
                    type,
                    f"{agent.agent} says {type}, after which {after[0]} can fail the workflow, and does not undo it",
                    f"add @{agent.agent}.undoes(...) if it changed anything outside; if not, all is well",
                )


def _no_coordinator(mesh: Collection[AgentNode]) -> Iterator[Finding]:
    undoing = sorted(agent.agent for agent in mesh if agent.undoes)
    if undoing:
        message = f"{', '.join(undoing)} can undo, but nobody asks them to"
        yield Finding(Kind.NO_COORDINATOR, undoing[0], message, "run the coordinator: antiphon run compensation")


def _cycles(mesh: Collection[AgentNode]) -> Iterator[Finding]:
    leads_to = _reachable(mesh)
    told: set[frozenset[str]] = set()
    for type in sorted(leads_to):
        if type not in leads_to[type]:
            continue
        circle = frozenset(other for other in leads_to[type] if type in leads_to.get(other, set()))
        if circle not in told:
            told.add(circle)
            agents = sorted(
                {agent.agent for agent in mesh if circle & agent.hears.keys() and circle & {*(agent.says or ())}}
            )
            message = f"{' → '.join(sorted(circle))} come round again, through {', '.join(agents)}"
            yield _cycle(type, message, [agent for agent in mesh if agent.agent in agents], circle)


def _cycle(type: str, message: str, on_it: Collection[AgentNode], circle: Collection[str]) -> Finding:
    """Judge a circle by what can end it: something else that its agents may say, and the hop limits of their workers."""
    unlimited = sorted(agent.agent for agent in on_it if agent.max_hops == 0)
    if unlimited:
        remedy = f"set ANTIPHON_MAX_HOPS for the workers of {', '.join(unlimited)}, which have no hop limit"
        return Finding(Kind.CYCLE, type, message, remedy)
    outcomes = {
        said
        for agent in on_it
        for heard in circle & agent.hears.keys()
        for said in agent.leads_to.get(heard, agent.says or ())
    }
    if outcomes <= set(circle):
        remedy = "say something else once it is enough: a hop limit sets the last event aside, and the workflow fails"
        return Finding(Kind.CYCLE, type, f"{message}, and lead to nothing else", remedy)
    return Finding(Kind.LIMITED_CYCLE, type, message, "fine if something ends it: a count in the event, or a deadline")


def _dead_subscriptions(mesh: Collection[AgentNode]) -> Iterator[Finding]:
    for type in sorted(_types(mesh)):
        hearers = _hearers(mesh, type)
        if hearers and not _sayers(mesh, type) and not any(agent.says is None for agent in mesh):
            message = f"{', '.join(hearers)} hears {type}, which no agent here says"
            yield Finding(Kind.DEAD_SUBSCRIPTION, type, message, "fine if an application publishes it")


def _orphans(mesh: Collection[AgentNode]) -> Iterator[Finding]:
    for type in sorted(_types(mesh)):
        sayers = _sayers(mesh, type)
        if sayers and not _hearers(mesh, type):
            message = f"{', '.join(sayers)} says {type}, which no agent here hears"
            yield Finding(Kind.ORPHAN_EVENT, type, message, "fine if it is where workflows end")


def _unnoticed(mesh: Collection[AgentNode]) -> Iterator[Finding]:
    for agent in mesh:
        if agent.says is None or agent.undoes or any(_hearers(mesh, type) for type in agent.says):
            continue
        said = ", ".join(sorted(agent.says))
        message = f"nobody hears what {agent.agent} says, {said}" if said else f"{agent.agent} says nothing"
        yield Finding(
            Kind.UNNOTICED_AGENT,
            agent.agent,
            f"{message}: where it is down, no workflow fails",
            "watch whether it is up, as antiphon doctor does; or have it say something that others wait for",
        )


def _types(mesh: Iterable[AgentNode]) -> dict[str, str]:
    found: dict[str, str] = {}
    for agent in mesh:
        found |= {**agent.hears, **(agent.says or {})}
    return found


def _sayers(mesh: Iterable[AgentNode], type: str) -> list[str]:
    return sorted(agent.agent for agent in mesh if type in (agent.says or {}))


def _hearers(mesh: Iterable[AgentNode], type: str) -> list[str]:
    return sorted(agent.agent for agent in mesh if type in agent.hears)


def _reachable(mesh: Collection[AgentNode]) -> dict[str, set[str]]:
    """Return for each type the types that can follow from it, at any distance."""
    next: dict[str, set[str]] = {}
    for agent in mesh:
        for heard in agent.hears:
            next.setdefault(heard, set()).update(agent.leads_to.get(heard, agent.says or ()))
    reached: dict[str, set[str]] = {}
    for start, first in next.items():
        seen: set[str] = set()
        todo = [*first]
        while todo:
            type = todo.pop()
            if type not in seen:
                seen.add(type)
                todo += next.get(type, ())
        reached[start] = seen
    return reached


def mermaid(agents: Iterable[AgentNode]) -> str:
    """Draw agents as boxes and events as what goes between them."""
    mesh = [agent for agent in agents if agent.agent != COORDINATOR]
    types = {type: f"e{number}" for number, type in enumerate(sorted(_types(mesh)))}
    lines = ["flowchart LR"]
    lines += [f'    {node}(["{escaped(type)}"])' for type, node in types.items()]
    for number, agent in enumerate(mesh):
        lines.append(f'    a{number}["{escaped(agent.agent)}"]')
        lines += [f"    {types[type]} --> a{number}" for type in sorted(agent.hears)]
        lines += [f"    a{number} --> {types[type]}" for type in sorted(agent.says or ())]
        lines += [f"    a{number} -. undoes .-> {types[type]}" for type in sorted(agent.undoes) if type in types]
    return "\n".join(lines)
