"""Handing a dead letter to its agent again: the record that does, and the note that it was done.

The record goes to `<agent>.redrive`, a topic that the agent alone hears, on the
partition of the letter: it meets the same state, in the same lane, and none of
those who have handled the event hear it twice. The note stands on the
dead-letter topic itself, behind the letter and on its partition. It is written
in one transaction with the record, and expires after the letter, never before.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from enum import StrEnum

from antiphon.bus.dead_letter import PREFIX
from antiphon.bus.record import Outgoing, Position, Record
from antiphon.schemas.envelope import format_time

COUNT = "antiphon_redriven"
"""How often the event was redriven. It stays with the event, also when that is set aside again."""
FROM = "antiphon_redriven_from"
EDITED = "antiphon_redriven_edited"
SETTLED = PREFIX + "settled"
_AS, _BY, _AT = PREFIX + "settled_as", PREFIX + "settled_by", PREFIX + "settled_at"

# No partition or offset is any larger; a number of thousands of digits cannot even be read.
_PLACE = re.compile(r"(.+)\[([0-9]{1,9})\]@([0-9]{1,18})")
_NUMBER = re.compile(r"[0-9]{1,18}")


class Act(StrEnum):
    """What became of a dead letter."""

    REDRIVEN = "redriven"
    DISCARDED = "discarded"


@dataclasses.dataclass(frozen=True)
class Note:
    """Says what became of the letter at *offset* of the note's own partition."""

    offset: int
    act: str
    actor: str
    at: str


def count_of(record: Record) -> int:
    """Return how often the event in *record* was redriven; a header that is no number counts as none."""
    return number_in((dict(record.headers).get(COUNT) or b"").decode(errors="replace")) or 0


def number_in(text: str) -> int | None:
    """Return the number that a header says; None for one that says none, or none that can be.

    >>> number_in("17"), number_in("-1"), number_in("9" * 19)
    (17, None, None)
    """
    return int(text) if _NUMBER.fullmatch(text) else None


def origin_of(record: Record) -> Position | None:
    """Return where a redriven event stood first; None for one that was not redriven, or is edited and so another one."""
    said = dict(record.headers)
    if EDITED in said:
        return None
    found = _PLACE.fullmatch((said.get(FROM) or b"").decode(errors="replace"))
    return None if found is None else Position(found[1], int(found[2]), int(found[3]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowance:
    """What a redriven event may cost from now on, in place of what it says; None: as it says."""

    hops: int | None = None
    budget: str | None = None

    def applied(self, headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
        """Return *headers* with it.

        >>> Allowance(hops=0).applied([("ce_id", b"a"), ("ce_hops", b"100")])
        [('ce_id', b'a'), ('ce_hops', b'0')]
        """
        said = {
            "ce_hops": None if self.hops is None else b"%d" % self.hops,
            "ce_budget": None if self.budget is None else self.budget.encode(),
        }
        new = [(name, value) for name, value in said.items() if value is not None]
        return [(name, value) for name, value in headers if said.get(name) is None] + new


AS_IT_SAYS = Allowance()


def redriven(
    topic: str,
    letter: Record,
    *,
    origin: Position,
    edited: Outgoing | None = None,
    allowance: Allowance = AS_IT_SAYS,
) -> Outgoing:
    """Return the record that hands *letter* on: as it was before it was set aside, but for the count of redrives.

    *topic* is the redrive topic as the cluster calls it. With *edited*, its value and headers stand for the letter's;
    *allowance* has the limits that travel with it begin anew.
    """
    said = letter.headers if edited is None else edited.headers
    headers = [(name, value) for name, value in said if not name.startswith(PREFIX) and name != COUNT]
    headers = allowance.applied(headers)
    if FROM not in dict(headers):
        headers.append((FROM, f"{origin.topic}[{origin.partition}]@{origin.offset}".encode()))
    if edited is not None and EDITED not in dict(headers):
        headers.append((EDITED, b"1"))
    headers.append((COUNT, b"%d" % (count_of(letter) + 1)))
    value = letter.value if edited is None else edited.value
    return Outgoing(topic, letter.key, value, headers, partition=letter.partition)


def note(letter: Record, act: Act, *, actor: str, at_us: int) -> Outgoing:
    """Return the record that notes what became of *letter*."""
    said = {SETTLED: str(letter.offset), _AS: act.value, _BY: actor, _AT: format_time(at_us)}
    headers = [(name, text.encode()) for name, text in said.items()]
    # A value, though an empty one: none at all would read as a deletion.
    return Outgoing(letter.topic, letter.key, b"", headers, partition=letter.partition)


def note_in(record: Record) -> Note | None:
    """Return the note that *record* is, None for anything else."""
    said = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    offset = number_in(said.get(SETTLED, ""))
    return None if offset is None else Note(offset, said.get(_AS, ""), said.get(_BY, ""), said.get(_AT, ""))


def unsettled(records: Iterable[Record]) -> list[Record]:
    """Return the letters among the *records* of one dead-letter topic that no note is about, in order by partition."""
    letters: dict[tuple[int, int], Record] = {}
    settled: set[tuple[int, int]] = set()
    for record in records:
        if (found := note_in(record)) is not None:
            settled.add((record.partition, found.offset))
        else:
            letters[record.partition, record.offset] = record
    return [letters[place] for place in sorted(letters.keys() - settled)]
