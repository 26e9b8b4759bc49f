"""The benchmark suite: one table of ratios, each of things measured side by side, in turns, on Apache Kafka.

    python benchmarks/suite.py [--only NAME] [--rounds N] [--long] [--save] [-b HOST:PORT]

Medians of several rounds are printed, and how far the rounds lay apart. What
counts is the ratios: the machine's own speed falls out. Nothing passes or
fails here; what a figure should be stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import apart
import failing
import frameworks
import growth
import hop
import keys
import latency
import processes
import redriving
import replaying
import restore
import seeing
import slow
import takeover
import undoing
from feed import Feed
from loops import raw
from machine import Machine
from stage import Experiment, NotMeasuredError, Stage
from table import Figure, Pair, Row, lines, put_into

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "kafka"))
from cluster import NoKafkaError, start

from antiphon.agents import interpreter
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig

ROUNDS = 3
EXPERIMENTS: Sequence[Experiment] = (
    hop.EXPERIMENT,
    frameworks.EXPERIMENT,
    processes.EXPERIMENT,
    slow.EXPERIMENT,
    latency.EXPERIMENT,
    failing.EXPERIMENT,
    growth.EXPERIMENT,
    restore.EXPERIMENT,
    keys.EXPERIMENT,
    takeover.EXPERIMENT,
    apart.EXPERIMENT,
    undoing.EXPERIMENT,
    seeing.EXPERIMENT,
    replaying.EXPERIMENT,
    redriving.EXPERIMENT,
)
# Tables of their own: what they measure needs no broker.
SCRIPTS = ("codec", "startup")

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/reference/performance.md"


def figures() -> list[Figure]:
    """Return every line of the table."""
    return [figure for experiment in EXPERIMENTS for figure in experiment.figures]


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [*(experiment.name for experiment in EXPERIMENTS), *SCRIPTS]
    parser.add_argument("--only", action="append", choices=names, help="measure this alone; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often each is measured: {ROUNDS}")
    parser.add_argument("--long", action="store_true", help="where it grows with events, go up to a million: minutes")
    parser.add_argument("--save", action="store_true", help=f"write the table to {PAGE.relative_to(HERE.parent)}")
    parser.add_argument("-b", "--bootstrap-servers", help="use these brokers instead of one started here")
    return parser


async def measure(stage: Stage, experiments: Sequence[Experiment], rounds: int) -> list[Row]:
    """Measure each so many times; what cannot be measured says why, and does not end the others."""
    if experiments:
        # A broker is slow until its code is compiled: nobody's figure should pay for that.
        stage.say("warming the broker up")
        await _warm_up(stage)
    rows: list[Row] = []
    for experiment in experiments:
        pairs: dict[Figure, list[Pair]] = {figure: [] for figure in experiment.figures}
        why = ""
        try:
            for _ in range(rounds):
                for figure, pair in (await experiment.round(stage)).items():
                    pairs[figure].append(pair)
        except NotMeasuredError as error:
            why = str(error)
        rows += [Row(figure, pairs[figure], why) for figure in experiment.figures]
    stage.say("")
    return rows


async def _warm_up(stage: Stage) -> None:
    names = stage.names("warm")
    feed = Feed(stage, names)
    await feed.open()
    await feed.publish(feed.records(hop.EVENTS))
    await raw(stage.bootstrap, names, hop.EVENTS)


async def run(arguments: argparse.Namespace, bootstrap: str, folder: Path) -> list[Row]:
    bus = KafkaBus(KafkaConfig(bootstrap_servers=bootstrap))
    stage = Stage(bootstrap, bus, folder, long=arguments.long)
    chosen = [one for one in EXPERIMENTS if not arguments.only or one.name in arguments.only]
    try:
        return await measure(stage, chosen, arguments.rounds)
    finally:
        await bus.close()


@contextlib.contextmanager
def broker(given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    cluster = start()
    try:
        yield cluster.bootstrap_servers
    finally:
        cluster.stop()


def main() -> None:
    """Measure, print, and save where asked to."""
    parser = options()
    arguments = parser.parse_args()
    if arguments.save and arguments.only:
        parser.error("expected --save with all figures, got --only too: the page would lose the others")
    # However it is ended, brokers and workers are ended with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What runs in this process, the loops by hand too, has what `antiphon run` gives its agents.
    interpreter.settle()
    try:
        if not arguments.only or set(arguments.only) - set(SCRIPTS):
            _table(arguments)
        for name in SCRIPTS:
            if not arguments.only or name in arguments.only:
                print(f"\n{name}", flush=True)
                subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=True)
    except NoKafkaError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _table(arguments: argparse.Namespace) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder,
        broker(arguments.bootstrap_servers) as bootstrap,
    ):
        rows = asyncio.run(run(arguments, bootstrap, Path(folder)))
    about = f"Medians of {arguments.rounds} rounds. {Machine.here(arguments.bootstrap_servers)}."
    text = "\n".join([*lines(rows), "", about])
    print(text, flush=True)
    if arguments.save:
        PAGE.write_text(put_into(PAGE.read_text(), text))


if __name__ == "__main__":
    main()
