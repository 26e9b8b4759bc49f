import asyncio

from antiphon.testing.mesh import MemoryMesh
from support import TicketOpened, TicketTriaged, triage

REFUND = TicketOpened(ticket_id="7", body="refund?")


def test_refunds_go_to_billing() -> None:
    """An agent is a function: call it."""
    assert asyncio.run(triage(REFUND)) == TicketTriaged(ticket_id="7", queue="billing")


def test_every_ticket_is_answered() -> None:
    """The same through topics and schemas, on a whole mesh in memory."""

    async def answers() -> list[TicketTriaged]:
        mesh = MemoryMesh()
        async with mesh.running(triage):
            await mesh.publish(REFUND)
            return await mesh.eventually(TicketTriaged, count=1)

    assert asyncio.run(answers()) == [TicketTriaged(ticket_id="7", queue="billing")]
