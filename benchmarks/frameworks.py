"""The hop against frameworks, each in an environment of its own and at its own defaults, each a process.

They hear JSON and say JSON, as their users do, at least once, with no ids, no
transaction and no activity record: less than the hop that they are compared
with. Each gets as many events as keep it busy for a few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import peering
from antiphon.bus.record import Outgoing
from antiphon.schemas.ids import root_id
from arrivals import arrivals, rate
from feed import ANSWERED, ASKED, Feed, asked
from running import Program, WorkerProcess
from stage import Experiment, Stage
from table import Figure, Pair, Unit

OURS = 40_000
THEIRS = 4_000
_AIM = "10, aim 20"

PEERS = {
    "on_faststream_aiokafka.py": Figure("frameworks", "one fast hop, against FastStream on aiokafka", Unit.RATE, _AIM),
    "on_faststream_confluent.py": Figure(
        "frameworks", "the same, against FastStream on confluent-kafka", Unit.RATE, _AIM
    ),
    "on_faust.py": Figure("frameworks", "the same, against Faust", Unit.RATE, _AIM),
}


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Run ours, then each of theirs."""
    python = str(peering.interpreter())
    ours = await _ours(stage)
    return {figure: (ours, await _theirs(stage, python, script)) for script, figure in PEERS.items()}


async def _ours(stage: Stage) -> float:
    stage.say("one hop: a worker process")
    names = stage.names("frameworks-ours")
    feed = Feed(stage, names)
    await feed.open()
    records = [*feed.records(OURS)]
    with WorkerProcess(stage, names, "answer") as worker:
        await worker.ready()
        with worker.frozen():
            await feed.publish(records)
        began_s = time.time()
        times = await arrivals(stage.bootstrap, names.topic(ANSWERED), OURS, alive=worker.alive)
    # All of it: a busy worker commits in bursts, and between marks they would count for more than they are.
    return OURS / (times[-1] - began_s)


async def _theirs(stage: Stage, python: str, script: str) -> float:
    stage.say(f"one hop: {script}")
    names = stage.names("frameworks")
    feed = Feed(stage, names)
    await feed.open()
    topic = names.topic(ASKED)
    values = (asked(n).model_dump_json().encode() for n in range(THEIRS))
    headers: list[tuple[str, bytes | None]] = [("content-type", b"application/json")]
    await feed.publish(Outgoing(topic, root_id().encode(), value, headers) for value in values)
    command = [python, str(peering.SCRIPTS / script), stage.bootstrap, names.namespace]
    with Program(stage, f"{names.namespace}-{script}", command) as program:
        return rate(await arrivals(stage.bootstrap, names.topic(ANSWERED), THEIRS, alive=program.alive))


EXPERIMENT = Experiment((*PEERS.values(),), once)
