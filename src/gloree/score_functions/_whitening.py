"""White coordinates of inputs and of their scores, and errors by the jackknife."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree._brief import Brief
from gloree.sequences import Array


@dataclass(frozen=True)
class SymmetricWhitening(Brief):
    """Coordinates in which the inputs have unit covariance, or some of these coordinates.

    Attributes
    ----------
    centre : ndarray of shape (n_inputs,)
        Mean of the inputs.
    inputs : ndarray of shape (n_checked, n_inputs)
        Rows of W, the symmetric inverse square root of the correlations of x, over the standard
        deviations, so that units of inputs make no difference: x~ = W (x - centre).
    scores : ndarray of shape (n_checked, n_inputs)
        Rows of W^-T: the score of x~ is s~ = W^-T s.
    """

    centre: Array
    inputs: Array
    scores: Array

    @classmethod
    def from_moments(
        cls, mean: Array, covariance: Array, max_inputs: int | None = None
    ) -> SymmetricWhitening:
        """Build from mean and covariance, with at most `max_inputs` coordinates, evenly spread."""
        spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        units = np.where(spread > 0, spread, 1.0)
        values, vectors = np.linalg.eigh(covariance / np.outer(units, units))
        if not spread.all() or values[0] <= np.finfo(np.float64).eps * values[-1]:
            raise ValueError(
                f"the correlations of the inputs are singular (eigenvalues {values[0]:.3g} to "
                f"{values[-1]:.3g}): leave out constant or collinear columns"
            )
        n_inputs, root = mean.shape[0], np.sqrt(values)
        n_checked = n_inputs if max_inputs is None else min(max_inputs, n_inputs)
        checked = np.round(np.linspace(0, n_inputs - 1, n_checked)).astype(np.int64)
        inputs = (vectors / root) @ vectors.T / units
        scores = (vectors * root) @ vectors.T * units
        return cls(mean.copy(), inputs[checked], scores[checked])


def jackknife_variance(left_out: Array) -> Array:
    """Variance of an estimate, entry by entry, from its values without each of the groups."""
    n_groups = left_out.shape[0]
    spread = left_out - left_out.mean(axis=0)
    return np.asarray((n_groups - 1) / n_groups * (spread**2).sum(axis=0))
