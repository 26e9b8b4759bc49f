"""What a newer release keeps besides, in a rolling deployment: an older one reads past it, and leaves it where it stands."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest
from agency import VOYAGE, Agency, VoyagePaid, until
from hypothesis import given
from hypothesis import strategies as st
from test_kept import FULL
from voyage import ChargeCard, HotelReserved, TrainReserved, VoyagePlanned

from antiphon.bus.lock import LockFreed, LockWanted
from antiphon.bus.record import Outgoing
from antiphon.compensation.instance import Instance, Progress, Round, Said, Stage
from antiphon.compensation.kept import Kept, carry_through, kept
from antiphon.compensation.locks import Lock, Request, heard
from antiphon.compensation.runs import Runs
from antiphon.compensation.workflow import Phase
from antiphon.schemas.envelope import Envelope
from antiphon.testing.delivery import MemoryState

Json = dict[str, Any]
ANYTHING = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.integers(0, 9), max_size=2)
)
BESIDES = st.dictionaries(st.sampled_from(["since 2.0", "mood"]), ANYTHING | st.dictionaries(st.just("x"), ANYTHING))

RUN = Instance(
    "1",
    Said("s", VoyagePlanned(to="A")),
    steps={
        "train": Progress(Stage.DONE, "c1", ("s",), 1, 1, Said("t", TrainReserved(seat="1")), answered=True),
        "hotel": Progress(
            Stage.RUNNING,
            "c3",
            ("s",),
            3,
            2,
            rounds=(Round("c2", Said("h", HotelReserved(room="7"))), Round("c4", None)),
            heard=("h",),
            unknown=True,
            unsure=True,
            below="c2",
            failed=("f",),
            problem="p",
        ),
        "card": Progress(Stage.RESTING),
    },
    reason="r",
)
WAITING = (
    Request("e", "w", "card", 1, "c", "card.charge", None, "", 0, {"tenant": "t"}),
    Request("f", "x", "card", 2, "d", "card.charge", "k", "", 0, {}),
)
LOCK = Lock("v", 1, ("d",), WAITING)


def parts_of_a_run(run: Json) -> Iterator[Json]:
    """Yield whatever in it has fields, the data of events too: their classes have releases as well."""
    steps = run["steps"].values()
    rounds = [one for step in steps for one in step.get("rounds", ())]
    said = [run["start"], *(part["answer"] for part in (*steps, *rounds) if "answer" in part)]
    yield from (run, run["inherited"], *steps, *rounds, *said, *(one["data"] for one in said))


def parts_of_a_workflow(said: Json) -> Iterator[Json]:
    workflow = said["workflow"]
    yield from (said, workflow, workflow["failure"])
    for name in ("scopes", "events", "wants", "effects"):
        yield from workflow[name].values()


def parts_of_a_lock(lock: Json) -> Iterator[Json]:
    yield lock
    for request in lock["waiting"]:
        yield from (request, request["inherited"])


def run_again(said: Json) -> Json:
    state = MemoryState()
    state.mapping("w")["s"] = said
    runs = Runs(VOYAGE, state, now_us=5)
    runs.write("w", runs.read(runs.of("w")["s"]))
    return json(runs.of("w")["s"])


def workflow_again(said: Json) -> Json:
    written = kept(said).written()
    carry_through(said, written)
    return json(written)


def lock_again(said: Json) -> Json:
    """A request that nobody knows is freed: nothing changes."""
    heard(LockFreed(entity="o", requests=["nobody's"]), envelope("z"), said, 3)
    return json(said)


def json(said: Mapping[str, Any]) -> Json:
    again: Json = orjson.loads(orjson.dumps(said))
    return again


def envelope(id: str) -> Envelope:
    return Envelope.root("any", source="/test", id=id, correlation_id=id)


def written_run() -> Json:
    state = MemoryState()
    runs = Runs(VOYAGE, state, now_us=5)
    runs.write("w", RUN, start=envelope("s"))
    return json(runs.of("w")["s"])


SHAPES: dict[str, tuple[Json, Callable[[Json], Iterator[Json]], Callable[[Json], Json]]] = {
    "a run": (written_run(), parts_of_a_run, run_again),
    "a workflow": (json(Kept(FULL, 3, 4).written()), parts_of_a_workflow, workflow_again),
    "a lock": (json(LOCK._asdict() | {"waiting": [one._asdict() for one in WAITING]}), parts_of_a_lock, lock_again),
}


@pytest.mark.parametrize("shape", SHAPES)
@given(data=st.data())
def test_what_is_read_and_written_back_keeps_all_that_stood_there(shape: str, data: st.DataObject) -> None:
    """Whatever a newer release says besides, in whichever part of it."""
    plain, parts, again = SHAPES[shape]
    newer = copy.deepcopy(plain)
    for part in [*parts(newer)]:
        part.update(data.draw(BESIDES))
    assert again(copy.deepcopy(newer)) == newer


def test_a_lock_that_goes_on_keeps_what_stands_beside_it() -> None:
    """Who still waits has all that was said of it; of who was granted it, and of a lock that is free, nothing is left."""
    newer: Json = {**SHAPES["a lock"][0], "mood": 1}
    newer["waiting"] = [one | {"mood": one["id"]} for one in newer["waiting"]]
    [granted] = heard(LockFreed(entity="o", requests=["d"]), envelope("z"), newer, 3)
    assert (granted.request.id, newer["holder"], newer["mood"]) == ("e", "w", 1)
    assert [one["mood"] for one in newer["waiting"]] == ["f"]
    wanted = LockWanted(entity="o", agent="a", event_id="i", event_type="t", event_key=None, value=b"")
    heard(wanted, envelope("y"), newer, 4)
    assert [(one["id"], one.get("mood")) for one in newer["waiting"]] == [("f", "f"), ("y", None)]
    heard(LockFreed(entity="o", requests=["f", "y"], withdrawn=True), envelope("z"), newer, 5)
    heard(LockFreed(entity="o", requests=["e"]), envelope("z"), newer, 6)
    assert newer == {}


async def test_a_saga_goes_on_with_what_a_newer_release_keeps_besides() -> None:
    """Of the start, whose class has a field more there, and of steps and answers: it is done by the older one, and nothing is lost."""
    agency = Agency()
    topic = agency.names.state("voyage")
    async with agency.running(*agency.crew("train", "hotel")):
        workflow = await agency.plan()
        await agency.eventually(ChargeCard, count=1)
    record = [one for one in await agency.records("voyage.state") if one.key == workflow.encode()][-1]
    [(id, run)] = orjson.loads(record.value or b"").items()
    newer = copy.deepcopy(run)
    for part in [*parts_of_a_run(newer)]:
        part["since 2.0"] = len(part)
    await agency.bus.publish([Outgoing(topic, record.key, orjson.dumps({id: newer}), record.headers)])
    async with agency.running(*agency.crew()):
        await agency.eventually(VoyagePaid, count=1)
        await until(agency, Phase.COMPLETED)
    record = [one for one in await agency.records("voyage.state") if one.key == workflow.encode()][-1]
    after = orjson.loads(record.value or b"")[id]
    assert after["phase"] == "completed"
    for name in ("start", "since 2.0", "inherited"):
        assert after[name] == newer[name]
    for name in ("train", "hotel"):
        assert after["steps"][name] == newer["steps"][name]
    assert after["steps"]["card"]["since 2.0"] == newer["steps"]["card"]["since 2.0"]
