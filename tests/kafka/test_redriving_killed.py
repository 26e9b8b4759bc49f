"""Dead letters that are redriven on Apache Kafka while whoever does it is killed: each once, in the order of their keys."""

from __future__ import annotations

import signal
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from antiphon.bus.connect import connect
from antiphon.bus.dead_letter import dead_letter
from antiphon.bus.kafka.tether import Tethered
from antiphon.bus.port import Bus, TopicSpec
from antiphon.bus.record import Record, TopicPartition
from antiphon.bus.redrive import unsettled
from antiphon.bus.settings import Settings
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka

LETTERS = 600
KILLS = 3
PATIENCE_S = 90.0


async def read(bus: Bus, topic: str) -> list[Record]:
    """Return what is committed there, in order by partition."""
    bounds = await bus.bounds([topic])
    start: dict[TopicPartition, int] = {place: first for place, (first, _) in bounds.items()}
    found = [record async for record in bus.read(start, {place: end for place, (_, end) in bounds.items()})]
    return sorted(found, key=lambda record: (record.partition, record.offset))


def letters(settings: Settings) -> list[Record]:
    """Return the records that an agent has set aside, of twenty keys in turn."""
    found: list[Record] = []
    for number in range(LETTERS):
        key = f"k{number % 20}".encode()
        headers = to_headers(Envelope.root("claim.filed", source="/test", id=f"e{number}"))
        found.append(Record(settings.names.topic("claim.filed"), number % 2, number, key, b"x", headers, 0))
    return found


async def test_each_letter_is_redriven_once_though_the_redriver_is_killed(
    kafka: str, namespace: str, tmp_path: Path
) -> None:
    """Kill -9 in the middle, again and again: the same command goes on, and nothing is lost, repeated or overtaken."""
    settings = Settings(bootstrap_servers=kafka, namespace=namespace, partitions=2)
    bus, names = connect(settings), settings.names
    dead, redrive = names.dead("payer"), names.redrive("payer")
    await bus.create([TopicSpec(dead, 2), TopicSpec(redrive, 2)])
    set_aside = letters(settings)
    await bus.publish(
        [
            dead_letter(dead, one, ValueError("no"), agent="payer", reason="permanent", attempts=1, limit=900_000)
            for one in set_aside
        ]
    )

    def start(name: str) -> Tethered:
        environment = {"ANTIPHON_BOOTSTRAP_SERVERS": kafka, "ANTIPHON_NAMESPACE": namespace}
        command = [sys.executable, "-m", "antiphon.cli", "dead", "redrive", "--agent", "payer", "--rate", "400"]
        return Tethered(command, log=tmp_path / f"{name}.log", cwd=tmp_path, environment=environment)

    for kill in range(KILLS):
        before = len(await read(bus, redrive))
        process = start(f"killed {kill}")

        async def moved(before: int = before) -> bool:
            return len(await read(bus, redrive)) > before

        await eventually(moved, PATIENCE_S, what=f"redriving to go on after {kill} kills")
        assert process.exit_code is None, "it was through before it could be killed"
        process.stop(by=signal.SIGKILL)
    last = start("last")
    await eventually(lambda: last.exit_code is not None, PATIENCE_S, what="the last one to end")
    last.stop()

    again, order = await read(bus, redrive), defaultdict[bytes | None, list[bytes | None]](list)
    expected = defaultdict[bytes | None, list[bytes | None]](list)
    for record in again:
        order[record.key].append(dict(record.headers)["ce_id"])
    for record in set_aside:
        expected[record.key].append(dict(record.headers)["ce_id"])
    left = unsettled(await read(bus, dead))
    await bus.close()
    assert (last.exit_code, left, order) == (0, [], expected)
