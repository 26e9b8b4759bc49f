"""Who is in the mesh that is played: agents, sagas and the coordinator, and how a handler of theirs is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson

from antiphon.bus.consumer import Consumer, Lane
from antiphon.bus.delivery import current
from antiphon.bus.errors import PermanentError, UndoneBeforeError
from antiphon.bus.heartbeat import AgentSeen, hears, says
from antiphon.bus.state import PartitionState
from antiphon.bus.subscriptions import subscriptions
from antiphon.bus.tombstones import is_marked, mark
from antiphon.bus.undo import UndoRequested
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.orchestrator import Saga, orchestrator
from antiphon.schemas.errors import SchemaError
from antiphon.schemas.event import Event, envelope_of
from antiphon.testing.delivery import MemoryServices, delivery_of
from antiphon.testing.mesh import consumers_of
from antiphon.testing.model.position import Attempt, Due, Position
from antiphon.testing.outside import Outside
from antiphon.testing.story import START_US

_HOP_US = 1_000


class NotModelledError(TypeError):
    """Something is to be played that goes by a clock of its own, or that is two versions at once."""

    def __init__(self, name: str, *, canary: bool = False) -> None:
        expected = "agents, which act on events alone, and sagas, whose time is played"
        got, remedy = (
            ("a consumer with a canary", "Explore each version by itself; antiphon.testing.simulation runs both")
            if canary
            else (
                "a consumer that acts when a time has come by a clock of its own",
                "Give a Saga itself, not its consumer(); run others on antiphon.testing.mesh.MemoryMesh",
            )
        )
        super().__init__(f"expected {expected}, got {name!r}, {got}. {remedy}.")


class Ran(NamedTuple):
    """What came of calling a handler until it was through with an event."""

    emitted: tuple[Event, ...] = ()
    causes: tuple[str, ...] = ()
    changed: Mapping[str, bytes | None] = {}
    remembered: bytes = b""
    found: bytes = b""
    attempts: int = 1
    woken_us: int | None = None
    """When it wants to be called again."""
    error: BaseException | None = None
    passed_over: bool = False
    """What it asks for had been undone before it came."""

    @property
    def answer(self) -> bytes:
        """What a second call should answer as well."""
        said = [[event.__event__.type, event.model_dump(mode="json")] for event in self.emitted]
        kept = {key: None if value is None else value.decode() for key, value in self.changed.items()}
        return orjson.dumps([said, kept, repr(self.error)], option=orjson.OPT_SORT_KEYS)

    def differs(self, thrown: Attempt) -> bool:
        """Say whether the handler answered otherwise than before although it found the same."""
        return thrown.found == self.found and thrown.answer != self.answer


class Crew:
    """The consumers of a mesh, the coordinator among them. Raises `NotModelledError`."""

    def __init__(self, agents: Iterable[object], outside: Outside) -> None:
        self._outside = outside
        self._now_us = START_US
        given = [*agents]
        sagas = [agent for agent in given if isinstance(agent, Saga)]
        acting = consumers_of(agent for agent in given if not isinstance(agent, Saga))
        for consumer in acting:
            if consumer.wakes or consumer.canary is not None:
                raise NotModelledError(consumer.name, canary=consumer.canary is not None)
        conducting = [orchestrator(saga, clock_us=lambda: self._now_us) for saga in sagas]
        self.sagas = {saga.name: saga for saga in sagas}
        self.seen = [_seen(consumer) for consumer in (*acting, *conducting)]
        """Their heartbeats."""
        self._mesh = subscriptions(self.seen, now_us=START_US)
        # Its own times, a workflow's deadline and when it is forgotten, are not played.
        undoing = coordinator(clock_us=lambda: START_US, mesh=self._mesh)
        self.consumers = {consumer.name: consumer for consumer in (*acting, *conducting, undoing)}
        self._undoable = {type for consumer in self.consumers.values() for type in consumer.undoes}
        self._hearers: dict[tuple[str, str], list[str]] = {}
        for consumer in self.consumers.values():
            for type, event_class in consumer.hears.items():
                self._hearers.setdefault((type, event_class.__event__.topic), []).append(consumer.name)

    def hearers(self, event: Event) -> Sequence[str]:
        """Return who has to handle *event*."""
        if isinstance(event, UndoRequested):
            return [event.agent]
        return self._hearers.get((event.__event__.type, event.__event__.topic), ())

    def can_undo(self, event: Event) -> bool:
        return event.__event__.type in self._undoable

    def asks(self, agent: str, event: Event) -> bool:
        """Say whether *event*, emitted by *agent*, is a saga's command."""
        return self._mesh.asks(agent, event.__event__.type)

    async def call(self, position: Position, due: Due) -> Ran:
        """Call the handler as a worker would, as often as its retries say. What is outside is changed by that."""
        consumer = self.consumers[due.agent]
        self._outside.put_back(position.outside)
        self._now_us = position.now_us
        stored: dict[str, bytes | None] = {
            key: value for (agent, key), value in position.states.items() if agent == due.agent
        }
        envelope = envelope_of(due.event)
        id = envelope.id
        if is_marked(stored.get(envelope.key or envelope.correlation_id), id):
            return Ran(error=UndoneBeforeError(due.agent, envelope.type), passed_over=True)
        services = MemoryServices()
        if (remembered := position.remembered.get((due.agent, id))) is not None:
            services.effects[id] = orjson.loads(remembered)
        attempt = 0
        while True:
            attempt += 1
            ran = await _attempted(consumer, due, attempt, stored, services)
            if ran.error is None or isinstance(ran.error, PermanentError | SchemaError):
                return ran
            if consumer.retry.gives_up(attempt, ran.error):
                return ran


async def _attempted(
    consumer: Consumer, due: Due, attempt: int, stored: Mapping[str, bytes | None], services: MemoryServices
) -> Ran:
    state = PartitionState("state", 0, dict(stored)).view()
    delivery = delivery_of(
        due.event, agent=due.agent, version=consumer.version, attempt=attempt, state=state, services=services
    )
    token = current.set(delivery)
    ran = Ran(attempts=attempt, found=stored.get(delivery.state_key) or b"")
    try:
        emitted = tuple(_timed(one) for one in await consumer.handler(due.event))
        if delivery.envelope.undoes is not None and consumer.lane is Lane.KEY:
            mark(state.mapping(delivery.state_key), delivery.envelope.undoes, START_US)
        ran = ran._replace(emitted=emitted, causes=delivery.causes, changed=state.changed())
    except Exception as error:
        ran = ran._replace(error=error)
    finally:
        current.reset(token)
    effects = services.effects.get(delivery.envelope.id)
    return ran._replace(
        remembered=b"" if effects is None else orjson.dumps(effects), woken_us=min(services.woken_at_us, default=None)
    )


def _timed(event: Event) -> Event:
    """Give *event* a time that is the same each time."""
    envelope = envelope_of(event)
    return event.sealed(dataclasses.replace(envelope, time_us=START_US + envelope.hops * _HOP_US))


def _seen(consumer: Consumer) -> AgentSeen:
    return AgentSeen(
        agent=consumer.name,
        version=consumer.version,
        instance="model",
        started_us=START_US,
        time_us=START_US,
        interval_s=1.0,
        hears=hears(consumer),
        emits=says(consumer),
        undoes=sorted(consumer.undoes),
        capacity=consumer.concurrency,
    )
