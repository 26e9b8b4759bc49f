"""The commands that talk to a broker, on the embedded one, with a worker as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Antiphon, Ran
from tests.cli.process import Process

pytestmark = pytest.mark.embedded

TICKET = '{"ticket_id": "7", "body": "refund?"}'


@pytest.fixture
def mesh(antiphon: Antiphon, corner: None) -> Antiphon:
    """Return what runs a command against this test's corner of the embedded broker."""
    return antiphon


@pytest.fixture
def worker(mesh: Antiphon, support: Path) -> Iterator[Process]:
    """Run the one agent, until the test is over."""
    process = Process("run", "support", cwd=support.parent)
    try:
        process.wait_for('"ready"')
        yield process
    finally:
        process.clean_up()


def ticket(mesh: Antiphon) -> str:
    """Publish one ticket and wait until it has been answered; return the workflow's id."""
    ran = mesh("publish", "ticket.opened", "--data", TICKET, "--json")
    assert ran.code == 0, ran.err
    id = str(orjson.loads(ran.out)["correlation_id"])
    assert mesh("trace", id, "--follow", "--json").code == 0
    return id


def test_an_event_is_published_followed_and_told(mesh: Antiphon, worker: Process) -> None:
    """publish, trace, tail, topology and doctor, on one workflow."""
    id = ticket(mesh)

    document = orjson.loads(mesh("trace", id[:18], "--json").out)
    assert (document["correlation_id"], document["state"]) == (id, "completed")
    assert [event["type"] for event in document["events"]] == ["ticket.opened", "ticket.triaged"]

    tailed = mesh("tail", "--from-beginning", "--limit", "2", "--json").out.splitlines()
    assert [orjson.loads(line) for line in tailed] == document["events"]

    assert mesh("topology").out == "triage 0\n  hears  ticket.opened\n  says   ticket.triaged\n"
    checks = {check["name"]: check["status"] for check in orjson.loads(mesh("doctor", "--json").out)["checks"]}
    assert set(checks.values()) == {"ok"}
    assert mesh("topics", "plan").code == 0


