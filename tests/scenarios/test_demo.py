"""The main job: `antiphon demo` as a newcomer runs it, on real input, with real processes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson
import psutil
import pytest
from confluent_kafka.admin import AdminClient

pytestmark = pytest.mark.embedded

_MARK = "ANTIPHON_TEST_RUN"
_AT_MOST_S = 90.0


class Demo:
    """A running `antiphon demo`, and every process it started."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "antiphon.cli", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, _MARK: self.mark},
        )
        self._said: dict[str, list[str]] = {"out": [], "err": []}
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=("out", self.process.stdout), daemon=True),
            threading.Thread(target=self._read, args=("err", self.process.stderr), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._said[name].append(line)
                    self._changed.notify_all()

    @property
    def out(self) -> str:
        return "".join(self._said["out"])

    @property
    def err(self) -> str:
        return "".join(self._said["err"])

    def until(self, text: str) -> None:
        """Wait until *text* has been said, on either stream."""
        with self._changed:
            said = self._changed.wait_for(lambda: text in self.out or text in self.err, _AT_MOST_S)
        assert said, f"{text!r} was never said; {self.out}{self.err}"

    def end(self, timeout_s: float = _AT_MOST_S) -> int:
        """Wait for the end, and return the exit code."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join()
        return code

    def running(self) -> list[psutil.Process]:
        """Return what this run started and still runs."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def leaves_nothing(self, within_s: float = 2.0) -> bool:
        """Say whether everything it started is gone, at the latest after *within_s*."""
        deadline = time.monotonic() + within_s
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.running() == []

    def document(self) -> dict[str, Any]:
        """Wait for the end of a run with --json, and return what it printed."""
        code = self.end()
        assert code == 0, self.err
        document: dict[str, Any] = orjson.loads(self.out)
        return document


@pytest.fixture
def started() -> Iterator[list[Demo]]:
    """Put every demo in here that a test starts; what still runs afterwards is ended."""
    demos: list[Demo] = []
    yield demos
    for demo in demos:
        demo.process.kill()
        demo.end()
        demo.leaves_nothing(10)


def start(started: list[Demo], *arguments: str, **environment: str) -> Demo:
    started.append(Demo(*arguments, **environment))
    return started[-1]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def check_whole_environment(document: dict[str, Any]) -> None:
    """Every distribution once, each with an end, and the catalogue as it should be."""
    rows, summary = document["packages"], document["summary"]
    here = {normalised(one.name): one.version for one in importlib.metadata.distributions()}
    assert {normalised(row["name"]): row["version"] for row in rows} == here
    assert len(rows) == len(here)
    ends = [row["outcome"] for row in rows]
    assert set(ends) <= {"approved", "refused", "review", "unreadable"}
    assert summary["outcomes"] == {
        end: ends.count(end) for end in ("approved", "refused", "review", "unreadable", "failed")
    }
    # orjson is a dependency of ours, and its licence is none that the policy allows.
    assert {row["name"]: row["outcome"] for row in rows}["orjson"] == "refused"
    assert summary["undone"] == summary["outcomes"]["refused"] > 0
    assert summary["left_behind"] == []
    assert summary["catalogue"] == {
        state: ends.count(end)
        for state, end in (("approved", "approved"), ("provisional", "review"))
        if ends.count(end)
    }
    assert summary["agreed"] >= 0.9 * summary["declared"] > 0
    assert document["workflow"]["state"] == "compensated"


def test_every_installed_distribution_comes_to_an_end(started: list[Demo]) -> None:
    """The rows are what importlib.metadata says; what was refused is gone from the catalogue; nothing is left running."""
    demo = start(started, "--json")
    check_whole_environment(demo.document())
    assert demo.leaves_nothing()


@pytest.mark.kafka
def test_it_runs_on_apache_kafka_and_leaves_the_cluster_as_it_was(started: list[Demo], kafka: str) -> None:
    """The same on any broker that is named; its topics go with it."""
    check_whole_environment(start(started, "--json", "-b", kafka).document())
    client: Any = AdminClient({"bootstrap.servers": kafka})
    groups = client.list_consumer_groups(request_timeout=10).result().valid
    names = [*client.list_topics(timeout=10).topics, *(group.group_id for group in groups)]
    assert [name for name in names if name.startswith("demo-")] == []


def test_two_at_once_do_not_disturb_each_other(started: list[Demo]) -> None:
    """Each has a broker, a namespace and a catalogue of its own."""
    one = start(started, "--json", "--only", "rich", "--only", "orjson")
    other = start(started, "--json", "--only", "orjson", "--only", "pydantic")
    assert [row["name"] for row in one.document()["packages"]] == ["orjson", "rich"]
    assert [row["name"] for row in other.document()["packages"]] == ["orjson", "pydantic"]


@pytest.mark.parametrize("moment", ["starting a broker", "agents", "submitting"])
def test_ctrl_c_ends_it(started: list[Demo], moment: str) -> None:
    """At any moment, long before it would have come to its own end, and nothing is left running."""
    demo = start(started, "--rate", "2")
    demo.until(moment)
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 130
    assert demo.leaves_nothing(0.5)
    assert "Traceback" not in demo.err


def test_a_service_manager_s_sigterm_ends_it_too(started: list[Demo]) -> None:
    """As Ctrl-C does."""
    demo = start(started, "--rate", "2")
    demo.until("submitting")
    demo.process.terminate()
    assert demo.end(10) == 130
    assert demo.leaves_nothing(0.5)


def test_nothing_outlives_a_killed_demo(started: list[Demo]) -> None:
    """`kill -9` gives it no chance to clean up; its processes end all the same."""
    demo = start(started, "--rate", "2")
    demo.until("submitting")
    demo.process.kill()
    demo.end()
    assert demo.leaves_nothing(5)


def test_an_unreadable_distribution_is_listed_and_the_rest_goes_on(started: list[Demo], tmp_path: Path) -> None:
    """One broken package must not hide the others."""
    broken = tmp_path / "broken_thing-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_bytes(b"Name: \xff\xfe\n")
    search = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    demo = start(started, "--json", "--only", "broken-thing", "--only", "rich", PYTHONPATH=search)
    rows = {row["name"]: row for row in demo.document()["packages"]}
    assert rows["broken_thing"]["outcome"] == "unreadable"
    assert rows["broken_thing"]["reason"].startswith("UnicodeDecodeError: ")
    assert rows["rich"]["outcome"] == "approved"


def test_a_person_gets_lines_a_summary_a_tree_and_what_to_try_next(started: list[Demo]) -> None:
    """In a pipe; the table of a terminal is drawn from the same rows."""
    demo = start(started, "--only", "rich", "--only", "orjson")
    assert demo.end() == 0, demo.err
    lines = demo.out.splitlines()
    for beginning in (
        "approved        rich",
        "refused         orjson",
        "undone          orjson",
        "2 packages in ",
        "licences: ",
        "undone: 1 of 1 refused; the catalogue holds 1 package (1 approved)",
        "package.submitted",
        "what to try next:",
    ):
        assert [line for line in lines if line.startswith(beginning)], (beginning, demo.out)


def test_with_keep_what_it_says_to_try_next_works(started: list[Demo]) -> None:
    """Broker and agents stay up until Ctrl-C, which is then how it is meant to end."""
    demo = start(started, "--keep", "--only", "orjson")
    demo.until("until Ctrl-C here")
    lines = [line.strip() for line in demo.out.rpartition("what to try next:")[2].splitlines()]
    exports = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("antiphon ")]
    assert [command[0] for command in commands] == ["trace", "tail", "topology"]
    for command in commands:
        limit = ["--limit", "1"] if command[0] == "tail" else []
        ran = subprocess.run(
            [sys.executable, "-m", "antiphon.cli", *command, *limit],
            env={**os.environ, **exports},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "package.refused" in ran.stdout, (command, ran.stdout, ran.stderr)
    demo.process.send_signal(signal.SIGINT)
    assert demo.end(10) == 0
    assert demo.leaves_nothing(0.5)


def test_an_agent_that_does_not_start_is_named_with_what_it_said_last(started: list[Demo], tmp_path: Path) -> None:
    """A wrong policy file, for one."""
    policy = tmp_path / "policy.toml"
    policy.write_text("confidence = 7\n")
    demo = start(started, "--only", "rich", INTAKE_POLICY=str(policy))
    assert demo.end() == 1
    assert "error: expected agent 'policy' to run, but it ended with exit code 2" in demo.err
    assert "less than or equal to 1" in demo.err
    assert "Traceback" not in demo.err
    assert demo.leaves_nothing()


def test_an_agent_that_dies_on_the_way_is_named(started: list[Demo]) -> None:
    """Rather than waiting for what it would have said."""
    demo = start(started, "--rate", "1")
    demo.until("submitting")
    agent = [sys.executable, "-m", "antiphon.cli", "run", "licence.py"]
    [licence] = [process for process in demo.running() if process.cmdline() == agent]
    licence.kill()
    assert demo.end(10) == 1
    assert "error: expected agent 'licence' to run, but it was killed by SIGKILL" in demo.err
    assert demo.leaves_nothing()


def test_no_broker_at_the_address_is_said_at_once(started: list[Demo]) -> None:
    """And nothing is started that would wait for it."""
    demo = start(started, "-b", "127.0.0.1:1")
    assert demo.end(20) == 3
    assert "no broker at 127.0.0.1:1" in demo.err


def test_a_package_that_is_not_installed_is_answered_with_near_names(started: list[Demo]) -> None:
    """Before anything is started."""
    demo = start(started, "--only", "pydantik")
    assert demo.end() == 2
    assert "did you mean pydantic" in demo.err
