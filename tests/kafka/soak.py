"""A long ordeal on three brokers: `make soak`. What came of it is said at the end, and kept with `--save`.

    make soak ARGS="--seed 7 --events 1000000 --kills 200"

Exits with 0 where the oracle is satisfied, with 1 and the anomalies where it is
not, with 3 where there is no Kafka. Stopping this process (SIGSTOP) starves the
workers of events, so the machine is quiet within seconds; it goes on with
SIGCONT.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from cluster import TARGET, Cluster, KafkaCluster, NoKafkaError, start
from ordeal import Course, Fault, Ordeal, Progress, Verdict
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from staff import Staff

from antiphon import Mesh
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.settings import Settings

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "soaks.md"
_NEWEST = "<!-- newest first -->\n"
_NAMESPACE = "soak"
_EVERY_S = 10.0
"""How often a line is written where there is no terminal."""
_BROKERS = 3
_LONG_S = 120.0
"""After a recovery that took longer, what was said meanwhile is kept: somebody will want to know why."""


def main() -> None:
    """Run one and exit as it came out."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stops = max(options.kills // 20, 1) if options.stops is None else options.stops
    course = Course(
        seed=options.seed, events=options.events, kills=options.kills, stops=stops, accounts=options.accounts
    )
    _say(
        f"seed {course.seed}: {course.events:,} events, {course.kills} kills, {course.stops} stops of {_BROKERS} brokers"
    )
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=_made(TARGET)))
    cluster: Cluster | None = None
    satisfied = swift = False
    try:
        cluster = start(_BROKERS)
        with _shown(course) as watch:
            verdict = asyncio.run(_run(course, cluster, folder, options, watch))
        satisfied = not (verdict.anomalies or verdict.complaints)
        swift = all(lasted_s <= _LONG_S for some in verdict.recoveries.values() for lasted_s in some)
        _tell(course, verdict)
        if options.hold and not satisfied:
            _say(
                f"holding the brokers until Ctrl-C: export ANTIPHON_BOOTSTRAP_SERVERS={cluster.bootstrap_servers} ANTIPHON_NAMESPACE=soak"
            )
            signal.pause()
    except NoKafkaError as error:
        _say(f"error: {error}")
        sys.exit(3)
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say("stopped")
        sys.exit(130)
    finally:
        if isinstance(cluster, KafkaCluster):
            cluster.stop(keep_logs=not (satisfied and swift))
        elif cluster is not None:
            cluster.stop()
        if satisfied and swift:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _say(f"what the workers said is in {folder}")
    if options.save:
        save(course, verdict)
    sys.exit(0 if satisfied else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Kill workers in mid-flow for long, and see what became of every event."
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of deposits and faults (random)")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=200, help="kill -9 of a worker; other faults come with them")
    parser.add_argument("--stops", type=int, help="of a broker (one for every 20 kills)")
    parser.add_argument("--accounts", type=int, default=200, help="keys among which the events are spread")
    parser.add_argument("--workers", type=int, default=3, help="of each of the two agents")
    parser.add_argument(
        "--guarantee",
        choices=["exactly_once", "at_least_once"],
        default="exactly_once",
        help="at_least_once shows that the oracle sees what is repeated",
    )
    parser.add_argument("--hold", action="store_true", help="leave the brokers up where something was found")
    parser.add_argument("--save", action="store_true", help=f"keep the result in {PAGE.name}")
    options = parser.parse_args()
    if min(options.events, options.kills, options.accounts, options.workers) < 1 or (options.stops or 0) < 0:
        parser.error("expected at least 1 of each, or --stops 0")
    return options


async def _run(course: Course, cluster: Cluster, folder: Path, options: argparse.Namespace, watch: Watch) -> Verdict:
    kafka = cluster.bootstrap_servers
    settings = Settings(bootstrap_servers=kafka, namespace=_NAMESPACE, partitions=course.partitions)
    bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka))
    staff = Staff(
        ("ledger", "auditor"),
        options.workers,
        folder=folder,
        kafka=kafka,
        namespace=_NAMESPACE,
        options=("--guarantee", options.guarantee),
    )
    this = asyncio.current_task()
    assert this is not None
    # An exception out of a signal's handler may end in a callback of some client, and be lost.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    brokers = cluster.brokers if isinstance(cluster, KafkaCluster) else ()
    try:
        async with Mesh(bus, settings=settings) as mesh:
            names = Names(_NAMESPACE)
            ordeal = Ordeal(
                course, bus=bus, mesh=mesh, names=names, staff=staff, kafka=kafka, brokers=brokers, watch=watch
            )
            return await ordeal.run()
    finally:
        staff.end()
        await bus.close()


