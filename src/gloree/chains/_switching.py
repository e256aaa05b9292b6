"""Mixtures of autoregressions and Markov-switching autoregressions.

One module because it is one class, and its estimation reads the same messages as its scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

import gloree.chains._linear_algebra as algebra
from gloree._parameters import check_integer
from gloree._random import RandomState, as_generator
from gloree.chains._base import Derivatives
from gloree.chains._chain_rule import cumulants, ratios_of_quadratic
from gloree.chains._gaussian_var import GaussianVAR
from gloree.chains._innovations import GaussianInnovations
from gloree.chains._markov import LawOfRows, check_sizes
from gloree.chains._messages import SMALLEST, messages
from gloree.sequences import Array, Batch, IntArray, as_sequences

FORGOTTEN = 1e-16
"""What the regime of a distant step may still change in the posterior of this one."""

PIECE, MARGIN = 256, 64
"""Steps of the pieces in which EM reads long sequences side by side, and of context around them."""

LONGEST_MEMORY = 2_000
"""Rows of context at most: where some transitions are impossible, no bound follows from them."""


class SwitchingVAR(LawOfRows):
    r"""Autoregression of order one whose regime follows a hidden Markov chain; mixtures included.

    .. math:: x_t = m_r + \Phi_r (x_{t-1} - m_r) + e_t, \qquad e_t \sim N(0, \Sigma_r),
              \quad r = r_t, \qquad P(r_{t+1} = b \mid r_t = a) = T_{ab}

    Given the regimes of t and t + 1 the log-density is quadratic in x_t, so that, with their
    posterior probabilities given the whole sequence (forward and backward recursion),

    .. math:: S_m(t) = \sum_{a,b} P(r_t = a, r_{t+1} = b \mid x) \, H_m(s^{ab}_t; K^{ab})

    with H_m the Hermite tensor (:eq:`switching-score`).

    Parameters
    ----------
    coefficients : array of shape (n_regimes, n_inputs, n_inputs)
        Phi of every regime; zeros for a mixture of independent steps.
    innovation_covariances : array of shape (n_regimes, n_inputs, n_inputs)
        Sigma of every regime.
    transition : array of shape (n_regimes, n_regimes) or (n_regimes,)
        Rows of T. One vector gives the probabilities of a mixture: the regime of every step is
        drawn anew.
    means : array of shape (n_regimes, n_inputs), optional
        m of every regime; zero by default.
    initial_covariances : array of shape (n_regimes, n_inputs, n_inputs), optional
        Covariance of x_1 about m in every regime; by default the stationary one of that regime
        alone.

    Raises
    ------
    ValueError
        If shapes do not fit, a covariance is not positive definite, or `transition` holds no
        probabilities.
    NonStationaryChainError
        If a regime alone has no stationary law, and no `initial_covariances` were given.

    Notes
    -----
    `r_1` has the stationary law of the hidden chain; where there are several (regimes that are
    never left), the one of least squares: equal chances for a `transition` of the identity, whose
    sequences have one regime each. The posterior depends on all of a sequence;
    `context` rows on either side of a piece of a long one change it by less than 1e-16 (by the
    contraction of the filter, [1]_), at most 2,000 where transitions are impossible.

    References
    ----------
    .. [1] R. Atar, O. Zeitouni, Exponential stability for nonlinear filtering, Annales de
       l'Institut Henri Poincaré (B) 33 (1997).

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import SwitchingVAR
    >>> law = SwitchingVAR(
    ...     coefficients=[0.5 * np.eye(2), -0.3 * np.eye(2)],
    ...     innovation_covariances=[np.eye(2), 4 * np.eye(2)],
    ...     transition=[[0.9, 0.1], [0.2, 0.8]],
    ... )
    >>> law
    SwitchingVAR(n_inputs=2, n_regimes=2)
    >>> law.sample(10, 20, random_state=0).shape
    (10, 20, 2)
    """

    def __init__(
        self,
        coefficients: ArrayLike,
        innovation_covariances: ArrayLike | Sequence[ArrayLike],
        transition: ArrayLike,
        means: ArrayLike | None = None,
        *,
        initial_covariances: ArrayLike | Sequence[ArrayLike] | None = None,
    ) -> None:
        phi = algebra.read_only(coefficients, "coefficients")
        if phi.ndim != 3 or phi.shape[1] != phi.shape[2] or phi.size == 0:
            raise ValueError(
                f"`coefficients` has shape {phi.shape}, expected (n_regimes, n_inputs, n_inputs)"
            )
        n_regimes, d = phi.shape[:2]
        sigma = algebra.read_only(innovation_covariances, "innovation_covariances")  # type: ignore[arg-type]
        centres = algebra.read_only(np.zeros((n_regimes, d)) if means is None else means, "means")
        for name, array, shape in (
            ("innovation_covariances", sigma, phi.shape),
            ("means", centres, (n_regimes, d)),
        ):
            if array.shape != shape:
                raise ValueError(f"`{name}` has shape {array.shape}, expected {shape}")
        starts = initial_covariances
        if starts is not None and np.shape(starts) != phi.shape:  # type: ignore[arg-type]
            raise ValueError(
                f"`initial_covariances` has shape {np.shape(starts)}, expected {phi.shape}"  # type: ignore[arg-type]
            )
        self.regimes = tuple(
            GaussianVAR(
                phi[r],
                sigma[r],
                centres[r],
                initial_covariance=None if starts is None else np.asarray(starts)[r],
            )
            for r in range(n_regimes)
        )
        self.transition = _probabilities(transition, n_regimes)
        self._start = [GaussianInnovations(each.first_steps_covariance) for each in self.regimes]
        self._noise = [GaussianInnovations(each.innovation_covariance) for each in self.regimes]

    def __repr__(self) -> str:
        return f"SwitchingVAR(n_inputs={self.n_inputs}, n_regimes={self.n_regimes})"

    def __str__(self) -> str:
        return f"switching VAR(1) of {self.n_regimes} regimes"

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""
        return self.regimes[0].n_inputs

    @property
    def arguments(self) -> dict[str, object]:
        """What the law was made of: ``SwitchingVAR(**law.arguments)`` is the same law."""
        starts = [each.initial_covariance for each in self.regimes]
        return {
            "coefficients": np.stack([each.coefficients[0] for each in self.regimes]),
            "innovation_covariances": np.stack(
                [each.innovation_covariance for each in self.regimes]
            ),
            "transition": self.transition,
            "means": np.stack([each.mean for each in self.regimes]),
            "initial_covariances": None if starts[0] is None else np.stack(starts),  # type: ignore[arg-type]
        }

    @property
    def n_regimes(self) -> int:
        """Number of regimes."""
        return len(self.regimes)

    @property
    def condition(self) -> float:
        """What rounding errors are multiplied by: the largest `GaussianVAR.condition`."""
        return max(each.condition for each in self.regimes)

    @cached_property
    def regime_probabilities(self) -> Array:
        """Stationary law of the regimes, (n_regimes,)."""
        k = self.n_regimes
        system = np.vstack((self.transition.T - np.eye(k), np.ones(k)))
        found = np.linalg.lstsq(system, np.append(np.zeros(k), 1.0), rcond=None)[0]
        found = np.maximum(found, 0.0)
        return algebra.frozen(found / found.sum())

    @cached_property
    def context(self) -> tuple[int, int]:
        """Rows before and after a step from which its regime is known as from all of them."""
        if np.allclose(self.transition, self.transition[0], 0.0, 1e-15):
            return 1, 1
        T = self.transition
        if (T <= 0).any():
            return LONGEST_MEMORY, LONGEST_MEMORY
        # Birkhoff: a positive matrix contracts the projective metric by tanh of a quarter diameter
        ratios = np.log(T)[:, np.newaxis, :] - np.log(T)[np.newaxis]
        diameter = np.ptp(ratios, axis=2).max()
        kept = np.log(np.tanh(diameter / 4))
        rows = np.log(FORGOTTEN) / min(kept, np.log(FORGOTTEN) / LONGEST_MEMORY)
        memory = int(min(np.ceil(rows) + 1, LONGEST_MEMORY))
        return memory, memory

    def _log_emissions(self, X: Array, batch: Batch) -> Array:
        """Log-density of every row given the one before, by regime; 0 where that is unseen."""
        found = np.zeros((batch.n_rows, self.n_regimes))
        first = np.flatnonzero(batch.steps_before == 0)
        later = np.flatnonzero(batch.local >= 1)
        for r, regime in enumerate(self.regimes):
            found[first, r] = self._start[r].log_density(X[first] - regime.mean)
            ahead = (X[later - 1] - regime.mean) @ regime.coefficients[0].T
            found[later, r] = self._noise[r].log_density(X[later] - regime.mean - ahead)
        return found

    def _messages(self, emissions: Array, batch: Batch) -> tuple[Array, Array, Array]:
        """Logs of forward and backward messages, and of p(x_t | x_1, .., x_{t-1}), of every row."""
        packing = batch.packing
        forward, backward, increments = messages(
            packing.pack(emissions), packing, self.regime_probabilities, self.transition
        )
        unpacked = packing.unpack(increments[:, np.newaxis])[:, 0]
        return packing.unpack(forward), packing.unpack(backward), unpacked

    def regime_posterior(
        self, X: object, *, lengths: ArrayLike | None = None
    ) -> Array | list[Array]:
        """Probability of every regime at every step given its sequence, in the form of `X`."""
        data = as_sequences(X, lengths=lengths)
        batch = data.whole()
        forward, backward, _ = self._messages(
            self._log_emissions(self._rows_of(batch), batch), batch
        )
        logs = forward + backward
        restored: Array | list[Array] = data.restore(
            np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
        )
        return restored

    def derivatives(self, batch: Batch, order: int) -> Derivatives:
        """Derivatives of the joint log-density, as a function of rows (see `DerivativeLaw`)."""
        X = self._rows_of(batch)
        emissions = self._log_emissions(X, batch)
        forward, backward, _ = self._messages(emissions, batch)
        first, last = batch.steps_before == 0, batch.steps_after == 0
        with np.errstate(divide="ignore"):
            log_T = np.log(self.transition)
        k, d = self.n_regimes, self.n_inputs

        def arriving(rows: IntArray, r: int) -> tuple[Array, Array]:
            """Gradient and negative Hessian of log p(x_t | x_{t-1}, r)."""
            regime, begins = self.regimes[r], first[rows]
            gradient = np.empty((rows.shape[0], d))
            curvature = np.empty((rows.shape[0], d, d))
            past = (X[rows - 1] - regime.mean) @ regime.coefficients[0].T
            past[begins] = 0.0
            away = X[rows] - regime.mean - past
            for chosen, law in ((begins, self._start[r]), (~begins, self._noise[r])):
                gradient[chosen] = -away[chosen] @ law.precision
                curvature[chosen] = law.precision
            return gradient, curvature

        def found(rows: IntArray) -> tuple[Array, ...]:
            ratios = [np.zeros((rows.shape[0],) + (d,) * m) for m in range(1, order + 1)]
            ends = last[rows]
            inside, place = rows[~ends], np.flatnonzero(~ends)
            logs = np.full((rows.shape[0], k, k), -np.inf)
            logs[ends, :, 0] = forward[rows[ends]]  # no next step: one pseudo regime
            onward = emissions[inside + 1] + backward[inside + 1]
            logs[place] = forward[inside][:, :, np.newaxis] + log_T + onward[:, np.newaxis, :]
            logs -= logsumexp(logs, axis=(1, 2), keepdims=True)
            weights = np.exp(logs)
            for a in range(k):
                gradient, curvature = arriving(rows, a)
                for b in range(k):
                    weight = weights[:, a, b]
                    if not weight.any():
                        continue
                    slope, matrix = gradient.copy(), curvature.copy()
                    regime, noise = self.regimes[b], self._noise[b]
                    phi = regime.coefficients[0]
                    ahead = X[inside + 1] - regime.mean - (X[inside] - regime.mean) @ phi.T
                    slope[place] += ahead @ noise.precision @ phi
                    matrix[place] += phi.T @ noise.precision @ phi
                    for total, tensor in zip(
                        ratios, ratios_of_quadratic(slope, matrix, order), strict=True
                    ):
                        total += tensor * weight.reshape((-1,) + (1,) * (tensor.ndim - 1))
            return cumulants(ratios)

        return found

    def log_density(self, X: object, *, lengths: ArrayLike | None = None) -> Array:
        """Log-density of every sequence, shape (n_sequences,)."""
        batch = as_sequences(X, lengths=lengths).whole()
        rows = self._messages(self._log_emissions(self._rows_of(batch), batch), batch)[2]
        return np.asarray(np.add.reduceat(rows, batch.starts), dtype=np.float64)

    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Draw sequences, shape (n_sequences, n_steps, n_inputs)."""
        check_sizes(n_sequences, n_steps)
        rng = as_generator(random_state)
        steps = np.empty((n_steps, n_sequences, self.n_inputs))
        r = rng.choice(self.n_regimes, n_sequences, p=self.regime_probabilities)
        for t in range(n_steps):
            if t:
                below = self.transition[r].cumsum(axis=1) < rng.random(n_sequences)[:, np.newaxis]
                r = np.minimum(below.sum(axis=1), self.n_regimes - 1)
            for regime in range(self.n_regimes):
                chosen = np.flatnonzero(r == regime)
                law = (self._noise if t else self._start)[regime]
                mean = self.regimes[regime].mean
                steps[t, chosen] = mean + law.sample(rng, chosen.size)
                if t:
                    past = steps[t - 1, chosen] - mean
                    steps[t, chosen] += past @ self.regimes[regime].coefficients[0].T
        return np.ascontiguousarray(steps.transpose(1, 0, 2))

    @classmethod
    def fit(
        cls,
        X: object,
        n_regimes: int = 2,
        *,
        lengths: ArrayLike | None = None,
        n_restarts: int = 4,
        max_iterations: int = 100,
        random_state: RandomState = None,
    ) -> SwitchingVAR:
        """Maximum likelihood by expectation and maximisation, the best of a few random starts.

        Parameters
        ----------
        X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
        n_regimes : int, default 2
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.
        n_restarts, max_iterations : int
            At least 1. Iterations end before when one raises the log-density by less than 1e-7
            of it.
        random_state : None, int, SeedSequence, Generator or RandomState

        Raises
        ------
        ValueError
            If `n_regimes` is below 1, or as in `GaussianVAR.fit`, where it starts.

        Notes
        -----
        The likelihood has several maxima, and this is a local search. The first steps count in the
        posterior of the regimes, and not in the weights. Sequences of more than 512 steps are read
        in pieces of 256 with 64 steps of context. Time O(n_restarts max_iterations n_rows
        n_regimes (n_regimes + n_inputs^2)), memory O(n_rows (n_regimes + n_inputs)).
        """
        n_regimes = check_integer("n_regimes", n_regimes, 1)
        n_restarts = check_integer("n_restarts", n_restarts, 1)
        max_iterations = check_integer("max_iterations", max_iterations, 1)
        data = as_sequences(X, lengths=lengths)
        batch = data.whole()
        # in units of their own about their mean: the ridges of EM know no others
        centre, scale = batch.X.mean(axis=0), batch.X.std(axis=0)
        start = GaussianVAR.fit(X, lengths=lengths).shifted(centre).scaled(1.0 / scale)
        if data.longest > 2 * PIECE:
            batch = next(data.batches(2 * data.n_rows, segment=PIECE, before=MARGIN, after=MARGIN))
        batch = replace(batch, X=(batch.X - centre) / scale)
        best, highest = None, -np.inf
        for rng in as_generator(random_state).spawn(n_restarts):
            # every regime starts near the Gaussian chain, with another spread
            factors = np.exp(rng.uniform(-1.5, 1.0, n_regimes))
            law = cls(
                [start.coefficients[0] * rng.uniform(0.0, 1.0) for _ in factors],
                [start.innovation_covariance * factor for factor in factors],
                np.full((n_regimes, n_regimes), 0.2 / n_regimes) + 0.8 * np.eye(n_regimes),
                np.tile(start.mean, (n_regimes, 1)),
                initial_covariances=[start.stationary_covariance] * int(n_regimes),
            )
            reached = -np.inf
            for _ in range(max_iterations):
                law, density = law._maximised(batch)
                gained, reached = density - reached, density
                if gained < 1e-7 * abs(density):
                    break
            if reached > highest:
                best, highest = law, reached
        assert best is not None
        return best._in_units(centre, scale)

    def _in_units(self, centre: Array, scale: Array) -> SwitchingVAR:
        """Law of centre + scale * x, as one of this class."""
        both = np.outer(scale, scale)
        return SwitchingVAR(
            [each.coefficients[0] * (scale[:, np.newaxis] / scale) for each in self.regimes],
            [each.scale * both for each in self._noise],
            self.transition,
            [each.mean * scale + centre for each in self.regimes],
            initial_covariances=[each.scale * both for each in self._start],
        )

    def _maximised(self, batch: Batch) -> tuple[SwitchingVAR, float]:
        """One iteration of EM: the next law, and the log-density of the data under this one."""
        X, d = batch.X, self.n_inputs
        emissions = self._log_emissions(X, batch)
        forward, backward, increments = self._messages(emissions, batch)
        logs = forward + backward
        posterior = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
        counted = batch.counted_rows
        later = counted[batch.local[counted] >= 1]
        with np.errstate(divide="ignore"):
            pairs = forward[later - 1][:, :, np.newaxis] + np.log(self.transition)
        pairs = pairs + (emissions[later] + backward[later])[:, np.newaxis, :]
        pairs = np.exp(pairs - logsumexp(pairs, axis=(1, 2), keepdims=True)).sum(axis=0)
        pairs = np.maximum(pairs, SMALLEST)  # a regime that no step is in still has transitions
        old, new = np.column_stack((np.ones(later.size), X[later - 1])), X[later]
        scale = np.cov(X.T).reshape(d, d) * 1e-6
        slopes, sigmas, means = [], [], []
        for r in range(self.n_regimes):
            weights = posterior[later, r]
            weighted = old * weights[:, np.newaxis]
            gram = weighted.T @ old
            ridge = 1e-9 * np.trace(gram) / (d + 1) * np.eye(d + 1)
            found = np.linalg.solve(gram + ridge, weighted.T @ new)
            away = new - old @ found
            count = max(float(weights.sum()), 1e-300)
            sigmas.append((away * weights[:, np.newaxis]).T @ away / count + scale)
            slopes.append(found[1:].T)
            means.append(np.linalg.lstsq(np.eye(d) - found[1:].T, found[0], rcond=None)[0])
        law = SwitchingVAR(
            np.array(slopes),
            [(each + each.T) / 2 for each in sigmas],
            pairs / pairs.sum(axis=1, keepdims=True),
            np.array(means),
            initial_covariances=[each.scale for each in self._start],
        )
        return law, float(increments[counted].sum())


def _probabilities(transition: ArrayLike, n_regimes: int) -> Array:
    """Transition matrix; the probabilities of a mixture become equal rows."""
    given = algebra.read_only(transition, "transition")
    matrix = np.tile(given, (n_regimes, 1)) if given.ndim == 1 else given
    if matrix.shape != (n_regimes, n_regimes):
        raise ValueError(
            f"`transition` has shape {given.shape}, expected ({n_regimes}, {n_regimes}) or "
            f"({n_regimes},)"
        )
    if (matrix < 0).any() or not np.allclose(matrix.sum(axis=1), 1.0, 0.0, 1e-8):
        raise ValueError("`transition` must hold probabilities: no negative entries, rows of sum 1")
    sums = matrix.sum(axis=1, keepdims=True)
    # what has been divided once stays as it is, so that a law can be made anew of its arguments
    rounding = n_regimes * np.finfo(np.float64).eps
    return algebra.frozen(matrix / np.where(np.abs(sums - 1.0) <= rounding, 1.0, sums))
