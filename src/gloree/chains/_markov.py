"""Markov laws of order one: everything that follows from p(x_1) and p(x_{t+1} | x_t)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

import gloree.chains._linear_algebra as algebra
from gloree._arrays import like, take_rows, to_host
from gloree._brief import Brief
from gloree._random import RandomState, as_generator
from gloree.chains._base import (
    Capabilities,
    DerivativeLaw,
    Derivatives,
    HermiteLaw,
    LawError,
)
from gloree.chains._moments import require_context
from gloree.sequences import Array, Batch, IntArray, as_sequences


class LawOfRows(ABC):
    """What laws with `derivatives` share: scores, and the laws of shifted and scaled inputs.

    A subclass has `n_inputs`, `context` and `derivatives`.
    """

    @property
    @abstractmethod
    def n_inputs(self) -> int:
        """Dimension of one step."""

    @property
    def context(self) -> tuple[int, int]:
        """Rows before and after a step that its score depends on."""
        return 1, 1

    @property
    def capabilities(self) -> Capabilities:
        """Score tensors of every order, exact at the ends of sequences."""
        return Capabilities(max_score_order=None, hermite=False, edges=True)

    @property
    def condition(self) -> float:
        """What rounding errors are multiplied by (see `GaussianVAR.condition`); 1 if not known."""
        return 1.0

    @abstractmethod
    def derivatives(self, batch: Batch, order: int) -> Derivatives:
        """Derivatives of the joint log-density, as a function of rows (see `DerivativeLaw`)."""

    @abstractmethod
    def log_density(self, X: object, *, lengths: ArrayLike | None = None) -> Array:
        """Log-density of every sequence, shape (n_sequences,)."""

    @abstractmethod
    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Draw sequences, shape (n_sequences, n_steps, n_inputs)."""

    def scores(self, batch: Batch) -> Array:
        """First-order score s_t = -D_1, (n_rows, n_inputs); zero for rows without neighbours."""
        before, after = self.context
        at = self.derivatives(batch, 1)
        seen = (batch.steps_before == batch.local) | (batch.local >= before)
        seen &= (batch.steps_after == batch.local_after) | (batch.local_after >= after)
        scores = np.zeros((batch.n_rows, self.n_inputs))
        rows = np.flatnonzero(seen)
        scores[rows] = -at(rows)[0]
        beside: Array = like(batch.X, scores)
        return beside

    def shifted(self, offset: ArrayLike) -> MovedLaw:
        """Law of x - offset, with an offset of shape (n_inputs,)."""
        moved = algebra.read_only(offset, "offset")
        if moved.shape != (self.n_inputs,):
            raise ValueError(f"`offset` has shape {moved.shape}, expected ({self.n_inputs},)")
        return MovedLaw(self, moved, np.ones(self.n_inputs))

    def scaled(self, scale: ArrayLike) -> MovedLaw:
        """Law of scale * x, with positive factors of shape (n_inputs,)."""
        return MovedLaw(self, np.zeros(self.n_inputs), check_scale(scale, self.n_inputs))

    def _rows_of(self, batch: Batch) -> Array:
        """Inputs of a batch in host memory, checked."""
        if batch.X.shape[1] != self.n_inputs:
            raise ValueError(
                f"`X` has {batch.X.shape[1]} columns, but the chain has n_inputs = {self.n_inputs}"
            )
        require_context(batch, *self.context)
        return to_host(batch.X)


class LawAround:
    """What a law around another one, `law`, has from it."""

    law: DerivativeLaw

    def __str__(self) -> str:
        return str(self.law)

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""
        return self.law.n_inputs

    @property
    def context(self) -> tuple[int, int]:
        """Rows before and after a step that its score depends on."""
        return self.law.context

    @property
    def capabilities(self) -> Capabilities:
        """Those of the law."""
        return self.law.capabilities

    @property
    def condition(self) -> float:
        """That of the law, which units do not change."""
        return float(getattr(self.law, "condition", 1.0))


