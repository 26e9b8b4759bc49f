"""Handling past events again one at a time, with somebody at the terminal who looks on, and into handlers."""

from __future__ import annotations

import bdb
import contextlib
import pdb  # noqa: T100 - it is what is asked for
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from inspect import currentframe, unwrap
from types import CodeType

from antiphon.bus.consumer import Consumer
from antiphon.bus.handler import Handler
from antiphon.cli import output
from antiphon.cli.errors import UsageError
from antiphon.replay.recording import Handling
from antiphon.schemas.codec import to_json
from antiphon.schemas.condition import Condition
from antiphon.schemas.errors import ConditionError
from antiphon.schemas.event import Event

_HELP = "Enter: handle it; d: handle it in the debugger; s: pass over it; c: go on without asking; q: stop here"
_WIDTH = 2_000


class Stepper:
    """Stops before handlings, and asks what to do. Its `around` is what `HandlerReplay` asks.

    With *step* it stops before each; else where one of *breaks* fits, and goes
    into the debugger there: the name of an agent, an event type, or a condition on the event's data.
    """

    def __init__(self, *, step: bool, breaks: Sequence[str]) -> None:
        self._step = step
        self._breaks = [_break(text) for text in breaks]
        self._debugger = _Debugger()
        self.stopped = False
        """Whether whoever looks on has had enough."""

    def around(self, consumer: Consumer, handling: Handling, event: Event) -> Handler | None:
        """Return what handles *event*; None: it is passed over."""
        if self.stopped:
            return None
        hit = any(fits(consumer.name, event) for fits in self._breaks)
        if not (hit or self._step):
            return consumer.handler
        self._show(consumer, handling, event)
        if hit and not self._step:
            return self._debugged(consumer, handling)
        return self._asked(consumer, handling)

    def _show(self, consumer: Consumer, handling: Handling, event: Event) -> None:
        entry = handling.entry
        output.remark(output.inert(f"{consumer.name}  {entry.event_type} {entry.event_id}"))
        output.remark(f"  {output.compact(to_json(event), at_most=_WIDTH)}")
        then = (
            f"{entry.error.type}: {entry.error.message}"
            if entry.error is not None
            else ", ".join(emitted.type for emitted in entry.emitted)
        )
        output.remark(output.inert(f"  then: {then or 'said nothing'}"))

    def _asked(self, consumer: Consumer, handling: Handling) -> Handler | None:
        while True:
            # Before anything is seen: whoever sees the prompt may press Ctrl-C.
            with _interruptible():
                sys.stderr.write("(replay) ")
                sys.stderr.flush()
                said = sys.stdin.readline()
            match said:
                case "\n":
                    return consumer.handler
                case "d\n":
                    return self._debugged(consumer, handling)
                case "s\n":
                    return None
                case "c\n":
                    self._step = False
                    return consumer.handler
                case "q\n" | "":
                    self.stopped = True
                    return None
                case _:
                    output.remark(_HELP)

    def _debugged(self, consumer: Consumer, handling: Handling) -> Handler:
        """Return the handler, with the debugger at the first line of what the user wrote for that type."""
        function = consumer.functions.get(handling.entry.event_type)
        if function is None:
            output.remark("no function of yours handles it; it is handled without a stop")
            return consumer.handler
        code: CodeType = getattr(unwrap(function), "__code__")  # noqa: B009 - a function's; a callable's type has none

        async def stopped_in(event: Event) -> Sequence[Event]:
            if (problem := self._debugger.stop_once(code.co_filename, first_line(code))) is not None:
                output.remark(f"no stop there: {problem}")
                return await consumer.handler(event)
            with _interruptible(), self._debugger.watching():
                try:
                    return await consumer.handler(event)
                except bdb.BdbQuit:
                    self.stopped = True
                    return ()

        return stopped_in


class _Debugger(pdb.Pdb):
    """Python's debugger, for one handling after the other."""

    def __init__(self) -> None:
        super().__init__(nosigint=True, stdin=sys.stdin, stdout=sys.stderr)
        self.reset()

    def stop_once(self, file: str, line: int) -> str | None:
        """Stop when *line* is run next; returns why that cannot be."""
        return self.set_break(file, line, temporary=True)

    def set_continue(self) -> None:
        super().set_continue()
        # Without a breakpoint left the debugger would look at nothing any more; a thread that waits for the next event is kept.
        sys.settrace(self.trace_dispatch)

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """See what runs, in threads that begin meanwhile too; stop at breakpoints alone."""
        self.botframe = currentframe()
        threading.settrace(self.trace_dispatch)
        self.set_continue()
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)
            self.clear_all_breaks()


def first_line(code: CodeType) -> int:
    """Return the line of a function's body that is run first.

    >>> first_line(first_line.__code__) > first_line.__code__.co_firstlineno
    True
    """
    lines = (line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno)
    return next(lines, code.co_firstlineno)


@contextlib.contextmanager
def _interruptible() -> Generator[None]:
    """Have Ctrl-C end what waits for somebody to type: the event loop's own handler waits for its turn."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _break(text: str) -> Callable[[str, Event], bool]:
    """Read what to stop at.

    >>> _break("payer")("payer", Event()), _break("event")("payer", Event()), _break("amount>100")("payer", Event())
    (True, True, False)
    """
    try:
        condition = Condition.parse(text)
    except ConditionError:
        return lambda agent, event: text in (agent, event.__event__.type)
    return lambda _, event: condition.holds(to_json(event))


def stepper(*, step: bool, breaks: Sequence[str]) -> Stepper | None:
    """Return what stops as was asked for; None: nothing was. Raises `UsageError` where nobody can look on."""
    if not step and not breaks:
        return None
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        option = "--step" if step else "--break"
        raise UsageError(
            f"expected a terminal for {option}, got a file or a pipe: nobody could answer",
            "run it in a terminal, without redirecting its input or its stderr; or leave the option out",
        )
    return Stepper(step=step, breaks=breaks)
