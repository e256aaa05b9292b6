"""Simulated data whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from gloree._parameters import check_flag, check_integer, check_number
from gloree._random import RandomState, as_generator
from gloree.activations import Activation, Polynomial, cubic, get_activation, linear, quadratic
from gloree.chains import GaussianVAR
from gloree.models import BRNN, IORNN, ExplosionError
from gloree.sequences import Array

INNOVATIONS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "laplace": lambda rng, shape: rng.laplace(size=shape) / np.sqrt(2),
    "t5": lambda rng, shape: rng.standard_t(5, size=shape) / np.sqrt(5 / 3),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, size=shape) * np.sqrt(3),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
}
INPUT_LAWS = ("gaussian", "var2", *INNOVATIONS, "switching", "tanh", "tokens")

NEAR_EXPLOSION = 30.0
"""Pre-activations beyond this many standard deviations of a drive count as an explosion."""


def make_chain(
    n_inputs: int, *, memory: float = 0.5, random_state: RandomState = None
) -> GaussianVAR:
    """Random stationary Gaussian VAR(1) of zero mean and unit variances.

    `memory` is the spectral radius of the coefficients, below 1.
    """
    n_inputs = check_integer("n_inputs", n_inputs, 1)
    memory = check_number("memory", memory, least=0.0)
    rng = as_generator(random_state)
    rotation, _ = np.linalg.qr(rng.standard_normal((n_inputs, n_inputs)))
    coefficients = memory * rotation
    mixing = np.eye(n_inputs) + 0.3 * rng.standard_normal((n_inputs, n_inputs)) / np.sqrt(n_inputs)
    innovation = mixing @ mixing.T
    chain = GaussianVAR(coefficients, innovation)
    scale = 1.0 / np.sqrt(np.diag(chain.stationary_covariance)[:n_inputs])
    innovation = innovation * np.outer(scale, scale)
    return GaussianVAR(coefficients * scale[:, None] / scale[None, :], innovation)


def random_rnn(
    n_inputs: int,
    n_hidden: int,
    n_outputs: int,
    *,
    recurrence_norm: float = 0.1,
    activation: str | Activation = "quadratic",
    bias: float = 0.0,
    random_state: RandomState = None,
) -> IORNN:
    """Random network in canonical form.

    Rows of A1 are uniform on the unit sphere, U is Gaussian and scaled to the spectral norm
    `recurrence_norm`, A2 is Gaussian of variance 1 / n_hidden. `bias` is the standard deviation of
    the hidden biases.
    """
    _check_sizes(n_inputs=n_inputs, n_hidden=n_hidden, n_outputs=n_outputs)
    _check_spreads(recurrence_norm=recurrence_norm, bias=bias)
    rng = as_generator(random_state)
    A1, U = _random_units(rng, n_hidden, n_inputs, recurrence_norm)
    A2 = rng.standard_normal((n_hidden, n_outputs)) / np.sqrt(n_hidden)
    b = bias * rng.standard_normal(n_hidden)
    return IORNN(A1, U, A2, hidden_bias=b, activation=get_activation(activation)).canonical()


def random_brnn(
    n_inputs: int,
    n_forward: int,
    n_backward: int,
    n_outputs: int,
    *,
    recurrence_norm: float = 0.1,
    activation: str | Activation = "quadratic",
    bias: float = 0.0,
    random_state: RandomState = None,
) -> BRNN:
    """Random bidirectional network in canonical form, of which one direction may have no units.

    Rows of A1 and B1 are uniform on the unit sphere, U and V are Gaussian and scaled to the
    spectral norm `recurrence_norm`, A2 is Gaussian of variance 1 / n_hidden; the rest is as in
    `random_rnn`.

    Examples
    --------
    >>> from gloree import datasets
    >>> datasets.random_brnn(5, 2, 1, 3, random_state=0)
    BRNN(n_inputs=5, n_forward=2, n_backward=1, n_outputs=3, activation='quadratic')
    """
    _check_sizes(n_inputs=n_inputs, n_outputs=n_outputs)
    _check_sizes(0, n_forward=n_forward, n_backward=n_backward)
    _check_spreads(recurrence_norm=recurrence_norm, bias=bias)
    rng = as_generator(random_state)
    n_hidden = n_forward + n_backward
    A1, U = _random_units(rng, n_forward, n_inputs, recurrence_norm)
    B1, V = _random_units(rng, n_backward, n_inputs, recurrence_norm)
    A2 = rng.standard_normal((n_hidden, n_outputs)) / np.sqrt(max(n_hidden, 1))
    b = bias * rng.standard_normal(n_hidden)
    f = get_activation(activation)
    return BRNN(A1, U, B1, V, A2, hidden_bias=b, activation=f).canonical()


def _check_sizes(least: int = 1, **sizes: object) -> None:
    for name, size in sizes.items():
        check_integer(name, size, least)


def _check_spreads(**spreads: object) -> None:
    for name, spread in spreads.items():
        check_number(name, spread, least=0.0)


def _random_units(
    rng: np.random.Generator, n_units: int, n_inputs: int, recurrence_norm: float
) -> tuple[Array, Array]:
    """Unit rows of input weights, and recurrent weights of a spectral norm."""
    rows = rng.standard_normal((n_units, n_inputs))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    recurrent = rng.standard_normal((n_units, n_units))
    if n_units:
        recurrent *= recurrence_norm / np.linalg.norm(recurrent, 2)
    return rows, recurrent


def make_rnn(
    n_sequences: int,
    n_steps: int,
    n_inputs: int,
    n_hidden: int,
    n_outputs: int,
    *,
    recurrence_norm: float = 0.1,
    noise: float = 0.1,
    degree: int = 2,
    bidirectional: bool = False,
    random_state: RandomState = None,
) -> tuple[Array, Array, IORNN | BRNN, GaussianVAR]:
    """Simulate an input-output RNN with f(z) = z^degree, driven by a Gaussian VAR(1).

    Parameters
    ----------
    n_sequences, n_steps : int
        Data size.
    n_inputs, n_hidden, n_outputs : int
        Network size.
    recurrence_norm : float, default 0.1
        Spectral norm of U (and V) for degree 2. States stay small for about 0.05 to 0.2 (0.1 for
        one or two units, whose recurrence is stronger at the same norm) and may explode beyond. For
        a higher degree l it is multiplied by 3 / (2l - 1)!!, the mean square of a state z^2 over
        that of z^l for z ~ N(0, 1): large states grow faster there.
    noise : float, default 0.1
        Standard deviation of the Gaussian noise on every output (whose signal has a standard
        deviation of about sqrt(2)).
    degree : int, default 2
        Degree of the activation.
    bidirectional : bool, default False
        Whether (n_hidden + 1) // 2 of the units run forward and the others backward, each group
        with a recurrence of that norm.
    random_state : None, int, SeedSequence, Generator or RandomState

    Returns
    -------
    X : ndarray of shape (n_sequences, n_steps, n_inputs)
    Y : ndarray of shape (n_sequences, n_steps, n_outputs)
    truth : IORNN, or BRNN if bidirectional
        In canonical form.
    chain : GaussianVAR
        Law of the inputs.

    Raises
    ------
    ExplosionError
        If a path explodes or comes close to it (a pre-activation beyond 30).
    ValueError, TypeError
        If a size is below 1 or no integer, or the norm or the noise is negative or no number.

    Examples
    --------
    >>> from gloree import datasets
    >>> X, Y, truth, chain = datasets.make_rnn(3, 4, 5, 2, 6, random_state=0)
    >>> X.shape, Y.shape, truth.n_hidden, chain.order
    ((3, 4, 5), (3, 4, 6), 2, 1)
    >>> datasets.make_rnn(3, 4, 5, 3, 6, bidirectional=True, random_state=0)[2]
    BRNN(n_inputs=5, n_forward=2, n_backward=1, n_outputs=6, activation='quadratic')
    """
    names = ("n_sequences", "n_steps", "n_inputs", "n_hidden", "n_outputs", "degree")
    sizes = (n_sequences, n_steps, n_inputs, n_hidden, n_outputs, degree)
    _check_sizes(**dict(zip(names, sizes, strict=True)))
    _check_spreads(recurrence_norm=recurrence_norm)
    check_flag("bidirectional", bidirectional)
    rng = as_generator(random_state)
    chain = make_chain(n_inputs, random_state=rng)
    monomial = Polynomial((0.0,) * degree + (1.0,))
    activation = {1: linear, 2: quadratic, 3: cubic}.get(degree, monomial)
    if degree > 2:
        recurrence_norm *= 3.0 / float(np.prod(np.arange(1.0, 2 * degree, 2)))
    units = (n_hidden - n_hidden // 2, n_hidden // 2) if bidirectional else (n_hidden,)
    make: Callable[..., IORNN | BRNN] = random_brnn if bidirectional else random_rnn
    make = partial(make, recurrence_norm=recurrence_norm, activation=activation, random_state=rng)
    truth = make(n_inputs, *units, n_outputs)
    X, limit = chain.sample(n_sequences, n_steps, random_state=rng), NEAR_EXPLOSION**degree
    exploded = truth.explosions(X, limit=limit)
    if exploded.size:
        raise ExplosionError(int(exploded[0, 0]), int(exploded[0, 1]), limit)
    return X, truth.simulate(X, noise=noise, random_state=rng), truth, chain


def make_inputs(
    law: str, n_sequences: int, n_steps: int, n_inputs: int, *, random_state: RandomState = None
) -> Array:
    """Stationary inputs from a law that need not be Gaussian, (n_sequences, n_steps, n_inputs).

    Every input has mean 0 and variance 1 over the sample.

    Parameters
    ----------
    law : str
        ``gaussian`` (VAR(1)), ``var2`` (Gaussian VAR(2)); VAR(1) with innovations ``laplace``,
        ``t5`` (Student, 5 degrees of freedom), ``uniform`` or ``exponential``; ``switching`` (two
        regimes of volatility and coefficients); ``tanh`` (nonlinear autoregression); ``tokens``
        (a Markov chain over 200 fixed vectors). Others raise a ValueError, and so does a single
        row, which has no variance.
    """
    if law not in INPUT_LAWS:
        raise ValueError(f"`law` must be one of {', '.join(INPUT_LAWS)}, got {law!r}")
    _check_sizes(n_sequences=n_sequences, n_steps=n_steps, n_inputs=n_inputs)
    if n_sequences * n_steps == 1:
        raise ValueError("`n_sequences` and `n_steps` are both 1: a single row has no variance")
    rng = as_generator(random_state)
    shape = (n_steps, n_sequences, n_inputs)
    X = _tokens(rng, shape) if law == "tokens" else _autoregression(law, rng, shape)
    X -= X.mean(axis=(0, 1))
    X /= X.std(axis=(0, 1))
    return X


def _autoregression(law: str, rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    n_steps, n_sequences, n_inputs = shape
    shape = (50 + n_steps, n_sequences, n_inputs)  # the first 50 steps are left out
    noise = INNOVATIONS[law](rng, shape) if law in INNOVATIONS else rng.standard_normal(shape)
    rotation = np.linalg.qr(rng.standard_normal((n_inputs, n_inputs)))[0]
    first, second = 0.5 * rotation, np.zeros((n_inputs, n_inputs))
    if law == "var2":
        first, second = 0.4 * rotation, 0.3 * np.eye(n_inputs)
    quiet = 0.5 * np.linalg.qr(rng.standard_normal((n_inputs, n_inputs)))[0]
    regime = np.zeros(n_sequences, dtype=bool)
    X = np.zeros(shape)
    for t in range(2, shape[0]):
        drift = X[t - 1] @ first.T + X[t - 2] @ second.T
        if law == "tanh":
            drift = 1.5 * np.tanh(2.0 * X[t - 1] @ rotation.T)
        if law == "switching":
            regime ^= rng.random(n_sequences) < 0.05
            drift = np.where(regime[:, None], X[t - 1] @ quiet.T, drift)
            noise[t] *= np.where(regime[:, None], 0.4, 1.5)
        X[t] = drift + noise[t]
    return np.ascontiguousarray(X[-n_steps:].transpose(1, 0, 2))


def _tokens(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    n_tokens = 200
    vectors = rng.standard_normal((n_tokens, shape[2]))
    cumulative = rng.dirichlet(np.full(n_tokens, 0.1), size=n_tokens).cumsum(axis=1)
    token = rng.integers(n_tokens, size=shape[1])
    X = np.empty(shape)
    for t in range(shape[0]):
        X[t] = vectors[token]
        below = cumulative[token] < rng.random(shape[1])[:, None]
        token = np.minimum(below.sum(axis=1), n_tokens - 1)
    return np.ascontiguousarray(X.transpose(1, 0, 2))
