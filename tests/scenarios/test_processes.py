"""`antiphon run --processes`, as it is deployed: real processes on a broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from antiphon import Event, Mesh
from antiphon.bus.kafka.tether import free_port
from antiphon.bus.settings import Settings
from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka

AGENT = """\
import os

from antiphon import Event, agent


class Asked(Event):
    n: int


class Answered(Event):
    n: int
    pid: int


@agent
async def answerer(asked: Asked) -> Answered:
    return Answered(n=asked.n, pid=os.getpid())
"""


class Asked(Event):
    n: int


class Answered(Event):
    n: int
    pid: int


class Deployed:
    """A running `antiphon run` with its log, and its endpoint's port."""

    def __init__(self, folder: Path, broker: str, namespace: str) -> None:
        (folder / "answers.py").write_text(AGENT)
        self._log = folder / "log"
        self.port = free_port()
        arguments = ["--processes", "2", "--instance", "w", "--metrics-port", str(self.port)]
        environment = {
            "ANTIPHON_BOOTSTRAP_SERVERS": broker,
            "ANTIPHON_NAMESPACE": namespace,
            "ANTIPHON_PARTITIONS": "4",
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "antiphon.cli", "run", "answers", *arguments],
                cwd=folder,
                env={**os.environ, **environment},
                stderr=log,
            )

    async def get(self, path: str) -> tuple[int, str]:
        def ask() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()
            except OSError:
                return 0, ""

        return await asyncio.to_thread(ask)

    async def are_ready(self) -> bool:
        """Say whether every process is ready and has partitions."""
        status, body = await self.get("/readyz")
        if status != 200:
            return False
        processes = json.loads(body)["processes"].values()
        return all(process["agents"]["answerer"]["partitions"] for process in processes)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    @property
    def processes(self) -> list[psutil.Process]:
        # In the order they were started in, which that of their ids is not where these have begun anew.
        return sorted(psutil.Process(self.process.pid).children(), key=psutil.Process.create_time)


@pytest.fixture
def deployed(kafka: str, namespace: str, tmp_path: Path) -> Iterator[Deployed]:
    deployed = Deployed(tmp_path, kafka, namespace)
    yield deployed
    with contextlib.suppress(ProcessLookupError):
        deployed.process.kill()
        deployed.process.wait()


async def test_two_processes_share_the_work(kafka: str, namespace: str, deployed: Deployed) -> None:
    """One is killed and comes again; every event is answered once; all of it is seen at one port, and in one log."""
    answers: list[Answered] = []
    settings = Settings(bootstrap_servers=kafka, namespace=namespace, partitions=4)
    async with Mesh(settings=settings) as mesh:

        async def ask(*numbers: int) -> None:
            asked = [mesh.request(Asked(n=n), until=Answered, timeout=60) for n in numbers]
            answers.extend(await asyncio.gather(*asked))

        await eventually(deployed.are_ready, 60, what="both to be ready")
        await ask(*range(20))
        both = {process.pid for process in deployed.processes}
        assert {answer.pid for answer in answers} == both

        _, figures = await deployed.get("/metrics")
        shares = [f'antiphon_partitions{{agent="answerer",instance="w-{number}"}} 4.0' for number in (0, 1)]
        assert [share for share in shares if share not in figures] == []
        assert figures.count("# TYPE antiphon_partitions gauge") == 1
        assert await deployed.get("/livez") == (200, "ok\n")

        killed = deployed.processes[1]
        killed.kill()
        await ask(*range(20, 30))
        await eventually(lambda: len({process.pid for process in deployed.processes} - both) == 1, what="another one")
        await eventually(deployed.are_ready, 60, what="both to be ready again")

    assert sorted(answer.n for answer in answers) == [*range(30)]
    deployed.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(deployed.process.wait, 60) == 0
    told = [
        line
        for line in deployed.lines
        if line["message"] == "a process has ended that nobody asked to; starting it again"
    ]
    assert [(line["instance"], line["ended_with"]) for line in told] == [("w-1", "SIGKILL")]
    assert {line["instance"] for line in deployed.lines if line["message"] == "ready"} == {"w-0", "w-1"}


def test_a_wrong_module_is_told_once(tmp_path: Path) -> None:
    """Not by each process, and at once."""
    ended = subprocess.run(
        [sys.executable, "-m", "antiphon.cli", "run", "answers", "--processes", "3"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert (ended.returncode, ended.stderr.count("error: ")) == (2, 1), ended.stderr
