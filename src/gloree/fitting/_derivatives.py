r"""Average derivatives of several orders: least squares of y on monomials beside what else enters.

With whitened inputs v = W (x_t - m), monomials phi(v) of degree 1 to 3, and controls c of the past
(1, whether the step is the first of its sequence, x_{t-1}, y_{t-1}),

.. math:: y_t \approx C^T c_t + B^T \phi(v_t), \qquad
          T_m = E[\nabla_v^m (B^T \phi)(v)], \quad m = 1, 2, 3,

B by the Gram matrix with the controls projected out. Of h_t = f(A1 x_t + ..) the slices of T_2 and
T_3 are sums of a_i a_i^T: one decomposition of all of them gives the units for any f. With a
direct path the linear monomials are controls: they are not the units' alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gloree._arrays import take_rows, to_host
from gloree._monomials import (
    block_rows,
    monomial_factorials,
    n_monomials,
    symmetric_powers,
    unpack_symmetric,
)
from gloree._sums import Sums
from gloree.engine import Engine, Selection
from gloree.moments import Whitening
from gloree.sequences import Array, Batch, IntArray

DEPENDENT = 1e-8
"""Eigenvalues of the Gram matrix of scaled monomials, relative to the largest, that count as zero:
inputs of few values have such."""

CONTROLS_DEPENDENT = 1e-10
"""The same for controls."""


@dataclass(frozen=True)
class Neighbours:
    """What enters beside x_t, linearly.

    `n_inputs` of each step (lags not counted). `past` and `ahead` say whether steps before and
    after do; `outputs` whether y_{t-1} does, which holds what the state forgets last. With `leads`
    the outputs of so many later steps are regressed too.
    """

    n_inputs: int
    past: bool
    ahead: bool = False
    outputs: bool = True
    leads: int = 0

    def rows(self, batch: Batch) -> IntArray:
        """Rows that count, and have as many steps after them as leads."""
        rows = batch.counted_rows
        return rows[batch.local_after[rows] >= self.leads] if self.leads else rows

    def controls(self, batch: Batch, rows: IntArray, X: Array, Y: Array) -> Array:
        """Controls of some rows, (n_controls, len(rows)): 1, first step, x_{t-1}, y_{t-1}, ..

        The step before the window of x_t is meant, and the one after it.
        """
        parts = [np.ones((1, rows.shape[0]))]
        d = self.n_inputs
        if self.past:
            first = batch.local[rows] == 0
            before = np.where(first, rows, rows - 1)
            parts += [first[None].astype(np.float64), _masked(X[before, -d:], first)]
            if self.ahead:
                # windows are [x_t, .., x_{t-lags+1}, x_{t+1}, .., x_{t+lags-1}]
                width = (X.shape[1] // d + 1) // 2 * d
                parts[-1] = _masked(X[before, width - d : width], first)
                last = batch.local_after[rows] == 0
                after = np.where(last, rows, rows + 1)
                parts += [last[None].astype(np.float64)]
                parts += [_masked(X[after, -d:] if width > d else X[after, :d], last)]
            if self.outputs:
                parts.append(_masked(Y[before], first))
        parts += [X[rows + lead, :d].T for lead in range(1, self.leads + 1)]
        return np.concatenate(parts)

    def targets(self, rows: IntArray, Y: Array) -> Array:
        """Outputs of some rows, and of the leads, side by side."""
        return np.hstack([Y[rows + lead] for lead in range(self.leads + 1)])


def _masked(values: Array, absent: np.ndarray) -> Array:
    """Columns of values, zero where there is no such step."""
    return np.where(absent[:, None], 0.0, values).T


@dataclass(frozen=True)
class Features:
    """Monomials of whitened inputs up to a degree, and what is beside them.

    `linear` says whether the first order is one of the monomials, or a control.
    """

    whitening: Whitening
    degree: int
    neighbours: Neighbours
    mean: Array = field(repr=False)
    linear: bool = True

    @property
    def n_directions(self) -> int:
        """Coordinates of v."""
        return self.whitening.n_directions

    @property
    def sizes(self) -> tuple[int, ...]:
        """Monomials of each degree 1, .., `degree`."""
        return tuple(n_monomials(self.n_directions, m) for m in range(1, self.degree + 1))

    def rows_of(self, batch: Batch) -> tuple[Array, Array, Array]:
        """Whitened inputs (n, n_directions), controls (n_controls, n) and outputs of rows."""
        rows = self.neighbours.rows(batch)
        X = to_host(batch.X)
        Y = to_host(batch.targets) - self.mean
        v = self.whitening(take_rows(X, rows))
        controls = self.neighbours.controls(batch, rows, X, Y)
        if not self.linear:
            controls = np.concatenate([controls, v.T])
        return v, controls, self.neighbours.targets(rows, Y)


@dataclass(frozen=True)
class PolynomialSums(Sums):
    """Normal equations of the regression: of controls, then monomials; (size, ..)."""

    n_rows: float
    n_controls: int = field(metadata={"setting": True})
    gram: Array = field(repr=False)
    cross: Array = field(repr=False)
    squares: Array = field(repr=False)


def polynomial_sums(batch: Batch, features: Features) -> PolynomialSums:
    """Sums of one batch. Time O(n_rows size (size + n_outputs)), memory a block and the sums."""
    v, controls, y = features.rows_of(batch)
    size = controls.shape[0] + sum(features.sizes)
    gram, cross = np.zeros((size, size)), np.zeros((size, y.shape[1]))
    step = block_rows(size)
    for begin in range(0, v.shape[0], step):
        part = slice(begin, begin + step)
        columns = np.ascontiguousarray(v[part].T)
        powers = [symmetric_powers(columns, m) for m in range(1, features.degree + 1)]
        phi = np.concatenate([controls[:, part], *powers])
        gram += phi @ phi.T
        cross += phi @ y[part]
    return PolynomialSums(
        float(v.shape[0]), controls.shape[0], gram, cross, np.einsum("ta,ta->a", y, y)
    )


@dataclass(frozen=True)
class Derivatives:
    """Average derivatives and the polynomial behind them, in the coordinates of the whitening.

    Attributes
    ----------
    tensors : tuple of ndarray of shapes (n_outputs, r), (n_outputs, r, r), ..
        T_1, T_2, ..; T_1 is zero if the first order is a control.
    scale : ndarray of shape (n_outputs,)
        Standard deviation of the residual of each output.
    coefficients : ndarray of shape (n_monomials, n_outputs)
        B.
    root : ndarray of shape (rank, n_monomials)
        R with R^T R the Gram matrix of the monomials beside the controls, per row.
    n_rows : float
    gain : ndarray of shape (n_outputs,)
        What monomials of degree two and three explain beside all linear terms, in units of the
        residual variance; chi-squared with `n_nonlinear` degrees of freedom where they are noise.
    n_nonlinear : int
    linear : ndarray of shape (n_controls, n_outputs)
        Coefficients of the controls where nothing else but linear terms of v is beside them.
    """

    features: Features
    tensors: tuple[Array, ...]
    scale: Array
    coefficients: Array = field(repr=False)
    root: Array = field(repr=False)
    n_rows: float
    gain: Array
    n_nonlinear: int
    linear: Array = field(repr=False)

    @property
    def collinear(self) -> bool:
        """Whether monomials are dependent on these inputs, so that tensors are not defined."""
        return bool(self.root.shape[0] < self.n_own)

    @property
    def n_own(self) -> int:
        """Monomials that are not controls."""
        return sum(self.features.sizes) - (0 if self.features.linear else self.features.sizes[0])

    @property
    def slices(self) -> tuple[Array, Array]:
        """Symmetric slices of T_2 and T_3 / sqrt(3), (n_slices, r, r), and their noise.

        A slice of T_3 has three times the variance of one of T_2, for white v.
        """
        second, scales = self.tensors[1], [self.scale]
        stack, r = [second], second.shape[1]
        if len(self.tensors) > 2:
            stack.append(self.tensors[2].reshape(-1, r, r) / np.sqrt(3.0))
            scales.append(np.repeat(self.scale, r))
        return np.concatenate(stack), np.concatenate(scales)

    @property
    def signal(self) -> float:
        """Squared size of the highest tensor over what noise alone gives it."""
        order, r = len(self.tensors), self.features.n_directions
        entries = {2: r * r + r, 3: r**3 + 3 * r * r + 2 * r}[order]
        noise = float(np.sum(self.scale**2)) / self.n_rows * entries
        return float(np.sum(self.tensors[-1] ** 2)) / noise

    @property
    def nonlinearity(self) -> float:
        """How clearly outputs depend on x_t other than linearly: standard deviations of chance."""
        n = self.n_nonlinear * self.gain.shape[0]
        return float((self.gain.sum() - n) / np.sqrt(2.0 * max(n, 1)))

    @classmethod
    def of(cls, features: Features, sums: PolynomialSums) -> Derivatives:
        """Solve the normal equations."""
        c, sizes, n = sums.n_controls, features.sizes, sums.n_rows
        first = 0 if features.linear else sizes[0]
        # linear monomials that are controls already are left out
        own = np.arange(c + first, c + sum(sizes))
        base = _projected(sums.gram, sums.cross, np.arange(c), own)
        gram, cross, explained = base
        coefficients, root, gained = _solved(gram, cross, n)
        left = np.maximum(sums.squares - explained - gained, 1e-300)
        variance = left / max(n - c - root.shape[0], 1.0)
        linear = np.arange(c + (sizes[0] if features.linear else 0))
        # what the other orders explain beside the first is the rest of what all of them do
        n_first = linear.shape[0] - c
        n_linear, by_linear = _gain(gram[:n_first, :n_first], cross[:n_first])
        n_nonlinear, nonlinear = root.shape[0] - n_linear, np.maximum(gained - by_linear, 0.0)
        full = np.zeros((sum(sizes), cross.shape[1]))
        full[first:] = coefficients
        found = _pseudo(sums.gram[np.ix_(linear, linear)]) @ sums.cross[linear]
        return cls(
            features,
            tensors_of(full, features.n_directions, features.degree),
            scale=np.sqrt(variance),
            coefficients=full,
            root=_padded(root, first),
            n_rows=n,
            gain=nonlinear / variance,
            n_nonlinear=n_nonlinear,
            linear=found[:c],
        )


def _padded(root: Array, first: int) -> Array:
    """Root with columns of zeros for monomials that are controls."""
    return np.hstack([np.zeros((root.shape[0], first)), root]) if first else root


def _pseudo(gram: Array) -> Array:
    """Inverse of a Gram matrix of columns of any size, without directions that are dependent."""
    size = np.sqrt(np.diag(gram))
    size[size == 0.0] = 1.0
    scaled = np.linalg.pinv(gram / np.outer(size, size), rcond=CONTROLS_DEPENDENT, hermitian=True)
    return np.asarray(scaled / np.outer(size, size))


def _projected(
    gram: Array, cross: Array, controls: IntArray, own: IntArray
) -> tuple[Array, Array, Array]:
    """Gram and cross products of `own` beside the controls, and what these explain of y."""
    inverse = _pseudo(gram[np.ix_(controls, controls)])
    mixed, by = gram[np.ix_(controls, own)], cross[controls]
    explained = np.einsum("ca,ca->a", by, inverse @ by)
    left = gram[np.ix_(own, own)] - mixed.T @ inverse @ mixed
    rest = cross[own] - mixed.T @ (inverse @ by)
    # of a feature that the controls hold rounding is left
    gone = np.diag(left) <= CONTROLS_DEPENDENT * gram[own, own]
    left[gone], left[:, gone], rest[gone] = 0.0, 0.0, 0.0
    return left, rest, explained


def _solved(gram: Array, cross: Array, n_rows: float) -> tuple[Array, Array, Array]:
    """Least-norm coefficients, root of the Gram matrix per row, and what is explained."""
    size = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    values, vectors = np.linalg.eigh(gram / np.outer(size, size))
    kept = values > max(DEPENDENT * values[-1], DEPENDENT)
    inverse = (vectors[:, kept] / np.sqrt(values[kept])) / size[:, None]
    coefficients = inverse @ (inverse.T @ cross)
    root = (vectors[:, kept] * np.sqrt(values[kept] / n_rows)).T * size
    return coefficients, root, np.einsum("pa,pa->a", coefficients, cross)


def _gain(gram: Array, cross: Array) -> tuple[int, Array]:
    """Rank of a Gram matrix, and what its regression explains of each output."""
    if gram.shape[0] == 0:
        return 0, np.zeros(cross.shape[1])
    _, root, explained = _solved(gram, cross, 1.0)
    return root.shape[0], explained


def tensors_of(coefficients: Array, n_directions: int, degree: int) -> tuple[Array, ...]:
    r"""Average derivatives :math:`E[\nabla^m (B^T \phi)(v)]` of orders 1 to `degree`.

    For E v = 0 and E v v^T = 1, and degree 3 at most: the top derivative of order m, and in the
    first one what terms of degree three add, :math:`\frac12 \sum_j T_{3, ijj}`.

    Parameters
    ----------
    coefficients : ndarray of shape (n_monomials, n_outputs)
    n_directions, degree : int

    Returns
    -------
    tuple of ndarray of shapes (n_outputs, r), (n_outputs, r, r), ..
    """
    tensors, begin = [], 0
    for m in range(1, degree + 1):
        end = begin + n_monomials(n_directions, m)
        packed = coefficients[begin:end].T * monomial_factorials(n_directions, m)
        tensors.append(unpack_symmetric(packed, n_directions, m))
        begin = end
    if degree > 2:
        tensors[0] = tensors[0] + 0.5 * np.einsum("aijj->ai", tensors[2])
    return tuple(tensors)


def average_derivatives(engine: Engine, data: Selection, features: Features) -> Derivatives:
    """One pass over some rows."""
    sums = engine.run(partial(polynomial_sums, features=features), data, label="derivatives")
    return Derivatives.of(features, sums)


def along_few(features: Features, found: Derivatives, n_directions: int) -> Features:
    """Features of degree three along the directions that T_1 and T_2 span most clearly."""
    scale, r = found.scale, features.n_directions
    first = (found.tensors[0] / scale[:, None]).T
    second = (found.tensors[1] / scale[:, None, None]).transpose(1, 0, 2).reshape(r, -1)
    basis = np.linalg.svd(np.hstack([first, second]), full_matrices=False)[0][:, :n_directions]
    return replace(features, whitening=features.whitening.restrict(basis), degree=3)