def test_a_worker_is_seen_from_outside(mesh: Antiphon, support: Path) -> None:
    """It says that it is ready, and counts; its port is named where another has it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = Process("run", "support", "--metrics-port", str(port), cwd=support.parent)
    try:
        process.wait_for('"ready"')
        ticket(mesh)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            assert orjson.loads(answer.read())["agents"]["triage"]["state"] == "ready"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b'antiphon_deliveries_total{agent="triage",outcome="completed"} 1.0' in answer.read().splitlines()

        code, _, err = mesh("run", "support", "--metrics-port", str(port))
        assert code != 0
        assert f"expected metrics_port to be a free port of this machine, got '{port} on 127.0.0.1'" in err
        assert process.end() == 0
    finally:
        process.clean_up()


def test_trace_draws(mesh: Antiphon, worker: Process) -> None:
    """As a tree, with data, as Mermaid, for Perfetto."""
    id = ticket(mesh)

    tree = mesh("trace", id).out
    assert tree.startswith("ticket.opened")
    assert "triage" in tree
    assert '"queue"' in mesh("trace", id, "--payloads").out
    drawn = mesh("trace", id, "--mermaid").out.splitlines()
    assert drawn[:3] == ["flowchart TD", '    e0["ticket.opened"]', '    e1["ticket.triaged"]']
    assert re.fullmatch(r'    e0 -->\|"triage \d+(\.\d+)? ms"\| e1', drawn[3])
    slices = [entry for entry in orjson.loads(mesh("trace", id, "--perfetto").out)["traceEvents"] if entry["ph"] == "X"]
    assert [(entry["name"], entry["cat"]) for entry in slices] == [("ticket.opened", "completed")]


def test_publish_waits_for_an_answer(mesh: Antiphon, worker: Process) -> None:
    """... or says that none came, and where to look."""
    code, out, _ = mesh("publish", "ticket.opened", "--data", TICKET, "--wait", "ticket.triaged", "--json")
    answer = orjson.loads(out)
    assert (code, answer["type"], answer["data"]) == (0, "ticket.triaged", {"ticket_id": "7", "queue": "billing"})

    worker.end()
    code, out, err = mesh("publish", "ticket.opened", "--data", TICKET, "--wait", "ticket.triaged", "--timeout", "0.2")
    assert (code, out) == (1, "")
    assert err.startswith("error: expected ticket.triaged within 0.2 s, got none in workflow ")
    assert "antiphon trace " in err


def test_publish_takes_a_file_up_to_the_first_wrong_line(mesh: Antiphon, worker: Process, folder: Path) -> None:
    """What went before has been published, and was said."""
    (folder / "tickets.jsonl").write_text(f'{TICKET}\n{TICKET}\n{{"ticket_id": 9}}\n{TICKET}\n')

    code, out, err = mesh("publish", "ticket.opened", "--file", "tickets.jsonl", "--json")

    assert (code, len(out.splitlines())) == (2, 2)
    assert err.startswith("error: tickets.jsonl, line 3 does not fit ticket.opened\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["publish", "ticket.opned", "--data", TICKET],
            "no event type 'ticket.opned' on {broker}\n  did you mean ticket.opened?",
        ),
        (["publish", "ticket.opened", "--data", TICKET, "--wait", "ticket.triagd"], "did you mean ticket.triaged?"),
        (["tail", "ticket.opned"], "no event type 'ticket.opned' on {broker}\n  did you mean ticket.opened?"),
        (["tail", "--since", "soon"], "expected --since to be a duration or an ISO 8601 time, got 'soon'"),
    ],
)
def test_unknown_names_suggest_near_ones(
    mesh: Antiphon, worker: Process, embedded: str, argv: list[str], said: str
) -> None:
    """The types are those that agents made known."""
    code, out, err = mesh(*argv)

    assert (code, out) == (2, "")
    assert said.format(broker=embedded) in err


def test_an_unknown_workflow_is_an_answer(mesh: Antiphon, worker: Process) -> None:
    """Exit code 1: the question was fine."""
    code, out, err = mesh("trace", "0000000000")

    assert (code, out) == (1, "")
    assert err.startswith("error: no workflow '0000000000' on ")


def test_the_beginning_of_two_ids_lists_them(mesh: Antiphon, worker: Process) -> None:
    """As git does."""
    ids = [ticket(mesh), ticket(mesh)]

    code, _, err = mesh("trace", ids[0][:3])

    assert code == 2
    assert [id for id in ids if id not in err] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_drains_when_told_to(worker: Process, number: signal.Signals) -> None:
    """... and says so."""
    assert worker.end(number) == 0
    worker.wait_for('"stopped"')


def test_a_second_signal_ends_a_worker_at_once(mesh: Antiphon, support: Path) -> None:
    """Whoever presses Ctrl-C twice means it."""
    support.write_text(
        "import asyncio\n"
        + support.read_text().replace(
            "    return ", "    print('busy', flush=True)\n    await asyncio.sleep(600)\n    return "
        )
    )
    process = Process("run", "support", cwd=support.parent)
    try:
        process.wait_for('"ready"')
        assert mesh("publish", "ticket.opened", "--data", TICKET).code == 0
        assert process.process.stdout is not None
        assert process.process.stdout.readline() == b"busy\n"
        process.process.send_signal(signal.SIGINT)
        process.wait_for("stopping")
        started = time.monotonic()
        assert process.end(signal.SIGINT) == 130
        assert time.monotonic() - started < 2
    finally:
        process.clean_up()


def test_a_grace_period_that_is_not_enough_is_an_answer(mesh: Antiphon, support: Path) -> None:
    """What was in hand is handed out again; the exit code says that there was something."""
    support.write_text(
        "import asyncio\n"
        + support.read_text().replace(
            "    return ", "    print('busy', flush=True)\n    await asyncio.sleep(600)\n    return "
        )
    )
    process = Process("run", "support", "--grace", "0.1", cwd=support.parent)
    try:
        process.wait_for('"ready"')
        assert mesh("publish", "ticket.opened", "--data", TICKET).code == 0
        assert process.process.stdout is not None
        assert process.process.stdout.readline() == b"busy\n"
        assert process.end() == 1
        process.wait_for("what was not finished is handed out again")
    finally:
        process.clean_up()


def test_topics_are_planned_and_made(mesh: Antiphon, support: Path) -> None:
    """A plan changes nothing; applying it makes the plan empty."""
    planned = mesh("topics", "plan", "support", "--json")
    made = mesh("topics", "apply", "support", "--json")
    again = mesh("topics", "plan", "support", "--json")

    assert (planned.code, made.code, again.code) == (1, 0, 0)
    names = [topic["topic"].partition(".")[2] for topic in orjson.loads(planned.out)["create"]]
    assert names == [
        "antiphon.activity",
        "antiphon.agents",
        "antiphon.schemas",
        "ticket.opened",
        "ticket.triaged",
        "triage.dead",
        "triage.redrive",
        "triage.state",
    ]
    assert orjson.loads(made.out)["made"] == orjson.loads(again.out)["fine"]


def test_a_topic_with_another_partition_count_is_refused(mesh: Antiphon, support: Path) -> None:
    """By a worker, by a plan, by the doctor; none of them changes it."""
    assert mesh("topics", "apply", "support").code == 0
    support.with_name("more.py").write_text(support.read_text().replace("Ticket", "Order").replace("triage", "orders"))
    assert mesh("topics", "apply", "more", "--partitions", "3").code == 1

    process = Process("run", "more", cwd=support.parent)
    try:
        assert process.process.wait(30) == 1
        process.wait_for("error: expected topic")
    finally:
        process.clean_up()
    assert mesh("topics", "plan", "more").code == 1


def test_looking_changes_nothing(mesh: Antiphon) -> None:
    """A doctor that leaves topics behind is no doctor."""
    mesh("doctor")
    mesh("tail", "--until", "1s", "--from-beginning")

    created = [topic["topic"] for topic in orjson.loads(mesh("topics", "plan", "--json").out)["create"]]
    assert len(created) == 3


def unreachable(ran: Ran, address: str) -> None:
    assert (ran.code, ran.out) == (3, "")
    # Whatever a broker that other tests share has to say of their workers may stand before it.
    assert any(line.startswith(f"error: no broker at {address} (") for line in ran.err.splitlines())
    assert "address from: --bootstrap-servers" in ran.err
    assert "antiphon dev" in ran.err


@pytest.mark.parametrize("argv", [["run", "support"], ["trace", "0199f2c1"]])
def test_no_broker_is_said_within_seconds(antiphon: Antiphon, support: Path, argv: list[str]) -> None:
    """With where the address came from, and what to do."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        unreachable(antiphon(*argv, "-b", address), address)


