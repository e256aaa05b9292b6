"""`decompose`: the default decomposition, least squares from several starts."""

from __future__ import annotations

import numbers
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ._certificate import determined_components
from ._compression import Core, compress
from ._lm import minimise
from ._outcome import Outcome, build_decomposition, eigen_outcome, is_one_slice
from ._problem import Problem
from ._result import Decomposition, DecompositionStatus, FloatArray
from ._search import Search
from ._validation import check_not_zero, check_rank, check_start_rows, check_tensor
from ._whitening import NoiseMetric

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
    random_state: Any = None,
) -> Decomposition:
    r"""Find T[a, i, j, ..] = sum_m W[m, a] A[m, i] A[m, j] ... + noise by least squares.

    Minimises |sum_m W_m (x) A_m (x) A_m .. - T|^2 over unit rows A_m and W, in the noise metric,
    by variable-projection Levenberg-Marquardt from a matrix-pencil start on a compressed core,
    polished on all of T. Unless that is certified, random starts follow until they agree. Mixed
    signs, non-orthogonal components and rank > d are all fine: the signal is never whitened.

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
        Start rows close to the solution: only polish from there.
    max_starts : int, default 30
        Starts to run before giving up on agreement.
    ridge : "auto", float or None, default "auto"
        Penalty mu |W|^2 in the noise metric, which removes components that nearly cancel. "auto"
        uses mu = sigma^2 rank n_outputs / |T|^2 (sigma^2: noise per entry) when the predicted
        error exceeds 0.1, else none. None: plain least squares.
    random_state : None, int, SeedSequence or Generator
        Passed to `numpy.random.default_rng`; every start draws from a spawned child.

    Returns
    -------
    Decomposition
        `components` (rank, d), `loadings` (rank, n_outputs; one column without an output mode), a
        `status`, predicted standard errors and `accepted`. Failure to find a trustworthy solution
        is reported there, never raised.

    Raises
    ------
    ValueError, TypeError
        For input that cannot be decomposed: wrong shapes, NaN, a tensor far from symmetric, zero.

    Notes
    -----
    One iteration costs O(rank^2 r^2 (rank + r)), r = min(rank, d), after the contraction of the
    core; 10 to 20 iterations a start are typical. The order-two problem with one output is a matrix
    and its components are free up to a rotation; its eigenvectors are returned.

    The first start is enough (status CERTIFIED) if none of its components could be noise and its
    residual holds no further one: each is better determined than the largest rank-one term of the
    noise would be. Otherwise more starts redraw the components that might be noise, or all of them
    if the residual holds another or rank > d. They stop when two agree and their residual inside
    the core matches the noise outside of it (CERTIFIED too), at three of six or more agreeing
    (AGREED), or at an exact fit. When the predicted error exceeds 0.1 the search is repeated on the
    whole tensor.

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
    tensor = check_tensor(T, output_mode=output_mode)
    check_not_zero(tensor)
    if max_starts < 1:
        raise ValueError(f"`max_starts` must be at least 1, got {max_starts}.")
    _check_ridge(ridge)
    if output_scale is not None and not output_mode:
        raise ValueError("`output_scale` needs an output mode; leave it out.")
    n_outputs, n_inputs = tensor.shape[:2]
    order = tensor.ndim - 1
    metric = NoiseMetric(n_outputs, n_inputs, score_covariance, output_scale)
    if initial is not None:
        initial = check_start_rows(initial, rank, n_inputs)
    white = metric.whiten(tensor)
    problem = Problem(white)
    if order == 2 and rank > 1 and is_one_slice(white):
        return build_decomposition(problem, eigen_outcome(white, rank), metric, output_mode)
    if initial is not None:
        outcome = _polish(problem, metric.whiten_rows(initial), DecompositionStatus.POLISHED)
        result = build_decomposition(problem, outcome, metric, output_mode)
    else:
        rng = np.random.default_rng(random_state)
        core = compress(white, rank)
        search = Search(core, rank, rng)
        outcome, certified = _first_start(problem, search)
        if not certified and outcome.status is not DecompositionStatus.EXACT:
            outcome = _search_and_polish(problem, search, max_starts)
        result = build_decomposition(problem, outcome, metric, output_mode)
        if not certified and core.tensor is not white and _error(result) > LARGE_ERROR:
            outcome = _search_whole(problem, outcome, rng, max_starts)
            result = build_decomposition(problem, outcome, metric, output_mode)
    if ridge is None:
        penalty = 0.0
    elif ridge != "auto":
        penalty = float(ridge)
    elif _error(result) > LARGE_ERROR and result.degrees_of_freedom > 0:
        penalty = result.residual**2 / result.degrees_of_freedom * rank * n_outputs
    else:
        penalty = 0.0
    if penalty == 0:
        return result
    problem = Problem(white, penalty)
    n_before = outcome.n_iterations
    point, status = outcome.point, outcome.status
    polished = _polish(problem, point.components, status)
    outcome = polished._replace(
        n_starts=outcome.n_starts,
        n_agreeing=outcome.n_agreeing,
        n_iterations=n_before + polished.n_iterations,
    )
    return build_decomposition(problem, outcome, metric, output_mode)


def _error(result: Decomposition) -> float:
    return max(result.component_error, result.loading_error)


def _polish(problem: Problem, rows: FloatArray, status: DecompositionStatus) -> Outcome:
    """Converge to rounding on the whole tensor."""
    solution = minimise(problem, rows, damping=POLISH_DAMPING)
    if not solution.converged:
        status = DecompositionStatus.ITERATION_LIMIT
    return Outcome(solution.point, status, 1, 1, solution.n_iterations)


def _first_start(problem: Problem, search: Search) -> tuple[Outcome, bool]:
    """Run the first start, and certify it or tell `search` which of its rows to keep."""
    outcome = _search_and_polish(problem, search, 1)
    if outcome.status is not DecompositionStatus.NO_AGREEMENT:
        return outcome, False
    determined = determined_components(problem, outcome.point)
    if determined.all():
        return outcome._replace(status=DecompositionStatus.CERTIFIED), True
    search.keep(search.minima[0].components[determined])
    return outcome, False


def _search_whole(
    problem: Problem, outcome: Outcome, rng: np.random.Generator, max_starts: int
) -> Outcome:
    """Search the whole tensor too: a direction may be too weak for the core to hold it."""
    components = outcome.point.components
    determined = determined_components(problem, outcome.point)
    if determined.all():
        return outcome
    core = Core(problem.tensor, None, True, None)
    search = Search(core, len(components), rng, outcome.point)
    search.keep(components[determined])
    again = _search_and_polish(problem, search, min(max_starts, MAX_WHOLE_STARTS))
    return again._replace(
        n_starts=outcome.n_starts + again.n_starts - 1,
        n_iterations=outcome.n_iterations + again.n_iterations,
    )


def _search_and_polish(problem: Problem, search: Search, max_starts: int) -> Outcome:
    status = search.run(max_starts)
    candidates = [point.components for point in search.candidates()]
    basis = search.core.basis
    if basis is not None:
        candidates = [rows @ basis.T for rows in candidates]
    outcomes = [_polish(problem, rows, status) for rows in candidates]
    outcome = min(outcomes, key=lambda polished: polished.point.loss)
    return outcome._replace(
        n_starts=len(search.losses),
        n_agreeing=search.n_agreeing,
        n_iterations=search.n_iterations + sum(each.n_iterations for each in outcomes),
    )


def _check_ridge(ridge: Any) -> None:
    if ridge is None or ridge == "auto":
        return
    if isinstance(ridge, bool) or not isinstance(ridge, numbers.Real):
        raise ValueError(f"`ridge` must be 'auto', None or a number, got {ridge!r}.")
    if not (np.isfinite(float(ridge)) and float(ridge) >= 0):
        raise ValueError(f"`ridge` must be finite and not negative, got {ridge!r}.")
