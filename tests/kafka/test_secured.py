"""A cluster that enforces who may do what: agents get on with exactly their rights, and what lacks is named.

The broker is Apache Kafka's, with TLS, logins by SCRAM, certificate and token, and
its StandardAuthorizer. The agents are those of the example of an order, with
the coordinator: what each may do is derived from its code.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from cluster import NoKafkaError
from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from secured import SecuredKafka

from antiphon.agents.worker import Worker
from antiphon.bus.connect import kafka_config
from antiphon.bus.consumer import Consumer
from antiphon.bus.errors import MissingRightError, NotLetInError, TopicCreationRefusedError
from antiphon.bus.kafka.administration import Administration
from antiphon.bus.kafka.authorization import AclsRefusedError, Authorization
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.failures import error_of
from antiphon.bus.names import Names
from antiphon.bus.port import TopicSpec
from antiphon.bus.publisher import Publisher
from antiphon.bus.record import Outgoing, TopicPartition
from antiphon.bus.right import Operation, Pattern, Resource, Right
from antiphon.bus.rights import rights_of_all, role_of
from antiphon.bus.schema_topic import TopicStore
from antiphon.bus.settings import Settings, load
from antiphon.cli.main import run
from antiphon.compensation.coordinator import coordinator
from antiphon.schemas.codec import Codec
from antiphon.testing.waiting import eventually
from shop import OrderPlaced, card, parcel, stock

# Agents of an example run in this process: what they hold back at the warehouse is not for that example's own tests to find.
pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("examples_put_back")]

NAMES = Names()
CONSUMERS = {one.name: one for one in (stock.consumer(), card.consumer(), parcel.consumer(), coordinator())}
RIGHTS = rights_of_all([role_of(one) for one in CONSUMERS.values()], NAMES)
PASSWORDS = {name: f"{name}-hunter2" for name in [*CONSUMERS, "stranger"]}
# A machine with much else to do takes its time over a handshake.
REACH_S = 20.0


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredKafka]:
    """The broker, and nobody allowed anything yet."""
    try:
        with SecuredKafka(PASSWORDS) as broker:
            yield broker
    except (FileNotFoundError, NoKafkaError) as error:
        if os.environ.get("ANTIPHON_REQUIRE_KAFKA"):
            pytest.fail(f"Java and Maven are required here: {error}")
        pytest.skip(f"needs Java and Maven: {error}")


@pytest.fixture(scope="module")
def anything(secured: SecuredKafka) -> Iterator[Authorization]:
    """What the tests may do: anything."""
    config = KafkaConfig(bootstrap_servers=secured.at("OPEN"), reach_s=REACH_S)
    administration = Administration(config)
    yield Authorization(config, administration)
    administration.close()


def settings_of(monkeypatch: pytest.MonkeyPatch, address: str, said: Mapping[str, object]) -> Settings:
    """Return the settings of a process with `ANTIPHON_SECURITY_*` as *said*."""
    monkeypatch.setenv("ANTIPHON_BOOTSTRAP_SERVERS", address)
    for name, value in said.items():
        monkeypatch.setenv(f"ANTIPHON_SECURITY_{name}", str(value))
    return load()


def login(secured: SecuredKafka, user: str, **more: object) -> dict[str, object]:
    """Return what an agent's process is told: who it is, and whom it trusts."""
    return {
        "CA": secured.authority.certificate,
        "MECHANISM": "SCRAM-SHA-512",
        "USER": user,
        "PASSWORD": PASSWORDS[user],
        **more,
    }


def config_of(secured: SecuredKafka, user: str) -> KafkaConfig:
    options = {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(secured.authority.certificate),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": PASSWORDS[user],
    }
    return KafkaConfig(bootstrap_servers=secured.at("LOGIN"), options=options, reach_s=REACH_S)


# Who is let in.


@dataclasses.dataclass(frozen=True)
class Case:
    """Somebody who comes with something that is wrong."""

    said: Callable[[SecuredKafka], Mapping[str, object]]
    reason: str
    listener: str = "LOGIN"
    host: str = "127.0.0.1"


def token(secured: SecuredKafka, user: str, secret: str) -> dict[str, object]:
    return {"CA": secured.authority.certificate, "TOKEN_URL": secured.token_url, "USER": user, "PASSWORD": secret}


def certificate(secured: SecuredKafka, name: str, valid_for: timedelta = timedelta(days=1)) -> dict[str, object]:
    pair = secured.authority.sign(name, valid_for=valid_for)
    return {"CA": secured.authority.certificate, "CERTIFICATE": pair.certificate, "KEY": pair.key}