# What is shown meanwhile.


class Watch:
    """Says how it goes: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, course: Course, bar: Bar | None) -> None:
        self._course = course
        self._bar = bar
        self._task = None if bar is None else bar.add_task("", total=course.events, faults="", rate="", left="")
        self._next_s = 0.0

    def __call__(self, progress: Progress) -> None:
        rate = progress.through / progress.elapsed_s if progress.elapsed_s else 0.0
        left_s = (self._course.events - progress.through) / rate if rate else 0.0
        wrong = f" {progress.findings} FINDINGS" if progress.findings else ""
        if self._bar is not None and self._task is not None:
            faults = f"{progress.faults}/{progress.of} faults{wrong}"
            self._bar.update(
                self._task, completed=progress.through, faults=faults, rate=f"{rate:,.0f}/s", left=_span(left_s)
            )
        elif progress.elapsed_s >= self._next_s:
            self._next_s = progress.elapsed_s + _EVERY_S
            _say(
                f"{progress.through:,} of {self._course.events:,} events through, {progress.faults} of {progress.of} "
                f"faults, {rate:,.0f}/s, {_span(left_s)} left{wrong}"
            )


@contextlib.contextmanager
def _shown(course: Course) -> Generator[Watch]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Watch(course, None)
        return
    columns = (
        BarColumn(),
        TextColumn("{task.completed:,.0f} events"),
        TextColumn("{task.fields[faults]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]} left"),
    )
    with Bar(*columns, console=console) as bar:
        yield Watch(course, bar)


# What is said at the end.


def _tell(course: Course, verdict: Verdict) -> None:
    sys.stdout.write("\n".join([f"seed {course.seed}", "", *_table(course, verdict), "", *_findings(verdict)]) + "\n")


def _table(course: Course, verdict: Verdict) -> list[str]:
    rows = [
        ("events in, out", f"{course.events:,}, {verdict.through:,}"),
        ("keys, partitions", f"{course.accounts}, {course.partitions}"),
        ("time, of it the audit", f"{_span(verdict.flow_s + verdict.audit_s)}, {_span(verdict.audit_s)}"),
        ("events a second, two hops each, faults included", f"{verdict.rate:,.0f}"),
        ("deliveries repeated after a fault, in memory alone", f"{verdict.redeliveries:,}"),
    ]
    for fault in Fault:
        if verdict.faults[fault]:
            median, most = verdict.recovery(fault)
            rows.append(
                (
                    f"{fault}: times; seconds to recover, median, most",
                    f"{verdict.faults[fault]}; {median:.1f}, {most:.1f}",
                )
            )
    return ["| | |", "|---|---|", *(f"| {what} | {much} |" for what, much in rows)]


def _findings(verdict: Verdict) -> list[str]:
    found = [*verdict.anomalies, *verdict.complaints]
    return found or ["No anomalies: no lost-write, duplicate, nonmonotonic, wrong-total, aborted-read or unexpected."]


def save(course: Course, verdict: Verdict) -> None:
    """Put the result at the top of the page that keeps them."""
    faults = f"{course.kills} kills, {course.stops} stops of brokers"
    heading = f"## {time.strftime('%Y-%m-%d')}: {course.events:,} events, {faults}, seed {course.seed}"
    text = "\n".join(["", heading, "", _machine(), "", *_table(course, verdict), "", *_findings(verdict), ""])
    page = PAGE.read_text()
    PAGE.write_text(page.replace(_NEWEST, _NEWEST + text, 1))
    _say(f"saved in {PAGE}")


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}, Python {python}; {_BROKERS} brokers on the same machine."


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
