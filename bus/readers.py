"""Those who read an event, asked before it is published as a class of which they were not asked yet."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from antiphon.bus.contracts import Contract, Contracts, of_workers, read_schemas
from antiphon.bus.errors import BreaksReadersError
from antiphon.bus.gate import gate
from antiphon.bus.guard import Unreadable
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import Names
from antiphon.bus.port import Bus
from antiphon.bus.roll import read_agents
from antiphon.bus.schema_digest import class_digest
from antiphon.bus.subscriptions import is_live, subscriptions
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import now_us
from antiphon.schemas.event import Event

log = logging.getLogger(__name__)


class Readers:
    """The readers of one mesh. What they read is read once for all classes that are asked about together."""

    def __init__(self, bus: Bus, names: Names, codec: Codec, *, policy: Unreadable = Unreadable.REFUSE) -> None:
        self._bus = bus
        self._names = names
        self._codec = codec
        self._policy = policy
        self._asked: set[type[Event]] = set()

    async def check(self, classes: Iterable[type[Event]], *, agent: str = "") -> None:
        """Ask whether all who read events of *classes* can; of an *agent*'s own workers only those that are up.

        Raises `BreaksReadersError`. Costs `antiphon.agents` the first time, and
        `antiphon.schemas` where somebody reads with another schema; a class is asked about once.
        """
        new = {one for one in classes if one not in self._asked and not one.__event__.type.startswith("antiphon.")}
        if not new or self._policy is Unreadable.PUBLISH:
            return
        now = now_us()
        workers = [
            seen
            for seen in await read_agents(self._bus, self._names, self._codec)
            if seen.agent != agent or is_live(seen, now_us=now)
        ]
        if _read_otherwise(new, workers):
            known = subscriptions(workers, now_us=now)
            self._judge(new, of_workers(known, await read_schemas(self._bus, self._names)), agent)
        self._asked |= new

    def _judge(self, classes: Iterable[type[Event]], live: Contracts, agent: str) -> None:
        writes = tuple(
            Contract(agent=agent, version="", type=one.__event__.type, topic=one.__event__.topic, schema=one)
            for one in classes
        )
        verdict = gate(Contracts((), writes), live)
        for problem in verdict.problems:
            error = BreaksReadersError(problem.type, problem.path, problem.message, problem.remedy, problem.agents)
            if self._policy is Unreadable.REFUSE:
                raise error
            log.warning("events are published that somebody cannot read", extra={"reason": str(error)})


def _read_otherwise(classes: Collection[type[Event]], workers: Iterable[AgentSeen]) -> bool:
    """Say whether somebody may read one of *classes* with another schema than its own."""
    own = {one.__event__.type: (one.__event__.topic, class_digest(one)) for one in classes}
    return any(
        (part.topic, part.schema_digest) != own[part.type]
        for seen in workers
        for _, hears, _ in seen.versions
        for part in hears
        if part.type in own and part.schema_digest is not None
    )
