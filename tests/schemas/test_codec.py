from antiphon.schemas.codec import Codec
from antiphon.schemas.event import Event
from antiphon.schemas.store import MemoryStore


class TicketOpened(Event):
    ticket_id: str
    urgent: bool = False


async def test_what_is_written_is_read() -> None:
    """The header names the schema; the same class needs to learn nothing."""
    codec = Codec(MemoryStore())
    await codec.announce([TicketOpened])
    opened = TicketOpened(ticket_id="7")

    assert Codec(MemoryStore()).decode(TicketOpened, codec.encode(opened)) == opened
