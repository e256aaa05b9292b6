"""Gaussian vector autoregressions of any order, with exact scores at the ends of sequences.

One module because it is one class, half of it documentation, whose parts share derived matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

import gloree.chains._linear_algebra as algebra
from gloree._arrays import copied, index, like
from gloree._html import html_matrix, html_page
from gloree._random import RandomState, as_generator
from gloree.chains._base import Capabilities, Derivatives, NonStationaryChainError
from gloree.chains._markov import check_scale, check_sizes, hermite_derivatives
from gloree.chains._moments import LagMoments, lag_moments, require_context
from gloree.engine import Engine, Source
from gloree.sequences import Array, Batch, IntArray, as_sequences

Initial = Literal["stationary", "data"]

STATIONARY_LIMIT = 1.0 - 1e-8
"""Largest spectral radius taken for stationary: nearer to 1 the law drowns in rounding."""


@dataclass(frozen=True, eq=False, repr=False)
class GaussianVAR:
    r"""Gaussian vector autoregression of order p.

    .. math:: x_t = m + \sum_{k=1}^{p} \Phi_k (x_{t-k} - m) + e_t, \qquad e_t \sim N(0, \Sigma)

    The first p steps of a sequence follow the stationary law, or a Gaussian law with the given
    covariance. The score of a step is linear in the step and its p neighbours on either side: with
    P = Sigma^-1,

    .. math:: s_t = P e_t - \sum_{k=1}^{p} \Phi_k^T P e_{t+k} \quad\text{(interior)}, \qquad
              \operatorname{Cov}(s_t) = P + \sum_k \Phi_k^T P \Phi_k .

    Near the ends the terms that do not exist are left out, and the law of the first steps comes
    in: scores are exact for sequences of every length, 1 included.

    Parameters
    ----------
    coefficients : array of shape (order, n_inputs, n_inputs) or (n_inputs, n_inputs)
        Phi_1, .., Phi_p. The second form is order 1; shape (0, n_inputs, n_inputs) means
        independent steps.
    innovation_covariance : array of shape (n_inputs, n_inputs)
        Sigma, positive definite.
    mean : array of shape (n_inputs,), optional
        m; zero by default.
    initial_covariance : array of shape (order n_inputs, order n_inputs), optional
        Covariance of (x_1, .., x_p), oldest first; by default that of the stationary law.

    Attributes
    ----------
    order, n_inputs : int
    spectral_radius, condition : float
    is_stationary : bool
        And the parameters, as arrays of float64 that cannot be written to.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If shapes do not fit, values are not finite, or a covariance is not positive definite.

    Notes
    -----
    Derived matrices are computed once, when first needed. A chain with a spectral radius of 1 or
    more can be built, but everything that needs the stationary law raises
    `NonStationaryChainError`. The scores are :eq:`var1` for order 1 and :eq:`varp` in general.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import GaussianVAR
    >>> chain = GaussianVAR([[0.5, 0.1], [0.0, 0.3]], np.eye(2))
    >>> chain
    GaussianVAR(n_inputs=2, order=1, spectral_radius=0.5)
    >>> X = chain.sample(200, 50, random_state=0)
    >>> fitted = GaussianVAR.fit(X)
    >>> bool(np.abs(fitted.coefficients - chain.coefficients).max() < 0.05)
    True
    """

    coefficients: Array
    innovation_covariance: Array
    mean: Array
    initial_covariance: Array | None

    def __init__(
        self,
        coefficients: ArrayLike,
        innovation_covariance: ArrayLike,
        mean: ArrayLike | None = None,
        *,
        initial_covariance: ArrayLike | None = None,
    ) -> None:
        phi = algebra.read_only(coefficients, "coefficients")
        if phi.ndim == 2:
            phi = phi[np.newaxis]
        if phi.ndim != 3 or phi.shape[1] != phi.shape[2] or phi.shape[1] == 0:
            raise ValueError(
                f"`coefficients` has shape {np.shape(coefficients)}, expected (order, n_inputs, "
                f"n_inputs), or (n_inputs, n_inputs) for order 1"
            )
        order, n_inputs = phi.shape[:2]
        sigma = algebra.positive_definite(innovation_covariance, "innovation_covariance", n_inputs)
        centre = algebra.read_only(np.zeros(n_inputs) if mean is None else mean, "mean")
        if centre.shape != (n_inputs,):
            raise ValueError(
                f"`mean` has shape {centre.shape}, expected ({n_inputs},) to match `coefficients`"
            )
        start = initial_covariance
        if start is not None and order == 0:
            raise ValueError("`initial_covariance` was given, but a chain of order 0 has no past")
        if start is not None:
            start = algebra.positive_definite(start, "initial_covariance", order * n_inputs)
        for each, value in zip(fields(self), (phi, sigma, centre, start), strict=True):
            object.__setattr__(self, each.name, value)

    def __repr__(self) -> str:
        return (
            f"GaussianVAR(n_inputs={self.n_inputs}, order={self.order}, "
            f"spectral_radius={self.spectral_radius:.3g})"
        )

    def __str__(self) -> str:
        return f"Gaussian VAR({self.order})"

    def _repr_html_(self) -> str:
        text = f"{self.n_inputs} inputs, spectral radius {self.spectral_radius:.3g}"
        matrices = [html_matrix(lag, f"lag {i + 1}") for i, lag in enumerate(self.coefficients[:2])]
        noise = html_matrix(self.innovation_covariance, "covariance of the innovations")
        return html_page(str(self), text, *matrices, noise)

    @property
    def order(self) -> int:
        """Steps of the past that the next step depends on, p."""
        return int(self.coefficients.shape[0])

    @property
    def n_inputs(self) -> int:
        """Dimension of one step, d."""
        return int(self.coefficients.shape[1])

    @property
    def context(self) -> tuple[int, int]:
        """Rows before and after a step that its score depends on."""
        return self.order, self.order

    @property
    def capabilities(self) -> Capabilities:
        """Hermite score tensors of every order, exact at the ends of sequences."""
        return Capabilities(max_score_order=None, hermite=True, edges=True)

    @cached_property
    def spectral_radius(self) -> float:
        """Largest modulus of an eigenvalue of the companion matrix."""
        if self.order == 0:
            return 0.0
        return float(np.abs(np.linalg.eigvals(algebra.companion_matrix(self.coefficients))).max())

    @property
    def is_stationary(self) -> bool:
        """Whether a stationary law exists (spectral radius below 1)."""
        return self.spectral_radius <= STATIONARY_LIMIT

    @cached_property
    def condition(self) -> float:
        """What rounding errors are multiplied by: scores hold about 16 - log10(condition) digits.

        The largest condition number of the correlations of innovations and of the first p steps,
        whose inverses make the scores, and the root of that of p + 1 neighbouring steps, by which
        innovations are smaller than the steps that they are a difference of.
        """
        found = algebra.correlation_condition(self.innovation_covariance)
        if self.order == 0 or (self.initial_covariance is None and not self.is_stationary):
            return found
        past = self.first_steps_covariance
        slopes = np.concatenate([*self.coefficients[::-1]], axis=1)
        ahead = slopes @ past
        now = ahead @ slopes.T + self.innovation_covariance
        window = np.block([[past, ahead.T], [ahead, now]])
        roots = np.sqrt(algebra.correlation_condition(window))
        return float(max(found, algebra.correlation_condition(past), roots))

    @cached_property
    def precision(self) -> Array:
        """Innovation precision P = Sigma^-1, shape (n_inputs, n_inputs)."""
        return algebra.frozen(algebra.inverse(self.innovation_covariance))

    @cached_property
    def stationary_covariance(self) -> Array:
        """Covariance of one step under the stationary law, shape (n_inputs, n_inputs)."""
        return algebra.frozen(self._companion_covariance[: self.n_inputs, : self.n_inputs].copy())

    @cached_property
    def first_steps_covariance(self) -> Array:
        """Covariance of (x_1, .., x_p), oldest first: the stationary one, unless one was given."""
        if self.initial_covariance is not None:
            return self.initial_covariance
        p, d = self.order, self.n_inputs
        if p == 0:
            return np.zeros((0, 0))
        blocks = self._companion_covariance.reshape(p, d, p, d)[::-1, :, ::-1, :]
        return algebra.frozen(blocks.reshape(p * d, p * d))

    @cached_property
    def _companion_covariance(self) -> Array:
        """Stationary covariance of (x_t, .., x_{t-p+1}), most recent first."""
        if not self.is_stationary:
            raise NonStationaryChainError(
                f"the chain has no stationary law: its spectral radius is "
                f"{self.spectral_radius:.6g}, and must be below 1. Difference or detrend the "
                f"inputs, lower the order, or give the law of the first steps "
                f"(`initial_covariance`, of a `StudentVAR` `initial_scale`; `initial='data'` when "
                f"fitting)"
            )
        if self.order == 0:
            return self.innovation_covariance
        companion = algebra.companion_matrix(self.coefficients)
        noise = np.zeros_like(companion)
        noise[: self.n_inputs, : self.n_inputs] = self.innovation_covariance
        return algebra.discrete_lyapunov(companion, noise)

    @cached_property
    def _start_precisions(self) -> list[Array]:
        """Inverse covariance of the first m of the first p steps, for m = 0, .., p."""
        covariance, d = self.first_steps_covariance, self.n_inputs
        sizes = range(d, (self.order + 1) * d, d)
        return [np.zeros((0, 0)), *(algebra.inverse(covariance[:n, :n]) for n in sizes)]

    # -- the joint precision ----------------------------------------------------------------

    @property
    def n_boundary_types(self) -> int:
        """Number of boundary types, (p + 1)^2.

        A step with `before` steps before it and `after` steps after it is of type
        (p - min(before, p)) (p + 1) + p - min(after, p). For order 1: 0 interior, 1 last,
        2 first, 3 the only step.
        """
        return (self.order + 1) ** 2

    def boundary_types(self, batch: Batch) -> IntArray:
        """Boundary type of every row of a batch, shape (n_rows,)."""
        p = self.order
        before, after = np.minimum(batch.steps_before, p), np.minimum(batch.steps_after, p)
        types: IntArray = (p - before) * (p + 1) + (p - after)
        return types

    def boundary_name(self, boundary_type: int) -> str:
        """Which steps are of this boundary type, in words."""
        p = self.order
        if not 0 <= boundary_type < self.n_boundary_types:
            raise ValueError(
                f"`boundary_type` is {boundary_type}, expected one of 0 to "
                f"{self.n_boundary_types - 1}"
            )
        before, after = self._surroundings(boundary_type)
        if before == p and after == p:
            return "interior"
        if p == 1 and before == after:
            return "only step"
        parts = []
        if before < p:
            parts.append("first" if before == 0 else f"first + {before}")
        if after < p:
            parts.append("last" if after == 0 else f"last - {after}")
        return ", ".join(parts)

    def _surroundings(self, boundary_type: int) -> tuple[int, int]:
        """Steps before and after a step of this boundary type, each at most p."""
        missing_before, missing_after = divmod(boundary_type, self.order + 1)
        return self.order - missing_before, self.order - missing_after

    def precision_block(self, before: int, after: int, lag: int = 0) -> Array:
        """Cov(s_t, s_{t-lag}) = -grad_{x_t} grad_{x_{t-lag}} log p, shape (n_inputs, n_inputs).

        Step t has `before` steps before it in its sequence and `after` steps after it. At lag 0
        this is K, the covariance of the score; at lag 1 of a chain of order 1, -P Phi. If there is
        no step t - lag, it is a ValueError.
        """
        if before < lag or after < 0 or lag < 0:
            raise ValueError(
                f"a step with `before` = {before} and `after` = {after} steps around it has no "
                f"neighbour at `lag` = {lag}"
            )
        p, d = self.order, self.n_inputs
        slopes = [np.eye(d), *(-self.coefficients)]  # of e_{t+k} in x_t, for k = 0, .., p
        block = np.zeros((d, d))
        for ahead in range(p - lag + 1):
            # The residual of step t + ahead holds both x_t and x_{t-lag}, if it has its own past.
            if before + ahead >= p and ahead <= after:
                block += slopes[ahead].T @ self.precision @ slopes[ahead + lag]
        if before < p:
            n_first = min(before + after + 1, p)
            start = self._start_precisions[n_first].reshape(n_first, d, n_first, d)
            block += start[before, :, before - lag, :]
        return (block + block.T) / 2 if lag == 0 else block

    def precision_blocks(self, lag: int = 0) -> Array:
        """Cov(s_t, s_{t-lag}) for each boundary type of t, (n_boundary_types, n_inputs, n_inputs).

        Lag 0 gives K, which is computed once. Zero for boundary types of steps that may have no
        step t - lag before them.
        """
        return self.score_covariances if lag == 0 else self._blocks(lag)

    @cached_property
    def score_covariances(self) -> Array:
        """Covariance K of the score of every boundary type: `precision_blocks` of lag 0."""
        return algebra.frozen(self._blocks(0))

    def _blocks(self, lag: int) -> Array:
        blocks = np.zeros((self.n_boundary_types, self.n_inputs, self.n_inputs))
        for boundary_type in range(self.n_boundary_types):
            before, after = self._surroundings(boundary_type)
            # A step with p steps before it or more has any neighbour that is correlated with it.
            if before >= lag:
                blocks[boundary_type] = self.precision_block(before, after, lag)
        return blocks

    def joint_precision(self, n_steps: int) -> Array:
        """Precision of (x_1, .., x_n) stacked, shape (n_steps n_inputs, n_steps n_inputs).

        Memory O((n_steps n_inputs)^2): meant for teaching and tests.
        """
        d = self.n_inputs
        joint = np.zeros((n_steps, d, n_steps, d))
        for step in range(n_steps):
            for lag in range(min(step, self.order) + 1):
                block = self.precision_block(step, n_steps - 1 - step, lag)
                joint[step, :, step - lag, :] = block
                joint[step - lag, :, step, :] = block.T
        return joint.reshape(n_steps * d, n_steps * d)

    # -- scores, density, samples -----------------------------------------------------------

    def residuals(self, batch: Batch) -> Array:
        """Innovations e_t, shape (n_rows, n_inputs); zero for the first p rows of a segment."""
        centred = batch.X - like(batch.X, self.mean)
        residuals: Array = copied(centred)
        for lag, coefficient in enumerate(self.coefficients, start=1):
            residuals[lag:] -= centred[:-lag] @ like(centred, coefficient.T)
        # Whatever crossed into the next segment lies in its first p rows.
        residuals[index(residuals, batch.local < self.order)] = 0.0
        return residuals

    def scores(self, batch: Batch) -> Array:
        """First-order partial score s_t = -grad_{x_t} log p(x_1, .., x_n), (n_rows, n_inputs).

        Segments cut out of a sequence must carry p rows of context on either side. Context rows
        whose own neighbours are not in the batch get a score of zero.

        Raises
        ------
        ValueError
            If a segment lacks context.
        NonStationaryChainError
            If a sequence begins in the batch and the law of its first steps does not exist.

        Notes
        -----
        Time O(n_rows p n_inputs^2), memory O(n_rows n_inputs).
        """
        self._check_batch(batch)
        residuals = self.residuals(batch)
        weighted = residuals @ like(residuals, self.precision)
        scores: Array = copied(weighted)
        for lag, coefficient in enumerate(self.coefficients, start=1):
            # Rows beyond the segment's end fall on zeros, see `residuals`.
            scores[:-lag] -= weighted[lag:] @ like(weighted, coefficient)
        for _, rows, start, weights in self._starts(batch):
            scores[rows] += (start @ like(scores, weights)).reshape(-1, self.n_inputs)
        if batch.has_context:
            p = self.order
            unseen = (batch.steps_before != batch.local) & (batch.local < p)
            remaining = np.repeat(batch.lengths - 1, batch.lengths) - batch.local
            unseen |= (batch.steps_after != remaining) & (remaining < p)
            scores[index(scores, unseen)] = 0.0
        return scores

    def derivatives(self, batch: Batch, order: int) -> Derivatives:
        """Derivatives of the log-density in one step: -s, -K and zero (see `DerivativeLaw`)."""
        return hermite_derivatives(self, batch, order)

    def log_density(self, X: object, *, lengths: ArrayLike | None = None) -> Array:
        """Exact log-density of every sequence, shape (n_sequences,).

        Parameters
        ----------
        X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.

        Raises
        ------
        NonStationaryChainError
            If the law of the first steps does not exist.

        Notes
        -----
        Time O(n_rows p n_inputs^2); memory that of one batch of rows.

        Examples
        --------
        >>> import numpy as np
        >>> from gloree.chains import GaussianVAR
        >>> GaussianVAR([[0.0]], [[1.0]]).log_density(np.zeros((1, 2, 1))).round(6)
        array([-1.837877])
        """
        batches = as_sequences(X, lengths=lengths).batches()
        return np.concatenate([self._log_density(batch) for batch in batches])

    def _log_density(self, batch: Batch) -> Array:
        self._check_batch(batch)
        residuals = self.residuals(batch)
        squares = np.einsum("ni,ni->n", residuals @ self.precision, residuals)
        quadratic = np.add.reduceat(squares, batch.starts)
        later = np.maximum(batch.lengths - self.order, 0)
        quadratic += later * np.linalg.slogdet(self.innovation_covariance)[1]
        for segments, _, start, weights in self._starts(batch):
            quadratic[segments] += np.einsum("ni,ni->n", start @ weights, start)
            quadratic[segments] -= np.linalg.slogdet(weights)[1]
        constant = batch.lengths * (self.n_inputs * np.log(2 * np.pi))
        return np.asarray(-0.5 * (quadratic + constant), dtype=np.float64)

    def _starts(self, batch: Batch) -> Iterator[tuple[IntArray, IntArray, Array, Array]]:
        """Segments that begin a sequence, grouped by how many of its first p steps exist.

        Each group comes with the rows of these steps, their deviations from the mean (a row for
        each segment), and the inverse covariance of these.
        """
        begins = np.flatnonzero(batch.from_start & (self.order > 0))
        sizes = np.minimum(batch.lengths[begins], self.order)
        for size in np.unique(sizes):
            segments = begins[sizes == size]
            rows = index(batch.X, (batch.starts[segments, np.newaxis] + np.arange(size)).ravel())
            start = batch.X[rows] - like(batch.X, self.mean)
            yield segments, rows, start.reshape(len(segments), -1), self._start_precisions[size]

    def _check_batch(self, batch: Batch) -> None:
        if batch.X.shape[1] != self.n_inputs:
            raise ValueError(
                f"`X` has {batch.X.shape[1]} columns, but the chain has n_inputs = {self.n_inputs}"
            )
        require_context(batch, *self.context)

    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Draw sequences, shape (n_sequences, n_steps, n_inputs).

        Raises
        ------
        NonStationaryChainError
            If the law of the first steps does not exist.

        Notes
        -----
        Time O(n_sequences n_steps p n_inputs^2); a loop over steps, vectorised over sequences.
        """
        check_sizes(n_sequences, n_steps)
        rng = as_generator(random_state)
        p, d = self.order, self.n_inputs
        # Time first: a step of all sequences is contiguous.
        steps = rng.standard_normal((n_steps, n_sequences, d))
        n_first = min(p, n_steps)
        if n_first:
            covariance = self.first_steps_covariance[: n_first * d, : n_first * d]
            noise = steps[:n_first].transpose(1, 0, 2).reshape(n_sequences, n_first * d)
            start = noise @ np.linalg.cholesky(covariance).T
            steps[:n_first] = start.reshape(n_sequences, n_first, d).transpose(1, 0, 2)
        steps[n_first:] = steps[n_first:] @ np.linalg.cholesky(self.innovation_covariance).T
        for step in range(n_first, n_steps):
            for lag, coefficient in enumerate(self.coefficients, start=1):
                steps[step] += steps[step - lag] @ coefficient.T
        return np.ascontiguousarray((steps + self.mean).transpose(1, 0, 2))

    def shifted(self, offset: ArrayLike) -> GaussianVAR:
        """Law of x - offset, with an offset of shape (n_inputs,): the mean is lowered by it."""
        moved = algebra.read_only(offset, "offset")
        if moved.shape != (self.n_inputs,):
            raise ValueError(f"`offset` has shape {moved.shape}, expected ({self.n_inputs},)")
        given = self.coefficients, self.innovation_covariance, self.mean - moved
        return GaussianVAR(*given, initial_covariance=self.initial_covariance)

    def scaled(self, scale: ArrayLike) -> GaussianVAR:
        """Law of scale * x, with positive factors of shape (n_inputs,)."""
        factors = check_scale(scale, self.n_inputs)
        start = self.initial_covariance
        if start is not None:
            start = start * np.outer(np.tile(factors, self.order), np.tile(factors, self.order))
        return GaussianVAR(
            self.coefficients * (factors[:, np.newaxis] / factors),
            self.innovation_covariance * np.outer(factors, factors),
            self.mean * factors,
            initial_covariance=start,
        )

    # -- estimation -------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        X: object,
        *,
        lengths: ArrayLike | None = None,
        order: int = 1,
        initial: Initial = "stationary",
    ) -> GaussianVAR:
        """Fit by least squares of every step on its `order` predecessors, in one pass.

        Parameters
        ----------
        X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.
        order : int, default 1
            p; 0 fits independent steps.
        initial : {"stationary", "data"}, default "stationary"
            Law of the first p steps: the stationary law of the fitted recursion, or a Gaussian law
            with the second moment of the first p steps of all sequences about the mean. Use the
            latter for many sequences that start from rest.

        Raises
        ------
        NonStationaryChainError
            If the fit has no stationary law and `initial` asks for it.
        ValueError
            If there are too few steps, or columns are constant or collinear.

        Notes
        -----
        All comes from the covariance of (x_t, .., x_{t-p}). The innovation covariance divides by
        the number of these windows (maximum likelihood given the first steps). Time
        O(n_rows ((p + 1) n_inputs)^2 + (p n_inputs)^3).

        Examples
        --------
        >>> import numpy as np
        >>> from gloree.chains import GaussianVAR
        >>> x = np.random.default_rng(0).standard_normal((500, 2))
        >>> GaussianVAR.fit(x, order=2).coefficients.shape
        (2, 2, 2)
        """
        if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or order < 0:
            raise ValueError(f"`order` is {order!r}, expected an integer of at least 0")
        data = as_sequences(X, lengths=lengths, keep_tensors=True)
        source = Source.around(data, before=int(order), after=0)
        moments = Engine().run(partial(lag_moments, order=int(order)), source)
        return cls.from_moments(moments, initial=initial)

    @classmethod
    def from_moments(
        cls,
        moments: LagMoments,
        *,
        initial: Initial = "stationary",
        require_stationary: bool = True,
    ) -> GaussianVAR:
        """Fit from the sums of a pass (see `lag_moments`).

        Parameters
        ----------
        moments : LagMoments
            Its `order` becomes the chain's.
        initial : {"stationary", "data"}, default "stationary"
            As in `fit`, and so are the exceptions.
        require_stationary : bool, default True
            With False a chain without a stationary law is returned; ask `is_stationary`.
        """
        if initial not in ("stationary", "data"):
            raise ValueError(f"`initial` is {initial!r}, expected 'stationary' or 'data'")
        summary = moments.finalize()
        coefficients, innovation, mean = algebra.regress_on_past(summary)
        given = initial == "data" and summary.order > 0
        start = algebra.second_moment_of_starts(summary, mean) if given else None
        chain = cls(coefficients, innovation, mean, initial_covariance=start)
        if require_stationary and start is None and not chain.is_stationary:
            raise NonStationaryChainError(
                f"the fitted chain of order {chain.order} has spectral radius "
                f"{chain.spectral_radius:.6g}: the inputs wander or grow, and no stationary law "
                f"exists. Difference or detrend the inputs, lower `order`, or use "
                f"initial='data' with many sequences"
            )
        return chain
