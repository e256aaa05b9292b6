"""Moments of the paper: E[y (x) S_l(t)], and E[y (x) S_{l^2}] of the step before or after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement, permutations
from math import factorial

import numpy as np

from gloree._arrays import like, take_rows, to_host
from gloree._monomials import apply_to_modes, block_rows
from gloree._sums import Sums
from gloree.chains import HermiteLaw, law_derivatives
from gloree.engine import Engine, Source
from gloree.models import ExplosionError, Network
from gloree.moments import cross_moment_sums
from gloree.score_functions import bell_tensors
from gloree.sequences import Array, Batch, IntArray, Sequences
from gloree.states import residual_rows, run_states

MOST_ENTRIES = 2**20
"""Entries of a score tensor in the coordinates of the units that is formed for one row."""


def indices_of_units(n_hidden: int, degree: int) -> list[tuple[int, ...]]:
    """Units m_1 <= .. <= m_l of every different entry of a symmetric tensor of order l."""
    return list(combinations_with_replacement(range(n_hidden), degree))


@dataclass(frozen=True)
class HighOrderSums(Sums):
    """Sums of (A2^+ y_t)_i S_{l^2}(t')(v_{m_1}^l, .., v_{m_l}^l), for t' = t - 1 or t + 1.

    `moment` has shape (n_hidden, n_entries): units i, and the entries m_1 <= .. <= m_l; `outputs`
    are the sums of A2^+ y, `scores` those of the contracted score tensors, expected zero.
    """

    n_rows: float
    moment: Array
    outputs: Array
    scores: Array

    def finalize(self) -> Array:
        """Mean with the outputs centred, which lowers the variance: (n_hidden, n_entries).

        A ValueError if no step has a neighbour.
        """
        n = self.n_rows
        if n == 0:
            raise ValueError(
                "all sequences have a single step: the recurrence is told by the score of the step "
                "before (after), and there is none"
            )
        return self.moment / n - np.outer(self.outputs / n, self.scores / n)


def second_moment_sums(
    batch: Batch, law: HermiteLaw, dual: Array, readout: Array, degree: int, shift: int
) -> HighOrderSums:
    r"""Sums of one batch for the recurrence: the score of order l^2, contracted exactly.

    Along l directions, each l times, the score tensor of a law with a quadratic log-density is the
    Hermite polynomial of several variables :math:`\beta_m = s \cdot v_m` with covariance
    :math:`\sigma = V K V^T`,

    .. math:: H_{\alpha + e_i} = \beta_i H_\alpha - \sum_j \sigma_{ij} \alpha_j H_{\alpha - e_j},

    so no tensor of order l^2 is formed. For other laws the derivatives are projected on the
    directions first, and the tensor is formed in these few coordinates, a block of rows at a time.

    Parameters
    ----------
    batch : Batch
        With the context that the law's score needs, and one row more on the side of `shift`.
    law : HermiteLaw or DerivativeLaw
    dual : ndarray of shape (n_hidden, n_inputs)
        v: V A1^T = 1.
    readout : ndarray of shape (n_outputs, n_hidden)
        Pseudo-inverse of A2.
    degree : int
        l.
    shift : {-1, 1}
        Whether the score is that of the step before or after the output.
    """
    rows = batch.counted_rows
    inside = batch.local[rows] >= 1 if shift < 0 else batch.local_after[rows] >= 1
    rows = rows[inside]
    k, places = dual.shape[0], indices_of_units(dual.shape[0], degree)
    weights = np.ones(rows.shape[0]) if batch.weights is None else batch.weights[rows]
    signal = to_host(take_rows(batch.targets, rows)) @ readout * weights[:, np.newaxis]
    moment, scores = np.zeros((k, len(places))), np.zeros(len(places))
    for at, entries in _contracted(batch, law, rows + shift, dual, degree, places):
        moment += signal[at].T @ entries
        scores += weights[at] @ entries
    return HighOrderSums(float(weights.sum()), moment, signal.sum(axis=0), scores)


def _contracted(
    batch: Batch,
    law: HermiteLaw,
    rows: IntArray,
    dual: Array,
    degree: int,
    places: Sequence[tuple[int, ...]],
) -> Iterator[tuple[IntArray, Array]]:
    """Blocks of positions in `rows`, with S_{l^2}(v_{m_1}^l, .., v_{m_l}^l) of these rows."""
    k, order = dual.shape[0], degree**2
    if law.capabilities.hermite:
        scores, types = law.scores(batch), law.boundary_types(batch)[rows]
        beta = to_host(take_rows(scores @ like(scores, dual.T), rows))
        covariances = dual @ law.precision_blocks(0) @ dual.T
        powers = [tuple(degree * place.count(m) for m in range(k)) for place in places]
        step = block_rows(4 * len(places))
        for kind in np.unique(types):
            mine = np.flatnonzero(types == kind)
            for begin in range(0, mine.shape[0], step):
                at = mine[begin : begin + step]
                yield at, hermite_of_several(beta[at], covariances[kind], powers)
        return
    if k**order > MOST_ENTRIES:
        raise ValueError(
            f"a score tensor of order {order} of {k} units has {k**order} entries, and `law` "
            f"({law!r:.60}) is not Gaussian: use fewer units, `degree` = 2, a `GaussianVAR`, or an "
            f"estimator"
        )
    derivatives = law_derivatives(law, batch, order)
    strides = k ** np.arange(order - 1, -1, -1)
    flat = [int(np.repeat(place, degree) @ strides) for place in places]
    step = block_rows(max(k**order, law.n_inputs**order))
    for begin in range(0, rows.shape[0], step):
        at = np.arange(begin, min(begin + step, rows.shape[0]))
        found = derivatives(rows[at])
        projected = [apply_to_modes(each, dual, m) for m, each in enumerate(found, start=1)]
        yield at, bell_tensors(projected)[-1].reshape(at.shape[0], -1)[:, flat]


def hermite_of_several(
    values: Array, covariance: Array, powers: Sequence[tuple[int, ...]]
) -> Array:
    """Hermite polynomials of several variables, (n_rows, len(powers)); see `second_moment_sums`.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.paper._moments import hermite_of_several
    >>> hermite_of_several(np.array([[2.0, 3.0]]), np.eye(2), [(2, 0), (1, 1), (2, 2)])
    array([[ 3.,  6., 24.]])
    """
    known: dict[tuple[int, ...], Array] = {(0,) * values.shape[1]: np.ones(values.shape[0])}

    def polynomial(alpha: tuple[int, ...]) -> Array:
        if alpha not in known:
            i = next(place for place, power in enumerate(alpha) if power)
            lower = _lowered(alpha, i)
            total = values[:, i] * polynomial(lower)
            for j, power in enumerate(lower):
                if power:
                    total = total - covariance[i, j] * power * polynomial(_lowered(lower, j))
            known[alpha] = total
        return known[alpha]

    return np.stack([polynomial(alpha) for alpha in powers], axis=1)


def _lowered(alpha: tuple[int, ...], place: int) -> tuple[int, ...]:
    return (*alpha[:place], alpha[place] - 1, *alpha[place + 1 :])


def rank_one_entries(moment: Array, degree: int, leading: float) -> Array:
    r"""Turn contracted moments into the entries of U_i^{(x)l}, (n_hidden, n_hidden, .., n_hidden).

    The moment is that of a *symmetrised* power: with p the multiplicities of m_1, .., m_l,

    .. math:: E\bigl[(A_2^+ y)_i\, S_{l^2}(v_{m_1}^l, .., v_{m_l}^l)\bigr]
              = (l^2)!\, c_l^{l+1} \binom{l}{p} \binom{l^2}{l p}^{-1} \prod_r U_{i m_r}

    (:eq:`score-contraction` for l = 2). The two multinomial coefficients are what a reading of the
    moment as sum_i A2_i (x) R_i (x) R_i, R_i = sum_j U_ij a_j^l, leaves out.

    Parameters
    ----------
    moment : ndarray of shape (n_hidden, n_entries)
        Means, in the order of the entries m_1 <= .. <= m_l.
    degree : int
        l.
    leading : float
        c_l.
    """
    k = moment.shape[0]
    tensor = np.empty((k,) * (degree + 1))
    scale = factorial(degree**2) * leading ** (degree + 1)
    for column, place in enumerate(indices_of_units(k, degree)):
        counts = [place.count(m) for m in set(place)]
        few = factorial(degree) / np.prod([factorial(n) for n in counts])
        many = factorial(degree**2) / np.prod([float(factorial(degree * n)) for n in counts])
        values = moment[:, column] * (many / few) / scale
        for order in set(permutations(place)):
            np.moveaxis(tensor, 0, -1)[order] = values
    return tensor


@dataclass(frozen=True)
class ErrorSums(Sums):
    """Squared error of a network: `n_rows` rows, and the sum of |y - y^|^2."""

    n_rows: float
    squares: float

    @property
    def mean(self) -> float:
        """Mean squared error of a step."""
        return self.squares / self.n_rows


def error_sums(batch: Batch, model: Network) -> ErrorSums:
    """Sums of one batch for the squared error; an `ExplosionError` if the model explodes."""
    left = to_host(take_rows(residual_rows(model, batch, run_states(model, batch)), batch.counted))
    weights = np.ones(left.shape[0])
    if batch.weights is not None:
        weights = batch.weights[batch.counted_rows]
    return ErrorSums(float(weights.sum()), float(weights @ (left**2).sum(axis=1)))


@dataclass(frozen=True)
class SampleMoments:
    """Moments of data: each a pass, by averages over all steps.

    Parameters
    ----------
    data : Sequences
    law : HermiteLaw or DerivativeLaw
    degree : int
    """

    data: Sequences
    law: HermiteLaw
    degree: int

    def _source(self, margin: int) -> Source:
        before, after = self.law.context
        return Source.around(self.data, before + margin, after + margin)

    def first(self) -> Array:
        """E[y (x) S_l(t)], shape (n_outputs, n_inputs, .., n_inputs)."""
        function = partial(cross_moment_sums, chain=self.law, order=self.degree)
        return Engine().run(function, self._source(0)).finalize(unbiased=True)

    def second(self, dual: Array, readout: Array, shift: int) -> Array:
        """Contracted E[y (x) S_{l^2}(t + shift)], (n_hidden, n_entries)."""
        function = partial(
            second_moment_sums,
            law=self.law,
            dual=dual,
            readout=readout,
            degree=self.degree,
            shift=shift,
        )
        return Engine().run(function, self._source(1)).finalize()

    def error(self, model: Network) -> float:
        """Mean squared error of a network; infinite where it explodes."""
        try:
            sums = Engine().run(partial(error_sums, model=model), Source(self.data))
        except ExplosionError:
            return np.inf
        return sums.mean
