import asyncio

from support import TicketOpened, TicketTriaged, triage


def test_refunds_go_to_billing() -> None:
    """An agent is a function: call it."""
    triaged = asyncio.run(triage(TicketOpened(ticket_id="7", body="refund?")))

    assert triaged == TicketTriaged(ticket_id="7", queue="billing")
