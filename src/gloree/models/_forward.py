"""The recursion h_t = f(A1 x_t + U h_(t-1) + b) over many segments at once, and its guard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gloree._arrays import is_tensor, like, namespace, to_host
from gloree.activations import Activation
from gloree.engine import PassFailure
from gloree.sequences import Array, IntArray, Packing

EXPLOSION_LIMIT = 1e16
"""Hidden states beyond this size count as exploded: drives of unit size are below their rounding
error (1 / eps is 4.5e15), so nothing of the inputs is left in them."""

WEAK_RECURRENCE = 0.01
"""Largest entry of U below which `explosion_limit` takes states for ones in large units."""

_SMALL_MATRIX = 512
LARGEST_STATE = 1e150
"""Limit of any state: its square has to be a number."""

_ROWS_AT_ONCE = 2**13
_PRODUCTS_AT_ONCE = 2**19


class ExplosionError(PassFailure, ArithmeticError):
    """A recurrence ran away: a hidden state went beyond `EXPLOSION_LIMIT`.

    Attributes
    ----------
    sequence, step : int
        Where the first such state stands.
    size : float
        Its largest entry in magnitude (may be infinite or NaN).
    """

    def __init__(self, sequence: int, step: int, size: float) -> None:
        self.sequence, self.step, self.size = int(sequence), int(step), float(size)
        super().__init__(self.sequence, self.step, self.size)

    def __str__(self) -> str:
        return (
            f"the hidden state of sequence {self.sequence} reached {self.size:.1e} at step "
            f"{self.step}: the recurrence explodes. Use smaller recurrent weights (a spectral norm "
            f"of 0.05 to 0.2 is safe for a polynomial activation and inputs of unit variance), "
            f"scale the inputs down, or predict by the network itself (`model_` of an estimator): "
            f"its `predict` takes on_explosion='nan', and continues without such paths"
        )


class ExplosionWarning(RuntimeWarning):
    """Some hidden states exploded and were replaced by NaN."""


def explosion_limit(recurrent_weights: Array | None, activation: Activation) -> float:
    """Size of a state from which on it counts as exploded, whatever the units of the inputs are.

    Inputs times s turn the states of c z^l into s^l times as large ones and U into s^(1 - l) times
    as small a one, so that h |U|^(l / (l - 1)) is what tells an explosion. `EXPLOSION_LIMIT` holds
    down to a U of `WEAK_RECURRENCE`, and for everything that is no monomial of degree 2 or more.
    """
    degree = activation.degree
    if recurrent_weights is None or degree is None or degree < 2 or not activation.is_monomial:
        return EXPLOSION_LIMIT
    size = float(np.abs(recurrent_weights).max(initial=0.0)) / WEAK_RECURRENCE
    if size >= 1.0:
        return EXPLOSION_LIMIT
    with np.errstate(divide="ignore", over="ignore"):
        grown = EXPLOSION_LIMIT * np.float64(size) ** (-degree / (degree - 1))
    return float(min(grown, LARGEST_STATE))


def multiply_rows(values: Array, matrix: Array, out: Array | None = None) -> Array:
    """Product of many rows by a small matrix, `values @ matrix`.

    Small matrices are multiplied a few thousand rows at a time: the product stays in the cache
    and below the size at which BLAS wakes its threads, which costs more than it gains there.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
    matrix : ndarray of shape (n_columns, n_results)
    out : ndarray of shape (n_rows, n_results), optional
        Where to write the product.

    Returns
    -------
    ndarray of shape (n_rows, n_results)
    """
    n_rows = values.shape[0]
    if out is None:
        out = np.empty((n_rows, matrix.shape[1]))
    if matrix.size > _SMALL_MATRIX or n_rows * matrix.size <= _PRODUCTS_AT_ONCE:
        return np.matmul(values, matrix, out=out)
    matrix = np.ascontiguousarray(matrix)
    step = min(_ROWS_AT_ONCE, _PRODUCTS_AT_ONCE // matrix.size)
    for start in range(0, n_rows, step):
        part = slice(start, start + step)
        np.matmul(values[part], matrix, out=out[part])
    return out


def forward_packed(
    drive: Array,
    step_starts: IntArray,
    recurrent_weights: Array | None,
    activation: Activation,
    initial: Array | None = None,
    *,
    overwrite_drive: bool = False,
) -> tuple[Array, Array]:
    """Run the recursion of many segments side by side, in time-major order.

    With d_t = A1 x_t + b already computed for all rows,

        z_t = d_t + U h_(t-1),    h_t = f(z_t).

    Parameters
    ----------
    drive : ndarray of shape (n_rows, n_hidden)
        d_t in packed order (see `gloree.sequences.Packing`).
    step_starts : ndarray of shape (n_steps + 1,)
        Row at which each step begins; the segments of a step are a prefix of those before it.
    recurrent_weights : ndarray of shape (n_hidden, n_hidden) or None
        U; None, like zeros, takes one call of f and no loop.
    activation : Activation
    initial : ndarray of shape (n_segments, n_hidden), optional
        h before the first step, in the order of the first step; zeros by default.
    overwrite_drive : bool, default False
        Compute z in the memory of `drive`.

    Returns
    -------
    z, h : ndarray of shape (n_rows, n_hidden)
        In packed order. Values that overflow are infinite or NaN, without a NumPy warning; see
        `find_explosions`.

    Notes
    -----
    One product of (segments alive, n_hidden) by (n_hidden, n_hidden) per step:
    O(n_rows n_hidden^2) time, two arrays of the size of `drive`.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.activations import quadratic
    >>> from gloree.models import forward_packed
    >>> drive = np.array([[1.0], [2.0], [0.5]])  # two segments, of two steps and one step
    >>> z, h = forward_packed(drive, np.array([0, 2, 3]), np.array([[0.1]]), quadratic)
    >>> h.ravel()
    array([1.  , 4.  , 0.36])
    """
    if is_tensor(drive):
        return _forward_tensors(drive, step_starts, recurrent_weights, activation, initial)
    z = drive if overwrite_drive else drive.copy()
    h = np.empty_like(z)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if recurrent_weights is None or not recurrent_weights.any():
            activation(z, out=h)
            return z, h
        transposed = np.ascontiguousarray(recurrent_weights.T)
        bounds = step_starts.tolist()
        begin, end = bounds[0], bounds[1]
        now = z[begin:end]
        if initial is not None:
            now += initial @ transposed
        activation(now, out=h[begin:end])
        evaluate = activation.evaluator()
        scratch = np.empty((end - begin, z.shape[1]))
        # for few rows the call itself is the cost, and np.dot is the quickest
        many = (end - begin) * transposed.size > _PRODUCTS_AT_ONCE
        product = multiply_rows if many else np.dot
        for stop in bounds[2:]:
            alive = stop - end
            if alive == 1:
                _walk(z[end:], h[end:], h[begin], recurrent_weights, evaluate)
                break
            now, feedback = z[end:stop], scratch[:alive]
            product(h[begin : begin + alive], transposed, out=feedback)
            now += feedback
            evaluate(now, h[end:stop])
            begin, end = end, stop
    return z, h


def _forward_tensors(
    drive: Array,
    step_starts: IntArray,
    recurrent_weights: Array | None,
    activation: Activation,
    initial: Array | None,
) -> tuple[Array, Array]:
    """The same on the device of the drive."""
    xp = namespace(drive)
    z = xp.asarray(drive, copy=True)
    if recurrent_weights is None or not recurrent_weights.any():
        return z, activation(z)
    h = xp.empty_like(z)
    transposed = like(z, recurrent_weights.T)
    bounds = step_starts.tolist()
    begin, end = bounds[0], bounds[1]
    if initial is not None:
        z[begin:end] += like(z, initial) @ transposed
    activation(z[begin:end], out=h[begin:end])
    for stop in bounds[2:]:
        now = z[end:stop]
        now += h[begin : begin + stop - end] @ transposed
        activation(now, out=h[end:stop])
        begin, end = end, stop
    return z, h


def _walk(
    z: Array,
    h: Array,
    state: Array,
    recurrent_weights: Array,
    evaluate: Callable[[Array, Array], object],
) -> None:
    """Go on with a single segment: the same recursion with less to do around each step."""
    feedback = np.empty_like(state)
    for now, following in zip(z, h, strict=True):
        np.dot(recurrent_weights, state, out=feedback)
        now += feedback
        evaluate(now, following)
        state = following


def find_explosions(states: Array, packing: Packing, limit: float = EXPLOSION_LIMIT) -> IntArray:
    """List the segments whose states leave [-limit, limit], with the first such step.

    Parameters
    ----------
    states : ndarray of shape (n_rows, n_hidden)
        In the order of `packing`.
    packing : Packing
    limit : float, default EXPLOSION_LIMIT

    Returns
    -------
    ndarray of int of shape (n_exploded, 2)
        Segment and step, by increasing segment; usually empty.

    Notes
    -----
    The largest and the smallest entry where all is well; rows are searched only otherwise.
    """
    with np.errstate(invalid="ignore"):
        # written so that NaN does not pass
        if float(states.max()) <= limit and float(states.min()) >= -limit:
            return np.empty((0, 2), dtype=np.int64)
        states = to_host(states)
        bad = np.flatnonzero(~np.all(np.abs(states) <= limit, axis=1))
    steps = np.searchsorted(packing.step_starts, bad, side="right") - 1
    segments = packing.order[bad - packing.step_starts[steps]]
    found, first = np.unique(segments, return_index=True)
    return np.column_stack((found, steps[first])).astype(np.int64)
