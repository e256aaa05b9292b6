"""Coordinates in which a moment tensor is taken and decomposed: its noise is white in them."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np

from gloree._arrays import like
from gloree._brief import Brief
from gloree.models import Network
from gloree.sequences import Array


@dataclass(frozen=True)
class Whitening(Brief):
    """Affine map to coordinates of unit covariance, x~ = W (x - mean).

    Attributes
    ----------
    mean : ndarray of shape (n_inputs,)
    matrix : ndarray of shape (n_directions, n_inputs)
        W.
    inverse : ndarray of shape (n_inputs, n_directions)
        Right inverse of W on the directions kept.
    """

    mean: Array
    matrix: Array
    inverse: Array

    @classmethod
    def from_covariance(cls, mean: Array, covariance: Array, *, rtol: float = 1e-12) -> Whitening:
        """Whiten along the principal directions of a covariance, shape (n_inputs, n_inputs).

        Inputs count in units of the power of two next to their spread, so that their own units do
        not matter. Directions whose variance is below the fraction `rtol` of the largest are left
        out.
        """
        spread = np.sqrt(np.diag(covariance))
        unit = np.exp2(np.round(np.log2(np.where(spread > 0.0, spread, 1.0))))
        values, vectors = np.linalg.eigh(covariance / np.outer(unit, unit))
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = int(np.sum(values > rtol * values[0]))
        root, vectors = np.sqrt(values[:kept]), vectors[:, :kept]
        return cls(mean.copy(), vectors.T / root[:, None] / unit, unit[:, None] * vectors * root)

    @property
    def n_directions(self) -> int:
        """Number of coordinates."""
        return int(self.matrix.shape[0])

    def restrict(self, basis: Array) -> Whitening:
        """Keep only the coordinates along orthonormal columns of `basis`."""
        return Whitening(self.mean, basis.T @ self.matrix, self.inverse @ basis)

    def __call__(self, X: Array) -> Array:
        """Whitened rows."""
        whitened: Array = X @ like(X, self.matrix.T) - like(X, self.matrix @ self.mean)
        return whitened


@dataclass(frozen=True)
class Coordinates(Brief):
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
        """Number of coordinates."""
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


def score_coordinates(covariance: Array) -> Coordinates:
    """Coordinates L^-1 s of a score with covariance K = L L^T, shape (n_inputs, n_inputs)."""
    root = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    return Coordinates(root.T, np.asarray(np.linalg.inv(root), dtype=np.float64).T)
