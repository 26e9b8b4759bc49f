"""Changes of a schema, as people make them: small ones, by a seeded dice."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, TypeAlias

from antiphon.schemas.nodes import attribute, kind_of, parts_of

Node: TypeAlias = Any
Mutation: TypeAlias = Callable[[Random, Node], bool]
"""Changes a schema in place; False where it found nothing to change."""

SCALARS: list[Node] = [
    "string",
    "long",
    "int",
    "double",
    "float",
    "boolean",
    "bytes",
    {"type": "long", "logicalType": "timestamp-micros"},
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "int", "logicalType": "date"},
    {"type": "long", "logicalType": "time-micros"},
    {"type": "long", "logicalType": "duration-micros"},
    {"type": "string", "logicalType": "uuid"},
    {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2},
    {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 4},
]
DEFAULTS: dict[str, Any] = {
    "string": "none",
    "long": 7,
    "int": 7,
    "double": 0.5,
    "float": 0.5,
    "boolean": False,
    "bytes": "ab",
    "array": [],
    "map": {},
}
NUMBERS = ("long", "int", "double", "float")


def fields_of(schema: Node) -> list[Node]:
    """Return the fields of the record and of every record in it."""
    return [field for record in records_of(schema) for field in record["fields"]]


def records_of(schema: Node) -> list[Node]:
    return [node for node in nodes_of(schema) if kind_of(node) == "record"]


def nodes_of(node: Node) -> Iterator[Node]:
    """Yield a node and all it is made of."""
    yield node
    for part in parts_of(node):
        yield from nodes_of(part)


def fresh(dice: Random, schema: Node, stem: str) -> str:
    taken = {field["name"] for field in fields_of(schema)} | {attribute(node, "name") for node in nodes_of(schema)}
    return next(name for number in range(dice.randint(0, 50), 10_000) if (name := f"{stem}{number}") not in taken)


def some_type(dice: Random, schema: Node) -> Node:
    roll = dice.random()
    if roll < 0.15:
        symbols = dice.sample(["red", "green", "blue", "grey", "black"], k=dice.randint(2, 4))
        return {"type": "enum", "name": fresh(dice, schema, "Colour"), "symbols": symbols}
    if roll < 0.25:
        return {"type": "array", "items": copy.deepcopy(dice.choice(SCALARS))}
    if roll < 0.3:
        return {"type": "map", "values": copy.deepcopy(dice.choice(SCALARS))}
    if roll < 0.4:
        inner = [{"name": "one", "type": "string"}, {"name": "two", "type": copy.deepcopy(dice.choice(SCALARS))}]
        return {"type": "record", "name": fresh(dice, schema, "Part"), "fields": inner}
    return copy.deepcopy(dice.choice(SCALARS))


# -- fields


def add_required(dice: Random, schema: Node) -> bool:
    record = dice.choice(records_of(schema))
    record["fields"].append({"name": fresh(dice, schema, "field"), "type": some_type(dice, schema)})
    return True


def add_with_default(dice: Random, schema: Node) -> bool:
    record = dice.choice(records_of(schema))
    plain = dice.choice([*DEFAULTS])
    type_: Node = {"array": {"type": "array", "items": "string"}, "map": {"type": "map", "values": "long"}}.get(
        plain, plain
    )
    field = {"name": fresh(dice, schema, "field"), "type": type_, "default": DEFAULTS[plain]}
    record["fields"].insert(dice.randint(0, len(record["fields"])), field)
    return True


def add_optional(dice: Random, schema: Node) -> bool:
    record = dice.choice(records_of(schema))
    field = {"name": fresh(dice, schema, "field"), "type": ["null", some_type(dice, schema)], "default": None}
    record["fields"].append(field)
    return True


def remove(dice: Random, schema: Node) -> bool:
    record = dice.choice(records_of(schema))
    if len(record["fields"]) < 2:
        return False
    record["fields"].remove(dice.choice(record["fields"]))
    return True


def give_default(dice: Random, schema: Node) -> bool:
    found = [field for field in fields_of(schema) if kind_of(field["type"]) in DEFAULTS and "default" not in field]
    found = [field for field in found if attribute(field["type"], "logicalType") is None]
    found = [field for field in found if "antiphon" not in field]
    if not found:
        return False
    field = dice.choice(found)
    field["default"] = DEFAULTS[kind_of(field["type"])]
    return True


def take_default(dice: Random, schema: Node) -> bool:
    found = [field for field in fields_of(schema) if "default" in field]
    if not found:
        return False
    del dice.choice(found)["default"]
    return True


def rename(dice: Random, schema: Node) -> bool:
    field = dice.choice(fields_of(schema))
    field["name"] = fresh(dice, schema, "renamed")
    return True


def rename_with_alias(dice: Random, schema: Node) -> bool:
    field = dice.choice(fields_of(schema))
    field["aliases"] = [*field.get("aliases", ()), field["name"]]
    field["name"] = fresh(dice, schema, "renamed")
    return True


def reorder(dice: Random, schema: Node) -> bool:
    dice.shuffle(dice.choice(records_of(schema))["fields"])
    return True


def document(dice: Random, schema: Node) -> bool:
    dice.choice(fields_of(schema))["doc"] = f"What it is, in words: {dice.random()}"
    return True


# -- types


def retype(dice: Random, schema: Node) -> bool:
    field = dice.choice(fields_of(schema))
    field["type"] = some_type(dice, schema)
    field.pop("default", None)
    field.pop("antiphon", None)
    return True


def promote(dice: Random, schema: Node) -> bool:
    wider = {"int": "long", "long": "double", "float": "double", "string": "bytes"}
    found = [field for field in fields_of(schema) if isinstance(field["type"], str) and field["type"] in wider]
    if not found:
        return False
    field = dice.choice(found)
    field["type"] = wider[field["type"]]
    field.pop("default", None)
    field.pop("antiphon", None)
    return True


def make_optional(dice: Random, schema: Node) -> bool:
    found = [field for field in fields_of(schema) if kind_of(field["type"]) != "union"]
    field = dice.choice(found) if found else None
    if field is None:
        return False
    field["type"] = ["null", field["type"]]
    field.pop("antiphon", None)
    field["default"] = None
    return True


def require(dice: Random, schema: Node) -> bool:
    found = [field for field in fields_of(schema) if kind_of(field["type"]) == "union" and "null" in field["type"]]
    found = [field for field in found if len(field["type"]) == 2]
    if not found:
        return False
    field = dice.choice(found)
    [field["type"]] = [branch for branch in field["type"] if branch != "null"]
    field.pop("default", None)
    return True


def add_branch(dice: Random, schema: Node) -> bool:
    field = dice.choice(fields_of(schema))
    branches = field["type"] if kind_of(field["type"]) == "union" else [field["type"]]
    lacking = [one for one in ("string", "long", "double", "boolean", "bytes") if one not in map(kind_of, branches)]
    if not lacking or {"int", "float"} & {*map(kind_of, branches)}:
        return False
    field["type"] = [*branches, dice.choice(lacking)]
    field.pop("antiphon", None)
    return True


def wrap(dice: Random, schema: Node) -> bool:
    field = dice.choice(fields_of(schema))
    field["type"] = {"type": dice.choice(["array", "map"]), "items": field["type"], "values": field["type"]}
    field["type"].pop("values" if field["type"]["type"] == "array" else "items")
    field.pop("default", None)
    field.pop("antiphon", None)
    return True


def collect(dice: Random, schema: Node) -> bool:
    found = [
        node for node in nodes_of(schema) if kind_of(node) == "array" and kind_of(node["items"]) in ("string", "long")
    ]
    if not found:
        return False
    dice.choice(found)["antiphon"] = {"collection": dice.choice(["set", "frozenset", "tuple"])}
    return True


# -- symbols and constraints


def enums_of(schema: Node) -> list[Node]:
    return [node for node in nodes_of(schema) if kind_of(node) == "enum"]


def add_symbol(dice: Random, schema: Node) -> bool:
    found = enums_of(schema)
    if found:
        dice.choice(found)["symbols"].append(f"tint{dice.randint(0, 999)}")
    return bool(found)


def remove_symbol(dice: Random, schema: Node) -> bool:
    found = [node for node in enums_of(schema) if len(node["symbols"]) > 1]
    if found:
        node = dice.choice(found)
        symbol = dice.choice(node["symbols"])
        node["symbols"].remove(symbol)
        if node.get("default") == symbol:
            del node["default"]
    return bool(found)


def symbol_for_others(dice: Random, schema: Node) -> bool:
    found = enums_of(schema)
    if found:
        node = dice.choice(found)
        node["default"] = node["symbols"][0]
    return bool(found)


def constrain(dice: Random, schema: Node) -> bool:
    found = [field for field in fields_of(schema) if field["type"] in ("string", *NUMBERS) and "default" not in field]
    if not found:
        return False
    field = dice.choice(found)
    number = dice.randint(0, 9)
    numeric = [{"ge": number}, {"gt": number}, {"le": number}, {"lt": number}]
    textual = [{"max_length": number + 1}, {"min_length": number + 1}]
    field["antiphon"] = {"constraints": dice.choice(textual if field["type"] == "string" else numeric)}
    return True


def loosen(dice: Random, schema: Node) -> bool:
    found = [field for field in fields_of(schema) if attribute(attribute(field, "antiphon"), "constraints")]
    if not found:
        return False
    field = dice.choice(found)
    if dice.random() < 0.5:
        del field["antiphon"]
        return True
    constraints = field["antiphon"]["constraints"]
    for word, bound in [*constraints.items()]:
        constraints[word] = (
            bound - 1 if word in ("ge", "gt") else max(0, bound - 1) if word == "min_length" else bound + 1
        )
    return True


def widen_decimal(dice: Random, schema: Node) -> bool:
    found = [node for node in nodes_of(schema) if attribute(node, "logicalType") == "decimal"]
    if found:
        node = dice.choice(found)
        node["precision"] += (change := dice.choice([-3, -1, 1, 3]))
        node["scale"] = max(0, min(node["precision"], node["scale"] + dice.choice([0, 0, 1, -1, change])))
    return bool(found)


ENRICHING: list[Mutation] = [
    add_required,
    add_with_default,
    add_optional,
    retype,
    constrain,
    make_optional,
    symbol_for_others,
]
"""What makes of a plain schema one with more of Avro in it."""
MUTATIONS: list[Mutation] = [
    add_required,
    add_with_default,
    add_optional,
    remove,
    give_default,
    take_default,
    rename,
    rename_with_alias,
    reorder,
    document,
    retype,
    promote,
    make_optional,
    require,
    add_branch,
    wrap,
    collect,
    add_symbol,
    remove_symbol,
    symbol_for_others,
    constrain,
    loosen,
    widen_decimal,
]


def changed(dice: Random, schema: Node, mutations: list[Mutation]) -> tuple[Node, str]:
    """Return *schema* with one change, and the name of that."""
    while True:
        candidate = copy.deepcopy(schema)
        mutation = dice.choice(mutations)
        if mutation(dice, candidate) and candidate != schema:
            return candidate, mutation.__name__
