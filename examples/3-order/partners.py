"""Stand-ins for a warehouse, a bank and a carrier: what the agents change outside of Kafka.

Each call takes a key of the caller's choice, and does its work once for each
key, as their real counterparts do.
"""


class Warehouse:
    """Holds things back for orders."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.seen: set[str] = set()

    def hold(self, key: str, item: str) -> bool:
        """Hold *item* back; says no where there is none."""
        if item == "unicorn":
            return False
        if key not in self.seen:
            self.seen.add(key)
            self.held[key] = item
        return True

    def free(self, key: str) -> None:
        """Put back what is held under *key*, if anything is."""
        self.held.pop(key, None)


class Bank:
    """Moves money. What is in `moves` has happened for good: a refund is a second one."""

    def __init__(self) -> None:
        self.moves: dict[str, int] = {}

    def move(self, key: str, amount: int) -> None:
        """Take *amount* from the customer, or give it back where it is less than nothing."""
        self.moves.setdefault(key, amount)

    def balance(self) -> int:
        """Return what customers have paid in all."""
        return sum(self.moves.values())


class Carrier:
    """Takes parcels where it goes."""

    def __init__(self) -> None:
        self.parcels: set[str] = set()

    def send(self, key: str, city: str) -> bool:
        """Take a parcel; says no where it does not go."""
        if city == "Atlantis":
            return False
        self.parcels.add(key)
        return True


warehouse, bank, carrier = Warehouse(), Bank(), Carrier()
