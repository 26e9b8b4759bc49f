"""What a live replay would do, before it does it."""

from __future__ import annotations

from typing import Any

from antiphon.bus.subscriptions import is_live
from antiphon.cli.cluster import Cluster
from antiphon.cli.errors import UsageError
from antiphon.cli.replaying.showing import planned_live
from antiphon.cli.replaying.source import Source
from antiphon.replay.live import again
from antiphon.schemas.envelope import now_us
from antiphon.tracing.records import read_agents


def on_brokers(source: Source) -> Cluster:
    """Return where *source* was read; raises `UsageError` for a bundle, which is not to be published."""
    if source.cluster is None:
        raise UsageError(
            "expected workflows or a filter for --mode live, got a bundle",
            "it may come from anywhere, and has *** where something is not to be shown; try: --mode sandbox",
        )
    return source.cluster


async def planned_for_real(source: Source) -> dict[str, Any]:
    """Return what would be published, and who that runs now would hear it."""
    cluster = on_brokers(source)
    hearers: dict[str, set[str]] = {}
    at_us = now_us()
    for seen in await read_agents(cluster.bus, cluster.names, cluster.codec()):
        for heard in seen.hears if is_live(seen, now_us=at_us) else ():
            hearers.setdefault(heard.type, set()).add(seen.agent)
    return planned_live(source.recording, again(source.recording, source.chosen), hearers)
