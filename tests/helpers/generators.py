"""Makers of data, chains and networks, from a seed."""

import numpy as np

from gloree.chains import GaussianVAR
from gloree.models import BRNN, IORNN
from gloree.refinement import Layout

LENGTHS = (5, 1, 8, 2, 3)
"""Steps of ragged sequences: one of a single step, some shorter than a window."""


def ragged(n_inputs, n_outputs, lengths=LENGTHS, seed=1):
    """Lists X and Y of sequences of normal numbers."""
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((n, n_inputs)) for n in lengths]
    return X, [rng.standard_normal((n, n_outputs)) for n in lengths]


def stable_chain(seed, n_inputs, order=1):
    """A chain with a spectral radius of .5 or so, correlated noise and a mean."""
    rng = np.random.default_rng(seed)
    coefficients = rng.standard_normal((order, n_inputs, n_inputs))
    for k in range(order):
        coefficients[k] *= 0.5 / (order * np.linalg.norm(coefficients[k], 2))
    factor = rng.standard_normal((n_inputs, n_inputs)) / 2 + np.eye(n_inputs)
    return GaussianVAR(coefficients, factor @ factor.T / 2, rng.standard_normal(n_inputs) / 2)


def forward_network(n_inputs, n_hidden, n_outputs, *, seed=0, scale=0.5, norm=0.1, **changes):
    """A network with normal weights: input weights of this scale, |U| of this norm."""
    rng = np.random.default_rng(seed)
    U = rng.standard_normal((n_hidden, n_hidden))
    model = IORNN(
        scale * rng.standard_normal((n_hidden, n_inputs)),
        norm * U / np.linalg.norm(U, 2),
        rng.standard_normal((n_hidden, n_outputs)),
        0.3 * rng.standard_normal(n_hidden),
        rng.standard_normal(n_outputs),
    )
    return model.replace(**changes)


def two_way_network(
    n_forward, n_backward, n_inputs=3, n_outputs=2, *, direct=False, recurrent=(True, True), seed=0
):
    """The same in both directions; `recurrent` says which of U and V are not zero."""
    rng = np.random.default_rng(seed)
    k = n_forward + n_backward
    return BRNN(
        rng.standard_normal((n_forward, n_inputs)) / 2,
        0.1 * rng.standard_normal((n_forward, n_forward)) * recurrent[0],
        rng.standard_normal((n_backward, n_inputs)) / 2,
        0.1 * rng.standard_normal((n_backward, n_backward)) * recurrent[1],
        rng.standard_normal((k, n_outputs)),
        0.3 * rng.standard_normal(k),
        rng.standard_normal(n_outputs),
        rng.standard_normal((n_inputs, n_outputs)) if direct else None,
    )


def with_biases(model, seed, scale=0.3):
    """The network with normal hidden biases."""
    b = scale * np.random.default_rng(seed).standard_normal(model.n_hidden)
    return model.replace(hidden_bias=b)


def model_and_layout(rng, n_outputs, *, lags=1, both_ways=False):
    """A network of two inputs with every coefficient free, drawn from `rng`, and its layout."""
    draw, q = rng.standard_normal, n_outputs
    if both_ways:
        model = BRNN(
            draw((2, 2 * lags)) / 2, 0.2 * draw((2, 2)), draw((2, 2 * lags)) / 2,
            0.2 * draw((2, 2)), draw((4, q)), 0.3 * draw(4), draw(q),
            draw(((2 * lags - 1) * 2, q)), lags=lags,
        )  # fmt: skip
    else:
        model = IORNN(
            draw((3, 2)) / 2, 0.2 * draw((3, 3)), draw((3, q)), 0.3 * draw(3), draw(q), draw((2, q))
        )
    layout = Layout(
        model.n_columns,
        model.n_hidden,
        q,
        direct=True,
        n_backward=model.n_backward if both_ways else None,
        lags=lags,
    )
    return model, layout
