"""Tell a workflow as a story, and get the records it would have left: for tests of whatever shows workflows.

>>> story = Story()
>>> opened = story.published("ticket.opened", {"ticket_id": "T-7"})
>>> [triaged] = story.handled("triage", opened, Says("ticket.triaged"), took_ms=40)
>>> story.stitched().state.value, triaged.envelope.hops
('completed', 1)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from antiphon.bus.activity import Activity, Emitted, Failure, Handled, Logged, Spent
from antiphon.bus.heartbeat import AgentSeen, Heard, Said
from antiphon.bus.undo import UndoRequested
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.ids import caused_id
from antiphon.tracing.seen import SeenEvent
from antiphon.tracing.workflow import Workflow, stitch

START_US = 1_795_341_600_000_000
"""2026-11-22T10:00:00Z, when every story begins."""


@dataclasses.dataclass(frozen=True, slots=True)
class Says:
    """An event that an agent emits in the story."""

    type: str
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    fails: bool = False
    undo: bool = False
    """Its agent can undo it."""
    topic: str | None = None


class Story:
    """One workflow, told event by event, by agents of *version* unless it says otherwise. Times are milliseconds after its start."""

    def __init__(self, root_id: str = "0199f2c1-0000-7000-8000-000000000000", *, version: str = "1") -> None:
        self.root_id = root_id
        self.version = version
        self.events: list[SeenEvent] = []
        self.activity: list[Activity] = []
        self.agents: list[AgentSeen] = []
        self.now_ms = 0.0
        """When the last thing happened; what comes next happens then unless it says otherwise."""

    def published(
        self,
        type: str,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        at_ms: float = 0,
        deadline_ms: float | None = None,
    ) -> SeenEvent:
        """An event comes from outside. The first one is the workflow's root unless it says otherwise."""
        envelope = Envelope(
            id=id or self.root_id,
            type=type,
            source="/apps/shop",
            time_us=_us(at_ms),
            correlation_id=self.root_id,
            deadline_us=None if deadline_ms is None else _us(deadline_ms),
        )
        return self.seen(envelope, data)

    def handled(  # noqa: PLR0913 - one word for each thing a delivery may be; each has a default
        self,
        agent: str,
        event: SeenEvent,
        *says: Says,
        at_ms: float | None = None,
        took_ms: float = 1,
        attempt: int = 1,
        outcome: str = "completed",
        also: Sequence[SeenEvent] = (),
        error: Failure | None = None,
        usage: Sequence[Spent] = (),
        confidence: float | None = None,
        version: str | None = None,
        logs: Sequence[Logged] = (),
    ) -> list[SeenEvent]:
        """*agent* is through with *event* (and, in a join, *also* with others), and says what it says."""
        started_us = _us(self.now_ms if at_ms is None else at_ms)
        ended_us = started_us + round(took_ms * 1_000)
        causes = tuple(other.id for other in also)
        made = [
            Envelope(
                id=caused_id(event.id, agent, ordinal),
                type=said.type,
                source=f"/agents/{agent}",
                time_us=ended_us,
                correlation_id=event.envelope.correlation_id,
                parent_id=event.id,
                causes=causes,
                deadline_us=event.envelope.deadline_us,
                hops=event.envelope.hops + 1,
            )
            for ordinal, said in enumerate(says)
        ]
        handled = Handled(
            event_id=event.id,
            event_type=event.envelope.type,
            correlation_id=event.envelope.correlation_id,
            topic=event.topic,
            partition=event.partition,
            offset=event.offset,
            attempt=attempt,
            outcome=outcome,
            started_us=started_us,
            duration_us=ended_us - started_us,
            queue_us=max(0, started_us - event.envelope.time_us),
            emitted=[
                Emitted(id=envelope.id, type=envelope.type, fails=said.fails, undo=b"value" if said.undo else None)
                for envelope, said in zip(made, says, strict=True)
            ],
            causes=[*causes],
            error=error,
            usage=[*usage],
            confidence=confidence,
            logs=[*logs],
        )
        self.activity.append(
            Activity(agent=agent, version=version or self.version, instance=f"{agent}-1", deliveries=[handled])
        )
        self.now_ms = (ended_us - START_US) / 1_000
        return [self.seen(envelope, said.data, topic=said.topic) for envelope, said in zip(made, says, strict=True)]

    def undo_asked(self, event: SeenEvent, because: SeenEvent, *, at_ms: float | None = None) -> SeenEvent:
        """The coordinator asks the agent that emitted *event* to undo it, because of another."""
        agent = event.envelope.source.removeprefix("/agents/")
        envelope = Envelope(
            id=caused_id(because.id, "compensation", len(self.events)),
            type=UndoRequested.__event__.type,
            source="/agents/compensation",
            time_us=_us(self.now_ms if at_ms is None else at_ms),
            correlation_id=event.envelope.correlation_id,
            parent_id=because.id,
            hops=because.envelope.hops + 1,
        )
        data = {
            "agent": agent,
            "event_id": event.id,
            "event_type": event.envelope.type,
            "value": "dmFsdWU=",
            "reason": because.envelope.type,
        }
        return self.seen(envelope, data, topic=f"{agent}.undo")

    def seen(self, envelope: Envelope, data: Mapping[str, Any] | None = None, *, topic: str | None = None) -> SeenEvent:
        """Put an event on its topic."""
        event = SeenEvent(
            envelope=envelope,
            topic=topic or envelope.type,
            partition=2,
            offset=len(self.events),
            data={} if data is None else dict(data),
        )
        self.events.append(event)
        return event

    def works(
        self,
        agent: str,
        *,
        hears: Iterable[str] = (),
        emits: Iterable[str] = (),
        fails: Iterable[str] = (),
        undoes: Iterable[str] = (),
        at_ms: float = 0,
        stopped: bool = False,
        instance: str | None = None,
        version: str | None = None,
    ) -> AgentSeen:
        """A worker of *agent* gives a sign of life; it does so every second."""
        failing = {*fails}
        seen = AgentSeen(
            agent=agent,
            version=version or self.version,
            instance=instance or f"{agent}-1",
            started_us=START_US,
            time_us=_us(at_ms),
            interval_s=1.0,
            stopped=stopped,
            hears=[Heard(type=type, topic=type) for type in hears],
            emits=[Said(type=type, topic=type, fails=type in failing) for type in (*emits, *failing)],
            undoes=[*undoes],
            capacity=100,
        )
        self.agents.append(seen)
        return seen

    def stitched(self, *, now_ms: float | None = None) -> Workflow:
        """Stitch what was told, as somebody would see it at *now_ms*."""
        now_us = _us(self.now_ms if now_ms is None else now_ms)
        return stitch(self.events, self.activity, self.agents, now_us=now_us, correlation_id=self.root_id)


def _us(ms: float) -> int:
    return START_US + round(ms * 1_000)
