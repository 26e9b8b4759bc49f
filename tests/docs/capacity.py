"""What a mesh needs: counted from the code, taken from the performance page, and multiplied out for an example.

    python tests/docs/capacity.py           the tables of docs/operate/capacity.md as they would be now
    python tests/docs/capacity.py --save    and write them there

What is counted follows from code, what is measured from the last `make bench ARGS=--save`, and
the example from both. A test compares all three with what stands on the page.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from antiphon import Agent, Context, Event, Saga, Step
from antiphon.bus.consumer import Consumer
from antiphon.bus.names import ACTIVITY, Names
from antiphon.bus.record import Record
from antiphon.bus.topics import needed
from antiphon.compensation.coordinator import coordinator
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs/operate/capacity.md"
MEASURED = ROOT / "docs/reference/performance.md"

Row = tuple[str, ...]


class Asked(Event, type="page.asked", topic="page.asked"):
    """Seven fields, as the event that the benchmarks send."""

    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int


class Answered(Event, type="page.answered", topic="page.answered"):
    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int


class Freed(Event, type="page.freed", topic="page.freed"):
    name: str


ASKED = Asked(
    name="certifi",
    text="Mozilla's carefully curated collection of root certificates, for validating SSL certificates.",
    count=412,
    share=0.73,
    is_new=True,
    place="reader",
    when_us=1_763_805_600_000_123,
)
plain, keeping, undoing, holding = Agent("plain"), Agent("keeping"), Agent("undoing"), Agent("holding")


@plain.on(Asked)
async def answer(asked: Asked) -> Answered:
    """Say what was heard."""
    return Answered(**asked.__dict__)


@keeping.on(Asked)
async def remember(asked: Asked, context: Context) -> Answered:
    """Keep an empty value: what stands on the topic is what a record costs by itself."""
    context.state["n"] = 0
    return Answered(**asked.__dict__)


@undoing.on(Asked)
async def do(asked: Asked) -> Answered:
    """Do what can be undone."""
    return Answered(**asked.__dict__)


@undoing.undoes(Answered)
async def free(answered: Answered) -> Freed:
    """Undo it."""
    return Freed(name=answered.name)


@holding.on(Asked, holds="place")
async def take(asked: Asked) -> Answered:
    """Wait for its turn."""
    return Answered(**asked.__dict__)


def _ask(freed: Freed) -> Asked:
    return ASKED.model_copy(update={"name": freed.name})


conducting = Saga(
    "conducting", starts=Freed, steps=[Step("ask", action=_ask, done=Answered, kind="read_only")], version="1"
)


# Counted.


def topics(consumer: Consumer) -> list[str]:
    """Return the topics that are there because of *consumer*, those of events left out."""
    shared = {*needed([], Names())}
    events = {said.__event__.topic for said in (Asked, Answered, Freed)}
    return sorted({*needed([consumer], Names())} - shared - events)


TOPICS: Mapping[str, Consumer] = {
    "hears and says": plain.consumer(),
    "can undo": undoing.consumer(),
    "holds something": holding.consumer(),
    "is a saga": conducting.consumer(),
    "is the coordinator": coordinator(),
}


def topic_rows() -> list[Row]:
    """Return for each kind of agent how many topics it brings along, and which."""
    shared = sorted(needed([], Names()))
    rows: list[Row] = [("the mesh itself", str(len(shared)), ", ".join(f"`{name}`" for name in shared))]
    for what, consumer in TOPICS.items():
        own = topics(consumer)
        named = ", ".join(f"`{name.replace(consumer.name, '<agent>', 1)}`" for name in own)
        rows.append((f"an agent that {what}", str(len(own)), named))
    rows.append(("an event type", "1", "`<event type>`"))
    return rows


@dataclasses.dataclass(frozen=True)
class Bytes:
    """What one delivery puts on the topics, in bytes as they stand in a log, headers included, nothing packed."""

    event: int
    alone: int
    """Activity of a delivery that has a record for itself."""
    among: int
    """... of one more delivery in a record of several."""
    undoable: int
    """... where its agent can undo what it says: the event's value is in it."""
    state: int
    """A state record, without the value."""

    def activity(self, together: float) -> float:
        """Return a delivery's share of an activity record of *together* deliveries."""
        return self.among + (self.alone - self.among) / together


