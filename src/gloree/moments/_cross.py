"""Score moments T = E[y (x) S_m] as mergeable sums (the paper's first moment)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import permutations
from math import factorial
from os import PathLike

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import contiguous, empty, like, namespace, room, take_rows, to_host
from gloree._monomials import block_rows, n_monomials, symmetric_powers, unpack_symmetric
from gloree._storage import load_arrays, reading, save_arrays
from gloree._sums import Sums
from gloree.chains import HermiteLaw, require
from gloree.engine import Engine, Source
from gloree.sequences import Array, Batch, as_sequences

_FORMAT, _VERSION = "gloree.CrossMoment", 1

LARGEST_ORDER = 20
"""Order of a moment that is read from a file: beyond any that data of this world determine."""


@dataclass(frozen=True)
class CrossMoment(Sums):
    r"""Sums behind T = E[y_t (x) S_m(t)], one part for each boundary type.

    S_m is the Hermite tensor of the first-order score s_t with covariance K_t,

    .. math:: S_m = \sum_j (-1)^j \frac{m!}{2^j j! (m-2j)!} \mathrm{sym}(s^{m-2j} K^j),

    so only sums of y s^m, y s^(m-2), .. are kept, each different entry once, and no score tensor is
    formed; K enters in `finalize`. Build it with `cross_moment_sums` or `CrossMoment.identity`.

    Attributes
    ----------
    order : int
        m.
    covariances : ndarray of shape (n_boundary_types, n_inputs, n_inputs)
        K of each boundary type (of the projected score, if there is a projection).
    counts : ndarray of shape (n_boundary_types,)
        Rows of each boundary type.
    output_sums : ndarray of shape (n_boundary_types, n_outputs)
        Sums of y.
    sums : ndarray of shape (n_boundary_types, n_outputs + 1, n_entries)
        Sums of (y, 1) times the monomials of s of degree m, m - 2, ..
    """

    order: int = field(metadata={"setting": True})
    covariances: Array = field(metadata={"setting": True}, repr=False)
    counts: Array
    output_sums: Array
    sums: Array = field(repr=False)

    @classmethod
    def identity(
        cls, chain: HermiteLaw, n_outputs: int, order: int, projection: Array | None = None
    ) -> CrossMoment:
        """Return the statistic of no data."""
        covariances = chain.precision_blocks(0)
        if projection is not None:
            covariances = projection.T @ covariances @ projection
        types, n_inputs = covariances.shape[:2]
        entries = sum(n_monomials(n_inputs, degree) for degree in _degrees(order))
        shapes = ((types,), (types, n_outputs), (types, n_outputs + 1, entries))
        return cls(order, covariances, *map(np.zeros, shapes))

    @property
    def n_rows(self) -> float:
        """Rows summed."""
        return float(self.counts.sum())

    def finalize(self, *, centre: bool = True) -> Array:
        """Return the moment tensor, shape (n_outputs, n_inputs, .., n_inputs).

        With `centre`, the mean output of each boundary type is subtracted first: the expectation
        is the same (score tensors have mean zero), the variance much smaller. If nothing has been
        summed, it is a ValueError.
        """
        if self.n_rows == 0:
            raise ValueError("the moment of no data: merge the sums of a batch into it first")
        n_inputs = self.covariances.shape[1]
        total = np.zeros((self.sums.shape[1] - 1,) + (n_inputs,) * self.order)
        for boundary_type in np.flatnonzero(self.counts):
            covariance, values = self.covariances[boundary_type], self.sums[boundary_type, :-1]
            if centre:
                means = self.output_sums[boundary_type] / self.counts[boundary_type]
                values = values - np.outer(means, self.sums[boundary_type, -1])
            start = 0
            for j, degree in enumerate(_degrees(self.order)):
                size = n_monomials(n_inputs, degree)
                part = unpack_symmetric(values[:, start : start + size], n_inputs, degree)
                start += size
                factor = factorial(self.order) / (2**j * factorial(j) * factorial(degree))
                total += (-1) ** j * factor * _symmetric_product(part, covariance, j)
        return total / self.n_rows

    def save(self, path: str | PathLike[str]) -> None:
        """Write the sums to a versioned .npz file."""
        save_arrays(path, _FORMAT, _VERSION, {f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> CrossMoment:
        """Read what `save` wrote; anything else is a `gloree.models.FormatError`."""
        arrays = load_arrays(path, _FORMAT, _VERSION, [each.name for each in fields(cls)])
        order = arrays.pop("order")
        with reading(path, _FORMAT):
            if order.shape or order.dtype.kind not in "iu" or not 0 < order <= LARGEST_ORDER:
                raise ValueError(f"an order of {order!r:.50}")
            found = cls(int(order), **arrays)
            found._check_shapes()
        return found

    def _check_shapes(self) -> None:
        types, n_inputs = self.covariances.shape[:2]
        n_outputs = self.output_sums.shape[-1]
        entries = sum(n_monomials(n_inputs, degree) for degree in _degrees(self.order))
        shapes = {
            "covariances": (types, n_inputs, n_inputs),
            "counts": (types,),
            "output_sums": (types, n_outputs),
            "sums": (types, n_outputs + 1, entries),
        }
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values.shape != shape or values.dtype.kind not in "iuf":
                raise ValueError(
                    f"{name} of shape {values.shape} and type {values.dtype}, expected numbers of "
                    f"shape {shape}"
                )


def _degrees(order: int) -> range:
    return range(order, -1, -2)


def _symmetric_product(tensor: Array, matrix: Array, power: int) -> Array:
    """Symmetrise tensor (x) matrix^(x)power over all but the first mode."""
    for _ in range(power):
        tensor = np.multiply.outer(tensor, matrix)
    order = tensor.ndim - 1
    if power == 0 or order < 2:
        return tensor
    orders = list(permutations(range(1, order + 1)))
    total: Array = np.sum([tensor.transpose(0, *axes) for axes in orders], axis=0)
    return total / len(orders)


def cross_moment_sums(
    batch: Batch,
    chain: HermiteLaw,
    order: int,
    *,
    projection: Array | None = None,
    targets: Callable[[Batch], Array] | None = None,
) -> CrossMoment:
    """Sums of one batch: the map of a moment pass.

    Parameters
    ----------
    batch : Batch
        With the context rows that the chain's score needs.
    chain : HermiteLaw
    order : int
        m >= 1.
    projection : ndarray of shape (n_inputs, n_directions), optional
        V: the moment is taken of V^T s, E[y (x) S_m(V, .., V)].
    targets : callable, optional
        Outputs to use, from the batch; the batch's own by default. Residuals y - y^ give
        control-variate moments.

    Notes
    -----
    Time O(n_rows n_outputs C(d + m - 1, m)), memory a cache-sized block.
    """
    outputs = batch.targets if targets is None else targets(batch)
    scores, types, counted = chain.scores(batch), chain.boundary_types(batch), batch.counted_rows
    if projection is not None:
        scores = scores @ like(scores, projection)
    total = CrossMoment.identity(chain, outputs.shape[1], order, projection)
    sizes = [n_monomials(scores.shape[1], degree) for degree in _degrees(order)]
    step = block_rows(sum(sizes), room(scores))
    for boundary_type in np.unique(types[counted]):
        chosen = counted[types[counted] == boundary_type]
        for begin in range(0, chosen.shape[0], step):
            rows = chosen[begin : begin + step]
            columns = contiguous(take_rows(scores, rows).T)
            features = empty(scores, (sum(sizes), rows.shape[0]))
            start = 0
            for degree, size in zip(_degrees(order), sizes, strict=True):
                symmetric_powers(columns, degree, features[start : start + size])
                start += size
            weights = np.ones(rows.shape[0]) if batch.weights is None else batch.weights[rows]
            weighted = take_rows(outputs, rows).T * like(scores, weights)
            values = namespace(scores).vstack((weighted, like(scores, weights)))
            total.counts[boundary_type] += weights.sum()
            total.output_sums[boundary_type] += to_host(values[:-1].sum(axis=1))
            total.sums[boundary_type] += to_host(values @ features.T)
    return total


def cross_moment(
    chain: HermiteLaw,
    X: object,
    Y: object,
    order: int,
    *,
    lengths: ArrayLike | None = None,
    centre: bool = True,
) -> Array:
    r"""Score moment T = E[y_t (x) S_m(t)], averaged over all steps.

    For a network with polynomial activation of degree l = m this is
    :math:`l!\, c_l \sum_i A_{2,i} \otimes a_i^{\otimes l}` whatever the recurrence, the biases and
    the chain are (first moment of [SA16]_).

    Parameters
    ----------
    chain : HermiteLaw
        Law of the inputs.
    X, Y : array or list
        Inputs and outputs (see `gloree.sequences.as_sequences`).
    order : int
        m >= 1.
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.
    centre : bool, default True
        Centre the outputs (see `CrossMoment.finalize`).

    Returns
    -------
    ndarray of shape (n_outputs, n_inputs, .., n_inputs)

    Raises
    ------
    TypeError
        If `chain` is no input law, or `order` no integer.
    LawError
        If the law does not declare Hermite score tensors of this order, exact at the ends.
    ValueError
        If `order` < 1, or the data do not fit the chain.

    Notes
    -----
    First and last steps enter with their own score and covariance. Time
    O(n_rows n_outputs C(d + m - 1, m)).

    References
    ----------
    .. [SA16] Sedghi, Anandkumar, arXiv:1603.00954.

    Examples
    --------
    >>> from gloree import datasets, moments
    >>> X, Y, truth, chain = datasets.make_rnn(50, 10, 4, 2, 3, random_state=0)
    >>> moments.cross_moment(chain, X, Y, order=2).shape
    (3, 4, 4)
    """
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)):
        raise TypeError(f"`order` must be an integer, got {order!r}")
    if order < 1:
        raise ValueError(f"`order` must be at least 1, got {order}")
    purpose = "cross_moment(chain, X, Y, order)"
    require(chain, order=order, hermite=True, edges=True, purpose=purpose)
    data = as_sequences(X, Y, lengths=lengths, keep_tensors=True)
    if data.Y is None:
        raise ValueError("`Y` is missing: a cross moment needs outputs")
    if data.n_inputs != chain.n_inputs:
        raise ValueError(f"`X` has {data.n_inputs} inputs, `chain` has {chain.n_inputs}")
    function = partial(cross_moment_sums, chain=chain, order=order)
    sums = Engine().run(function, Source.around(data, *chain.context))
    return sums.finalize(centre=centre)
