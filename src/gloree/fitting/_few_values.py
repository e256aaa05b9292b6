"""Inputs that take so few values that monomials of them are dependent.

Of binary inputs x_j^2 = 1, of one-hot columns x_j^2 = x_j: the average second derivative of a
polynomial in them is not defined, and the moment that a fit of degree two decomposes is anything.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gloree._monomials import n_monomials, symmetric_powers
from gloree.diagnostics import AcceptanceWarning, Finding
from gloree.fitting._problem import FitProblem
from gloree.sequences import Array

HEAD_ROWS = 4_000
"""Rows at the start of the data that are looked at."""

ROWS_PER_MONOMIAL = 4
"""Rows for each monomial, at least, for a look at all of them together."""

MOST_MONOMIALS = 400
"""Monomials whose Gram matrix is looked at, at most; of more inputs each column alone."""

MOST_COLUMNS = 40
"""Inputs beyond which too many pairs of them would have to be fitted."""

DEPENDENT = 1e-10
"""Eigenvalues of the Gram matrix of scaled monomials, relative to the largest, that count as 0."""


def with_few_values(problem: FitProblem) -> FitProblem:
    """The problem, noting that inputs take few values where they do.

    Only where nothing was asked for that needs a moment of one order.
    """
    settings = problem.settings
    free = isinstance(settings.moment, str) and settings.law is None
    chosen = settings.recurrence is None or settings.recurrence.name == "instrument"
    if not (free and chosen) or problem.n_inputs > MOST_COLUMNS or settings.refinement is None:
        return problem
    if settings.n_hidden is None and not settings.all_orders:
        # units are counted by the moment of one order
        return problem
    degree = settings.activation.degree if not settings.all_orders else None
    if not takes_few_values(problem.first_rows(HEAD_ROWS)[0], degree or 3):
        return problem
    return replace(problem, settings=replace(settings, few_values=True))


def uncounted(problem: FitProblem) -> tuple[Finding, ...]:
    """Say that units were counted by a moment that these inputs do not define, where they were."""
    settings = problem.settings
    if settings.n_hidden is not None or settings.lags > 1:
        return ()
    if not takes_few_values(problem.first_rows(HEAD_ROWS)[0], problem.degree):
        return ()
    text = (
        "`n_hidden=None` counts units by a moment of the inputs, and inputs that take few values "
        "(binary, one-hot columns) do not define it: their number may be any"
    )
    return (Finding(AcceptanceWarning, text, "set `n_hidden`, and compare the losses of several"),)


def takes_few_values(X: Array, degree: int) -> bool:
    """Whether monomials up to a degree of the columns are dependent, as constants are not.

    A column of at most `degree` values makes them so; a few hundred different rows may.
    """
    X = X / np.maximum(np.abs(X).max(axis=0, initial=0.0), 1e-300)  # squares may overflow
    X = X[:, X.std(axis=0) > 0.0]
    if not X.shape[1]:
        return False
    if any(np.unique(column[: 20 * degree]).size <= degree for column in X.T):
        return any(np.unique(column).size <= degree for column in X.T)
    n, d = X.shape
    size = sum(n_monomials(d, m) for m in range(1, degree + 1))
    if size > MOST_MONOMIALS or n < ROWS_PER_MONOMIAL * size or np.unique(X[:, 0]).size > n // 2:
        return False
    X = np.ascontiguousarray(((X - X.mean(axis=0)) / X.std(axis=0)).T)
    if not _independent(X):
        return False
    return not _independent(np.concatenate([symmetric_powers(X, m) for m in range(1, degree + 1)]))


def _independent(phi: Array) -> bool:
    phi = phi - phi.mean(axis=1, keepdims=True)
    phi = phi / np.maximum(np.linalg.norm(phi, axis=1, keepdims=True), 1e-300)
    values = np.linalg.eigvalsh(phi @ phi.T)
    return bool(values[0] > DEPENDENT * values[-1])
