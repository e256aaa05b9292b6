"""Small linear systems with known poles and responses."""

import numpy as np
from scipy.linalg import block_diag
from scipy.optimize import linear_sum_assignment

from gloree.activations import PerUnit, Polynomial
from gloree.models import IORNN


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


def modal_matrix(poles):
    """Block-diagonal: a block of two for each pole of the upper half plane, one for a real one."""
    return block_diag(
        *(
            [[pole.real]] if pole.imag == 0 else [[pole.real, pole.imag], [-pole.imag, pole.real]]
            for pole in poles
        )
    )


def linear_network(poles, n_inputs, n_outputs, rng):
    """Linear network with these poles (upper half plane) in random orthogonal coordinates."""
    U = modal_matrix(poles)
    n = len(U)
    change = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return IORNN(
        rng.standard_normal((n, n_inputs)),
        change @ U @ change.T,
        rng.standard_normal((n, n_outputs)) / np.sqrt(n),
        activation="linear",
        direct_weights=0.3 * rng.standard_normal((n_inputs, n_outputs)),
    )


def pole_distance(found, expected, errors=1.0):
    """The largest distance of matched poles, in units of their errors."""
    distance = np.abs(np.subtract.outer(found, expected)) / errors
    return distance[linear_sum_assignment(distance)].max()


def random_system(order, n_inputs=1, n_outputs=1, seed=0):
    """Known poles, modes excited and seen by random weights of size one."""
    rng = np.random.default_rng(seed)
    poles = spread_poles(order)
    upper = poles[: order // 2]
    U = modal_matrix([*upper, *poles[2 * len(upper) :]])
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


def dead_time_network(rng):
    """Linear, two inputs that are first seen after 3 and 1 samples, biases of the inputs' means."""
    base = linear_network([0.8 + 0.3j, 0.5], 2, 2, rng)
    A1, D = np.zeros((3, 8)), np.zeros((8, 2))
    A1[:, 6], A1[:, 3] = base.input_weights.T
    D[6], D[3] = base.direct_weights
    means = np.array([2.0, -1.0])
    return IORNN(
        A1,
        base.recurrent_weights,
        base.output_weights,
        -A1 @ np.tile(means, 4),
        [0.5, 3.0],
        D,
        "linear",
        lags=4,
    )


def mixed_network(rng, lags=2):
    """Two linear units, a tanh, a softplus and a cubic polynomial."""
    units = PerUnit(["linear", "linear", "tanh", "softplus", Polynomial((0.1, 1.0, 0.2, 0.05))])
    U = rng.standard_normal((5, 5))
    return IORNN(
        0.4 * rng.standard_normal((5, 2 * lags)),
        0.5 * U / np.linalg.norm(U, 2),
        rng.standard_normal((5, 2)),
        0.2 * rng.standard_normal(5),
        rng.standard_normal(2),
        0.3 * rng.standard_normal((2 * lags, 2)),
        units,
        lags=lags,
    )
