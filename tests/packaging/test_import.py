"""Start-up: what `import antiphon` and a command load, and above all what they do not."""

import subprocess
import sys

import pytest

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


def loaded_by(statement: str) -> set[str]:
    """Return which heavy modules a fresh interpreter has after *statement*."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return HEAVY & {*done.stdout.split()}


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


@pytest.mark.parametrize(
    "module", ["antiphon.agents.worker", "antiphon.cli.commands.run", "antiphon.cli.commands.tracer"]
)
def test_nobody_who_does_not_export_loads_what_does(module: str) -> None:
    """A worker never; a tracer when it is asked to export."""
    assert "opentelemetry" not in loaded_by(f"import {module}")
