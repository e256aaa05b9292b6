"""Small systems with known answers."""

from __future__ import annotations

import numpy as np
import pytest


class StateSpace:
    """h_t = U h_(t-1) + B u_t, y_t = C h_t + D u_t, by a plain loop."""

    def __init__(self, U, B, C, D):
        self.U, self.B, self.C, self.D = (np.asarray(part, dtype=float) for part in (U, B, C, D))

    def parameters(self, n_lags):
        """g_0 = C B + D, g_k = C U^k B."""
        powers = [self.B]
        for _ in range(n_lags - 1):
            powers.append(self.U @ powers[-1])
        g = np.array([self.C @ power for power in powers])
        g[0] += self.D
        return g

    def states(self, u):
        h, kept = np.zeros(self.U.shape[0]), []
        for row in u:
            h = self.U @ h + self.B @ row
            kept.append(h)
        return np.array(kept)

    def __call__(self, u):
        return self.states(u) @ self.C.T + u @ self.D.T


def spread_poles(order):
    """Poles on a spiral, in conjugate pairs, well apart from each other."""
    n_pairs = order // 2
    radius = np.linspace(0.95, 0.7, max(n_pairs, 1))[:n_pairs]
    angle = np.pi * (np.arange(n_pairs) + 0.5) / max(n_pairs, 1)
    pairs = radius * np.exp(1j * angle)
    real = np.array([0.6] if order % 2 else [])
    return np.concatenate((pairs, pairs.conj(), real))


def random_system(order, n_inputs=1, n_outputs=1, seed=0):
    """Known poles, modes excited and seen by random weights of size one."""
    rng = np.random.default_rng(seed)
    poles = spread_poles(order)
    U = np.zeros((order, order))
    n_pairs = order // 2
    for i, pole in enumerate(poles[:n_pairs]):
        part = slice(2 * i, 2 * i + 2)
        U[part, part] = [[pole.real, pole.imag], [-pole.imag, pole.real]]
    if order % 2:
        U[-1, -1] = poles[-1].real
    change = np.linalg.qr(rng.standard_normal((order, order)))[0]

    def weights(*shape):
        values = rng.standard_normal(shape)
        return np.sign(values) * (0.5 + np.abs(values))

    return StateSpace(
        change @ U @ change.T,
        change @ weights(order, n_inputs),
        weights(n_outputs, order) @ change.T,
        weights(n_outputs, n_inputs),
    ), poles


@pytest.fixture(scope="session")
def make_system():
    return random_system
