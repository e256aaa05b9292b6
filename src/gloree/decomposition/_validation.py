"""Checks of what a caller passes, and the symmetric part of a tensor."""

from __future__ import annotations

import itertools
import math
import numbers
from typing import Any

import numpy as np

from ._result import FloatArray

# Moments are symmetric to rounding, and averages over unequal passes nearly so. A tenth of the norm
# is neither: the modes are out of order, or it is another tensor.
ASYMMETRY_LIMIT = 0.1


def check_rank(rank: Any) -> int:
    """Return `rank` as an int of at least 1."""
    if np.ndim(rank):
        raise TypeError(
            f"`rank` must be an integer, got an array of shape {np.shape(rank)}: the arguments are "
            f"(T, rank)."
        )
    if isinstance(rank, bool) or not isinstance(rank, numbers.Integral):
        raise TypeError(f"`rank` must be an integer, got {rank!r} of type {type(rank).__name__}.")
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank}.")
    return int(rank)


def check_tensor(T: Any, *, output_mode: bool, name: str = "T") -> FloatArray:
    """Return the symmetric part of T as float64 of shape (n_outputs, d, .., d)."""
    if np.iscomplexobj(T):
        raise ValueError(f"`{name}` must be real, got a complex array; pass `{name}.real`.")
    tensor = np.asarray(T, dtype=np.float64)
    layout = "(n_outputs, d, d[, d ..])" if output_mode else "(d, d[, d ..])"
    if tensor.ndim < 2 + output_mode:
        hint = (
            " Pass `output_mode=False` if there is no output mode." if output_mode else ""
        ) + " A matrix of first-order moments fixes a span only, not its components."
        raise ValueError(
            f"`{name}` must have shape {layout}, two symmetric modes at least; got shape "
            f"{tensor.shape}.{hint}"
        )
    if not output_mode:
        tensor = tensor[None]
    if tensor.size == 0 or len(set(tensor.shape[1:])) != 1:
        raise ValueError(
            f"`{name}` must have shape {layout} with equal, non-empty symmetric modes; got shape "
            f"{np.shape(T)}. The output mode comes first."
        )
    if not np.isfinite(tensor).all():
        n_bad = int(np.count_nonzero(~np.isfinite(tensor)))
        raise ValueError(
            f"`{name}` contains NaN or infinity in {n_bad} of {tensor.size} entries; a diverged "
            "simulation or missing data are the usual cause. Remove those sequences first."
        )
    return symmetric_part(tensor, name)


def symmetric_part(tensor: FloatArray, name: str = "T") -> FloatArray:
    """Average a (n_outputs, d, .., d) tensor over permutations of its symmetric modes."""
    order = tensor.ndim - 1
    exchanged = [tensor.swapaxes(i, i + 1) for i in range(1, order)]
    if all(np.array_equal(tensor, other) for other in exchanged):
        return np.ascontiguousarray(tensor)
    average = np.zeros_like(tensor, order="C")
    for axes in itertools.permutations(range(1, order + 1)):
        average += tensor.transpose(0, *axes)
    average /= math.factorial(order)
    size = float(np.linalg.norm(tensor))
    asymmetry = float(np.linalg.norm(tensor - average)) / size
    if asymmetry > ASYMMETRY_LIMIT:
        raise ValueError(
            f"`{name}` must be symmetric in its {order} input modes, but its antisymmetric part "
            f"has {asymmetry:.2g} of its norm (limit {ASYMMETRY_LIMIT}); check the order of the "
            "modes: outputs first, then inputs."
        )
    return average


def check_not_zero(tensor: FloatArray, name: str = "T") -> None:
    """Raise if there is nothing to decompose."""
    if not tensor.any():
        raise ValueError(
            f"`{name}` is zero everywhere: it has no components. A constant output, or a moment of "
            "higher order than the degree of the activation, is the usual cause."
        )


def check_start_rows(initial: Any, rank: int, size: int) -> FloatArray:
    """Return `initial` as float64 rows of shape (rank, size), none of them zero."""
    rows = np.array(initial, dtype=np.float64)
    if rows.shape != (rank, size):
        raise ValueError(
            f"`initial` must have shape (rank, n_inputs) = ({rank}, {size}), got {rows.shape}."
        )
    if not np.isfinite(rows).all() or not np.linalg.norm(rows, axis=1).all():
        raise ValueError("`initial` must have finite rows, none of them zero.")
    return rows


def n_entries(n_outputs: int, n_inputs: int, order: int) -> int:
    """Count the independent entries of a (n_outputs, d, .., d) tensor symmetric in d."""
    return n_outputs * math.comb(n_inputs + order - 1, order)


def degrees_of_freedom(n_outputs: int, n_inputs: int, rank: int, order: int = 2) -> int:
    """Independent entries of the tensor less the free parameters of its components.

    n_outputs C(d + p - 1, p) - rank (d + n_outputs - 1). Must be clearly positive for the
    components to be recoverable under noise.

    Parameters
    ----------
    n_outputs, n_inputs, rank : int
        Sizes; `n_outputs` is 1 for a tensor without an output mode.
    order : int, default 2
        Number p of symmetric modes.

    Returns
    -------
    int
        The number of degrees of freedom left for noise; may be negative.

    Examples
    --------
    >>> from gloree.decomposition import degrees_of_freedom
    >>> degrees_of_freedom(2, 10, 10)
    0
    """
    return n_entries(n_outputs, n_inputs, order) - rank * (n_inputs + n_outputs - 1)
