"""Exact expectations over short input sequences, and networks written as plain loops.

The inputs of a short sequence are jointly Gaussian, so the expectation of a polynomial of them is
a finite sum over a tensor grid of Gauss-Hermite nodes. Networks here are deliberately naive: they
are the oracle, and share no code with the library.
"""

from dataclasses import dataclass

import numpy as np

from helpers import comparisons

# The sums have up to 3e5 terms of both signs; eps times their absolute sum stays below this.
ALGEBRA = 1e-9


def grid(chain, n_steps, degree):
    """Nodes (n_nodes, n_steps, n_inputs) and weights that integrate polynomials of a degree."""
    size = n_steps * chain.n_inputs
    covariance = np.linalg.inv(chain.joint_precision(n_steps))
    points, weights = np.polynomial.hermite_e.hermegauss(degree // 2 + 1)
    weights = weights / weights.sum()
    mesh = np.stack([axis.ravel() for axis in np.meshgrid(*[points] * size)], axis=1)
    mass = np.prod(
        np.stack([axis.ravel() for axis in np.meshgrid(*[weights] * size)], axis=1), axis=1
    )
    nodes = mesh @ np.linalg.cholesky(covariance).T
    return nodes.reshape(-1, n_steps, chain.n_inputs) + chain.mean, mass


@dataclass
class Network:
    """h_t = f(A1 x_t + U h_{t-1} + b), y_t = A2^T h_t + c; `backward` runs it from the end."""

    A1: np.ndarray
    U: np.ndarray
    b: np.ndarray
    A2: np.ndarray
    c: np.ndarray
    f: object
    backward: bool = False

    def run(self, X):
        """Pre-activations and states, (n_nodes, n_steps, n_hidden)."""
        n_nodes, n_steps, _ = X.shape
        z = np.zeros((n_nodes, n_steps, len(self.b)))
        h = np.zeros_like(z)
        steps = range(n_steps - 1, -1, -1) if self.backward else range(n_steps)
        previous = np.zeros((n_nodes, len(self.b)))
        for t in steps:
            z[:, t] = X[:, t] @ self.A1.T + previous @ self.U.T + self.b
            h[:, t] = self.f(z[:, t])
            previous = h[:, t]
        return z, h

    def outputs(self, X):
        return self.run(X)[1] @ self.A2 + self.c


def polynomial(*coefficients):
    """f(z) = sum_m c_m z^m."""
    return np.polynomial.Polynomial(coefficients)


QUADRATIC = polynomial(0.2, -0.5, 1.3)
CUBIC = polynomial(0.1, 0.3, -0.4, 0.7)


def make_network(seed, n_inputs, f, n_hidden=2, n_outputs=2, backward=False, scale=1.0):
    rng = np.random.default_rng(seed)
    return Network(
        A1=scale * rng.standard_normal((n_hidden, n_inputs)),
        U=0.3 * rng.standard_normal((n_hidden, n_hidden)),
        b=0.5 * rng.standard_normal(n_hidden),
        A2=rng.standard_normal((n_hidden, n_outputs)),
        c=rng.standard_normal(n_outputs),
        f=f,
        backward=backward,
    )


@dataclass
class TwoWay:
    """Both chains: y_t = A2^T [h_t; w_t] + c, forward units first."""

    forward: Network
    backward: Network

    @property
    def C(self):
        return np.vstack((self.forward.A1, self.backward.A1))

    @property
    def A2(self):
        return np.vstack((self.forward.A2, self.backward.A2))

    @property
    def b(self):
        return np.concatenate((self.forward.b, self.backward.b))

    def run(self, X):
        """Pre-activations and states of all units, (n_nodes, n_steps, n_hidden)."""
        (z, h), (v, w) = self.forward.run(X), self.backward.run(X)
        return np.concatenate((z, v), axis=2), np.concatenate((h, w), axis=2)

    def outputs(self, X):
        return self.run(X)[1] @ self.A2 + self.forward.c


def make_two_way(seed, n_inputs, f, n_forward=2, n_backward=1, n_outputs=2, scale=1.0):
    parts = [
        make_network(2 * seed + back, n_inputs, f, n_hidden, n_outputs, bool(back), scale)
        for back, n_hidden in enumerate((n_forward, n_backward))
    ]
    return TwoWay(*parts)


def mean(weights, *factors):
    """E[a (x) b (x) ..] over the nodes; factors of shape (n_nodes, ..)."""
    total = weights
    for factor in factors:
        total = total.reshape(total.shape + (1,) * (factor.ndim - 1)) * factor.reshape(
            factor.shape[:1] + (1,) * (total.ndim - 1) + factor.shape[1:]
        )
    return total.sum(axis=0)


def assert_close(actual, expected, tolerance=ALGEBRA):
    comparisons.assert_close(actual, expected, tolerance)
