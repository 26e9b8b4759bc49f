"""Entries of the activity record: what is written by hand is what fastavro reads under the record's own schema."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.bus import entry
from antiphon.bus.activity import Activity, Emitted, Failure, Handled, Logged, Spent
from antiphon.bus.delivery import Usage
from antiphon.schemas import binary
from antiphon.schemas.avro import schema_of

texts = st.text(max_size=40)
longs = st.integers(-(2**63), 2**63 - 1)
values = st.none() | st.binary(max_size=200)
spent = st.builds(
    Spent,
    model=texts,
    input_tokens=longs,
    output_tokens=longs,
    cost=st.floats(allow_nan=False),
    currency=texts,
    started_us=st.none() | longs,
    duration_us=st.none() | longs,
)
handled = st.builds(
    Handled,
    event_id=texts,
    event_type=texts,
    correlation_id=texts,
    key=st.none() | texts,
    topic=texts,
    partition=longs,
    offset=longs,
    attempt=longs,
    outcome=texts,
    started_us=longs,
    duration_us=longs,
    queue_us=longs,
    emitted=st.lists(
        st.builds(Emitted, id=texts, type=texts, fails=st.booleans(), undo=values, told=values),
        max_size=3,
    ),
    causes=st.lists(texts, max_size=3),
    error=st.none() | st.builds(Failure, type=texts, message=texts, traceback=texts),
    usage=st.lists(spent, max_size=3),
    confidence=st.none() | st.floats(allow_nan=False),
    deadline_us=st.none() | longs,
    effects=st.dictionaries(texts, st.binary(max_size=20), max_size=3),
    changed=st.booleans(),
    logs=st.lists(st.builds(Logged, time_us=longs, level=texts, message=texts, fields=texts), max_size=3),
)
SCHEMA, _ = binary.parse(schema_of(Activity))


def written(delivery: Handled) -> bytes:
    """Write *delivery* as a worker does."""
    fields: dict[str, Any] = dict(delivery)
    fields["emitted"] = [entry.emitted(e.id, e.type, e.fails, e.undo, e.told) for e in delivery.emitted]
    fields["usage"] = [
        Usage(
            model=call.model,
            input_tokens=call.input_tokens,
            output_tokens=call.output_tokens,
            cost=call.cost,
            currency=call.currency,
            started_us=call.started_us,
            duration_us=call.duration_us,
        )
        for call in delivery.usage
    ]
    fields["logs"] = [entry.logged(line.time_us, line.level, line.message, line.fields) for line in delivery.logs]
    if delivery.error is not None:
        fields["error"] = entry.failure(delivery.error.type, delivery.error.message, delivery.error.traceback)
    more = ("causes", "error", "usage", "confidence", "deadline_us", "effects", "changed", "logs")
    rest = entry.rest(**{name: fields.pop(name) for name in more})
    return entry.handled(**fields, rest=rest)


@settings(deadline=None)
@given(st.lists(handled, max_size=4), st.lists(st.text(max_size=9), max_size=3))
def test_what_is_written_by_hand_is_avro_of_the_records_schema(deliveries: list[Handled], failing: list[str]) -> None:
    """Every field, every union's branch, every length of number."""
    value = entry.activity("stock", "1.2.0", "stock-1", failing, [written(delivery) for delivery in deliveries])
    stream = BytesIO(value)
    read = Activity.model_validate(binary.read(stream, SCHEMA, None))
    assert (read, stream.read()) == (
        Activity(agent="stock", version="1.2.0", instance="stock-1", failing=failing, deliveries=deliveries),
        b"",
    )
