"""No broker, or something else in its place: said within seconds, with the address, and nothing besides."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from certificates import Authority

from antiphon.bus.errors import BrokerUnreachableError, NotLetInError
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.chatter import Once
from antiphon.bus.kafka.config import KafkaConfig, Option, Options
from antiphon.bus.kafka.embedded import EmbeddedBroker
from antiphon.bus.kafka.failures import is_refused, is_there
from antiphon.bus.kafka.tether import free_port
from antiphon.bus.port import Bus, Membership, TopicSpec
from antiphon.bus.record import Outgoing, TopicPartition


async def _follow(bus: Bus) -> None:
    async for _ in bus.read({TopicPartition("orders", 0): 0}):
        pass


CALLS: dict[str, Callable[[Bus], Awaitable[object]]] = {
    "topics": lambda bus: bus.topics(),
    "create": lambda bus: bus.create([TopicSpec("orders", 1)]),
    "bounds": lambda bus: bus.bounds(["orders"]),
    "publish": lambda bus: bus.publish([Outgoing("orders", None, None, [])]),
    "read": _follow,
    "join": lambda bus: bus.join(Membership(group="stock", topics=("orders",), instance="a1")),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_nobody_there(call: Callable[[Bus], Awaitable[object]], capfd: pytest.CaptureFixture[str]) -> None:
    """Every call of the bus says so; the client's own complaints do not reach the terminal."""
    address = f"127.0.0.1:{free_port()}"
    bus = KafkaBus(KafkaConfig(bootstrap_servers=address, reach_s=1.0))
    started = time.monotonic()
    with pytest.raises(BrokerUnreachableError) as caught:
        await call(bus)
    assert time.monotonic() - started < 4.0
    await bus.close()
    assert str(caught.value) == f"no broker at {address} (connection refused, tried for 1 s)"
    # A client that another test left in this process would speak of its own broker.
    said = "".join(capfd.readouterr()).splitlines()
    assert [line for line in said if address in line or "127.0.0.1" not in line] == []


async def test_something_else_there() -> None:
    """A wrong port is another mistake than a broker that is down."""
    with _answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        bus = KafkaBus(KafkaConfig(bootstrap_servers=f"127.0.0.1:{port}", reach_s=1.0))
        with pytest.raises(BrokerUnreachableError) as caught:
            await bus.topics()
        await bus.close()
    assert caught.value.reason == "what answers there does not speak Kafka"


TLS = ["SSL", "SASL_SSL"]
LOGIN: Options = {"sasl.mechanism": "PLAIN", "sasl.username": "ann", "sasl.password": "x"}


def _encrypted(port: int, protocol: str, **more: Option) -> KafkaConfig:
    options: Options = {"security.protocol": protocol, **(LOGIN if "SASL" in protocol else {}), **more}
    return KafkaConfig(bootstrap_servers=f"127.0.0.1:{port}", options=options, reach_s=0.2)


@pytest.mark.parametrize("protocol", TLS)
async def test_an_address_that_takes_connections_and_says_nothing(protocol: str) -> None:
    """It may be a broker that hangs: waited for as one that is not there, and told in the end."""
    with _mute() as port:
        config = _encrypted(port, protocol)
        assert (is_there(config), is_refused(config)) == (False, False)
        caught = await _not_let_in(config)
    assert caught.reason == "it says nothing to a TLS handshake (it may speak no TLS here, or be restarting)"
    assert caught.tried_s < config.settle_s / 2


@pytest.mark.parametrize("protocol", TLS)
@pytest.mark.parametrize("lingers", [True, False])
async def test_an_address_that_closes_during_the_handshake(protocol: str, *, lingers: bool) -> None:
    """A balancer does so before a broker that restarts: that is no mistake of anybody's, and told as what is known."""
    with _answering(b"", lingers=lingers) as port:
        config = _encrypted(port, protocol)
        assert (is_there(config), is_refused(config)) == (False, False)
        caught = await _not_let_in(config)
    assert (caught.reason, caught.remedy) == (
        "it closed the connection during the TLS handshake (it may speak no TLS here, or be restarting)",
        "Try again; where it stays so: set ANTIPHON_SECURITY_PROTOCOL to PLAINTEXT or SASL_PLAINTEXT, or mend the port",
    )