async def counted() -> Bytes:
    """Run one event through agents on the bus in memory, and weigh what each leaves."""
    [event, *_], [alone, *_] = await _run(plain, 1)
    _, [undoable, *_] = await _run(undoing, 1)
    # Ten at once are one transaction, and on one partition one record.
    _, [ten] = await _run(plain, 10, partitions=1)
    mesh = MemoryMesh(1)
    async with mesh.running(keeping):
        await mesh.publish(ASKED)
        await mesh.eventually(Answered, count=1)
    [state] = await mesh.records("keeping.state")
    return Bytes(
        event=_rounded(weight(event)),
        alone=_rounded(weight(alone)),
        among=_rounded((weight(ten) - weight(alone)) / 9),
        undoable=_rounded(weight(undoable)),
        state=_rounded(weight(state) - len(state.value or b"")),
    )


async def _run(agent: Agent, events: int, *, partitions: int = 12) -> tuple[Sequence[Record], Sequence[Record]]:
    """Return what stands on the topic of answers and on that of activity when *agent* has handled *events* in one go."""
    mesh = MemoryMesh(partitions)
    await mesh.prepare(agent)
    await mesh.publisher.publish([ASKED] * events)
    async with mesh.running(agent, instance="worker-7f9c6d5b4-x2x7k"):
        await mesh.eventually(Answered, count=events)
    return await mesh.records("page.answered"), await mesh.records(ACTIVITY)


async def records() -> dict[str, int]:
    """Return how many records one event leaves on each topic, that of an agent which keeps state."""
    mesh = MemoryMesh()
    async with mesh.running(keeping):
        await mesh.publish(ASKED)
        await mesh.eventually(Answered, count=1)

        async def told() -> bool:
            return bool(await mesh.records(ACTIVITY))

        await eventually(told, what="activity")
    names = ("page.answered", ACTIVITY, "keeping.state", "keeping.dead", "keeping.redrive")
    return {name: len(await mesh.records(name)) for name in names}


def weight(record: Record) -> int:
    """Return what *record* takes in a log of Kafka's format 2, of small deltas, without its batch's head.

    >>> weight(Record("t", 0, 0, b"k", b"v", [("h", b"x")], 0))
    13
    """
    headers = sum(_counted(name.encode()) + _counted(value) for name, value in record.headers)
    body = 3 + _counted(record.key) + _counted(record.value) + len(_varint(len(record.headers))) + headers
    return len(_varint(body)) + body


def _counted(value: bytes | None) -> int:
    return 1 if value is None else len(_varint(len(value))) + len(value)


def _varint(number: int) -> bytes:
    """Return a length in zigzag and groups of seven bits, as Kafka writes it."""
    zigzag = number << 1
    return bytes(max(1, math.ceil(zigzag.bit_length() / 7)))


def _rounded(number: float) -> int:
    return round(number / 5) * 5


def byte_rows(of: Bytes) -> list[Row]:
    """Return what one event of seven fields costs on each topic."""
    return [
        ("`<event type>`", "1", f"{of.event:,} B", "what the agent says: key, value, headers"),
        ("`antiphon.activity`", "1 a transaction and partition", f"{of.alone:,} B", "of a delivery committed alone"),
        ("", "", f"{of.among:,} B", "for each further delivery in that record, up to 500"),
        ("", "", f"{of.undoable:,} B", "of a delivery alone, where its event can be undone: the value is in it"),
        ("`<agent>.state`", "1, where state changed", f"{of.state:,} B", "and the state itself, as JSON"),
        ("`<agent>.dead`", "0", "", "the event and why, where it is set aside"),
    ]


# Measured.

