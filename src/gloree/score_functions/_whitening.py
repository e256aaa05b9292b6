"""Coordinates in which Stein's identity is checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree.sequences import Array


@dataclass(frozen=True)
class SymmetricWhitening:
    """Coordinates in which the inputs have unit covariance, or some of these coordinates.

    Attributes
    ----------
    centre : ndarray of shape (n_inputs,)
        Mean of the inputs.
    inputs : ndarray of shape (n_checked, n_inputs)
        Rows of W, the symmetric inverse square root of Cov(x): x~ = W (x - centre).
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
        """Build from mean and covariance, with at most `max_inputs` coordinates, evenly spread.

        Raises
        ------
        ValueError
            If the covariance is singular.
        """
        values, vectors = np.linalg.eigh(covariance)
        if values[0] <= np.finfo(np.float64).eps * values[-1]:
            raise ValueError(
                f"the covariance of the inputs is singular (eigenvalues {values[0]:.3g} to "
                f"{values[-1]:.3g}): leave out constant or collinear columns"
            )
        n_inputs = mean.shape[0]
        checked = np.arange(n_inputs)
        if max_inputs is not None and max_inputs < n_inputs:
            checked = np.round(np.linspace(0, n_inputs - 1, max_inputs)).astype(np.int64)
        return cls(
            mean.copy(),
            ((vectors / np.sqrt(values)) @ vectors.T)[checked],
            ((vectors * np.sqrt(values)) @ vectors.T)[checked],
        )
