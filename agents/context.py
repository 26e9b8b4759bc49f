"""What a handler may know of the delivery in hand, and ask of the worker."""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from antiphon.agents.errors import NotJsonError
from antiphon.bus.delivery import Delivery, Usage
from antiphon.bus.guard import budget_left
from antiphon.schemas.budget import Budget
from antiphon.schemas.envelope import now_us

if TYPE_CHECKING:
    import asyncio

    from structlog.typing import FilteringBoundLogger

T = TypeVar("T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RESERVED = "antiphon."


class Context:
    """A handler's second argument. Good until the handler returns.

    To call a handler in a test, make one with `antiphon.testing.context`.
    """

    __slots__ = ("_delivery", "_log", "_loop")

    def __init__(self, delivery: Delivery, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._delivery = delivery
        self._loop = loop
        self._log: FilteringBoundLogger | None = None

    @property
    def id(self) -> str:
        """The event's id: the same however often the event is delivered, so an idempotency key for calls elsewhere."""
        return self._delivery.envelope.id

    @property
    def correlation_id(self) -> str:
        """The workflow's id."""
        return self._delivery.envelope.correlation_id

    @property
    def parent_id(self) -> str | None:
        """The id of the event that caused this one; None at a workflow's root."""
        return self._delivery.envelope.parent_id

    @property
    def attempt(self) -> int:
        """1 the first time this event is handled."""
        return self._delivery.attempt

    @property
    def deadline(self) -> datetime | None:
        """When the workflow should be done, in UTC; None where nobody set a deadline."""
        us = self._delivery.envelope.deadline_us
        return None if us is None else _EPOCH + timedelta(microseconds=us)

    def remaining(self) -> float | None:
        """Return the seconds left until the deadline, never less than 0; None where there is no deadline.

        Made to be handed on: `asyncio.timeout(context.remaining())`.
        """
        us = self._delivery.envelope.deadline_us
        now_s = self.now().timestamp() if self._delivery.replaying else time.time()
        return None if us is None else max(0.0, us / 1e6 - now_s)

    @property
    def budget(self) -> Budget | None:
        """What may be spent on this event, less what was reported for it so far; None where nobody set a budget.

        `Budget.amount` and `.currency`. At 0 or less, no agent handles the events that this one leads to.
        """
        text = budget_left(self._delivery.envelope.budget, self._delivery)
        return None if text is None else Budget.parse(text)

    def now(self) -> datetime:
        """Return when this attempt at the event began, in UTC.

        Ask it rather than the clock for what goes into events and state: a
        replay is told the time of then, so that what comes of it is the same.
        """
        us = self._delivery.started_us
        return datetime.now(UTC) if us is None else _EPOCH + timedelta(microseconds=us)

    @property
    def replaying(self) -> bool:
        """This event happened before and is handled again by a replay, not by the live mesh."""
        return self._delivery.replaying

    @property
    def state(self) -> MutableMapping[str, Any]:
        """Durable state of this agent for this event's key: the workflow, unless the event's class names a key field.

        JSON's types only. Changes, nested ones too, become durable together
        with what the handler emits; when it raises, they never happened.
        """
        return UserState(self._delivery.state.mapping(self._delivery.state_key))

    @overload
    async def once(self, name: str, fn: Callable[[], Awaitable[T]]) -> T: ...
    @overload
    async def once(self, name: str, fn: Callable[[], T]) -> T: ...
    async def once(self, name: str, fn: Callable[[], Any]) -> Any:
        """Run the side effect *fn* for this event, or return what it returned when it ran before.

        *name* tells the side effects of one event apart. The result is durable
        before this returns; a crash between the two runs *fn* again, so hand
        `id` on as an idempotency key where the other side takes one. *fn* is
        called right here: a blocking one blocks the event loop.

        Raises `NotJsonError` for a result that JSON cannot say.
        """
        services = self._delivery.services
        remembered = services.remembered(self._delivery)
        if name in remembered:
            return copy.deepcopy(remembered[name])
        result = fn()
        if inspect.isawaitable(result):
            result = await result
        _check_json(name, result, "result")
        await services.remember(self._delivery, name, copy.deepcopy(result))
        return result

    def once_sync(self, name: str, fn: Callable[[], T]) -> T:
        """`once` for a plain `def` handler, which runs in a thread and cannot await."""
        if self._loop is None:
            message = "expected once_sync in a plain def handler, got it in an async one. Use: await context.once(...)"
            raise RuntimeError(message)
        import asyncio  # noqa: PLC0415 - 80 ms of `import antiphon`, and loaded anyway where a loop runs

        services = self._delivery.services
        remembered = services.remembered(self._delivery)
        if name in remembered:
            return cast("T", copy.deepcopy(remembered[name]))
        result = fn()
        _check_json(name, result, "result")
        asyncio.run_coroutine_threadsafe(
            _awaited(services.remember(self._delivery, name, copy.deepcopy(result))), self._loop
        ).result()
        return result

    def spend(
        self,
        *,
        model: str,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cost: float = 0.0,
        currency: str = "USD",
        duration: float | None = None,
    ) -> None:
        """Report what a model call cost; once per call. It stands in the activity record, and `antiphon cost` adds it up.

        *duration*: the seconds that it took until now. Where it is told, `antiphon trace` and exported spans say when the model was called.
        """
        if input_tokens < 0 or output_tokens < 0 or not cost >= 0:
            message = (
                f"expected tokens and cost of at least 0, got input_tokens={input_tokens!r}, "
                f"output_tokens={output_tokens!r}, cost={cost!r}"
            )
            raise ValueError(message)
        started_us = duration_us = None
        if duration is not None:
            if not 0 <= duration < math.inf:
                message = f"expected a duration of at least 0 seconds, got {duration!r}"
                raise ValueError(message)
            duration_us = round(duration * 1_000_000)
            started_us = now_us() - duration_us
        self._delivery.usage.append(Usage(model, input_tokens, output_tokens, cost, currency, started_us, duration_us))

    def confidence(self, confidence: float) -> None:
        """Report how sure the agent is of its answer, 0 to 1; said twice, the last one counts."""
        if math.isnan(confidence) or not 0 <= confidence <= 1:
            message = f"expected a confidence from 0 to 1, got {confidence!r}"
            raise ValueError(message)
        self._delivery.confidence = float(confidence)

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger whose every line carries agent, ids and the record's place."""
        if self._log is None:
            import structlog  # noqa: PLC0415 - 0.4 s of `import antiphon` otherwise

            name = f"antiphon.agents.{self._delivery.agent}"
            logger: FilteringBoundLogger = structlog.get_logger(name)
            if self._delivery.logs is not None:
                said = structlog.get_config()
                logger = structlog.wrap_logger(
                    said["logger_factory"](name),
                    processors=[_kept(self._delivery), *said["processors"]],
                    wrapper_class=said["wrapper_class"],
                )
            self._log = logger.bind(**self._delivery.fields())
        return self._log


class UserState(MutableMapping[str, Any]):
    """The user's part of a key's mapping: what the mesh keeps there itself is hidden."""

    __slots__ = ("_mapping",)

    def __init__(self, mapping: MutableMapping[str, Any]) -> None:
        self._mapping = mapping

    def __getitem__(self, key: str) -> Any:
        if key.startswith(_RESERVED):
            raise KeyError(key)
        return self._mapping[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key.startswith(_RESERVED):
            message = f"expected a key that does not begin with {_RESERVED!r}, which is the mesh's own, got {key!r}"
            raise ValueError(message)
        self._mapping[key] = value

    def __delitem__(self, key: str) -> None:
        if key.startswith(_RESERVED):
            raise KeyError(key)
        del self._mapping[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._mapping if not key.startswith(_RESERVED))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


def _kept(delivery: Delivery) -> Callable[[Any, str, Any], Any]:
    """Return what has each line taken along in the activity record."""
    known = {*delivery.fields(), "event", "exc_info", "stack_info"}

    def keep(_logger: Any, level: str, line: Any) -> Any:
        if delivery.logs is not None:
            fields = {name: value for name, value in line.items() if name not in known}
            delivery.logs.add(level, str(line.get("event", "")), fields)
        return line

    return keep


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable


def _check_json(name: str, value: object, path: str) -> None:
    match value:
        case None | bool() | str() | int():
            return
        case float() if math.isfinite(value):
            return
        case list():
            for index, item in enumerate(cast("list[object]", value)):
                _check_json(name, item, f"{path}[{index}]")
        case dict():
            for key, item in cast("dict[object, object]", value).items():
                if not isinstance(key, str):
                    raise NotJsonError(name, f"a key of {path}", key)
                _check_json(name, item, f"{path}[{key!r}]")
        case _:
            raise NotJsonError(name, path, value)
