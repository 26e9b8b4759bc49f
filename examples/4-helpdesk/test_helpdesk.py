from antiphon.testing.explorer import End, explore
from antiphon.testing.scenario import given
from helpdesk import (
    AnswerApproved,
    AnswerRefused,
    CaseClosed,
    QuestionAsked,
    judge,
    sorter,
    writer,
)
from stand_in import desk

REFUND = QuestionAsked(question="May I have a refund?")
WEATHER = QuestionAsked(question="What is the weather on Mars?")
DESK = given(sorter, writer, judge, outside=[desk])


def approved_or_gone(end: End) -> None:
    """A case and a draft are there for what was approved, and for nothing else."""
    approved = len(end.events(AnswerApproved)) if end.state == "completed" else 0
    assert (len(desk.cases), len(desk.drafts)) == (approved, approved)


def test_what_the_judge_is_sure_of_waits_for_a_person() -> None:
    """The draft and its case stay."""
    DESK.when(REFUND).expects(state="completed", invariant=approved_or_gone).never(AnswerRefused, CaseClosed)


def test_what_the_judge_is_not_sure_of_is_taken_back() -> None:
    """Two agents have acted when the third refuses: no draft is left to be sent by mistake, and no case to be looked at."""
    refused = AnswerRefused(because="misses the question", confidence=0.4)
    DESK.when(WEATHER).expects(refused, state="compensated", invariant=approved_or_gone).never(AnswerApproved)


def test_whatever_goes_wrong() -> None:
    """Every interleaving of crashes, repeats, failures and time-outs."""
    for question in (REFUND, WEATHER):
        done = explore([sorter, writer, judge], question, outside=[desk], invariant=approved_or_gone)
        assert done.exhaustive
