"""`antiphon demo`: the dependency-intake example on real input, each agent a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from antiphon.bus.connect import connect, schema_store
from antiphon.bus.errors import BusError
from antiphon.bus.kafka.embedded import EmbeddedBroker
from antiphon.bus.settings import Settings, load
from antiphon.cli import output
from antiphon.cli.cluster import Cluster
from antiphon.cli.demo import example
from antiphon.cli.demo.crew import Crew
from antiphon.cli.demo.intake import Intake, Taken
from antiphon.cli.demo.screen import Lines, LiveTable, Screen, summary_lines
from antiphon.cli.demo.submissions import Distribution, chosen, installed
from antiphon.cli.errors import DONE, INTERRUPTED, NO
from antiphon.cli.options import given
from antiphon.cli.tree import render

_PARTITIONS = 4
_CATALOGUE = "catalogue.db"
# Ctrl-C ends within two seconds: one for the agents to leave, the rest for the broker and the folder.
_GRACE_S = 1.0
_LEAVE_S = 10.0


@dataclasses.dataclass(frozen=True)
class Order:
    """What was asked for."""

    distributions: Sequence[Distribution]
    keep: bool
    rate: float | None
    address: str | None
    """Where the broker is; None: one is started for this run."""
    namespace: str

    @property
    def borrowed(self) -> bool:
        """Topics stand on somebody's broker, under a name that was made up for this run."""
        return self.address is not None and given().namespace is None


def demo(
    *,
    only: Annotated[
        list[str] | None, typer.Option(help="Take in this package alone; may be repeated.", metavar="NAME")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave broker and agents up until Ctrl-C, to look around.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Packages submitted a second, at most.", metavar="N")
    ] = None,
) -> None:
    """Take in every Python package installed here: five agents and the saga coordinator, each a process.

    Real input: their METADATA and licence files are read, never changed. Starts a
    broker of its own unless -b names one, and a namespace of its own on either.

    Example:
      antiphon demo
      antiphon demo --only rich --only orjson
      antiphon demo --keep
    """
    order = Order(
        distributions=chosen(installed(), only or []),
        keep=keep,
        rate=rate,
        address=given().bootstrap_servers,
        namespace=given().namespace or f"demo-{secrets.token_hex(3)}",
    )
    try:
        code = asyncio.run(_demo(order))
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(code)


async def _demo(order: Order) -> int:
    running = asyncio.current_task()
    assert running is not None  # noqa: S101 - for the type checker: this is a coroutine
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # One way out for all of them, and for SIGINT also where a shell started this in the background.
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    screen = _screen()
    with tempfile.TemporaryDirectory(prefix="antiphon-demo-", ignore_cleanup_errors=True) as folder:
        async with _broker(order, screen) as address:
            settings = _settings(order, address)
            crew = Crew(Path(folder), cwd=example.FOLDER, environment=_environment(settings, Path(folder)))
            try:
                async with _opened(settings) as cluster:
                    taken = await Intake(cluster, crew, screen, Path(folder) / _CATALOGUE).run(
                        order.distributions, order.rate
                    )
                    _report(order, settings, taken)
                    if order.keep:
                        # Ctrl-C is how this is meant to end.
                        with contextlib.suppress(asyncio.CancelledError):
                            await crew.watch()
                    elif order.borrowed:
                        # Members that have left let their groups be removed; killed ones linger for a session.
                        await asyncio.to_thread(crew.stop, _LEAVE_S)
            except asyncio.CancelledError:
                if order.borrowed:
                    output.remark(f"what it made on {address} stays there: topics and groups {settings.namespace}.*")
                raise
            finally:
                crew.stop(_GRACE_S)
            if order.borrowed and not await _removed(settings):
                output.remark(f"topics and groups {settings.namespace}.* could not be removed from {address}")
    return DONE if taken.summary.good else NO


def _screen() -> Screen:
    remarks = output.console(sys.stderr)
    if given().json:
        return Lines(None, remarks)
    console = output.console()
    return LiveTable(console) if sys.stdout.isatty() else Lines(console, remarks)


@contextlib.asynccontextmanager
async def _broker(order: Order, screen: Screen) -> AsyncGenerator[str]:
    if order.address is not None:
        yield order.address
        return
    screen.say("starting a broker ...")
    broker = EmbeddedBroker()
    starting = asyncio.ensure_future(broker.start())
    try:
        yield await asyncio.shield(starting)
    finally:
        # Interrupted or not, it starts in a thread to the end: only then can it be stopped.
        await asyncio.wait([starting])
        await broker.stop()


def _settings(order: Order, address: str) -> Settings:
    # Everything else (how to log in, which registry) is as configured, for this process and the agents alike.
    said = {"bootstrap_servers": address, "namespace": order.namespace, "partitions": _PARTITIONS}
    return load(given().settings() | said)


def _environment(settings: Settings, folder: Path) -> dict[str, str]:
    environment = {
        "ANTIPHON_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "ANTIPHON_NAMESPACE": settings.namespace,
        "ANTIPHON_PARTITIONS": str(settings.partitions),
        "INTAKE_CATALOGUE": str(folder / _CATALOGUE),
        "PYTHONUNBUFFERED": "1",
    }
    if settings.registry:
        environment["ANTIPHON_REGISTRY"] = settings.registry
    if policy := os.environ.get("INTAKE_POLICY"):
        environment["INTAKE_POLICY"] = str(Path(policy).resolve())
    return environment


@contextlib.asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[Cluster]:
    bus = connect(settings)
    try:
        topics = await bus.topics()
        yield Cluster(settings, bus, schema_store(settings, bus, settings.names, settings.partitions), topics)
    finally:
        await bus.close()


async def _removed(settings: Settings) -> bool:
    """Leave somebody's cluster as it was found: remove what this run made there; says whether that worked."""
    bus = connect(settings)
    try:
        await bus.remove(settings.namespace)
    except BusError:
        return False
    finally:
        await bus.close()
    return True


def _report(order: Order, settings: Settings, taken: Taken) -> None:
    if given().json:
        output.document(
            {
                "packages": [package.document() for package in taken.packages],
                "summary": taken.summary.document(),
                "workflow": taken.workflow,
            }
        )
        return
    output.result()
    for line in summary_lines(taken.summary):
        output.result(line)
    if taken.workflow is not None:
        output.result()
        output.show(render(taken.workflow))
    output.result()
    output.result("what to try next:")
    for line in _next(order, settings, taken):
        output.result(f"  {line}")
    sys.stdout.flush()


def _next(order: Order, settings: Settings, taken: Taken) -> list[str]:
    if not order.keep:
        return output.columns(
            [
                ("antiphon demo --keep", "leave broker and agents up, to look around"),
                (f"cp {example.FOLDER / 'policy.toml'} my.toml", "and change it; then"),
                ("INTAKE_POLICY=my.toml antiphon demo", "decide by it"),
                ("antiphon new helpdesk", "an agent of your own"),
            ]
        )
    shown = taken.workflow["correlation_id"] if taken.workflow else "ID"
    return [
        f"export ANTIPHON_BOOTSTRAP_SERVERS={settings.bootstrap_servers}",
        f"export ANTIPHON_NAMESPACE={settings.namespace}",
        f"antiphon trace {shown}",
        "antiphon tail package.refused review.requested --from-beginning",
        "antiphon topology",
        "",
        "broker and agents stay up until Ctrl-C here",
    ]
