"""What things are called on the cluster: topics, groups and transactional ids, under one namespace."""

from __future__ import annotations

import dataclasses
import re

ACTIVITY = "antiphon.activity"
AGENTS = "antiphon.agents"
SCHEMAS = "antiphon.schemas"
LOCKS = "antiphon.lock.events"
SAGAS = "antiphon.saga.events"

COORDINATOR = "compensation"
"""The name of the mesh's own agent, which has failed workflows undone, and keeps locks."""

# What Kafka allows in a topic's name; an agent's name becomes part of several.
_LEGAL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,199}")


# A sandbox's id, as `antiphon.replay` makes them: no topic of a mesh itself is called so.
_SANDBOX = re.compile(r"(?:^|\.)replay\.([0-9a-f]{16})\.")


def is_legal(name: str) -> bool:
    """Say whether *name* can be an agent's, a topic's or a namespace's.

    >>> is_legal("stock"), is_legal("my agent"), is_legal("")
    (True, False, False)
    """
    return _LEGAL.fullmatch(name) is not None


def is_reserved(name: str) -> bool:
    """Say whether *name* is the mesh's own, so that nobody else's agent can have it."""
    return name == COORDINATOR or name.startswith("antiphon")


def sandbox_namespace(id: str) -> str:
    """Return the namespace, below that of the mesh, in which a replay has real workers handle events again."""
    return f"replay.{id}"


def sandbox_of(topic: str) -> str | None:
    """Return the id of the sandbox in which a topic stands, of this namespace or one below it; None for a mesh's own.

    >>> sandbox_of("replay.0199f2c100000001.ticket.opened"), sandbox_of("replay.started")
    ('0199f2c100000001', None)
    """
    found = _SANDBOX.search(topic)
    return None if found is None else found[1]


@dataclasses.dataclass(frozen=True)
class Names:
    """Names under a namespace. Everything else in the mesh uses the plain ones.

    >>> Names("staging").topic("order.placed"), Names("").state("stock")
    ('staging.order.placed', 'stock.state')
    """

    namespace: str = ""

    def topic(self, topic: str) -> str:
        return f"{self.namespace}.{topic}" if self.namespace else topic

    def plain(self, topic: str) -> str:
        """Undo `topic`."""
        return topic.removeprefix(f"{self.namespace}.") if self.namespace else topic

    def group(self, agent: str) -> str:
        return self.topic(agent)

    def state(self, agent: str) -> str:
        return self.topic(state_topic(agent))

    def dead(self, agent: str) -> str:
        return self.topic(dead_topic(agent))

    def undo(self, agent: str) -> str:
        return self.topic(undo_topic(agent))

    def redrive(self, agent: str) -> str:
        return self.topic(redrive_topic(agent))


def state_topic(agent: str) -> str:
    """Return the topic on which *agent* keeps its state."""
    return f"{agent}.state"


def dead_topic(agent: str) -> str:
    """Return the topic on which stands what *agent* set aside."""
    return f"{agent}.dead"


def undo_topic(agent: str) -> str:
    """Return the topic on which *agent* is asked to undo what it did."""
    return f"{agent}.undo"


def redrive_topic(agent: str) -> str:
    """Return the topic on which *agent* is given its dead letters again."""
    return f"{agent}.redrive"


def transactional_prefix(group: str) -> str:
    """Return how the transactional ids of the members of *group* begin, and nobody else's: no name has a slash in it.

    >>> transactional_prefix("stock"), transactional_prefix("stock.vip")
    ('stock/', 'stock.vip/')
    """
    return f"{group}/"


def told_topic(saga: str) -> str:
    """Return the topic on which *saga* is told what became of what it asked for."""
    return f"{saga}.told"


def answered_topic(agent: str) -> str:
    """Return the topic on which *agent* is told that a workflow holds what it asked for."""
    return f"{agent}.answered"
