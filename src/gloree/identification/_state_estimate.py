"""The state before a record by penalised least squares: Jacobian, prior, ridge."""

from __future__ import annotations

import math

import numpy as np

from gloree.models import ExplosionError, Network, forward_packed
from gloree.sequences import Array, record_windows

GAUSS_NEWTON_STEPS, HALVINGS, ROUNDS = 30, 12, 10
SETTLED = 1e-12  # decrease of the objective, relative, below which the steps end
NOTHING = 1e-3
"""Decrease of minus twice a log likelihood that says nothing: rounds end, and where the variance of
the errors is known steps do, in units of it."""

RIDGES = np.logspace(-24, 4, 113)
"""Ratios of the variance of the errors to that of the outputs' part from the state, among which the
evidence chooses; the least one is rounding."""

AS_GOOD = 1e-9  # difference of log evidences, per target, that is rounding
NO_SLOPE = 1e-100  # slopes whose squares vanish: the state is not seen
SMALLEST_NOISE = 1e-12  # of an output, over its size under the prior

TOGETHER = 2**20  # numbers of the states' derivatives that are kept at once

DOUBLINGS, LARGEST_GROWTH = 14, 1e12
"""Steps 2^k of the past that spread the state, and the growth at which an unstable one stops."""


class RecordState:
    """The least-squares problem of one record, in coordinates v with s = s_0 + L v, P = L L^T.

    Outputs are weighted by the sizes of their errors, or where these are not known by those that
    they have under the prior, so that their units do not matter. Outputs that no state reaches do
    not count.
    """

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
        self.factor = spread_of_states(model, centre, u[0], spread)
        starts: list[Array] = [np.zeros(centre.shape[0])]
        if not model.is_linear and centre.any():
            zero = np.linalg.lstsq(self.factor, -centre, rcond=None)[0]
            starts.append(np.asarray(zero, dtype=np.float64))
        runs = [(v, *self.run(v)) for v in starts]
        sizes = [_sizes(J) for _, _, J in runs]
        # with their runs; the states run away from the others
        self.starts = [
            run for run, size in zip(runs, sizes, strict=True) if np.isfinite(size).all()
        ]
        size = np.max([np.where(np.isfinite(size), size, 0.0) for size in sizes], axis=0)
        reached = size > NO_SLOPE
        self.measured = np.isfinite(y) & reached
        error = size if noise is None else np.maximum(noise, SMALLEST_NOISE * size)
        self.weights = np.where(reached, 1.0 / np.where(reached, error, 1.0), 0.0)
        # the variance of the weighted errors, at least
        self.least = 0.0 if noise is None else 1.0

    def run(self, v: Array) -> tuple[Array, Array]:
        """Outputs (n_rows, n_outputs), and d y / d v (n_rows, n_outputs, n_state)."""
        with np.errstate(all="ignore"):
            state = self.centre + self.factor @ v
            outputs, slopes = outputs_and_slopes(self.model, self.u, state)
            return outputs, slopes @ self.factor

    def residuals(self, outputs: Array, J: Array) -> tuple[Array, Array] | None:
        """Weighted errors of the measured outputs, and minus their Jacobian; None if not finite."""
        errors = ((self.y - outputs) * self.weights)[self.measured]
        slopes = (J * self.weights[:, np.newaxis])[self.measured]
        return (errors, slopes) if np.isfinite(errors).all() and np.isfinite(slopes).all() else None

    def squares(self, v: Array) -> float:
        """Sum of the squared weighted errors; infinite where the states run away."""
        state = self.centre + self.factor @ v
        if not np.isfinite(state).all():
            return math.inf
        try:
            outputs = self.model.predict(self.u, state=state)
        except ExplosionError:
            return math.inf
        errors = ((self.y - outputs) * self.weights)[self.measured]
        return float(errors @ errors)

    def solve(self) -> Array | None:
        """State of most evidence from all starts; None where the states run away from all."""
        if self.starts and not self.measured.any():
            return self.centre
        ends = [end for start in self.starts if (end := self.descend(*start)) is not None]
        if not ends:
            return None
        _, best = min(ends, key=lambda end: end[0])
        return np.asarray(self.centre + self.factor @ best)

    def descend(self, v: Array, outputs: Array, J: Array) -> tuple[float, Array] | None:
        """Minus twice the log evidence at the end of a descent, and the end.

        In turns the ridge of most evidence in the linearised problem, and the least squares with
        it, as long as the evidence of what is reached grows. Linear models, which have one start,
        take one exact step.
        """
        here = self.residuals(outputs, J)
        if here is None:
            return None
        errors, J = here
        if self.model.is_linear:
            return 0.0, self.linearised(v, errors, J)[0] if _sees(J) else v
        best = self.loss(v, errors, J)
        for _ in range(ROUNDS):
            if not _sees(J):
                break
            end = self.minimised(v, self.linearised(v, errors, J)[1], errors, J)
            found = self.loss(*end)
            gain = best - found
            if gain > 0.0:
                best, (v, errors, J) = found, end
            if not gain > (0.0 if self.free else NOTHING):
                break
        return best, v

    def linearised(self, v: Array, errors: Array, J: Array) -> tuple[Array, float]:
        """Estimate of v and the ridge of most evidence, were outputs linear in v."""
        target = errors + J @ v
        return ridge_estimate(J, target, free=self.free, least=self.least)[:2]

    def minimised(
        self, v: Array, ridge: float, errors: Array, J: Array
    ) -> tuple[Array, Array, Array]:
        """Gauss-Newton steps to the least |errors|^2 + ridge |v|^2; errors and Jacobian there."""
        for _ in range(GAUSS_NEWTON_STEPS):
            value = float(errors @ errors + ridge * (v @ v))
            step, length = ridge_solution(J, errors + J @ v, ridge) - v, 1.0
            for _ in range(HALVINGS):
                trial = v + length * step
                reached = self.squares(trial) + ridge * float(trial @ trial)
                if reached < value:
                    break
                length /= 2.0
            else:
                break
            here = self.residuals(*self.run(trial))
            if here is None:
                break
            v, (errors, J) = trial, here
            if value - reached <= max(SETTLED * value, NOTHING * self.least) or not _sees(J):
                break
        return v, errors, J

    def loss(self, v: Array, errors: Array, J: Array) -> float:
        """Minus twice the log evidence at a state, up to a constant; without a prior, squares."""
        if self.free:
            return float(errors @ errors)
        S: Array = np.asarray(np.linalg.svd(J, compute_uv=False), dtype=np.float64)
        ridges = RIDGES * (float(S.max(initial=0.0)) ** 2 or 1.0)
        squares = float(v @ v) + float(errors @ errors) / ridges
        return float(_losses(S, ridges, squares, errors.shape[0], self.least).min())


