"""`antiphon run`: run agents on the cluster until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from antiphon.agents import interpreter
from antiphon.agents.watchdog import Watchdog
from antiphon.agents.worker import Worker, new_instance
from antiphon.bus.consumer import Consumer, Guarantee
from antiphon.bus.kept_log import LogKeeping
from antiphon.bus.names import COORDINATOR
from antiphon.bus.pressure import Bounds
from antiphon.bus.settings import Settings, load
from antiphon.bus.state import Memory
from antiphon.bus.states import StateSettings
from antiphon.bus.telemetry import SILENT
from antiphon.cli import logs, output
from antiphon.cli.canaries import with_canaries
from antiphon.cli.cluster import opened
from antiphon.cli.errors import INTERRUPTED, NO
from antiphon.cli.loading import load_agents
from antiphon.cli.options import given
from antiphon.cli.processes import supervise as supervise_all
from antiphon.cli.reload import supervise
from antiphon.cli.supervised import Order, order
from antiphon.compensation.coordinator import coordinator

if TYPE_CHECKING:
    from antiphon.agents.health import Endpoint
    from antiphon.agents.metrics import Metrics

log = logging.getLogger("antiphon")


def run(  # noqa: PLR0913 - an option each
    targets: Annotated[
        list[str],
        typer.Argument(metavar="MOD:AGENT", help="Agents, modules or files; `compensation` is the coordinator."),
    ],
    *,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Events in hand at once, for each agent.", metavar="N")
    ] = None,
    instance: Annotated[
        str | None, typer.Option(help="This worker's name; no other live one may have it.", metavar="NAME")
    ] = None,
    grace: Annotated[
        float | None, typer.Option(min=0, help="Seconds a stop may take to finish what runs.", metavar="S")
    ] = None,
    guarantee: Annotated[
        Guarantee | None, typer.Option(help="exactly_once, or at_least_once for less latency.", metavar="WORD")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Answer /livez, /readyz and /metrics there; 0: nowhere.", metavar="N"),
    ] = None,
    metrics_host: Annotated[
        str | None, typer.Option(help="Address to answer on: 127.0.0.1, unless said otherwise.", metavar="HOST")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Worker processes, for handlers that use the CPU.", metavar="N")
    ] = None,
    state_dir: Annotated[
        str | None,
        typer.Option(help="Folder for copies of state: a restart of --instance restores what is new.", metavar="DIR"),
    ] = None,
    canary: Annotated[
        list[str] | None,
        typer.Option(
            help="Another version of an agent, for --share of the workflows; may be repeated.", metavar="NAME=WHERE"
        ),
    ] = None,
    share: Annotated[
        str | None, typer.Option(help="How many workflows the canaries handle, such as 10%.", metavar="PERCENT")
    ] = None,
    with_coordinator: Annotated[
        bool, typer.Option("--with-coordinator", help="Run the coordinator of undoing in this worker too.")
    ] = False,
    reload: Annotated[bool, typer.Option("--reload", help="Start again whenever a Python file changes.")] = False,
) -> None:
    """Run agents until SIGTERM or Ctrl-C: then finish what is in hand, commit, and leave.

    A second signal ends it at once; what was in hand is handed out again.
    Exits with 1 where not all that was in hand could be finished and committed.

    Example:
      antiphon run support:triage
      antiphon run support --concurrency 500 --grace 60
      antiphon run support --metrics-port 9464
      antiphon run support --processes 4
      antiphon run support --instance support-1 --state-dir /var/lib/antiphon
      antiphon run support:triage --canary triage=./triage_v2.py:triage --share 10%
      antiphon run compensation
      antiphon run support --with-coordinator
    """
    if reload:
        raise typer.Exit(supervise(sys.argv[1:]))
    supervisor = order()
    flags = {
        "concurrency": concurrency,
        "instance": instance,
        "grace": grace,
        "metrics_port": metrics_port,
        "metrics_host": metrics_host,
        "processes": processes,
        "state_dir": state_dir,
        "canary": canary or None,
        "share": share,
    }
    settings = load(given().settings() | {name: value for name, value in flags.items() if value is not None})
    tags = {"instance": settings.instance} if supervisor is not None and settings.instance else {}
    logs.configure(verbose=given().verbose, **tags)
    if settings.activity_logs:
        logging.getLogger().addHandler(LogKeeping(logging.INFO))
    if settings.processes > 1:
        raise typer.Exit(asyncio.run(supervise_all(sys.argv[1:], settings, settings.instance or new_instance())))
    named = [*targets, COORDINATOR] if with_coordinator else targets
    consumers = [_with_options(consumer, settings, guarantee) for consumer in _consumers(named, settings)]
    consumers = with_canaries(consumers, settings.canary, settings.share)
    raise typer.Exit(asyncio.run(_run(consumers, settings, supervisor)))


def _consumers(targets: Sequence[str], settings: Settings) -> list[Consumer]:
    named = [target for target in targets if target != COORDINATOR]
    consumers = [agent.consumer() for agent in load_agents(named)]
    return consumers + ([coordinator(linger_s=settings.linger)] if COORDINATOR in targets else [])


def _with_options(consumer: Consumer, settings: Settings, guarantee: Guarantee | None) -> Consumer:
    return dataclasses.replace(
        consumer,
        concurrency=settings.concurrency or consumer.concurrency,
        guarantee=guarantee or consumer.guarantee,
    )


async def _run(consumers: Sequence[Consumer], settings: Settings, supervisor: Order | None) -> int:
    async with opened() as cluster, contextlib.AsyncExitStack() as watchers:
        metrics = _metrics(consumers) if settings.metrics_port else None
        await watchers.enter_async_context(interpreter.settled())
        worker = Worker(
            cluster.bus,
            consumers,
            names=cluster.names,
            store=cluster.store,
            claims=cluster.claims,
            instance=settings.instance,
            partitions=settings.partitions,
            create_topics=settings.create_topics,
            grace_s=settings.grace,
            session_timeout_s=settings.session_timeout,
            max_hops=settings.max_hops,
            unreadable=settings.unreadable,
            on_missing_offsets=settings.on_missing_offsets,
            bounds=_bounds(settings),
            telemetry=metrics or SILENT,
            state=_state(settings),
        )
        await watchers.enter_async_context(Watchdog(worker.in_hand))
        endpoint = None if metrics is None else _endpoint(worker, metrics, settings, supervisor)
        if endpoint is not None:
            await watchers.enter_async_context(endpoint)
        if supervisor is None or supervisor.introduces:
            _banner(consumers, worker, settings)
        running = asyncio.create_task(worker.run())
        readiness = asyncio.create_task(_say_ready(worker, supervisor, endpoint))
        _stop_on_signals(worker, running, grace_s=settings.grace)
        try:
            abandoned = await running
        except asyncio.CancelledError:
            return 0  # told to stop before it had anything in hand
        finally:
            readiness.cancel()
    if abandoned:
        log.error(
            "stopped; what was not finished is handed out again",
            extra={"handed_back": worker.handed_back},
        )
        return NO
    log.info("stopped", extra={"handed_back": worker.handed_back})
    return 0


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        most_pending=settings.pending,
        most_pending_bytes=settings.pending_bytes,
        most_in_hand=settings.in_hand,
        most_in_hand_bytes=settings.in_hand_bytes,
        activity_logs=settings.activity_logs,
    )


def _state(settings: Settings) -> StateSettings:
    folder = None if settings.state_dir is None else Path(settings.state_dir)
    if folder is not None and settings.instance is None:
        # Under a name that is made up nobody would ever find it again.
        log.warning("state is not kept in a folder: give this worker a name of its own, with --instance")
        folder = None
    return StateSettings(folder=folder, memory=Memory(settings.state_memory))


def _metrics(consumers: Sequence[Consumer]) -> Metrics:
    from antiphon.agents.metrics import Metrics  # noqa: PLC0415 - 0.1 s, for those only who ask for the endpoint

    canaries = {consumer.name: consumer.canary.version for consumer in consumers if consumer.canary is not None}
    return Metrics((consumer.name for consumer in consumers), canaries=canaries)


def _endpoint(worker: Worker, metrics: Metrics, settings: Settings, supervisor: Order | None) -> Endpoint:
    from antiphon.agents.health import Endpoint  # noqa: PLC0415 - as above

    if supervisor is not None:
        # The port that was asked for is the supervisor's, who asks here.
        return Endpoint(worker, metrics, host="127.0.0.1", port=0)
    return Endpoint(worker, metrics, host=settings.metrics_host, port=settings.metrics_port)


async def _say_ready(worker: Worker, supervisor: Order | None, endpoint: Endpoint | None) -> None:
    await worker.started.wait()
    if supervisor is not None:
        supervisor.started(port=None if endpoint is None else endpoint.port)
    await worker.ready.wait()
    # Others of its group have them all, or the group takes its time.
    without = [status.agent for status in worker.statuses() if not status.partitions]
    standing_by: dict[str, str] = {"standing_by": f"no partitions so far: {', '.join(without)}"} if without else {}
    log.info("ready", extra={"instance": worker.instance, **standing_by})


def _stop_on_signals(worker: Worker, running: asyncio.Task[int], *, grace_s: float) -> None:
    told = False

    def stop(number: int) -> None:
        nonlocal told
        if told:
            # At once means at once: the broker fences what this process leaves open.
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os._exit(INTERRUPTED if number == signal.SIGINT else 128 + number)
        told = True
        if not worker.ready.is_set():
            running.cancel()
            return
        log.info("stopping: finishing what is in hand; once more stops at once", extra={"grace_s": grace_s})
        worker.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)


def _banner(consumers: Sequence[Consumer], worker: Worker, settings: Settings) -> None:
    for consumer in consumers:
        facts = _facts(consumer, worker, settings)
        if not sys.stderr.isatty():
            log.info("starting", extra=facts)
            continue
        output.remark(f"{consumer.name} {consumer.version}".rstrip())
        for line in output.columns([(f"  {name}", str(value)) for name, value in facts.items() if name != "agent"]):
            output.remark(line)


def _facts(consumer: Consumer, worker: Worker, settings: Settings) -> dict[str, object]:
    says = sorted(event_class.__event__.type for event_class in consumer.emits or ())
    facts: dict[str, object] = {
        "agent": consumer.name,
        "version": consumer.version,
        "instance": worker.instance,
        "hears": ", ".join(sorted(consumer.hears)),
        "says": ", ".join(says) or ("anything" if consumer.emits is None else "nothing"),
        "group": settings.names.group(consumer.name),
        "broker": settings.bootstrap_servers,
        "guarantee": consumer.guarantee.value,
        "concurrency": consumer.concurrency,
    }
    if consumer.canary is not None:
        facts["canary"] = f"{consumer.canary.version} for {consumer.share} of the workflows"
    if settings.metrics_port:
        facts["metrics"] = f"{settings.metrics_host}:{settings.metrics_port}"
    if consumer.undoes:
        facts["undoes"] = ", ".join(sorted(consumer.undoes)) + "  (when antiphon run compensation asks it to)"
    return facts
