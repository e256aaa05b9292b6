"""Makers of data, chains and networks, from a seed."""

import numpy as np

from gloree.chains import GaussianVAR
from gloree.models import BRNN, IORNN
from gloree.moments import Whitening
from gloree.refinement import Layout

LENGTHS = (5, 1, 8, 2, 3)
"""Steps of ragged sequences: one of a single step, some shorter than a window."""


MONOMIALS = {1: "linear", 2: "quadratic", 3: "cubic"}
"""Activations by their degree."""


def ragged(n_inputs, n_outputs, lengths=LENGTHS, seed=1, mean=0.0):
    """Lists X and Y of sequences of normal numbers; those of Y have this mean."""
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((n, n_inputs)) for n in lengths]
    return X, [mean + rng.standard_normal((n, n_outputs)) for n in lengths]


def uniform_inputs(n_sequences=5, n_steps=8, n_inputs=3, seed=1):
    """Inputs between -1 and 1, for which no network of small weights explodes."""
    return np.random.default_rng(seed).uniform(-1, 1, (n_sequences, n_steps, n_inputs))


def whitening_of(X):
    """Whitening of all rows of some sequences."""
    rows = np.concatenate(list(X))
    return Whitening.from_covariance(rows.mean(axis=0), np.cov(rows.T, ddof=0))


def stable_chain(seed, n_inputs, order=1):
    """A chain with a spectral radius of .5 or so, correlated noise and a mean."""
    rng = np.random.default_rng(seed)
    coefficients = rng.standard_normal((order, n_inputs, n_inputs))
    for k in range(order):
        coefficients[k] *= 0.5 / (order * np.linalg.norm(coefficients[k], 2))
    factor = rng.standard_normal((n_inputs, n_inputs)) / 2 + np.eye(n_inputs)
    return GaussianVAR(coefficients, factor @ factor.T / 2, rng.standard_normal(n_inputs) / 2)


def forward_network(
    n_inputs=3,
    n_hidden=4,
    n_outputs=2,
    *,
    seed=0,
    scale=0.5,
    norm=0.1,
    lags=1,
    direct=False,
    **changes,
):
    """A network with normal weights: input weights of this scale, |U| of this norm."""
    rng = np.random.default_rng(seed)
    U = rng.standard_normal((n_hidden, n_hidden))
    model = IORNN(
        scale * rng.standard_normal((n_hidden, lags * n_inputs)),
        norm * U / np.linalg.norm(U, 2),
        rng.standard_normal((n_hidden, n_outputs)),
        0.3 * rng.standard_normal(n_hidden),
        rng.standard_normal(n_outputs),
        rng.standard_normal((lags * n_inputs, n_outputs)) if direct else None,
        lags=lags,
    )
    return model.replace(**changes)


def two_way_network(
    n_forward=3,
    n_backward=2,
    n_inputs=3,
    n_outputs=2,
    *,
    direct=False,
    recurrent=(True, True),
    seed=0,
    norm=None,
    lags=1,
    **changes,
):
    """The same in both directions; `recurrent` says which of U and V are not zero.

    Entries of U and V have a deviation of .1, or |U| and |V| are of this norm.
    """
    rng = np.random.default_rng(seed)
    k = n_forward + n_backward

    def recurrence(n_units, is_there):
        U = 0.1 * rng.standard_normal((n_units, n_units)) * is_there
        return U if norm is None or not n_units else norm * U / np.linalg.norm(U, 2)

    model = BRNN(
        rng.standard_normal((n_forward, lags * n_inputs)) / 2,
        recurrence(n_forward, recurrent[0]),
        rng.standard_normal((n_backward, lags * n_inputs)) / 2,
        recurrence(n_backward, recurrent[1]),
        rng.standard_normal((k, n_outputs)),
        0.3 * rng.standard_normal(k),
        rng.standard_normal(n_outputs),
        rng.standard_normal(((2 * lags - 1) * n_inputs, n_outputs)) if direct else None,
        lags=lags,
    )
    return model.replace(**changes)


def restricted(model, *, recurrent=True, bias=True, direct=True, hidden_bias=True):
    """The network with zeros for the weights that a layout of these flags leaves out."""
    left_out = {
        "recurrent_weights": not recurrent,
        "hidden_bias": not (bias and hidden_bias),
        "output_bias": not bias,
        "direct_weights": not direct,
    }
    return model.replace(**{name: None for name, is_out in left_out.items() if is_out})


def mirrored(model):
    """The network that computes the same on sequences read backwards."""
    k, past = model.n_forward, model.lags * model.n_inputs
    D = model.direct_weights
    if D is not None:
        now = model.n_inputs
        D = np.concatenate((D[:now], D[past:], D[now:past]))
    return BRNN(
        model.backward_input_weights,
        model.backward_recurrent_weights,
        model.forward_input_weights,
        model.forward_recurrent_weights,
        np.roll(model.output_weights, -k, axis=0),
        np.roll(model.hidden_bias, -k),
        model.output_bias,
        D,
        model.activation,
        lags=model.lags,
    )


def memoryless(model, order=None):
    """The units of a network without their recurrence, in this order."""
    order = np.arange(model.n_hidden) if order is None else np.asarray(order)
    return IORNN(
        model.input_weights[order],
        None,
        model.output_weights[order],
        model.hidden_bias[order],
        model.output_bias,
        model.direct_weights,
        activation=model.activation,
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
