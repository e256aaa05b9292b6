"""Scores without a law: a function of inputs, or arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import to_host
from gloree._frames import refuse_masked
from gloree._parameters import check_integer
from gloree._random import RandomState
from gloree.chains._base import Capabilities, Derivatives, LawError
from gloree.chains._chain_rule import cumulants
from gloree.chains._markov import LawOfRows, check_scale
from gloree.sequences import Array, Batch, IntArray

STEP = 1e-3
"""Step of the fourth-order differences of a score function, in units of a batch: half the range of
the middle two thirds of each input, which single steps far out do not widen."""

LEAK, SINGLE = 1e-3, 1e-6
"""Change of a score beyond its context, relative to those within, that counts; and relative to the
scores themselves, which may be rounded to single precision."""

FEW = 8
"""Sequences of equal length from which a function is tried on several at once."""

FUNCTION_ORDER = 2
"""Largest order of the tensors that are taken from a score function by differences."""


class _WithoutDensity(LawOfRows):
    """Scores alone: no density, and nothing to draw from."""

    def log_density(self, X: object, *, lengths: ArrayLike | None = None) -> Array:
        """Refuse: there are scores only."""
        raise LawError("scores were given in place of a law: there is no log-density")

    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Refuse: there are scores only."""
        raise LawError("scores were given in place of a law: no sequences can be drawn")


@dataclass(frozen=True, eq=False)
class ScoreFunction(_WithoutDensity):
    r"""A score given as a function: what a denoising autoencoder or another estimate of yours is.

    Parameters
    ----------
    function : callable
        From the inputs of one sequence (or of a piece of a long one), shape (n_steps, n_inputs), to
        the scores s_t = -grad_{x_t} log p(x_1, .., x_n) of its steps, of the same shape. Where it
        takes several of equal length too, (n_sequences, n_steps, n_inputs), it is called once for
        all of them.
    size : int
        Number of inputs.
    context : (int, int), default (1, 1)
        Steps before and after a step that its score depends on.

    Notes
    -----
    The score tensor of order two, S_2 = s s^T - grad_{x_t} s, takes the derivative by central
    differences in every (before + after + 1)-th step at once: 4 n_inputs (before + after + 1) calls
    of the function for each sequence. Higher orders are not offered.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import ScoreFunction
    >>> from gloree.score_functions import check_score
    >>> X = np.random.default_rng(0).standard_normal((500, 20, 2))
    >>> check_score(X, chain=ScoreFunction(lambda x: x, 2)).status
    'fine'
    """

    function: Callable[[Array], ArrayLike]
    size: int
    context: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_integer("size", self.size, 1)
        if not isinstance(self.context, (tuple, list)) or len(self.context) != 2:
            raise ValueError(f"`context` is {self.context!r:.100}, expected two numbers of steps")
        for steps in self.context:
            check_integer("context", steps, 0)

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"ScoreFunction({name}, n_inputs={self.n_inputs})"

    def __str__(self) -> str:
        return "given score function"

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""
        return self.size

    @property
    def capabilities(self) -> Capabilities:
        """Tensors of orders one and two; the ends are as the function makes them."""
        return Capabilities(max_score_order=FUNCTION_ORDER, hermite=False, edges=True)

    def _values(self, X: Array, batch: Batch) -> Array:
        found = np.empty_like(X)
        for length in np.unique(batch.lengths):
            begins = batch.starts[batch.lengths == length]
            rows = begins[:, np.newaxis] + np.arange(length)
            pieces = X[rows]
            values = self._stacked(pieces)
            if values is None:
                values = np.stack([self._checked(piece) for piece in pieces])
            found[rows] = values
        if not np.isfinite(found).all():
            row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
            segment = int(np.searchsorted(batch.starts, row, side="right")) - 1
            step = int(batch.first_step[segment] + row - batch.starts[segment])
            raise ValueError(
                f"`chain` is a score function that returned NaN or infinity, first at step {step} "
                f"of sequence {int(batch.sequence[segment])}"
            )
        return found

    def _checked(self, piece: Array) -> Array:
        scores = np.asarray(to_host(self.function(piece)))
        if scores.shape != piece.shape:
            raise ValueError(
                f"`chain` is a score function that returned an array of shape {scores.shape} for a "
                f"sequence of shape {piece.shape}: expected the same shape"
            )
        if scores.dtype.kind not in "fiu":
            raise TypeError(f"`chain` is a score function that returned {scores.dtype} values")
        return np.asarray(scores, dtype=np.float64)

    def _stacked(self, pieces: Array) -> Array | None:
        """Scores of all pieces at once; None where the function takes one at a time."""
        alone = self._checked(pieces[0])
        if pieces.shape[0] < FEW:
            return None
        try:
            some = np.asarray(to_host(self.function(pieces[:2])))
            alike = some.shape == (2, *alone.shape) and np.allclose(some[0], alone, 1e-9, 1e-12)
            if not alike or not np.allclose(some[1], self._checked(pieces[1]), 1e-9, 1e-12):
                return None
            every = np.asarray(to_host(self.function(pieces)), dtype=np.float64)
        except Exception:
            return None
        return every if every.shape == pieces.shape else None

    def derivatives(self, batch: Batch, order: int) -> Derivatives:
        """-s, and minus its derivative by central differences, as a function of rows."""
        X = self._rows_of(batch)
        values = [-self._values(X, batch)]
        if order > 1:
            values.append(-self._slopes(X, batch))
        if order > FUNCTION_ORDER:
            raise LawError(f"a score function has tensors up to order 2, and {order} was asked for")
        return lambda rows: tuple(each[rows] for each in values)

    def _slopes(self, X: Array, batch: Batch) -> Array:
        """grad_{x_t} s_t of every row, symmetrised: (n_rows, n_inputs, n_inputs)."""
        d, stride = self.size, sum(self.context) + 1
        slopes = np.empty((batch.n_rows, d, d))
        low, high = np.quantile(X, (0.16, 0.84), axis=0)
        spread, all_of_it = (high - low) / 2, X.std(axis=0)
        spread = np.where(spread > 0, spread, np.where(all_of_it > 0, all_of_it, 1.0)) * STEP
        self._check_context(X, batch, spread / STEP)
        for phase in range(stride):
            mine = batch.local % stride == phase
            for i in range(d):
                moves = []
                for size in (1.0, 2.0):
                    shift = np.zeros_like(X)
                    shift[mine, i] = size * spread[i]
                    moves.append(self._values(X + shift, batch) - self._values(X - shift, batch))
                slope = (8 * moves[0] - moves[1]) / (12 * spread[i])
                slopes[mine, :, i] = slope[mine]
        return (slopes + slopes.transpose(0, 2, 1)) / 2

    def _check_context(self, X: Array, batch: Batch, spread: Array) -> None:
        """Refuse a function that looks beyond its context: its slopes would be those of others."""
        longest = int(np.argmax(batch.lengths))
        start, length = int(batch.starts[longest]), int(batch.lengths[longest])
        piece, middle = X[start : start + length], length // 2
        moved = piece.copy()
        moved[middle] += spread
        scores = self._checked(piece)
        change = np.abs(self._checked(moved) - scores).max(axis=1)
        away = np.arange(length) - middle
        beyond = (away > self.context[0]) | (away < -self.context[1])
        limit = max(LEAK * float(change.max()), SINGLE * float(np.abs(scores).max()))
        far = away[beyond & (change > limit)]
        if far.size:
            raise LawError(
                f"`context` of the score function is {tuple(self.context)}, steps before and after "
                f"that a score depends on, but a change of one step moves scores {far.min():+d} to "
                f"{far.max():+d} steps away: give the `context` of a `ScoreFunction` as it is"
            )


