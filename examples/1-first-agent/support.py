"""Reads tickets and says which queue each belongs in."""

from antiphon import Event, agent


class TicketOpened(Event):
    """Somebody asks for help."""

    ticket_id: str
    body: str


class TicketTriaged(Event):
    """It is known who will answer."""

    ticket_id: str
    queue: str


@agent
async def triage(ticket: TicketOpened) -> TicketTriaged:
    """Hear every opened ticket; say its queue."""
    queue = "billing" if "refund" in ticket.body else "general"
    return TicketTriaged(ticket_id=ticket.ticket_id, queue=queue)
