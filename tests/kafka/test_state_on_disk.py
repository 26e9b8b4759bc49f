"""State that has a copy on disk, on Apache Kafka with real processes: a restart reads what was written since, and no more."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import Booked, Deposited

from antiphon import Mesh
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.tether import free_port
from antiphon.bus.names import Names
from antiphon.bus.schema_topic import TopicStore
from antiphon.bus.settings import Settings
from antiphon.schemas.codec import Codec
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka

ACCOUNTS = 2_000


class Ledger:
    """One worker process under one name, that can be killed and started again."""

    def __init__(self, bootstrap: str, namespace: str, folder: Path) -> None:
        self._environment = {
            **os.environ,
            "ANTIPHON_BOOTSTRAP_SERVERS": bootstrap,
            "ANTIPHON_NAMESPACE": namespace,
            "ANTIPHON_PARTITIONS": "4",
            "ANTIPHON_STATE_DIR": str(folder / "state"),
        }
        self._folder = folder
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._port = free_port()
        target = f"{Path(__file__).parent / 'accounts.py'}:ledger"
        port = ["--metrics-port", str(self._port)]
        with (self._folder / "ledger.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "antiphon.cli", "run", target, "--instance", "ledger-1", *port],
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """Kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(40)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5) as answer:
                return b'"partitions": 8' in answer.read()  # those of dead letters that come back, too
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def restored(self) -> int:
        """Return how many records of state it says it has read."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        [line] = [line for line in lines if line.startswith("antiphon_restored_records_total{")]
        return int(float(line.split()[-1]))


@pytest.fixture
def ledger(kafka: str, namespace: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(kafka, namespace, tmp_path)
    yield ledger
    ledger.kill()


async def test_the_same_instance_restores_what_it_lacks(kafka: str, namespace: str, ledger: Ledger) -> None:
    """Stopped: nothing. Killed: at most what came since. Balances go on where they were, and another disk reads all."""
    names = Names(namespace)
    bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka))
    codec = Codec(TopicStore(bus, names, partitions=4))
    restored: list[int] = []
    async with Mesh(settings=Settings(bootstrap_servers=kafka, namespace=namespace, partitions=4)) as mesh:
        rounds = [ACCOUNTS, 300, 300]
        done = 0
        for n, accounts in enumerate(rounds):
            ledger.start()
            await eventually(ledger.ready, 60, what="the worker to be ready")
            restored.append(ledger.restored())
            await mesh.publish_all([Deposited(account=f"a{a}", n=n, amount=1) for a in range(accounts)])
            done += accounts

            async def booked(done: int = done) -> bool:
                return len(await _booked(bus, codec, names)) == done

            await eventually(booked, 60, what=f"{done} bookings")
            if n == 0:
                assert ledger.stop() == 0
            else:
                ledger.kill()
        ledger.start()
        await eventually(ledger.ready, 60, what="the worker to be ready")
        restored.append(ledger.restored())
    balances = [event.balance for event in await _booked(bus, codec, names) if event.n == 2]
    await bus.close()
    assert (restored[:2], max(restored[2:]) <= 300 + 300, balances) == ([0, 0], True, [3] * 300)


async def _booked(bus: KafkaBus, codec: Codec, names: Names) -> list[Booked]:
    bounds = await bus.bounds([names.topic("money.booked")])
    stop = {tp: end for tp, (_, end) in bounds.items()}
    start = {tp: first for tp, (first, _) in bounds.items()}
    return [codec.decode(Booked, record.value or b"") async for record in bus.read(start, stop)]
