"""`antiphon dev`: a broker for a laptop, in one process, gone with Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.embedded import EmbeddedBroker
from antiphon.bus.names import Names
from antiphon.bus.settings import load
from antiphon.bus.topics import needed, plan
from antiphon.cli import logs, output
from antiphon.cli.options import given

_PARTITIONS = 4


def dev(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens; 0: any free port.")] = 9092,
    keep: Annotated[
        Path | None, typer.Option(help="Keep its data in this folder, for the next time.", metavar="DIR")
    ] = None,
) -> None:
    """Run a broker on this machine until Ctrl-C. For a laptop: it keeps its data in memory.

    Example:
      antiphon dev
      antiphon dev --port 19092 --keep .antiphon
    """
    # Whose process is gone is said there.
    logs.configure(verbose=given().verbose)
    asyncio.run(_run(port, keep))


async def _run(port: int, keep: Path | None) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with EmbeddedBroker(port=port or None, data_dir=keep) as broker:
        await _prepare(broker.bootstrap_servers)
        _say(broker.bootstrap_servers, keep)
        await stopping.wait()
    output.remark("stopped")


async def _prepare(address: str) -> None:
    """Make the mesh's own topics, so that whoever comes finds a mesh of a laptop's width."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=address))
    try:
        names = Names(load(given().settings()).namespace)
        await bus.create(plan(needed([], names), await bus.topics(), _PARTITIONS).create)
    finally:
        await bus.close()


def _say(address: str, keep: Path | None) -> None:
    if given().json:
        output.line({"bootstrap_servers": address})
        return
    output.result(f"export ANTIPHON_BOOTSTRAP_SERVERS={address}")
    output.result(f"export ANTIPHON_PARTITIONS={_PARTITIONS}")
    sys.stdout.flush()
    where = f"data in {keep}" if keep else "data in memory"
    output.remark(f"ready on {address}, {where}; Ctrl-C stops it")
