"""J^T J without the matrix: only its products with vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, cg

from gloree._arrays import beside, column_squares, like, namespace, ones, to_host
from gloree._sums import Sums
from gloree.engine import Engine, Source
from gloree.models import Network
from gloree.refinement._curvature import LEAST_CURVATURE, LEAST_ROWS, Strata, chunks, hessian_rows
from gloree.refinement._layout import Layout
from gloree.refinement._linearisation import Linearisation
from gloree.refinement._sensitivities import GradientSums
from gloree.sequences import Array, Batch

MOST_NUMBERS = 2**26
"""Numbers in the rows that are kept in memory, at most: 512 MiB, or 1 GiB if all are kept."""

KEPT_ROWS = 2**13
"""Rows of a batch that is kept, at most: the preconditioner takes only some of the batches."""

SOLVED = 0.01
"""Conjugate gradients end when the gradient of the quadratic model has fallen to this fraction.

What the step leaves to gain is then about its square. The subsample is no better than that, and
the next step starts from an exact gradient.
"""

MOST_PRODUCTS = 200
"""Products for one step, at most; what they have found until then is a direction of descent."""

UNIT_ROWS = 200
"""Rows of the subsample for each weight of a unit, at least: outputs separate the units, so that
each has little more than one residual per row to itself."""

BLOCK_ROWS = 5
"""Rows behind the preconditioner for each weight of a unit: eigenvalues spread about sixfold."""

RIDGE = 1e-8
"""Of the blocks, relative to their mean diagonal."""


@dataclass(frozen=True)
class Kept:
    """Some rows, linearised, and what each of them counts: (n_rows, 1), zero for context."""

    at: Linearisation
    weights: Array

    @classmethod
    def of(cls, batch: Batch, model: Network, layout: Layout, strata: Strata) -> Kept:
        """Run the model over a batch of segments of both strata."""
        rows = np.zeros((batch.n_rows, 1))
        weights = np.repeat(strata.weights_of(batch), batch.lengths)
        rows[batch.counted_rows, 0] = weights[batch.counted_rows]
        return cls(Linearisation.of(batch, model, layout), like(batch.X, rows))


@dataclass(frozen=True)
class ProductSums(Sums):
    """J^T W J times a vector."""

    product: Array


def product_sums(kept: Kept, vector: Array) -> ProductSums:
    """Sums of J^T W J v: time O(n_rows (n_hidden + n_outputs) (n_inputs + n_hidden))."""
    change = kept.at.tangent(vector)
    change *= kept.weights
    return ProductSums(kept.at.pulled_back(change))


@dataclass(frozen=True)
class BlockSums(Sums):
    """Second moments that make up the diagonal blocks of J^T J, one a unit and one an output.

    Of (x_t, h_{t-1}, 1), which enters units, of (h_t, 1, x_t), which enters outputs; the diagonals
    of those of f'(z_t) and of the powers z_ti^m of free coefficients.
    """

    n_rows: float
    entering: Array
    leaving: Array
    slopes: Array
    coefficients: Array


def block_sums(kept: Kept) -> BlockSums:
    """Sums for the diagonal blocks: time O(n_rows (n_inputs + n_hidden)^2)."""
    at, weights, batch = kept.at, kept.weights, kept.at.batch
    constant = ones(at.states.h, (batch.n_rows, 1))
    entering, leaving = beside((batch.X, at.states.previous, constant)), at.leaving()
    powers = beside([at.powers(direction) for direction in at.layout.directions])
    root = namespace(weights).sqrt(weights)
    return BlockSums(
        float(to_host(weights.sum())),
        to_host((weights * entering).T @ entering),
        to_host((weights * leaving).T @ leaving),
        to_host(column_squares(root * at.slopes)),
        to_host(column_squares(root * powers)),
    )


class Products:
    """J^T J by its products with vectors, where there are too many weights for a matrix.

    The rows of a stratified subsample are gathered once, with the states on them. A step comes from
    conjugate gradients on these rows, in coordinates in which the blocks of single units and of
    outputs are about the identity (see `Blocks`): about 15 products of time O(n_rows
    (n_hidden + n_outputs) (n_inputs + n_hidden)), whatever the number of weights. Corrections by
    the BFGS formula are kept as the vectors that they are made of.
    """

    hessian: None = None

    def __init__(
        self, model: Network, layout: Layout, engine: Engine, source: Source, current: GradientSums
    ) -> None:
        self.layout, self.engine = layout, engine
        width = max(part.width for part in layout.directions)
        wanted = max(hessian_rows(layout, source.n_rows), UNIT_ROWS * width)
        wanted = min(wanted, MOST_NUMBERS // (layout.n_inputs + layout.n_outputs))
        strata = Strata.of(source, current, wanted)
        n_rows = min(source.batch_size, source.room * KEPT_ROWS)
        some = chunks(source, strata.segments, len(strata.segments), n_rows)
        self.kept = engine.collect(
            partial(Kept.of, model=model, layout=layout, strata=strata), some
        )
        counted = sum(each.at.batch.n_counted for each in self.kept)
        few = self.kept[:: max(1, counted // max(LEAST_ROWS, BLOCK_ROWS * width))]
        sums = engine.add_up(block_sums, few)
        with engine.small_matrices():
            self.blocks = Blocks(sums, model, layout, current.n_rows)
        self._corrections: list[tuple[Array, Array]] = []

    def product(self, vector: Array) -> Array:
        """J^T J v, corrected."""
        product = self.engine.add_up(partial(product_sums, vector=vector), self.kept).product
        for added, taken in self._corrections:
            product += (added @ vector) * added - (taken @ vector) * taken
        return product

    def step(self, model: Network, gradient: Array, damping: float) -> Array:
        """Gauss-Newton step (J^T J)^+ J^T r, damped, by conjugate gradients."""
        blocks, size = self.blocks, self.layout.size
        fixed = [blocks.to_unit(row) for row in self.layout.scale_constraints(model)]
        scales = np.array([row / np.linalg.norm(row) for row in fixed]).reshape(-1, size)

        def product(vector: Array) -> Array:
            seen = blocks.to_unit(self.product(blocks.from_unit(vector)))
            seen += damping * vector + scales.T @ (scales @ vector)
            return seen

        def solution() -> Array:
            operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
            right = blocks.to_unit(gradient)
            return blocks.from_unit(cg(operator, right, rtol=SOLVED, maxiter=MOST_PRODUCTS)[0])

        with self.engine.small_matrices():
            return self.engine.recall("step", solution)

    def correct(self, step: Array, change: Array) -> None:
        """Take in a step and the change of the gradient along it."""
        curved = self.engine.recall("correction", partial(self.product, step))
        along, expected = float(step @ change), float(step @ curved)
        if along > LEAST_CURVATURE * expected > 0:
            self._corrections.append((change / np.sqrt(along), curved / np.sqrt(expected)))


class Blocks:
    r"""A change of variables in which the diagonal blocks of J^T J are about the identity.

    The block of unit i is taken to be :math:`|A_{2,i}|^2 \overline{f'(z_i)^2} \sum_t \varphi_t
    \varphi_t^T`, as if its slopes were independent of :math:`\varphi_t = (x_t, h_{t-1}, 1)` and it
    had no recurrence; that of an output is :math:`\sum_t (h_t, 1, x_t) (h_t, 1, x_t)^T`. With
    Cholesky factors L of both, v = L^{-T} v~. (With the slopes in the sums, a matrix for each unit,
    more iterations are needed: a few rows dominate such matrices.)
    """

    def __init__(self, sums: BlockSums, model: Network, layout: Layout, n_rows: float) -> None:
        self.layout = layout
        scale = n_rows / sums.n_rows
        sizes = (model.output_weights**2).sum(axis=1)
        level = np.sqrt(np.maximum(sizes * sums.slopes / sums.n_rows, 1e-300))
        free, rest = [], sums.coefficients * scale
        self.units: list[tuple[Array, Array]] = []
        for part in layout.directions:
            inner = layout.n_inputs + np.arange(part.units.start, part.units.stop)
            seen = np.concatenate(
                (part.columns, inner[: layout.recurrent * inner.size], [-1] * layout.unit_bias)
            ).astype(np.int64)
            factor = _factor(scale * sums.entering[np.ix_(seen, seen)])
            self.units.append((factor, level[part.units, None]))
            own, rest = np.split(rest, [part.owners.shape[0]])
            free.append(own * sizes[part.units][part.owners])
        self.coefficients = [np.sqrt(np.where(own > 0, own, 1.0)) for own in free]
        self.outputs = _factor(scale * sums.leaving)

    def to_unit(self, gradient: Array) -> Array:
        """L^{-1} g: a gradient in the new variables."""
        return self._solve(gradient, trans=0)

    def from_unit(self, step: Array) -> Array:
        """L^{-T} v~: a step in the old ones."""
        return self._solve(step, trans=1)

    def _solve(self, vector: Array, trans: int) -> Array:
        units, coefficients, outputs = self.layout.split(vector)
        solved = [
            _triangular(factor, (rows / level).T, trans).T
            for (factor, level), rows in zip(self.units, units, strict=True)
        ]
        scaled = [c / size for c, size in zip(coefficients, self.coefficients, strict=True)]
        return self.layout.join(solved, scaled, _triangular(self.outputs, outputs.T, trans).T)


def _factor(block: Array) -> Array:
    """Cholesky factor, with a ridge for weights that nothing depends on."""
    level = float(np.trace(block)) / max(block.shape[0], 1)
    ridge = RIDGE * level if level > 0 else 1.0
    return np.asarray(np.linalg.cholesky(block + ridge * np.eye(block.shape[0])))


def _triangular(factor: Array, right: Array, trans: int) -> Array:
    solved = linalg.solve_triangular(factor, right, trans=trans, lower=True, check_finite=False)
    return np.asarray(solved)
