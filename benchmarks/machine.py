"""What a table was measured on: a figure without its machine says nothing."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import confluent_kafka

_POM = Path(__file__).parent.parent / "tests/kafka/pom.xml"
_PEERS = Path(__file__).parent / "peers.txt"


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine, the day, and the versions of what took part."""

    cores: int
    processor: str
    python: str
    kafka: str
    client: str
    peers: str
    day: str

    @classmethod
    def here(cls, broker: str | None) -> Machine:
        """Look at this one; *broker*: where Kafka is, if it was not started here."""
        return cls(
            cores=os.cpu_count() or 1,
            processor=_processor(),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            kafka="Kafka on this machine too, " + _pinned(_POM, r"kafka_[\d.]+</artifactId>\s*<version>([\d.]+)")
            if broker is None
            else "Kafka of unknown version elsewhere",
            client=f"confluent-kafka {confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})",
            peers=", ".join(
                f"{name} {_pinned(_PEERS, rf'^{name}==([0-9.]+)')}" for name in ("faststream", "faust-streaming")
            ),
            day=datetime.now(UTC).date().isoformat(),
        )

    def __str__(self) -> str:
        return f"{self.day}: {self.cores} cores ({self.processor}), {self.python}, {self.kafka}, {self.client}, {self.peers}"


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", known.read_text(), re.MULTILINE) if known.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _pinned(file: Path, pattern: str) -> str:
    found = re.search(pattern, file.read_text(), re.MULTILINE) if file.exists() else None
    return found[1] if found else "of unknown version"
