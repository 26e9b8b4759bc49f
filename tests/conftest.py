"""Brokers for every test that wants one. They are started once, and each test keeps to names of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
from cluster import KafkaCluster, NoKafkaError, start

import partners
import stand_in
from antiphon.bus.kafka.embedded import EmbeddedBroker
from antiphon.testing.outside import Outside
from tests.left_behind import own_temporary_files, pytest_runtest_makereport
from tests.postgres import server, shared

__all__ = ["own_temporary_files", "pytest_runtest_makereport", "server", "shared"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what is to run in one process where there are several.

    All that takes Apache Kafka, in two lots: faults, with brokers that fail, and what has the brokers for itself. Each
    lot starts its own, and waits more than it works, so the rest runs beside them. Of the rest, what stands in one
    file: it may share what is costly to make.
    """
    for item in items:
        lot = "faults" if "faults" in item.path.parts else "kafka"
        group = lot if item.get_closest_marker("kafka") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Undo what a command run in this process has told the log: other tests listen to it."""
    ours, root = logging.getLogger("antiphon"), logging.getLogger()
    levels, handlers = (ours.level, root.level), [*root.handlers]
    yield
    ours.setLevel(levels[0])
    root.setLevel(levels[1])
    root.handlers[:] = handlers


@pytest.fixture
def examples_put_back() -> Iterator[None]:
    """Put back what the examples' fakes hold: their own tests, which may share this process, find them as new."""
    fakes = Outside([partners.bank, partners.carrier, partners.warehouse, stand_in.desk])
    before = fakes.taken()
    yield
    fakes.put_back(before)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[str]:
    """The bootstrap servers of an Apache Kafka with one broker.

    `ANTIPHON_REQUIRE_KAFKA=1` makes a machine that cannot run one fail rather
    than skip. `ANTIPHON_TEST_KAFKA` names a broker that runs already.
    """
    if running := os.environ.get("ANTIPHON_TEST_KAFKA"):
        yield running
        return
    try:
        cluster = start()
    except NoKafkaError as error:
        if os.environ.get("ANTIPHON_REQUIRE_KAFKA"):
            pytest.fail(f"Apache Kafka is required here: {error}")
        pytest.skip(f"no Apache Kafka: {error}")
    failed = request.session.testsfailed
    try:
        yield cluster.bootstrap_servers
    finally:
        if isinstance(cluster, KafkaCluster):
            cluster.stop(keep_logs=request.session.testsfailed > failed)
        else:
            cluster.stop()


@pytest.fixture(scope="session")
def kafka_cluster(request: pytest.FixtureRequest) -> Iterator[KafkaCluster]:
    """Three brokers of one Apache Kafka, for tests that stop one: each leaves all three running.

    As `kafka` where none can be started; it takes Java, and starts when first asked for.
    """
    cluster = KafkaCluster(3)
    try:
        cluster.start()
    except (FileNotFoundError, NoKafkaError) as error:
        if os.environ.get("ANTIPHON_REQUIRE_KAFKA"):
            pytest.fail(f"Java and Maven are required here: {error}")
        pytest.skip(f"needs Java and Maven: {error}")
    failed = request.session.testsfailed
    yield cluster
    cluster.stop(keep_logs=request.session.testsfailed > failed)


@pytest.fixture(scope="session")
def embedded() -> Iterator[str]:
    """The address of an embedded broker that every test may share."""
    if find_spec("noida_db") is None:
        pytest.skip("no embedded broker: pip install 'antiphon[dev]'")
    broker = EmbeddedBroker()
    # In a thread: whoever asks first may be a test with an event loop of its own.
    with ThreadPoolExecutor(1) as thread:
        address = thread.submit(asyncio.run, broker.start()).result()
    yield address
    asyncio.run(broker.stop())


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A prefix for topics and groups that no other test has, on any broker."""
    return f"t{uuid.uuid4().hex[:12]}"
