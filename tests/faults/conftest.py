"""Worlds for the tests of faults: on the broker all tests share, or on one of their own that is reached through a relay."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cluster import Broker, KafkaCluster, NoKafkaError
from relay import Relay
from world import World


@pytest.fixture
async def world(kafka: str, namespace: str, tmp_path: Path) -> AsyncIterator[World]:
    async with World(kafka, namespace, tmp_path, session_timeout=3) as world:
        yield world


@pytest.fixture(scope="session")
def fragile(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The one broker of a Kafka that only tests of faults use: killed, started again, reached through a relay."""
    cluster = KafkaCluster(relayed=True, restarts=True)
    try:
        cluster.start()
    except (FileNotFoundError, NoKafkaError) as error:
        if os.environ.get("ANTIPHON_REQUIRE_KAFKA"):
            pytest.fail(f"Java and Maven are required here: {error}")
        pytest.skip(f"needs Java and Maven: {error}")
    failed = request.session.testsfailed
    yield cluster.brokers[0]
    cluster.stop(keep_logs=request.session.testsfailed > failed)


@pytest.fixture
async def relay(fragile: Broker) -> AsyncIterator[Relay]:
    async with Relay(fragile) as relay:
        yield relay


@pytest.fixture
async def relayed(fragile: Broker, relay: Relay, namespace: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world whose workers go through the relay, while the test itself does not."""
    address = f"127.0.0.1:{fragile.port}"
    async with World(address, namespace, tmp_path, through=relay.address, session_timeout=3) as world:
        yield world
