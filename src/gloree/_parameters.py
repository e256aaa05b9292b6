"""Checks of parameters: what was got, what was expected, with the name in backticks."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np


def check_integer(name: str, value: object, least: int) -> int:
    """Give a whole number of at least so much (NumPy's small ones would overflow); else raise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be an integer, got {value!r:.100}")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}")
    return int(value)


def optional_integer(name: str, value: object, least: int) -> int | None:
    """Give None, or what `check_integer` gives."""
    return None if value is None else check_integer(name, value, least)


def check_place(name: str, value: object, count: int, has: str) -> int:
    """Give the place of one of `count` things, counted from either end; else raise.

    `has` says what has so many, as in "`Y` has 3 columns".
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be an integer, got {value!r:.100}")
    if not -count <= value < count:
        raise ValueError(f"`{name}`={value}, but {has}")
    return int(value) % count


def check_number(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    finite: bool = True,
) -> float:
    """Give a number, finite unless that is not asked for, in these limits; else raise."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number, got {value!r:.100}")
    found = float(value)
    limits = ["positive" if above == 0.0 else f"above {above:g}"] if above > -math.inf else []
    limits += [f"at least {least:g}"] if least > -math.inf else []
    limits += ["finite"] if finite else []
    if math.isnan(found) or found <= above or found < least or (finite and math.isinf(found)):
        raise ValueError(f"`{name}` must be {' and '.join(limits) or 'a number'}, got {value!r}")
    return found


def check_flag(name: str, value: object) -> bool:
    """Give True or False; a TypeError else, as every text and every other number counts as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False, got {value!r:.100}")
    return bool(value)


def check_callable(name: str, value: object) -> None:
    """Raise a TypeError unless it is a function, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"`{name}` must be a function or None, got {value!r:.100}")


def check_mask(name: str, value: object) -> None:
    """Raise a TypeError unless it is a vector of True and False, or None."""
    if value is not None and (np.ndim(value) != 1 or np.asarray(value).dtype != bool):  # type: ignore[arg-type]
        raise TypeError(f"`{name}` must be a vector of True and False or None, got {value!r:.100}")
