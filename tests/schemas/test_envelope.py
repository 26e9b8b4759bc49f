import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.schemas.envelope import Envelope, format_time, from_headers, parse_time, to_headers
from antiphon.schemas.errors import NotAnEventError

TEXTS = st.text(min_size=1, max_size=20)
TIMES = st.integers(0, 4_102_444_800_000_000)
ENVELOPES = st.builds(
    Envelope,
    id=TEXTS,
    type=TEXTS,
    source=TEXTS,
    time_us=TIMES,
    correlation_id=TEXTS,
    parent_id=TEXTS,
    causes=st.lists(st.uuids().map(str), max_size=3).map(tuple),
    traceparent=st.none() | TEXTS,
    deadline_us=st.none() | TIMES,
    hops=st.integers(0, 1_000),
    budget=st.none() | TEXTS,
    tenant=st.none() | TEXTS,
    replay_of=st.none() | TEXTS,
)


@given(ENVELOPES)
def test_an_envelope_survives_its_headers(envelope: Envelope) -> None:
    """The key travels as the record's key; all else in headers."""
    key = envelope.correlation_id.encode()
    assert from_headers(to_headers(envelope), key=key, timestamp_ms=0) == envelope


def test_three_headers_are_an_event() -> None:
    """What CloudEvents requires is enough; the rest has defaults."""
    headers = [("ce_id", b"1"), ("ce_type", b"ticket.opened"), ("ce_source", b"/forms")]
    assert from_headers(headers, key=None, timestamp_ms=1_763_805_600_000) == Envelope(
        id="1", type="ticket.opened", source="/forms", time_us=1_763_805_600_000_000, correlation_id="1"
    )


def test_of_a_header_that_stands_twice_the_last_one_counts() -> None:
    """As Kafka's own lastHeader."""
    headers = [("ce_id", b"1"), ("ce_id", b"2"), ("ce_type", b"t"), ("ce_source", b"s"), ("ce_tenant", None)]
    assert from_headers(headers, key=None, timestamp_ms=0).id == "2"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], "got none: header ce_id is missing"),
        ([("ce_id", b"1"), ("ce_type", b"t")], "got ce_id, ce_type: header ce_source is missing"),
        ([("ce_id", b""), ("ce_type", b"t"), ("ce_source", b"s")], "must not be empty"),
        ([("ce_id", b"\xff"), ("ce_type", b"t"), ("ce_source", b"s")], "can't decode byte 0xff"),
        ([("ce_id", b"1"), ("ce_type", b"t"), ("ce_source", b"s"), ("ce_hops", b"two")], "invalid literal for int"),
        (
            [("ce_id", b"1"), ("ce_type", b"t"), ("ce_source", b"s"), ("ce_time", b"2026-01-01T00:00:00")],
            "expected a time with an offset from UTC",
        ),
    ],
)
def test_a_record_that_is_no_event_says_why(headers: list[tuple[str, bytes | None]], said: str) -> None:
    """It goes to the dead-letter topic with this text."""
    with pytest.raises(NotAnEventError) as wrong:
        from_headers(headers, key=None, timestamp_ms=0)
    assert said in str(wrong.value)


@given(TIMES)
def test_times_are_kept_to_the_microsecond(us: int) -> None:
    """RFC 3339 both ways."""
    assert parse_time(format_time(us)) == us
