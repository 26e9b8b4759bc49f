"""How soon a killed worker's events go on elsewhere, beyond the session that the broker waits for.

Two workers live, events come steadily, one of the two is killed with -9. What
counts is when the other one starts on the first event of a partition that was
the victim's, as its activity says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # its stubs forget the second

from antiphon.bus.activity import Activity
from antiphon.bus.names import Names
from antiphon.bus.schema_topic import TopicStore
from antiphon.schemas.codec import Codec
from feed import ACTIVITY, Feed
from running import WorkerProcess
from stage import PARTITIONS, Experiment, NotMeasuredError, Stage
from table import Figure, Pair, Unit

_PAUSE_S = 0.005
_SETTLE_S = 60.0
_SESSION = "group.consumer.session.timeout.ms"

BEYOND = Figure(
    "takeover",
    "from kill -9 to the victim's first event elsewhere, beyond the session time-out",
    Unit.SECONDS,
    "1 s",
    beyond=True,
)


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Kill one of two and wait for the other."""
    stage.say("takeover after kill -9")
    session_s = await asyncio.to_thread(session_timeout_s, stage.bootstrap)
    names = stage.names("takeover")
    feed = Feed(stage, names)
    await feed.open()
    # So that a transaction is given up before its worker is.
    agreed = {"ANTIPHON_SESSION_TIMEOUT": str(session_s)}
    with (
        WorkerProcess(stage, names, "answer", "--instance", "victim", label="-victim", settings=agreed) as victim,
        WorkerProcess(stage, names, "answer", "--instance", "heir", label="-heir", settings=agreed) as heir,
    ):
        await victim.ready()
        await heir.ready()
        steady = asyncio.create_task(_keep_coming(feed))
        try:
            async with asyncio.timeout(_SETTLE_S):
                took_s = await _takeover(stage, names, victim)
        finally:
            steady.cancel()
            await asyncio.wait([steady])
    return {BEYOND: (took_s, session_s)}


async def _takeover(stage: Stage, names: Names, victim: WorkerProcess) -> float:
    """Kill the victim once both are at work; return the seconds until its partitions are in other hands."""
    owners: dict[int, str] = {}
    killed_s = 0.0
    async for instance, partition, started_s in _handled(stage, names):
        if killed_s:
            if instance == "heir" and owners.get(partition) == "victim" and started_s > killed_s:
                return started_s - killed_s
            continue
        owners[partition] = instance
        if len({*owners.values()}) == 2 and len(owners) > 3:  # noqa: PLR2004 - both have half of the partitions
            killed_s = time.time()
            victim.kill()
    raise NotMeasuredError("the activity topic ended")


async def _handled(stage: Stage, names: Names) -> AsyncIterator[tuple[str, int, float]]:
    """Yield instance, partition and start of what is handled, as it becomes visible."""
    codec = Codec(TopicStore(stage.bus, names, partitions=PARTITIONS))
    bounds = await stage.bus.bounds([names.topic(ACTIVITY)])
    async for record in stage.bus.read({tp: first for tp, (first, _) in bounds.items()}):
        activity = codec.decode(Activity, record.value or b"")
        for delivery in activity.deliveries:
            yield activity.instance, delivery.partition, delivery.started_us / 1e6


async def _keep_coming(feed: Feed) -> None:
    n = 0
    while True:
        await feed.publish(feed.records(1, first=n))
        n += 1
        await asyncio.sleep(_PAUSE_S)


def session_timeout_s(bootstrap: str) -> float:
    """Return after how long without a sign of life the broker gives a member's partitions to others."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    broker = next(iter(admin.list_topics(timeout=10).brokers))
    resource = ConfigResource(ConfigResource.Type.BROKER, str(broker))
    configured = admin.describe_configs([resource])[resource].result(timeout=10)
    if _SESSION not in configured:
        raise NotMeasuredError(f"the broker has no {_SESSION}")
    return int(configured[_SESSION].value) / 1_000


EXPERIMENT = Experiment((BEYOND,), once)
