"""What an agent needs to be allowed on the cluster, derived from what it declares, and nothing besides."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from antiphon.bus.consumer import Consumer, Guarantee
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import (
    ACTIVITY,
    AGENTS,
    COORDINATOR,
    LOCKS,
    SAGAS,
    SCHEMAS,
    Names,
    answered_topic,
    dead_topic,
    redrive_topic,
    state_topic,
    told_topic,
    transactional_prefix,
    undo_topic,
)
from antiphon.bus.right import Operation, Pattern, Resource, Right


@dataclasses.dataclass(frozen=True, kw_only=True)
class Role:
    """What one agent does on topics: as its code, or its heartbeats, tell it. Names are plain ones."""

    agent: str
    hears: frozenset[str]
    """Topics of events."""
    says: frozenset[str] | None
    """Topics of events; None: it cannot be told from what it declares."""
    undoes: bool = False
    transactional: bool = True
    follows: bool = False
    """It reads heartbeats, to know the other agents."""

    @property
    def asked(self) -> frozenset[str]:
        """The topics on which the coordinator speaks to this agent."""
        own = {told_topic(self.agent), answered_topic(self.agent)} & self.hears
        return frozenset(own | ({undo_topic(self.agent)} if self.undoes else set()))


def role_of(consumer: Consumer) -> Role:
    """Read a role from an agent's code."""
    says = consumer.emits
    return Role(
        agent=consumer.name,
        hears=frozenset(consumer.topics),
        says=None if says is None else frozenset(said.__event__.topic for said in says),
        undoes=bool(consumer.undoes),
        transactional=consumer.guarantee is Guarantee.EXACTLY_ONCE,
        follows=consumer.follows is not None,
    )


def role_seen(seen: AgentSeen) -> Role:
    """Read a role from a heartbeat, which does not tell of transactions: it is taken to need them."""
    coordinates = seen.agent == COORDINATOR
    return Role(
        agent=seen.agent,
        hears=frozenset(part.topic for part in seen.hears),
        # What the coordinator says no heartbeat can list.
        says=None if coordinates else frozenset(part.topic for part in seen.emits),
        undoes=bool(seen.undoes),
        follows=coordinates,
    )


def rights_of(
    role: Role, names: Names, *, others: Collection[Role] = (), creates: bool = True, registry: bool = False
) -> list[Right]:
    """Return what *role* needs: exactly that, each once, in an order made for reading.

    The coordinator speaks to *others*, and is allowed to speak to nobody else. With *creates*
    agents make the topics that they lack; with a *registry* the schemas of values are not on a topic.
    """
    agent, topic = role.agent, names.topic
    says = _coordinators(others) if role.says is None and agent == COORDINATOR else role.says or frozenset()
    reads = dict.fromkeys(sorted(role.hears), "hears") | {redrive_topic(agent): "is given its dead letters again"}
    if role.undoes:
        reads[undo_topic(agent)] = "is asked to undo"
    if role.follows or says:
        # Nothing is said that somebody could not read.
        reads[AGENTS] = "knows the other agents"
    writes = dict.fromkeys(sorted(says), "says") | {
        dead_topic(agent): "sets aside",
        ACTIVITY: "tells what was handled",
        AGENTS: "tells that it is there",
    }
    # With a registry it is only for who asks whom a change would break.
    both = {state_topic(agent): "keeps state", SCHEMAS: "what it reads and writes with" if registry else "schemas"}
    rights = [Right(Operation.READ, Resource.TOPIC, topic(name), why=why) for name, why in (reads | both).items()]
    rights += [Right(Operation.WRITE, Resource.TOPIC, topic(name), why=why) for name, why in (writes | both).items()]
    if creates:
        # The topics on which agents are asked are their own to make.
        made = {*reads, *writes, *both, SCHEMAS} - {name for other in others for name in other.asked - role.asked}
        rights += [
            Right(Operation.CREATE, Resource.TOPIC, topic(name), why="makes what it lacks") for name in sorted(made)
        ]
    rights.append(Right(Operation.READ, Resource.GROUP, names.group(agent), why="its consumer group"))
    if role.transactional:
        prefix = transactional_prefix(names.group(agent))
        rights.append(
            Right(Operation.WRITE, Resource.TRANSACTIONAL_ID, prefix, Pattern.PREFIXED, why="its workers' transactions")
        )
    return rights


def _coordinators(others: Iterable[Role]) -> frozenset[str]:
    return frozenset({LOCKS, SAGAS}.union(*(role.asked for role in others)))


def rights_of_all(
    roles: Collection[Role], names: Names, *, creates: bool = True, registry: bool = False
) -> dict[str, list[Right]]:
    """Return by agent what each of *roles* needs, as a mesh of these."""
    return {
        role.agent: rights_of(role, names, others=roles, creates=creates, registry=registry)
        for role in sorted(roles, key=lambda role: role.agent)
    }


class Kind(StrEnum):
    """What a list of rights cannot say by itself. The document uses these words."""

    SAYS_ANYTHING = "says_anything"
    """What it says is not declared, so that no right can be derived from it."""
    SPEAKS_TO_NOBODY = "speaks_to_nobody"
    """The coordinator was asked for without the agents that it speaks to."""


@dataclasses.dataclass(frozen=True)
class Note:
    """Something to know about a list of rights."""

    kind: Kind
    agent: str
    message: str


def notes_on(roles: Collection[Role]) -> list[Note]:
    """Return what *roles*' rights leave open."""
    found: list[Note] = []
    for role in sorted(roles, key=lambda role: role.agent):
        if role.says is None and role.agent != COORDINATOR:
            found.append(
                Note(Kind.SAYS_ANYTHING, role.agent, f"{role.agent} may say anything: add Write on those topics")
            )
        if role.agent == COORDINATOR and not any(other.asked for other in roles):
            message = f"{role.agent} asks agents to undo: name them too, for the right to write on their topics"
            found.append(Note(Kind.SPEAKS_TO_NOBODY, role.agent, message))
    return found


def principal_of(agent: str, template: str) -> str:
    """Return who *agent* is on the cluster.

    >>> principal_of("triage", "User:CN={agent}")
    'User:CN=triage'
    """
    return template.replace("{agent}", agent)


@dataclasses.dataclass(frozen=True)
class RightsPlan:
    """What would have to change for principals to have what their agents need. By principal, sorted."""

    grant: Mapping[str, list[Right]]
    fine: Mapping[str, list[Right]]
    more: Mapping[str, list[Right]]
    """What they have and their agents do not need. It is shown, and never taken away by us."""

    @property
    def is_done(self) -> bool:
        return not self.grant


def plan_rights(wanted: Mapping[str, Iterable[Right]], existing: Mapping[str, Iterable[Right]]) -> RightsPlan:
    """Compare what principals need with what they have."""
    needs = {principal: {*rights} for principal, rights in wanted.items()}
    has = {principal: {*existing.get(principal, ())} for principal in needs}
    return RightsPlan(
        grant=_by_principal({principal: needs[principal] - has[principal] for principal in needs}),
        fine=_by_principal({principal: needs[principal] & has[principal] for principal in needs}),
        more=_by_principal({principal: has[principal] - needs[principal] for principal in needs}),
    )


def _by_principal(rights: Mapping[str, set[Right]]) -> dict[str, list[Right]]:
    return {principal: sorted(some) for principal, some in sorted(rights.items()) if some}
