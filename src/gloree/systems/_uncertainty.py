r"""What is known of a fitted network: the covariance of its weights under coloured noise.

Least squares on a free run ends where J^T W r = 0, and to first order its error is H^+ J^T W e with
H = J^T W J. Under noise e of covariance Omega that does not depend on the input,

.. math:: \mathrm{cov}(\hat\theta) = H^+ J^T W \Omega W J H^+ .

Weights are determined only up to changes of coordinates of the linear states, so H has a null space
that is known: what is to be reported (responses, poles, predictions) does not depend on it, and H
is inverted on its complement. States that records start from are estimated along with the weights:
J is what the derivatives in these leave of it (:eq:`control-covariance`, [1]_).

References
----------
.. [1] L. Ljung, "System Identification: Theory for the User", 2nd edition (1999), chapter 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gloree._brief import Brief
from gloree.diagnostics import ConvergenceWarning, Finding, TooFewSamplesError, check_level
from gloree.models import IORNN
from gloree.refinement import Layout
from gloree.sequences import Array, Sequences, record_windows
from gloree.systems._centred import Centred
from gloree.systems._identifiable import free_weights, identifiable
from gloree.systems._noise import Noise, fit_noise
from gloree.systems._sensitivities import (
    free_run,
    layout_of,
)
from gloree.systems._starts import starting_state

FAR = 1.0
"""Mean square distance from the least squares, in standard errors, beyond which bands are wrong."""


@dataclass(frozen=True)
class Uncertainty(Brief):
    """Covariance of the weights of a network, and the noise of its outputs.

    Made by `uncertainty`; functions of this module and figures take it.

    Attributes
    ----------
    model : IORNN
    layout : Layout
        Order of the weights.
    root : ndarray of shape (n_weights, rank)
        Of the covariance, root root^T, for whatever does not depend on the coordinates of the
        linear states.
    noise : Noise
        Of the outputs.
    degrees_of_freedom : float
        Of the t distribution that bands are taken from: independent rows less unknowns.
    n_rows : int
        Rows of outputs that count.
    findings : tuple of Finding
        Why bands should not be trusted, if they should not.
    unseen : ndarray of shape (n_weights, n) or None
        Combinations of weights that the data do not determine, by the least that their standard
        errors can be: what depends on them has infinite errors.
    """

    model: IORNN
    layout: Layout
    root: Array = field(repr=False)
    noise: Noise
    degrees_of_freedom: float
    n_rows: int
    findings: tuple[Finding, ...] = ()
    unseen: Array | None = field(default=None, repr=False)

    @property
    def rank(self) -> int:
        """Combinations of weights that the data determine."""
        return int(self.root.shape[1])

    def errors(self, gradient: Array) -> Array:
        """Standard errors of quantities with these gradients, (..., n_weights)."""
        spread: Array = np.linalg.norm(gradient @ self.root, axis=-1)
        return np.where(self.is_open(spread, gradient @ self.loose), np.inf, spread)

    @property
    def loose(self) -> Array:
        """`unseen`, (n_weights, n), none by default."""
        return np.zeros((self.layout.size, 0)) if self.unseen is None else self.unseen

    @staticmethod
    def is_open(spread: Array, moves: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether moves along what is not seen, (..., n), are more than errors, not rounding."""
        return np.asarray(np.linalg.norm(moves, axis=-1) > spread)

    def quantile(self, level: float) -> float:
        """Standard errors to either side of a band of this level."""
        check_level(level)
        from scipy import stats  # slow to import

        return float(stats.t.ppf(0.5 + level / 2, self.degrees_of_freedom))


