"""Markov parameters: the response to an impulse, from first-order moments of a record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from gloree._brief import Brief
from gloree._sums import Sums
from gloree.diagnostics import TooFewSamplesError
from gloree.engine import Engine, Source, Subset, split_after
from gloree.sequences import Array, Batch, IntArray, Sequences

RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2)
"""Ridges that are tried where the inputs do not excite all frequencies, relative to the mean
variance of the windows."""

WELL_CONDITIONED = 1e3  # condition number of the input windows below which no ridge is needed
SAME_ERROR = 1.001
"""The largest ridge whose held-out error is within this factor of the least is taken: it leaves the
least noise in the response."""

FITTING = 0.8
"""Share of the pieces, from the first on, that a response is fitted to while the ridge is chosen;
its error is measured on the others."""

LEAST_LAGS = 4  # of a response
BATCH = 2**13  # rows of a piece, and about those of a batch


@dataclass(frozen=True)
class ResponseSums(Sums):
    """Sums behind the least-squares impulse response."""

    n_rows: float
    gram: Array = field(repr=False)
    cross: Array = field(repr=False)
    squares: Array


def response_sums(batch: Batch) -> ResponseSums:
    """Map of the pass: windows of the inputs against the outputs, with a constant."""
    rows = batch.counted
    W, Y = batch.X[rows], batch.targets[rows]
    width = W.shape[1]
    gram = np.empty((width + 1, width + 1))
    # W^T W of one array is a symmetric product: half the work of a general one
    gram[:-1, :-1] = W.T @ W
    gram[-1, :-1] = gram[:-1, -1] = W.sum(axis=0)
    gram[-1, -1] = batch.n_counted
    cross = np.vstack((W.T @ Y, Y.sum(axis=0)))
    return ResponseSums(float(batch.n_counted), gram, cross, np.einsum("na,na->a", Y, Y))


@dataclass(frozen=True)
class ImpulseResponse(Brief):
    """Estimated Markov parameters g_j in y_t = c + sum_j g_j u_{t-j} + noise.

    `parameters` (n_lags, n_outputs, n_inputs) are the g_j, `constant` (n_outputs,) is c. `ridge` is
    relative, 0 for plain least squares, `condition` that of the covariance of the input windows.
    `held_out_error` (n_outputs,) is a root mean square on data that did not choose the ridge.
    `sums` are those behind the response, of all data.
    """

    parameters: Array
    constant: Array
    ridge: float
    condition: float
    held_out_error: Array
    sums: ResponseSums = field(repr=False)


def impulse_response(data: Sequences, n_lags: int, engine: Engine) -> ImpulseResponse:
    r"""Markov parameters by (ridge) least squares.

    For inputs of any law, :math:`E[(y - \bar y) w^T] Cov(w)^{-1}` with w the window of the last
    inputs: for Gaussian inputs that is the moment :math:`E[y_t \otimes s_{t-j}]` with their score
    s, for others its robust form. Where the windows are nearly collinear (band-limited inputs) a
    ridge takes the place of the plain inverse, chosen by the error on the last fifth.

    A ValueError says that no sequence has `n_lags` steps. One pass, O(n_rows (n_lags n_inputs)^2)
    time; memory is bounded by the windows of the batches that the engine has at once, beside
    (n_lags n_inputs)^2 for their sums.
    """
    source = Source(data, BATCH, segment=BATCH, before=n_lags - 1, lags=n_lags)
    if source.as_subset().n_visited < 5:
        source = replace(source, segment=max(n_lags, data.n_rows // 10))
    # sequences shorter than a window add no row, and might fill one side of the split
    long_enough = [each[each.lengths >= n_lags] for each in source.iter_batches()]
    pieces = Subset(source, [each for each in long_enough if len(each)])
    if not pieces.n_batches:
        raise ValueError(
            f"no sequence has the {n_lags} steps of one window: lower `n_lags`, or give longer ones"
        )
    fitting, validating = split_after(pieces, max(1, round(FITTING * pieces.n_visited)))
    first = engine.run(response_sums, fitting, label="response")
    last = whole = first
    if validating.n_batches:
        last = engine.run(response_sums, validating, label="response")
        whole = first.merge(last)
    mean = whole.gram[:-1, -1] / whole.n_rows
    covariance = whole.gram[:-1, :-1] / whole.n_rows - np.outer(mean, mean)
    values = np.linalg.eigvalsh(covariance)
    condition = float(values[-1] / max(values[0], 1e-300))
    ridges = (0.0,) if condition < WELL_CONDITIONED else RIDGES
    errors = [_error_on(last, _solve(first, ridge)) for ridge in ridges]
    totals = np.array([np.sum(error**2) for error in errors])
    best = int(np.flatnonzero(totals <= SAME_ERROR**2 * totals.min())[-1])
    solution = _solve(whole, ridges[best])
    parameters = solution[:-1].reshape(n_lags, -1, solution.shape[1]).transpose(0, 2, 1)
    return ImpulseResponse(parameters, solution[-1], ridges[best], condition, errors[best], whole)


def _solve(sums: ResponseSums, ridge: float) -> Array:
    gram = sums.gram / sums.n_rows
    size = gram.shape[0] - 1
    gram[np.arange(size), np.arange(size)] += ridge * np.trace(gram[:-1, :-1]) / size
    return np.asarray(np.linalg.lstsq(gram, sums.cross / sums.n_rows, rcond=1e-13)[0])


def _error_on(sums: ResponseSums, solution: Array) -> Array:
    fitted = 2.0 * np.einsum("pa,pa->a", solution, sums.cross)
    left = sums.squares - fitted + np.einsum("pa,pq,qa->a", solution, sums.gram, solution)
    return np.asarray(np.sqrt(np.maximum(left / sums.n_rows, 0.0)))


def typical_length(lengths: IntArray) -> int:
    """Largest length that sequences with half of all rows reach."""
    if int(lengths.max()) < LEAST_LAGS:
        raise TooFewSamplesError(
            f"no sequence has more than {lengths.max()} steps, and a linear model is found from "
            f"the response over {LEAST_LAGS} steps at least: give longer sequences"
        )
    longest_first = np.sort(lengths.astype(np.int64))[::-1]
    rows = np.cumsum(longest_first)
    return int(longest_first[np.searchsorted(rows, rows[-1] / 2)])
