"""What docker-compose.yml describes, as processes on this machine: `make mesh`, until Ctrl-C.

    python deploy/mesh.py                  the agents of the default profile, on an Apache Kafka of their own
    python deploy/mesh.py --check          one package on its way in as `submit` does it, an orderly stop, and the verdict
    python deploy/mesh.py -b HOST:PORT     on a Kafka that runs already
    python deploy/mesh.py --secure         docker-compose.secure.yml besides: TLS, a login and rights of its own for each

Commands and settings are read from the file, so what runs here is what Docker would run: but for the places of files, and
for the ports of /readyz, which cannot all be the same here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import secure
import yaml

from antiphon.bus.kafka.tether import Tethered, free_port

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / "examples/2-dependency-intake"
IMAGE = "antiphon-demo"
READY_S = 120.0
STOP_S = 60.0

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def services(compose: Mapping[str, Any], *, profiles: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the services that our image runs, of the default profile and of *profiles*."""
    return {
        name: service
        for name, service in compose["services"].items()
        if str(service["image"]).startswith(f"{IMAGE}:")
        if {*service.get("profiles", ())} <= profiles
    }


def substituted(value: object, variables: Mapping[str, str]) -> str:
    """Return *value* with `${NAME:-default}` filled in, and `$$` as `$`, as Compose does it.

    >>> substituted("a ${B:-c} $$1", {}), substituted("${B:-c}", {"B": "d"})
    ('a c $1', 'd')
    """
    filled = _VARIABLE.sub(lambda found: variables.get(found[1]) or found[2] or "", str(value))
    return filled.replace("$$", "$")


def here(text: str, folder: Path) -> str:
    """Return *text* with the places of files in a container as those on this machine.

    >>> here("/var/lib/antiphon/index.db", Path("/tmp/tracer"))
    '/tmp/tracer/index.db'
    """
    return text.replace("/var/lib/antiphon", str(folder)).replace("/app", str(EXAMPLE))


class Running:
    """One service as a process."""

    def __init__(
        self, name: str, service: Mapping[str, Any], *, folder: Path, kafka: str, more: Mapping[str, str] | None = None
    ) -> None:
        """*more* are settings that differ from the service's, or come besides."""
        self.name = name
        self.port = free_port()
        self.log = folder / f"{name}.log"
        (folder / name).mkdir()
        said = {
            key: here(substituted(value, os.environ), folder / name) for key, value in service["environment"].items()
        }
        words = [here(substituted(word, os.environ), folder / name) for word in service["command"]]
        self._process = Tethered(
            [sys.executable, "-m", "antiphon.cli", *words],
            log=self.log,
            cwd=EXAMPLE,
            environment={
                **said,
                "ANTIPHON_BOOTSTRAP_SERVERS": kafka,
                "ANTIPHON_METRICS_PORT": str(self.port),
                "ANTIPHON_METRICS_HOST": "127.0.0.1",
                **(more or {}),
            },
        )

    @property
    def exit_code(self) -> int | None:
        return self._process.exit_code

    def is_ready(self) -> bool:
        """Ask as the image's health check does."""
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2).close()
            return True
        return False

    def tell(self) -> None:
        """Send it what Docker sends first."""
        with contextlib.suppress(ProcessLookupError):
            self._process.tell(signal.SIGTERM)

    def end(self) -> None:
        """By force, where it has not ended."""
        self._process.stop(0)


@contextlib.contextmanager
def kafka_at(address: str | None) -> Generator[str]:
    """Give the address of a Kafka: *address*, or one that is started for as long as it is needed."""
    if address is not None:
        yield address
        return
    command = [sys.executable, str(ROOT / "tests/kafka/cluster.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own script
    try:
        line = process.stdout.readline() if process.stdout else ""
        if "=" not in line:
            sys.exit("error: expected Apache Kafka to start, and it did not; see above")
        yield line.partition("=")[2].strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_S)


def await_ready(mesh: list[Running]) -> None:
    """Return once each answers that it is ready; exits where one ends first, or takes too long."""
    deadline = time.monotonic() + READY_S
    waiting = mesh
    while waiting:
        for one in waiting:
            if one.exit_code is not None or time.monotonic() > deadline:
                what = "was not ready in time" if one.exit_code is None else f"ended with exit code {one.exit_code}"
                sys.exit(f"error: expected {one.name} to be ready, but it {what}; its log ends:\n{_end_of(one.log)}")
        time.sleep(0.2)
        waiting = [one for one in waiting if not one.is_ready()]


def submit(service: Mapping[str, Any], kafka: str, more: Mapping[str, str]) -> int:
    """Send one package in as the service `submit` does, and return its exit code."""
    shell, flag, script, name = service["entrypoint"]
    # `python` and `antiphon` of this environment, as they are those of the image there.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "ANTIPHON_BOOTSTRAP_SERVERS": kafka, **more}
    words = [shell, flag, substituted(script, os.environ), name, *service["command"]]
    return subprocess.run(words, cwd=EXAMPLE, env=environment, check=False, timeout=READY_S).returncode  # noqa: S603 - the compose file's


def stop(mesh: list[Running]) -> dict[str, int | None]:
    """End all at once as Docker does, and return by name the exit code; None: it had to be killed."""
    for one in mesh:
        one.tell()
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and any(one.exit_code is None for one in mesh):
        time.sleep(0.1)
    codes = {one.name: one.exit_code for one in mesh}
    for one in mesh:
        one.end()
    return codes


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-10:])


def main() -> None:
    """Run the mesh until Ctrl-C, or with --check until it has shown that it works."""
    parser = argparse.ArgumentParser(description="Run the services of docker-compose.yml as processes.")
    parser.add_argument("--check", action="store_true", help="submit one package, stop in order, and say how that went")
    parser.add_argument("-b", "--bootstrap-servers", help="a Kafka that runs already")
    parser.add_argument(
        "--secure", action="store_true", help="as docker-compose.secure.yml has it: TLS, logins, rights"
    )
    asked = parser.parse_args()
    if asked.secure and asked.bootstrap_servers:
        parser.error("expected --secure or --bootstrap-servers, got both: a broker that is secure is started here")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    compose = yaml.safe_load(COMPOSE.read_text())
    with tempfile.TemporaryDirectory(prefix="antiphon-mesh-") as place, contextlib.ExitStack() as around:
        folder = Path(place)
        broker = around.enter_context(secure.broker(folder)) if asked.secure else None
        kafka = around.enter_context(kafka_at(asked.bootstrap_servers)) if broker is None else broker.address
        mesh = [
            Running(name, service, folder=folder, kafka=kafka, more={} if broker is None else broker.settings(name))
            for name, service in services(compose).items()
        ]
        try:
            await_ready(mesh)
            for one in mesh:
                sys.stderr.write(f"{one.name:<14} ready   http://127.0.0.1:{one.port}/metrics   {one.log}\n")
            sys.stdout.write(f"export ANTIPHON_BOOTSTRAP_SERVERS={kafka}\n")
            sys.stdout.flush()
            more = {} if broker is None else broker.settings("submit")
            code = submit(compose["services"]["submit"], kafka, more) if asked.check else None
            if code is None:
                sys.stderr.write("the mesh is up; Ctrl-C drains it\n")
                signal.pause()
        except KeyboardInterrupt:
            code = None
        finally:
            codes = stop(mesh)
        said = ", ".join(f"{name} {ended}" for name, ended in codes.items())
        sys.stderr.write(f"ended: {said}\n")
        if any(codes.values()) or None in codes.values() or code:
            sys.exit(f"error: expected exit code 0 of each, got {said}; of the submission {code}")


if __name__ == "__main__":
    main()
