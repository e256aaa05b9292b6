"""Directions along which moments are contracted, and the small systems that undo it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree._arrays import is_tensor, like
from gloree._brief import Brief
from gloree.activations import Polynomial
from gloree.models import Network
from gloree.sequences import Array


def top_degree(model: Network) -> tuple[int, float]:
    """Degree l and leading coefficient c_l of a polynomial activation; else a TypeError."""
    activation = model.activation
    if not isinstance(activation, Polynomial):
        raise TypeError(
            f"recurrence moments need a polynomial activation, the model has {activation.name}"
        )
    return activation.degree, activation.leading


@dataclass(frozen=True)
class Contraction(Brief):
    """Directions along which moments are contracted, and what that does to the weights.

    For boundary type e, B = A2 V^-1 (V a metric of the outputs), D_e = A1 K_e^-1 and

        Psi_e = (B A2^T) o (D_e A1^T)^{o(l-1)}.

    `outputs` holds B, (n_hidden, n_outputs); `inputs` D_e, (n_boundary_types, n_hidden, n_inputs);
    `overlap` Psi_e, (n_boundary_types, n_hidden, n_hidden).
    """

    outputs: Array
    inputs: Array
    overlap: Array

    @classmethod
    def of(
        cls, model: Network, covariances: Array, output_covariance: Array | None = None
    ) -> Contraction:
        """Directions for a model and the score covariances K_e of each boundary type."""
        degree, _ = top_degree(model)
        A1, A2 = model.input_weights, model.output_weights
        B = A2
        if output_covariance is not None:
            jitter = 1e-12 * np.trace(output_covariance) * np.eye(A2.shape[1])
            B = np.linalg.solve(output_covariance + jitter, A2.T).T
        D = np.stack([np.linalg.solve(K, A1.T).T for K in covariances])
        return cls(B, D, (B @ A2.T) * (D @ A1.T) ** (degree - 1))

    @property
    def condition(self) -> float:
        """Condition number of the interior Psi, after scaling its diagonal to one."""
        Psi = self.overlap[0]
        scale = np.sqrt(np.abs(np.diag(Psi)))
        size = np.outer(scale, scale)
        if not np.all(np.isfinite(Psi)) or not np.all(size > 0):
            return np.inf
        return float(np.linalg.cond(Psi / size))


def solve_overlap(overlap: Array, values: Array) -> Array:
    """Solve Psi x = values.

    A singular Psi is a LinAlgError: two units have parallel input *and* output weights.
    """
    try:
        return np.asarray(np.linalg.solve(overlap, values), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(
            "the overlap matrix Psi of the hidden units is singular: two units share their input "
            "and output directions. Fit fewer hidden units"
        ) from error


def solve_overlap_rows(overlap: Array, rows: Array) -> Array:
    """Solve Psi x = row for every row, shape (n_rows, n_hidden)."""
    if not is_tensor(rows):
        return solve_overlap(overlap, rows.T).T
    solved: Array = rows @ like(rows, solve_overlap(overlap, np.eye(overlap.shape[0])).T)
    return solved


def ridge_solve(gram: Array, right: Array, ridge: float) -> Array:
    """Solve (G + ridge diag(G)) x = right, with G scaled to unit diagonal."""
    scale = unit_scale(gram)
    scaled = gram / np.outer(scale, scale) + ridge * np.eye(gram.shape[0])
    return np.asarray(np.linalg.solve(scaled, right / scale[:, None]) / scale[:, None])


def unit_scale(gram: Array) -> Array:
    """Roots of the diagonal of a Gram matrix; 1 where that is zero."""
    scale = np.sqrt(np.maximum(np.diag(gram), 0.0))
    return np.where(scale > 0, scale, 1.0)