@dataclass(frozen=True, eq=False)
class MovedLaw(Brief, LawAround, LawOfRows):
    """Law of scale * (x - offset), for x of another law.

    Attributes
    ----------
    law : DerivativeLaw
    offset, scale : ndarray of shape (n_inputs,)
    """

    law: DerivativeLaw
    offset: Array
    scale: Array

    def _back(self, X: Array) -> Array:
        values: Array = X / like(X, self.scale) + like(X, self.offset)
        return values

    def derivatives(self, batch: Batch, order: int) -> Derivatives:
        """Derivatives of the law, each axis divided by the scale."""
        at = self.law.derivatives(replace(batch, X=self._back(batch.X)), order)

        def found(rows: IntArray) -> tuple[Array, ...]:
            values = []
            for k, value in enumerate(at(rows), start=1):
                for axis in range(1, k + 1):
                    value = value / self.scale.reshape((-1,) + (1,) * (k - axis))
                values.append(value)
            return tuple(values)

        return found

    def log_density(self, X: object, *, lengths: ArrayLike | None = None) -> Array:
        """Log-density of every sequence, shape (n_sequences,)."""
        data = as_sequences(X, lengths=lengths)
        found = self.law.log_density(self._back(data.X), lengths=data.lengths)
        return np.asarray(found - data.lengths * np.log(self.scale).sum(), dtype=np.float64)

    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Draw sequences, shape (n_sequences, n_steps, n_inputs)."""
        drawn = self.law.sample(n_sequences, n_steps, random_state)
        return np.asarray((drawn - self.offset) * self.scale, dtype=np.float64)


class MarkovLaw(LawOfRows):
    r"""A law given by p(x_1) and p(x_{t+1} | x_t), with exact scores at the ends of sequences.

    .. math:: D_k(t) = \nabla^k_{x_t} \log p(x_t \mid x_{t-1}) + \nabla^k_{x_t} \log p(x_{t+1}
              \mid x_t),

    with log p(x_1) in the place of the first term at the first step, and without the second one at
    the last. A subclass has the seven methods that are abstract here.
    """

    @abstractmethod
    def _log_first(self, x: Array) -> Array:
        """Log-density of x_1, (n_rows,)."""

    @abstractmethod
    def _log_next(self, new: Array, old: Array) -> Array:
        """Log-density of the next step, (n_rows,)."""

    @abstractmethod
    def _first_derivatives(self, x: Array, order: int) -> tuple[Array, ...]:
        """Derivatives of log p(x_1)."""

    @abstractmethod
    def _new_derivatives(self, new: Array, old: Array, order: int) -> tuple[Array, ...]:
        """Derivatives of log p(new | old) in `new`."""

    @abstractmethod
    def _old_derivatives(self, new: Array, old: Array, order: int) -> tuple[Array, ...]:
        """Derivatives of log p(new | old) in `old`."""

    @abstractmethod
    def _draw_first(self, rng: np.random.Generator, n_rows: int) -> Array:
        """Draw x_1."""

    @abstractmethod
    def _draw_next(self, rng: np.random.Generator, old: Array) -> Array:
        """Draw the next step of every row."""

    def derivatives(self, batch: Batch, order: int) -> Derivatives:
        """Derivatives of the joint log-density, as a function of rows (see `DerivativeLaw`)."""
        X, d = self._rows_of(batch), self.n_inputs
        first, last = batch.steps_before == 0, batch.steps_after == 0

        def found(rows: IntArray) -> tuple[Array, ...]:
            totals = tuple(np.zeros((rows.shape[0],) + (d,) * k) for k in range(1, order + 1))

            def add(chosen: NDArray[np.bool_], values: tuple[Array, ...]) -> None:
                for total, value in zip(totals, values, strict=True):
                    total[chosen] += value

            begins, goes_on = first[rows], ~last[rows]
            if begins.any():
                add(begins, self._first_derivatives(X[rows[begins]], order))
            if not begins.all():
                at = rows[~begins]
                add(~begins, self._new_derivatives(X[at], X[at - 1], order))
            if goes_on.any():
                at = rows[goes_on]
                add(goes_on, self._old_derivatives(X[at + 1], X[at], order))
            return totals

        return found

    def log_density(self, X: object, *, lengths: ArrayLike | None = None) -> Array:
        """Log-density of every sequence, shape (n_sequences,).

        Parameters
        ----------
        X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.
        """
        batches = as_sequences(X, lengths=lengths).batches()
        return np.concatenate([self._log_density(batch) for batch in batches])

    def _log_density(self, batch: Batch) -> Array:
        X, first = self._rows_of(batch), batch.steps_before == 0
        terms = np.empty(batch.n_rows)
        terms[first] = self._log_first(X[first])
        later = np.flatnonzero(~first)
        if later.size:
            terms[later] = self._log_next(X[later], X[later - 1])
        return np.asarray(np.add.reduceat(terms, batch.starts), dtype=np.float64)

    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Draw sequences, shape (n_sequences, n_steps, n_inputs).

        Raises
        ------
        LawError
            If a step is not finite: the recursion grows without bound.
        """
        check_sizes(n_sequences, n_steps)
        rng = as_generator(random_state)
        steps = np.empty((n_steps, n_sequences, self.n_inputs))
        steps[0] = self._draw_first(rng, n_sequences)
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(1, n_steps):
                steps[t] = self._draw_next(rng, steps[t - 1])
                if not np.isfinite(steps[t]).all():
                    raise LawError(
                        f"sequences drawn from {self!r:.80} are no longer finite at step {t + 1}: "
                        f"the recursion grows without bound, and has no stationary law"
                    )
        return np.ascontiguousarray(steps.transpose(1, 0, 2))


