"""What a decomposition returns: the components, their loadings, and how far to trust them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import tensorly as tl
from numpy.typing import ArrayLike, NDArray
from tensorly.cp_tensor import CPTensor

FloatArray = NDArray[np.float64]

# The accept rule: 98 right and 3 wrong acceptances, 41 right and 2 wrong rejections when measured.
MAX_PREDICTED_ERROR = 0.2
MAX_COSINE = 0.98
MAX_LOADING = 3.0


class DecompositionStatus(enum.Enum):
    """How a decomposition ended; the value of each member is its explanation."""

    EXACT = "the tensor is fitted to rounding error"
    AGREED = "several starts reached the same least-squares solution, the best one seen"
    CERTIFIED = (
        "every component stands above the noise and the residual holds no further one, or two "
        "starts agree and their residual is what the noise outside of the components' span predicts"
    )
    POLISHED = "polished from the start rows in `initial`; no other start was tried"
    NO_AGREEMENT = (
        "fewer than three starts reached the best solution seen, so a better one may exist: the "
        "tensor may be too noisy for this `rank`; use more data, fewer components or more starts"
    )
    ITERATION_LIMIT = (
        "stopped at the iteration limit before the loss settled: components that nearly cancel "
        "are the usual cause; use fewer components or a `ridge`"
    )
    ROTATION = (
        "one output slice and order two: the components are determined only up to a rotation; the "
        "eigenvectors are returned. Use more outputs or a moment of order three"
    )
    UNDERDETERMINED = (
        "the unknowns are as many as the entries of the tensor or more, so noise is fitted like "
        "signal: use more outputs, fewer components or a moment of higher order"
    )
    POWER_CONVERGED = "whitening succeeded and the power iteration converged for every component"
    POWER_LIMIT = "a power iteration stopped at its iteration limit before it converged"
    WHITENING_FAILED = (
        "no positive definite combination of the slices was found, so the whitened components are "
        "not orthogonal and the result is not to be trusted; use `decompose`, which needs none"
    )

    @property
    def ok(self) -> bool:
        """Whether the method did what it promises."""
        return self in _SUCCESSES


_SUCCESSES = frozenset(
    {
        DecompositionStatus.EXACT,
        DecompositionStatus.AGREED,
        DecompositionStatus.CERTIFIED,
        DecompositionStatus.POLISHED,
        DecompositionStatus.POWER_CONVERGED,
    }
)


def to_cp(
    loadings: ArrayLike, components: ArrayLike, order: int, *, output_mode: bool = True
) -> CPTensor:
    """Return (loadings, components) as a TensorLy ``CPTensor`` with unit weights.

    Parameters
    ----------
    loadings : array_like of shape (rank, n_outputs)
        Output weights W.
    components : array_like of shape (rank, n_inputs)
        Input directions A.
    order : int
        Number p of symmetric modes.
    output_mode : bool, default True
        With False the tensor has no output mode, and the single loading of a unit is its weight.

    Returns
    -------
    tensorly.cp_tensor.CPTensor
        Factors: W^T (when there is an output mode), then p times A^T.
    """
    weights = np.asarray(loadings, dtype=np.float64)
    rows = np.asarray(components, dtype=np.float64)
    if weights.ndim != 2 or rows.ndim != 2 or len(weights) != len(rows):
        raise ValueError(
            "`loadings` (rank, n_outputs) and `components` (rank, n_inputs) must be 2-D with one "
            f"row per unit each, got shapes {weights.shape} and {rows.shape}."
        )
    if not output_mode:
        if weights.shape[1] != 1:
            raise ValueError(
                "without an output mode `loadings` must have one column, got shape "
                f"{weights.shape}; pass `output_mode=True` for several outputs."
            )
        return CPTensor((weights[:, 0].copy(), [rows.T] * order))
    return CPTensor((np.ones(len(rows)), [weights.T] + [rows.T] * order))


def cp_tensor(
    loadings: ArrayLike, components: ArrayLike, order: int, *, output_mode: bool = True
) -> FloatArray:
    """Build T[a, i, j, ..] = sum_m W[m, a] A[m, i] A[m, j] ... from its components.

    Parameters
    ----------
    loadings : array_like of shape (rank, n_outputs)
        Output weights W.
    components : array_like of shape (rank, n_inputs)
        Input directions A.
    order : int
        Number p of symmetric modes.
    output_mode : bool, default True
        With False the tensor has the p symmetric modes only.

    Returns
    -------
    ndarray of shape (n_outputs, n_inputs, ..., n_inputs)
        The tensor, with `order` symmetric modes; O(rank n_outputs n_inputs^order) time.

    Examples
    --------
    >>> from gloree.decomposition import cp_tensor
    >>> cp_tensor([[2.0]], [[1.0, 0.0]], order=2)
    array([[[2., 0.],
            [0., 0.]]])
    """
    dense = tl.cp_to_tensor(to_cp(loadings, components, order, output_mode=output_mode))
    return np.asarray(dense, dtype=np.float64)


@dataclass(frozen=True)
class Decomposition:
    """A symmetric CP decomposition in canonical form, and the evidence for it.

    T[a, i, j, ..] = sum_m W[m, a] A[m, i] A[m, j] ..., unit rows in A, units in order of decreasing
    |W[m]|, the largest-magnitude entry of each row of A positive (for an odd order its sign is
    absorbed in W).

    Attributes
    ----------
    components : ndarray of shape (rank, n_inputs)
        A, unit rows.
    loadings : ndarray of shape (rank, n_outputs)
        W.
    status : DecompositionStatus
        How the method ended.
    residual : float
        |T - fit| / |T|, in the noise metric when one was given.
    condition : float
        Condition number of A. Large values alone do not make a decomposition bad.
    order : int
        Number of symmetric modes.
    output_mode : bool
        Whether the tensor's first mode is the output mode.
    n_starts, n_agreeing : int
        Starts run, and those that reached the best loss.
    n_iterations : int
        Iterations in all starts and the polish.
    component_errors, loading_errors : ndarray of shape (rank,)
        Predicted relative standard errors of each row of A and of W; infinite where no degrees of
        freedom are left to estimate the noise, or where a direction is not determined at all.
    max_cosine : float
        Largest |cos| between two components, in the noise metric.
    max_loading : float
        Largest |W[m]| / |T|, in the noise metric; components that cancel have large ones.
    degrees_of_freedom : int
        Independent entries of the tensor less free parameters.
    ridge : float
        Penalty on |W|^2 that was used; 0 for plain least squares.
    """

    components: FloatArray
    loadings: FloatArray
    status: DecompositionStatus
    residual: float
    condition: float
    order: int
    output_mode: bool
    n_starts: int
    n_agreeing: int
    n_iterations: int
    component_errors: FloatArray
    loading_errors: FloatArray
    max_cosine: float
    max_loading: float
    degrees_of_freedom: int
    ridge: float = 0.0

    @property
    def rank(self) -> int:
        """Number of components."""
        return len(self.components)

    @property
    def component_error(self) -> float:
        """Predicted relative (Frobenius) standard error of all components together."""
        return float(np.sqrt(np.mean(self.component_errors**2)))

    @property
    def loading_error(self) -> float:
        """Predicted relative (Frobenius) standard error of all loadings together."""
        squares = np.sum(self.loadings**2, axis=1)
        known = squares > 0
        if not known.all():
            return float("inf")
        return float(np.sqrt(np.sum(self.loading_errors**2 * squares) / np.sum(squares)))

    @property
    def accepted(self) -> bool:
        """Whether the result is to be trusted.

        The method reached its promise (`status.ok`), the predicted errors stay below 0.2, no two
        components are nearly parallel (|cos| < 0.98) and none nearly cancel (|W[m]| < 3 |T|).
        """
        return (
            self.status.ok
            and max(self.component_error, self.loading_error) < MAX_PREDICTED_ERROR
            and self.max_cosine < MAX_COSINE
            and self.max_loading < MAX_LOADING
        )

    def to_cp(self, order: int | None = None) -> CPTensor:
        """Return a TensorLy ``CPTensor``; `order` defaults to that of the decomposed tensor."""
        return to_cp(
            self.loadings, self.components, order or self.order, output_mode=self.output_mode
        )

    def to_tensor(self, order: int | None = None) -> FloatArray:
        """Return the fitted tensor; `order` defaults to that of the decomposed tensor."""
        return cp_tensor(
            self.loadings, self.components, order or self.order, output_mode=self.output_mode
        )

    def __str__(self) -> str:
        rows = [
            f"Decomposition of rank {self.rank}: {self.components.shape[1]} inputs, "
            f"{self.loadings.shape[1]} outputs, order {self.order}",
            f"  accepted     {'yes' if self.accepted else 'no'}",
            f"  status       {self.status.name}: {self.status.value}",
            f"  residual     {self.residual:.3g} of |T|, {self.degrees_of_freedom} degrees of "
            f"freedom, ridge {self.ridge:.3g}",
            f"  starts       {self.n_agreeing} of {self.n_starts} agree, "
            f"{self.n_iterations} iterations",
            f"  errors       components {self.component_error:.3g}, "
            f"loadings {self.loading_error:.3g} (predicted, relative)",
            f"  conditioning condition {self.condition:.3g}, largest |cos| {self.max_cosine:.3g}, "
            f"largest |W_m|/|T| {self.max_loading:.3g}",
        ]
        return "\n".join(rows)


def canonical(
    components: FloatArray, loadings: FloatArray, order: int
) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Return (A, W) in canonical form and the permutation of the units that led there."""
    arrangement = np.argsort(-np.linalg.norm(loadings, axis=1), kind="stable")
    rows, weights = components[arrangement], loadings[arrangement]
    largest = np.argmax(np.abs(rows), axis=1)
    signs = np.where(rows[np.arange(len(rows)), largest] < 0, -1.0, 1.0)
    rows = rows * signs[:, None]
    if order % 2 == 1:
        weights = weights * signs[:, None]
    return rows, weights, arrangement
