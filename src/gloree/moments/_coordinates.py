"""Coordinates in which a moment tensor is decomposed: those that make its noise white."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np

from gloree.models import Network
from gloree.moments._regression import Whitening
from gloree.sequences import Array


@dataclass(frozen=True)
class Coordinates:
    """Linear coordinates of input weights: a row a has coordinates a~ with a = a~ F.

    Attributes
    ----------
    to_inputs : ndarray of shape (n_directions, n_inputs)
        F: rows a~ of unit components times F are rows of A1.
    from_inputs : ndarray of shape (n_inputs, n_directions)
        Its right inverse: A1 times this are coordinates.
    """

    to_inputs: Array
    from_inputs: Array

    @classmethod
    def of_whitening(cls, whitening: Whitening) -> Coordinates:
        """Coordinates x~ = W (x - m), for regression moments."""
        return cls(whitening.matrix, whitening.inverse)

    @property
    def n_directions(self) -> int:
        """Coordinates."""
        return int(self.to_inputs.shape[0])

    def components(self, model: Network) -> Array:
        """Input weights in these coordinates, shape (n_hidden, n_directions)."""
        coordinates: Array = model.input_weights @ self.from_inputs
        return coordinates

    def model_tensor(self, model: Network, degree: int, leading: float) -> Array:
        """Return l! c_l sum_i A2_i (x) a~_i^(x)l, the moment of order l that the model implies."""
        components = self.components(model)
        tensor = model.output_weights.T * (factorial(degree) * leading)
        powers = np.ones((model.n_hidden, 1))
        for _ in range(degree):
            powers = (powers[:, :, None] * components[:, None, :]).reshape(model.n_hidden, -1)
        total: Array = tensor @ powers
        return total.reshape((model.n_outputs,) + (self.n_directions,) * degree)


def score_coordinates(covariance: Array, basis: Array | None = None) -> Coordinates:
    """Coordinates L^-1 s of a score with covariance K = L L^T, for score moments.

    Parameters
    ----------
    covariance : ndarray of shape (n_inputs, n_inputs)
        K of interior steps.
    basis : ndarray of shape (n_inputs, n_directions), optional
        Orthonormal columns, in the coordinates L^-1 s: keep only these directions.
    """
    root: Array = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    inverse: Array = np.asarray(np.linalg.inv(root), dtype=np.float64)
    if basis is None:
        return Coordinates(root.T, inverse.T)
    return Coordinates(basis.T @ root.T, inverse.T @ basis)
