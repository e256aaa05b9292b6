"""Nonlinear autoregressions of order one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

import gloree.chains._linear_algebra as algebra
from gloree.chains._base import Capabilities, LawError
from gloree.chains._chain_rule import composed
from gloree.chains._functions import (
    AnalyticFunction,
    Differentiable,
    GivenFunction,
    TorchFunction,
    check_derivatives,
    check_values,
    in_rows,
    takes_numpy,
)
from gloree.chains._innovations import (
    GaussianInnovations,
    Innovations,
    StudentInnovations,
    innovations_of,
)
from gloree.chains._markov import MarkovLaw
from gloree.sequences import Array

PROBES = 3
"""Steps on which a function of the user is tried."""

DRAWN, AHEAD = 32, 32
"""Sequences, and steps of them, from which the spread of inputs is told."""


class NonlinearAR(MarkovLaw):
    r"""Nonlinear autoregression x_{t+1} = g(x_t) + e_{t+1}.

    .. math:: s_t = u(e_t) - \nabla g(x_t)^T u(e_{t+1}), \qquad u = -\nabla \log p_e

    and the score tensors of higher orders from the chain rule (Faa di Bruno) for
    log p_e(x_{t+1} - g(x_t)); see :eq:`law-derivatives`.

    Parameters
    ----------
    step : callable
        g. A NumPy function of rows, (n_rows, n_inputs), or of one step, (n_inputs,), or a PyTorch
        function of one step. Without `derivatives`, those of a PyTorch function are taken by
        torch.func, and those of a NumPy function from its values on small circles in the complex
        plane, so that it has to be analytic and to take complex numbers.
    innovation_covariance : array of shape (n_inputs, n_inputs)
        Covariance of Gaussian innovations; with `df`, the scale matrix of the t law.
    df : float, optional
        Degrees of freedom: innovations with a multivariate t law.
    innovations : Innovations, optional
        Any other law of the innovations, in the place of `innovation_covariance`.
    derivatives : sequence of callables, optional
        Derivatives of g of orders 1, 2, ..: functions of rows that return (n_rows, n_inputs,
        n_inputs), (n_rows, n_inputs, n_inputs, n_inputs), .., the axis of the output first. They
        are compared with differences. Scores of order m take m of them.
    initial_mean, initial_covariance : array, optional
        Mean and covariance (for t innovations, scale matrix) of x_1, shapes (n_inputs,) and
        (n_inputs, n_inputs). By default x_1 = g(0) + e_1, the step after zero: give them where
        sequences begin otherwise, as those that begin in the stationary law do.

    Raises
    ------
    LawError
        If `step` returns something else than a step, or `derivatives` are not its derivatives.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import NonlinearAR
    >>> law = NonlinearAR(lambda x: np.tanh(2 * x), 0.25 * np.eye(2))
    >>> law
    NonlinearAR(n_inputs=2, innovations=GaussianInnovations)
    >>> law.sample(10, 20, random_state=0).shape
    (10, 20, 2)
    """

    def __init__(
        self,
        step: Callable[..., object],
        innovation_covariance: ArrayLike | None = None,
        *,
        df: float | None = None,
        innovations: Innovations | None = None,
        derivatives: Sequence[Callable[..., object]] | None = None,
        initial_mean: ArrayLike | None = None,
        initial_covariance: ArrayLike | None = None,
    ) -> None:
        if (innovation_covariance is None) == (innovations is None):
            raise ValueError("give one of `innovation_covariance` and `innovations`")
        self.innovations: Innovations
        if innovations is not None:
            if df is not None:
                raise ValueError("`df` goes with `innovation_covariance`, not with `innovations`")
            self.innovations = innovations
        else:
            assert innovation_covariance is not None
            self.innovations = innovations_of(innovation_covariance, df, "innovation_covariance")
        self._step = _step_function(step, derivatives, self.innovations)
        self._start_mean, self._start = _start(
            initial_mean, initial_covariance, df, self.innovations.n_inputs
        )

    def __repr__(self) -> str:
        kind = type(self.innovations).__name__
        return f"NonlinearAR(n_inputs={self.n_inputs}, innovations={kind})"

    def __str__(self) -> str:
        return "nonlinear autoregression"

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""
        return self.innovations.n_inputs

    @property
    def capabilities(self) -> Capabilities:
        """Score tensors of every order of which the derivatives of g are known."""
        return Capabilities(max_score_order=self._step.max_order, hermite=False, edges=True)

    @cached_property
    def condition(self) -> float:
        """Condition of the correlations of the innovations, and of the first step; 1 for others."""
        known = (GaussianInnovations, StudentInnovations)
        laws = (each for each in (self.innovations, self._start) if isinstance(each, known))
        return max((algebra.correlation_condition(each.scale) for each in laws), default=1.0)

    def step(self, x: ArrayLike) -> Array:
        """Return g of rows, (n_rows, n_inputs)."""
        return self._step(np.asarray(x, dtype=np.float64))

    @cached_property
    def _first(self) -> tuple[Array, Innovations]:
        """Centre and law of x_1."""
        if self._start is not None:
            return self._start_mean, self._start
        return self.step(np.zeros((1, self.n_inputs)))[0] + self._start_mean, self.innovations

    def _log_first(self, x: Array) -> Array:
        centre, law = self._first
        return law.log_density(x - centre)

    def _log_next(self, new: Array, old: Array) -> Array:
        return self.innovations.log_density(new - self._step(old))

    def _first_derivatives(self, x: Array, order: int) -> tuple[Array, ...]:
        centre, law = self._first
        return law.derivatives(x - centre, order)

    def _new_derivatives(self, new: Array, old: Array, order: int) -> tuple[Array, ...]:
        return self.innovations.derivatives(new - self._step(old), order)

    def _old_derivatives(self, new: Array, old: Array, order: int) -> tuple[Array, ...]:
        outside = self.innovations.derivatives(new - self._step(old), order)
        inside = [-each for each in self._step.derivatives(0, order, old)]
        return composed(outside, inside, order)

    def _draw_first(self, rng: np.random.Generator, n_rows: int) -> Array:
        centre, law = self._first
        return centre + law.sample(rng, n_rows)

    def _draw_next(self, rng: np.random.Generator, old: Array) -> Array:
        return self._step(old) + self.innovations.sample(rng, old.shape[0])


def _start(
    mean: ArrayLike | None, covariance: ArrayLike | None, df: float | None, n_inputs: int
) -> tuple[Array, Innovations | None]:
    """Mean of x_1, and its law about it where a covariance was given."""
    centre = algebra.read_only(np.zeros(n_inputs) if mean is None else mean, "initial_mean")
    if centre.shape != (n_inputs,):
        raise ValueError(f"`initial_mean` has shape {centre.shape}, expected ({n_inputs},)")
    if covariance is None:
        if mean is not None:
            raise ValueError("`initial_mean` needs `initial_covariance`, the spread about it")
        return centre, None
    algebra.positive_definite(covariance, "initial_covariance", n_inputs)
    return centre, innovations_of(covariance, df, "initial_covariance")


def _step_function(
    step: Callable[..., object],
    derivatives: Sequence[Callable[..., object]] | None,
    innovations: Innovations,
) -> Differentiable:
    """Function g of rows with its derivatives, tried on a few steps."""
    if not callable(step):
        raise TypeError(f"`step` is a {type(step).__name__}, expected a function of a step")
    rng = np.random.default_rng(0)
    probes = innovations.sample(rng, PROBES)
    numpy = derivatives is not None or takes_numpy(step, [probes])
    function: Differentiable
    if not numpy:
        function = TorchFunction(step, "a `step` that is no NumPy function")
    elif derivatives is not None:
        if len(derivatives) == 0:
            raise ValueError(
                "`derivatives` is empty: give those of order 1, 2, .., or leave it out"
            )
        given = tuple(
            in_rows(each, [probes], f"derivatives[{k}]") for k, each in enumerate(derivatives)
        )
        function = GivenFunction(in_rows(step, [probes], "step"), (given,))
    else:
        rows = in_rows(step, [probes], "step")
        function = AnalyticFunction(rows, _units(rows, innovations, rng))
    try:
        values = function(probes)
    except (ImportError, LawError):
        raise
    except Exception as error:
        raise LawError(
            f"`step` can be called neither with a NumPy array nor with a PyTorch tensor of shape "
            f"{probes.shape[1:]} ({type(error).__name__}: {error})"
        ) from error
    check_values("step", values, probes.shape)
    if isinstance(function, AnalyticFunction):
        units = function.units
    else:
        units = _units(function, innovations, rng)
    try:
        check_derivatives("derivatives", function, 0, probes, units=units)
    except LawError as error:
        if not isinstance(function, AnalyticFunction):
            raise
        raise LawError(
            "`step` is no analytic function of complex numbers (it takes absolute values or real "
            "parts, or writes to an array of floats), so that its derivatives cannot be taken from "
            "it: give its `derivatives`, or write it with PyTorch"
        ) from error
    return function


def _units(
    step: Callable[[Array], Array], innovations: Innovations, rng: np.random.Generator
) -> Array:
    """Spread of inputs after some steps; of innovations where these are not finite.

    Derivatives are taken, and compared, in these units: step and innovations may be of any size.
    """
    first = rows = innovations.sample(rng, DRAWN)
    with np.errstate(all="ignore"):
        for _ in range(AHEAD):
            ahead = np.asarray(step(rows))
            if ahead.shape != first.shape or not np.isfinite(ahead).all():
                rows = first
                break
            rows = ahead + innovations.sample(rng, DRAWN)
    low, high = np.quantile(rows, (0.16, 0.84), axis=0)
    return np.asarray((high - low) / 2)
