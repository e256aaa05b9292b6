"""An estimated score: score matching on features of a step and its two neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._random import RandomState
from gloree.chains._base import Capabilities, Derivatives, LawError
from gloree.chains._features import Features, features_of
from gloree.chains._gaussian_var import GaussianVAR
from gloree.chains._markov import LawOfRows, law_derivatives
from gloree.sequences import Array, Batch, IntArray, as_sequences

MAX_ORDER = 4
"""Score tensors whose derivatives are written down."""

BLOCK = 4_096
"""Rows whose features are held at once."""

ROWS_PER_FEATURE, EDGE_ROWS_PER_FEATURE = 10, 50
"""Rows for each feature, at least, from which the score of a kind of steps is matched; more at the
ends of sequences, where the Gaussian chain has hardly anything to estimate."""

RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Relative ridges that are tried on the rows held out."""

HELD_OUT = 5
"""One sequence (one block of a long one) in so many is held out."""

N_BLOCKS = 50
"""Blocks of a single sequence, at least."""

SMALL_SLOPE = 0.05
"""Size of a row of the slopes below which its direction is noise, and the input is taken alone."""

N_GROUPS = 20
"""Groups of the held-out rows, for the noise of the Stein defect."""


@dataclass(frozen=True, eq=False)
class _Kind:
    """Features for steps with (or without) a past and a future, and their weights by ridge.

    None stands for the Gaussian chain.
    """

    features: Features
    weights: Array | None