FIGURES = {
    "hop": ("hop", "one fast hop, against a loop by hand that does the same"),
    "latency": ("latency", "one hop, one event at a time, p50, against a raw one"),
    "keys": ("keys", "a worker's memory with 10,000 keys in flight, against none"),
    "restore": ("restore", "restoring state of 200,000 records, against a bare client that reads them"),
    "kept": ("undoing", "its state of one of them, against the event that it would undo"),
    "tracer": ("seeing", "a tracer on Kafka, hops indexed, against hops of one worker"),
    "index": ("seeing", "bytes of index an event, against those of its records"),
}
"""By the name that the example uses: the row of the performance page."""


def measured() -> dict[str, float]:
    """Return what the performance page says of `FIGURES`, in its own units. Raises `LookupError` for a row that is gone."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in MEASURED.read_text().splitlines()
        if line.startswith("| ")
    ]
    # The page lists each figure twice: with numbers, and with what it means.
    told = {(row[0], row[1]): row[2] for row in cells if len(row) > 4}
    lacking = [figure for figure in FIGURES.values() if figure not in told]
    if lacking:
        message = f"expected rows of {MEASURED.name} called {lacking}; name them in FIGURES as they are called now"
        raise LookupError(message)
    return {name: float(re.sub(r"[^\d.]", "", told[figure].split("/")[0])) for name, figure in FIGURES.items()}


def measured_rows(found: Mapping[str, float]) -> list[Row]:
    """Return the figures that the example is reckoned with, with where they stand."""
    units = {
        "hop": "{:,.0f}/s",
        "latency": "{:,.1f} ms",
        "keys": "{:,.0f} MB",
        "restore": "{:,.0f}/s",
        "kept": "{:,.0f} B",
        "tracer": "{:,.0f}/s",
        "index": "{:,.0f} B",
    }
    return [(f"`{FIGURES[name][0]}`", FIGURES[name][1], units[name].format(found[name])) for name in FIGURES]


# Multiplied out.


@dataclasses.dataclass(frozen=True)
class Example:
    """A mesh of which the page reckons what it needs."""

    events_a_day: int = 1_000_000_000
    peak: int = 3
    agents: int = 10
    undo: int = 5
    handling_s: float = 2.0
    concurrency: int = 5_000
    spare: float = 1.3
    partitions: int = 24
    replicas: int = 3
    days: int = 7
    events_a_workflow: int = 10
    state: int = 200


def touched(deliveries: float, partitions: int) -> float:
    """Return on how many of *partitions* so many deliveries of different workflows fall, on average.

    >>> [round(touched(deliveries, 24), 1) for deliveries in (1, 8, 1_000)]
    [1.0, 6.9, 24.0]
    """
    return float(partitions * (1 - (1 - 1 / partitions) ** deliveries))


def example_rows(of: Bytes, found: Mapping[str, float], mesh: Example) -> list[Row]:
    """Return the example, line by line: what, how much, and how it is reckoned."""
    average = mesh.events_a_day / 86_400
    peak = average * mesh.peak
    in_flight = peak * mesh.handling_s
    an_agent = max(1, math.ceil(in_flight / mesh.agents * mesh.spare / mesh.concurrency))
    workers = an_agent * mesh.agents
    transactions = workers * 1_000 / found["latency"]
    together = max(1.0, peak / transactions)
    lots = touched(together, mesh.partitions)
    activity = of.activity(together / lots)
    written = of.event + activity
    own = 3 * mesh.agents + mesh.undo
    every = own + mesh.agents + len(needed([], Names())) + len(topics(coordinator()))
    workflows = mesh.events_a_day / mesh.events_a_workflow
    tracers = math.ceil(peak / found["tracer"])
    return [
        (
            "events a second",
            f"{average:,.0f}, at peak {peak:,.0f}",
            f"{mesh.events_a_day:,} / 86,400, and x{mesh.peak}",
        ),
        ("events in flight at peak", f"{in_flight:,.0f}", f"each takes {mesh.handling_s:.0f} s"),
        (
            f"workers of `--concurrency {mesh.concurrency}`",
            f"{workers}: {an_agent} an agent",
            f"{in_flight / mesh.agents:,.0f} in flight of each agent, and a third to spare",
        ),
        (
            "of what one worker was measured at",
            f"{peak / workers / found['hop']:.0%}",
            f"{peak / workers:,.0f}/s, of {found['hop']:,.0f}/s (`hop`)",
        ),
        ("memory of a worker, below", f"{found['keys']:,.0f} MB", "`keys`, and what your handlers hold"),
        (
            "transactions a second, at most",
            f"{transactions:,.0f}",
            f"{workers} workers, one after the other, {found['latency']:,.1f} ms each (`latency`)",
        ),
        (
            "deliveries in each, partitions of a topic in each",
            f"{together:.1f}, {lots:.1f}",
            f"{mesh.partitions} partitions; the fewer, the more of them share an activity record",
        ),
        (
            "written a second at peak, once",
            f"{peak * written / 1e6:,.0f} MB",
            f"{of.event:,} B of event and {activity:,.0f} B of activity for each",
        ),
        ("a day, once", f"{mesh.events_a_day * written / 1e9:,.0f} GB", "nothing packed"),
        (
            "disk of the brokers",
            f"{mesh.events_a_day * written * mesh.days * mesh.replicas / 1e12:,.1f} TB",
            f"{mesh.days} days, {mesh.replicas} replicas",
        ),
        (
            "topics, partitions, replicas of them",
            f"{every}, {every * mesh.partitions:,}, {every * mesh.partitions * mesh.replicas:,}",
            f"{own} of the agents' own, {mesh.agents} event types, the mesh's and the coordinator's",
        ),
        (
            "state of one agent that keeps some",
            f"{workflows * 30 * (of.state + mesh.state) / 1e12:,.1f} TB",
            f"{workflows:,.0f} workflows a day, {mesh.state} B each, kept for 30 days: say `state_expires`",
        ),
        (
            "state of the coordinator",
            f"{workflows * found['kept'] / 1e9:,.0f} GB",
            f"{found['kept']:,.0f} B of each that can be undone (`undoing`), for a day (`linger`)",
        ),
        (
            "restoring that on one of as many coordinators as partitions",
            f"{workflows / mesh.partitions / found['restore']:,.0f} s",
            f"{found['restore']:,.0f}/s (`restore`); with `--state-dir` only what is new",
        ),
        (
            "tracers",
            f"{tracers} at peak, {math.ceil(average / found['tracer'])} where they may fall behind",
            f"{found['tracer']:,.0f}/s each (`seeing`)",
        ),
        ("index, a day", f"{mesh.events_a_day * found['index'] / 1e9:,.0f} GB", f"{found['index']:,.0f} B an event"),
    ]


# The page.


def table(head: Row, rows: Sequence[Row]) -> str:
    """Return a table as Markdown has it."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(row)} |".replace("  |", " |") for row in lines)


