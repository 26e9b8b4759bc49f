"""The dead letters of a mesh: read from outside, chosen, and settled, each in one transaction with what settles it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence

from antiphon.bus.claims import Claims
from antiphon.bus.names import Names, dead_topic, sandbox_of
from antiphon.bus.port import Bus, Member, Membership, Transaction
from antiphon.bus.record import Outgoing, Record, TopicPartition
from antiphon.bus.redrive import AS_IT_SAYS, Act, Allowance, note, redriven, unsettled
from antiphon.replay.errors import LetterGoneError
from antiphon.replay.letter import Letter, letter_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.condition import Condition
from antiphon.schemas.envelope import now_us
from antiphon.tracing.records import between, event_in
from antiphon.tracing.seen import SeenEvent

_DEAD = dead_topic("")
# Of the member that settles: whoever comes after it under the same name fences it.
_INSTANCE = "letters"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Which letters are meant; of what is empty, any."""

    types: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    since_us: int | None = None
    where: tuple[Condition, ...] = ()

    def takes(self, letter: Letter) -> bool:
        """Say whether *letter* is meant, as far as can be told without its data."""
        return (
            (not self.types or letter.type in self.types)
            and (not self.reasons or letter.reason in self.reasons)
            and (self.since_us is None or letter.time_us >= self.since_us)
        )

    def holds(self, event: SeenEvent | None) -> bool:
        """Say whether the letter's event is meant; one that cannot be read never is where its data counts."""
        if not self.where:
            return True
        return event is not None and event.problem is None and all(one.holds(event.data) for one in self.where)


def agents_with_letters(topics: Iterable[str], names: Names) -> list[str]:
    """Return the agents that have a dead-letter topic among the cluster's *topics*.

    >>> agents_with_letters(["staging.triage.dead", "stock.dead", "stock.state"], Names("staging"))
    ['triage']
    """
    prefix = names.topic("")
    return sorted(
        names.plain(topic).removesuffix(_DEAD)
        for topic in topics
        if topic.startswith(prefix) and topic.endswith(_DEAD) and sandbox_of(names.plain(topic)) is None
    )


async def read_letters(bus: Bus, names: Names, agents: Collection[str]) -> list[Letter]:
    """Return the letters of *agents* that nobody has decided about. Costs their dead-letter topics, from end to end.

    Joins no group. Raises `BusError`.
    """
    found: list[Letter] = []
    for agent in sorted(agents):
        places = await bus.bounds([names.dead(agent)])
        records = [record async for record in between(bus, places)]
        found += [letter_of(record, names) for record in unsettled(records)]
    return found


async def chosen(
    letters: Iterable[Letter], selection: Selection, names: Names, codec: Codec, *, claims: Claims | None = None
) -> list[Letter]:
    """Return those of *letters* that *selection* means; data is decoded only where it counts."""
    meant = [letter for letter in letters if selection.takes(letter)]
    if not selection.where:
        return meant
    return [letter for letter in meant if selection.holds(await event_in(letter.record, names, codec, claims))]


class Settling:
    """Decides about one agent's letters, exactly once each. Made by `settling`."""

    def __init__(self, bus: Bus, names: Names, member: Member, letters: Sequence[Letter]) -> None:
        self.letters: Mapping[str, Letter] = {letter.place: letter for letter in letters}
        """Those that nobody has decided about, by place. Nobody else can any more."""
        self._bus = bus
        self._names = names
        self._member = member

    async def redrive(
        self,
        letters: Sequence[Letter],
        *,
        actor: str,
        edited: Mapping[str, Outgoing] | None = None,
        allowance: Allowance = AS_IT_SAYS,
    ) -> None:
        """Hand *letters* to their agent again, in their order; all of them or none.

        Those of *edited*, by place, go with its value and headers. Raises
        `LetterGoneError` before anything is written, and `CommitError` where
        another process has begun to settle the same agent's letters, or the outcome
        is unknown: whoever begins anew sees what was decided.
        """
        records: list[Outgoing] = []
        for letter in letters:
            topic = self._names.redrive(letter.agent)
            whole = await self.whole(letter)
            changed = (edited or {}).get(letter.place)
            records.append(redriven(topic, whole, origin=letter.origin, edited=changed, allowance=allowance))
            records.append(note(letter.record, Act.REDRIVEN, actor=actor, at_us=now_us()))
        await self._member.commit(Transaction(records, {}))

    async def discard(self, letters: Sequence[Letter], *, actor: str) -> None:
        """Note that *letters* are not wanted; they stay on their topic until it lets go of them. Raises as `redrive` does."""
        notes = [note(letter.record, Act.DISCARDED, actor=actor, at_us=now_us()) for letter in letters]
        await self._member.commit(Transaction(notes, {}))

    async def whole(self, letter: Letter) -> Record:
        """Return the letter's record with all of its event, fetched from its origin where the letter has not all of it."""
        if letter.is_whole:
            return letter.record
        topic, partition, offset = letter.origin
        place = TopicPartition(topic, partition)
        first, end = (await self._bus.bounds([topic])).get(place, (0, 0))
        if first <= offset < end:
            async for origin in self._bus.read({place: offset}, {place: offset + 1}):
                ours = letter.record
                # Where it stands stays the letter's: the note is about that.
                return dataclasses.replace(origin, topic=ours.topic, partition=ours.partition, offset=ours.offset)
        raise LetterGoneError(letter.place, letter.left_out, f"{topic}[{partition}]@{offset}")


@contextlib.asynccontextmanager
async def settling(bus: Bus, names: Names, agent: str) -> AsyncGenerator[Settling]:
    """Be the one that decides about *agent*'s letters.

    Whoever was before is fenced: what it had under way is decided when the
    letters are read, and it commits nothing after that. Costs the agent's
    dead-letter topic, and a group of its own of which no offset is ever committed.
    """
    topic = names.dead(agent)
    member = await bus.join(Membership(group=topic, topics=(topic,), instance=_INSTANCE))
    try:
        # Returns once older producers are fenced, which must come before the notes are read.
        await member.try_out([])
        yield Settling(bus, names, member, await read_letters(bus, names, [agent]))
    finally:
        await member.close()