def stray(secured: SecuredKafka) -> dict[str, object]:
    pair = secured.stranger.sign("stray")
    return {"CA": secured.authority.certificate, "CERTIFICATE": pair.certificate, "KEY": pair.key}


CASES = {
    "wrong password": Case(lambda at: login(at, "stock", PASSWORD="hunter3"), "wrong user or password"),
    "mechanism": Case(lambda at: login(at, "stock", MECHANISM="PLAIN"), "it does not take PLAIN, but SCRAM-SHA-512"),
    "wrong secret for tokens": Case(
        lambda at: token(at, "stock", "hunter3"), "no token to log in with", listener="TOKENS"
    ),
    "no login": Case(lambda at: {"CA": at.authority.certificate}, "it wants a login"),
    "plain text": Case(lambda at: {}, "it speaks TLS at this address"),
    "TLS to plain text": Case(lambda at: login(at, "stock"), "it speaks no TLS at this address", listener="OPEN"),
    "unknown authority": Case(
        lambda at: login(at, "stock", CA=at.stranger.certificate), "its certificate is signed by nobody that {ca} knows"
    ),
    "expired": Case(lambda at: login(at, "stock"), "its certificate has expired", listener="EXPIRED"),
    "wrong host": Case(lambda at: login(at, "stock"), "its certificate is not for 'localhost'", host="localhost"),
    "no certificate": Case(lambda at: {"CA": at.authority.certificate}, "it wants a certificate", listener="MUTUAL"),
    "expired certificate": Case(
        lambda at: certificate(at, "late", valid_for=timedelta(hours=-1)),
        "the certificate {certificate} has expired",
        listener="MUTUAL",
    ),
    "certificate of others": Case(stray, "it does not take the certificate {certificate}", listener="MUTUAL"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_f30_who_is_not_let_in(
    case: Case, secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said why, at the first question; no secret is in it, nor in any log."""
    caplog.set_level(logging.DEBUG)
    said = case.said(secured)
    settings = settings_of(monkeypatch, secured.at(case.listener, case.host), said)
    config = dataclasses.replace(kafka_config(settings), reach_s=REACH_S)
    bus = KafkaBus(config)
    with pytest.raises(NotLetInError) as caught:
        await bus.topics()
    await bus.close()
    reason = case.reason.format(ca=said.get("CA"), certificate=said.get("CERTIFICATE"))
    assert caught.value.reason.startswith(reason)
    shown = f"{caught.value} {caught.value!r} {settings!r} {config!r} {caplog.text}"
    assert "hunter" not in shown


async def test_a_broker_that_is_just_restarting_behind_a_balancer(secured: SecuredKafka) -> None:
    """The balancer closes connections in the midst of the handshake: a worker that starts then waits for it, as for one that is not there."""
    async with _door(secured.at("LOGIN")) as door:
        bus = KafkaBus(dataclasses.replace(config_of(secured, "stock"), bootstrap_servers=door.address))
        asking = asyncio.create_task(bus.topics())
        # It looked why it is not let in, also without TLS.
        await eventually(lambda: asking.done() or door.plain_knocks > 0, REACH_S, what="a look at the address")
        assert not asking.done()
        door.is_open = True
        assert "orders.unheard-of" not in await asking
        await bus.close()


class _Door:
    """What clients meet: closed, it hangs up on whoever says something; open, they come to the broker."""

    is_open = False
    plain_knocks = 0
    address = ""


@asynccontextmanager
async def _door(behind: str) -> AsyncGenerator[_Door]:
    door = _Door()
    host, _, port = behind.rpartition(":")

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await source.read(65_536):
                target.write(chunk)
                await target.drain()
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(65_536)
        if not door.is_open:
            door.plain_knocks += first[:1] != b"\x16"  # of a handshake
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(host, int(port))
        back.write(first)
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        door.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield door


ENTRANCES: dict[str, Callable[[SecuredKafka], Mapping[str, object]]] = {
    "LOGIN": lambda at: login(at, "stock"),
    "MUTUAL": lambda at: certificate(at, "stock"),
    "TOKENS": lambda at: token(at, "stock", PASSWORDS["stock"]),
}


@pytest.mark.parametrize("listener", ENTRANCES)
async def test_who_is_let_in(
    listener: str,
    secured: SecuredKafka,
    monkeypatch: pytest.MonkeyPatch,
    anything: Authorization,
) -> None:
    """By password, by certificate and by token alike, it is the same principal with the same rights."""
    settings = settings_of(monkeypatch, secured.at(listener), ENTRANCES[listener](secured))
    right = Right(Operation.READ, Resource.TOPIC, f"of-{listener}")
    async with bus_of_anybody(secured) as bus:
        await bus.create([TopicSpec(right.name, 1)])
    bus = KafkaBus(dataclasses.replace(kafka_config(settings), reach_s=REACH_S))
    assert not await _has(bus, right)
    await allowed(anything, {"User:stock": [right]})
    await eventually(lambda: _has(bus, right))
    await bus.close()


async def _has(bus: KafkaBus, *rights: Right) -> bool:
    with suppress(MissingRightError):
        await bus.require(rights)
        return True
    return False


async def allowed(anything: Authorization, rights: Mapping[str, list[Right]]) -> None:
    await asyncio.to_thread(anything.grant, rights)


# Who may do what.


def granted(agent: str) -> dict[str, list[Right]]:
    return {f"User:{agent}": RIGHTS[agent]}


@asynccontextmanager
async def bus_of(secured: SecuredKafka, user: str) -> AsyncGenerator[KafkaBus]:
    bus = KafkaBus(config_of(secured, user))
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def working(secured: SecuredKafka, consumer: Consumer) -> AsyncGenerator[Worker]:
    """A worker of one agent, logged in as it."""
    async with bus_of(secured, consumer.name) as bus:
        worker = Worker(
            bus, [consumer], names=NAMES, store=TopicStore(bus, NAMES, partitions=2), partitions=2, instance="1"
        )
        running = asyncio.create_task(worker.run())
        try:
            ready = asyncio.create_task(worker.ready.wait())
            await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if running.done():
                await running
            yield worker
        finally:
            worker.stop()
            await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def bus_of_anybody(secured: SecuredKafka) -> AsyncGenerator[KafkaBus]:
    """The bus of somebody who may do anything: the tests."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=secured.at("OPEN"), reach_s=REACH_S))
    try:
        yield bus
    finally:
        await bus.close()


@pytest.fixture
async def mesh(secured: SecuredKafka, anything: Authorization) -> AsyncGenerator[None]:
    """Every agent may do what is derived from its code, and the mesh's topics are there."""
    for agent in RIGHTS:
        await allowed(anything, granted(agent))
    async with bus_of(secured, "stock") as bus:
        await eventually(lambda: _has(bus, *RIGHTS["stock"]))
    yield
    for agent in RIGHTS:
        found = await asyncio.to_thread(anything.granted, [f"User:{agent}"])
        await asyncio.to_thread(anything.revoke, found)


async def said_on(bus: KafkaBus, topic: str) -> list[bytes | None]:
    bounds = await bus.bounds([topic])
    start = {partition: first for partition, (first, _) in bounds.items()}
    stop = {partition: end for partition, (_, end) in bounds.items()}
    return [record.key async for record in bus.read(start, stop)]


async def test_agents_work_with_exactly_their_rights(secured: SecuredKafka, mesh: None) -> None:
    """An order goes through, and another one is undone: topics, transactions, state, undos and heartbeats, all allowed."""
    async with AsyncExitStack() as at_work, bus_of_anybody(secured) as bus:
        for consumer in CONSUMERS.values():
            await at_work.enter_async_context(working(secured, consumer))
        publisher = Publisher(bus, Codec(TopicStore(bus, NAMES, partitions=2)), NAMES, source="/tests")
        good = OrderPlaced(order="7", item="lamp", price=41, city="Kyiv")
        await publisher.publish([good, good.model_copy(update={"order": "8", "city": "Atlantis"})])
        for topic in ("parcel.sent", "parcel.refused", "card.refunded", "stock.released"):
            await eventually(partial(_stands_on, bus, topic), timeout_s=60.0, what=f"one event on {topic}")
        assert [len(await said_on(bus, f"{agent}.dead")) for agent in CONSUMERS] == [0, 0, 0, 0]


async def _stands_on(bus: KafkaBus, topic: str) -> bool:
    return len(await said_on(bus, topic)) == 1


async def test_f30_each_right_that_is_taken_away_is_named(
    secured: SecuredKafka, mesh: None, anything: Authorization
) -> None:
    """A worker that starts without one says which, whose it is, and what grants it."""
    async with working(secured, CONSUMERS["stock"]):
        pass  # The topics are there now: making them is another question.
    said: dict[Right, tuple[Right, ...]] = {}
    for right in needed_of("stock"):
        async with without(anything, "stock", right), bus_of(secured, "stock") as bus:
            said[right] = await _refusal(bus, CONSUMERS["stock"])
    assert said == {
        right: (right if right.pattern is Pattern.LITERAL else _own(right),) for right in needed_of("stock")
    }


@pytest.mark.parametrize("agent", CONSUMERS)
async def test_each_right_of_each_agent_is_asked_for(
    agent: str, secured: SecuredKafka, mesh: None, anything: Authorization
) -> None:
    """What the broker says that an agent may do with topics is what was granted, right by right."""
    async with working(secured, CONSUMERS[agent]):
        pass  # As above.
    asked = [right for right in needed_of(agent) if right.resource is Resource.TOPIC]
    said: dict[Right, tuple[Right, ...]] = {}
    async with bus_of(secured, agent) as bus:
        for right in asked:
            async with without(anything, agent, right):
                with pytest.raises(MissingRightError) as caught:
                    await bus.require(asked)
                said[right] = caught.value.rights
    assert said == {right: (right,) for right in asked}


def needed_of(agent: str) -> list[Right]:
    return [right for right in RIGHTS[agent] if right.operation is not Operation.CREATE]


def _own(right: Right) -> Right:
    """Return the transactional id of the worker of these tests: of a prefix the broker says nothing."""
    return Right(right.operation, right.resource, f"{right.name}1")


async def _refusal(bus: KafkaBus, consumer: Consumer) -> tuple[Right, ...]:
    worker = Worker(
        bus, [consumer], names=NAMES, store=TopicStore(bus, NAMES, partitions=2), partitions=2, instance="1"
    )
    with pytest.raises(MissingRightError) as caught:
        await asyncio.wait_for(worker.run(), 30.0)
    assert "antiphon topics apply" in str(caught.value)
    assert f"User:{consumer.name}" in str(caught.value)
    return caught.value.rights


@asynccontextmanager
async def without(anything: Authorization, agent: str, right: Right) -> AsyncGenerator[None]:
    """Take one right away, and see to it that the broker has heard of it, either way."""
    principal = f"User:{agent}"
    await asyncio.to_thread(anything.revoke, {principal: [right]})
    await eventually(lambda: _is_granted(anything, principal, right, granted=False))
    try:
        yield
    finally:
        await allowed(anything, {principal: [right]})
        await eventually(lambda: _is_granted(anything, principal, right, granted=True))


async def _is_granted(anything: Authorization, principal: str, right: Right, *, granted: bool) -> bool:
    return (right in (await asyncio.to_thread(anything.granted, [principal]))[principal]) is granted


async def test_a_topic_that_may_not_be_made_is_named(
    secured: SecuredKafka, mesh: None, anything: Authorization
) -> None:
    """It is not there, and the agent may not make it."""
    right = Right(Operation.CREATE, Resource.TOPIC, "nobodys")
    async with bus_of(secured, "stock") as bus:
        with pytest.raises(TopicCreationRefusedError) as caught:
            await bus.create([TopicSpec("nobodys", 1)])
    assert str(right) in str(caught.value)


async def test_f30_a_right_lost_on_the_way_is_named(
    secured: SecuredKafka, mesh: None, anything: Authorization, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that may not write any more what it says tries again, says which right it lacks, and goes on once it has it."""
    right = Right(Operation.WRITE, Resource.TOPIC, "stock.reserved")
    async with working(secured, CONSUMERS["stock"]), bus_of_anybody(secured) as bus:
        before = len(await said_on(bus, "stock.reserved"))
        async with without(anything, "stock", right):
            publisher = Publisher(bus, Codec(TopicStore(bus, NAMES, partitions=2)), NAMES, source="/tests")
            await publisher.publish([OrderPlaced(order="9", item="lamp", price=41, city="Kyiv")])
            await eventually(lambda: f"{right} for User:stock" in told(caplog), what="a line that names the right")
        await eventually(
            lambda: _count(bus, "stock.reserved", before + 1), timeout_s=60.0, what="the event to be handled"
        )


def told(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)


async def _count(bus: KafkaBus, topic: str, count: int) -> bool:
    return len(await said_on(bus, topic)) == count


async def test_a_stranger_gets_at_nothing(secured: SecuredKafka, mesh: None) -> None:
    """Somebody else's agent, let in with a password of its own, sees no topic, and reads and writes none."""
    async with working(secured, CONSUMERS["stock"]):
        pass
    read = Right(Operation.READ, Resource.TOPIC, "stock.reserved")
    write = dataclasses.replace(read, operation=Operation.WRITE)
    needed = [right for right in needed_of("stock") if right.resource is Resource.TOPIC]
    async with bus_of(secured, "stranger") as bus:
        assert await bus.topics() == {}
        assert await _lacks(bus.require(needed)) == tuple(needed)
        assert await _lacks(anext(bus.read({TopicPartition("stock.reserved", 0): 0}))) == (read,)
        assert await _lacks(bus.publish([Outgoing("stock.reserved", None, b"mine", [])])) == (write,)


async def _lacks(call: Awaitable[object]) -> tuple[Right, ...]:
    with pytest.raises(MissingRightError) as caught:
        await call
    return caught.value.rights


async def test_the_broker_itself_refuses_a_stranger(secured: SecuredKafka, mesh: None) -> None:
    """By the bare client, which asks nobody first."""
    async with working(secured, CONSUMERS["stock"]):
        pass
    config = config_of(secured, "stranger")
    said = [
        await asyncio.to_thread(ask, {**config.options, "bootstrap.servers": config.bootstrap_servers})
        for ask in (_see, _write, _begin, _join)
    ]
    assert said == [
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    ]


def _see(options: dict[str, Any]) -> int:
    error = AdminClient(options).list_topics("stock.reserved", timeout=REACH_S).topics["stock.reserved"].error
    return 0 if error is None else int(error.code())


def _write(options: dict[str, Any]) -> int:
    codes: list[int] = []
    producer = Producer(options)
    producer.produce("stock.reserved", b"mine", on_delivery=lambda error, _: codes.append(error.code() if error else 0))
    producer.flush(REACH_S)
    return codes[0]


def _begin(options: dict[str, Any], id: str = "stock/1") -> int:
    producer = Producer({**options, "transactional.id": id})
    try:
        producer.init_transactions(REACH_S)
    except KafkaException as exception:
        return int(error_of(exception).code())
    return 0


def _join(options: dict[str, Any]) -> int:
    consumer = Client({**options, "group.id": "stock"})
    consumer.subscribe(["stock.reserved"])
    try:
        while True:
            message = consumer.poll(REACH_S)
            error = None if message is None else message.error()
            if error is None or error.code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                return 0 if error is None else int(error.code())
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("stock/1", 0),
        ("stock.vip/1", KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        ("stockade/1", KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    ],
)
async def test_no_agent_can_fence_one_whose_name_begins_as_its_own(
    id: str, said: int, secured: SecuredKafka, mesh: None
) -> None:
    """Its right covers its own transactional ids, and none of an agent that is called alike."""
    config = config_of(secured, "stock")
    options = {**config.options, "bootstrap.servers": config.bootstrap_servers}
    assert await asyncio.to_thread(_begin, options, id) == said


async def test_rights_are_the_business_of_who_administers(secured: SecuredKafka, mesh: None) -> None:
    """An agent can neither list nor set them."""
    administration = Administration(config_of(secured, "stock"))
    authorization = Authorization(config_of(secured, "stock"), administration)
    with pytest.raises(AclsRefusedError, match="Alter on the cluster of User:stock"):
        await asyncio.to_thread(authorization.grant, {"User:stock": RIGHTS["card"]})
    with pytest.raises(AclsRefusedError, match="Describe on the cluster of User:stock"):
        await asyncio.to_thread(authorization.granted, ["User:card"])
    await asyncio.to_thread(administration.close)


def test_rights_are_planned_and_applied_by_command(
    secured: SecuredKafka, anything: Authorization, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan says what lacks and what is more than needed; applied once, nothing is left to do."""
    monkeypatch.setenv("ANTIPHON_BOOTSTRAP_SERVERS", secured.at("OPEN"))
    monkeypatch.setenv("ANTIPHON_NAMESPACE", "planned")
    monkeypatch.setenv("ANTIPHON_PARTITIONS", "1")
    words = ["shop", "compensation", "--acls", "--principal", "User:planned-{agent}", "--json"]
    more = Right(Operation.READ, Resource.TOPIC, "of-others")
    anything.grant({"User:planned-stock": [more]})

    def said(verb: str) -> tuple[int, dict[str, Any]]:
        code = run(["topics", verb, *words])
        return code, json.loads(capsys.readouterr().out)["acls"]

    planned, applied, after = said("plan"), said("apply"), said("plan")
    count = sum(map(len, RIGHTS.values()))
    assert [(code, len(acls["grant"]), acls["fine"], acls["granted"]) for code, acls in (planned, applied, after)] == [
        (1, count, 0, False),
        (0, count, 0, True),
        (0, 0, count, False),
    ]
    assert [one["name"] for one in after[1]["more"]] == ["of-others"]
    anything.revoke(anything.granted([f"User:planned-{agent}" for agent in RIGHTS]))
