"""The state before a record by penalised least squares: Jacobian, prior, ridge."""

from __future__ import annotations

import math

import numpy as np

from gloree.models import ExplosionError, Network
from gloree.sequences import Array

GAUSS_NEWTON_STEPS, HALVINGS = 30, 12
SETTLED = 1e-12  # decrease of the objective, relative, below which the steps end
RIDGES = np.logspace(-24, 4, 113)
"""Ratios of the variance of the errors to that of the outputs' part from the state, among which the
evidence chooses; the least one is rounding."""

DOUBLINGS, LARGEST_GROWTH = 14, 1e12
"""Steps 2^k of the past that spread the state, and the growth at which an unstable one stops."""


class RecordState:
    """The least-squares problem of one record, in coordinates v with s = s_0 + L v, P = L L^T."""

    def __init__(
        self,
        model: Network,
        u: Array,
        y: Array,
        centre: Array,
        spread: Array,
        free: bool,
        noise: Array | None = None,
    ) -> None:
        self.model, self.u, self.y, self.centre, self.free = model, u, y, centre, free
        self.measured = np.isfinite(y)
        self.factor = spread_of_states(model, centre, u[0], spread)
        _, J = self.run(centre)
        # sizes of the outputs under the prior: the estimate does not depend on their units
        size = np.sqrt(np.mean(np.sum(J**2, axis=2), axis=0))
        self.weights = np.where(size > 0.0, 1.0 / np.where(size > 0.0, size, 1.0), 0.0)
        # the variance of the errors, at least, beside outputs of size one under the prior
        self.least = 0.0 if noise is None else float(np.mean((noise * self.weights) ** 2))

    def run(self, state: Array) -> tuple[Array, Array]:
        """Outputs (n_rows, n_outputs) from a state, and d y / d v (n_rows, n_outputs, n_state)."""
        outputs, slopes = outputs_and_slopes(self.model, self.u, state)
        return outputs, slopes @ self.factor

    def residuals(self, v: Array) -> tuple[Array, Array]:
        """Weighted errors of the measured outputs, and minus their Jacobian."""
        with np.errstate(all="ignore"):
            outputs, J = self.run(self.centre + self.factor @ v)
        errors = ((self.y - outputs) * self.weights)[self.measured]
        return errors, (J * self.weights[:, np.newaxis])[self.measured]

    def squares(self, v: Array) -> float:
        """Sum of the squared weighted errors; infinite where the states run away."""
        try:
            outputs = self.model.predict(self.u, state=self.centre + self.factor @ v)
        except ExplosionError:
            return math.inf
        errors = ((self.y - outputs) * self.weights)[self.measured]
        return float(errors @ errors)

    def solve(self) -> Array:
        """State of least objective, from the centre and, for nonlinear units, from zero."""
        starts: list[Array] = [np.zeros(self.centre.shape[0])]
        linear = self.model.is_linear
        if not linear and self.centre.any():
            starts.append(
                np.asarray(np.linalg.lstsq(self.factor, -self.centre, rcond=None)[0], np.float64)
            )
        ends = [self.descend(start, 1 if linear else GAUSS_NEWTON_STEPS) for start in starts]
        best = min(ends, key=lambda end: end[0])
        return np.asarray(self.centre + self.factor @ best[1])

    def descend(self, v: Array, n_steps: int) -> tuple[float, Array]:
        """Steps to the ridge estimate; minus twice the log evidence there, and the estimate."""
        loss = math.inf
        for _ in range(n_steps):
            errors, J = self.residuals(v)
            if not (np.all(np.isfinite(errors)) and np.all(np.isfinite(J))):
                return math.inf, v
            target, ridge, loss = ridge_estimate(
                J, errors + J @ v, free=self.free, least=self.least
            )
            value = float(errors @ errors + ridge * (v @ v))
            step, length = target - v, 1.0
            for _ in range(HALVINGS):
                trial = v + length * step
                reached = self.squares(trial) + ridge * float(trial @ trial)
                if reached < value:
                    break
                length /= 2.0
            else:
                break
            v = trial
            if value - reached <= SETTLED * value:
                break
        return loss, v


