"""Log lines that travel in activity: the newest, up to so many bytes, without what is not to be shown; and the wire beside them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from antiphon import Agent, Context, Event, PermanentError
from antiphon.bus import entry
from antiphon.bus.activity import Activity, Emitted, Failure, Handled, Logged, Spent
from antiphon.bus.kept_log import KeptLog, LogKeeping
from antiphon.bus.pressure import Bounds
from antiphon.schemas.codec import Codec
from antiphon.schemas.generate import class_from_schema
from antiphon.schemas.redaction import MASK, REDACT
from antiphon.schemas.store import MemoryStore
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing.reading import read_workflow

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "activity.json").read_text())


class Card(BaseModel):
    number: Annotated[str, REDACT]


class CardWanted(Event):
    order: str
    email: Annotated[str, REDACT] = ""
    card: Card | None = None
    codes: Annotated[list[int], REDACT] = []


class CardCharged(Event):
    order: str


card = Agent("card")


@card.on(CardWanted)
async def charge(wanted: CardWanted, context: Context) -> CardCharged:
    context.log.debug("asking", order=wanted.order)
    context.log.info("charging", order=wanted.order, email=wanted.email, to=f"<{wanted.email}>")
    logging.getLogger("bank.client").warning("slow answer for %s", wanted.card and wanted.card.number)
    if wanted.order == "bad":
        context.log.error("no such card", card=wanted.card)
        raise PermanentError("no such card")
    return CardCharged(order=wanted.order)


@pytest.fixture(autouse=True)
def keeping() -> Iterator[None]:
    """What `antiphon run` does where lines are kept."""
    handler = LogKeeping(logging.INFO)
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)
    structlog.reset_defaults()


async def handled(order: str, room: int) -> Any:
    """The delivery of one event, as a trace has it."""
    mesh = MemoryMesh()
    event = CardWanted(order=order, email="me@example.org", card=Card(number="4111"), codes=[77])
    async with mesh.running(card, bounds=Bounds(activity_logs=room)):
        [published] = await mesh.publisher.publish([event])

        async def is_handled() -> bool:
            found = await read_workflow(mesh.bus, mesh.names, mesh.codec, published.correlation_id)
            return found is not None and len(found.deliveries) > 0

        await eventually(is_handled, 30, what="the event to be handled")
    workflow = await read_workflow(mesh.bus, mesh.names, mesh.codec, published.correlation_id)
    assert workflow is not None
    return workflow.document()["deliveries"][0]


def lines(delivery: Any) -> list[tuple[str, str, Any]]:
    return [(line["level"], line["message"], line["fields"]) for line in delivery["logs"]]


async def test_a_deliverys_lines_are_in_its_record() -> None:
    """What is marked is masked, by name and by value; debug lines stay behind; by default none is kept."""
    expected = [
        ("info", "charging", {"order": "7", "email": MASK, "to": f"<{MASK}>"}),
        ("warning", f"slow answer for {MASK}", {"logger": "bank.client"}),
    ]
    assert lines(await handled("7", 4_096)) == expected
    assert lines(await handled("7", 0)) == []
    failed = await handled("bad", 4_096)
    assert (failed["outcome"], [line[1] for line in lines(failed)][-1]) == ("dead_lettered", "no such card")
    assert "4111" not in str(failed["logs"])


def test_the_newest_stay() -> None:
    """Up to the bytes there are; how many went is said; one that is too long is cut; a number that is marked is no secret kept."""
    kept = KeptLog(200, CardWanted(order="7", codes=[4_711]))
    for n in range(50):
        kept.add("info", f"line {n}", {"code": 4_711, "n": [n, {"deep": "4711!"}]})
    assert sum(map(len, kept.lines()[1:])) <= 200
    told = [line.decode("latin-1") for line in kept.lines()]
    assert "earlier lines were not kept" in told[0]
    assert "line 49" in told[-1]
    assert "4711" not in "".join(told)
    kept.add("exception", "x" * 10_000, {})
    assert len(kept.lines()[-1]) <= 200


@settings(deadline=None)
@given(
    secret=st.text(min_size=1, max_size=9),
    message=st.text(max_size=30),
    value=st.recursive(st.none() | st.text(max_size=9) | st.integers(), lambda below: st.lists(below, max_size=2)),
)
def test_a_secret_is_in_no_line(secret: str, message: str, value: Any) -> None:
    """Wherever the handler puts it, unless it is part of the mask itself."""
    kept = KeptLog(10_000, CardWanted(order="7", email=secret))
    kept.add(
        "info", message + secret, {"email": value, "beside": [value, secret, {"x": secret}], "last": f"<{secret}>"}
    )
    [line] = kept.lines()
    shown = line.decode("utf-8", "replace").replace(MASK, "")
    marker = json.dumps(secret)[1:-1]
    if len(secret) > 3 and secret.isalnum():
        assert secret not in shown
        assert marker not in shown


WRITTEN = Activity(
    agent="stock",
    version="1.2.0",
    instance="stock-1",
    failing=["card.declined"],
    deliveries=[
        Handled(
            event_id="0199f2c1-0000-7000-8000-000000000000",
            event_type="order.placed",
            correlation_id="0199f2c1-0000-7000-8000-000000000000",
            topic="order.placed",
            partition=3,
            offset=41,
            attempt=2,
            outcome="retried",
            started_us=1_795_341_600_000_123,
            duration_us=4_500,
            queue_us=123,
            emitted=[Emitted(id="0199f2c1-0000-8000-8000-000000000001", type="stock.reserved", undo=b"value")],
            causes=["c1"],
            error=Failure(type="TimeoutError", message="no answer", traceback="..."),
            usage=[Spent(model="m-1", input_tokens=10, output_tokens=2, cost=0.25, currency="EUR")],
            confidence=0.75,
            deadline_us=1_795_341_700_000_000,
            effects={"charge": b'"id"'},
            changed=True,
        )
    ],
)


def test_records_from_before_are_read() -> None:
    """Byte for byte as a worker wrote them that knew of no lines."""
    codec, value = Codec(MemoryStore()), bytes.fromhex(GOLDEN["value"])
    codec.know(value[2:10], GOLDEN["schema"])
    assert codec.decode(Activity, value) == WRITTEN


async def test_whoever_knows_of_no_lines_reads_records_with_some() -> None:
    """By Avro's rules what is new is passed over."""
    codec = Codec(MemoryStore())
    await codec.announce([Activity])
    said = Logged(time_us=1, level="info", message="charging", fields="{}")
    handled = WRITTEN.deliveries[0].model_copy(update={"logs": [said]})
    value = codec.encode(WRITTEN.model_copy(update={"deliveries": [handled]}))
    await codec.learn(value[2:10])
    old = codec.decode(class_from_schema(GOLDEN["schema"]), value)
    told = old.model_dump()["deliveries"][0]
    assert ("logs" in told, told["event_id"], told["changed"]) == (False, handled.event_id, True)
    assert codec.decode(Activity, value).deliveries[0].logs == [said]
    assert entry.logged(1, "info", "charging", "{}") in value
