"""The audit: all that a read_committed reader sees when everything is done, against the deposits that went in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeAlias

import orjson
from accounts import Audited, Booked, Deposited
from books import Anomaly, Books, Deposits, Findings
from deliveries import Deliveries

from antiphon.bus.activity import Activity
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.names import ACTIVITY, Names
from antiphon.bus.record import Record
from antiphon.schemas.codec import Codec
from antiphon.testing.waiting import eventually

Fields: TypeAlias = tuple[str, ...]

AS_DEPOSITED: Fields = ("amount",)
AS_BOOKED: Fields = ("balance", "digest")
AS_AUDITED: Fields = ("balance", "digest", "place")

_CLOSED_S = 60.0


class Audit:
    """Reads every topic from its beginning, once, in memory that does not grow with what stands there but by bits."""

    def __init__(self, bus: KafkaBus, codec: Codec, names: Names, deposits: Deposits, findings: Findings) -> None:
        self._bus = bus
        self._codec = codec
        self._names = names
        self._deposits = deposits
        self._findings = findings
        self._ledger = Deliveries("ledger", findings)
        self._auditor = Deliveries("auditor", findings)

    async def run(self, live: Books) -> None:
        """Add whatever is wrong to the findings; *live* is what was seen while it went on."""
        topics = ("money.deposited", "money.booked", "money.audited", ACTIVITY, "ledger.state", "auditor.state")
        await eventually(lambda: self._closed(topics), _CLOSED_S, what="every transaction to be committed or aborted")
        await self._books(Deposited, AS_DEPOSITED, self._ledger)
        await self._books(Booked, AS_BOOKED, self._auditor)
        audited = await self._books(Audited, AS_AUDITED)
        for n in live.seen.without(audited.seen):
            account = self._deposits.account(n)
            self._findings.add(Anomaly.ABORTED_READ, f"deposit {n} of {account} was followed, and is not there")
        await self._activity()
        await self._state("ledger", AS_BOOKED, audited)
        await self._state("auditor", ("place",), audited)
        await self._dead()

    async def _closed(self, topics: Fields) -> bool:
        named = [self._names.topic(topic) for topic in topics]
        return await self._bus.bounds(named) == await self._bus.bounds(named, committed=False)

    async def _books(
        self, event_class: type[Deposited | Booked | Audited], shows: Fields, hears: Deliveries | None = None
    ) -> Books:
        topic = event_class.__event__.topic
        books = Books(topic, self._deposits, shows, self._findings)
        async with aclosing(self._all(topic)) as records:
            async for record in records:
                books.see(self._codec.decode(event_class, record.value or b""), _place(record))
                if hears is not None:
                    hears.there(record.partition, record.offset)
        books.close()
        return books

    async def _activity(self) -> None:
        """Every delivery has one end, and none stands before that of its cause."""
        booked: defaultdict[int, set[str]] = defaultdict(set)
        async with aclosing(self._all(ACTIVITY)) as records:
            async for record in records:
                activity = self._codec.decode(Activity, record.value or b"")
                agent = self._ledger if activity.agent == "ledger" else self._auditor
                open_workflows = booked[record.partition]
                for handled in activity.deliveries:
                    if not agent.ended(handled.partition, handled.offset, handled.outcome, _place(record)):
                        continue
                    if agent is self._ledger:
                        open_workflows.add(handled.correlation_id)
                    elif handled.correlation_id in open_workflows:
                        open_workflows.remove(handled.correlation_id)
                    else:
                        what = f"the end of auditor's {handled.partition}@{handled.offset} before its cause's"
                        self._findings.add(Anomaly.NONMONOTONIC, f"{what}, {_place(record)}")
        self._ledger.close()
        self._auditor.close()

    async def _state(self, agent: str, shows: Fields, books: Books) -> None:
        """What is kept is what the last line says."""
        kept: dict[str, bytes | None] = {}
        topic = f"{agent}.state"
        async with aclosing(self._all(topic)) as records:
            async for record in records:
                kept[(record.key or b"").decode()] = record.value
        wanted = {
            account: {field: getattr(line, field) + (field == "place") for field in shows}
            for account, line in books.last_lines().items()
        }
        got = {account: orjson.loads(value) for account, value in kept.items() if value is not None}
        for account in sorted(wanted.keys() | got.keys()):
            if wanted.get(account) != got.get(account):
                what = f"{topic} keeps {got.get(account)} of {account} instead of {wanted.get(account)}"
                self._findings.add(Anomaly.WRONG_TOTAL, what)

    async def _dead(self) -> None:
        for agent in ("ledger", "auditor"):
            async with aclosing(self._all(f"{agent}.dead")) as records:
                async for record in records:
                    self._findings.add(Anomaly.UNEXPECTED, f"a dead letter, {_place(record)}")

    async def _all(self, topic: str) -> AsyncGenerator[Record]:
        bounds = await self._bus.bounds([self._names.topic(topic)])
        start = {tp: first for tp, (first, _) in bounds.items()}
        async with aclosing(self._bus.read(start, {tp: end for tp, (_, end) in bounds.items()})) as records:
            async for record in records:
                yield record


def _place(record: Record) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"