@dataclass(frozen=True)
class AtRecords(Brief):
    """A network linearised along records: what covariances and residual tests are made of.

    One entry for each record: the rows from the first whole window on, residuals (NaN where the
    output is missing), and derivatives in the identifiable combinations of weights, less what the
    state at the start explains, (n_rows, n_outputs, rank). `basis`, (n_weights, rank), turns these
    combinations into weights; `bread` is the inverse of their J^T W J; `states` are the estimated
    states before the first whole window. `unseen` (n_weights, n) are combinations that are not
    determined, by their errors, at least, for noise of variance one.
    """

    model: IORNN
    layout: Layout
    inputs: tuple[Array, ...] = field(repr=False)
    residuals: tuple[Array, ...] = field(repr=False)
    jacobians: tuple[Array, ...] = field(repr=False)
    states: tuple[Array, ...]
    basis: Array = field(repr=False)
    bread: Array = field(repr=False)
    weights: Array
    n_rows: int
    unseen: Array = field(repr=False)

    @cached_property
    def noise(self) -> Noise:
        """Noise that the residuals show, its size corrected for the weights that were fitted."""
        found = fit_noise(self.residuals)
        return found.times(_lost(self, found))

    @cached_property
    def gradient(self) -> Array:
        """J^T W r, (rank,): minus half the gradient of the squared error."""
        pairs = zip(self.jacobians, self.residuals, strict=True)
        return np.asarray(
            sum(
                np.einsum("tap,a,ta->p", J, self.weights, np.where(np.isfinite(r), r, 0.0))
                for J, r in pairs
            )
        )

    def uncertainty(self) -> Uncertainty:
        """Covariance of the weights (see `uncertainty`)."""
        meat = forms(self.jacobians, self)
        values, vectors = np.linalg.eigh(self.bread @ meat @ self.bread)
        root = self.basis @ (vectors * np.sqrt(np.maximum(values, 0.0)))
        rows = self.noise.effective_rows(self.n_rows) * self.model.n_outputs
        left = max(float(rows - self.basis.shape[1]), 1.0)
        findings = not_at_least_squares(self, meat)
        size = np.sqrt(np.mean(np.diag(self.noise.covariance) * self.weights))
        given = (self.noise, left, self.n_rows, findings, self.unseen * size)
        return Uncertainty(self.model, self.layout, root, *given)

    def weighted(self, values: Array) -> Array:
        """W times values of shape (n_rows, n_outputs, n)."""
        return np.asarray(values * self.weights[:, None])


def at_records(
    model: IORNN,
    records: Sequences,
    *,
    output_size: Array | None = None,
    free_coefficients: bool = False,
) -> AtRecords:
    """Linearise a network along records, and fit the noise of what it leaves.

    Parameters
    ----------
    model : IORNN
    records : Sequences
        With outputs, NaN where they are missing.
    output_size : ndarray of shape (n_outputs,), optional
        Scales by which the errors of the fit were divided; by default the standard deviations.
    free_coefficients : bool, default False
        Whether the coefficients of polynomial units were fitted.

    Raises
    ------
    TooFewSamplesError
        If the records hold fewer numbers than there are unknowns.
    ValueError
        If channels do not fit the model.
    """
    check_records_fit(model, records)
    assert records.Y is not None
    layout = layout_of(model, free_coefficients=free_coefficients)
    Y = np.asarray(records.Y, dtype=np.float64)
    sizes = np.nanstd(Y, axis=0) if output_size is None else np.asarray(output_size)
    weights = 1.0 / np.square(np.where(sizes > 0, sizes, 1.0))
    free = free_weights(model, layout)
    centred = Centred.of(model, np.asarray(records.X, dtype=np.float64))
    inner_model = centred.model(model)
    kept: list[tuple[Array, Array, Array, Array]] = []
    for begin, end in zip(records.starts[:-1], records.starts[1:], strict=True):
        u = np.asarray(records.X[begin:end], dtype=np.float64)
        first = min(model.lags - 1, u.shape[0] - 1)
        windows, y = record_windows(u, model.lags)[first:], Y[begin + first : end]
        moved = centred.windows(windows)
        state = starting_state(inner_model, moved, y, weights, layout)
        run = free_run(inner_model, moved, state, layout)
        seen = np.all(np.isfinite(y), axis=1)
        residual = np.where(seen[:, None], y - run.outputs, np.nan)
        jacobian = np.where(seen[:, None, None], run.jacobian[:, :, free], 0.0)
        at_start = np.where(seen[:, None, None], run.from_state, 0.0)
        kept.append((windows, residual, _without(jacobian, at_start, weights), state))
    inputs, residuals, jacobians, states = zip(*kept, strict=True)
    n_rows = sum(int(np.isfinite(r[:, 0]).sum()) for r in residuals)
    n_unknowns = free.sum() + len(kept) * model.n_hidden
    if n_rows * model.n_outputs <= n_unknowns:
        raise TooFewSamplesError(
            f"the records have {n_rows} rows of {model.n_outputs} output(s), and the network has "
            f"{n_unknowns} unknowns with the states at the start: nothing is left to measure the "
            f"noise by"
        )
    basis, bread, unseen = identifiable(inner_model, layout, free, jacobians, weights)
    inner = tuple(jacobian @ basis[free] for jacobian in jacobians)
    basis, unseen = (centred.restored(layout, each) for each in (basis, unseen))
    along = (inputs, residuals, inner, states)
    return AtRecords(model, layout, *along, basis, bread, weights, n_rows, unseen)


