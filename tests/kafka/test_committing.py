"""A member whose client does not come back from a call: it goes on without."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.errors import BrokerUnreachableError, CommitError
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.chatter import library
from antiphon.bus.kafka.committing import Committing
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.kafka.member import KafkaMember
from antiphon.bus.kafka.ownership import Ownership
from antiphon.bus.port import Membership, Transaction
from antiphon.bus.record import Committed, TopicPartition
from antiphon.testing.conformance.world import everything, fresh, new_topic, outgoing, values
from antiphon.testing.reading import Reading
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.embedded

# What a member does that has had its commit hang: the process ends all the same.
_HANGS_AT_THE_END = """
import asyncio, sys, threading
from confluent_kafka import Producer
from antiphon.bus.errors import CommitError
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.kafka.member import KafkaMember
from antiphon.bus.kafka.ownership import Ownership
from antiphon.bus.port import Membership, Transaction
from antiphon.bus.record import Outgoing

class Hanging(Producer):
    def commit_transaction(self, *_):
        threading.Event().wait()

async def main(address, topic):
    membership = Membership(group=topic, topics=(topic,), instance="one", transaction_timeout_s=1.0)
    config = KafkaConfig(bootstrap_servers=address, reach_s=0.2)
    member = KafkaMember(config, membership, GroupProtocol.CLASSIC, bounds=lambda _: {}, make=Hanging)
    await member.take()
    try:
        await member.commit(Transaction([Outgoing(topic, None, b"x", [], 0)], {}))
    except CommitError as error:
        print(error.reason)
    await member.close()