def test_something_else_at_the_port_is_said_within_seconds(antiphon: Antiphon) -> None:
    """A web server, say: it answers, but it is no broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        stop = threading.Event()

        def answer() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            unreachable(antiphon("tail", "-b", address), address)
        finally:
            stop.set()
            thread.join()


def test_the_doctor_says_that_there_is_no_broker(antiphon: Antiphon) -> None:
    """That is what it is for: on stdout, with exit code 3."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        code, out, _ = antiphon("doctor", "-b", f"127.0.0.1:{nobody.getsockname()[1]}", "--json")

    assert code == 3
    checks = {check["name"]: check["status"] for check in orjson.loads(out)["checks"]}
    assert checks == {"settings": "ok", "broker": "failed"}


def test_dev_is_there_until_interrupted(antiphon: Antiphon, folder: Path) -> None:
    """It prints what to export, and leaves nothing behind."""
    process = Process("dev", "--port", "0", cwd=folder)
    try:
        ready = process.wait_for("ready on ")
        address = ready.split()[2].rstrip(",")
        assert antiphon("topics", "plan", "-b", address).code == 0
        assert process.end(signal.SIGINT) == 0
        assert process.process.stdout is not None
        assert process.process.stdout.read().decode() == (
            f"export ANTIPHON_BOOTSTRAP_SERVERS={address}\nexport ANTIPHON_PARTITIONS=4\n"
        )
        assert antiphon("topics", "plan", "-b", address).code == 3
    finally:
        process.clean_up()


def test_a_worker_that_has_no_partitions_says_so(
    mesh: Antiphon, support: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ready to take over, and whoever waits for it to handle something knows why it does not."""
    monkeypatch.setenv("ANTIPHON_PARTITIONS", "1")
    monkeypatch.setenv("ANTIPHON_SESSION_TIMEOUT", "6")
    # A group gives its first partition to the first by name.
    first = Process("run", "support", "--instance", "a", cwd=support.parent)
    second = None
    try:
        first.wait_for("partitions assigned")
        second = Process("run", "support", "--instance", "b", cwd=support.parent)
        assert orjson.loads(second.wait_for('"ready"'))["standing_by"] == "no partitions so far: triage"
        assert "standing_by" not in orjson.loads(first.wait_for('"ready"'))
    finally:
        first.clean_up()
        if second is not None:
            second.clean_up()


def test_reload_starts_again_when_a_file_changes(mesh: Antiphon, support: Path) -> None:
    """Save, and the new code runs."""
    process = Process("run", "support", "--reload", cwd=support.parent)
    try:
        process.wait_for('"ready"')
        support.write_text(support.read_text().replace('"billing"', '"sales"'))
        os.utime(support)
        process.wait_for("changed: support.py; starting again")
        process.wait_for('"stopped"')
        answer = mesh("publish", "ticket.opened", "--data", TICKET, "--wait", "ticket.triaged").out
        assert '"queue":"sales"' in answer
        assert process.end() == 0
    finally:
        process.clean_up()
