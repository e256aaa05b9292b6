"""A law from log-density functions of single steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from scipy import optimize
from scipy.special import gammaln, logsumexp

from gloree.chains._base import Capabilities, LawError
from gloree.chains._functions import (
    Differentiable,
    GivenFunction,
    InUnits,
    TorchFunction,
    check_derivatives,
    check_values,
    in_rows,
)
from gloree.chains._markov import MarkovLaw
from gloree.sequences import Array

Sampler = tuple[
    Callable[[np.random.Generator, int], Array], Callable[[np.random.Generator, Array], Array]
]

PROBES = 3
"""Steps on which functions of the user are tried."""

DRAWS = 4_000
"""Draws behind the integral of a density."""

PROPOSAL_DF = 3.0
"""Degrees of freedom of the t law that they come from: heavier tails than most densities."""

FAR = (1e3, 1e5, 1e7)
"""Distances at which a density has to fall faster than the volume grows, in its unit or in 1,
whichever is larger."""


UNITS = 10.0 ** np.arange(-12, 13)
"""Units of steps among which the one of a density is looked for."""


class DensityLaw(MarkovLaw):
    """A law from log-density functions: build it with `from_log_density`."""

    def __init__(
        self,
        initial: Differentiable,
        transition: Differentiable,
        n_inputs: int,
        sampler: Sampler | None,
    ) -> None:
        self._initial, self._transition = initial, transition
        self._n_inputs, self._sampler = n_inputs, sampler

    def __repr__(self) -> str:
        return f"DensityLaw(n_inputs={self.n_inputs})"

    def __str__(self) -> str:
        return "law of the given densities"

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""
        return self._n_inputs

    @property
    def capabilities(self) -> Capabilities:
        """Score tensors of every order of which derivatives are known."""
        orders = [f.max_order for f in (self._initial, self._transition) if f.max_order is not None]
        most = min(orders) if orders else None
        return Capabilities(max_score_order=most, hermite=False, edges=True)

    def _log_first(self, x: Array) -> Array:
        return self._initial(x)

    def _log_next(self, new: Array, old: Array) -> Array:
        return self._transition(new, old)

    def _first_derivatives(self, x: Array, order: int) -> tuple[Array, ...]:
        return self._initial.derivatives(0, order, x)

    def _new_derivatives(self, new: Array, old: Array, order: int) -> tuple[Array, ...]:
        return self._transition.derivatives(0, order, new, old)

    def _old_derivatives(self, new: Array, old: Array, order: int) -> tuple[Array, ...]:
        return self._transition.derivatives(1, order, new, old)

    def _parts(self) -> Sampler:
        if self._sampler is None:
            raise LawError(
                "a law of log-densities cannot draw sequences: give `sampler` to "
                "`from_log_density`, two functions that draw x_1 and the next step"
            )
        return self._sampler

    def _checked(self, place: int, n_rows: int, drawn: Array) -> Array:
        found = np.asarray(drawn, dtype=np.float64)
        if found.shape != (n_rows, self.n_inputs):
            raise LawError(
                f"`sampler[{place}]` returned steps of shape {found.shape}, expected "
                f"{(n_rows, self.n_inputs)}"
            )
        return found

    def _draw_first(self, rng: np.random.Generator, n_rows: int) -> Array:
        return self._checked(0, n_rows, self._parts()[0](rng, n_rows))

    def _draw_next(self, rng: np.random.Generator, old: Array) -> Array:
        return self._checked(1, old.shape[0], self._parts()[1](rng, old))


def from_log_density(
    initial: Callable[..., object],
    transition: Callable[..., object],
    *,
    n_inputs: int,
    derivatives: Mapping[str, Sequence[Callable[..., object]]] | None = None,
    sampler: Sampler | None = None,
    check: bool = True,
) -> DensityLaw:
    r"""Law of inputs with given log-densities of single steps.

    .. math:: \log p(x_1, .., x_n) = \log p(x_1) + \sum_t \log p(x_{t+1} \mid x_t)

    Parameters
    ----------
    initial : callable
        ``initial(x)`` = log p(x_1), a PyTorch function of one step, of shape (n_inputs,), that
        returns a number. A constant factor of the density makes no difference to scores.
    transition : callable
        ``transition(new, old)`` = log p(new | old), alike.
    n_inputs : int
        Dimension of one step.
    derivatives : dict, optional
        Derivatives in the place of torch.func: under ``"initial"`` those of `initial`, under
        ``"new"`` and ``"old"`` those of `transition` in its arguments, of orders 1, 2, .. each, as
        functions of the same arguments that return arrays of shapes (n_inputs,), (n_inputs,
        n_inputs), ... All functions are then NumPy's, of single steps or of rows. They are compared
        with differences.
    sampler : pair of callables, optional
        ``sampler[0](rng, n_rows)`` draws x_1 and ``sampler[1](rng, old)`` the next step of every
        row, for `sample`.
    check : bool, default True
        Whether to integrate the densities (below).

    Returns
    -------
    DensityLaw

    Raises
    ------
    LawError
        If a function returns something else than a finite number, derivatives are not those of the
        function, a density does not fall far away (and so cannot be normalised), or the integral of
        exp(transition) over `new` depends on `old`: the score would be wrong.
    TypeError
        If an argument is no function, `sampler` no pair of them, or `derivatives` no lists of them.
    ImportError
        If derivatives have to be taken, and PyTorch is not installed.

    Notes
    -----
    Integrals are taken by importance sampling from a t law about the mode, with the inverse of the
    Hessian there; where they are too inaccurate to tell (many inputs, several far modes), nothing
    is refused.

    Examples
    --------
    >>> import torch
    >>> from gloree.chains import from_log_density
    >>> law = from_log_density(
    ...     lambda x: -(x**2).sum() / 2,
    ...     lambda new, old: -((new - torch.tanh(old)) ** 2).sum() / 2,
    ...     n_inputs=2,
    ... )
    >>> law.capabilities
    Capabilities(max_score_order=None, hermite=False, edges=True)
    """
    if isinstance(n_inputs, bool) or not isinstance(n_inputs, (int, np.integer)) or n_inputs < 1:
        raise ValueError(f"`n_inputs` is {n_inputs!r}, expected an integer of at least 1")
    for name, function in (("initial", initial), ("transition", transition)):
        if not callable(function):
            raise TypeError(f"`{name}` is a {type(function).__name__}, expected a function")
    if sampler is not None and not (
        isinstance(sampler, (tuple, list)) and len(sampler) == 2 and all(map(callable, sampler))
    ):
        raise TypeError(
            "`sampler` is no pair of functions: `sampler[0](rng, n_rows)` draws x_1, and "
            "`sampler[1](rng, old)` the next step of every row"
        )
    probes = np.random.default_rng(0).standard_normal((2, PROBES, n_inputs))
    first: Differentiable
    next_: Differentiable
    if derivatives is None:
        first = TorchFunction(initial, "a law of log-densities without `derivatives`")
        next_ = TorchFunction(transition, "a law of log-densities without `derivatives`")
    else:
        lacking = [each for each in ("initial", "new", "old") if not derivatives.get(each)]
        if lacking or set(derivatives) - {"initial", "new", "old"}:
            raise ValueError(
                f"`derivatives` has the keys {sorted(derivatives)}, expected 'initial', 'new' and "
                f"'old', with derivatives of orders 1, 2, .. each"
            )
        for key, functions in derivatives.items():
            if not isinstance(functions, (tuple, list)) or not all(map(callable, functions)):
                raise TypeError(
                    f"`derivatives[{key!r}]` is no list of functions: give the derivatives of "
                    f"orders 1, 2, .."
                )

        def given(key: str, n: int) -> tuple[Callable[..., Array], ...]:
            return tuple(
                in_rows(each, list(probes[:n]), f"derivatives[{key!r}][{k}]")
                for k, each in enumerate(derivatives[key])
            )

        first = GivenFunction(in_rows(initial, [probes[0]], "initial"), (given("initial", 1),))
        parts = (given("new", 2), given("old", 2))
        next_ = GivenFunction(in_rows(transition, list(probes), "transition"), parts)
    _call(first, next_, probes)
    unit = _unit_of(first, int(n_inputs))
    ahead, onward = InUnits(first, unit), InUnits(next_, unit)
    _compare(ahead, onward, probes, given=derivatives is not None)
    if check:
        _check_density("initial", ahead, [probes[0][:1]], unit)
        past = [np.zeros((1, n_inputs)), *probes[1][:, np.newaxis]]
        _check_density("transition", onward, past, unit)
    return DensityLaw(first, next_, int(n_inputs), sampler)


def _unit_of(initial: Differentiable, n_inputs: int) -> float:
    """Power of ten by which steps change the density: the smallest along which log p falls by .5.

    It falls on the average of both sides, so that a slope, far from the mode, does not count; 1
    where it falls nowhere.
    """
    eye = np.eye(n_inputs)
    with np.errstate(all="ignore"):
        here = initial(np.zeros((1, n_inputs)))[0]
        for unit in UNITS:
            fall = here - initial(unit * np.vstack((eye, -eye))).mean()
            if fall >= 0.5:
                return float(unit)
    return 1.0


def _call(initial: Differentiable, transition: Differentiable, probes: Array) -> None:
    """Call both functions on a few steps."""
    for name, function, rows in (
        ("initial", initial, probes[:1]),
        ("transition", transition, probes),
    ):
        try:
            values = function(*rows)
        except ImportError:
            raise
        except Exception as error:
            raise LawError(
                f"`{name}` cannot be called with {len(rows)} step(s) of shape "
                f"{probes.shape[2:]} ({type(error).__name__}: {error})"
            ) from error
        check_values(name, values, (PROBES,))


def _compare(
    initial: Differentiable, transition: Differentiable, probes: Array, *, given: bool
) -> None:
    """Compare derivatives with differences on a few steps, in units of the density."""
    check_derivatives("derivatives['initial']" if given else "initial", initial, 0, probes[0])
    for place, key in enumerate(("new", "old")):
        name = f"derivatives[{key!r}]" if given else "transition"
        check_derivatives(name, transition, place, *probes)


def _check_density(
    name: str, function: Differentiable, conditions: list[Array], unit: float
) -> None:
    """Refuse a density that cannot be normalised, or whose integral depends on the past.

    `conditions` are past steps, (1, n_inputs) each; for `initial` they do not matter. Steps are in
    a `unit` of the density.
    """
    rng = np.random.default_rng(0)
    n_inputs = conditions[0].shape[1]
    past = name == "transition"

    def log_density(x: Array, old: Array) -> Array:
        rest = [np.repeat(old, x.shape[0], axis=0)] if past else []
        with np.errstate(all="ignore"):
            values: Array = np.asarray(function(x, *rest), dtype=np.float64)
        return values

    directions = rng.standard_normal((64, n_inputs))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions = np.vstack((directions, np.eye(n_inputs), -np.eye(n_inputs)))
    integrals, errors = [], []
    for old in conditions:
        far = np.multiply(FAR, max(1.0, 1.0 / unit))
        tails = np.stack([log_density(r * directions, old) + n_inputs * np.log(r) for r in far])
        rising = ~(tails[1:] < tails[:-1]) & ~np.isneginf(tails[1:])
        if rising.any():
            at = directions[np.flatnonzero(rising.any(axis=0))[0]]
            raise LawError(
                f"`{name}` is the logarithm of no density that can be normalised: along the "
                f"direction {np.array2string(at, precision=2)} it does not fall faster than the "
                f"volume grows. Check its sign, or give the coordinates that it leaves out a law"
            )

        def slope(x: Array, old: Array = old) -> Array:
            rest = [old] if past else []
            return function.derivatives(0, 1, x, *rest)[0]

        value, error = _log_integral(partial(log_density, old=old), slope, old[0] * past, rng)
        integrals.append(value)
        errors.append(error)
    if not past or not np.isfinite(integrals).all() or max(errors) > 0.1:
        return
    spread = max(integrals) - min(integrals)
    if spread > 0.02 + 6 * max(errors):
        low, high = int(np.argmin(integrals)), int(np.argmax(integrals))

        def size(at: int) -> float:
            return float(np.exp(integrals[at]) * unit**n_inputs)

        def place(at: int) -> str:
            return np.array2string(unit * conditions[at][0], precision=2)

        raise LawError(
            f"`transition` is no conditional density: the integral of exp(transition(new, old)) "
            f"over `new` is {size(low):.4g} at old = {place(low)} and {size(high):.4g} at old = "
            f"{place(high)}. Subtract its logarithm: a normaliser that depends on `old` is part of "
            f"the score"
        )


def _log_integral(
    function: Callable[[Array], Array],
    slope: Callable[[Array], Array],
    start: Array,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Logarithm of an integral by importance sampling, and its standard error."""
    d, step = start.shape[0], 1e-4

    def loss(x: Array) -> float:
        value = -function(x[np.newaxis])[0]
        return float(value) if np.isfinite(value) else 1e300

    def gradient(x: Array) -> Array:
        return np.asarray(np.nan_to_num(-slope(x[np.newaxis])[0]), dtype=np.float64)

    mode = optimize.minimize(loss, start, jac=gradient, method="BFGS", options={"maxiter": 100}).x
    hessian = np.empty((d, d))
    shifts = step * np.eye(d)
    for i in range(d):
        for j in range(d):
            corners = np.stack(
                [mode + a * shifts[i] + b * shifts[j] for a in (1, -1) for b in (1, -1)]
            )
            pp, pm, mp, mm = function(corners)
            hessian[i, j] = -(pp - pm - mp + mm) / (4 * step**2)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    if not np.isfinite(values).all():
        return np.nan, np.inf
    root = vectors / np.sqrt(np.maximum(values, 1e-2 * max(values.max(), 1e-8)))
    normal = rng.standard_normal((DRAWS, d))
    spread = np.sqrt(rng.chisquare(PROPOSAL_DF, DRAWS) / PROPOSAL_DF)
    draws = normal / spread[:, np.newaxis]
    df = PROPOSAL_DF
    constant = gammaln((df + d) / 2) - gammaln(df / 2) - d / 2 * np.log(df * np.pi)
    proposal = constant - (df + d) / 2 * np.log1p((draws**2).sum(axis=1) / df)
    proposal = proposal - np.linalg.slogdet(root)[1]
    logs = function(mode + draws @ root.T) - proposal
    logs = np.where(np.isnan(logs), -np.inf, logs)
    total = float(logsumexp(logs) - np.log(DRAWS))
    weights = np.exp(logs - total)
    return total, float(weights.std() / np.sqrt(DRAWS))
