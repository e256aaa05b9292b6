r"""Standard errors of predictions, from the covariance of the weights: the delta method.

With a root R of it, :math:`V=RR^\top`, the variance of a prediction is
:math:`|R^\top\nabla\hat y|^2`, and products of R with derivatives of states follow their recursion:

.. math::
    P_t = \partial h_t\,R = f'(z_t)\circ\bigl(R_{A_1} x_t + R_U h_{t-1} + R_b + U P_{t-1}\bigr),
    \qquad \partial\hat y_t R = A_2^\top P_t + R_{A_2} h_t + R_c + R_D x_t .
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gloree._brief import Brief
from gloree.models._prediction import predict_rows
from gloree.models._recursion import Explosions, Recursion, run_recursions
from gloree.sequences import Array, IntArray, Sequences

if TYPE_CHECKING:
    from gloree.models._network import Network

CHUNK_NUMBERS = 2**22
"""Numbers of the products of R with the derivatives of predictions that are held at a time."""

CHUNK_ROWS = 2**15
"""Rows whose states are held at a time, but for a single sequence that is longer."""


@dataclass(frozen=True)
class WeightErrors(Brief):
    """Errors of the weights and of the outputs of a network.

    Attributes
    ----------
    roots : dict of str to ndarray
        By name of the weights, in their shapes with one more axis: R with covariance R R^T.
    noise : ndarray of shape (n_outputs,)
        Variances of the residuals; zeros for the errors of what is expected alone.
    """

    roots: Mapping[str, Array]
    noise: Array

    @classmethod
    def of(
        cls, covariance: Array, shapes: Mapping[str, tuple[int, ...]], noise: Array
    ) -> WeightErrors:
        """Errors from a covariance of weights, one array after another, each row by row."""
        sizes = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        units = np.where(sizes > 0, sizes, 1.0)
        values, vectors = np.linalg.eigh(covariance / np.outer(units, units))
        kept = values > 0
        root = units[:, None] * vectors[:, kept] * np.sqrt(values[kept])
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
        parts = np.split(root, ends[:-1])
        roots = {
            name: part.reshape(*shape, root.shape[1])
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }
        return cls(roots, noise)

    @property
    def rank(self) -> int:
        """Columns of R."""
        return int(next(iter(self.roots.values())).shape[-1])

    def without_noise(self) -> WeightErrors:
        """Errors of what is expected."""
        return WeightErrors(self.roots, np.zeros_like(self.noise))


@dataclass(frozen=True)
class RowsWithErrors:
    """Predictions and their standard deviations, (n_rows, 2 n_outputs): see `predict_data`."""

    errors: WeightErrors

    def __call__(
        self,
        model: Network,
        data: Sequences,
        explosions: Explosions,
        start: Array | None = None,
        last: Array | None = None,
    ) -> Array:
        """Predictions, then standard deviations, of all rows; see `predict_rows`."""
        mean = predict_rows(model, data, explosions, start, last)
        variance = prediction_variances(model, data, self.errors, start)
        return np.hstack((mean, np.sqrt(variance + self.errors.noise)))


def prediction_variances(
    model: Network, data: Sequences, errors: WeightErrors, start: Array | None = None
) -> Array:
    """Variances of all predictions due to the weights, (n_rows, n_outputs).

    `start` are states before the first rows, which are taken to be exact. Time O(n_rows rank
    n_hidden (n_inputs + n_hidden)) for the rank of the covariance, a step of Python for each step
    of the longest sequence.
    """
    variance = np.zeros((data.n_rows, model.n_outputs))
    for first, end in _chunks(data):
        rows = slice(int(data.starts[first]), int(data.starts[end]))
        lengths = data.lengths[first:end]
        chunk = Sequences(data.X[rows], None, lengths, "flat")
        begin = None if start is None else start[first:end]
        variance[rows] = _variances(model, chunk, errors, begin)
    return variance


def _chunks(data: Sequences) -> Iterator[tuple[int, int]]:
    """Sequences that are run together, from the first to the one before the end."""
    first = 0
    while first < data.n_sequences:
        limit = data.starts[first] + CHUNK_ROWS
        end = max(first + 1, int(np.searchsorted(data.starts, limit, side="right")) - 1)
        yield first, end
        first = end


def _variances(model: Network, data: Sequences, errors: WeightErrors, start: Array | None) -> Array:
    """Variances for a chunk: by the row for one chain, by columns of R for two, which add up."""
    ways = [_Way.of(model, each, data, errors, start) for each in model.recursions]
    total = np.zeros((data.n_rows, model.n_outputs))
    if len(ways) == 1:
        for rows, change in ways[0].changes(slice(None)):
            total[rows] = np.sum(change**2, axis=-1)
        return total
    n_columns = max(1, CHUNK_NUMBERS // (data.n_rows * model.n_outputs))
    for column in range(0, errors.rank, n_columns):
        columns = slice(column, min(column + n_columns, errors.rank))
        held = np.zeros((*total.shape, columns.stop - column))
        for way in ways:
            for rows, change in way.changes(columns):
                held[rows] += change
        total += np.sum(held**2, axis=-1)
    return total


@dataclass(frozen=True)
class _Way:
    """One chain on a chunk, in the order of the rows: what enters its units, and the outputs by it.

    `unit_roots`, (n_entering, n_units, rank), and `output_roots`, (n_leaving, n_outputs, rank), are
    the parts of R that these are multiplied by. Of two chains the forward one has the offsets of
    the outputs and the present of the direct path.
    """

    recursion: Recursion
    output_weights: Array
    entering: Array
    slopes: Array
    leaving: Array
    unit_roots: Array
    output_roots: Array
    lengths: IntArray
    starts: IntArray

    @classmethod
    def of(
        cls,
        model: Network,
        recursion: Recursion,
        data: Sequences,
        errors: WeightErrors,
        start: Array | None,
    ) -> _Way:
        """Run the chain, and gather its parts of R."""
        own, backward, roots = recursion.units, recursion.backward, errors.roots
        n_units, n_columns = recursion.input_weights.shape
        h, windows = np.empty((data.n_rows, n_units)), np.empty((data.n_rows, n_columns))
        for batch in run_recursions(data, [recursion], Explosions("nan"), start):
            h[batch.rows], windows[batch.rows] = batch.states, batch.windows
        lengths, starts = data.lengths.astype(np.int64), data.starts[:-1].astype(np.int64)
        before = np.empty_like(h)
        if backward:
            before[:-1] = h[1:]
            before[starts + lengths - 1] = 0.0
        else:
            before[1:] = h[:-1]
            before[starts] = 0.0 if start is None else start[:, :n_units]
        z = windows @ recursion.input_weights.T + before @ recursion.recurrent_weights.T
        slopes = recursion.activation.derivative(z + recursion.hidden_bias, 1)

        prefix = "" if "input_weights" in roots else ("forward_", "backward_")[backward]
        entering, units = [windows], [roots[f"{prefix}input_weights"]]
        if f"{prefix}recurrent_weights" in roots:
            entering.append(before)
            units.append(roots[f"{prefix}recurrent_weights"])
        one = np.ones((data.n_rows, 1))
        if "hidden_bias" in roots:
            entering.append(one)
            units.append(roots["hidden_bias"][own, None])
        leaving, outputs = [h], [roots["output_weights"][own]]
        if "output_bias" in roots and not backward:
            leaving.append(one)
            outputs.append(roots["output_bias"][None])
        if "direct_weights" in roots:
            cut, part = model.lags * model.n_inputs, roots["direct_weights"]
            leaving.append(windows[:, model.n_inputs :] if backward else windows)
            outputs.append(part[cut:] if backward else part[:cut])
        return cls(
            recursion,
            model.output_weights[own],
            np.hstack(entering),
            slopes,
            np.hstack(leaving),
            np.concatenate(units, axis=1).swapaxes(0, 1),
            np.concatenate(outputs),
            lengths,
            starts,
        )

    def changes(self, columns: slice) -> Iterator[tuple[IntArray, Array]]:
        """Rows of each step, and the products of R with the derivatives of their predictions."""
        units, outputs = self.unit_roots[..., columns], self.output_roots[..., columns]
        n_entering, k, rank = units.shape
        n_leaving, n_outputs, _ = outputs.shape
        units = np.ascontiguousarray(units).reshape(n_entering, k * rank)
        outputs = np.ascontiguousarray(outputs).reshape(n_leaving, n_outputs * rank)
        U, outwards = self.recursion.recurrent_weights, self.output_weights.T
        recurrent = bool(U.any())
        P = np.zeros((0, k, rank))
        for rows in self._steps(n_outputs * rank if not recurrent else 0):
            n = rows.shape[0]
            after = (self.entering[rows] @ units).reshape(n, k, rank)
            if recurrent and P.shape[0]:
                after += U @ P[:n]
            P = after
            P *= self.slopes[rows][:, :, None]
            change = outwards @ P
            change += (self.leaving[rows] @ outputs).reshape(n, n_outputs, rank)
            yield rows, change

    def _steps(self, numbers: int) -> Iterator[IntArray]:
        """Rows of each step of the sequences that are that long, the longest first.

        With `numbers` of each row, as of chains without a recurrence, pieces of all rows.
        """
        if numbers:
            total = self.entering.shape[0]
            piece = max(1, CHUNK_NUMBERS // (numbers + self.unit_roots[0].size))
            for begin in range(0, total, piece):
                yield np.arange(begin, min(begin + piece, total))
            return
        order = np.argsort(-self.lengths, kind="stable")
        lengths = self.lengths[order]
        first = self.starts[order]
        last = first + lengths - 1
        for step in range(int(lengths[0])):
            alive = int(np.searchsorted(-lengths, -step, side="left"))
            yield last[:alive] - step if self.recursion.backward else first[:alive] + step
