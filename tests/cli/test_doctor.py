"""`antiphon doctor`: what is not fit for the mesh, and what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.kafka.cluster import TopicFacts
from antiphon.cli.checks import (
    Check,
    Status,
    broker_version,
    clock,
    headroom,
    plan,
    replicas,
    retention,
    rights,
)
from tests.cli.conftest import Antiphon
from tests.cli.process import Process
from tests.cli.test_retire import CLAIMS, until

OK, WARNING, FAILED = Status.OK, Status.WARNING, Status.FAILED


def topic(replicas: int = 3, **config: str) -> TopicFacts:
    return TopicFacts(replicas, {name.replace("_", "."): value for name, value in config.items()})


def verdict(check: Check) -> tuple[Status, str]:
    assert check.remedy or check.status is OK, f"{check} has no remedy"
    return check.status, check.detail


@pytest.mark.parametrize(
    ("apis", "status"),
    [
        ({"Produce": 12, "AddOffsetsToTxn": 4}, OK),
        ({"Produce": 9, "AddOffsetsToTxn": 3}, WARNING),
        ({"Produce": 3}, FAILED),
        ({}, OK),
    ],
)
def test_brokers_are_judged_by_what_they_can_do(apis: dict[str, int], status: Status) -> None:
    """A version number they do not tell."""
    assert verdict(broker_version(apis, embedded=False))[0] is status


def test_a_clock_that_is_ahead_is_found() -> None:
    """A heartbeat from later than now; one that is late may just be slow."""

    def seen(instance: str, ahead_s: float) -> AgentSeen:
        return AgentSeen(
            agent="a",
            version="1",
            instance=instance,
            started_us=0,
            time_us=int(1e15 + ahead_s * 1e6),
            interval_s=5,
            capacity=1,
        )

    assert verdict(clock([seen("w1", -3), seen("w2", 1)], now_us=10**15)) == (OK, "2 workers agree with this machine")
    assert verdict(clock([seen("w1", 90), seen("w2", 1)], now_us=10**15)) == (
        WARNING,
        "w1 is up to 1.5 min ahead of this machine",
    )


def test_topics_are_compared_with_what_agents_need() -> None:
    """Whether they are there, and whether what must be kept by key is."""
    wanted = {"orders": False, "stock.state": True}
    there = {"orders": topic(cleanup_policy="delete"), "stock.state": topic(cleanup_policy="compact,delete")}
    assert verdict(plan(wanted, there, may_create=False)) == (OK, "2 topics as agents need them")
    assert verdict(plan(wanted, {}, may_create=False)) == (FAILED, "lacking: orders, stock.state")
    assert verdict(plan(wanted, {}, may_create=True))[0] is WARNING
    aged = {**there, "stock.state": topic(cleanup_policy="delete")}
    assert verdict(plan(wanted, aged, may_create=False)) == (
        FAILED,
        "compacted where they must not be, or the other way round: stock.state",
    )
    assert verdict(plan(wanted, dict.fromkeys(wanted, topic()), may_create=False))[0] is OK


def test_events_are_kept_for_as_long_as_they_may_be_needed() -> None:
    """Until nothing can be undone any more; -1 keeps them for ever."""
    facts = {"short": topic(retention_ms="3600000"), "ever": topic(retention_ms="-1"), "silent": topic()}
    assert verdict(retention(facts, facts, needed_ms=7_200_000, why="undoing")) == (
        WARNING,
        "short keeps events for 1 hour, and undoing takes 2 hours",
    )
    assert verdict(retention(facts, facts, needed_ms=60_000, why="undoing"))[0] is OK


@pytest.mark.parametrize(
    ("facts", "brokers", "status"),
    [
        ({"a": topic(3, min_insync_replicas="2")}, 3, OK),
        ({"a": topic(3, min_insync_replicas="1")}, 3, WARNING),
        ({"a": topic(2, min_insync_replicas="2")}, 3, WARNING),
        ({"a": topic(1, min_insync_replicas="1")}, 3, WARNING),
        ({"a": topic(1, min_insync_replicas="1")}, 1, OK),
        ({"a": topic(3)}, 3, OK),
    ],
)
def test_a_broker_may_be_lost_or_not(facts: dict[str, TopicFacts], brokers: int, status: Status) -> None:
    """Neither events nor the mesh's going on should hang on one."""
    assert verdict(replicas(facts, brokers=brokers))[0] is status


def test_records_that_workers_write_must_fit() -> None:
    """Or a claim check must begin lower."""
    facts = {"a": topic(max_message_bytes="500000"), "b": topic(max_message_bytes="1048588")}
    assert verdict(headroom(facts, largest=1_000_000)) == (
        FAILED,
        "a takes records of 500,000 bytes, and workers write up to 1,000,000",
    )
    assert verdict(headroom({"b": facts["b"]}, largest=1_000_000))[0] is OK


def test_a_cluster_without_rights_is_told() -> None:
    """Everybody may do everything there."""
    assert [verdict(rights(acls))[0] for acls in (None, 0, 7)] == [WARNING, WARNING, OK]


def checks(ran: Any) -> dict[str, str]:
    return {check["name"]: check["status"] for check in orjson.loads(ran.out)["checks"]}


EVERY = {
    "settings",
    "broker",
    "version",
    "groups",
    "schemas",
    "partitions",
    "topics",
    "plan",
    "retention",
    "replicas",
    "sizes",
    "rights",
    "clock",
    "agents",
    "canaries",
    "compensation",
}


def looked_at(antiphon: Antiphon, folder: Path) -> dict[str, str]:
    """Run an agent, ask the doctor, and then retire the agent: what is asked of a broker besides records."""
    (folder / "claims.py").write_text(CLAIMS)
    worker = Process("run", "claims", cwd=folder)
    try:
        worker.wait_for('"ready"')
        until(lambda: orjson.loads(antiphon("agents", "--json").out), "its first heartbeat")
        found = checks(antiphon("doctor", "--json"))
        assert worker.end() == 0
    finally:
        worker.clean_up()
    gone = antiphon("agents", "retire", "payer", "--yes")
    assert (gone.code, gone.out.splitlines()[0]) == (0, "payer is retired"), gone.err
    return found


@pytest.mark.embedded
def test_the_embedded_broker_is_fit_for_a_laptop(antiphon: Antiphon, folder: Path, corner: None) -> None:
    """Every check is made, and none fails."""
    found = looked_at(antiphon, folder)
    assert (set(found), set(found.values())) == (EVERY, {"ok"})


@pytest.mark.kafka
def test_apache_kafka_is_looked_at(
    antiphon: Antiphon, folder: Path, kafka: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every check is made on a real cluster of one broker, which has no authorizer; what is told is what it is."""
    monkeypatch.setenv("ANTIPHON_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("ANTIPHON_NAMESPACE", namespace)
    monkeypatch.setenv("ANTIPHON_PARTITIONS", "2")
    found = looked_at(antiphon, folder)
    assert set(found) == EVERY
    assert {name: status for name, status in found.items() if status != "ok"} == {"rights": "warning"}
