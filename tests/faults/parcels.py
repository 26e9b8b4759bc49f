"""Two agents that can undo what they did, and one that refuses: what is undone when the undoing is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from antiphon import Agent, Event


class Placed(Event, type="shop.placed"):
    refuse: bool


class Reserved(Event, type="shop.reserved"):
    refuse: bool


class Charged(Event, type="shop.charged"):
    refuse: bool


class Shipped(Event, type="shop.shipped"):
    pass


class Refused(Event, type="shop.refused", fails=True):
    pass


class Refunded(Event, type="shop.refunded"):
    pass


class Released(Event, type="shop.released"):
    pass


stock, card, parcel = Agent("stock"), Agent("card"), Agent("parcel")


def steps(folder: Path) -> list[str]:
    """Return what was begun, in order."""
    path = folder / "steps"
    return path.read_text().split() if path.exists() else []


def _note(step: str) -> int:
    """Write *step* down and return how often it was begun before."""
    folder = os.environ.get("PROBE_FOLDER")
    if folder is None:
        return 0
    before = steps(Path(folder)).count(step)
    with (Path(folder) / "steps").open("a") as file:
        file.write(f"{step}\n")
    return before


@stock.on(Placed)
async def reserve(placed: Placed) -> Reserved:
    return Reserved(refuse=placed.refuse)


@stock.undoes(Reserved)
async def release(_: Reserved) -> Released:
    _note("release")
    return Released()


@card.on(Reserved)
async def charge(reserved: Reserved) -> Charged:
    return Charged(refuse=reserved.refuse)


@card.undoes(Charged)
async def refund(_: Charged) -> Refunded:
    if _note("refund") == 0 and "PROBE_FOLDER" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return Refunded()


@parcel.on(Charged)
async def ship(charged: Charged) -> Shipped | Refused:
    return Refused() if charged.refuse else Shipped()