asyncio.run(main(*sys.argv[1:]))
"""


class Hanging(Producer):
    """A client one of whose calls comes back only when it is let go."""

    def __init__(self, options: dict[str, Any], call: str, let_go: threading.Event) -> None:
        super().__init__(options, logger=library)
        self._call = call
        self._let_go = let_go
        self.came_to: BaseException | None = None
        """What the call raised in the end."""

    def init_transactions(self, timeout: float = -1) -> None:
        self._hang("init_transactions", lambda: super(Hanging, self).init_transactions(timeout))

    def send_offsets_to_transaction(self, positions: list[Offset], group_metadata: Any, timeout: float = -1) -> None:
        self._hang(
            "send_offsets",
            lambda: super(Hanging, self).send_offsets_to_transaction(positions, group_metadata, timeout),
        )

    def _hang(self, call: str, really: Callable[[], None]) -> None:
        if call == self._call:
            self._let_go.wait()
        try:
            really()
        except BaseException as error:
            self.came_to = error
            raise


class Clients:
    """Makes one client after the other, each with the call that hangs, or none."""

    def __init__(self, *calls: str) -> None:
        self._calls = calls
        self.let_go = threading.Event()
        self.made: list[Hanging] = []

    def __call__(self, options: dict[str, Any]) -> Hanging:
        client = Hanging(options, self._calls[len(self.made)], self.let_go)
        self.made.append(client)
        return client


@asynccontextmanager
async def joined(address: str, clients: Clients, *topics: str, give_up_s: float = 60.0) -> AsyncGenerator[Reading]:
    """Be a member that is soon out of patience."""
    config = KafkaConfig(bootstrap_servers=address, reach_s=0.2, give_up_s=give_up_s)
    membership = Membership(group=fresh("group"), topics=topics[:1], instance="one", transaction_timeout_s=1.0)
    member = KafkaMember(config, membership, GroupProtocol.CLASSIC, embedded=True, bounds=lambda _: {}, make=clients)
    try:
        async with Reading(member) as reading:
            await reading.owns([TopicPartition(topics[0], 0)])
            yield reading
    finally:
        clients.let_go.set()


async def test_a_commit_that_hangs_is_left_behind(embedded: str, caplog: pytest.LogCaptureFixture) -> None:
    """The next one is made by a new client; what the old call comes to later is refused, and changes nothing."""
    bus, clients = KafkaBus(KafkaConfig(bootstrap_servers=embedded)), Clients("send_offsets", "")
    orders, shipped = await new_topic(bus, "orders"), await new_topic(bus, "shipped")
    done = {TopicPartition(orders, 0): Committed(0)}
    caplog.set_level("INFO")
    async with joined(embedded, clients, orders) as reading:
        with pytest.raises(CommitError, match="no answer within"):
            await reading.member.commit(Transaction([outgoing(shipped, b"late")], done))
        await reading.member.restart()
        await reading.until(lambda: bool(reading.lost and reading.owned), "the partition to be given again")
        await reading.member.commit(Transaction([outgoing(shipped, b"new")], done))

        clients.let_go.set()
        await eventually(lambda: "was given up has ended" in caplog.text, what="the old call to end")
        await reading.member.commit(Transaction([outgoing(shipped, b"newer")], done))
    assert clients.made[0].came_to is not None
    assert values(await everything(bus, shipped)) == [b"new", b"newer"]
    assert caplog.text.count("is left behind") == 1
    await bus.close()


async def test_a_new_client_that_hangs_is_left_behind_too(embedded: str) -> None:
    """Another one is made, and the member goes on."""
    bus, clients = KafkaBus(KafkaConfig(bootstrap_servers=embedded)), Clients("send_offsets", "init_transactions", "")
    orders, shipped = await new_topic(bus, "orders"), await new_topic(bus, "shipped")
    done = {TopicPartition(orders, 0): Committed(0)}
    async with joined(embedded, clients, orders) as reading:
        with pytest.raises(CommitError):
            await reading.member.commit(Transaction([], done))
        await reading.member.restart()
        await reading.until(lambda: bool(reading.lost and reading.owned), "the partition to be given again")
        await reading.member.commit(Transaction([outgoing(shipped, b"new")], done))
    assert values(await everything(bus, shipped)) == [b"new"]
    await bus.close()


async def test_new_clients_that_hang_are_not_waited_for(embedded: str, caplog: pytest.LogCaptureFixture) -> None:
    """The member fails, as it does where no broker answers, and closes without waiting for any of them."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=embedded))
    clients = Clients("send_offsets", "init_transactions", "init_transactions")
    orders = await new_topic(bus, "orders")
    async with joined(embedded, clients, orders, give_up_s=3.0) as reading:
        with pytest.raises(CommitError):
            await reading.member.commit(Transaction([], {TopicPartition(orders, 0): Committed(0)}))
        with pytest.raises(BrokerUnreachableError, match="timed out"):
            await reading.member.restart()
    assert "did not end in time" not in caplog.text
    await bus.close()


async def test_a_process_ends_though_a_call_hangs(embedded: str) -> None:
    """The thread that waits for it is nobody's business any more."""
    bus = KafkaBus(KafkaConfig(bootstrap_servers=embedded))
    topic = await new_topic(bus, "orders")
    await bus.close()
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _HANGS_AT_THE_END, embedded, topic],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0
    assert ended.stdout.startswith("no answer within ")


class Fenced:
    """A client that is answered by the address it began with, and then by a broker of the cluster."""

    def __init__(self) -> None:
        self.answers = iter([-1, 1])
        self.calls: list[str] = []

    def list_topics(self, topic: str, timeout: float) -> Any:
        # Of what the agent hears nothing is asked: where it was deleted a broker may make it anew for that.
        self.calls.append(f"ask about {topic}")
        return SimpleNamespace(orig_broker_id=next(self.answers))

    def init_transactions(self, timeout: float) -> None:
        self.calls.append("init")

    def purge(self, *, blocking: bool) -> None:
        pass


def test_older_producers_are_fenced_by_one_that_is_connected() -> None:
    """Asked before that, the client would say nothing for half a second."""
    client = Fenced()
    membership = Membership(group="stock", topics=("orders",), instance="one")
    committing = Committing(KafkaConfig(), membership, Ownership(), lambda _: client)  # type: ignore[arg-type, return-value]
    committing.start()
    committing.close()
    committing.finished.result(10)
    assert client.calls == ["ask about __consumer_offsets"] * 2 + ["init"]
