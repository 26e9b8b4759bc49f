from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from antiphon.schemas.avro import schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.errors import RegistryError, UnknownSchemaError
from antiphon.schemas.event import Event
from antiphon.schemas.registry import RegistryStore
from antiphon.testing.registry import RegistryServer


class OrderPlaced(Event):
    order_id: str


class OrderShipped(Event, topic="orders"):
    order_id: str


Connect = Callable[..., RegistryStore]


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make stores that are closed when the test is over."""
    with ExitStack() as stack:

        def made(url: str, **options: Any) -> RegistryStore:
            store = RegistryStore(url, **options)
            stack.callback(store.close)
            return store

        yield made


async def test_values_carry_the_registry_s_id(registry: RegistryServer, connect: Connect) -> None:
    """A zero, four bytes of id, then Avro: what Confluent's own serializers write."""
    codec = Codec(connect(registry.url))
    await codec.announce([OrderPlaced], topic_of=lambda topic: f"staging.{topic}")

    assert codec.encode(OrderPlaced(order_id="7")) == b"\0\0\0\0\1\x027"
    assert registry.subjects == {"staging.order.placed-value": [1]}


async def test_a_reader_learns_an_id_once(registry: RegistryServer, connect: Connect) -> None:
    """Ids never change their meaning, so one request each is enough."""
    await Codec(connect(registry.url)).announce([OrderPlaced])
    store = connect(registry.url)
    reader = Codec(store)
    registry.requests.clear()

    with pytest.raises(UnknownSchemaError) as unknown:
        reader.decode(OrderPlaced, b"\0\0\0\0\1\x027")
    await reader.learn(unknown.value.reference)
    assert reader.decode(OrderPlaced, b"\0\0\0\0\1\x027") == OrderPlaced(order_id="7")

    await Codec(store).learn(1)
    assert len(registry.requests) == 1


async def test_publishing_again_is_not_asked_again(registry: RegistryServer, connect: Connect) -> None:
    """A thousand agents that start together ask once each."""
    store = connect(registry.url)
    references = [await store.publish("order.placed", schema_of(OrderPlaced)) for _ in range(3)]

    assert (references, len(registry.requests)) == ([1, 1, 1], 1)


async def test_an_id_nobody_gave_is_unknown(registry: RegistryServer, connect: Connect) -> None:
    """Written against another registry: not an error of this one."""
    store = connect(registry.url)

    assert (await store.fetch(17), await store.fetch(b"12345678")) == (None, None)
    with pytest.raises(UnknownSchemaError, match="got one with id 17: the store has none of that name"):
        await Codec(store).learn(17)


async def test_types_are_found_by_what_their_schemas_say(registry: RegistryServer, connect: Connect) -> None:
    """A type whose topic has another name is found all the same."""
    store = connect(registry.url, topic_of="staging.{}".format)
    await store.publish("staging.order.placed", schema_of(OrderPlaced))
    await store.publish("staging.orders", schema_of(OrderShipped))

    assert await store.types() == ["order.placed", "order.shipped"]
    assert await store.latest("order.placed") == schema_of(OrderPlaced)
    assert await store.latest("order.shipped") == schema_of(OrderShipped)
    assert await store.latest("order.lost") is None


async def test_an_incompatible_schema_is_refused(registry: RegistryServer, connect: Connect) -> None:
    """The registry's own words, and what to do."""
    store = connect(registry.url)
    await store.publish("order.placed", schema_of(OrderPlaced))

    class Placed(Event, type="order.placed"):
        order_id: str
        total: int

    Placed.__name__ = "OrderPlaced"
    with pytest.raises(RegistryError) as refused:
        await store.publish("order.placed", schema_of(Placed))
    text = str(refused.value)
    assert text.startswith(f"expected {registry.url} to take the new schema of 'order.placed-value', got a refusal, ")
    assert "total" in text
    assert text.endswith("Give new fields a default and keep the types of old ones, or register a new event type.")


async def test_a_registry_that_is_down_is_named(connect: Connect) -> None:
    """What was known before still works; what must be asked says who did not answer."""
    with RegistryServer() as registry:
        store = connect(registry.url)
        await store.publish("order.placed", schema_of(OrderPlaced))
        url = registry.url

    assert await store.fetch(1) == schema_of(OrderPlaced)
    with pytest.raises(RegistryError) as down:
        await store.fetch(2)
    assert str(down.value) == (
        f"expected a schema registry at {url}, got no answer (ConnectError). "
        "Start it, or mend --registry or ANTIPHON_REGISTRY."
    )


@pytest.mark.parametrize(
    ("status", "body", "got"),
    [
        (200, b"<html>hello</html>", "an answer that is not one's (JSONDecodeError)"),
        (500, b"out of cheese", "HTTP 500"),
        (200, b'{"schema": "42"}', "42. Register a record"),
        (200, b'{"schema": "{}", "schemaType": "PROTOBUF"}', "one of type PROTOBUF"),
    ],
)
async def test_garbage_is_an_answer_of_nobody(
    registry: RegistryServer, connect: Connect, status: int, body: bytes, got: str
) -> None:
    """Something else listens there: that is said, not a traceback."""
    registry.answer = status, body

    with pytest.raises(RegistryError) as garbage:
        await connect(registry.url).fetch(1)
    assert got in str(garbage.value)


async def test_secrets_open_the_registry_and_are_never_shown(connect: Connect) -> None:
    """The address carries them; no message does."""
    with RegistryServer(credentials="mesh:hunter2") as registry:
        assert await connect(registry.url).types() == []

        wrong = registry.url.replace("hunter2", "hunter3")
        with pytest.raises(RegistryError) as refused:
            await connect(wrong).types()
        assert "hunter" not in str(refused.value)
        assert "HTTP 401" in str(refused.value)

    with pytest.raises(RegistryError, match=r"expected the address of a schema registry, as .*, got registry:8081\."):
        RegistryStore("registry:8081")
