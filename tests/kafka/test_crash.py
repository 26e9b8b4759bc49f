"""Workers that are killed in mid-flow, on Apache Kafka with real processes: nothing lost, nothing repeated in Kafka.

The oracle is Kafka's own: what a read_committed reader sees at the end, against
what went in, by set, by duplicates, by order per key and by a running total.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from accounts import Audited, Deposited, digest

from antiphon import Mesh
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.schema_topic import TopicStore
from antiphon.bus.settings import Settings
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import from_headers
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka

ACCOUNTS, DEPOSITS, KILLS = 40, 4_000, 5
AMOUNTS = [random.Random(7).randint(1, 1_000) for _ in range(DEPOSITS)]


class Crew:
    """Worker processes, one an agent, that can be killed and started again."""

    def __init__(self, bootstrap: str, namespace: str, folder: Path) -> None:
        self._environment = {
            **os.environ,
            "ANTIPHON_BOOTSTRAP_SERVERS": bootstrap,
            "ANTIPHON_NAMESPACE": namespace,
            "ANTIPHON_PARTITIONS": "4",
        }
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, agent: str) -> None:
        with (self._folder / f"{agent}.log").open("ab") as log:
            self._running[agent] = subprocess.Popen(
                [sys.executable, "-m", "antiphon.cli", "run", f"{Path(__file__).parent / 'accounts.py'}:{agent}"],
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )

    def kill(self, agent: str) -> None:
        """Kill -9: no handler, no farewell."""
        self._running[agent].kill()
        self._running[agent].wait()

    def stop(self) -> list[int]:
        """End all in an orderly way; returns their exit codes."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        return [process.wait(40) for process in self._running.values()]

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in self._folder.glob("*.log"))


@pytest.fixture
def crew(kafka: str, namespace: str, tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(kafka, namespace, tmp_path)
    yield crew
    with contextlib.suppress(ProcessLookupError):
        crew.stop()


async def audited(bus: KafkaBus, codec: Codec, names: Names) -> list[tuple[str, Audited]]:
    """Return what a read_committed reader sees, in order per partition, with the events' ids."""
    bounds = await bus.bounds([names.topic("money.audited")])
    stop = {tp: end for tp, (_, end) in bounds.items()}
    found: list[tuple[str, Audited]] = []
    async for record in bus.read({tp: first for tp, (first, _) in bounds.items()}, stop):
        envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        found.append((envelope.id, codec.decode(Audited, record.value or b"")))
    return found


async def test_killed_workers_lose_and_repeat_nothing(kafka: str, namespace: str, crew: Crew) -> None:
    """Five kill -9 while thousands of events go through two chained agents with state."""
    names = Names(namespace)
    settings = Settings(bootstrap_servers=kafka, namespace=namespace, partitions=4)
    dice = random.Random(11)
    bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka))
    codec = Codec(TopicStore(bus, names, partitions=4))
    async with Mesh(settings=settings) as mesh:
        await mesh.publish_all([Deposited(account="warm", n=0, amount=1)])
        for agent in ("ledger", "auditor"):
            crew.start(agent)
        share = DEPOSITS // (KILLS + 1)
        for kill in range(KILLS + 1):
            last = DEPOSITS if kill == KILLS else (kill + 1) * share
            await mesh.publish_all(
                [Deposited(account=f"a{n % ACCOUNTS}", n=n, amount=AMOUNTS[n]) for n in range(kill * share, last)]
            )
            if kill < KILLS:
                # In mid-flow: some of this share has come through, not all.
                least = kill * share + dice.randint(1, share // 2)
                await eventually(partial(_at_least, bus, names, least), 90, what=f"{least} events through")
                agent = dice.choice(["ledger", "auditor"])
                crew.kill(agent)
                crew.start(agent)
        await eventually(
            lambda: _at_least(bus, names, DEPOSITS + 1), 120, what=f"all through; logs: {crew.logs()[-4000:]}"
        )

    seen = [(id, event) for id, event in await audited(bus, codec, names) if event.account != "warm"]
    await bus.close()
    assert len(seen) == len({id for id, _ in seen}) == DEPOSITS
    by_account: defaultdict[str, list[Audited]] = defaultdict(list)
    for _, event in seen:
        by_account[event.account].append(event)
    for account, events in by_account.items():
        expected = _books(account)
        assert [(e.n, e.balance, e.digest, e.place) for e in events] == expected
    assert crew.stop() == [0, 0]


def _books(account: str) -> list[tuple[int, int, int, int]]:
    """Return what must stand on *account*'s books: n, balance, digest and place of each booking."""
    balance = checksum = 0
    books: list[tuple[int, int, int, int]] = []
    for place, n in enumerate(range(int(account[1:]), DEPOSITS, ACCOUNTS)):
        balance += AMOUNTS[n]
        checksum = digest(checksum, AMOUNTS[n])
        books.append((n, balance, checksum, place))
    return books


async def _at_least(bus: KafkaBus, names: Names, count: int) -> bool:
    """Say whether *count* events have come through; transaction markers make offsets overstate, so events are read."""
    bounds = await bus.bounds([names.topic("money.audited")])
    if sum(end - first for first, end in bounds.values()) < count:
        return False
    stop = {tp: end for tp, (_, end) in bounds.items()}
    read = 0
    async for _ in bus.read({tp: first for tp, (first, _) in bounds.items()}, stop):
        read += 1
    return read >= count