def _sizes(J: Array) -> Array:
    """Root mean squares (n_outputs,) of the outputs' part from the state under the prior."""
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt(np.mean(np.sum(J**2, axis=2), axis=0)), dtype=np.float64)


def _sees(J: Array) -> bool:
    """Whether outputs tell anything of the state."""
    return bool(np.abs(J).max(initial=0.0) > NO_SLOPE)


def ridge_estimate(
    J: Array, target: Array, *, free: bool = False, least: float = 0.0
) -> tuple[Array, float, float]:
    """Ridge estimate of v in J v = target, its ridge, and minus twice the log evidence.

    With J = U S V^T, c = U^T target, the rest r, and q = sum c^2 / (S^2 + l) + r^2 / l, n targets
    ~ N(0, t (J J^T + l)) have -2 log p = sum log(S^2 + l) + (n - p) log l + n log t + q / t. For
    every ridge l the best t is q / n, or more for errors whose variance l t is `least`. Of ridges
    with the same evidence, as a single target has them, it is the smallest: the target is believed.
    """
    U, S, Vt = np.linalg.svd(J, full_matrices=False)
    c = U.T @ target
    rest = target - U @ c
    n, largest = target.shape[0], float(S.max()) ** 2
    ridges = RIDGES[:1] * largest if free else RIDGES * largest
    total = S**2 + ridges[:, np.newaxis]
    squares = np.sum(c**2 / total, axis=1) + rest @ rest / ridges
    loss = _losses(S, ridges, squares, n, 0.0 if free else least)
    best = int(np.argmax(loss <= loss.min() + AS_GOOD * n))
    return Vt.T @ (c * S / total[best]), float(ridges[best]), float(loss[best])


