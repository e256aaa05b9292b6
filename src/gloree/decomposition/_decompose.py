"""`decompose`: the default decomposition, least squares from several starts."""

from __future__ import annotations

import numbers
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gloree._parameters import check_integer
from gloree._random import RandomState, as_generator

from ._errors import determined_components
from ._least_squares import Problem, matrix_minimum
from ._levenberg_marquardt import Ending, minimise
from ._result import Decomposition, DecompositionStatus, Outcome, conclude
from ._search import Core, Starts, compress, run_starts
from ._tensor import (
    FloatArray,
    NoiseMetric,
    check_not_zero,
    check_rank,
    check_tensor,
    unit_scale,
)

POLISH_DAMPING = 1e-6
# Beyond this predicted error several minima fit about equally well, the compressed core may have
# lost a direction, and components may cancel.
LARGE_ERROR = 0.1
# Starts on the whole tensor cost more, and where they do not agree soon they never do.
MAX_WHOLE_STARTS = 13


def decompose(
    T: ArrayLike,
    rank: int,
    *,
    output_mode: bool = True,
    score_covariance: ArrayLike | None = None,
    output_scale: ArrayLike | None = None,
    initial: ArrayLike | None = None,
    max_starts: int = 30,
    ridge: Literal["auto"] | float | None = "auto",
    random_state: RandomState = None,
) -> Decomposition:
    r"""Decompose a moment tensor into components and loadings by least squares.

    .. math:: \min_{A, W} \; \Bigl\| \sum_m W_m \otimes A_m^{\otimes p} - T \Bigr\|^2

    over unit rows :math:`A_m`, in the metric of the noise. The method is Levenberg-Marquardt with
    W eliminated, from a matrix-pencil start on a compressed core, polished on all of T; unless the
    first minimum is certified, random starts follow until several agree. Loadings of mixed signs,
    components that are not orthogonal and more components than inputs are all fine: the signal is
    never whitened.

    Parameters
    ----------
    T : array_like of shape (n_outputs, d, d[, d, ..])
        Moment tensor: output mode first, then p >= 2 symmetric input modes.
    rank : int
        Number of components; may exceed d.
    output_mode : bool, default True
        With False, `T` has the p symmetric modes only.
    score_covariance : array_like of shape (d, d), optional
        Covariance K of the scores behind `T`, the noise metric of the symmetric modes. The
        decomposition runs in coordinates in which it is the identity.
    output_scale : array_like of shape (n_outputs,), optional
        Standard deviation of each output, the noise metric of the output mode.
    initial : array_like of shape (rank, d), optional
        Rows close to the solution. The method then polishes them and tries no other start.
    max_starts : int, default 30
        Starts to run before giving up on agreement.
    ridge : "auto", float or None, default "auto"
        Penalty :math:`\mu \|W\|^2` in the noise metric, against components that nearly cancel each
        other. "auto": :math:`\mu = \sigma^2\, \mathrm{rank}\; n_\mathrm{outputs} / \|T\|^2`, with
        :math:`\sigma^2` the noise of an entry, if the predicted error exceeds 0.1, and none
        otherwise. None: plain least squares.
    random_state : None, int, SeedSequence, Generator or RandomState
        Every start draws from a spawned child.

    Returns
    -------
    Decomposition
        `components` of shape (rank, d), `loadings` of shape (rank, n_outputs), with one column if
        there is no output mode, a `status`, predicted standard errors and `accepted`. If no
        trustworthy solution is found the result says so; that is never an exception.

    Raises
    ------
    ValueError, TypeError
        For input that cannot be decomposed: wrong shapes, NaN, a tensor that is zero or far from
        symmetric.

    See Also
    --------
    tensor_power_iteration : the method of the paper.
    choose_rank : estimates the number of components.

    Notes
    -----
    The derivation is in :ref:`theory-lm`, the noise metric in :ref:`theory-whitening`.

    *Cost.* One iteration takes O(rank^2 r^2 (rank + r)) time, r = min(rank, d), after the
    contraction of the core; 10 to 20 iterations for each start are typical. Memory is that of `T`
    and of a (rank r, rank r) matrix.

    *Starts.* One start is enough (status CERTIFIED) if none of its components could be noise and
    its residual holds no further one. Otherwise more starts draw anew those components that might
    be noise, or all of them if rank > d. They stop when two agree and their residual inside the
    core matches the noise outside of it (CERTIFIED too), when three of at least six agree (AGREED),
    or at an exact fit. If the predicted error then exceeds 0.1 the search is repeated on the whole
    tensor. See :ref:`theory-agreement`.

    *A matrix.* With p = 2 and one output, the components are determined only up to a rotation; the
    eigenvectors are returned, with the status ROTATION.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.decomposition import cp_tensor, decompose
    >>> rng = np.random.default_rng(0)
    >>> T = cp_tensor(rng.standard_normal((3, 4)), rng.standard_normal((3, 5)), order=2)
    >>> result = decompose(T, 3, random_state=0)
    >>> result.status.name, bool(np.allclose(result.to_tensor(), T))
    ('EXACT', True)
    """
    rank = check_rank(rank)
    tensor, exponent = check_tensor(T, output_mode=output_mode)
    check_not_zero(tensor)
    max_starts = check_integer("max_starts", max_starts, 1)
    fixed_penalty = _fixed_penalty(ridge)
    if output_scale is not None and not output_mode:
        raise ValueError("`output_scale` needs an output mode; leave it out.")
    metric = NoiseMetric.of(tensor, score_covariance, output_scale)
    rows = None if initial is None else _check_initial(initial, rank, tensor.shape[1])
    whitened, more = unit_scale(metric.whiten(tensor))
    problem, exponent = Problem(whitened), exponent + more
    if (matrix := matrix_minimum(problem, rank)) is not None:
        outcome = Outcome(matrix, DecompositionStatus.ROTATION)
        return conclude(problem, metric, outcome, output_mode, exponent)
    if rows is not None:
        outcome = _polish(problem, metric.whiten_rows(rows), DecompositionStatus.POLISHED)
        result = conclude(problem, metric, outcome, output_mode, exponent)
    else:
        rng = as_generator(random_state)
        core = compress(problem, rank)
        outcome = _search(problem, core, rank, rng, max_starts)
        result = conclude(problem, metric, outcome, output_mode, exponent)
        if core.problem is not problem and _error(result) > LARGE_ERROR:
            outcome = _search_whole(problem, outcome, rng, max_starts)
            result = conclude(problem, metric, outcome, output_mode, exponent)
    penalty = _automatic_penalty(result) if fixed_penalty is None else fixed_penalty
    if penalty == 0:
        return result
    problem = Problem(problem.tensor, penalty)
    ridged = _polish(problem, outcome.point.components, outcome.found)
    outcome = outcome._replace(
        point=ridged.point,
        converged=outcome.converged and ridged.converged,
        n_iterations=outcome.n_iterations + ridged.n_iterations,
    )
    return conclude(problem, metric, outcome, output_mode, exponent)