def uncertainty(
    model: IORNN,
    records: Sequences,
    *,
    output_size: Array | None = None,
    free_coefficients: bool = False,
) -> Uncertainty:
    """Covariance of the weights of a network that was fitted to records by its free run.

    Parameters
    ----------
    model : IORNN
        At the least squares of the simulation error, linear or not.
    records : Sequences
        The training data (see `gloree.sequences.as_sequences`); NaN in outputs are gaps.
    output_size : ndarray of shape (n_outputs,), optional
        Scales by which the errors of the fit were divided; by default the standard deviations.
    free_coefficients : bool, default False
        Whether the coefficients of polynomial units were fitted.

    Returns
    -------
    Uncertainty

    Raises
    ------
    TooFewSamplesError
        If the records hold fewer numbers than there are unknowns.
    ValueError
        If channels do not fit the model.

    Notes
    -----
    It holds for noise that does not depend on the input, white or not, and where the system lies in
    the class of the model: what a linear model leaves of a nonlinear system is no such noise (see
    `residual_tests`). Time O(n_rows n_hidden^2 n_weights), memory O(n_rows n_outputs n_weights).
    """
    at = at_records(model, records, output_size=output_size, free_coefficients=free_coefficients)
    return at.uncertainty()


def not_at_least_squares(at: AtRecords, meat: Array) -> tuple[Finding, ...]:
    """Warn of a network that is far from the least squares of these records.

    With g = J^T W r the estimate and the minimum differ by H^+ g, whose length in units of its
    standard errors is the root of g^T meat^+ g.
    """
    g = at.gradient
    far = float(g @ np.linalg.pinv(meat, rcond=1e-12, hermitian=True) @ g)
    rank = at.basis.shape[1]
    if far <= FAR * rank:
        return ()
    text = (
        f"the network is not at the least squares of these records: its weights are "
        f"{math.sqrt(far / rank):.2g} standard errors away from it on average"
    )
    remedy = (
        "give the records of the fit; if they are, the search was stopped by held-out data or by "
        "time, and bands tell what noise does to the least squares, not to this network"
    )
    return (Finding(ConvergenceWarning, text, remedy),)


def forms(values: tuple[Array, ...], at: AtRecords, noise: Noise | None = None) -> Array:
    """Sum over records of values^T W Omega W values, (n, n)."""
    noise = noise or at.noise
    total = np.zeros((values[0].shape[2], values[0].shape[2]))
    for each in values:
        weighted = at.weighted(each)
        total += np.einsum("tap,taq->pq", weighted, noise.applied(weighted))
    return total


def first_rows(records: Sequences, n_rows: int) -> Sequences:
    """The first so many rows of records, whole records as long as they last."""
    n = max(1, min(n_rows, records.n_rows))
    ends = np.minimum(records.starts[1:], n)
    lengths = np.diff(np.concatenate(([0], ends)))
    Y = None if records.Y is None else records.Y[:n]
    return replace(records, X=records.X[:n], Y=Y, lengths=lengths[lengths > 0])


def check_records_fit(model: IORNN, records: Sequences) -> None:
    """Raise a ValueError unless records have the inputs and outputs of the model."""
    for name, found, wanted in (
        ("u", records.n_inputs, model.n_inputs),
        ("y", records.n_outputs, model.n_outputs),
    ):
        if found != wanted:
            raise ValueError(f"`{name}` has {found} columns, the model has {wanted}")


def _without(jacobian: Array, at_start: Array, weights: Array) -> Array:
    """What derivatives in the state at the start leave of the others, by weighted least squares."""
    n, p, size = jacobian.shape
    root = np.sqrt(weights)[:, None]
    A = (at_start * root).reshape(n * p, -1)
    U, values, _ = np.linalg.svd(A, full_matrices=False)
    U = U[:, values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)]
    B = (jacobian * root).reshape(n * p, size)
    return np.asarray((B - U @ (U.T @ B)).reshape(n, p, size) / root)


def _lost(at: AtRecords, noise: Noise) -> float:
    r"""Factor by which residuals are smaller than the noise: tr Omega / tr (I - P) Omega.

    P is the projection on the derivatives; those in the states at the start are counted as white.
    """
    rows = sum(each.shape[0] for each in at.residuals)
    total = float(np.sum(np.diag(noise.covariance) * at.weights)) * at.n_rows
    if total <= 0.0:
        return 1.0
    explained = float(np.sum(at.bread * forms(at.jacobians, at, noise)))
    explained += total * len(at.states) * at.model.n_hidden / (rows * at.model.n_outputs)
    return float(total / max(total - explained, 0.05 * total))
