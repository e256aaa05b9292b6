"""Parameters of `SystemIdentifier`, checked."""

from __future__ import annotations

from typing import Any

from gloree._parameters import check_integer, check_number, optional_integer
from gloree.activations import PerUnit, get_activation
from gloree.identification import (
    FREE_POLYNOMIAL,
    IdentificationSettings,
    check_detrend,
    check_initial,
)
from gloree.systems import sampling_time

MOST_DIRECTIONS = 3
"""Directions that may be asked for: the time of their search grows with the third power."""


def checked_settings(estimator: object) -> IdentificationSettings:
    """Settings of an identification from the parameters of a `SystemIdentifier`."""
    given: Any = estimator
    checked = (("n_linear", 1), ("n_nonlinear", 0), ("n_directions", 1))
    n_linear, n_nonlinear, n_directions = (
        optional_integer(name, getattr(given, name), least) for name, least in checked
    )
    verbose = check_integer("verbose", given.verbose, 0)
    if n_directions and n_directions > MOST_DIRECTIONS:
        raise ValueError(f"`n_directions` must be at most {MOST_DIRECTIONS}, got {n_directions}")
    if n_directions and n_nonlinear and n_directions > n_nonlinear:
        raise ValueError(
            f"`n_directions` is {n_directions}, but `n_nonlinear` is {n_nonlinear}: each "
            f"direction needs a unit"
        )
    check_detrend(given.detrend)
    sampling_time(given.dt)
    if isinstance(given.initial, str):
        check_initial(given.initial)
    seconds = check_number("max_seconds", given.max_seconds, above=0.0, finite=False)
    name = given.unit if isinstance(given.unit, str) else ""
    auto, free = name == "auto", name == "polynomial"
    try:
        activation = get_activation("tanh" if auto or free else given.unit)
    except ValueError as error:
        text = str(error).replace("`activation`", "`unit`")
        raise ValueError(f"{text} (`unit` may also be 'auto' or 'polynomial')") from None
    unit = FREE_POLYNOMIAL if free else activation
    if isinstance(unit, PerUnit) or unit.degree == 1:
        raise ValueError(
            f"`unit` is {unit.name!r}, expected one nonlinear activation for all nonlinear "
            f"units; n_nonlinear=0 fits a linear model"
        )
    return IdentificationSettings(
        n_linear=n_linear,
        n_nonlinear=n_nonlinear,
        unit=unit,
        free_coefficients=free,
        auto=auto,
        n_directions=n_directions,
        detrend=given.detrend,
        max_seconds=seconds,
        verbose=verbose,
    )