@dataclass(frozen=True, eq=False)
class ScoreArrays(_WithoutDensity):
    """Scores of the very rows of some data: S_1, and tensors of higher orders if there are any.

    Build it with `as_law`; parameters are flat arrays, sequence after sequence.

    Parameters
    ----------
    tensors : tuple of ndarray
        S_1 of shape (n_rows, n_inputs), S_2 of shape (n_rows, n_inputs, n_inputs), ..
    starts : ndarray of int of shape (n_sequences,)
        Row at which each sequence begins.
    """

    tensors: tuple[Array, ...]
    starts: IntArray

    def __repr__(self) -> str:
        rows, d = self.tensors[0].shape
        return f"ScoreArrays(n_inputs={d}, n_rows={rows}, orders={len(self.tensors)})"

    def __str__(self) -> str:
        return "given scores"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all scores, by which sums with others are told apart."""
        digest = hashlib.sha256()
        for tensor in (*self.tensors, self.starts):
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return f"scores {digest.hexdigest()}"

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""
        return int(self.tensors[0].shape[1])

    @property
    def context(self) -> tuple[int, int]:
        """No rows: the scores are known."""
        return 0, 0

    @property
    def capabilities(self) -> Capabilities:
        """Tensors of the orders that were given."""
        return Capabilities(max_score_order=len(self.tensors), hermite=False, edges=True)

    def derivatives(self, batch: Batch, order: int) -> Derivatives:
        """Derivatives that have these score tensors, as a function of rows."""
        steps = batch.local + np.repeat(batch.first_step, batch.lengths)
        ends = np.append(self.starts[1:], self.tensors[0].shape[0])
        sequence = np.repeat(batch.sequence, batch.lengths)
        if (
            sequence.max() >= ends.shape[0]
            or (self.starts[sequence] + steps >= ends[sequence]).any()
        ):
            raise LawError(
                f"scores were given for {ends.shape[0]} sequences of {ends[-1]} steps in all, and "
                f"the data have others: scores belong to the data that they were computed from"
            )
        place = self.starts[sequence] + steps
        signs = [(-1) ** m * tensor for m, tensor in enumerate(self.tensors[:order], start=1)]
        return lambda rows: cumulants([each[place[rows]] for each in signs])

    def shifted(self, offset: ArrayLike) -> ScoreArrays:  # type: ignore[override]
        """Scores of x - offset: the same."""
        return self

    def scaled(self, scale: ArrayLike) -> ScoreArrays:  # type: ignore[override]
        """Scores of scale * x: divided by the scale in every axis."""
        factors, tensors = check_scale(scale, self.n_inputs), []
        for m, tensor in enumerate(self.tensors, start=1):
            for axis in range(m):
                tensor = tensor / factors.reshape((-1,) + (1,) * (m - 1 - axis))
            tensors.append(tensor)
        return replace(self, tensors=tuple(tensors))


def as_law(given: object, *, n_inputs: int, lengths: IntArray, name: str = "chain") -> object:
    """Law in the place of scores: of a function, or of arrays; anything else as it is.

    Parameters
    ----------
    given : object
        A law; a function of one sequence, (n_steps, n_inputs), that returns its scores; scores of
        the data, an array of their shape or a list of arrays; or a tuple of S_1, S_2, .., with one
        more axis of size n_inputs each.
    n_inputs : int
        Inputs of the data.
    lengths : ndarray of int of shape (n_sequences,)
        Steps of every sequence of the data.
    name : str
        The argument, for messages.

    Raises
    ------
    TypeError, ValueError
        For scores of another shape than the data, that are not real, or not finite.
    """
    if isinstance(given, type) or hasattr(given, "capabilities"):
        return given
    if callable(given):
        return ScoreFunction(cast("Callable[[Array], ArrayLike]", given), n_inputs)
    if not isinstance(given, (tuple, list)) and not hasattr(given, "__array__"):
        return given
    orders: Sequence[object] = given if isinstance(given, tuple) else (given,)
    if not orders:
        raise ValueError(f"`{name}` is an empty tuple: give S_1, S_2, ..")
    tensors = tuple(
        _flat(values, m, n_inputs, lengths, name) for m, values in enumerate(orders, start=1)
    )
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)
    return ScoreArrays(tensors, starts)


def _flat(values: object, order: int, n_inputs: int, lengths: IntArray, name: str) -> Array:
    """Scores of one order as rows."""
    refuse_masked(values, name)
    axes, n_rows = (n_inputs,) * order, int(lengths.sum())
    if isinstance(values, list) and values and np.ndim(values[0]) == order + 1:
        parts = [np.asarray(to_host(part)) for part in values]
        shapes = [part.shape for part in parts]
        if shapes != [(int(n), *axes) for n in lengths]:
            raise ValueError(
                f"`{name}` holds scores of order {order} for {len(parts)} sequences, of shapes "
                f"{shapes[:3]} ..: expected (n_steps, {', '.join(map(str, axes))}) for each of the "
                f"{len(lengths)} sequences of `X`"
            )
        flat = np.concatenate(parts)
    else:
        flat = np.asarray(to_host(values))
        equal = bool((lengths == lengths[0]).all())
        fits = flat.shape == (n_rows, *axes)
        fits |= equal and flat.shape == (len(lengths), int(lengths[0]), *axes)
        if not fits:
            raise ValueError(
                f"`{name}` holds scores of order {order} of shape {flat.shape}: expected the shape "
                f"of `X`, whose {n_rows} steps have {n_inputs} inputs, with axes {axes} in the "
                f"place of the last (a tuple holds S_1, S_2, ..)"
            )
    if flat.dtype.kind not in "fiu":
        raise TypeError(f"`{name}` holds scores of dtype {flat.dtype}, expected real numbers")
    flat = np.ascontiguousarray(flat, dtype=np.float64).reshape(n_rows, *axes)
    bad = ~np.isfinite(flat.reshape(n_rows, -1)).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        sequence = int(np.searchsorted(np.cumsum(lengths), row, side="right"))
        step = row - int(lengths[:sequence].sum())
        raise ValueError(
            f"`{name}` holds scores of order {order} that are NaN or infinite in "
            f"{int(bad.sum())} of {n_rows} steps, first at step {step} of sequence {sequence}"
        )
    return flat
