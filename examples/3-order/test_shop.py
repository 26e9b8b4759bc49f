from antiphon.testing.explorer import End, explore
from antiphon.testing.scenario import Mishap, given
from partners import bank, carrier, warehouse
from shop import (
    CardCharged,
    CardRefunded,
    OrderPlaced,
    ParcelRefused,
    ParcelSent,
    StockMissing,
    StockReleased,
    card,
    parcel,
    stock,
)

LAMP = OrderPlaced(order="7", item="lamp", price=41, city="Kyiv")
TOO_FAR = OrderPlaced(order="8", item="lamp", price=41, city="Atlantis")
SHOP = given(stock, card, parcel, outside=[warehouse, bank, carrier])


def nobody_pays_for_nothing(end: End) -> None:
    """Paid and held is what is sent, and nothing else."""
    sent = len(end.events(ParcelSent)) if end.state == "completed" else 0
    assert (bank.balance(), len(warehouse.held)) == (41 * sent, sent)


def test_an_order_is_sent() -> None:
    """Nothing goes wrong, nothing is undone."""
    SHOP.when(LAMP).expects(ParcelSent(order="7"), state="completed").never(CardRefunded, StockReleased)


def test_what_is_not_there_costs_nothing() -> None:
    """The first step refuses: nothing was done, so nothing is undone."""
    unicorn = LAMP.model_copy(update={"item": "unicorn"})
    SHOP.when(unicorn).expects(StockMissing(order="7")).never(CardCharged, StockReleased)


def test_a_parcel_that_cannot_go_is_paid_back() -> None:
    """The last step refuses: the money first, then the stock, as they follow from one another."""
    SHOP.when(TOO_FAR).expects(
        ParcelRefused(order="8", city="Atlantis"),
        CardRefunded(order="8", price=41),
        StockReleased(order="8"),
        state="compensated",
        invariant=nobody_pays_for_nothing,
    )


def test_a_charge_that_fails_frees_the_stock() -> None:
    """It is given up after all retries."""
    SHOP.when(LAMP).but("card", Mishap.GIVE_UP).expects(StockReleased(order="7"), state="compensated")


def test_whatever_goes_wrong() -> None:
    """Every interleaving of crashes, repeats, failures and time-outs, of an order that is sent and of one that is not."""
    for placed in (LAMP, TOO_FAR):
        done = explore(
            [stock, card, parcel], placed, outside=[warehouse, bank, carrier], invariant=nobody_pays_for_nothing
        )
        assert done.exhaustive
