"""The oracle sees what it is there for: every anomaly that can befall a deposit, put there on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from accounts import Audited, digest
from books import Books, Deposits, Findings, Marks
from deliveries import Deliveries

DEPOSITS = Deposits(seed=3, count=12, accounts=2)


def written() -> list[Audited]:
    """Return what stands there when nothing went wrong."""
    lines: list[Audited] = []
    balance, so_far, place = [0, 0], [0, 0], [0, 0]
    for n in range(DEPOSITS.count):
        one, amount = n % 2, DEPOSITS.amount(n)
        balance[one] += amount
        so_far[one] = digest(so_far[one], amount)
        lines.append(Audited(account=f"a{one}", n=n, balance=balance[one], digest=so_far[one], place=place[one]))
        place[one] += 1
    return lines


def found(lines: list[Audited]) -> list[str]:
    """Return what the oracle says of *lines*."""
    findings = Findings()
    books = Books("money.audited", DEPOSITS, ("balance", "digest", "place"), findings)
    for offset, line in enumerate(lines):
        books.see(line, f"@{offset}")
    books.close()
    return findings.lines()


def nothing(lines: list[Audited]) -> None:
    pass


def lost(lines: list[Audited]) -> None:
    del lines[4]


def lost_at_the_end(lines: list[Audited]) -> None:
    del lines[-1]


def repeated(lines: list[Audited]) -> None:
    lines.insert(9, lines[3])


def late(lines: list[Audited]) -> None:
    lines.append(lines.pop(6))


def wrong(lines: list[Audited]) -> None:
    lines[1] = lines[1].model_copy(update={"balance": 0})


def made_up(lines: list[Audited]) -> None:
    lines.append(lines[0].model_copy(update={"n": 12}))


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (nothing, []),
        (lost, ["lost-write: deposit 4 of a0, money.audited"]),
        (lost_at_the_end, ["lost-write: deposit 11 of a1, money.audited"]),
        (repeated, ["duplicate: deposit 3 of a1, @9"]),
        (late, ["nonmonotonic: deposit 6 of a0, @11"]),
        (wrong, ["wrong-total: deposit 1 of a1, @1: (0, 271, 0) instead of (271, 271, 0)"]),
        (made_up, ["unexpected: deposit 12 of a0, @12"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_anomaly_is_named(what: Callable[[list[Audited]], None], expected: list[str]) -> None:
    """By Jepsen's word, with the deposit and where it stands."""
    lines = written()
    what(lines)
    assert found(lines) == expected


def test_accounts_do_not_hold_one_another_up() -> None:
    """Order is promised key by key, and across keys not at all."""
    lines = written()
    assert found([*lines[1::2], *lines[::2]]) == []


def test_many_of_a_kind_are_counted() -> None:
    """Ten are told."""
    assert found([])[-1] == "lost-write: 2 more"


def test_what_was_followed_and_is_gone_can_be_told() -> None:
    """An aborted read: marked while it was followed, and not in the end."""
    followed, final = Marks(), Marks()
    for number in (0, 7, 8, 40_000):
        followed.add(number)
    for number in (0, 8, 9):
        final.add(number)
    assert [*followed.without(final)] == [7, 40_000]


def test_every_delivery_ends_once() -> None:
    """Twice, never, without having been there, or by being given up: each is told."""
    findings = Findings()
    ledger = Deliveries("ledger", findings)
    for offset in (3, 4, 6):
        ledger.there(0, offset)
    for offset, outcome in ((3, "retried"), (3, "completed"), (3, "completed"), (5, "completed"), (6, "dead_lettered")):
        ledger.ended(0, offset, outcome, "activity[0]@1")
    ledger.close()
    assert findings.lines() == [
        "duplicate: ledger completed 0@3, activity[0]@1",
        "unexpected: ledger dead_lettered 0@6, activity[0]@1",
        "lost-write: the end of ledger's 0@4, activity",
        "unexpected: the end of ledger's 0@5, activity",
    ]
