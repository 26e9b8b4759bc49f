"""Start-up: what `import antiphon` and a command load, and above all what they do not."""

import subprocess
import sys
from pathlib import Path

import pytest

from antiphon.bus.record import Record
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.schemas.store import MemoryStore
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.rows import Reader
from antiphon.tracing.index.writing import Writer

HEAVY = {
    "aiokafka",
    "asyncio",
    "avro",
    "confluent_kafka",
    "fastavro",
    "noida_db",
    "opentelemetry",
    "orjson",
    "prometheus_client",
    "pydantic_settings",
    "rich",
    "structlog",
    "typer",
}


def modules_of(statement: str) -> set[str]:
    """Return which modules a fresh interpreter has after *statement*."""
    script = f"{statement}\nimport sys\nprint('modules:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {*done.stdout.rpartition("modules:")[2].split()}


def loaded_by(statement: str) -> set[str]:
    """Return which heavy modules a fresh interpreter has after *statement*."""
    return HEAVY & modules_of(statement)


def test_import_loads_nothing_heavy() -> None:
    """A test of an agent, or a command that only reads a file, should not wait for a Kafka client."""
    assert loaded_by("import antiphon") == set()


@pytest.mark.parametrize("package", ["schemas.event", "bus.port", "bus.handler", "agents", "testing"])
def test_packages_load_nothing_heavy_but_asyncio(package: str) -> None:
    """Each can be imported alone."""
    assert loaded_by(f"import antiphon.{package}") <= {"asyncio"}


def test_the_command_loads_no_client() -> None:
    """Help and completion answer at once."""
    assert loaded_by("import antiphon.cli.main") <= {"asyncio", "typer", "rich"}


def test_the_package_loads_what_is_asked_of_it() -> None:
    """Also where a name is one that every agent needs."""
    assert "pydantic" not in modules_of("import antiphon")
    assert "antiphon.agents.agent" in modules_of("from antiphon import agent")


@pytest.mark.parametrize("command", ["publish", "tail", "trace", "dead", "replay", "saga", "schema", "run", "tracer"])
def test_no_help_waits_for_a_client(command: str) -> None:
    """Nor do shells that complete what is typed."""
    assert "confluent_kafka" not in loaded_by(f"from antiphon.cli.main import run; run([{command!r}, '--help'])")


def test_a_trace_from_an_index_loads_what_that_takes(tmp_path: Path) -> None:
    """No client, and nothing that reads topics, runs agents, replays, writes an index or exports."""
    place, id = tmp_path / "index", "0199f2c1-0000-7000-8000-000000000000"
    database = Sqlite(place, writes=True)
    writer = Writer(database)
    envelope = Envelope.root("ticket.opened", source="/apps/shop", id=id)
    record = Record("ticket.opened", 0, 0, id.encode(), b"?", to_headers(envelope), 0)
    writer.write(
        Reader(Codec(MemoryStore()), {"ticket.opened": writer.source("ticket.opened", "")}, writer.numbers).rows(
            [record]
        )
    )
    database.close()
    typed = ["trace", id, "--from", "index", "--index", str(place)]
    loaded = modules_of(f"from antiphon.cli.main import run; assert run({typed!r}) == 0")
    assert "antiphon.cli.tree" in loaded
    assert HEAVY & loaded == {"asyncio", "fastavro", "orjson", "pydantic_settings", "rich", "typer"}
    left_out = ("agents.agent", "bus.kafka", "bus.claims", "bus.roll", "replay", "tracing.reading", "tracing.otlp")
    needless = (*left_out, "tracing.tracer", "tracing.index.writing", "tracing.spans", "compensation", "testing")
    assert [one for one in sorted(loaded) if one.startswith(tuple(f"antiphon.{name}" for name in needless))] == []


@pytest.mark.parametrize(
    "module", ["antiphon.agents.worker", "antiphon.cli.commands.run", "antiphon.cli.commands.tracer"]
)
def test_nobody_who_does_not_export_loads_what_does(module: str) -> None:
    """A worker never; a tracer when it is asked to export."""
    assert "opentelemetry" not in loaded_by(f"import {module}")
