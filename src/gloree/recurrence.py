r"""The second moment: recurrent weights U and hidden biases b from moments of two steps.

With A1, A2 known, everything here is linear in the unknowns (but for the paper's `score`, which
is quadratic), and no weight matrix needs an inverse: only the n_hidden x n_hidden matrix Psi does.

* ``instrument`` (default): E[y_t (x) S_{l-1}(t) g] with instruments g = (h_{t-1}, 1).
* least squares: the same unknowns from the linearised prediction error; for inputs whose score
  is not that of a Gaussian chain.
* ``cross``: the joint score of two neighbouring steps, order 2l - 1, linear in U.
* ``score``: the paper's, order l^2 in x_{t-1}; loses the sign of each row of U. A baseline.

Every estimator is a pass (batch, current model) -> sums, and a function from the sums to U and b.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import comb, factorial

import numpy as np

from gloree._sums import Sums
from gloree.activations import Polynomial
from gloree.chains import GaussianChain
from gloree.models import IORNN
from gloree.score_functions import hermite_along
from gloree.sequences import Array, Batch, IntArray
from gloree.states import States, residual_rows, run_states

METHODS = ("instrument", "cross", "score")


def top_degree(model: IORNN) -> tuple[int, float]:
    """Degree l and leading coefficient c_l of a model's polynomial activation.

    Raises
    ------
    TypeError
        If the activation is not a polynomial.
    """
    activation = model.activation
    if not isinstance(activation, Polynomial):
        raise TypeError(
            f"recurrence moments need a polynomial activation, the model has {activation.name}"
        )
    return activation.degree, activation.leading


@dataclass(frozen=True)
class Contraction:
    """Directions along which moments are contracted, and what that does to the weights.

    For kind of step e, B = A2 V^-1 (V a metric of the outputs), D_e = A1 K_e^-1 and

        Psi_e = (B A2^T) o (D_e A1^T)^{o(l-1)}.

    Attributes
    ----------
    outputs : ndarray of shape (n_hidden, n_outputs)
        B.
    inputs : ndarray of shape (n_kinds, n_hidden, n_inputs)
        D_e.
    overlap : ndarray of shape (n_kinds, n_hidden, n_hidden)
        Psi_e.
    """

    outputs: Array
    inputs: Array
    overlap: Array

    @classmethod
    def of(
        cls, model: IORNN, covariances: Array, output_covariance: Array | None = None
    ) -> Contraction:
        """Directions for a model and the score covariances K_e of each kind of step."""
        degree, _ = top_degree(model)
        A1, A2 = model.input_weights, model.output_weights
        if output_covariance is None:
            B = A2
        else:
            jitter = 1e-12 * np.trace(output_covariance) * np.eye(A2.shape[1])
            B = np.linalg.solve(output_covariance + jitter, A2.T).T
        D = np.stack([np.linalg.solve(K, A1.T).T for K in covariances])
        overlap = (B @ A2.T) * (D @ A1.T) ** (degree - 1)
        return cls(B, D, overlap)

    @property
    def condition(self) -> float:
        """Condition number of the interior Psi, after scaling its diagonal to one."""
        Psi = self.overlap[0]
        scale = np.sqrt(np.abs(np.diag(Psi)))
        return float(np.linalg.cond(Psi / np.outer(scale, scale)))


def solve_overlap(overlap: Array, values: Array) -> Array:
    """Solve Psi x = values, with an error that explains a singular Psi.

    Raises
    ------
    numpy.linalg.LinAlgError
        If two units have parallel input *and* output weights.
    """
    try:
        return np.asarray(np.linalg.solve(overlap, values), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(
            "the overlap matrix Psi of the hidden units is singular: two units share their input "
            "and output directions. Fit fewer hidden units"
        ) from error


@dataclass(frozen=True)
class InstrumentSums(Sums):
    """Sums behind E[(z - z^) g] and E[(h_{t-1}, 1) g], with g = (h^_{t-1}, 1).

    Attributes
    ----------
    n_rows : float
    cross : ndarray of shape (n_hidden, n_hidden + 1)
        Sum of p_t g_t^T, where p_t has the mean of z_t - z^_t given everything but x_t.
    gram : ndarray of shape (n_hidden + 1, n_hidden + 1)
        Sum of (h_{t-1}, 1) g_t^T.
    """

    n_rows: float
    cross: Array
    gram: Array


def pseudo_observations(
    batch: Batch,
    model: IORNN,
    chain: GaussianChain,
    residuals: Array,
    contraction: Contraction,
) -> Array:
    r"""Unbiased surrogates of z_t - z^_t for every unit.

    .. math::
        p_t = \frac{1}{l!\, c_l} \Psi^{-1}
              [ (B r_t) \circ He_{l-1}(D s_t; \mathrm{diag}\, D K D^T) ]

    has E[p_t g] = E[(z_t - z^_t) g] for every g that does not depend on x_t, provided A1 and A2
    are right.

    Returns
    -------
    ndarray of shape (n_rows, n_hidden)
    """
    degree, leading = top_degree(model)
    scores = chain.scores(batch)
    kinds, covariances = chain.score_covariance_kinds(batch)
    signal = residuals @ contraction.outputs.T
    p = np.empty_like(signal)
    for kind in np.unique(kinds):
        rows: IntArray | slice = np.flatnonzero(kinds == kind)
        if rows.shape[0] == batch.n_rows:  # type: ignore[union-attr]
            rows = slice(None)
        D = contraction.inputs[kind]
        variances = np.einsum("id,de,ie->i", D, covariances[kind], D)
        along = hermite_along(scores[rows] @ D.T, variances, degree - 1)
        p[rows] = solve_overlap(contraction.overlap[kind], (signal[rows] * along).T).T
    p /= factorial(degree) * leading
    return p


def instrument_sums(
    batch: Batch,
    model: IORNN,
    chain: GaussianChain,
    contraction: Contraction,
    states: States | None = None,
    residuals: Array | None = None,
) -> InstrumentSums:
    """Sums of one batch for `instrument_update`.

    Notes
    -----
    Time O(n_rows n_hidden (n_inputs + n_outputs + n_hidden)): the cheapest of the estimators.
    """
    states = run_states(model, batch) if states is None else states
    residuals = residual_rows(model, batch, states) if residuals is None else residuals
    p = pseudo_observations(batch, model, chain, residuals, contraction)
    g = np.column_stack((states.previous, np.ones(batch.n_rows)))
    counted = batch.counted
    return InstrumentSums(
        float(batch.n_counted), p[counted].T @ g[counted], g[counted].T @ g[counted]
    )


def instrument_update(
    sums: InstrumentSums, *, bias: bool = True, ridge: float = 1e-10
) -> tuple[Array, Array]:
    """Changes of U and b: (dU, db) = E[(z - z^) g] E[(h^_{t-1}, 1) g]^-1.

    Parameters
    ----------
    sums : InstrumentSums
    bias : bool, default True
        Whether b is free.
    ridge : float
        Relative ridge of the solve; states that never vary get no weight instead of a division
        by zero.

    Returns
    -------
    recurrent : ndarray of shape (n_hidden, n_hidden)
    bias : ndarray of shape (n_hidden,)
    """
    size = sums.gram.shape[0] - (0 if bias else 1)
    gram, cross = sums.gram[:size, :size], sums.cross[:, :size]
    solution = _ridge_solve(gram, cross.T, ridge).T
    n_hidden = sums.cross.shape[0]
    change = solution[:, -1] if bias else np.zeros(n_hidden)
    return solution[:, :n_hidden], change


def _ridge_solve(gram: Array, right: Array, ridge: float) -> Array:
    scale = np.sqrt(np.diag(gram))
    scale = np.where(scale > 0, scale, 1.0)
    scaled = gram / np.outer(scale, scale) + ridge * np.eye(gram.shape[0])
    solution: Array = np.linalg.solve(scaled, right / scale[:, None]) / scale[:, None]
    return solution


@dataclass(frozen=True)
class LinearisedSums(Sums):
    r"""Normal equations of the prediction error, linear in everything but A1.

    The prediction changes by

    .. math:: A_2^T [ f'(z) \circ (dU\, h_{t-1} + db) ] + dA_2^T h_t + dc + dD^T x_t

    (the effect of dU on later states is left out: it is of second order in |U|).

    Attributes
    ----------
    recurrent, bias : bool
        Whether U, and b, are among the unknowns.
    n_rows : float
    squares : float
        Sum of |y - y^|^2.
    unit_gram : ndarray of shape (m, m)
        Sum of Q Q^T, Q = (f'(z_i) g_j) for units i; g holds h_{t-1} where U is free and 1 where b
        is, so m = n_hidden len(g).
    unit_cross : ndarray of shape (m, n_outputs)
        Sum of Q r^T.
    mixed : ndarray of shape (m, n_regressors)
        Sum of Q phi^T, phi = (h_t, 1, x_t).
    gram : ndarray of shape (n_regressors, n_regressors)
        Sum of phi phi^T.
    cross : ndarray of shape (n_regressors, n_outputs)
        Sum of phi r^T.
    """

    recurrent: bool = field(metadata={"setting": True})
    bias: bool = field(metadata={"setting": True})
    n_rows: float
    squares: float
    unit_gram: Array = field(repr=False)
    unit_cross: Array = field(repr=False)
    mixed: Array = field(repr=False)
    gram: Array = field(repr=False)
    cross: Array = field(repr=False)


def linearised_sums(
    batch: Batch,
    model: IORNN,
    *,
    recurrent: bool = True,
    bias: bool = True,
    direct: bool = False,
    states: States | None = None,
    residuals: Array | None = None,
) -> LinearisedSums:
    """Sums of one batch for `linearised_update` and for the output regression.

    Parameters
    ----------
    recurrent, bias : bool, default True
        Whether U, and b, are among the unknowns.
    direct : bool, default False
        Whether x_t is among the output regressors.

    Notes
    -----
    Time O(n_rows n_hidden^2 (n_hidden^2 / 2 + n_outputs + n_inputs)).
    """
    states = run_states(model, batch) if states is None else states
    residuals = residual_rows(model, batch, states) if residuals is None else residuals
    counted = batch.counted
    r, h = residuals[counted], states.h[counted]
    ones = np.ones((h.shape[0], 1))
    phi = np.column_stack((h, ones, batch.X[counted]) if direct else (h, ones))
    n_hidden, n_outputs, n_phi = model.n_hidden, r.shape[1], phi.shape[1]
    entering = [states.previous[counted]] if recurrent else []
    entering += [ones] if bias else []
    m = n_hidden * sum(part.shape[1] for part in entering)
    unit_gram, unit_cross = np.zeros((m, m)), np.zeros((m, n_outputs))
    mixed = np.zeros((m, n_phi))
    if m:
        z, g = states.z[counted], np.column_stack(entering)
        step = max(64, 2**17 // m)
        for begin in range(0, r.shape[0], step):
            part = slice(begin, begin + step)
            slope = model.activation.derivative(z[part], 1)
            Q = (slope[:, :, None] * g[part, None, :]).reshape(-1, m)
            unit_gram += Q.T @ Q
            unit_cross += Q.T @ r[part]
            mixed += Q.T @ phi[part]
    return LinearisedSums(
        recurrent,
        bias,
        float(batch.n_counted),
        float(np.vdot(r, r)),
        unit_gram,
        unit_cross,
        mixed,
        phi.T @ phi,
        phi.T @ r,
    )


@dataclass(frozen=True)
class WeightChange:
    """Changes of all weights but A1."""

    recurrent: Array
    bias: Array
    output: Array
    output_bias: Array
    direct: Array | None

    def apply(self, model: IORNN, fraction: float = 1.0, *, units: bool = True) -> IORNN:
        """Model after this fraction of the change (of U and b; outputs change in full)."""
        U, b = model.recurrent_weights, model.hidden_bias
        return model.replace(
            recurrent_weights=U + fraction * self.recurrent if units else U,
            hidden_bias=b + fraction * self.bias if units else b,
            output_weights=model.output_weights + self.output,
            output_bias=model.output_bias + self.output_bias,
            direct_weights=(
                model.direct_weights
                if self.direct is None or model.direct_weights is None
                else model.direct_weights + self.direct
            ),
        )


def output_update(
    sums: LinearisedSums, model: IORNN, *, bias: bool = True, ridge: float = 1e-10
) -> WeightChange:
    """Least squares of the residual on (h_t, 1, x_t): changes of A2, c and D alone."""
    keep = _kept_regressors(sums, model, bias)
    solution = np.zeros_like(sums.cross)
    solution[keep] = _ridge_solve(sums.gram[np.ix_(keep, keep)], sums.cross[keep], ridge)
    return _as_change(solution, np.zeros((model.n_hidden, model.n_hidden + 1)), model)


def linearised_update(
    sums: LinearisedSums,
    model: IORNN,
    *,
    bias: bool = True,
    ridge: float = 1e-10,
) -> WeightChange:
    r"""Joint least-squares change of U, b, A2, c and D.

    The part of U and b has the Gram matrix
    :math:`(A_2 A_2^T \otimes 1 1^T) \circ E[Q Q^T]`, the rest is the output regression.

    Parameters
    ----------
    sums : LinearisedSums
    model : IORNN
        The model of the pass.
    bias : bool, default True
        Whether c is free.
    ridge : float
        Relative ridge of the solve.
    """
    k, q = model.n_hidden, model.n_outputs
    A2 = model.output_weights
    phi = _kept_regressors(sums, model, bias)
    n_units, n_phi = sums.unit_gram.shape[0], phi.shape[0]
    owner = np.repeat(np.arange(k), n_units // k)
    size = n_units + n_phi * q
    gram = np.zeros((size, size))
    right = np.zeros(size)
    gram[:n_units, :n_units] = sums.unit_gram * (A2 @ A2.T)[np.ix_(owner, owner)]
    right[:n_units] = np.einsum("ma,ma->m", sums.unit_cross, A2[owner])
    # outputs are ordered (output, regressor)
    for a in range(q):
        block = slice(n_units + a * n_phi, n_units + (a + 1) * n_phi)
        gram[block, block] = sums.gram[np.ix_(phi, phi)]
        coupling = sums.mixed[:, phi] * A2[owner, a][:, None]
        gram[:n_units, block] = coupling
        gram[block, :n_units] = coupling.T
        right[block] = sums.cross[phi, a]
    solution = _ridge_solve(gram, right[:, None], ridge)[:, 0]
    columns = [*range(k)] * sums.recurrent + [k] * sums.bias
    unit_change = np.zeros((k, k + 1))
    unit_change[:, columns] = solution[:n_units].reshape(k, len(columns))
    output_change = np.zeros_like(sums.cross)
    output_change[phi] = solution[n_units:].reshape(q, n_phi).T
    return _as_change(output_change, unit_change, model)


def _kept_regressors(sums: LinearisedSums, model: IORNN, bias: bool) -> IntArray:
    keep = np.ones(sums.gram.shape[0], dtype=bool)
    keep[model.n_hidden] = bias
    return np.flatnonzero(keep)


def _as_change(solution: Array, units: Array, model: IORNN) -> WeightChange:
    k = model.n_hidden
    direct = solution[k + 1 :] if solution.shape[0] > k + 1 else None
    return WeightChange(units[:, :k], units[:, k], solution[:k], solution[k], direct)


@dataclass(frozen=True)
class CrossSums(Sums):
    """Contracted joint-score moments E[(B y)_i He(D_i s_t, D_j s_{t-1})], summed.

    Attributes
    ----------
    n_rows : float
    moment : ndarray of shape (n_hidden, n_hidden)
        Sum over steps with a predecessor of Psi_e^-1 times the contracted moment.
    """

    n_rows: float
    moment: Array


def cross_sums(
    batch: Batch,
    model: IORNN,
    chain: GaussianChain,
    contraction: Contraction,
    states: States | None = None,
    residuals: Array | None = None,
) -> CrossSums:
    r"""Sums of one batch for `cross_update`.

    The joint Hermite polynomial of two correlated variables is

    .. math::
        He_{m,n}(\alpha, \beta) = \sum_r (-\sigma)^r r! \binom{m}{r} \binom{n}{r}
                                  He_{m-r}(\alpha) He_{n-r}(\beta),

    so the moment of order 2l - 1, contracted along all pairs of units, is a sum of l products of
    matrices; no score tensor is formed.
    """
    degree, _ = top_degree(model)
    states = run_states(model, batch) if states is None else states
    residuals = residual_rows(model, batch, states) if residuals is None else residuals
    scores = chain.scores(batch)
    kinds, covariances = chain.score_covariance_kinds(batch)
    lagged = chain.precision_blocks(1)
    rows = np.arange(batch.n_rows)[batch.counted]
    rows = rows[batch.local[rows] >= 1]
    signal = residuals @ contraction.outputs.T
    k = model.n_hidden
    total = np.zeros((k, k))
    pairs = kinds[rows] * covariances.shape[0] + kinds[rows - 1]
    for pair in np.unique(pairs):
        chosen = rows[pairs == pair]
        now, before = divmod(int(pair), covariances.shape[0])
        D, E = contraction.inputs[now], contraction.inputs[before]
        alpha, beta = scores[chosen] @ D.T, scores[chosen - 1] @ E.T
        alpha_variance = np.einsum("id,de,ie->i", D, covariances[now], D)
        beta_variance = np.einsum("id,de,ie->i", E, covariances[before], E)
        sigma = D @ lagged[now] @ E.T
        moment = np.zeros((k, k))
        for r in range(degree):
            left = signal[chosen] * hermite_along(alpha, alpha_variance, degree - 1 - r)
            right = hermite_along(beta, beta_variance, degree - r)
            factor = factorial(r) * comb(degree - 1, r) * comb(degree, r)
            moment += (-sigma) ** r * factor * (left.T @ right)
        inner = (E @ model.input_weights.T) ** degree
        solved = solve_overlap(contraction.overlap[now], moment)
        total += solve_overlap(inner, solved.T).T
    return CrossSums(float(rows.shape[0]), total)


def cross_update(sums: CrossSums, degree: int, leading: float) -> Array:
    """Change of U from the joint score: linear, and right in sign.

    E[y_t (x) S_{l-1,l}(t, t-1)] = (l!)^2 c_l^2 sum_ij U_ij A2_i (x) a_i^(l-1) (x) a_j^l.
    """
    change: Array = sums.moment / (sums.n_rows * factorial(degree) ** 2 * leading**2)
    return change


@dataclass(frozen=True)
class ScoreSums(Sums):
    """Contracted fourth-order moments E[(A2^+ y_t)_i S_4(t-1)(v_m, v_m, v_n, v_n)], summed.

    Attributes
    ----------
    n_rows : float
    moment : ndarray of shape (n_hidden, n_hidden, n_hidden)
        Indices i, m, n; v are the dual vectors of the rows of A1.
    """

    n_rows: float
    moment: Array


def score_sums(
    batch: Batch, model: IORNN, chain: GaussianChain, residuals: Array | None = None
) -> ScoreSums:
    """Sums of one batch for `score_update` (quadratic activation only)."""
    check_score_method(model)
    residuals = batch.targets if residuals is None else residuals
    scores = chain.scores(batch)
    kinds, covariances = chain.score_covariance_kinds(batch)
    rows = np.arange(batch.n_rows)[batch.counted]
    rows = rows[batch.local[rows] >= 1]
    dual = np.linalg.pinv(model.input_weights).T
    signal = residuals[rows] @ np.linalg.pinv(model.output_weights)
    k = model.n_hidden
    total = np.zeros((k, k, k))
    before = kinds[rows - 1]
    for kind in np.unique(before):
        chosen = before == kind
        beta = scores[rows[chosen] - 1] @ dual.T
        sigma = dual @ covariances[kind] @ dual.T
        for r in range(3):
            along = hermite_along(beta, np.diag(sigma), 2 - r)
            factor = factorial(r) * comb(2, r) ** 2 * (-sigma) ** r
            for i in range(k):
                total[i] += factor * (along.T @ (along * signal[chosen, i, None]))
    return ScoreSums(float(rows.shape[0]), total)


def check_score_method(model: IORNN) -> None:
    """Refuse what the paper's recurrence estimator cannot do.

    Raises
    ------
    ValueError
        If f is not quadratic, or n_hidden exceeds n_inputs or n_outputs.
    """
    degree, _ = top_degree(model)
    if degree != 2:
        raise ValueError(
            f"recurrence='score' needs a moment of order l^2 = {degree**2} for an activation of "
            f"degree {degree}, which no sample estimates: use 'instrument' or 'cross'"
        )
    if model.n_hidden > min(model.n_inputs, model.n_outputs):
        raise ValueError(
            f"recurrence='score' inverts A1 and A2 and needs n_hidden <= n_inputs and n_outputs; "
            f"got n_hidden={model.n_hidden}, n_inputs={model.n_inputs}, "
            f"n_outputs={model.n_outputs}: use 'instrument'"
        )


def score_update(sums: ScoreSums, leading: float) -> Array:
    r"""|U| row by row from the paper's moment; the sign of each row is not determined.

    The contraction along the dual vectors of A1 is
    :math:`4!\, c^3 (U_{im} U_{in} + 2 \delta_{mn} U_{im}^2) / 3`: the leading eigenvector of a
    k x k matrix for each unit. The sign returned makes the largest entry of a row positive.

    Returns
    -------
    ndarray of shape (n_hidden, n_hidden)
    """
    moment = sums.moment / (sums.n_rows * factorial(4) * leading**3)
    k = moment.shape[0]
    scale = np.full((k, k), 3.0)
    np.fill_diagonal(scale, 1.0)
    U = np.zeros((k, k))
    for i in range(k):
        values, vectors = np.linalg.eigh((moment[i] + moment[i].T) / 2 * scale)
        row = np.sqrt(max(values[-1], 0.0)) * vectors[:, -1]
        U[i] = row * np.sign(row[np.argmax(np.abs(row))] or 1.0)
    return U
