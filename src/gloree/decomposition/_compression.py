"""The small core in which the starts run, and what its complement says about the noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._result import FloatArray
from ._validation import degrees_of_freedom, n_entries
from ._whitening import multiply_modes

# A certificate needs enough entries on both sides for its F test to mean something.
MIN_DEGREES = 20
# Below this share of |T|^2 the complement is rounding error, not noise.
MIN_OUTSIDE = 1e-13


class Core(NamedTuple):
    """T restricted to its leading subspaces, and their orthonormal bases."""

    tensor: FloatArray  # (s, r, .., r)
    basis: FloatArray | None  # (d, r), None when r = d
    is_whole: bool  # nothing but rounding error was left out
    noise_band: tuple[float, float] | None  # losses of the core that the outside noise predicts


def leading_subspace(matrix: FloatArray, size: int) -> FloatArray:
    """Return the `size` leading left singular vectors of a wide matrix, through its Gram matrix."""
    vectors = np.linalg.eigh(matrix @ matrix.T)[1]
    return np.asarray(vectors[:, : -size - 1 : -1])


def compress(tensor: FloatArray, rank: int) -> Core:
    """Project on min(rank, d) input directions and min(rank, n_outputs) output directions.

    The residual of the right solution inside the core has the noise level that is seen outside of
    it. `noise_band` is the interval for the core's loss |R|^2 / (2 |core|^2) in which a residual
    agrees with it within three standard deviations.
    """
    n_outputs, n_inputs = tensor.shape[:2]
    order = tensor.ndim - 1
    n_kept, n_directions = min(rank, n_outputs), min(rank, n_inputs)
    if n_kept == n_outputs and n_directions == n_inputs:
        return Core(tensor, None, True, None)
    core, basis = tensor, None
    if n_directions < n_inputs:
        basis = leading_subspace(tensor.swapaxes(0, 1).reshape(n_inputs, -1), n_directions)
        core = multiply_modes(core, basis.T)
    if n_kept < n_outputs:
        flat = core.reshape(n_outputs, -1)
        outputs = leading_subspace(flat, n_kept)
        core = (outputs.T @ flat).reshape(n_kept, *core.shape[1:])
    kept = float(np.vdot(core, core))
    total = float(np.vdot(tensor, tensor))
    inside = degrees_of_freedom(n_kept, n_directions, rank, order)
    captured = (
        n_entries(n_kept, n_directions, order)
        + n_directions * (n_inputs - n_directions)
        + n_kept * (n_outputs - n_kept)
    )
    outside = n_entries(n_outputs, n_inputs, order) - captured
    if total - kept < MIN_OUTSIDE * total:
        return Core(core, basis, True, None)
    if min(inside, outside) < MIN_DEGREES:
        return Core(core, basis, False, None)
    expected = (total - kept) / outside * inside / (2 * kept)
    spread = 3 * np.sqrt(2 / inside + 2 / outside)
    return Core(core, basis, False, (expected * max(0.0, 1 - spread), expected * (1 + spread)))