def check_scale(scale: ArrayLike, n_inputs: int) -> Array:
    """Factors of inputs, of shape (n_inputs,) and above zero; else a ValueError."""
    factors = algebra.read_only(scale, "scale")
    if factors.shape != (n_inputs,) or not (factors > 0).all():
        raise ValueError(
            f"`scale` has shape {factors.shape}, expected ({n_inputs},) and values above 0"
        )
    return factors


def check_sizes(n_sequences: object, n_steps: object) -> None:
    """Refuse samples of no sequences or no steps, or of something else than a number of them."""
    for name, size in (("n_sequences", n_sequences), ("n_steps", n_steps)):
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise TypeError(f"`{name}` is {size!r:.100}, expected an integer of at least 1")
        if size < 1:
            raise ValueError(f"`{name}` is {size}, expected at least 1")


def law_derivatives(law: object, batch: Batch, order: int) -> Derivatives:
    """Derivatives D_1, .., D_m of the log-density of any law in the steps of a batch.

    A `DerivativeLaw` has them; of a `HermiteLaw` they are -s, -K and zero.

    Parameters
    ----------
    law : DerivativeLaw or HermiteLaw
    batch : Batch
        With the context that the law's score needs.
    order : int

    Returns
    -------
    callable
        From row indices to arrays of shapes (n_rows, n_inputs), (n_rows, n_inputs, n_inputs), ..

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import GaussianVAR, law_derivatives
    >>> from gloree.sequences import as_sequences
    >>> batch = as_sequences(np.ones((3, 1))).whole()
    >>> at = law_derivatives(GaussianVAR([[0.5]], [[1.0]]), batch, 2)
    >>> at(np.array([1]))[1]
    array([[[-1.25]]])
    """
    own = getattr(law, "derivatives", None)
    if own is not None:
        found: Derivatives = own(batch, order)
        return found
    return hermite_derivatives(cast("HermiteLaw", law), batch, order)


def hermite_derivatives(law: HermiteLaw, batch: Batch, order: int) -> Derivatives:
    """Derivatives -s, -K and zero of a law with a quadratic log-density (see `law_derivatives`)."""
    scores, types, blocks = law.scores(batch), law.boundary_types(batch), law.precision_blocks(0)

    def at(rows: IntArray) -> tuple[Array, ...]:
        first = to_host(-take_rows(scores, rows))
        higher = [np.zeros((rows.shape[0],) + first.shape[1:] * k) for k in range(3, order + 1)]
        values = (first, -blocks[types[rows]], *higher)
        return values[:order]

    return at