def tables(of: Bytes, found: Mapping[str, float]) -> dict[str, str]:
    """Return the page's tables by the word that marks their place."""
    return {
        "topics": table(("there is", "topics", "which"), topic_rows()),
        "bytes": table(("topic", "records an event", "bytes", "of"), byte_rows(of)),
        "measured": table(("`--only`", "figure", "was"), measured_rows(found)),
        "example": table(("what", "how much", "from"), example_rows(of, found, Example())),
    }


def marks(name: str) -> tuple[str, str]:
    """Return what stands on the page before and behind the table called *name*."""
    return f"<!-- {name}: python tests/docs/capacity.py --save -->", f"<!-- the end of {name} -->"


def on_page(page: str, name: str) -> str:
    """Return the table called *name* as it stands on *page*."""
    begin, end = marks(name)
    return page.partition(begin)[2].partition(end)[0].strip()


def put_into(page: str, name: str, text: str) -> str:
    """Return *page* with *text* in the place of the table called *name*."""
    begin, end = marks(name)
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        message = f"expected a page with {begin} and, below it, {end}, got one without"
        raise ValueError(message)
    return f"{before}{begin}\n{text}\n{end}{after}"


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help=f"write them into {PAGE.relative_to(ROOT)}")
    save: bool = parser.parse_args().save
    page = PAGE.read_text()
    for name, text in tables(asyncio.run(counted()), measured()).items():
        sys.stdout.write(f"{text}\n\n")
        page = put_into(page, name, text)
    if save:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