@pytest.mark.parametrize("protocol", TLS)
async def test_something_that_speaks_no_tls(protocol: str) -> None:
    """It says so itself, and however long a client tried it would not."""
    with _answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        config = _encrypted(port, protocol)
        assert (is_there(config), is_refused(config)) == (False, True)
        assert (await _not_let_in(config)).reason == "it speaks no TLS at this address"


async def test_a_broker_in_plain_text_is_named_at_once() -> None:
    """It closes or says nothing as one that restarts does, but it answers who asks in plain text; also beside one that closes."""
    async with EmbeddedBroker() as broker:
        port = int(broker.bootstrap_servers.rpartition(":")[2])
        with _answering(b"") as other:
            config = _encrypted(port, "SSL")
            config = dataclasses.replace(
                config, bootstrap_servers=f"127.0.0.1:{other},{broker.bootstrap_servers}", reach_s=60.0
            )
            caught = await _not_let_in(config)
    assert caught.reason == "it speaks no TLS at this address"
    assert caught.tried_s < config.reach_s


async def _not_let_in(config: KafkaConfig) -> NotLetInError:
    bus = KafkaBus(config)
    with pytest.raises(NotLetInError) as caught:
        await bus.topics()
    await bus.close()
    return caught.value


@pytest.mark.parametrize("protocol", TLS)
@pytest.mark.parametrize("known", [True, False])
def test_a_broker_that_shakes_hands_is_there(tmp_path: Path, protocol: str, *, known: bool) -> None:
    """Though it says nothing yet, and whoever has signed its certificate: what is wrong with that is told elsewhere."""
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    pair = authority.sign("broker", hosts=["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    trusted = authority if known else other
    with _mute(context) as port:
        config = _encrypted(port, protocol, **{"ssl.ca.location": str(trusted.certificate)})
        assert (is_there(config), is_refused(config)) == (True, not known)


async def test_an_address_that_is_none() -> None:
    """Told in the same words."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers="localhost", reach_s=0.2))
    with pytest.raises(BrokerUnreachableError) as caught:
        await bus.topics()
    await bus.close()
    assert caught.value.reason == "expected host:port, got 'localhost'"


async def test_the_event_loop_goes_on_meanwhile() -> None:
    """Whatever waits, waits in a thread."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=f"127.0.0.1:{free_port()}", reach_s=0.5))
    waiting = asyncio.create_task(bus.topics())
    turns = 0
    while not waiting.done():
        await asyncio.sleep(0.01)
        turns += 1
    await bus.close()
    assert isinstance(waiting.exception(), BrokerUnreachableError)
    assert turns > 20


def test_a_line_is_said_once() -> None:
    """The client says why it cannot connect many times a second, in words that hardly differ."""
    quiet = Once(quiet_s=60.0)
    lines = [
        "FAIL [rdkafka#consumer-1] 127.0.0.1:1: Connect failed (after 0ms in state CONNECT)",
        "FAIL [rdkafka#consumer-2] 127.0.0.1:1: Connect failed (after 3ms in state CONNECT, 9 identical error(s))",
        "FAIL [rdkafka#consumer-2] 127.0.0.1:2: Connect failed (after 3ms in state CONNECT)",
    ]
    said = [quiet.filter(logging.makeLogRecord({"msg": line})) for line in lines]
    assert said == [True, False, True]


def test_what_the_client_mends_by_itself_is_no_news() -> None:
    """It makes the request again; a fresh broker makes it say so several times."""
    line = "GETPID [w-0#producer-7] Failed to acquire transactional PID: Broker: Coordinator load in progress: retrying"
    assert not Once().filter(logging.makeLogRecord({"msg": line, "name": "antiphon.bus.kafka.librdkafka"}))


@contextmanager
def _mute(context: ssl.SSLContext | None = None) -> Generator[int]:
    """Take connections, with a *context* shake hands, and say nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as taken:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                    taken.callback(connection.close)
                    if context is not None:
                        taken.enter_context(context.wrap_socket(connection, server_side=True))
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def _answering(reply: bytes, *, lingers: bool = True) -> Generator[int]:
    """Take connections, say *reply* to whatever comes, and close; without lingering by a reset."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(1.0)
                    try:
                        connection.recv(1024)
                        connection.sendall(reply)
                        if not lingers:
                            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    except OSError:
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join()
