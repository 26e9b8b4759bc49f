"""The gate: whom it would break if some agents were deployed now. Pure functions over what agents read and write.

A change breaks somebody on either side of an event: those who read what the new
code writes, and the new code itself where it reads what is written already.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from antiphon.bus.contracts import Contract, Contracts
from antiphon.schemas.compatibility import Mismatch, mismatches, schema_as_json
from antiphon.schemas.errors import Incompatible, UnsupportedSchemaError
from antiphon.schemas.store import AvroSchema

_BY_WRITER = {
    Incompatible.MISSING_DEFAULT: "Keep writing it; leave it out once those who read it have a default for it",
    Incompatible.TYPE_CHANGED: "Keep the type, and put the new one into a field of another name",
    Incompatible.UNKNOWN_SYMBOL: "Have those who read it know the symbol first, or give their Enum an __avro_default__",
    Incompatible.UNREADABLE_BRANCH: "Have those who read it take the new type first",
    Incompatible.AMBIGUOUS_BRANCH: "Keep the name of the type, so that those who read it can tell it from others",
    Incompatible.TIGHTER_CONSTRAINT: "Keep the constraint; loosen it once those who read it have loosened theirs",
}
"""What to do where the new code writes and somebody else reads. Where it reads, the remedies are the reader's own."""
_SAME_DEPLOYMENT = "The new {agents} can read it: deploy that first, and let it replace every worker of the old one"


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One reason not to deploy."""

    type: str
    path: str
    kind: Incompatible
    message: str
    remedy: str
    agents: tuple[str, ...]
    """Whom it breaks."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON says it, its keys in the promised order."""
        return {
            "type": self.type,
            "kind": self.kind.value,
            "path": self.path,
            "message": self.message,
            "remedy": self.remedy,
            "agents": [*self.agents],
        }


@dataclasses.dataclass(frozen=True, order=True)
class Pair:
    """One reader of one writer, and what was said about them."""

    type: str
    writer: str
    reader: str
    known: bool = True
    """False: how the reader reads, or the writer writes, nobody has told."""
    problems: tuple[Problem, ...] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer of the gate."""

    pairs: tuple[Pair, ...]

    @property
    def compatible(self) -> bool:
        """Nobody would break, as far as is known."""
        return not self.problems

    @property
    def problems(self) -> list[Problem]:
        """Each once, with all whom it breaks."""
        broken: defaultdict[Problem, set[str]] = defaultdict(set)
        for pair in self.pairs:
            for problem in pair.problems:
                broken[dataclasses.replace(problem, agents=())].update(problem.agents)
        return sorted(dataclasses.replace(problem, agents=tuple(sorted(who))) for problem, who in broken.items())

    @property
    def unknown(self) -> dict[str, list[str]]:
        """By event type: the agents of which nobody knows whether they can read it, or what they write."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for pair in self.pairs:
            if not pair.known:
                found[pair.type].add(pair.reader)
        return {type: sorted(who) for type, who in sorted(found.items())}


def gate(proposed: Contracts, live: Contracts, *, written: Mapping[str, Sequence[AvroSchema]] | None = None) -> Verdict:
    """Ask whether *proposed* may be deployed into a mesh of *live* agents.

    *written* are the schemas, by event type, of events that stand on topics
    already, or that somebody writes who sends no heartbeats.
    """
    replaced = {contract.agent for contract in (*proposed.reads, *proposed.writes)}
    pairs = [
        *_readers_of(proposed.writes, live.reads, anew=proposed.reads),
        *_readers_of(proposed.writes, proposed.reads),
        *_writers_for(proposed.reads, live.writes, replaced),
        *_standing(proposed.reads, written or {}),
    ]
    return Verdict(tuple(sorted({*pairs}, key=lambda pair: (pair.type, pair.writer, pair.reader, pair.problems))))


def _readers_of(
    writes: Iterable[Contract], reads: Collection[Contract], anew: Collection[Contract] = ()
) -> Iterator[Pair]:
    """Ask those who read what the new code writes. Those that are deployed with it are there *anew*."""
    for write in writes:
        for read in (one for one in reads if one.type == write.type):
            remedies: Mapping[Incompatible, str] = _BY_WRITER
            mine = [one for one in anew if (one.agent, one.type) == (read.agent, read.type)]
            if mine and not any(_problems(write, one, {}) for one in mine):
                remedies = dict.fromkeys(Incompatible, _SAME_DEPLOYMENT.format(agents=read.agent))
            yield _pair(write, read, remedies)


def _writers_for(reads: Iterable[Contract], writes: Collection[Contract], replaced: Collection[str]) -> Iterator[Pair]:
    """Ask whether the new code can read what is written to it; its own old workers write until they are replaced."""
    for read in reads:
        for write in (one for one in writes if one.type == read.type):
            who = f"{write.agent} {write.version}" if write.agent in replaced else write.agent
            yield dataclasses.replace(_pair(write, read, {}), writer=who)


def _standing(reads: Iterable[Contract], written: Mapping[str, Sequence[AvroSchema]]) -> Iterator[Pair]:
    for read in reads:
        for schema in written.get(read.type, ()):
            topic = read.topic  # it was found there
            write = Contract(agent="its topic", version="", type=read.type, topic=topic, schema=schema)
            yield _pair(write, read, {})


def _pair(write: Contract, read: Contract, remedies: Mapping[Incompatible, str]) -> Pair:
    problems = _problems(write, read, remedies)
    known = write.schema is not None and read.schema is not None
    return Pair(write.type, write.agent, read.agent, known, problems)


def _problems(write: Contract, read: Contract, remedies: Mapping[Incompatible, str]) -> tuple[Problem, ...]:
    return tuple(
        Problem(
            type=write.type,
            path=found.path,
            kind=found.kind,
            message=found.message,
            remedy=remedies.get(found.kind, found.remedy),
            agents=(read.agent,),
        )
        for found in _mismatches(write, read)
    )


def _mismatches(write: Contract, read: Contract) -> list[Mismatch]:
    if write.schema is None or read.schema is None:
        if write.topic == read.topic:
            return []
        message = f"it is written to topic {write.topic} and read from {read.topic}"
        return [Mismatch("", Incompatible.TOPIC_MOVED, message, "Keep the topic, or give the event another type")]
    try:
        return mismatches(schema_as_json(write.schema), read.schema)
    except UnsupportedSchemaError as error:
        return [Mismatch("", Incompatible.TYPE_CHANGED, str(error), "Mend the schema, or write the class by hand")]
