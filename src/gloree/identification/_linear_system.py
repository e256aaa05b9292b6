"""Linear systems as values: free runs from any state, changes of coordinates, networks.

x_{t+1} = A x_t + B u_t, y_t = C x_t + D u_t + c. The states of a network are h_t = x_{t+1}, with
y_t = C A^{-1} h_t + (D - C A^{-1} B) u_t + c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from gloree.identification._realisation import Realisation, modal_form
from gloree.models import IORNN
from gloree.sequences import Array, IntArray

SOUND = 1e6  # condition number of eigenvectors below which systems are cut into modes
INVERTIBLE = 1e8
"""Condition number of A above which a network has to see earlier inputs in place of C A^{-1}."""


@dataclass(frozen=True)
class LinearSystem:
    """A (n, n), B (n, n_inputs), C (n_outputs, n), D (n_outputs, n_inputs), c (n_outputs,)."""

    A: Array = field(repr=False)
    B: Array = field(repr=False)
    C: Array = field(repr=False)
    D: Array = field(repr=False)
    c: Array = field(repr=False)

    @property
    def order(self) -> int:
        """States."""
        return int(self.A.shape[0])

    @property
    def poles(self) -> Array:
        """Eigenvalues of A."""
        return np.asarray(np.linalg.eigvals(self.A))

    def equilibrium(self, u: Array, n_rows: float = math.inf) -> Array:
        """States (.., n) at rest under constant inputs (.., n_inputs).

        The part of modes that are too slow to settle within a fifth of `n_rows` rows fades to zero:
        an integrator has no equilibrium.
        """
        return np.asarray(u @ (self._settled(n_rows) @ self.B).T)

    def settling(self, n_rows: float) -> Array:
        """Matrix F, (n, n): one along modes that settle within a fifth of the rows, else zero."""
        return np.asarray(self._settled(n_rows) @ (np.eye(self.order) - self.A))

    def _settled(self, n_rows: float) -> Array:
        """(1 - A)^{-1}, with a ridge."""
        away = np.eye(self.order) - self.A
        ridge = (5.0 / n_rows) ** 2 + 1e-24
        return np.asarray(away.T @ np.linalg.inv(away @ away.T + ridge * np.eye(self.order)))

    def changed(self, T: Array) -> LinearSystem:
        """Return the same system in the coordinates T x."""
        inverse = np.linalg.inv(T)
        return replace(self, A=T @ self.A @ inverse, B=T @ self.B, C=self.C @ inverse)

    def simulate(self, u: Array, state: Array) -> tuple[Array, Array, Array]:
        """Outputs (n_rows, n_outputs), states x_t before each row (n_rows, n), and the last one."""
        x, end = propagate(self.A, (u @ self.B.T)[None, :, None], state[None, None])
        states = x[0, :, 0]
        return states @ self.C.T + u @ self.D.T + self.c, states, end[0, 0]

    def response(self, n_lags: int) -> Array:
        """Markov parameters g_0 = D, g_j = C A^{j-1} B, (n_lags, n_outputs, n_inputs)."""
        d = self.B.shape[1]
        x, _ = propagate(self.A, np.zeros((1, n_lags, d, self.order)), self.B.T[None])
        g = np.empty((n_lags, self.C.shape[0], d))
        g[0], g[1:] = self.D, (x[0, : n_lags - 1] @ self.C.T).transpose(0, 2, 1)
        return g


def propagate(A: Array, v: Array, start: Array) -> tuple[Array, Array]:
    """States x_0 = start, x_{t+1} = A x_t + v_t, before each step, and the state after the last.

    Shapes: v (r, n_rows, k, n), start (r, k, n); r k runs side by side. Rows are cut into some
    sqrt(n_rows) pieces that run side by side from zero; then the runs of their starts are added.
    """
    r, n_rows, k, n = v.shape
    length = n_rows if r >= 64 or n_rows < 64 else math.ceil(math.sqrt(2 * n_rows))
    pieces = -(-n_rows // length)
    padded = np.zeros((length + 1, r, pieces, k, n))
    whole = n_rows // length
    # row l of piece m is row m length + l of the record; shifted by one: states before the steps
    body = v[:, : whole * length].reshape(r, whole, length, k, n)
    padded[1:, :, :whole] = body.transpose(2, 0, 1, 3, 4)
    rest = n_rows - whole * length
    if rest:
        padded[1 : rest + 1, :, whole] = v[:, whole * length :].transpose(1, 0, 2, 3)
    turned = A.T
    flat = padded.reshape(length + 1, -1, n)  # one matrix product a step
    for step in range(2, length + 1):
        flat[step] += flat[step - 1] @ turned
    starts = np.empty((r, pieces, k, n))
    starts[:, 0] = start
    power = np.linalg.matrix_power(turned, length)
    for m in range(1, pieces):
        starts[:, m] = starts[:, m - 1] @ power + padded[length, :, m - 1]
    if pieces > 1 or start.any():
        padded[0] = starts
        carried = starts.reshape(-1, n)
        for step in range(1, length + 1):
            carried = carried @ turned
            flat[step] += carried
    end = padded[rest or length, :, pieces - 1].copy()
    states = padded[:length].transpose(1, 2, 0, 3, 4).reshape(r, pieces * length, k, n)
    return states[:, :n_rows], end


def observability_gramian(A: Array, C: Array, n_rows: int) -> Array:
    """Sum over t < 2^k of (A^T)^t C^T C A^t, the first power of two that is no less than n_rows.

    Raises a LinAlgError where that overflows, as with a large A whose poles are known by rounding.
    """
    gramian, power = C.T @ C, A
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(max(1, math.ceil(math.log2(max(n_rows, 2))))):
            gramian = gramian + power.T @ gramian @ power
            power = power @ power
    if not np.isfinite(gramian).all():
        raise np.linalg.LinAlgError("powers of the transition matrix overflow")
    return np.asarray((gramian + gramian.T) / 2)


def output_normal(A: Array, C: Array, n_rows: int) -> Array:
    """Change of coordinates T after which |y|^2 = |x_0|^2 over so many rows of a free decay."""
    values, vectors = np.linalg.eigh(observability_gramian(A, C, n_rows))
    values = np.maximum(values, 1e-14 * values[-1] + 1e-300)
    return np.asarray(np.sqrt(values)[:, None] * vectors.T)


def modal(system: LinearSystem) -> tuple[LinearSystem, Array, tuple[IntArray, ...]]:
    """Block-diagonal A, the change of coordinates T (new states are T x), and rows of each block.

    A defective A has no such form: it stays as it is, as one block.
    """
    n = system.order
    try:
        blocks, change, modes = modal_form(system.A)
        T = np.asarray(np.linalg.inv(change), dtype=np.float64)
        if np.linalg.cond(change) < SOUND:
            return replace(system.changed(T), A=blocks), T, modes
    except np.linalg.LinAlgError:
        pass
    return system, np.eye(n), (np.arange(n),)


def network_of(system: LinearSystem) -> IORNN:
    """Network of a system, with h_t = x_{t+1}; of a nearly singular A, windows of two inputs.

    With windows [u_t, u_{t-1}], h_t = x_t = A x_{t-1} + B u_{t-1} and y_t = C h_t + D u_t + c.
    """
    A, B, C, D = system.A, system.B, system.C, system.D
    # poles near zero, even if all are: the outputs of h_t hold A^{-1}
    sizes = np.linalg.svd(A, compute_uv=False)
    if max(1.0, float(sizes[0])) > INVERTIBLE * float(sizes[-1]):
        late = np.zeros_like(B)
        return IORNN(
            np.hstack((late, B)),
            A,
            C.T,
            output_bias=system.c,
            direct_weights=np.vstack((D.T, np.zeros_like(D.T))),
            activation="linear",
            lags=2,
        )
    outputs = np.linalg.solve(A.T, C.T)
    direct = D.T - B.T @ outputs
    return IORNN(B, A, outputs, output_bias=system.c, direct_weights=direct, activation="linear")


def system_of(realisation: Realisation, model: IORNN) -> LinearSystem:
    """Return the system of a network of linear states: C = A2^T U, D = A2^T B + D'."""
    U, B, C = realisation.transition, realisation.inputs, model.output_weights.T
    assert model.direct_weights is not None
    return LinearSystem(U, B, C @ U, C @ B + model.direct_weights.T, model.output_bias)


def with_delays(model: IORNN, delays: IntArray) -> IORNN:
    """Network that sees u_k(t - delays[k]) in place of u_k(t): windows with columns of zeros."""
    late = np.asarray(delays, dtype=np.int64)
    if not late.any():
        return model
    d, lags = model.n_inputs, model.lags + int(late.max())
    assert model.direct_weights is not None
    weights = np.zeros((model.n_hidden, lags * d))
    direct = np.zeros((lags * d, model.n_outputs))
    for j in range(model.lags):
        columns = (late + j) * d + np.arange(d)
        weights[:, columns] = model.input_weights[:, j * d : (j + 1) * d]
        direct[columns] = model.direct_weights[j * d : (j + 1) * d]
    return IORNN(
        weights,
        model.recurrent_weights,
        model.output_weights,
        model.hidden_bias,
        model.output_bias,
        direct,
        model.activation,
        lags=lags,
    )
