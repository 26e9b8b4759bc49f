"""docker-compose.yml, checked as far as that goes without Docker: by its schema, and by what each name in it stands for."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from antiphon.bus.settings import Settings
from antiphon.cli.commands.tracer import run as run_tracer
from antiphon.cli.demo.example import PROCESSES

ROOT = Path(__file__).parent.parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("antiphon-demo:")}


Tree: TypeAlias = "dict[str, Tree] | list[Tree] | str | int | float | None"


def texts(value: Tree) -> Iterator[str]:
    """Yield every text in a document."""
    match value:
        case dict():
            for key, one in value.items():
                yield key
                yield from texts(one)
        case list():
            for one in value:
                yield from texts(one)
        case _:
            yield str(value)


def test_it_is_what_compose_takes() -> None:
    """By the schema that the specification publishes."""
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_a_version(name: str) -> None:
    """None is whatever is newest."""
    assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_the_agents_are_the_demos() -> None:
    """Each a service of its own, started as `antiphon demo` starts it."""
    started = {name: service["command"] for name, service in OURS.items() if not service.get("profiles")}
    assert started == {name: ["run", what] for name, what in PROCESSES.items()}


def test_every_file_is_there() -> None:
    """What is mounted, and what agents are told to read in the image."""
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    files = [ROOT / place for place in mounted if place.startswith(".")]
    files += [
        ROOT / "examples/2-dependency-intake" / text.removeprefix("/app/")
        for service in OURS.values()
        for text in texts(service)
        if text.startswith("/app/")
    ]
    assert files
    assert [file for file in files if not file.is_file()] == []


def test_every_volume_is_declared_and_used() -> None:
    """By name; what is mounted by a path is a file of ours."""
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert {name for name in used if not name.startswith(".")} == {*COMPOSE["volumes"]}


def test_every_variable_has_a_default_and_a_meaning() -> None:
    """Those that are ours are settings of ours."""
    found = {match for text in texts(COMPOSE) for match in re.findall(r"\$\{(\w+)(:-)?", text)}
    assert [name for name, default in found if not default] == []
    ours = {key for service in OURS.values() for key in service["environment"] if key.startswith("ANTIPHON_")}
    assert [key for key in ours if key.removeprefix("ANTIPHON_").lower() not in Settings.model_fields] == []


def test_ports_are_this_machines_own_and_differ() -> None:
    """Nothing is opened to the network by starting a demo."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert [port for port in ports if not str(port).startswith("127.0.0.1:")] == []
    defaults = [re.search(r":-(\d+)", str(port)) for port in ports]
    assert len({found[1] for found in defaults if found}) == len(ports)


def test_what_is_waited_for_says_how_it_is() -> None:
    """By a health check of its own; our images bring theirs."""
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[name]


@pytest.mark.parametrize("name", OURS)
def test_ours_can_do_nothing_that_they_need_not(name: str) -> None:
    """Not root, no capabilities, nothing to write to but what is named; and time to drain."""
    service = OURS[name]
    assert (service["read_only"], service["cap_drop"], service["security_opt"], service["user"]) == (
        True,
        ["ALL"],
        ["no-new-privileges:true"],
        "10001:10001",
    )
    assert int(service["stop_grace_period"].removesuffix("s")) > float(service["environment"]["ANTIPHON_GRACE"])


def test_prometheus_asks_who_answers() -> None:
    """At the port that the image opens."""
    config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    [targets] = job["static_configs"]
    port = re.search(r"ANTIPHON_METRICS_PORT=(\d+)", (ROOT / "Dockerfile").read_text())
    assert port is not None
    answering = {name for name, service in OURS.items() if service["command"][0] in {"run", "tracer"}}
    assert {*targets["targets"]} == {f"{name}:{port[1]}" for name in answering}


def test_grafana_asks_prometheus() -> None:
    """By its name and port."""
    config = yaml.safe_load((ROOT / "deploy/compose/grafana.yml").read_text())
    assert [source["url"] for source in config["datasources"]] == ["http://prometheus:9090"]
    assert "localhost:9090" in str(SERVICES["prometheus"]["healthcheck"])


def test_the_tracer_is_told_what_it_knows() -> None:
    """Its options are the command's."""
    options = {word for word in OURS["tracer"]["command"] if word.startswith("--")}
    known = {f"--{name.replace('_', '-')}" for name in run_tracer.__annotations__}
    assert options <= known
