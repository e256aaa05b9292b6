r"""Which way each hidden unit runs: a two-sided regression and a greedy partition.

The units of a bidirectional network come out of the first moment together, directions unknown.
With all of them run without recurrence, the pre-activation of a forward unit still lacks
sum_j U_ij h_{j,t-1} over forward units j, that of a backward unit sum_j V_ij h_{j,t+1}. So the
prediction error is regressed on both neighbours of every unit at once,

.. math::
    y_t - \hat y_t \approx A_2^T \big[ f'(\hat z_t) \circ
        (\Theta^- \hat h_{t-1} + \Theta^+ \hat h_{t+1}) \big] + \text{outputs},

and each unit is put where its row *and* its column of the coefficients say: a unit that receives
nothing from the others may still feed them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import beside, like, namespace, ones, room, stretch_sums, to_host
from gloree._brief import Brief
from gloree._sums import Sums
from gloree.models import BRNN, Network
from gloree.recurrence._contraction import unit_scale
from gloree.recurrence._linearised import (
    LinearisedSums,
    normal_equations,
    output_regressors,
    row_blocks,
    solve_normal_equations,
    unit_regressors,
)
from gloree.sequences import Array, Batch, IntArray
from gloree.states import residual_rows, run_states, step_after, step_before, without_context

SWEEPS = 5
"""Greedy sweeps over the units at most."""

SLIGHT = 20.0
"""Undetermined units with less evidence than this for either side join the larger part."""

CERTAIN = 0.9999
"""Chi-square quantile below which the evidence for any recurrence of a unit is noise."""

LARGEST_NORM = 0.5
"""Spectral norm of the first U and V, at most."""

BoolArray = NDArray[np.bool_]


def two_sided_sums(
    batch: Batch, model: Network, *, bias: bool = False, direct: bool = False
) -> LinearisedSums:
    """Sums of one batch for the regression on both neighbours of every unit.

    `model` has no recurrence: its states are those of single steps, whatever the directions. With
    free biases, these hold the means of what the neighbours add. Unknown (i, j) belongs to
    h_{j,t-1} for j < n_hidden, n_hidden + j to h_{j,t+1}, and 2 n_hidden to the bias. Time
    O(n_rows n_hidden^4): twice as many regressors as `linearised_sums`.
    """
    states = run_states(model, batch)
    residuals = residual_rows(model, batch, states)
    free = np.ones((model.n_hidden, 2 * model.n_hidden + bias), dtype=bool)
    entering = _entering(batch, states.h)
    return normal_equations(batch, model, states, residuals, entering, free, direct=direct)


def _entering(batch: Batch, h: Array) -> Array:
    """Return (h_{t-1}, h_{t+1}, 1) of all rows."""
    both: Array = beside((step_before(batch, h), step_after(batch, h), ones(h, (batch.n_rows, 1))))
    return both


@dataclass(frozen=True)
class TwoSidedFit(Brief):
    """Solution of the regression on both neighbours.

    `coefficients`, (n_hidden, 2 n_hidden or 2 n_hidden + 1), are [Theta^-, Theta^+] and the changes
    of free biases; `information`, (m, m), is the Gram matrix of the unknowns of the units, with the
    regressors phi = (h_t, 1, x_t) of the outputs projected out; `projection`, (m, n_regressors),
    the regression of Q on phi; `output_change` has shape (n_regressors, n_outputs). `cancellation`
    is the sum of the squares that the units add to the outputs one by one, over those that they add
    together: their logarithm counts the digits that are lost.
    """

    coefficients: Array
    information: Array = field(repr=False)
    projection: Array = field(repr=False)
    output_change: Array = field(repr=False)
    cancellation: float = 1.0

    @classmethod
    def of(cls, sums: LinearisedSums, model: Network, *, ridge: float = 1e-8) -> TwoSidedFit:
        """Solve the normal equations."""
        solution, change = solve_normal_equations(sums, model, bias=True, ridge=ridge)
        projection = _solve_scaled(sums.gram, sums.mixed.T).T
        A2, left = model.output_weights, sums.unit_gram - projection @ sums.mixed.T
        information = left * (A2 @ A2.T)[np.ix_(sums.owner, sums.owner)]
        gram = sums.gram[: model.n_hidden, : model.n_hidden]
        apart = float(np.diag(gram) @ np.sum(A2**2, axis=1))
        together = float(np.sum(A2 * (gram @ A2)))
        cancellation = apart / max(together, 1e-300) if apart > 0 else 1.0
        coefficients = solution.reshape(model.n_hidden, -1)
        return cls(coefficients, information, projection, change, cancellation)


@dataclass(frozen=True)
class SpreadSums(Sums):
    """Sum over segments of g g^T, (size, size), with g the sum of the score in the segment."""

    n_segments: float
    spread: Array = field(repr=False)


def two_sided_spread(
    batch: Batch, model: Network, fit: TwoSidedFit, *, direct: bool = False
) -> SpreadSums:
    """Sums of one batch for the covariance of the coefficients, clustered by segment.

    Time O(n_rows n_hidden^2 (n_inputs + n_outputs) + n_segments n_hidden^4).
    """
    states = run_states(model, batch)
    residuals = residual_rows(model, batch, states)
    A2, width = model.output_weights, fit.coefficients.shape[1]
    entering = _entering(batch, states.h)
    phi = output_regressors(batch, states, direct=direct)
    slopes = model.activation.derivative(states.z, 1)
    drive = entering[:, :width] @ like(entering, fit.coefficients.T)
    residuals -= (slopes * drive) @ like(slopes, A2) + phi @ like(phi, fit.output_change)
    signal = without_context(batch, residuals) @ like(residuals, A2.T)
    owner, source = np.divmod(np.arange(fit.coefficients.size), width)
    scores = np.zeros((batch.lengths.shape[0], owner.shape[0]))
    segment = np.repeat(np.arange(batch.lengths.shape[0]), batch.lengths)
    projection, places = like(phi, fit.projection.T), like(phi, owner)
    for part in row_blocks(batch.n_rows, owner.shape[0], room(phi)):
        Q = unit_regressors(model, states.z[part], entering[part], owner, source)
        Q -= phi[part] @ projection
        Q *= namespace(signal).take(signal[part], places, axis=1)
        present, first = np.unique(segment[part], return_index=True)
        scores[present] += to_host(stretch_sums(Q, first))
    return SpreadSums(float(scores.shape[0]), scores.T @ scores)


@dataclass(frozen=True)
class Directions(Brief):
    """Direction of every hidden unit, and how sure it is.

    `margin`, (n_hidden,), is the evidence for the chosen side less that for the other one, in units
    of a chi-square statistic: 20 is beyond doubt, below 5 is a guess. Units are `undetermined` if
    their row and column are both noise: the data do not show which way they run, and nothing
    depends on it; they join the larger part of the others. `past` and `future` are coefficients,
    (n_hidden, n_hidden), on the states of the step before and after, `bias_change` those of biases.
    """

    forward: BoolArray
    margin: Array
    undetermined: BoolArray
    past: Array = field(repr=False)
    future: Array = field(repr=False)
    bias_change: Array = field(repr=False)

    @classmethod
    def unknown(cls, n_units: int, n_forward: int | None = None) -> Directions:
        """Directions where nothing is known: those asked for, or all forward; no recurrence."""
        forward = np.arange(n_units) < (n_units if n_forward is None else n_forward)
        nothing, idle = np.zeros((n_units, n_units)), np.zeros(n_units)
        return cls(forward, idle, np.ones(n_units, dtype=bool), nothing, nothing, idle)

    @property
    def order(self) -> IntArray:
        """Units with the forward ones first."""
        return np.concatenate((np.flatnonzero(self.forward), np.flatnonzero(~self.forward)))

    def reordered(self, order: IntArray) -> Directions:
        """Directions with unit `order[i]` in place i."""
        forward, margin, undetermined = self.forward, self.margin, self.undetermined
        past, future = (matrix[np.ix_(order, order)] for matrix in (self.past, self.future))
        flags = (forward[order], margin[order], undetermined[order])
        return Directions(*flags, past, future, self.bias_change[order])

    def __str__(self) -> str:
        n_forward, n_units = int(self.forward.sum()), self.forward.shape[0]
        text = f"{n_forward} forward, {n_units - n_forward} backward"
        if self.undetermined.any():
            text += f", {int(self.undetermined.sum())} of them undetermined"
        known = self.margin[~self.undetermined]
        if known.size == 0:
            return text
        if n_forward in (0, n_units):
            text += f"; nothing runs {'backward' if n_forward else 'forward'}"
        return f"{text}; smallest margin {known.min():.3g}"


def choose_directions(
    fit: TwoSidedFit, spread: SpreadSums, *, n_forward: int | None = None
) -> Directions:
    r"""Partition the units by the evidence of rows and columns.

    Unit i is forward if

    .. math::
        (W^-_i - K) + \sum_{j \in F \setminus i} (z^-_{ji})^2 - 1 \ge
        (W^+_i - K) + \sum_{j \in B \setminus i} (z^+_{ji})^2 - 1,

    with W the Wald statistics of the two halves of its row, z the t-values of its column, F and B
    the current partition, which starts from the rows alone. If the size `n_forward` of the forward
    part is known, it gets the units with most evidence for it.
    """
    k, width = fit.coefficients.shape
    past, future = fit.coefficients[:, :k], fit.coefficients[:, k : 2 * k]
    inverse = _solve_scaled(fit.information, np.eye(fit.information.shape[0]))
    covariance = inverse @ spread.spread @ inverse
    variances = np.diag(covariance).reshape(k, width)
    wald = np.empty((k, 2))
    for i in range(k):
        for side in range(2):
            index = np.arange(width * i + k * side, width * i + k * (side + 1))
            theta = fit.coefficients.ravel()[index]
            wald[i, side] = theta @ _solve_scaled(covariance[np.ix_(index, index)], theta)
    squared = fit.coefficients**2 / np.maximum(variances, 1e-300) - 1.0
    columns = squared[:, :k], squared[:, k : 2 * k]
    rows = wald[:, 0] - wald[:, 1]
    forward = rows >= 0
    for _ in range(SWEEPS):
        before = forward.copy()
        for i in range(k):
            forward[i] = _evidence(rows, columns, forward, i) >= 0
        if (forward == before).all():
            break
    evidence = np.array([_evidence(rows, columns, forward, i) for i in range(k)])
    if n_forward is not None:
        forward = np.zeros(k, dtype=bool)
        forward[np.argsort(-evidence, kind="stable")[:n_forward]] = True
        evidence = np.array([_evidence(rows, columns, forward, i) for i in range(k)])
    undetermined = np.zeros(k, dtype=bool)
    from scipy.stats import chi2  # slow to import

    limit = chi2.ppf(CERTAIN, 2 * k - 1) + 4.0 * (2 * k - 1)
    own = np.where(forward, wald[:, 0], wald[:, 1])
    for i in range(k):
        column = np.where(forward, columns[0][:, i], columns[1][:, i]) + 1.0
        column[i] = 0.0
        undetermined[i] = own[i] + column[forward == forward[i]].sum() < limit
    idle = undetermined & (np.abs(evidence) < SLIGHT)
    if n_forward is None and idle.any():
        known = forward[~undetermined]
        forward[idle] = bool(known.sum() >= known.size / 2)
    margin = np.where(forward, evidence, -evidence)
    bias_change = fit.coefficients[:, 2 * k] if width > 2 * k else np.zeros(k)
    return Directions(forward, margin, undetermined, past, future, bias_change)


def _solve_scaled(gram: Array, right: Array) -> Array:
    """Least-norm solution with G scaled to unit diagonal: units may be of very different size."""
    scale = unit_scale(gram)
    inverse = np.linalg.pinv(gram / np.outer(scale, scale), rcond=1e-12, hermitian=True)
    return np.asarray((inverse / np.outer(scale, scale)) @ right)


def _evidence(rows: Array, columns: tuple[Array, Array], forward: BoolArray, i: int) -> float:
    """Evidence that unit i is forward, given the directions of the others."""
    others = np.arange(forward.shape[0]) != i
    column = columns[0][forward & others, i].sum() - columns[1][~forward & others, i].sum()
    return float(rows[i] + column)


def bidirectional_model(model: Network, found: Directions, *, lags: int = 1) -> BRNN:
    """BRNN of a partition of the units, with U and V from the regression on both neighbours.

    `model` has no recurrence; with lags it is on the joint windows, of which units keep the inputs
    that their direction sees. U and V are scaled down to a spectral norm of at most `LARGEST_NORM`:
    the regression is of first order, and a larger recurrence may explode.
    """
    order, cut = found.order, int(found.forward.sum())
    ahead, behind = order[:cut], order[cut:]
    C, n_inputs = model.input_weights, model.n_columns // (2 * lags - 1)
    future = np.r_[0:n_inputs, lags * n_inputs : model.n_columns]
    U, u_factor = _capped(found.past[np.ix_(ahead, ahead)])
    V, v_factor = _capped(found.future[np.ix_(behind, behind)])
    factors = np.repeat((u_factor, v_factor), (ahead.size, behind.size))
    return BRNN(
        C[ahead, : lags * n_inputs],
        U,
        C[np.ix_(behind, future)],
        V,
        model.output_weights[order],
        model.hidden_bias[order] + factors * found.bias_change[order],
        model.output_bias,
        model.direct_weights,
        activation=model.activation,
        lags=lags,
    )


def _capped(recurrent: Array) -> tuple[Array, float]:
    """Matrix scaled to a norm of at most `LARGEST_NORM`, and the factor."""
    norm = float(np.linalg.norm(recurrent, 2)) if recurrent.size else 0.0
    factor = min(1.0, LARGEST_NORM / norm) if norm > 0 else 1.0
    return factor * recurrent, factor
