"""The broker for a laptop: there when asked for, gone afterwards, and clear about what is in its way."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

import psutil
import pytest

from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.embedded import EmbeddedBroker, EmbeddedBrokerError
from antiphon.bus.kafka.tether import free_port, is_free
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing, TopicPartition

pytestmark = pytest.mark.embedded


async def test_it_comes_and_goes(capfd: pytest.CaptureFixture[str]) -> None:
    """On a port of its own; afterwards neither the process nor the port is in use, and nothing was printed."""
    async with EmbeddedBroker() as broker:
        pid, port = broker.pid, int(broker.bootstrap_servers.rpartition(":")[2])
        bus = KafkaBus(KafkaConfig(bootstrap_servers=broker.bootstrap_servers))
        assert await bus.create([TopicSpec("orders", 3)]) == ["orders"]
        assert await bus.topics() == {"orders": 3}
        await bus.close()
    await broker.stop()
    assert pid is not None
    assert (psutil.pid_exists(pid), is_free(port), broker.pid) == (False, True, None)
    assert capfd.readouterr() == ("", "")


async def test_two_at_once() -> None:
    """Two demos on one machine do not disturb each other."""
    async with EmbeddedBroker() as one, EmbeddedBroker() as two:
        assert one.bootstrap_servers != two.bootstrap_servers


async def test_a_given_port() -> None:
    """The one that was asked for, or none."""
    port = free_port()
    async with EmbeddedBroker(port=port) as broker:
        assert broker.bootstrap_servers == f"127.0.0.1:{port}"


async def test_a_taken_port() -> None:
    """Said before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EmbeddedBrokerError, match=re.escape(f"port {port} is taken")):
            await EmbeddedBroker(port=port).start()


async def test_kept_data(tmp_path: Path) -> None:
    """What was published is there the next time."""
    partition = TopicPartition("orders", 0)
    async with EmbeddedBroker(data_dir=tmp_path / "data") as broker:
        bus = KafkaBus(KafkaConfig(bootstrap_servers=broker.bootstrap_servers))
        await bus.create([TopicSpec("orders", 1)])
        await bus.publish([Outgoing("orders", b"key", b"value", [])])
        await bus.close()
    async with EmbeddedBroker(data_dir=tmp_path / "data") as broker:
        bus = KafkaBus(KafkaConfig(bootstrap_servers=broker.bootstrap_servers))
        found = [record.value async for record in bus.read({partition: 0}, {partition: 1})]
        await bus.close()
    assert found == [b"value"]


async def test_without_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: the error says which."""
    monkeypatch.setitem(sys.modules, "noida_db", None)
    with pytest.raises(EmbeddedBrokerError, match=r"pip install 'antiphon\[dev\]'"):
        await EmbeddedBroker().start()
