"""Workers of an earlier state and of this one in one mesh, on Apache Kafka, in both directions: `make wire`.

    make wire                              the newest tag; without one, the state before the newest records were kept
    make wire ARGS="--revision HEAD~10"    any other

The earlier state is built as a wheel into an environment of its own, with what it was
pinned to. In a first mesh half of the agents are of it and half of this state, in a
second one it is the other way round; half-way every worker is replaced by one of the
other state, with loans waiting for books and moves in mid-saga. In the end everything
was done once, and both states tell each workflow alike. Exits with 1 where not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "kafka"))
from cluster import NoKafkaError, start
from crew import Process
from troupe import (
    BookReturned,
    BookWanted,
    LoanFiled,
    MoveEnded,
    MoveWanted,
    StampCounted,
    VanReturned,
)

from antiphon import Event
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.schema_topic import TopicStore
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENTS = ROOT / ".wire"
TROUPE = Path(__file__).with_name("troupe.py")
AGENTS = ("desk", "cards", "counter", "clerk", "archive", "mover", "packer", "moving", "compensation")
PARTITIONS = 4
LOANS = 40
MOVES = 12
PATIENCE_S = 180.0


class NotAsItShouldBeError(Exception):
    """Something is not as it should be at the end."""


def built(revision: str) -> Path:
    """Return the interpreter of an environment that has the state at *revision* installed; made once."""
    commit = _git("rev-parse", "--verify", f"{revision}^{{commit}}")
    place = ENVIRONMENTS / commit[:12]
    python = place / "venv/bin/python"
    if (place / ".ready").exists():
        return python
    _say(f"building {commit[:12]} into {place} ...")
    shutil.rmtree(place, ignore_errors=True)
    (place / "tree").mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(place / "tree")], input=archive, check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(place / "tree")]
    subprocess.run(build, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    pinned = str(place / "tree/requirements/image.txt")
    subprocess.run([*install, "--require-hashes", "--requirement", pinned], check=True)
    subprocess.run([*install, *map(str, place.glob("*.whl"))], check=True)
    (place / ".ready").touch()
    return python


def default_revision() -> str:
    """Return the newest tag; without one, the state before the newest records were kept: it wrote them."""
    tags = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tags.returncode == 0:
        return tags.stdout.strip()
    kept = _git("log", "-1", "--format=%H", "--", "tests/wire/golden")
    return f"{kept}^" if kept else "HEAD"


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


class Stage:
    """One mesh of workers of two states."""

    def __init__(self, kafka: str, namespace: str, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        folder.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ANTIPHON_"))},
            "ANTIPHON_BOOTSTRAP_SERVERS": kafka,
            "ANTIPHON_NAMESPACE": namespace,
            "ANTIPHON_PARTITIONS": str(PARTITIONS),
        }
        bus, names = KafkaBus(KafkaConfig(bootstrap_servers=kafka)), Names(namespace)
        self.mesh = MemoryMesh(PARTITIONS, bus=bus, names=names, store=TopicStore(bus, names, partitions=PARTITIONS))
        self.running: dict[str, Process] = {}
        self._all: list[Process] = []

    def start(self, agent: str, python: Path) -> Process:
        words = agent if agent == "compensation" else f"{TROUPE}:{agent}"
        process = Process(
            [str(python), "-P", "-m", "antiphon.cli", "run", words],
            log=self.folder / f"{agent}-{len(self._all)}.log",
            environment=self.environment,
        )
        self._all.append(process)
        self.running[agent] = process
        return process

    async def replace(self, agent: str, python: Path) -> None:
        """Have a worker of the other state beside the one there is, then end that one in an orderly way."""
        before = self.running[agent]
        await self.start(agent, python).ready()
        before.send(signal.SIGTERM)
        if (code := await before.ended()) != 0:
            raise NotAsItShouldBeError(f"{agent} ended with {code}: {before.text()[-1_000:]}")

    async def end(self) -> None:
        for process in self.running.values():
            process.send(signal.SIGTERM)
        codes = {agent: await process.ended() for agent, process in self.running.items()}
        if any(codes.values()):
            raise NotAsItShouldBeError(f"expected exit code 0 of each, got {codes}")

    def kill(self) -> None:
        for process in self._all:
            process.kill()

    def complaints(self) -> list[str]:
        """Return what any of them logged that is not as it should be."""
        return [
            f"{line.get('level')}: {line.get('message')}"
            for process in self._all
            for line in process.lines()
            if line.get("level") in ("error", "critical")
        ]

    async def count(self, event_class: type[Event]) -> int:
        try:
            return len(await self.mesh.events(event_class))
        except Exception as error:  # its schema may not be known yet
            reference = getattr(error, "reference", None)
            if reference is None:
                raise
            await self.mesh.codec.learn(reference)
            return await self.count(event_class)

    async def came(self, event_class: type[Event], count: int) -> None:
        async def there() -> bool:
            return await self.count(event_class) >= count

        await eventually(there, PATIENCE_S, what=f"{count} of {event_class.__event__.type}")


async def play(stage: Stage, first: Mapping[str, Path], second: Mapping[str, Path]) -> list[str]:
    """Play with *first* by agent, replace everybody by *second* half-way; return what is not as it should be."""
    mesh = stage.mesh
    for agent in AGENTS:
        if agent != "packer":
            stage.start(agent, first[agent])
    for process in stage.running.values():
        await process.ready()
    ids = await _ask(mesh, 0)
    await stage.came(StampCounted, LOANS)
    # Nobody has packed yet: each saga waits in mid-flight while its workers, the mover's and the coordinator's change.
    for agent in [*stage.running]:
        await stage.replace(agent, second[agent])
    await stage.start("packer", second["packer"]).ready()
    ids += await _ask(mesh, 1)
    good = sum(not _barred(n) for n in range(LOANS)) * 2
    await stage.came(StampCounted, 2 * LOANS)
    await stage.came(LoanFiled, good)
    await stage.came(BookReturned, 2 * LOANS - good)
    await stage.came(MoveEnded, MOVES)
    await stage.came(VanReturned, MOVES)
    told = {name: await _told(stage, python, ids) for name, python in {**first, "packer": second["packer"]}.items()}
    await stage.end()
    return [*await _wrong(stage, good), *_differing(told)]


def _barred(n: int) -> bool:
    return n % 4 == 0


async def _ask(mesh: MemoryMesh, turn: int) -> list[str]:
    loans = [BookWanted(book=f"book {n}", member="barred" if _barred(n) else f"member {n % 5}") for n in range(LOANS)]
    moves = [MoveWanted(to="nowhere" if n % 2 else "Rome") for n in range(MOVES)]
    published = [*await mesh.publisher.publish(loans), *await mesh.publisher.publish(moves)]
    return [one.correlation_id for one in published][:: LOANS // 4]


async def _told(stage: Stage, python: Path, ids: Sequence[str]) -> dict[str, tuple[object, object]]:
    """Return how each workflow stands, as one state's command tells it: its state, and how many deliveries."""
    found: dict[str, tuple[object, object]] = {}
    for id in ids[:3]:
        words = [str(python), "-P", "-m", "antiphon.cli", "trace", id, "--json"]
        ran = await asyncio.to_thread(
            subprocess.run, words, env=stage.environment, capture_output=True, text=True, check=False
        )
        document = json.loads(ran.stdout)
        found[id] = (document["state"], len(document["deliveries"]))
    return found