def _search(
    problem: Problem, core: Core, rank: int, rng: np.random.Generator, max_starts: int
) -> Outcome:
    """Run the first start, and more of them unless it is exact or certified."""
    first = run_starts(core, rank, rng, Starts(), 1)
    outcome = _polish_candidates(problem, core, first)
    kept = None
    if outcome.converged:
        if outcome.found is DecompositionStatus.EXACT:
            return outcome
        determined = determined_components(problem, outcome.point)
        if determined.all():
            return outcome._replace(found=DecompositionStatus.CERTIFIED)
        kept = first.best.components[determined]
    starts = run_starts(core, rank, rng, first, max_starts, kept)
    return _polish_candidates(problem, core, starts)


def _search_whole(
    problem: Problem, outcome: Outcome, rng: np.random.Generator, max_starts: int
) -> Outcome:
    """Search the whole tensor too: a direction may be too weak for the core to hold it."""
    known = outcome.point
    determined = determined_components(problem, known)
    if determined.all():
        return outcome
    core, rank, limit = Core(problem), len(known.components), min(max_starts, MAX_WHOLE_STARTS)
    first, kept = Starts((known.loss,), (known,)), known.components[determined]
    starts = run_starts(core, rank, rng, first, limit, kept)
    again = _polish_candidates(problem, core, starts)
    return again._replace(
        n_starts=outcome.n_starts + again.n_starts - 1,
        n_iterations=outcome.n_iterations + again.n_iterations,
    )


def _polish_candidates(problem: Problem, core: Core, starts: Starts) -> Outcome:
    """Polish the minima that may be the best one, and return what becomes the best."""
    status = starts.status(core)
    rows = [point.components for point in starts.candidates()]
    if core.basis is not None:
        rows = [each @ core.basis.T for each in rows]
    polished = [_polish(problem, each, status) for each in rows]
    return min(polished, key=lambda outcome: outcome.point.loss)._replace(
        n_starts=len(starts.losses),
        n_agreeing=starts.n_within(),
        n_iterations=starts.n_iterations + sum(outcome.n_iterations for outcome in polished),
    )


def _polish(problem: Problem, rows: FloatArray, found: DecompositionStatus) -> Outcome:
    """Converge to rounding on the whole tensor."""
    end = minimise(problem, rows, damping=POLISH_DAMPING)
    converged = end.ending is Ending.CONVERGED
    return Outcome(end.point, found, converged, 1, 1, end.n_iterations)


def _error(result: Decomposition) -> float:
    return max(result.component_error, result.loading_error)


def _fixed_penalty(ridge: object) -> float | None:
    """Return the penalty that the caller wants, None for "auto"."""
    if ridge is None or ridge == "auto":
        return 0.0 if ridge is None else None
    if isinstance(ridge, bool) or not isinstance(ridge, numbers.Real):
        raise ValueError(f"`ridge` must be 'auto', None or a number, got {ridge!r}.")
    if not (np.isfinite(float(ridge)) and float(ridge) >= 0):
        raise ValueError(f"`ridge` must be finite and not negative, got {ridge!r}.")
    return float(ridge)


def _automatic_penalty(result: Decomposition) -> float:
    """Return mu relative to |T|^2: sigma^2 / tau^2 with tau^2 = |T|^2 / (rank n_outputs)."""
    freedom = result.degrees_of_freedom
    if freedom <= 0 or not _error(result) > LARGE_ERROR:
        return 0.0
    return float(result.residual**2 / freedom * result.rank * result.loadings.shape[1])


def _check_initial(initial: ArrayLike, rank: int, size: int) -> FloatArray:
    """Return `initial` as float64 rows of shape (rank, size), none of them zero."""
    rows = np.array(initial, dtype=np.float64)
    if rows.shape != (rank, size):
        raise ValueError(
            f"`initial` must have shape (rank, n_inputs) = ({rank}, {size}), got {rows.shape}."
        )
    if not np.isfinite(rows).all() or not rows.any(axis=1).all():
        raise ValueError("`initial` must have finite rows, none of them zero.")
    return np.asarray(np.ldexp(rows, -np.frexp(np.abs(rows).max(axis=1, keepdims=True))[1]))
