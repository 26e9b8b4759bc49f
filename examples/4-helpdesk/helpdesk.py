"""Agents that ask a model: one sorts a question, one drafts an answer, one judges it; what nobody is sure of is undone."""

from antiphon import Agent, Context, Event
from stand_in import NAME, Reply, ask, desk

SURE = 0.7


class QuestionAsked(Event):
    """A customer writes."""

    question: str


class CaseOpened(Event):
    """It is in the help desk's system, under `case`."""

    question: str
    case: str
    topic: str


class CaseClosed(Event):
    """It is not any more."""

    case: str


class AnswerDrafted(Event):
    """A draft lies there, for a person to send."""

    question: str
    draft: str
    text: str


class DraftDeleted(Event):
    """It does not any more."""

    draft: str


class AnswerApproved(Event):
    """A person may send it as it is."""

    draft: str


class AnswerRefused(Event, fails=True):
    """The judge is not sure enough: a person has to begin anew."""

    because: str
    confidence: float


sorter, writer, judge = Agent("sorter"), Agent("writer"), Agent("judge")


async def asked(context: Context, task: str, text: str) -> Reply:
    """Ask the model once for an event, however often that is delivered, and report what it cost and how sure it was."""
    reply = Reply(**await context.once(task, lambda: ask(task, text)._asdict()))
    context.spend(model=NAME, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens)
    context.confidence(reply.confidence)
    return reply


@sorter.on(QuestionAsked)
async def sort(asking: QuestionAsked, context: Context) -> CaseOpened:
    """Open a case under the topic that the model names."""
    topic = (await asked(context, "classify", asking.question)).text
    desk.open_case(context.id, topic)
    return CaseOpened(question=asking.question, case=context.id, topic=topic)


@sorter.undoes(CaseOpened)
async def close(opened: CaseOpened) -> CaseClosed:
    """Nobody should look at a case that no answer will come of."""
    desk.withdraw(opened.case)
    return CaseClosed(case=opened.case)


@writer.on(CaseOpened)
async def draft(opened: CaseOpened, context: Context) -> AnswerDrafted:
    """Have the model draft an answer, and put it where a person will find it."""
    text = (await asked(context, "draft", opened.question)).text
    desk.save_draft(context.id, text)
    return AnswerDrafted(question=opened.question, draft=context.id, text=text)


@writer.undoes(AnswerDrafted)
async def delete(drafted: AnswerDrafted) -> DraftDeleted:
    """Before anybody sends it."""
    desk.withdraw(drafted.draft)
    return DraftDeleted(draft=drafted.draft)


@judge.on(AnswerDrafted)
async def approve(drafted: AnswerDrafted, context: Context) -> AnswerApproved | AnswerRefused:
    """Have the model judge the draft; what it is not sure of fails the workflow."""
    reply = await asked(context, "judge", f"{drafted.question} {drafted.text}")
    if reply.confidence < SURE:
        return AnswerRefused(because=reply.text, confidence=reply.confidence)
    return AnswerApproved(draft=drafted.draft)