class ScoreMatching(LawOfRows):
    r"""An estimated score, by score matching in closed form; build it with `ScoreMatching.fit`.

    The logarithm of the density of x_t given its neighbours is modelled as
    :math:`\sum_j \theta_j \psi_j(x_{t-1}, x_t, x_{t+1})`. Integration by parts makes the expected
    squared error of its gradient, up to a constant,

    .. math:: J(\theta) = E\Bigl[ \tfrac12 |\nabla_{x_t} \theta \cdot \psi|^2
              + \Delta_{x_t} \theta \cdot \psi \Bigr], \qquad
              \hat\theta = -\bigl(E[\nabla\psi \nabla\psi^T] + \lambda\bigr)^{-1} E[\Delta \psi]

    which does not need the density (Hyvärinen 2005; :eq:`score-matching`). First steps, last steps
    and others have weights of their own; of kinds of which there are too few steps to match, the
    score is that of the fitted `GaussianVAR`.

    Attributes
    ----------
    stein_defect : float
        |Q - C| / |C| on the rows held out, noise taken off (see `gloree.check_score`): below .3 the
        score may be used, above .45 it should not.
    gaussian_defect : float
        The same of the fitted Gaussian chain, on the same rows.
    noise_floor : float
        Its noise; a defect below it says nothing.
    ridge : float
        Relative ridge chosen on the rows held out.
    gaussian : GaussianVAR
        The chain where it starts.

    Notes
    -----
    It has no density of sequences and draws none: `log_density` and `sample` raise a `LawError`.

    References
    ----------
    .. [1] A. Hyvärinen, Estimation of non-normalized statistical models by score matching, Journal
       of Machine Learning Research 6 (2005).

    Examples
    --------
    >>> from gloree import datasets
    >>> from gloree.chains import ScoreMatching
    >>> X = datasets.make_inputs("tanh", 1000, 20, 3, random_state=0)
    >>> law = ScoreMatching.fit(X)
    >>> law.stein_defect < law.gaussian_defect
    True
    """

    def __init__(
        self,
        gaussian: GaussianVAR,
        centre: Array,
        whitening: Array,
        kinds: dict[tuple[bool, bool], _Kind],
    ) -> None:
        self.gaussian, self.centre, self.whitening, self._kinds = gaussian, centre, whitening, kinds
        self.stein_defect = self.gaussian_defect = self.noise_floor = self.ridge = float("nan")

    def __repr__(self) -> str:
        size = self._kinds[True, True].features.size
        return (
            f"ScoreMatching(n_inputs={self.n_inputs}, n_features={size}, "
            f"stein_defect={self.stein_defect:.2g})"
        )

    def __str__(self) -> str:
        return "score matching"

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""
        return self.gaussian.n_inputs

    @property
    def condition(self) -> float:
        """That of the Gaussian chain, whose covariances whiten the inputs."""
        return self.gaussian.condition

    @property
    def capabilities(self) -> Capabilities:
        """Score tensors up to order 4, at the ends of sequences too."""
        return Capabilities(max_score_order=MAX_ORDER, hermite=False, edges=True)

    def log_density(self, X: object, *, lengths: ArrayLike | None = None) -> Array:
        """Refuse: only the score is estimated."""
        raise LawError("`ScoreMatching` estimates a score, not a density: it has no log-density")

    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Refuse: only the score is estimated."""
        raise LawError("`ScoreMatching` estimates a score, not a density: it cannot draw sequences")

    def derivatives(self, batch: Batch, order: int) -> Derivatives:
        """Derivatives of the fitted log-density, as a function of rows (see `DerivativeLaw`)."""
        white = (self._rows_of(batch) - self.centre) @ self.whitening.T
        has_past, has_future = batch.steps_before > 0, batch.steps_after > 0
        gaussian, d = law_derivatives(self.gaussian, batch, order), self.n_inputs

        def found(rows: IntArray) -> tuple[Array, ...]:
            totals = tuple(np.empty((rows.shape[0],) + (d,) * k) for k in range(1, order + 1))
            for (past, future), kind in self._kinds.items():
                chosen = np.flatnonzero((has_past[rows] == past) & (has_future[rows] == future))
                if not chosen.size:
                    continue
                if kind.weights is None:
                    values = gaussian(rows[chosen])
                else:
                    sides = _sides(white, past, future, rows[chosen])
                    terms = kind.features.ridge_terms(*sides, order)
                    terms *= kind.features.sides(*sides[1:]) @ kind.weights
                    values = _tensors(terms, kind.features.directions @ self.whitening)
                for total, value in zip(totals, values, strict=True):
                    total[chosen] = value
            return totals

        return found

    @classmethod
    def fit(
        cls,
        X: object,
        *,
        lengths: ArrayLike | None = None,
        features: Callable[[Array, Array, Array], Features] = features_of,
    ) -> ScoreMatching:
        """Match the score of inputs, and measure its Stein defect on rows held out.

        Parameters
        ----------
        X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.
        features : callable, default `features_of`
            From a linear autoregression of the white inputs to `Features`.

        Raises
        ------
        NonStationaryChainError, ValueError
            As in `GaussianVAR.fit`, or if there are too few steps for the features.

        Notes
        -----
        A fifth of the sequences (blocks of a single one) is held out to choose the ridge and to
        measure the Stein defect; the weights come from the others. Time O(n_rows n_features^2),
        memory O(n_features^2).
        """
        gaussian = GaussianVAR.fit(X, lengths=lengths)
        batch = as_sequences(X, lengths=lengths).whole()
        centre, units = batch.X.mean(axis=0), batch.X.std(axis=0)
        # white by the root of the correlations, so that units of inputs make no difference
        correlation = np.corrcoef(batch.X.T).reshape([gaussian.n_inputs] * 2)
        values, vectors = np.linalg.eigh(correlation)
        whitening = (vectors / np.sqrt(values)) @ vectors.T / units
        back = units[:, np.newaxis] * (vectors * np.sqrt(values)) @ vectors.T
        slopes = whitening @ gaussian.coefficients[0] @ back
        size = np.sqrt(np.diag(whitening @ gaussian.innovation_covariance @ whitening.T))
        rows = gaussian.coefficients[0] @ back / units[:, np.newaxis]
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.where(norms > SMALL_SLOPE, rows / np.maximum(norms, 1e-300), back)
        every = features(slopes, size, rows / np.linalg.norm(rows, axis=1, keepdims=True))
        held = _held_out(batch)
        white = (batch.X - centre) @ whitening.T
        kinds, ridge = {}, float("nan")
        for past, future in ((True, True), (True, False), (False, True), (False, False)):
            chosen = every
            chosen = chosen if past else chosen.without("past")
            chosen = chosen if future else chosen.without("future")
            of_kind = (batch.steps_before > 0) == past
            of_kind &= (batch.steps_after > 0) == future
            rows = np.flatnonzero(of_kind & ~held)
            weights = None
            needed = ROWS_PER_FEATURE if past and future else EDGE_ROWS_PER_FEATURE
            if rows.size >= needed * chosen.size:
                others = np.flatnonzero(of_kind & held)
                weights, best = _matched(chosen, partial(_sides, white, past, future), rows, others)
                ridge = best if past and future else ridge
            elif past and future:
                raise ValueError(
                    f"{rows.size} steps with two neighbours for {chosen.size} features, and "
                    f"{ROWS_PER_FEATURE} a feature are needed: give more data, or use "
                    f"`GaussianVAR.fit`"
                )
            table = None if weights is None else chosen.of_ridges(weights)
            kinds[past, future] = _Kind(chosen, table)
        law = cls(gaussian, centre, whitening, kinds)
        law.ridge = ridge
        law.stein_defect, law.noise_floor = _defect(law, batch, white, held)
        law.gaussian_defect = _defect(gaussian, batch, white, held, back=back)[0]
        return law


def _sides(white: Array, past: bool, future: bool, rows: IntArray) -> tuple[Array, Array, Array]:
    """Rows with the ones before and after them, zeros where there are none."""
    now = white[rows]
    before = white[rows - 1] if past else np.zeros_like(now)
    after = white[rows + 1] if future else np.zeros_like(now)
    return now, before, after


def _held_out(batch: Batch) -> NDArray[np.bool_]:
    """Rows of every fifth sequence, or of every fifth block where there are few sequences."""
    sequence = np.repeat(np.arange(batch.lengths.shape[0]), batch.lengths)
    if batch.lengths.shape[0] < N_BLOCKS:
        sequence = np.arange(batch.n_rows) * N_BLOCKS // batch.n_rows
    return np.asarray(sequence % HELD_OUT == HELD_OUT - 1)


def _equations(
    features: Features, sides: Callable[[IntArray], tuple[Array, Array, Array]], rows: IntArray
) -> tuple[Array, Array]:
    """E[grad psi grad psi^T] and E[Laplacian psi] over some rows."""
    gram, laplacian = np.zeros((features.size, features.size)), np.zeros(features.size)
    for begin in range(0, rows.shape[0], BLOCK):
        now, before, after = sides(rows[begin : begin + BLOCK])
        first, second = features.ridge_terms(now, before, after, 2)
        factors = features.sides(before, after)[:, features.factors]
        full = first[:, features.ridges] * factors
        gram += full.T @ full
        laplacian += np.einsum("nf,nf->f", second[:, features.ridges], factors)
    directions = features.directions[features.ridges]
    products = directions @ directions.T
    return gram * products / rows.shape[0], laplacian * np.diag(products) / rows.shape[0]


def _matched(
    features: Features,
    sides: Callable[[IntArray], tuple[Array, Array, Array]],
    rows: IntArray,
    held_out: IntArray,
) -> tuple[Array, float]:
    """Weights of least objective on the rows held out, over a few ridges."""
    gram, laplacian = _equations(features, sides, rows)
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    scaled, right = gram / np.outer(scale, scale), -laplacian / scale
    solved = [
        np.linalg.solve(scaled + ridge * np.eye(features.size), right) / scale for ridge in RIDGES
    ]
    if not held_out.size:
        return solved[1], RIDGES[1]
    other, moved = _equations(features, sides, held_out)
    losses = [float(w @ other @ w / 2 + moved @ w) for w in solved]
    best = int(np.argmin(losses))
    return solved[best], RIDGES[best]


def _tensors(terms: Array, directions: Array) -> tuple[Array, ...]:
    """sum_j terms[k, n, j] w_j^(x)k for k = 1, .., of shapes (n_rows, n_inputs, ..)."""
    found, powers = [], np.ones((directions.shape[0], 1))
    d = directions.shape[1]
    for k in range(terms.shape[0]):
        powers = (powers[:, :, np.newaxis] * directions[:, np.newaxis, :]).reshape(len(powers), -1)
        found.append((terms[k] @ powers).reshape((-1,) + (d,) * (k + 1)))
    return tuple(found)


def _defect(
    law: ScoreMatching | GaussianVAR,
    batch: Batch,
    white: Array,
    held: NDArray[np.bool_],
    back: Array | None = None,
) -> tuple[float, float]:
    """Stein defect |Q - C| / |C| on rows held out, noise taken off, and the noise."""
    rows = np.flatnonzero(held)
    at = law_derivatives(law, batch, 2)
    if back is None:
        assert isinstance(law, ScoreMatching)
        back = np.asarray(np.linalg.inv(law.whitening), dtype=np.float64)
    i, j = np.triu_indices(white.shape[1])
    covariances = []
    for group in np.array_split(rows, N_GROUPS):
        if group.size < 2:
            continue
        first, second = at(group)
        scores = -first @ back
        tensors = scores[:, i] * scores[:, j] + (back.T @ second @ back)[:, i, j]
        squares = white[group][:, i] * white[group][:, j]
        tensors = tensors - tensors.mean(axis=0)
        covariances.append(tensors.T @ (squares - squares.mean(axis=0)) / group.size)
    stacked = np.array(covariances)
    target = np.diag(np.where(i == j, 2.0, 1.0))
    norm = float(np.linalg.norm(target))
    noise = float(np.sqrt((stacked.var(axis=0, ddof=1) / len(stacked)).sum())) / norm
    raw = float(np.linalg.norm(stacked.mean(axis=0) - target)) / norm
    return float(np.sqrt(max(raw**2 - noise**2, 0.0))), noise
