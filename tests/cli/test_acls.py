"""`antiphon topology --acls`: what each agent must be allowed, for people, programs and Strimzi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.cli.conftest import Antiphon

READS = ["ticket.opened", "triage.redrive", "antiphon.agents", "triage.state", "antiphon.schemas"]
WRITES = ["ticket.triaged", "triage.dead", "antiphon.activity", "antiphon.agents", "triage.state", "antiphon.schemas"]


def test_for_people(antiphon: Antiphon, support: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line a right, each with what it is for; no broker is asked."""
    monkeypatch.setenv("ANTIPHON_CREATE_TOPICS", "false")
    assert antiphon("topology", "support", "--acls", "-n", "box").out.splitlines() == [
        "triage  User:triage",
        "  Read   topic             literal   box.ticket.opened      hears",
        "  Read   topic             literal   box.triage.redrive     is given its dead letters again",
        "  Read   topic             literal   box.antiphon.agents    knows the other agents",
        "  Read   topic             literal   box.triage.state       keeps state",
        "  Read   topic             literal   box.antiphon.schemas   schemas",
        "  Write  topic             literal   box.ticket.triaged     says",
        "  Write  topic             literal   box.triage.dead        sets aside",
        "  Write  topic             literal   box.antiphon.activity  tells what was handled",
        "  Write  topic             literal   box.antiphon.agents    tells that it is there",
        "  Write  topic             literal   box.triage.state       keeps state",
        "  Write  topic             literal   box.antiphon.schemas   schemas",
        "  Read   group             literal   box.triage             its consumer group",
        "  Write  transactional-id  prefixed  box.triage/            its workers' transactions",
    ]


def test_for_programs(antiphon: Antiphon, support: Path) -> None:
    """The same as a document, with who it is for."""
    document = orjson.loads(
        antiphon("topology", "support", "compensation", "--acls", "--json", "--principal", "User:CN={agent}").out
    )
    found = {one["agent"]: one for one in document["principals"]}
    assert {name: one["principal"] for name, one in found.items()} == {
        "compensation": "User:CN=compensation",
        "triage": "User:CN=triage",
    }
    assert found["triage"]["rights"][0] == {
        "operation": "Read",
        "resource": "topic",
        "name": "ticket.opened",
        "pattern": "literal",
        "why": "hears",
    }
    assert [note["kind"] for note in document["notes"]] == ["speaks_to_nobody"]


def test_for_strimzi(antiphon: Antiphon, support: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A KafkaUser an agent, as its operator takes it."""
    monkeypatch.setenv("ANTIPHON_CREATE_TOPICS", "false")
    [user] = yaml.safe_load_all(antiphon("topology", "support", "--acls", "--strimzi", "kafka").out)

    def acl(kind: str, name: str, *operations: str, pattern: str = "literal") -> dict[str, Any]:
        return {"resource": {"type": kind, "name": name, "patternType": pattern}, "operations": [*operations]}

    both = {*READS} & {*WRITES}
    assert user == {
        "apiVersion": "kafka.strimzi.io/v1beta2",
        "kind": "KafkaUser",
        "metadata": {"name": "triage", "labels": {"strimzi.io/cluster": "kafka"}},
        "spec": {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {
                "type": "simple",
                "acls": [
                    *(acl("topic", name, "Read", *(["Write"] if name in both else [])) for name in READS),
                    *(acl("topic", name, "Write") for name in WRITES if name not in both),
                    acl("group", "triage", "Read"),
                    acl("transactionalId", "triage/", "Write", pattern="prefix"),
                ],
            },
        },
    }


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--strimzi", "kafka"], "expected --strimzi with --acls, got it alone"),
        (["--acls", "--lint"], "expected --acls with --json or --strimzi or neither, got more"),
        (["--acls", "--json", "--strimzi", "kafka"], "expected --acls with --json or --strimzi or neither, got more"),
        (["--acls", "--principal", "triage"], "expected --principal as Kafka writes one, TYPE:NAME, got 'triage'"),
        (["--acls", "--strimzi", "My Kafka"], "expected a name that Kubernetes takes, got 'My Kafka'"),
    ],
)
def test_what_makes_no_sense_is_refused(options: list[str], problem: str, antiphon: Antiphon, support: Path) -> None:
    """Before anything is printed."""
    ran = antiphon("topology", "support", *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {problem}")
