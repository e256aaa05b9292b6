"""Score moments T = E[y (x) S_m] as mergeable sums (the paper's first moment)."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import combinations
from math import factorial
from os import PathLike

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import contiguous, empty, like, namespace, room, take_rows, to_host
from gloree._monomials import (
    apply_to_modes,
    block_rows,
    monomial_positions,
    n_monomials,
    symmetric_powers,
    unpack_symmetric,
)
from gloree._parameters import check_flag
from gloree._storage import load_arrays, reading, save_arrays
from gloree._sums import Sums
from gloree.chains import HermiteLaw, as_law, fingerprint, require, with_metric
from gloree.engine import Engine, Source
from gloree.moments._regression_moment import control_variate
from gloree.score_functions import score_tensors
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
    law : int
        Checksum of the law and of the projection, so that sums under different ones are never
        merged.
    """

    order: int = field(metadata={"setting": True})
    covariances: Array = field(metadata={"setting": True}, repr=False)
    counts: Array
    output_sums: Array
    sums: Array = field(repr=False)
    law: int = field(default=0, metadata={"setting": True}, repr=False)

    @classmethod
    def identity(
        cls, chain: HermiteLaw, n_outputs: int, order: int, projection: Array | None = None
    ) -> CrossMoment:
        """Return the statistic of no data."""
        if chain.capabilities.hermite:
            covariances = chain.precision_blocks(0)
        else:  # sums are of the tensors themselves, and lower orders take no part
            covariances = np.zeros((1, chain.n_inputs, chain.n_inputs))
        if projection is not None:
            covariances = projection.T @ covariances @ projection
        types, n_inputs = covariances.shape[:2]
        entries = sum(n_monomials(n_inputs, degree) for degree in _degrees(order))
        shapes = ((types,), (types, n_outputs), (types, n_outputs + 1, entries))
        law = zlib.crc32(fingerprint(chain).encode())
        if projection is not None:
            law = zlib.crc32(np.ascontiguousarray(projection), law)
        counts, output_sums, sums = map(np.zeros, shapes)
        return cls(order, covariances, counts, output_sums, sums, law)

    @property
    def n_rows(self) -> float:
        """Rows summed."""
        return float(self.counts.sum())

    def finalize(self, *, centre: bool = True, unbiased: bool = False) -> Array:
        """Return the moment tensor, shape (n_outputs, n_inputs, .., n_inputs).

        With `centre`, the mean output of each boundary type is subtracted first, as score tensors
        have mean zero: the variance is much smaller. The mean of n rows holds each of them, so that
        the part of such a type is 1 / n too small, and all of it where there is one row. `unbiased`
        divides by n - 1 in place of n (of a single row it takes off the mean of all N rows, and
        divides by N - 1 in place of N); it needs sums without weights. If nothing has been summed,
        it is a ValueError.
        """
        if self.n_rows == 0:
            raise ValueError("the moment of no data: merge the sums of a batch into it first")
        n_inputs = self.covariances.shape[1]
        total = np.zeros((self.sums.shape[1] - 1,) + (n_inputs,) * self.order)
        for boundary_type in np.flatnonzero(self.counts):
            covariance, values = self.covariances[boundary_type], self.sums[boundary_type, :-1]
            if centre:
                count, outputs = self.counts[boundary_type], self.output_sums[boundary_type]
                if unbiased and count == 1.0:
                    count, outputs = self.n_rows, self.output_sums.sum(axis=0)
                values = values - np.outer(outputs / count, self.sums[boundary_type, -1])
                if unbiased and count > 1.0:
                    values = values * (count / (count - 1.0))
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
        known = {each.name for each in fields(cls)} - {"law"}
        arrays = load_arrays(path, _FORMAT, _VERSION, known, optional=("law",))
        order, law = arrays.pop("order"), arrays.pop("law", np.array(0))
        with reading(path, _FORMAT):
            if order.shape or order.dtype.kind not in "iu" or not 0 < order <= LARGEST_ORDER:
                raise ValueError(f"an order of {order!r:.50}")
            if law.shape or law.dtype.kind not in "iu":
                raise ValueError(f"a checksum of the law of {law!r:.50}")
            found = cls(int(order), **arrays, law=int(law))
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
    """Symmetric part of tensor (x) matrix^(x)power, all modes but the first.

    Of symmetric factors, so that one matrix at a time takes every pair of places: a few dozen
    arrangements, where all of m modes would be m!.
    """
    for _ in range(power):
        product = np.multiply.outer(tensor, matrix)
        pairs = list(combinations(range(1, product.ndim), 2))
        tensor = np.sum([np.moveaxis(product, (-2, -1), pair) for pair in pairs], axis=0)
        tensor = tensor / len(pairs)
    return tensor


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
    chain : HermiteLaw or DerivativeLaw
    order : int
        m >= 1.
    projection : ndarray of shape (n_inputs, n_directions), optional
        V: the moment is taken of V^T s, E[y (x) S_m(V, .., V)].
    targets : callable, optional
        Outputs to use, from the batch; the batch's own by default. Residuals y - y^ give
        control-variate moments.

    Notes
    -----
    Time O(n_rows n_outputs C(d + m - 1, m)), memory a cache-sized block. Where the law is not
    Hermite, the score tensors of a block of rows are formed: O(n_rows 2^m d^m) besides.
    """
    outputs = batch.targets if targets is None else targets(batch)
    if not chain.capabilities.hermite:
        return _tensor_sums(batch, chain, order, projection, to_host(outputs))
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


def _tensor_sums(
    batch: Batch, chain: HermiteLaw, order: int, projection: Array | None, outputs: Array
) -> CrossMoment:
    """Sums of one batch for a law whose score tensors are not Hermite: of y S_m, block by block."""
    total = CrossMoment.identity(chain, outputs.shape[1], order, projection)
    at, counted = score_tensors(chain, batch, order), batch.counted_rows
    size = total.covariances.shape[1]
    different = np.unique(monomial_positions(size, order), return_index=True)[1]
    step = block_rows(chain.n_inputs**order)
    for begin in range(0, counted.shape[0], step):
        rows = counted[begin : begin + step]
        tensors = at(rows)[-1]
        if projection is not None:
            tensors = apply_to_modes(tensors, projection.T, order)
        entries = tensors.reshape(rows.shape[0], -1)[:, different]
        weights = np.ones(rows.shape[0]) if batch.weights is None else batch.weights[rows]
        values = np.column_stack((outputs[rows], np.ones(rows.shape[0]))) * weights[:, np.newaxis]
        total.counts[0] += weights.sum()
        total.output_sums[0] += values[:, :-1].sum(axis=0)
        total.sums[0][:, : different.size] += values.T @ entries
    return total


def cross_moment(
    chain: object,
    X: object,
    Y: object,
    order: int,
    *,
    lengths: ArrayLike | None = None,
    centre: bool = True,
    control: bool | None = None,
) -> Array:
    r"""Score moment T = E[y_t (x) S_m(t)], averaged over all steps.

    For a network with polynomial activation of degree l = m this is
    :math:`l!\, c_l \sum_i A_{2,i} \otimes a_i^{\otimes l}` whatever the recurrence, the biases and
    the chain are (first moment of [SA16]_).

    Parameters
    ----------
    chain : HermiteLaw, DerivativeLaw, callable or arrays
        Law of the inputs; or scores of your own: a function from the inputs of one sequence,
        (n_steps, n_inputs), to the scores of its steps (for orders 1 and 2, see `ScoreFunction`);
        S_1 of the data, in the form of `X`, for order 1; or a tuple (S_1, S_2, ..) up to `order`.
    X, Y : array or list
        Inputs and outputs (see `gloree.sequences.as_sequences`).
    order : int
        m >= 1.
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.
    centre : bool, default True
        Centre the outputs (see `CrossMoment.finalize`).
    control : bool, optional
        Whether a polynomial of the inputs of degree m, fitted to the outputs, is a control variate:
        its own moment is known without scores, and only its residual is averaged (:eq:`rounds`).
        Right wherever the plain average is, with less noise by as much as the polynomial explains.
        By default it is taken unless the law is Gaussian, whose own path is the plain average.

    Returns
    -------
    ndarray of shape (n_outputs, n_inputs, .., n_inputs)

    Raises
    ------
    TypeError
        If `chain` is no input law, or `order` no integer.
    LawError
        If the law does not declare score tensors of this order, exact at the ends.
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
    check_flag("centre", centre)
    if control is not None:
        check_flag("control", control)
    purpose = "cross_moment(chain, X, Y, order)"
    if any(hasattr(each, "capabilities") for each in (X, Y)):
        raise TypeError(f"`chain` is a {type(chain).__name__}, and a law came later: {purpose}")
    data = as_sequences(X, Y, lengths=lengths, keep_tensors=True)
    given = as_law(chain, n_inputs=data.n_inputs, lengths=data.lengths)
    law = require(given, order=order, tensors=order > 1, edges=True, digits=True, purpose=purpose)
    if data.Y is None:
        raise ValueError("`Y` is missing: a cross moment needs outputs")
    if data.n_inputs != law.n_inputs:
        raise ValueError(f"`X` has {data.n_inputs} inputs, `chain` has {law.n_inputs}")
    scored = with_metric(law, np.eye(law.n_inputs))
    function = partial(cross_moment_sums, chain=scored, order=order)
    source = Source.around(data, *law.context)
    if not (not law.capabilities.hermite if control is None else control):
        return Engine().run(function, source).finalize(centre=centre, unbiased=True)
    known, residuals = control_variate(source, order)
    sums = Engine().run(partial(function, targets=residuals), source)
    return known + sums.finalize(centre=centre, unbiased=True)
