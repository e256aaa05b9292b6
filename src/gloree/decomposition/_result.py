"""What a decomposition returns, made once from the point where a method ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._brief import Brief
from gloree._frames import refuse_masked
from gloree._html import html_matrix, html_page, html_table
from gloree._parameters import check_flag, check_integer

from ._errors import component_covariance, distinct_components, predicted_errors
from ._least_squares import Point, Problem, solve_loadings
from ._score_noise import with_score_noise
from ._tensor import FloatArray, NoiseMetric, degrees_of_freedom, unit_scale

if TYPE_CHECKING:
    from tensorly.cp_tensor import CPTensor

# |R| / |T| below 1e-12: an exact fit, the data hold no noise to be fitted better elsewhere.
EXACT_LOSS = 5e-25
# The rule of acceptance: when measured, 98 results were rightly accepted and 3 wrongly, 41 rightly
# rejected and 2 wrongly.
MAX_PREDICTED_ERROR = 0.2
MAX_LOADING_ERROR = 0.25  # of the worst component
MAX_COSINE = 0.98
MAX_LOADING = 3.0


class DecompositionStatus(enum.Enum):
    """How a decomposition ended.

    The value of each member is its explanation in words; `ok` tells success from failure.
    """

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
    NOT_UNIQUE = (
        "other components next to these give the same tensor: their loadings are parallel, or the "
        "components parallel or linearly dependent; use fewer components, other outputs, or a "
        "moment of higher order"
    )
    POWER_CONVERGED = "whitening succeeded and the power iteration converged for every component"
    POWER_LIMIT = "a power iteration stopped at its iteration limit before it converged"
    WHITENING_FAILED = (
        "no positive definite combination of the slices was found, so the whitened components are "
        "not orthogonal and the result is not to be trusted; use `decompose`, which needs none"
    )

    @property
    def ok(self) -> bool:
        """Whether the method delivered what it promises."""
        end = DecompositionStatus
        return self in (end.EXACT, end.AGREED, end.CERTIFIED, end.POLISHED, end.POWER_CONVERGED)


def cp_tensor(
    loadings: ArrayLike, components: ArrayLike, order: int, *, output_mode: bool = True
) -> FloatArray:
    r"""Build a moment tensor from loadings W (rank, n_outputs) and components A (rank, n_inputs).

    .. math:: T[a, i_1, \dots, i_p] = \sum_m W[m, a] \, A[m, i_1] \cdots A[m, i_p]

    in O(rank n_outputs n_inputs^p) time. `order` is the number p of symmetric modes; without an
    output mode W has one column, and T the symmetric modes only. Raises a ValueError if the shapes
    do not belong together.

    Examples
    --------
    >>> from gloree.decomposition import cp_tensor
    >>> cp_tensor([[2.0]], [[1.0, 0.0]], order=2)
    array([[[2., 0.],
            [0., 0.]]])
    """
    import tensorly as tl  # slow to import

    dense = tl.cp_to_tensor(_as_cp(loadings, components, order, output_mode))
    return np.asarray(dense, dtype=np.float64)


def _as_cp(loadings: ArrayLike, components: ArrayLike, order: int, output_mode: bool) -> CPTensor:
    from tensorly.cp_tensor import CPTensor

    order = check_integer("order", order, 1)
    check_flag("output_mode", output_mode)
    refuse_masked(loadings, "loadings")
    refuse_masked(components, "components")
    weights = np.asarray(loadings, dtype=np.float64)
    rows = np.asarray(components, dtype=np.float64)
    if weights.ndim != 2 or rows.ndim != 2 or len(weights) != len(rows):
        raise ValueError(
            "`loadings` (rank, n_outputs) and `components` (rank, n_inputs) must be 2-D with one "
            f"row per unit each, got shapes {weights.shape} and {rows.shape}."
        )
    if output_mode:
        return CPTensor((np.ones(len(rows)), [weights.T] + [rows.T] * order))
    if weights.shape[1] != 1:
        raise ValueError(
            "without an output mode `loadings` must have one column, got shape "
            f"{weights.shape}; pass `output_mode=True` for several outputs."
        )
    return CPTensor((weights[:, 0].copy(), [rows.T] * order))


@dataclass(frozen=True)
class Decomposition(Brief):
    r"""A symmetric CP decomposition in canonical form, and how far to trust it.

    .. math:: T[a, i_1, \dots, i_p] \approx \sum_m W[m, a] \, A[m, i_1] \cdots A[m, i_p]

    The rows of A have unit length. Units are in order of decreasing |W[m]|, and the entry of
    largest magnitude in each row of A is positive (for odd p, W absorbs the sign).

    Attributes
    ----------
    components : ndarray of shape (rank, n_inputs)
        A, unit rows.
    loadings : ndarray of shape (rank, n_outputs)
        W; one column without an output mode.
    status : DecompositionStatus
        How the method ended.
    residual : float
        |T - fit| / |T|, in the noise metric if there is one.
    condition : float
        Condition number of A. A large value alone does not make a decomposition bad.
    order : int
        Number p of symmetric modes.
    output_mode : bool
        Whether the first mode of the tensor is the output mode.
    n_starts, n_agreeing : int
        Number of starts, and how many of them reached the best loss.
    n_iterations : int
        Iterations of all starts and of the polish.
    component_errors, loading_errors : ndarray of shape (rank,)
        Predicted relative standard errors of each row of A and of W. They are infinite if no
        degrees of freedom are left to estimate the noise, or if a direction is not determined.
    max_cosine : float
        Largest |cos| between two components, in the noise metric.
    max_loading : float
        Largest |W[m]| / |T|, in the noise metric; large if components cancel each other.
    degrees_of_freedom : int
        Independent entries of the tensor less free parameters, see
        `gloree.decomposition.degrees_of_freedom`.
    distinct : ndarray of bool of shape (rank,)
        Which components are determined along all their directions, better than one that noise
        alone would make.
    ridge : float
        Penalty on |W|^2; 0 for plain least squares.
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
    distinct: NDArray[np.bool_]
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
        relative = unit_scale(self.loadings)[0]
        squares = np.sum(relative**2, axis=1)
        if not (squares > 0).all():
            return float("inf")
        return float(np.sqrt(np.sum(self.loading_errors**2 * squares) / np.sum(squares)))

    @property
    def accepted(self) -> bool:
        """Whether the result can be trusted: there is no `objection`."""
        return not self.objection

    @property
    def objection(self) -> str:
        """Why the result is not to be trusted; empty if it is.

        The method has to succeed (`status.ok`), the predicted errors to be below 0.2, no two
        components nearly parallel (`max_cosine` below 0.98), none nearly to cancel each other
        (`max_loading` below 3), and every single one `distinct`, with an error of its loadings
        below 0.25: of a true component that is split in two, each half looks distinct.
        """
        return self.overall_objection or self._objection_to_components()

    @property
    def overall_objection(self) -> str:
        """The same without the judgement of single components."""
        errors = (self.component_error, self.loading_error)
        if not self.status.ok:
            return f"status {self.status.name}"
        if not max(errors) < MAX_PREDICTED_ERROR:
            return f"predicted errors {errors[0]:.2g} and {errors[1]:.2g}"
        if not self.max_cosine < MAX_COSINE:
            return f"largest |cos| {self.max_cosine:.3f}"
        if not self.max_loading < MAX_LOADING:
            return f"largest |W|/|T| {self.max_loading:.2g}"
        return ""

    def _objection_to_components(self) -> str:
        sound = self.distinct & (self.loading_errors < MAX_LOADING_ERROR)
        if sound.all():
            return ""
        weak = ", ".join(str(index) for index in np.flatnonzero(~sound))
        return f"noise might have made component(s) {weak}, or turned them into each other"

    def to_cp(self, order: int | None = None) -> CPTensor:
        """Return a TensorLy ``CPTensor``; `order` defaults to that of the decomposed tensor."""
        return _as_cp(self.loadings, self.components, order or self.order, self.output_mode)

    def to_tensor(self, order: int | None = None) -> FloatArray:
        """Return the fitted tensor; `order` defaults to that of the decomposed tensor."""
        import tensorly as tl

        return np.asarray(tl.cp_to_tensor(self.to_cp(order)), dtype=np.float64)

    def __str__(self) -> str:
        rows = [
            f"Decomposition of rank {self.rank}: {self.components.shape[1]} inputs, "
            f"{self.loadings.shape[1]} outputs, order {self.order}",
            f"  accepted     {'yes' if self.accepted else 'no: ' + self.objection}",
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

    def _repr_html_(self) -> str:
        """For notebooks: whether to trust it, each component with its errors, and a picture."""
        columns = (self.component_errors, self.loading_errors)
        rows = [
            (i, f"{a:.2g}", f"{b:.2g}", "yes" if distinct else "no")
            for i, (a, b, distinct) in enumerate(zip(*columns, self.distinct, strict=True))
        ]
        return html_page(
            f"Decomposition of rank {self.rank}",
            "accepted" if self.accepted else f"not accepted: {self.objection}",
            html_table(("component", "error", "error of loadings", "distinct"), rows),
            html_matrix(self.components, "components"),
            html_matrix(self.loadings, "loadings"),
        )


class Outcome(NamedTuple):
    """The point where a method ended, and how it got there."""

    point: Point
    found: DecompositionStatus
    converged: bool = True
    n_starts: int = 0
    n_agreeing: int = 0
    n_iterations: int = 0


def conclude(
    problem: Problem, metric: NoiseMetric, outcome: Outcome, output_mode: bool, exponent: int
) -> Decomposition:
    """Solve for the loadings once more, accurately, and put everything in canonical form.

    The tensor is that of the problem times 2^exponent.
    """
    point, order = outcome.point, problem.order
    rank, size = point.components.shape
    rotation = outcome.found is DecompositionStatus.ROTATION
    if not problem.penalty and not rotation:
        loadings = solve_loadings(problem.tensor, point.components)
        if loadings is not None:
            point = point._replace(loadings=loadings)
    misfit = cp_tensor(point.loadings, point.components, order)
    misfit -= problem.tensor
    norm = np.sqrt(problem.squared_norm)
    residual = float(np.linalg.norm(misfit) / norm)
    freedom = degrees_of_freedom(problem.n_slices, size, rank, order)
    variance = np.inf
    if freedom > 0 and not rotation:
        variance = residual**2 * problem.squared_norm / freedom
    covariance = component_covariance(problem, point) if np.isfinite(variance) else None
    component_errors, loading_errors = predicted_errors(
        problem, point, metric, variance, covariance
    )
    distinct = distinct_components(problem, variance, covariance, rank)
    unique = covariance is not None and not covariance.is_singular
    cosines = np.abs(point.gram - np.diag(point.gram.diagonal()))
    rows, weights = metric.restore(point.components, point.loadings, order)
    rows, weights, arrangement = _canonical(rows, weights, order)
    found = Decomposition(
        components=rows,
        loadings=np.ldexp(weights, exponent),
        status=_status(outcome, freedom, residual, unique=unique),
        residual=residual,
        condition=float(np.linalg.cond(rows)),
        order=order,
        output_mode=output_mode,
        n_starts=outcome.n_starts,
        n_agreeing=outcome.n_agreeing,
        n_iterations=outcome.n_iterations,
        component_errors=component_errors[arrangement],
        loading_errors=loading_errors[arrangement],
        max_cosine=float(cosines.max()),
        max_loading=float(np.linalg.norm(point.loadings, axis=1).max() / norm),
        degrees_of_freedom=freedom,
        distinct=distinct[arrangement],
        ridge=problem.penalty,
    )
    return with_score_noise(found, metric)


def _status(
    outcome: Outcome, freedom: int, residual: float, *, unique: bool
) -> DecompositionStatus:
    """Decide the status: what least squares found counts for less than what the tensor says."""
    if not outcome.converged:
        return DecompositionStatus.ITERATION_LIMIT
    end = DecompositionStatus
    if outcome.found in (end.ROTATION, end.POWER_LIMIT, end.WHITENING_FAILED):
        return outcome.found
    if freedom <= 0:
        power = outcome.found is end.POWER_CONVERGED
        return outcome.found if power else DecompositionStatus.UNDERDETERMINED
    if not unique:
        return DecompositionStatus.NOT_UNIQUE
    if outcome.found is end.POWER_CONVERGED:
        return outcome.found
    return DecompositionStatus.EXACT if residual**2 / 2 < EXACT_LOSS else outcome.found


def _canonical(
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
