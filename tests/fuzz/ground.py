"""What readers stand on: the corpus, and ways to spoil a part of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from corpus import Corpus
from keeping import classes
from mutator import Mutator

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import Names
from antiphon.bus.record import Record
from antiphon.bus.subscriptions import Subscriptions, subscriptions

NOW_US = 1_764_410_000_000_000
NAMES = Names()

Read: TypeAlias = Callable[[Any], Awaitable[object]]


@dataclasses.dataclass(frozen=True)
class Reader:
    """One reader."""

    name: str
    spoilt: Callable[[Mutator], Any]
    """Makes what it is given."""
    read: Read
    errors: tuple[type[Exception], ...] = ()
    """What it may raise; anything else is a defect."""
    weight: int = 10
    """How often it is chosen, beside the others."""


class Ground:
    """One corpus, and what is made of it once for all readers."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        self.corpus = corpus
        self.folder = folder
        self.codec = corpus.codec()
        self.classes = classes()

    @cached_property
    def mesh(self) -> Subscriptions:
        """The agents that the corpus' heartbeats are of."""
        seen = [self.codec.decode(AgentSeen, record.value or b"") for record in self.corpus.topics["antiphon.agents"]]
        return subscriptions(seen, now_us=NOW_US)

    def one(self, records: Sequence[Record]) -> Callable[[Mutator], Record]:
        """Return what spoils one of *records*."""
        return lambda mutator: mutator.record(mutator.draw.choice(records))

    def value(self, records: Sequence[Record]) -> Callable[[Mutator], bytes]:
        """Return what spoils the value of one of *records*, in either framing."""
        return lambda mutator: mutator.content(
            self.corpus.framed(mutator.draw.choice(records).value or b"", mutator.draw)
        )

    def some(self, *topics: str) -> Callable[[Mutator], list[Record]]:
        """Return what spoils about half of four records of *topics*."""
        records = [record for topic in topics for record in self.corpus.topics[topic]]

        def spoilt(mutator: Mutator) -> list[Record]:
            found = [mutator.draw.choice(records) for _ in range(4)]
            return [mutator.record(record) if mutator.draw.random() < 0.5 else record for record in found]

        return spoilt
