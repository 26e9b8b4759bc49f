"""How fast dead letters are handed to their agent again, beside one fast hop of a worker."""

from __future__ import annotations

import time
from collections.abc import Mapping

from antiphon.bus.dead_letter import dead_letter
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing, Record
from antiphon.replay.letters import settling
from feed import ASKED, Feed
from hop import EVENTS, ours
from stage import PARTITIONS, Experiment, Stage
from table import Figure, Pair, Unit

LETTERS = 10_000
_AT_ONCE = 500
_LIMIT = 900_000

REDRIVE = Figure("redrive", "10,000 dead letters redriven, 500 a transaction, against one fast hop", Unit.RATE, "0.5")


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Redrive, then hop, each on topics of its own."""
    stage.say("redrive: letters")
    names = stage.names("redrive")
    feed = Feed(stage, names)
    await feed.open()
    dead = names.dead("answer")
    await stage.bus.create([TopicSpec(topic, PARTITIONS) for topic in (dead, names.redrive("answer"))])
    await feed.publish([_letter(dead, record, n) for n, record in enumerate(feed.records(LETTERS))])
    stage.say("redrive: redriving")
    began = time.perf_counter()
    async with settling(stage.bus, names, "answer") as settle:
        letters = [*settle.letters.values()]
        for first in range(0, len(letters), _AT_ONCE):
            await settle.redrive(letters[first : first + _AT_ONCE], actor="benchmark")
    seconds = time.perf_counter() - began
    assert len(letters) == LETTERS  # noqa: S101 - or nothing was measured
    stage.say("redrive: one hop")
    names = stage.names("redrive-hop")
    feed = Feed(stage, names)
    await feed.open()
    await feed.publish(feed.records(EVENTS))
    return {REDRIVE: (LETTERS / seconds, EVENTS / await ours(stage.bootstrap, names, EVENTS))}


def _letter(dead: str, event: Outgoing, n: int) -> Outgoing:
    record = Record(ASKED, n % PARTITIONS, n, event.key, event.value, [*event.headers], 0)
    error = ValueError("no")
    return dead_letter(dead, record, error, agent="answer", reason="permanent", attempts=1, limit=_LIMIT)


EXPERIMENT = Experiment((REDRIVE,), once)
