"""The defaults of fields, as Avro says them."""

from __future__ import annotations

from datetime import date
from typing import Any, cast
from uuid import UUID

from pydantic_core import PydanticUndefined

from antiphon.schemas.errors import EventDefinitionError
from antiphon.schemas.shape import Alternatives, Array, Choice, Field, Map, Record, Scalar, Shape, bare
from antiphon.schemas.writing import MisfitError, branch_for, leaf_misfit, leaf_plan

_DAY_ZERO = date(1970, 1, 1).toordinal()
_EMPTY_FACTORIES = (list, dict, set, frozenset, tuple)
_OWN_TYPE = "Give it a default of its own type"


class _NoWordError(Exception):
    """Avro's JSON has no word for a value: NaN, infinity, or inside a list a union's branch that is not its first."""


def default_of(record: Record, field: Field) -> tuple[Any, Shape]:
    """Return the default in Avro's JSON, and the shape with the default's branch first, as Avro wants it.

    `PydanticUndefined` where Avro cannot say the default: there is none, it is
    made anew each time (`default_factory`), or Avro has no word for it (NaN,
    a later branch of a union inside a list). Our own readers use it all the same.

    Raises `EventDefinitionError` where the default does not fit its field.
    """
    value: Any = field.info.default
    factory: Any = field.info.default_factory
    if factory in _EMPTY_FACTORIES:
        value = cast("Any", factory())
    if value is PydanticUndefined:
        return PydanticUndefined, field.shape
    shape = bare(field.shape)
    try:
        if isinstance(shape, Alternatives):
            place = branch_for(shape.branches, value)
            rest = [branch for other, branch in enumerate(shape.branches) if other != place]
            shape = Alternatives([shape.branches[place], *rest])
        return avro_default(shape, value), shape
    except _NoWordError:
        return PydanticUndefined, field.shape
    except MisfitError as error:
        expected, got, remedy = error.expected, error.got, error.remedy
    except (TypeError, AttributeError):
        expected, got, remedy = "of the field's type", repr(value), _OWN_TYPE
    raise EventDefinitionError(record.name, f"the default of {field.name!r} to be {expected}", got, remedy)


def avro_default(shape: Shape, value: Any) -> Any:
    """Write *value* as Avro writes defaults: JSON, bytes as Latin-1. Raises `MisfitError`."""
    shape = bare(shape)
    match shape:
        case Record():
            if not isinstance(value, shape.python):
                raise MisfitError(shape.python.__name__, value, _OWN_TYPE)
            return {field.name: avro_default(field.shape, getattr(value, field.name)) for field in shape.fields}
        case Array():
            # Sorted like a set that is written, so that the same class has the same schema in every process.
            items = [avro_default(shape.items, item) for item in value]
            return sorted(items, key=repr) if shape.python in (set, frozenset) else items
        case Map():
            return {key: avro_default(shape.values, item) for key, item in value.items()}
        case Alternatives():
            if branch_for(shape.branches, value) != 0:
                raise _NoWordError
            return avro_default(shape.branches[0], value)
        case Choice():
            return _leaf_default(shape, value)
        case Scalar():
            return _leaf_default(shape, float(value) if shape.python is float and type(value) is int else value)


def _leaf_default(shape: Scalar | Choice, value: Any) -> Any:
    error = leaf_misfit(shape, value)
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise _NoWordError
    if error is not None:
        raise error
    plan = leaf_plan(shape)
    datum = value if plan is None else plan(value)
    if isinstance(datum, bytes):
        return datum.decode("latin-1")
    if isinstance(datum, date):
        return datum.toordinal() - _DAY_ZERO
    return str(datum) if isinstance(datum, UUID | str) else datum
