"""Two chained agents with state, for tests that kill them: what they say is wrong after any loss, repeat or reordering."""

from __future__ import annotations

import asyncio
import os
from functools import cache

from antiphon import Agent, Context, Event


class Deposited(Event, type="money.deposited", key="account"):
    account: str
    n: int
    amount: int


class Booked(Event, type="money.booked", key="account"):
    account: str
    n: int
    balance: int
    """The sum of all amounts so far: falsified by any loss or repeat."""
    digest: int
    """A polynomial over the amounts: falsified by any reordering too."""


class Audited(Event, type="money.audited", key="account"):
    account: str
    n: int
    balance: int
    digest: int
    place: int
    """How many bookings of this account came before."""


TALLIES = "ACCOUNTS_TALLIES"
"""Names a folder in which the agents count how often they ran: once an event, and once more for every redelivery."""

ledger = Agent("ledger")
auditor = Agent("auditor")


def digest(so_far: int, amount: int) -> int:
    return (so_far * 1_000_003 + amount) % 2**61


@cache
def _tally(name: str) -> int | None:
    folder = os.environ.get(TALLIES)
    return None if folder is None else os.open(f"{folder}/{name}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)


def _count(name: str) -> None:
    """Note that a handler ran, in what no crash undoes: one byte of a file that all workers share."""
    if (file := _tally(name)) is not None:
        os.write(file, b".")


@ledger.on(Deposited)
async def book(deposited: Deposited, context: Context) -> Booked:
    _count("ledger")
    state = context.state
    state["balance"] = state.get("balance", 0) + deposited.amount
    state["digest"] = digest(state.get("digest", 0), deposited.amount)
    if deposited.n % 7 == 0:
        await asyncio.sleep(0.002)  # some are slower than others, so that work finishes out of order
    return Booked(account=deposited.account, n=deposited.n, balance=state["balance"], digest=state["digest"])


@auditor.on(Booked)
async def audit(booked: Booked, context: Context) -> Audited:
    _count("auditor")
    place = context.state.get("place", 0)
    context.state["place"] = place + 1
    return Audited(account=booked.account, n=booked.n, balance=booked.balance, digest=booked.digest, place=place)
