"""A bundle as a regression test: what was recorded is handled again, and has to come out as it did."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from antiphon.replay.bundle import read
from antiphon.replay.choice import Choice
from antiphon.replay.compare import Judge, Rules
from antiphon.replay.compared import Compared
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.report import lines
from antiphon.schemas.codec import Codec
from antiphon.testing.mesh import consumers_of


def bundle(
    path: str | Path,
    *agents: object,
    mended: bool = False,
    ignore: Sequence[str] = (),
    tolerance: float = 1e-9,
    judge: Judge | None = None,
) -> None:
    """Handle again what *agents* handled in the bundle at *path*; fails the test where anything comes out differently.

        def test_the_claim_that_was_refused() -> None:
            bundle("refused.antiphon", payer, mended=True)

    What other agents did is left as it was recorded. With *mended* what was set
    aside then has to be handled now. `context.once` returns what it returned. *ignore* are paths of fields that may
    differ, *judge* says whether two events say the same in other words. Runs an event loop of its own: call it in a plain `def`.

    Raises `BundleError`, and `AssertionError` with every difference.
    """
    recording, schemas = read(path)
    rules = Rules(ignore=tuple(ignore), tolerance=tolerance, judge=judge)
    replay = HandlerReplay(recording, consumers_of(agents), Codec(schemas), rules=rules)

    async def run() -> list[Compared]:
        return [one async for one in replay.run(Choice().of(recording.handlings))]

    compared = asyncio.run(run())
    told = [line for one in compared if not (mended and _is_mended(one)) for line in lines(one)]
    told += [
        f"{one.handling.agent}  {one.handling.entry.event_type}: still raises {one.raised.type}: {one.raised.message}"
        for one in compared
        if mended and one.raised is not None
    ]
    if not compared:
        told.append(
            f"nothing in it was handled by {', '.join(one.name for one in consumers_of(agents)) or 'no agents'}"
        )
    if told:
        raise AssertionError("\n".join([f"{path} came out differently:", *told]))


def _is_mended(one: Compared) -> bool:
    return one.handling.entry.error is not None and one.skipped is None and one.raised is None
