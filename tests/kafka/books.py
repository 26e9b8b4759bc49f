"""What must stand on the books of every account, and what is wrong with what does: the oracle of the tests that kill.

It knows the deposits that went in and nothing of how they were handled, and it
needs a line an account and a bit a record, however many there are.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from operator import attrgetter

from accounts import Audited, Booked, Deposited, digest

_SHOWN = 10


class Anomaly(StrEnum):
    """What can be wrong, by Jepsen's names."""

    LOST_WRITE = "lost-write"
    """It went in, and cannot be read."""
    DUPLICATE = "duplicate"
    """It is there twice."""
    NONMONOTONIC = "nonmonotonic"
    """It stands behind what came after it."""
    WRONG_TOTAL = "wrong-total"
    """It is there once and in its place, and says what does not follow from what went before."""
    ABORTED_READ = "aborted-read"
    """A reader was shown it, and it is not there in the end."""
    UNEXPECTED = "unexpected"
    """It is there, and nobody put it in."""


class Findings:
    """What was found, counted; the first few of each kind in words, which *tell* is called with at once."""

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        self._tell = tell
        self.counts: Counter[Anomaly] = Counter()
        self._told: list[str] = []

    def add(self, anomaly: Anomaly, what: str) -> None:
        self.counts[anomaly] += 1
        if self.counts[anomaly] <= _SHOWN:
            self._told.append(f"{anomaly}: {what}")
            self._tell(self._told[-1])

    def lines(self) -> list[str]:
        """Say what was found, a line each; nothing where nothing was."""
        more = [
            f"{anomaly}: {count - _SHOWN:,} more" for anomaly, count in sorted(self.counts.items()) if count > _SHOWN
        ]
        return [*self._told, *more]


class Marks:
    """Numbers that were seen, a bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0

    def add(self, number: int) -> bool:
        """Mark *number*; False where it was marked before."""
        byte, bit = divmod(number, 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1024 - len(self._bits)))
        if self._bits[byte] >> bit & 1:
            return False
        self._bits[byte] |= 1 << bit
        self.count += 1
        return True

    def __contains__(self, number: int) -> bool:
        byte, bit = divmod(number, 8)
        return byte < len(self._bits) and bool(self._bits[byte] >> bit & 1)

    def without(self, others: Marks) -> Iterator[int]:
        """Yield what is marked here and not there."""
        for byte, bits in enumerate(self._bits):
            left = bits & ~(others._bits[byte] if byte < len(others._bits) else 0)
            yield from (8 * byte + bit for bit in range(8) if left >> bit & 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deposits:
    """What goes in: *count* deposits, numbered, to *accounts* accounts in turn, of amounts that *seed* decides."""

    seed: int
    count: int
    accounts: int = 40

    def account(self, n: int) -> str:
        return f"a{n % self.accounts}"

    def amount(self, n: int) -> int:
        return (n * 2_654_435_761 + self.seed * 40_503) % 1_000 + 1


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line on the books of an account."""

    n: int
    amount: int
    balance: int
    digest: int
    place: int


class _Account:
    """What comes next on one account's books, what stands before it, and what should have come already."""

    __slots__ = ("last", "late", "next")

    def __init__(self, first: Line) -> None:
        self.next = first
        self.last: Line | None = None
        self.late: set[int] = set()


class Books:
    """The lines of every account as one topic *shows* them, seen one by one in the order they stand there.

    Every anomaly goes to *findings* at once, but for what never comes: `close`
    says that.
    """

    def __init__(self, topic: str, deposits: Deposits, shows: tuple[str, ...], findings: Findings) -> None:
        self.seen = Marks()
        """The numbers of the deposits that were seen."""
        self._topic = topic
        self._deposits = deposits
        self._shown = attrgetter(*shows)
        self._findings = findings
        self._accounts = [_Account(self._first(n)) for n in range(deposits.accounts)]

    def see(self, event: Deposited | Booked | Audited, where: str) -> None:
        """Take the next line of an account; *where* says where it stands."""
        account, n = event.account, event.n
        if not 0 <= n < self._deposits.count or account != self._deposits.account(n):
            return self._add(Anomaly.UNEXPECTED, account, n, where)
        books = self._accounts[n % self._deposits.accounts]
        if not self.seen.add(n):
            return self._add(Anomaly.DUPLICATE, account, n, where)
        if n < books.next.n:
            books.late.discard(n)
            return self._add(Anomaly.NONMONOTONIC, account, n, where)
        while books.next.n < n:
            books.late.add(books.next.n)
            self._turn(books)
        shown, wanted = self._shown(event), self._shown(books.next)
        if shown != wanted:
            self._add(Anomaly.WRONG_TOTAL, account, n, f"{where}: {shown} instead of {wanted}")
        self._turn(books)
        return None

    def close(self) -> None:
        """Nothing more will come: what did not is lost."""
        for books in self._accounts:
            while books.next.n < self._deposits.count:
                books.late.add(books.next.n)
                self._turn(books)
            for n in sorted(books.late):
                self._add(Anomaly.LOST_WRITE, self._deposits.account(n), n, self._topic)

    def last_lines(self) -> dict[str, Line]:
        """Return the line that must stand last on the books of each account. After `close`."""
        return {self._deposits.account(books.last.n): books.last for books in self._accounts if books.last is not None}

    def _add(self, anomaly: Anomaly, account: str, n: int, where: str) -> None:
        self._findings.add(anomaly, f"deposit {n} of {account}, {where}")

    def _first(self, n: int) -> Line:
        amount = self._deposits.amount(n)
        return Line(n, amount, amount, digest(0, amount), 0)

    def _turn(self, books: _Account) -> None:
        line = books.last = books.next
        n = line.n + self._deposits.accounts
        amount = self._deposits.amount(n)
        books.next = Line(n, amount, line.balance + amount, digest(line.digest, amount), line.place + 1)