def ridge_estimate(
    J: Array, target: Array, *, free: bool = False, least: float = 0.0
) -> tuple[Array, float, float]:
    """Ridge estimate of v in J v = target, its ridge, and minus twice the log evidence.

    With J = U S V^T, c = U^T target, the rest r, and q = sum c^2 / (S^2 + l) + r^2 / l, n targets
    ~ N(0, t (J J^T + l)) have -2 log p = sum log(S^2 + l) + (n - p) log l + n log t + q / t. For
    every ridge l the best t is q / n, or more for errors whose variance l t is `least`.
    """
    U, S, Vt = np.linalg.svd(J, full_matrices=False)
    c = U.T @ target
    rest = target - U @ c
    n, largest = target.shape[0], float(S.max(initial=0.0)) ** 2
    if largest == 0.0:
        return np.zeros(J.shape[1]), 1.0, n * math.log(max(float(target @ target), 1e-300))
    ridges = RIDGES[:1] * largest if free else RIDGES * largest
    total = S**2 + ridges[:, np.newaxis]
    errors = np.sum(c**2 / total, axis=1) + rest @ rest / ridges
    scale = np.maximum(errors / n, 1e-300)
    if not free:
        scale = np.maximum(scale, least / ridges)
    loss = np.sum(np.log(total), axis=1) + (n - S.shape[0]) * np.log(ridges)
    loss += n * np.log(n * scale) + errors / scale - n
    best = int(np.argmin(loss))
    return Vt.T @ (c * S / total[best]), float(ridges[best]), float(loss[best])


def outputs_and_slopes(model: Network, u: Array, state: Array) -> tuple[Array, Array]:
    """Outputs (n_rows, n_outputs) from a state, and d y / d s (n_rows, n_outputs, n_state).

    dh_t = f'(z_t) (U dh_{t-1} + A1 dx_t), dy_t = A2^T dh_t + D^T dx_t, where the window x_t holds
    inputs of the state in its first rows.
    """
    chain = model.recursions[0]
    k, m, lags = model.n_forward, model.n_inputs, model.lags
    h, past = state[:k], state[k:]
    n_state, n_rows = state.shape[0], u.shape[0]
    dh = np.eye(k, n_state)
    outputs = np.empty((n_rows, model.n_outputs))
    slopes = np.empty((n_rows, model.n_outputs, n_state))
    D = model.direct_weights
    window = past
    for t in range(n_rows):
        window = np.concatenate((u[t], window[: (lags - 1) * m]))
        z = chain.input_weights @ window + chain.recurrent_weights @ h + chain.hidden_bias
        h, slope = chain.activation.value_and_derivative(z)
        dz = chain.recurrent_weights @ dh
        # columns of the window that are inputs of the state, and their places in it
        seen = slice((t + 1) * m, lags * m)
        place = slice(k, k + max(0, (lags - 1 - t) * m))
        dz[:, place] += chain.input_weights[:, seen]
        dh = slope[:, np.newaxis] * dz
        outputs[t] = model.output_weights.T @ h + model.output_bias
        slopes[t] = model.output_weights.T @ dh
        if D is not None:
            outputs[t] += D.T @ window
            slopes[t][:, place] += D[seen].T
    return outputs, slopes


def spread_of_states(model: Network, state: Array, first: Array, spread: Array) -> Array:
    """Factor L (n_state, n_state) of the covariance that white inputs of a size give the state.

    With R_i the response of h to an impulse of size `spread`, i steps later, around `state`, past
    inputs w_i enter as h = sum_i R_i w_i; those beyond the window add (sum_{i >= lags-1} R_i
    R_i^T)^{1/2}, by doubling.
    """
    chain = model.recursions[0]
    k, m, kept = model.n_forward, model.n_inputs, model.lags - 1
    size = np.where(spread > 0.0, spread, spread.max(initial=0.0) or 1.0)
    window = np.concatenate((first, state[k:]))
    z = chain.input_weights @ window + chain.recurrent_weights @ state[:k] + chain.hidden_bias
    slope = chain.activation.value_and_derivative(z)[1][:, np.newaxis]
    slope = np.where(np.isfinite(slope), slope, 0.0)
    F, G = slope * chain.recurrent_weights, slope * chain.input_weights
    factor = np.zeros((k + kept * m, k + kept * m))
    response = np.zeros((k, m))
    for lag in range(kept + 1):
        columns = slice(lag * m, (lag + 1) * m)
        response = F @ response + G[:, columns] * size
        if lag < kept:
            place = slice(k + lag * m, k + (lag + 1) * m)
            factor[:k, place] = response
            factor[place, place] = np.diag(size)
    factor[:k, :k] = _root(_gramian(F, response))
    return factor


def _gramian(F: Array, response: Array) -> Array:
    """Sum of F^i R R^T F^iT over the past."""
    total, power = response @ response.T, F
    for _ in range(DOUBLINGS):
        grown = total + power @ total @ power.T
        if not float(np.abs(grown).max()) <= LARGEST_GROWTH * float(np.abs(response).max()) ** 2:
            break
        total, power = grown, power @ power
    return total


def _root(P: Array) -> Array:
    """Symmetric square root; directions that inputs do not reach get the size of the others."""
    values, vectors = np.linalg.eigh(P)
    largest = float(values.max(initial=0.0)) or 1.0
    return np.asarray((vectors * np.sqrt(np.maximum(values, 1e-12 * largest))) @ vectors.T)
