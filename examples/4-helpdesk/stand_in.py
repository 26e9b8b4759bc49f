"""Stands in for a language model: the same question has the same answer, no network, no bill.

What a real one would return is here: a text, how sure it is, and what it cost.
"""

from typing import NamedTuple


class Reply(NamedTuple):
    """What the model says."""

    text: str
    confidence: float
    input_tokens: int
    output_tokens: int


NAME = "stand-in-1"


def ask(task: str, text: str) -> Reply:
    """Do *task* with *text*."""
    match task:
        case "classify":
            topic = "billing" if "refund" in text else "other"
            return Reply(topic, 0.9, len(text.split()), 1)
        case "draft":
            draft = "You will have your money back in three days." if "refund" in text else "Thank you for asking."
            return Reply(draft, 0.8, len(text.split()) + 20, len(draft.split()))
        case _:
            # It is not sure of what promises something that nobody asked about.
            verdict, sure = ("good", 0.95) if "refund" in text else ("misses the question", 0.4)
            return Reply(verdict, sure, len(text.split()) + 40, 4)


class Desk:
    """The help desk's own system, outside of Kafka: cases, and drafts of answers to them."""

    def __init__(self) -> None:
        self.cases: dict[str, str] = {}
        self.drafts: dict[str, str] = {}
        self.withdrawn: set[str] = set()

    def open_case(self, id: str, topic: str) -> None:
        """Open a case, unless it was withdrawn before."""
        if id not in self.withdrawn:
            self.cases[id] = topic

    def save_draft(self, id: str, text: str) -> None:
        """Keep a draft for a person to send, unless it was withdrawn before."""
        if id not in self.withdrawn:
            self.drafts[id] = text

    def withdraw(self, id: str) -> None:
        """Take a case or a draft back, and never take it again."""
        self.withdrawn.add(id)
        self.cases.pop(id, None)
        self.drafts.pop(id, None)


desk = Desk()
