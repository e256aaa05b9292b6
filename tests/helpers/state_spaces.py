"""Random linear systems x_{t+1} = A x_t + B u_t, y_t = C x_t + D u_t + c, and records of them."""

from __future__ import annotations

import numpy as np

from gloree.identification._linear_system import LinearSystem
from gloree.identification._weighted_records import WeightedRecords


def random_state_space(rng, n, d, q, radius=0.95):
    """A system of n states whose largest pole has a given modulus."""
    A = rng.standard_normal((n, n))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    return LinearSystem(
        A,
        rng.standard_normal((n, d)),
        rng.standard_normal((q, n)),
        rng.standard_normal((q, d)),
        rng.standard_normal(q),
    )


def records_of(rng, system, lengths, noise=0.0):
    """Records that start in random states, all rows counted, and these states."""
    u = [rng.standard_normal((n, system.B.shape[1])) for n in lengths]
    x = [2.0 * rng.standard_normal(system.order) for _ in lengths]
    y = [system.simulate(a, b)[0] for a, b in zip(u, x, strict=True)]
    y = [part + noise * rng.standard_normal(part.shape) for part in y]
    w = [np.ones_like(part) for part in y]
    return WeightedRecords(tuple(u), tuple(y), tuple(w)), np.array(x)
