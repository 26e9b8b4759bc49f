"""What an operator sees of all workflows together: how many stand how, and for how long a person has been waited for."""

from __future__ import annotations

from ordering import Shop

from antiphon.bus.consumer import Consumer
from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.workflow import Phase
from antiphon.testing.clock import FakeClock
from antiphon.testing.waiting import eventually

BOTH = (0, 1)


def figures(consumer: Consumer, partitions: tuple[int, ...] = BOTH) -> dict[str, float]:
    """Return what *consumer* tells, but for zeros."""
    assert consumer.figures is not None
    told = {" ".join([one.name, *one.labels.values()]): one.value for one in consumer.figures(partitions)}
    return {name: value for name, value in told.items() if value}


async def test_one_that_is_parked_is_counted_until_somebody_decides() -> None:
    """By state, and since when; a coordinator that takes over tells it at once, and not what it has lost."""
    shop, clock = Shop(agents=("stock", "card", "gift"), gift="dies", un_card="fails"), FakeClock()
    first, second = (coordinator(clock_us=clock.now_us) for _ in range(2))
    *agents, _ = shop.crew()
    async with shop.running(*agents):
        async with shop.running(first, clock=clock):
            workflow = await shop.order()
            await shop.until(workflow, Phase.PARKED)
            clock.advance(90)
            assert figures(first) == {
                "sagas parked": 1,
                "saga_oldest_parked_seconds": 90,
                "saga_undos asked": 1,
                "saga_undos given_up": 1,
            }
        assert figures(first, ()) == {"saga_undos asked": 1, "saga_undos given_up": 1}
        async with shop.running(second, clock=clock):
            parked = {"sagas parked": 1, "saga_oldest_parked_seconds": 90}
            await eventually(lambda: figures(second) == parked, what="the other one to tell it")
            await shop.says(SagaIntervened(act=Act.SKIP, actor="ann", reason="by hand"), workflow)
            await shop.until(workflow, Phase.COMPENSATED)
            done = {"sagas compensated": 1, "saga_undos asked": 1, "saga_undos skipped": 1, "saga_undos undone": 1}
            await eventually(lambda: figures(second) == done, what="it to be settled")


async def test_what_is_forgotten_is_not_counted() -> None:
    """When a workflow's time is over."""
    shop, clock = Shop(agents=("stock", "card")), FakeClock()
    conductor = coordinator(clock_us=clock.now_us, linger_s=60)
    *agents, _ = shop.crew()
    async with shop.running(*agents), shop.running(conductor, clock=clock):
        await shop.until(await shop.order(), Phase.COMPLETED)
        assert figures(conductor) == {"sagas completed": 1}
        clock.advance(130)
        await eventually(lambda: figures(conductor) == {}, what="it to be forgotten")
