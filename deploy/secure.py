"""The broker of docker-compose.secure.yml as a process, and what each service is told: for `make mesh ARGS=--secure`.

Listeners, mechanism and authorizer are read from the compose files; issue.py,
logins.py and `antiphon topics apply` are run as its services run them. Ports and the
places of files are this machine's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/kafka"))
from cluster import Node, fetch_jars, free_ports, new_cluster_id

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples/2-dependency-intake"
COMPOSE = ROOT / "docker-compose.yml"
SECURE = ROOT / "docker-compose.secure.yml"
ENVIRONMENT = ROOT / "deploy/compose/secure.env"
_ENOUGH_S = 120.0


def merged() -> dict[str, Any]:
    """Return the services of both files, as far as their environments go: the second one's come besides, or in place."""
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    for name, more in yaml.safe_load(SECURE.read_text())["services"].items():
        base = services.setdefault(name, {})
        environment = {**base.get("environment", {}), **more.get("environment", {})}
        services[name] = {**base, **more, "environment": environment}
    return services


def property_of(variable: str) -> str:
    """Return the broker's property that a variable of its image stands for.

    >>> property_of("KAFKA_LISTENER_NAME_SECURE_SCRAM___SHA___512_SASL_JAAS_CONFIG")
    'listener.name.secure.scram-sha-512.sasl.jaas.config'
    """
    name = variable.removeprefix("KAFKA_").lower()
    return name.replace("___", "-").replace("_", ".")


def said_to_all() -> dict[str, str]:
    """Return what the file says that every agent is told."""
    lines = [line for line in ENVIRONMENT.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@dataclasses.dataclass(frozen=True)
class Broker:
    """A broker that lets in whom it knows."""

    address: str
    """Where whoever has a certificate's authority and a login is let in."""
    folder: Path
    services: Mapping[str, Any]

    def settings(self, name: str) -> dict[str, str]:
        """Return what the service called *name* is told of whom it trusts, and who it is."""
        user = self.services[name]["environment"]["ANTIPHON_SECURITY_USER"]
        place = str(self.folder / user)
        told = {key: value.replace("/run/antiphon", place) for key, value in said_to_all().items()}
        return {**told, "ANTIPHON_BOOTSTRAP_SERVERS": self.address, "ANTIPHON_SECURITY_USER": user}


@contextlib.contextmanager
def broker(parent: Path) -> Generator[Broker]:
    """Start it, with accounts and rights as the compose file makes them."""
    services, folder = merged(), parent / "secrets"
    script, words = services["certificates"]["entrypoint"], services["certificates"]["command"]
    _run([sys.executable, _ours(script[1]), *(_here(word, folder) for word in words)])
    fetch_jars()
    ports = dict(zip(["INSIDE", "CONTROLLER", "OUTSIDE", "SECURE"], free_ports(4), strict=True))
    node = Node("kafka", parent / "kafka")
    said = {
        property_of(key): str(value).replace("/run/antiphon", str(folder / "broker"))
        for key, value in services["kafka"]["environment"].items()
    }
    said["listeners"] = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    said["advertised.listeners"] = ",".join(
        f"{name}://127.0.0.1:{port}" for name, port in ports.items() if name != "CONTROLLER"
    )
    said["controller.quorum.voters"] = f"{said['node.id']}@127.0.0.1:{ports['CONTROLLER']}"
    said["log.dirs"] = str(parent / "kafka/data")
    node.write(said)
    node.format(new_cluster_id(), ())
    node.start()
    try:
        node.await_answer(ports["INSIDE"])
        _accounts(services["accounts"], folder, f"127.0.0.1:{ports['INSIDE']}")
        yield Broker(f"127.0.0.1:{ports['SECURE']}", folder, services)
    finally:
        node.kill()


def _accounts(service: Mapping[str, Any], folder: Path, address: str) -> None:
    shell, flag, script, name = service["entrypoint"]
    text = _here(_ours(script), folder).replace("$$", "$")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    told = {
        "ANTIPHON_BOOTSTRAP_SERVERS": address,
        "ANTIPHON_CREATE_TOPICS": "false",
        "PATH": path,
    }
    _run([shell, flag, text, name, *service["command"]], cwd=EXAMPLE, environment=told)


def _here(text: str, folder: Path) -> str:
    return text.replace("/var/lib/antiphon", str(folder))


def _ours(text: str) -> str:
    return text.replace("/opt/demo", str(ROOT / "deploy/compose"))


def _run(words: list[str], *, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> None:
    # What it says goes where our own words go: stdout is for what is to be exported.
    done = subprocess.run(  # noqa: S603 - the compose file's words
        words, cwd=cwd, env={**os.environ, **(environment or {})}, stdout=sys.stderr, check=False, timeout=_ENOUGH_S
    )
    if done.returncode:
        sys.exit(f"error: expected {words[0]} {words[1]} to end with 0, got {done.returncode}; see above")
