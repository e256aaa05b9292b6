r"""Rows that are gone, kept as the normal equations of their loss at the weights of their time.

With :math:`\ell_t(\hat y)` minus the log-likelihood of a row, :math:`s_t = -\ell_t'` and
:math:`W_t` its expected curvature (for outputs with noise of covariance :math:`G^{-1}`, s = G r
and W = G; for labels, s = e - p and W = diag(p) - p p^T), rows at weights :math:`\theta_0` leave

.. math::
    L = \sum_t \ell_t, \qquad g = \sum_t J_t^T s_t, \qquad H = \sum_t J_t^T W_t J_t, \qquad
    Q = \sum_c g_c g_c^T

(c a segment), which add over batches, and stand for them at other weights:

.. math::
    L(\theta) \approx L - g^T \delta + \tfrac12 \delta^T H \delta, \qquad
    g(\theta) \approx g - H \delta, \qquad \delta = \theta - \theta_0.

This is exact in weights that predictions are linear in (with G fixed), and of second order in
others: what is left out is the change of J along :math:`\delta`.

References
----------
.. [1] L. Ljung, T. Soderstrom, "Theory and Practice of Recursive Identification", MIT Press (1983).
.. [2] D. P. Bertsekas, "Incremental least squares methods and the extended Kalman filter", SIAM
   Journal on Optimization 6 (1996).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from scipy import special

from gloree._arrays import to_host
from gloree._brief import Brief
from gloree._sums import Sums
from gloree.engine import Engine, Source, Subset
from gloree.models import ExplosionError, Network
from gloree.refinement._curvature import solve_step
from gloree.refinement._layout import Layout
from gloree.refinement._linearisation import Linearisation
from gloree.refinement._losses import CrossEntropy, softmax
from gloree.refinement._sensitivities import unit_sensitivities
from gloree.refinement._standard_errors import inverse_root
from gloree.sequences import Array, Batch
from gloree.states import predict_rows

NUMBERS_AT_ONCE = 2**21
"""Derivatives of the states and outputs of a batch, at most: 16 MiB."""

MOST_STEPS = 50
"""Steps of a descent."""

SETTLED = 1e-5
"""A descent ends when a step would gain less than this, in units of the log-likelihood: no
combination of weights then moves by a hundredth of its standard error."""

STRONGER, WEAKER, AS_FORESEEN = 10.0, 10.0, 0.5
"""Factors of the damping after a step that fails, and after one that gains as much as foreseen, or
this part of it."""

MOST_DAMPING = 1e6
"""Damping beyond which no step is looked for."""

NULL = 1e-10
"""Eigenvalues of an information, relative to the largest, that count as zero."""


class Likelihood(Protocol):
    """How outputs come about, given the predictions."""

    def rows(self, predicted: Array, targets: Array) -> tuple[Array, Array, Array, Array]:
        """Loss l of every row, s, a root of W, and what is counted as missed, of every row.

        Shapes (n,), (n, p), (p, p) or (n, p, p) with root root^T = W, and (n, m).
        """


@dataclass(frozen=True, eq=False)
class NormalOutputs(Brief):
    """Outputs with normal noise of precision G, (n_outputs, n_outputs); misses are r r^T."""

    precision: Array

    def rows(self, predicted: Array, targets: Array) -> tuple[Array, Array, Array, Array]:
        """See `Likelihood`."""
        residuals = targets - predicted
        signal = residuals @ self.precision
        products = residuals[:, :, None] * residuals[:, None]
        root = np.asarray(np.linalg.cholesky(self.precision), dtype=np.float64)
        loss = 0.5 * np.sum(signal * residuals, axis=1)
        return loss, signal, root, products.reshape(len(products), -1)


@dataclass(frozen=True)
class SoftmaxLabels:
    """Numbers of labels, under the softmax of the outputs.

    Misses are 1 for a wrong label, and then indicators of the labels.
    """

    def rows(self, predicted: Array, targets: Array) -> tuple[Array, Array, Array, Array]:
        """See `Likelihood`."""
        loss, signal = CrossEntropy().rows(predicted, targets)
        p = softmax(predicted)[0]
        half = np.sqrt(p)
        root = half[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * half[:, None]
        wrong = ~CrossEntropy().correct(predicted, targets)
        return loss, signal, root, np.concatenate((wrong[:, None], signal + p), axis=1)


@dataclass(frozen=True)
class NormalSums(Sums):
    """Normal equations of rows at one set of weights: n, L, g, H, Q, and the sum of the misses."""

    n_rows: float
    loss: float
    gradient: Array = field(repr=False)
    information: Array = field(repr=False)
    spread: Array = field(repr=False)
    misses: Array = field(repr=False)

    def moved(self, step: Array) -> NormalSums:
        """The same rows at weights further on, where their loss is a parabola."""
        curved = self.information @ step
        return replace(
            self,
            loss=self.loss - float(self.gradient @ step) + 0.5 * float(step @ curved),
            gradient=self.gradient - curved,
        )


def normal_sums(batch: Batch, model: Network, layout: Layout, likelihood: Likelihood) -> NormalSums:
    """Map of the pass for normal equations.

    Time O(n_rows (n_hidden^2 + n_outputs size) size), memory O(n_rows (n_hidden + n_outputs) size).
    """
    host = replace(batch, X=to_host(batch.X), Y=to_host(batch.targets))
    at, p = Linearisation.of(host, model, layout), layout.n_outputs
    counted = batch.counted_rows
    J = np.zeros((counted.shape[0], p, layout.size))
    parts = [part for part in layout.directions if part.n_units]
    for part, values in zip(parts, unit_sensitivities(at), strict=True):
        own = np.tensordot(values[:, counted], model.output_weights[part.units], axes=(0, 0))
        J[:, :, part.block] = own.swapaxes(1, 2)
    leaving = at.leaving()[counted]
    for a in range(p):
        first = layout.n_unit_parameters + a * layout.output_width
        J[:, a, first : first + layout.output_width] = leaving
    predicted = predict_rows(model, host, at.states)[counted]
    loss, signal, root, missed = likelihood.rows(predicted, host.targets[counted])
    scores = np.einsum("naj,na->nj", J, signal)
    segments = np.repeat(np.arange(batch.lengths.shape[0]), batch.lengths)[counted]
    edges = np.flatnonzero(np.diff(segments, prepend=-1))
    by_segment = np.add.reduceat(scores, edges, axis=0)
    seen = np.matmul(np.swapaxes(root, -1, -2), J).reshape(-1, layout.size)
    return NormalSums(
        float(batch.n_counted),
        float(loss.sum()),
        scores.sum(axis=0),
        seen.T @ seen,
        by_segment.T @ by_segment,
        missed.sum(axis=0),
    )


def sum_normal_equations(
    model: Network, layout: Layout, engine: Engine, source: Source, likelihood: Likelihood
) -> NormalSums:
    """Normal equations of all rows of a source, in batches whose derivatives fit into the cache."""
    width = (layout.n_hidden + layout.n_outputs) * layout.size
    rows = max(1, NUMBERS_AT_ONCE // width)
    segments = source.sample(source.n_segments)
    few = Subset(source, segments.split_evenly(max(1, -(-segments.n_rows // rows))))
    function = partial(normal_sums, model=model, layout=layout, likelihood=likelihood)
    return engine.run(function, few, label="normal equations")


@dataclass(frozen=True, eq=False)
class Continuation(Brief):
    """Weights after more rows.

    Attributes
    ----------
    model : Network
    sums : NormalSums
        Of the old rows and the new ones, at these weights.
    moved : float
        How far the weights moved: root mean square in standard errors that the old rows alone give.
    curved : float
        How far the old rows' change of J, which is left out, may have led the weights astray: root
        mean square in standard errors of all rows. Estimated from the new ones, where it is known.
    disagreement, degrees : float
        Chi square of the new rows' score at the old weights, and its degrees of freedom: large
        where no one set of weights fits both.
    n_steps : int
    settled : bool
        Whether the descent came to its end.
    """

    model: Network
    sums: NormalSums = field(repr=False)
    moved: float
    curved: float
    disagreement: float
    degrees: float
    n_steps: int
    settled: bool


def go_on(
    kept: NormalSums,
    model: Network,
    layout: Layout,
    engine: Engine,
    source: Source,
    likelihood: Likelihood,
) -> Continuation:
    r"""Minimise the loss of new rows and the parabola of the old ones, by Gauss-Newton.

    Parameters
    ----------
    kept : NormalSums
        Of the old rows, at `model`.
    model : Network
    layout : Layout
    engine : Engine
    source : Source
        The new rows.
    likelihood : Likelihood

    Returns
    -------
    Continuation

    Raises
    ------
    ExplosionError
        If a state of the new rows grows out of all bounds at `model`.
    """
    run = partial(
        sum_normal_equations, layout=layout, engine=engine, source=source, likelihood=likelihood
    )
    start, free = layout.vector(model), _free_directions(layout.scale_constraints(model))
    none = np.zeros((0, free.shape[1]))
    first = new = run(model)
    old, here, damping, n_steps, settled = kept, model, 1e-9, 0, False
    while n_steps < MOST_STEPS and damping < MOST_DAMPING:
        gradient, H = old.gradient + new.gradient, old.information + new.information
        step = free @ solve_step(free.T @ H @ free, free.T @ gradient, none, damping)
        if float(step @ gradient) < SETTLED:
            settled = True
            break
        moved = layout.move(here, step)
        try:
            found = run(moved)
        except ExplosionError:
            found = None
        rows = kept.moved(layout.vector(moved) - start)
        fall = old.loss + new.loss - rows.loss - (np.inf if found is None else found.loss)
        if found is None or not fall >= 0.0:
            damping = STRONGER * max(damping, 1e-5)
            continue
        here, old, new, n_steps = moved, rows, found, n_steps + 1
        if fall > AS_FORESEEN * 0.5 * float(step @ gradient):
            damping = max(damping / WEAKER, 1e-9)
    delta = layout.vector(here) - start
    root = inverse_root(old.information + new.information, layout.scale_constraints(here))
    # what the parabola of the new rows misses of their gradient, for as many rows as the old ones
    missed = (new.gradient - first.moved(delta).gradient) * old.n_rows / new.n_rows
    size = max(root.shape[1], 1)
    return Continuation(
        here,
        old.merge(new),
        float(np.sqrt(max(delta @ old.information @ delta, 0.0) / size)),
        float(np.linalg.norm(missed @ root) / np.sqrt(size)),
        *_disagreement(kept, first, free),
        n_steps,
        settled,
    )


def _free_directions(constraints: Array) -> Array:
    """Orthonormal directions that keep a_i . (a_i - a_i0) = 0, where the scale of units is free.

    The parabola knows one choice of these scales; all steps stay with it.
    """
    n_fixed, size = constraints.shape
    if not n_fixed:
        return np.eye(size)
    return np.asarray(np.linalg.qr(constraints.T, mode="complete")[0][:, n_fixed:])


def _disagreement(kept: NormalSums, new: NormalSums, free: Array) -> tuple[float, float]:
    """Chi square of the score of new rows at the old weights, and its degrees of freedom.

    Its variance is that of the new rows and of the error of the weights, H + H V H with the
    sandwich V of the old rows; where these have more spread than expected, it is theirs.
    """
    none = np.zeros((0, free.shape[1]))
    H, root = free.T @ new.information @ free, inverse_root(free.T @ kept.information @ free, none)
    pulled = H @ root
    spread = float(np.trace(root.T @ (free.T @ kept.spread @ free) @ root))
    variance = max(1.0, spread / max(root.shape[1], 1)) * (H + pulled @ pulled.T)
    scale = 1.0 / np.sqrt(np.maximum(np.diag(variance), np.finfo(np.float64).tiny))
    values, vectors = np.linalg.eigh(variance * np.outer(scale, scale))
    used = values > NULL * max(values[-1], np.finfo(np.float64).tiny)
    along = ((free.T @ new.gradient) * scale) @ vectors[:, used]
    return float(np.sum(along**2 / values[used])), float(np.count_nonzero(used))


def chance(disagreement: float, degrees: float) -> float:
    """Probability of a chi square this large."""
    return float(special.chdtrc(degrees, disagreement)) if degrees > 0 else 1.0


def covariance_of(sums: NormalSums, layout: Layout, model: Network) -> Array:
    """Sandwich covariance of the weights, H^+ Q H^+ under the constraints."""
    root = inverse_root(sums.information, layout.scale_constraints(model))
    inside = root.T @ sums.spread @ root
    return np.asarray(root @ inside @ root.T)


def sums_of_report(
    covariance: Array,
    n_rows: float,
    misses: Array,
    gradient_size: int,
    inverse_information: Array | None = None,
) -> NormalSums:
    """Normal equations that have these weights and this covariance: what a report knows of rows.

    With H^+ beside the sandwich V, they have the information H and the spread H V H. Without it
    the information is V^+, which is far from H where the scores behind V come from few clusters:
    its large part then lies where V is small by chance.
    """
    unknown = ~np.isfinite(np.diag(covariance))  # no row depends on these weights
    V = np.where(unknown[:, None] | unknown, 0.0, covariance)
    known = V if inverse_information is None else inverse_information
    scale = 1.0 / np.sqrt(np.maximum(np.diag(known), np.finfo(np.float64).tiny))
    scale[unknown] = 0.0
    values, vectors = np.linalg.eigh(known * np.outer(scale, scale))
    used = values > NULL * max(values[-1], np.finfo(np.float64).tiny)
    turned = vectors[:, used] * scale[:, None]
    information = (turned / values[used]) @ turned.T
    spread = information if inverse_information is None else information @ V @ information
    return NormalSums(n_rows, 0.0, np.zeros(gradient_size), information, spread, misses)
