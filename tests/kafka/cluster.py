"""Apache Kafka for tests: from its published jars on Java, or in Docker; gone when whoever asked is gone.

    python tests/kafka/cluster.py          starts one, prints what to export, runs until Ctrl-C

The jars come once, through Maven, into `target/` beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from testcontainers.core.container import DockerContainer

from antiphon.bus.kafka.tether import Tethered, free_port, speaks_kafka

HERE = Path(__file__).parent
TARGET = HERE / "target"
JARS = TARGET / "jars"
LOGS = TARGET / "logs"
IMAGE = "apache/kafka:4.1.1"
START_S = 120.0

# A second member settles in 1.3 s instead of 5 s, and a clean leave is taken over in 0.3 s.
QUICK = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.num.partitions": "5",
    "group.consumer.min.heartbeat.interval.ms": "200",
    "group.consumer.heartbeat.interval.ms": "300",
    "group.consumer.min.session.timeout.ms": "2000",
    "group.consumer.session.timeout.ms": "4000",
    "group.min.session.timeout.ms": "1000",
    # A dead producer's transaction holds readers back until somebody looks for it.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}
# Without these its log has no times, and cannot be laid beside a worker's.
_DATED = tuple(
    f"-Dorg.slf4j.simpleLogger.{setting}"
    for setting in ("showDateTime=true", "dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSX")
)
# A controller that lives on says of a broker that was killed, before it is there again, that it leads nothing.
_RESTARTED = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}


class NoKafkaError(Exception):
    """This machine cannot run Apache Kafka, and the text says what is missing."""


class Cluster(Protocol):
    """A running Kafka."""

    @property
    def bootstrap_servers(self) -> str: ...

    def stop(self) -> None:
        """End it and remove what it wrote. Twice does no harm."""
        ...


def start(brokers: int = 1) -> Cluster:
    """Start Kafka in whichever way this machine can; raises `NoKafkaError`."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if not missing:
        return KafkaCluster(brokers).start()
    if (reason := _no_docker()) is not None:
        raise NoKafkaError(f"expected Java and Maven, or a Docker engine; {' and '.join(missing)} not found, {reason}")
    return DockerKafka().start()


class KafkaCluster:
    """Brokers on free loopback ports, each its own JVM and KRaft controller.

    *features* are switches of the cluster, for example `group.version=0`. With
    *relayed* each broker is reached a second way: through whatever a test runs
    on its `relay_port`. With *restarts* the controller is a process of its own:
    a lone broker that is its own controller takes itself for the leader when it
    is started again after a `kill -9`, until the old one's session is over. Then
    it leads nothing for a moment, and Kafka 4.3 takes the partitions of
    transactions that it was about to end for deleted: they never end, and
    whoever waits for what is committed there waits for ever.
    """

    def __init__(
        self, brokers: int = 1, *, features: Sequence[str] = (), relayed: bool = False, restarts: bool = False
    ) -> None:
        self._count = brokers
        self._restarts = restarts
        self._features = features
        self._relayed = relayed
        self._dir: Path | None = None
        self._controller: Controller | None = None
        self.brokers: list[Broker] = []

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    def start(self) -> Self:
        """Start every broker and return when each of them answers."""
        fetch_jars()
        self._dir = Path(tempfile.mkdtemp(prefix="antiphon-kafka-"))
        ports = free_ports(4 * self._count)
        self.brokers = [
            Broker(node, ports[4 * node], self._dir / f"broker-{node}", relay=ports[4 * node + 2 :][:2])
            if self._relayed
            else Broker(node, ports[4 * node], self._dir / f"broker-{node}")
            for node in range(self._count)
        ]
        controllers = dict(enumerate(ports[1::4]))
        if self._restarts:
            [port] = free_ports(1)
            self._controller, controllers = Controller(self._dir / "controller"), {Controller.node: port}
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in controllers.items())
        cluster_id = new_cluster_id()
        try:
            if self._controller is not None:
                self._controller.configure(controllers[Controller.node], voters)
            for broker in self.brokers:
                broker.configure(controllers.get(broker.node), voters, min(3, self._count))
            for node in self._nodes:
                node.format(cluster_id, self._features)
                node.start()
            for broker in self.brokers:
                broker.wait()
        except BaseException:
            self.stop(keep_logs=True)
            raise
        return self

    @property
    def _nodes(self) -> list[Node]:
        return [*([] if self._controller is None else [self._controller]), *self.brokers]

    def stop(self, *, keep_logs: bool = False) -> None:
        """End every broker. With *keep_logs* what they said stays in `target/logs`."""
        for node in self._nodes:
            node.kill()  # The data is thrown away: nothing is gained by an orderly end.
        if self._dir is not None:
            if keep_logs:
                for node in self._nodes:
                    node.keep_log(LOGS / self._dir.name)
            shutil.rmtree(self._dir, ignore_errors=True)
            self._dir = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(keep_logs=error is not None)


