"""Results that show themselves briefly, and are equal if their values are.

What is typed at a prompt is read, not scrolled past.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from html import escape
from typing import Any

import numpy as np

from gloree._arrays import to_host

MOST_ITEMS = 6
"""Items of an array, a tuple or a dict that are written out."""

MOST_LETTERS = 80
"""Letters of a text, or of a value of any other type."""

LONGEST = 1000
"""Letters of a whole representation."""


class Brief:
    """Base of frozen dataclasses with arrays: their `repr` gives shapes in place of numbers.

    Two are equal if they are of one class and all their values are, NaN at the same places included
    (a dataclass declared with ``eq=False`` is equal to itself alone).

    In a notebook, one that has a text of its own (`__str__`) shows this text.
    """

    def __init_subclass__(cls, **arguments: object) -> None:
        super().__init_subclass__(**arguments)
        if "__repr__" not in cls.__dict__:  # `dataclass` leaves one that is there
            cls.__repr__ = brief_repr  # type: ignore[method-assign]
        if "__eq__" not in cls.__dict__:  # a comparison of tuples fails at the first array
            cls.__eq__ = equal_values  # type: ignore[method-assign]

    def _repr_html_(self) -> str | None:
        if type(self).__str__ is object.__str__:
            return None
        return f"<pre>{escape(str(self))}</pre>"


def equal_values(result: object, other: object) -> bool:
    """Whether two results are of one class and hold equal values."""
    one: Any = result
    if type(other) is not type(result) or not one.__dataclass_params__.eq:
        return NotImplemented  # type: ignore[no-any-return]
    names = [field.name for field in fields(one) if field.compare]
    return all(same(getattr(result, name), getattr(other, name)) for name in names)


def same(value: object, other: object) -> bool:
    """Whether two values are equal: entry by entry in arrays and collections, NaN like NaN."""
    one: Any = to_host(value) if hasattr(value, "__array__") else value
    two: Any = to_host(other) if hasattr(other, "__array__") else other
    if one is two:
        return True
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        numbers = one.dtype.kind in "fc" and two.dtype.kind in "fc"
        return bool(np.array_equal(one, two, equal_nan=numbers))
    if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
        return False
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)) and type(one) is type(two):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two) or bool(one != one and two != two)


def brief_repr(result: object) -> str:
    """Name of the class and all fields, briefly."""
    name, parts, length = type(result).__name__, [], 0
    shown: Any = result
    for field in fields(shown):
        if not field.repr:
            continue
        part = f"{field.name}={brief(getattr(result, field.name))}"
        length += len(part) + 2
        if length > LONGEST - len(name) - 8:
            parts.append("...")
            break
        parts.append(part)
    return f"{name}({', '.join(parts)})"


def brief(value: object) -> str:
    """One value: small ones as they are, arrays by their shape, of collections the first items."""
    if isinstance(value, np.ndarray) or (hasattr(value, "shape") and hasattr(value, "dtype")):
        array: Any = value
        if array.ndim and 0 < array.size <= MOST_ITEMS and array.ndim == 1:
            return f"array({[_number(each) for each in array.tolist()]})".replace("'", "")
        return f"<array {' x '.join(map(str, array.shape))}>" if array.ndim else str(array)
    if isinstance(value, Mapping):
        items = [f"{_cut(repr(k))}: {brief(v)}" for k, v in list(value.items())[:MOST_ITEMS]]
        return "{" + ", ".join(items + ["..."] * (len(value) > MOST_ITEMS)) + "}"
    if type(value) in (tuple, list):
        listed: Any = value
        items = [brief(each) for each in listed[:MOST_ITEMS]]
        text = ", ".join(items + ["..."] * (len(listed) > MOST_ITEMS))
        return f"[{text}]" if isinstance(value, list) else f"({text}{',' * (len(listed) == 1)})"
    if isinstance(value, Brief):
        return f"{type(value).__name__}(...)"
    if isinstance(value, float):
        return _number(value)
    return _cut(repr(value))


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (float, complex)) else repr(value)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 4] + "..."
