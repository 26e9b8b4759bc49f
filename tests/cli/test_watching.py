"""A tracer's endpoint: what it answers, and that the reference lists what it exports."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from antiphon import Agent, Context, Event
from antiphon.bus.heartbeat import AgentSeen, InFlight
from antiphon.cli.watching import Watching, of_workers
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.writing import Writer
from antiphon.tracing.otlp.exporting import Exported
from antiphon.tracing.tracer import Tracer

NOW_US = 1_795_341_600_000_000
PAGE = Path(__file__).parents[2] / "docs/reference/tracer.md"


class Asked(Event):
    text: str


answer = Agent("answer", version="3")


@answer.on(Asked)
async def say(asked: Asked, context: Context) -> None:
    context.spend(model="m-1", cost=0.5)
    context.confidence(0.25)


def got(url: str) -> tuple[int, bytes]:
    """What the endpoint answers."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def test_what_it_answers_and_that_the_table_lists_it(tmp_path: Path) -> None:
    """Not ready before it has caught up; then all that the table names, with these labels, and nothing else."""
    path = tmp_path / "index"
    mesh = MemoryMesh()
    database = Sqlite(path, writes=True)
    async with mesh.running(answer):
        await mesh.publish(Asked(text="?"))
        await eventually(mesh.handled, 30, what="it to be answered")
        tracer = Tracer(mesh.bus, mesh.names, mesh.codec, Writer(database))
        watching = Watching(tracer.counts, path, host="127.0.0.1", port=0, exported=Exported())
        async with watching as endpoint:
            assert got(f"{endpoint.url}/livez") == (200, b"ok\n")
            assert got(f"{endpoint.url}/readyz")[0] == 503
            await tracer.catch_up()
            database.run("INSERT INTO names VALUES (901, 'a/1'), (902, 'b/1')")
            database.run("INSERT INTO clocks VALUES (901, 902, 900000, -5000000)")
            status, body = got(f"{endpoint.url}/readyz")
            assert (status, orjson.loads(body)) == (200, {"ready": True, "behind": 0, "index": str(path)})
            text = got(f"{endpoint.url}/metrics")[1].decode()
    database.close()
    samples: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("antiphon_"):
                samples.setdefault(sample.name, []).append((family.type, sample.labels, sample.value))
    rows = re.findall(r"^\| `(antiphon_\w+)` \| (\w+) \|([^|]*)\|", PAGE.read_text(), flags=re.MULTILINE)
    assert {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows} == {
        (name, kind, tuple(sorted(labels))) for name, found in samples.items() for kind, labels, _ in found
    }
    assert samples["antiphon_cost_of_last_day"] == [("gauge", {"agent": "answer", "currency": "USD"}, 0.5)]
    assert samples["antiphon_clock_ahead_seconds"] == [("gauge", {"producer": "b/1"}, -5.0)]
    assert samples["antiphon_cost_by_model"] == [("gauge", {"currency": "USD", "model": "m-1"}, 0.5)]
    assert [value for _, labels, value in samples["antiphon_workflows"] if labels["state"] == "completed"] == [1]
    assert samples["antiphon_confidence_mean"] == [("gauge", {"agent": "answer", "version": "3"}, 0.25)]


def test_how_agents_stand_by_their_heartbeats() -> None:
    """Of workers that are up, together; one that is silent counts for nothing but that it is none."""

    def seen(instance: str, *, age_s: float, lag: int | None, since_s: list[float]) -> AgentSeen:
        in_flight = [InFlight(event_id="1", type="asked", since_us=NOW_US - int(one * 1e6)) for one in since_s]
        return AgentSeen(
            agent="answer",
            version="3",
            instance=instance,
            started_us=0,
            time_us=NOW_US - int(age_s * 1e6),
            interval_s=5,
            capacity=100,
            in_flight=in_flight,
            lag=lag,
        )

    workers = [
        seen("a", age_s=1, lag=7, since_s=[2.5, 41]),
        seen("b", age_s=2, lag=None, since_s=[3]),
        seen("c", age_s=60, lag=100, since_s=[900]),
    ]
    assert {family.name: [sample.value for sample in family.samples] for family in of_workers(workers, NOW_US)} == {
        "antiphon_workers": [2],
        "antiphon_agent_lag": [7],
        "antiphon_agent_in_flight": [3],
        "antiphon_agent_oldest_in_flight_seconds": [41],
    }