class Node:
    """One process of a cluster, with a directory of its own."""

    def __init__(self, name: str, directory: Path) -> None:
        self._name = name
        self._directory = directory
        self._log = directory / "log"
        self._process: Tethered | None = None

    def write(self, properties: Mapping[str, str]) -> None:
        """Write what it is to be, before it is formatted and started."""
        self._directory.mkdir()
        said = {"log.dirs": str(self._directory / "data"), "controller.listener.names": "CONTROLLER", **properties}
        text = "".join(f"{name}={value}\n" for name, value in said.items())
        (self._directory / "server.properties").write_text(text)

    def format(self, cluster_id: str, features: Sequence[str], *, users: Mapping[str, str] | None = None) -> None:
        """Make its directory. *users* can log in by SCRAM-SHA-512 from the beginning: name to password."""
        with self._log.open("ab") as log:
            switches = [word for feature in features for word in ("--feature", feature)]
            for name, password in (users or {}).items():
                switches += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
            tool = [*_java("-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool"]
            subprocess.run(
                [*tool, "format", "-t", cluster_id, "-c", "server.properties", *switches],
                cwd=self._directory,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                check=True,
                timeout=START_S,
            )

    def start(self) -> None:
        """Start it, again too."""
        command = [*_java("-Xmx512m", "-XX:+UseSerialGC", *_DATED), "kafka.Kafka", "server.properties"]
        self._process = Tethered(command, log=self._log, cwd=self._directory, leftover=self._directory.parent)

    @property
    def process(self) -> Tethered:
        assert self._process is not None, "not started"
        return self._process

    def await_answer(self, port: int) -> None:
        """Wait until it answers in plain text."""
        deadline = time.monotonic() + START_S
        while not speaks_kafka("127.0.0.1", port):
            if self.process.exit_code is not None or time.monotonic() > deadline:
                tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
                raise RuntimeError(f"{self._name} did not come up on port {port}; its log ends:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order: leadership moves first."""
        self.process.stop(20.0)

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        if self._process is not None:
            self._process.stop(by=signal.SIGKILL)

    def keep_log(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(self._log, directory / f"{self._name}.log")


class Controller(Node):
    """The controller of a cluster whose brokers are none: nobody kills it."""

    node = 100

    def __init__(self, directory: Path) -> None:
        super().__init__("controller", directory)

    def configure(self, port: int, voters: str) -> None:
        self.write(
            {
                "process.roles": "controller",
                "node.id": str(self.node),
                "controller.quorum.voters": voters,
                "listeners": f"CONTROLLER://127.0.0.1:{port}",
                **_RESTARTED,
            }
        )


class Broker(Node):
    """One broker of a cluster; fault tests stop, kill and freeze it. `wait` says when it answers."""

    def __init__(self, node: int, port: int, directory: Path, *, relay: Sequence[int] = ()) -> None:
        super().__init__(f"broker-{node}", directory)
        self.node = node
        self.port = port
        self._relay = relay

    @property
    def relay_port(self) -> int:
        """Where a relay must listen, for clients that are told to begin there."""
        return self._relay[0]

    @property
    def behind_relay(self) -> int:
        """Where that relay finds the broker."""
        return self._relay[1]

    def configure(self, controller_port: int | None, voters: str, replicas: int) -> None:
        """Write its configuration; it is a controller too where *controller_port* says where."""
        properties = {
            "process.roles": "broker",
            "node.id": str(self.node),
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "offsets.topic.replication.factor": str(replicas),
            "transaction.state.log.replication.factor": str(replicas),
            "transaction.state.log.min.isr": str(max(1, replicas - 1)),
            "share.coordinator.state.topic.replication.factor": str(replicas),
            "share.coordinator.state.topic.min.isr": str(max(1, replicas - 1)),
            "default.replication.factor": str(replicas),
            "min.insync.replicas": str(max(1, replicas - 1)),
            **QUICK,
        }
        if controller_port is None:
            properties |= _RESTARTED
        else:
            properties["process.roles"] = "broker,controller"
            properties["listeners"] += f",CONTROLLER://127.0.0.1:{controller_port}"
        if self._relay:
            relay_port, behind = self._relay
            properties["listeners"] += f",RELAYED://127.0.0.1:{behind}"
            properties["advertised.listeners"] += f",RELAYED://127.0.0.1:{relay_port}"
            names = ("PLAINTEXT", "CONTROLLER", "RELAYED")
            properties["listener.security.protocol.map"] = ",".join(f"{name}:PLAINTEXT" for name in names)
        self.write(properties)

    def wait(self) -> None:
        self.await_answer(self.port)


class DockerKafka:
    """One broker in a container, where there is no Java."""

    def __init__(self) -> None:
        self._port = free_port()
        settings = {
            "node.id": "1",
            "process.roles": "broker,controller",
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": "1@localhost:9093",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            **QUICK,
        }
        self._container = DockerContainer(IMAGE).with_bind_ports(9092, self._port)
        for name, value in settings.items():
            self._container.with_env(f"KAFKA_{name.replace('.', '_').upper()}", value)

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> Self:
        self._container.start()
        deadline = time.monotonic() + START_S
        while not speaks_kafka("127.0.0.1", self._port):
            if time.monotonic() > deadline:
                self.stop()
                raise NoKafkaError(f"{IMAGE} did not answer within {START_S:.0f} s")
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        self._container.stop()


def fetch_jars() -> None:
    """Have Maven fetch Kafka, once; whoever comes meanwhile waits."""
    TARGET.mkdir(exist_ok=True)
    with (TARGET / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = JARS / ".complete"
        wanted = (HERE / "pom.xml").read_text()
        if complete.exists() and complete.read_text() == wanted:
            return
        shutil.rmtree(JARS, ignore_errors=True)
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        done = subprocess.run([*command, f"-DoutputDirectory={JARS}"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoKafkaError(f"Maven could not fetch Kafka's jars: {(done.stdout + done.stderr).strip()[-500:]}")
        complete.write_text(wanted)


def new_cluster_id() -> str:
    """Make one that does not begin with a dash: it would be taken for an option."""
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


def _java(*options: str) -> list[str]:
    return ["java", *options, "-cp", f"{JARS}/*"]


def _no_docker() -> str | None:
    """Say why Docker cannot be used, or None."""
    if shutil.which("docker") is None:
        return "no docker command either"
    done = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=20)
    return None if done.returncode == 0 else "no Docker engine answers"


def free_ports(count: int) -> list[int]:
    found: dict[int, None] = {}
    while len(found) < count:
        found[free_port()] = None
    return [*found]


def main() -> None:
    """Run brokers until Ctrl-C, for people and for scripts: the first line on stdout says where they are."""
    parser = argparse.ArgumentParser(description="Run Apache Kafka on this machine, empty, until Ctrl-C.")
    parser.add_argument("--brokers", type=int, default=1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cluster: Cluster | None = None
    try:
        cluster = start(parser.parse_args().brokers)
        sys.stdout.write(f"export ANTIPHON_BOOTSTRAP_SERVERS={cluster.bootstrap_servers}\n")
        sys.stdout.flush()
        sys.stderr.write("Kafka is up; Ctrl-C ends it and forgets its data.\n")
        signal.pause()
    except NoKafkaError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass
    finally:
        if cluster is not None:
            cluster.stop()


if __name__ == "__main__":
    main()
