"""Retiring an agent: what keeps it from being taken out of the mesh for good, and what is left of it there."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import Names, answered_topic, told_topic
from antiphon.cli.errors import listed
from antiphon.cli.output import counted
from antiphon.compensation.locks import Lock
from antiphon.compensation.reading import Seen
from antiphon.compensation.workflow import SETTLED, Phase, Workflow


class Kind(StrEnum):
    """What keeps an agent. The document uses these words."""

    RUNNING = "running"
    LAG = "lag"
    DEAD_LETTERS = "dead_letters"
    UNDOS = "undos"
    SAGAS = "sagas"
    LOCKS = "locks"


@dataclasses.dataclass(frozen=True)
class Blocker:
    """One thing that is to be done before."""

    kind: Kind
    detail: str
    remedy: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """How an agent stands in its mesh."""

    agent: str
    workers: Sequence[str] = ()
    """Those that are up."""
    unhandled: int = 0
    letters: int = 0
    undos: Collection[str] = ()
    """Workflows of which it may have to undo something yet."""
    completed: int = 0
    """Workflows that are through, and could still be refused: then nobody would undo its part."""
    runs: Collection[str] = ()
    """Workflows in which a saga of its name goes on."""
    waiting: int = 0
    """Its events that wait until their workflow holds something."""
    group: str
    topics: Sequence[str]
    deserted: Sequence[str] = ()
    """Event types that nobody else hears."""

    def blockers(self) -> list[Blocker]:
        """Return what is to be done first, in the order of doing; none: it may go."""
        return [blocker for blocker in self._all() if blocker is not None]

    def _all(self) -> Iterable[Blocker | None]:
        name = self.agent
        yield _if(
            self.workers,
            Kind.RUNNING,
            f"{counted(len(self.workers), 'worker')} up: {listed(self.workers)}",
            "stop them; what they hear meanwhile is handled by nobody else, so stop who says it first, or let them drain",
        )
        yield _if(
            self.unhandled,
            Kind.LAG,
            f"{counted(self.unhandled, 'event')} not handled",
            f"run it until it has none: antiphon run MODULE:{name}",
        )
        yield _if(
            self.letters,
            Kind.DEAD_LETTERS,
            f"{counted(self.letters, 'dead letter')} that nobody has decided about",
            f"antiphon dead redrive --agent {name}, or antiphon dead discard --agent {name}",
        )
        yield _if(
            self.undos,
            Kind.UNDOS,
            f"something of it may have to be undone in {counted(len(self.undos), 'workflow')}: {listed(self.undos, at_most=3)}",
            "wait until they have ended; of those that wait for a person antiphon saga show says more",
        )
        yield _if(
            self.runs,
            Kind.SAGAS,
            f"{counted(len(self.runs), 'run')} of the saga have not ended: {listed(self.runs, at_most=3)}",
            "wait until they have; antiphon saga cancel ends one",
        )
        yield _if(
            self.waiting,
            Kind.LOCKS,
            f"{counted(self.waiting, 'event')} of it wait until their workflow holds something",
            "wait until they were handled; antiphon saga list shows who holds it",
        )

    def notes(self) -> list[str]:
        """Return what to know, and nothing to do about."""
        found: list[str] = []
        if self.deserted:
            found.append(f"nobody else hears {listed(self.deserted)}")
        if self.completed:
            found.append(
                f"{counted(self.completed, 'workflow')} ended well and may still be refused: its part would not be undone then"
            )
        return found

    def document(self, *, removed: bool) -> dict[str, Any]:
        """Return it as JSON says it, its keys in the promised order."""
        blockers = self.blockers()
        return {
            "agent": self.agent,
            "ready": not blockers,
            "blockers": [dataclasses.asdict(blocker) for blocker in blockers],
            "notes": self.notes(),
            "group": self.group,
            "topics": [*self.topics],
            "removed": removed,
        }


def _if(there: object, kind: Kind, detail: str, remedy: str) -> Blocker | None:
    return Blocker(kind, detail, remedy) if there else None


def own_topics(agent: str, names: Names, existing: Collection[str]) -> list[str]:
    """Return the topics, as the cluster calls them, that are *agent*'s alone and are there."""
    own = (
        names.state(agent),
        names.dead(agent),
        names.redrive(agent),
        names.undo(agent),
        names.topic(answered_topic(agent)),
        names.topic(told_topic(agent)),
    )
    return [topic for topic in own if topic in existing]


def deserted(agent: str, workers: Iterable[AgentSeen]) -> list[str]:
    """Return the event types that *agent* hears and nobody else does."""
    mine: set[str] = set()
    others: set[str] = set()
    for seen in workers:
        (mine if seen.agent == agent else others).update(part.type for part in seen.hears)
    return sorted(type for type in mine - others if not type.startswith("antiphon."))


def undoing(agent: str, workflows: Mapping[str, Workflow]) -> tuple[list[str], int]:
    """Return the workflows of which *agent* may have to undo something, and how many ended well and might be refused."""
    open_: list[str] = []
    completed = 0
    for id, workflow in sorted(workflows.items()):
        if any(effect.agent == agent and effect.status not in SETTLED for effect in workflow.effects.values()):
            if workflow.phase is Phase.COMPLETED:
                completed += 1
            else:
                open_.append(id)
    return open_, completed


def going_on(saga: str, workflows: Mapping[str, Seen]) -> list[str]:
    """Return the workflows in which a run of *saga* goes on."""
    ended = {Phase.COMPLETED.value, Phase.COMPENSATED.value}
    return sorted(
        id
        for id, seen in workflows.items()
        if any(name == saga and run["phase"] not in ended for name, run in seen.runs)
    )


def waiting(agent: str, locks: Iterable[Lock]) -> int:
    """Return how many of *agent*'s events wait for a lock."""
    return sum(request.agent == agent for lock in locks for request in lock.waiting)