def _losses(S: Array, ridges: Array, squares: Array, n: int, least: float) -> Array:
    """-2 log p of n targets for every ridge l, from q = `squares`; see `ridge_estimate`."""
    scale = np.maximum(np.maximum(squares / n, 1e-300), least / ridges)
    total = np.log(S**2 + ridges[:, np.newaxis])
    loss = np.sum(total, axis=1) + (n - S.shape[0]) * np.log(ridges)
    return np.asarray(loss + n * np.log(n * scale) + squares / scale - n)


def ridge_solution(J: Array, target: Array, ridge: float) -> Array:
    """Least |J v - target|^2 + ridge |v|^2."""
    U, S, Vt = np.linalg.svd(J, full_matrices=False)
    return np.asarray(Vt.T @ ((U.T @ target) * S / (S**2 + ridge)))


def outputs_and_slopes(model: Network, u: Array, state: Array) -> tuple[Array, Array]:
    """Outputs (n_rows, n_outputs) from a state, and d y / d s (n_rows, n_outputs, n_state).

    dh_t = f'(z_t) (U dh_{t-1} + A1 dx_t), dy_t = A2^T dh_t + D^T dx_t, where the window x_t holds
    inputs of the state in its first rows.
    """
    chain, D = model.recursions[0], model.direct_weights
    k, m, lags = model.n_forward, model.n_inputs, model.lags
    n_state, n_rows = state.shape[0], u.shape[0]
    windows = record_windows(u, lags, state[k:])
    drive = windows @ chain.input_weights.T + chain.hidden_bias
    z, h = forward_packed(
        drive,
        np.arange(n_rows + 1),
        chain.recurrent_weights,
        chain.activation,
        state[np.newaxis, :k],
        overwrite_drive=True,
    )
    steep = chain.activation.value_and_derivative(z)[1]
    outputs = h @ model.output_weights + model.output_bias
    slopes = np.empty((n_rows, model.n_outputs, n_state))
    before, together = np.eye(k, n_state), max(1, TOGETHER // (k * n_state))
    for begin in range(0, n_rows, together):
        end = min(begin + together, n_rows)
        dh = np.empty((end - begin, k, n_state))
        for t, now in enumerate(dh, begin):
            np.matmul(chain.recurrent_weights, before, out=now)
            # columns of the window that are inputs of the state, and their places in it
            if t < lags - 1:
                kept = (lags - 1 - t) * m
                now[:, k : k + kept] += chain.input_weights[:, lags * m - kept :]
            now *= steep[t, :, np.newaxis]
            before = now
        slopes[begin:end] = model.output_weights.T @ dh
    if D is not None:
        outputs += windows @ D
        for t in range(min(lags - 1, n_rows)):
            kept = (lags - 1 - t) * m
            slopes[t, :, k : k + kept] += D[lags * m - kept :].T
    return outputs, slopes


def spread_of_states(model: Network, state: Array, first: Array, spread: Array) -> Array:
    """Factor L (n_state, n_state) of the covariance that white inputs of a size give the state.

    With R_i the response of h to an impulse of size `spread`, i steps later, around `state`, past
    inputs w_i enter as h = sum_i R_i w_i; those beyond the window add (sum_{i >= lags-1} R_i
    R_i^T)^{1/2}, by doubling.
    """
    chain = model.recursions[0]
    k, m, kept = model.n_forward, model.n_inputs, model.lags - 1
    # an input that does not move in the record may have moved before, as much as any other one did
    effect = np.linalg.norm(chain.input_weights.reshape(k, -1, m), axis=(0, 1))
    effect = np.where(effect > 0.0, effect, 1.0)
    size = np.where(spread > 0.0, spread, ((spread * effect).max(initial=0.0) or 1.0) / effect)
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
    """Symmetric square root; directions that inputs do not reach get a millionth of the largest."""
    values, vectors = np.linalg.eigh(P)
    largest = float(values.max(initial=0.0)) or 1.0
    return np.asarray((vectors * np.sqrt(np.maximum(values, 1e-12 * largest))) @ vectors.T)
