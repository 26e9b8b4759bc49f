"""The mesh of one test: its names, its workers, what is published, and what a read_committed reader sees of it in the end."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from accounts import Deposited
from crew import Crew, Process
from probe import Asked, attempts

from antiphon import Agent, Event, Mesh
from antiphon.bus.activity import Activity
from antiphon.bus.connect import connect, schema_store
from antiphon.bus.consumer import Consumer
from antiphon.bus.names import ACTIVITY
from antiphon.bus.record import Record
from antiphon.bus.settings import Settings
from antiphon.schemas.codec import Codec
from antiphon.testing.oracle import Run, problems
from antiphon.testing.waiting import eventually

E = TypeVar("E", bound=Event)

HERE = Path(__file__).parent
PROBE = f"{HERE / 'probe.py'}:probe"
ACCOUNTS = HERE.parent / "kafka/accounts.py"
LEDGER, AUDITOR = f"{ACCOUNTS}:ledger", f"{ACCOUNTS}:auditor"
PARTITIONS = 2
# What a busy machine may take for what a quiet one does in a second or two.
PATIENCE_S = 90.0
_VISIBLE_S = 10.0


def deposits(first: int, count: int) -> list[Deposited]:
    """Return *count* events of twenty accounts in turn; no two numbers are alike."""
    return [Deposited(account=f"a{n % 20}", n=n, amount=n * n % 997) for n in range(first, first + count)]


class World:
    """Reads and writes by *bootstrap*; its workers do by *through*, where that is another way to the same brokers."""

    def __init__(
        self, bootstrap: str, namespace: str, folder: Path, *, through: str | None = None, **settings: object
    ) -> None:
        self.folder = folder
        self.settings = Settings(bootstrap_servers=bootstrap, namespace=namespace, partitions=PARTITIONS)
        self.names = self.settings.names
        self.crew = Crew(
            folder,
            bootstrap_servers=through or bootstrap,
            namespace=namespace,
            partitions=PARTITIONS,
            **settings,
        )
        self.crew.environment["PROBE_FOLDER"] = str(folder)
        self.bus = connect(self.settings)
        store = schema_store(self.settings, self.bus, self.names, PARTITIONS)
        self.codec = Codec(store)
        self.mesh = Mesh(self.bus, settings=self.settings, store=store)
        self.asked: list[Event] = []
        """All that was published."""

    async def __aenter__(self) -> Self:
        await self.mesh.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.crew.logs())
        self.crew.__exit__(kind, error, trace)
        await self.mesh.__aexit__(kind, error, trace)
        await self.bus.close()

    # What goes in.

    def start(self, *words: str, under: Sequence[str] = (), **settings: object) -> Process:
        return self.crew.start(*words, under=under, **settings)

    async def publish(self, events: Sequence[Event]) -> list[str]:
        """Publish *events* and return their ids."""
        self.asked += events
        return [published.id for published in await self.mesh.publish_all(events)]

    async def ask(self, *events: Asked) -> list[str]:
        return await self.publish(events)

    def go(self) -> None:
        """Let go of whatever is held."""
        (self.folder / "go").touch()

    # What becomes of it.

    @property
    def attempts(self) -> Counter[int]:
        """How often each event's handler was begun."""
        return Counter(n for _, n in attempts(self.folder))

    async def begun(self, *numbers: int) -> None:
        """Wait until handlers of these events are running, or did."""
        await eventually(
            lambda: all(self.attempts[n] for n in numbers), PATIENCE_S, what=f"handlers of {numbers} to begin"
        )

    async def events(self, event_class: type[E]) -> list[E]:
        """Return what a read_committed reader sees now."""
        topic = event_class.__event__.topic
        return (await self._run(topic)).events(event_class)

    async def came(self, event_class: type[E], count: int) -> list[E]:
        """Wait until at least *count* of *event_class* can be read, and return all that can."""
        topic = self.names.topic(event_class.__event__.topic)
        found: list[E] = []

        async def there() -> bool:
            # Far cheaper than reading; markers of transactions count too, so it says too much, never too little.
            bounds = await self.bus.bounds([topic])
            if sum(end for _, end in bounds.values()) < count:
                return False
            found[:] = await self.events(event_class)
            return len(found) >= count

        try:
            await eventually(there, PATIENCE_S, what=f"{count} of {topic} to be there")
        except TimeoutError as error:
            error.add_note(f"{len(await self.events(event_class))} are there")
            raise
        return found

    async def instances(self, agent: str, event_id: str) -> list[tuple[str, str]]:
        """Return who handled an event by what can be read of its activity, and how each attempt ended."""
        run = await self._run(ACTIVITY)
        return [
            (activity.instance, handled.outcome)
            for record in run.records[ACTIVITY]
            for activity in [self.codec.decode(Activity, record.value or b"")]
            if activity.agent == agent
            for handled in activity.deliveries
            if handled.event_id == event_id
        ]

    async def wrong(self, *agents: Agent | Consumer, fold: bool = True) -> list[str]:
        """Return what does not hold of all that can be read: loss, repeats, order, state. A sentence each.

        What a transaction wrote is not to be seen on all its partitions at the same moment, so what looks wrong is looked at again.
        """
        seen: list[str] = []

        async def all_is_right() -> bool:
            seen[:] = await self._seen_wrong(*agents, fold=fold)
            return not seen

        with contextlib.suppress(TimeoutError):
            await eventually(all_is_right, _VISIBLE_S, what="every partition to tell the same")
        return seen

    async def _seen_wrong(self, *agents: Agent | Consumer, fold: bool) -> list[str]:
        topics = await self.bus.topics()
        run = await self._run(*(self.names.plain(name) for name in topics if name != self.names.plain(name)))
        consumers = [one.consumer() if isinstance(one, Agent) else one for one in agents]
        heard = sum(len(run.events(event_class)) for event_class in {type(event) for event in self.asked})
        lost = [] if heard == len(self.asked) else [f"published {len(self.asked)}, and {heard} can be read"]
        return lost + await problems(run, consumers, fold=fold)

    async def _run(self, *topics: str) -> Run:
        bounds = await self.bus.bounds([self.names.topic(topic) for topic in topics])
        start = {partition: first for partition, (first, _) in bounds.items()}
        stop = {partition: end for partition, (_, end) in bounds.items()}
        records: defaultdict[str, list[Record]] = defaultdict(list)
        async for record in self.bus.read(start, stop):
            records[self.names.plain(record.topic)].append(record)
        return Run(0, (), records, self.codec)