def _differing(told: Mapping[str, Mapping[str, tuple[object, object]]]) -> list[str]:
    seen = {json.dumps(one, sort_keys=True) for one in told.values()}
    return [] if len(seen) == 1 else [f"the two states tell workflows differently: {seen}"]


async def _wrong(stage: Stage, good: int) -> list[str]:
    mesh = stage.mesh
    wrong = stage.complaints()
    expected: dict[type[Event], int] = {
        LoanFiled: good,
        BookReturned: 2 * LOANS - good,
        MoveEnded: MOVES,
        VanReturned: MOVES,
        StampCounted: 2 * LOANS,
    }
    for event_class, count in expected.items():
        ids = Counter(envelope.id for envelope, _ in await mesh.events(event_class))
        if (len(ids), ids.total()) != (count, count):
            wrong.append(
                f"expected {count} of {event_class.__event__.type} once each, got {ids.total()} of {len(ids)} ids"
            )
    counts: dict[str, list[int]] = {}
    for _, counted in await mesh.events(StampCounted):
        counts.setdefault(counted.member, []).append(counted.count)
    wrong += [
        f"{member}: state went astray, counted {sorted(found)}"
        for member, found in counts.items()
        if sorted(found) != [*range(1, len(found) + 1)]
    ]
    for topic in await mesh.bus.topics():
        plain = mesh.names.plain(topic)
        if plain != topic and plain.endswith(".dead") and (letters := await mesh.records(plain)):
            wrong.append(
                f"{len(letters)} letters on {plain}: {dict(letters[0].headers).get('antiphon_dead_message')!r}"
            )
    return wrong


async def run(kafka: str, old: Path, folder: Path) -> list[str]:
    """Play both meshes."""
    this = Path(sys.executable)
    wrong: list[str] = []
    mixed = {agent: (old if number % 2 else this) for number, agent in enumerate(AGENTS)}
    turned = {agent: (this if python == old else old) for agent, python in mixed.items()}
    for name, first, second in (("this-first", mixed, turned), ("old-first", turned, mixed)):
        _say(
            f"{name}: {', '.join(agent for agent in AGENTS if first[agent] == old)} of the earlier state, then the others"
        )
        stage = Stage(kafka, f"wire-{name}", folder / name)
        try:
            found = await play(stage, first, second)
        finally:
            stage.kill()
            await stage.mesh.bus.close()
        _say(f"{name}: {'as it should be' if not found else f'{len(found)} FINDINGS'}")
        wrong += [f"{name}: {one}" for one in found]
    return wrong


def main() -> None:
    """Build, play, and exit as it came out."""
    parser = argparse.ArgumentParser(description="Run workers of an earlier state and of this one in one mesh.")
    parser.add_argument(
        "--revision", help="the earlier state; the newest tag, or the state before the newest records were kept"
    )
    parser.add_argument("-b", "--bootstrap-servers", help="a Kafka that runs already")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    revision = options.revision or default_revision()
    old = built(revision)
    cluster = None
    with tempfile.TemporaryDirectory(prefix="antiphon-wire-") as folder:
        try:
            if options.bootstrap_servers is None:
                cluster = start()
            kafka = str(options.bootstrap_servers) if cluster is None else cluster.bootstrap_servers
            wrong = asyncio.run(run(kafka, old, Path(folder)))
        except NoKafkaError as error:
            _say(f"error: {error}")
            sys.exit(3)
        finally:
            if cluster is not None:
                cluster.stop()
    for one in wrong:
        _say(one)
    _say(f"{revision[:12]} and this state: {'no difference' if not wrong else f'{len(wrong)} findings'}")
    sys.exit(1 if wrong else 0)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
