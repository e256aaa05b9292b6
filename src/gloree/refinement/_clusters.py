"""Scores summed over clusters: pieces of the data whose errors are taken as independent."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gloree._arrays import to_host
from gloree._sums import Sums
from gloree.engine import Engine, Source
from gloree.models import Network
from gloree.refinement._curvature import chunks, hessian_rows
from gloree.refinement._layout import Layout
from gloree.refinement._linearisation import Linearisation
from gloree.refinement._losses import Loss, signal_of
from gloree.refinement._sensitivities import segment_scores, unit_sensitivities
from gloree.sequences import Array, Batch, IntArray, spread_over

MANY_SEQUENCES = 50
"""Sequences from which on they are the clusters; fewer are cut into blocks as well."""

MOST_BLOCKS = 400
"""Blocks of all sequences together: those of long sequences are longer than the root of their
steps, which only makes them more independent."""

JOINED, LEAST_JOINED = 4, 5
"""Blocks of a single sequence that are looked at as one as well, where these are so many at least:
fewer say nothing."""

SAMPLED, SAMPLED_ROWS = (400, 1000), 100_000
"""Least and largest number of sequences for the spread of the score, and their rows: standard
errors are then known to about 4 % or 2 %."""

ROWS_TIMES_WEIGHTS = 2**20
"""Rows times weights up to which each row's sensitivities are found, for the leverage."""

MOST_NUMBERS = 2**22
"""Entries of the J^T J of all blocks together, at most: 32 MiB. A fourth of that of sequences:
where there are many, leverage matters less."""

ROWS_NUMBERS = 2**21
"""Entries of the sensitivities of a batch, about: 16 MiB."""

WHOLE = 2**40
"""Length of a block that every sequence fits into."""


@dataclass(frozen=True)
class ClusterSums(Sums):
    """Scores g = J^T r of clusters, and their J^T J where these were asked for.

    `labels`, (n, 2), are the sequence of each cluster and its number there, in increasing order;
    parts of one cluster add when statistics merge. `lagged` and `squares`, (size,), are sums over
    rows of s_t s_{t-1} and of s_t^2 with s_t = J_t^T r_t (zeros where rows were not looked at).
    """

    labels: IntArray
    n_rows: Array
    scores: Array = field(repr=False)
    hessians: Array = field(repr=False)
    lagged: Array = field(repr=False)
    squares: Array = field(repr=False)

    def merge(self, other: object) -> ClusterSums:
        """Return the sums of both; the clusters that both have a part of add."""
        if not isinstance(other, ClusterSums):
            return super().merge(other)  # raises the error of all sums
        return _by_label(
            np.concatenate((self.labels, other.labels)),
            np.concatenate((self.n_rows, other.n_rows)),
            np.concatenate((self.scores, other.scores)),
            np.concatenate((self.hessians, other.hessians)),
            self.lagged + other.lagged,
            self.squares + other.squares,
        )

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return int(self.labels.shape[0])

    def coarser(self, factor: int) -> ClusterSums:
        """So many neighbouring clusters of a sequence as one."""
        labels = np.column_stack((self.labels[:, 0], self.labels[:, 1] // factor))
        rest = (self.n_rows, self.scores, self.hessians, self.lagged, self.squares)
        return _by_label(labels, *rest)


def _beginnings(labels: IntArray) -> IntArray:
    """Places at which another label begins."""
    changes = np.ones(labels.shape[0], dtype=bool)
    changes[1:] = (np.diff(labels, axis=0) != 0).any(axis=1)
    return np.flatnonzero(changes)


def _by_label(
    labels: IntArray, n_rows: Array, scores: Array, hessians: Array, lagged: Array, squares: Array
) -> ClusterSums:
    """Sums in the order of the labels, with those of one label added."""
    order = np.lexsort((labels[:, 1], labels[:, 0]))
    labels = labels[order]
    first = _beginnings(labels)
    counts, g, A = (
        values[order] if first.size == order.size else np.add.reduceat(values[order], first)
        for values in (n_rows, scores, hessians)
    )
    return ClusterSums(labels[first], counts, g, A, lagged, squares)


def row_cluster_sums(
    batch: Batch, model: Network, layout: Layout, length: int, *, hessians: bool
) -> ClusterSums:
    """Sums of one batch by the sensitivities of every row; clusters are `length` steps long.

    Time O(n_rows size^2), memory O(n_rows n_hidden size + n_clusters size^2).
    """
    at = Linearisation.of(batch, model, layout)
    rows = batch.counted_rows
    residuals, phi = to_host(at.residuals())[rows], to_host(at.leaving())[rows]
    units = [values[:, rows] for values in unit_sensitivities(at)]
    parts = [part for part in layout.directions if part.n_units]
    A2 = model.output_weights
    signal = residuals @ A2.T
    scores = [
        np.einsum("nj,jnp->np", signal[:, part.units], values)
        for part, values in zip(parts, units, strict=True)
    ]
    scores.append((residuals[:, :, None] * phi[:, None, :]).reshape(rows.shape[0], -1))
    each = np.concatenate(scores, axis=1)

    step = np.repeat(batch.first_step, batch.lengths) + batch.local
    labels = np.column_stack((np.repeat(batch.sequence, batch.lengths), step // length))[rows]
    first = _beginnings(labels)
    ends = np.append(first[1:], rows.shape[0])
    same = np.diff(np.repeat(np.arange(batch.lengths.shape[0]), batch.lengths)[rows]) == 0
    matrices = np.zeros((first.shape[0], 0, 0))
    if hessians:
        matrices = _hessians(layout, A2, units, phi, first, ends)
    return _by_label(
        labels[first],
        (ends - first).astype(np.float64),
        np.add.reduceat(each, first) if first.size else each,
        matrices,
        np.einsum("np,np->p", each[1:][same], each[:-1][same]),
        np.einsum("np,np->p", each, each),
    )


def _hessians(
    layout: Layout, A2: Array, units: list[Array], phi: Array, first: IntArray, ends: IntArray
) -> Array:
    """J^T J of stretches of rows, from sensitivities of the units and what enters the outputs."""
    parts = [part for part in layout.directions if part.n_units]
    root = np.asarray(np.linalg.qr(A2.T, mode="r"))  # R^T R = A2 A2^T
    seen = [
        np.einsum("aj,jnp->nap", root[:, part.units], values)
        for part, values in zip(parts, units, strict=True)
    ]
    n_blocks, n_rows, width = first.shape[0], phi.shape[0], layout.n_unit_parameters
    found = np.zeros((n_blocks, layout.size, layout.size))
    joined, times = np.concatenate(seen, axis=2).reshape(-1, width), root.shape[0]
    found[:, :width, :width] = _products(joined, joined, times * first, times * ends)
    for part, values in zip(parts, units, strict=True):
        flat = values.swapaxes(0, 1).reshape(n_rows, -1)
        mixed = _products(flat, phi, first, ends).reshape(n_blocks, part.n_units, part.size, -1)
        coupling = np.einsum("ja,qjpf->qpaf", A2[part.units], mixed)
        found[:, part.block, width:] = coupling.reshape(n_blocks, part.size, -1)
    found[:, width:, :width] = found[:, :width, width:].swapaxes(1, 2)
    gram = _products(phi, phi, first, ends)
    for begin in range(width, layout.size, layout.output_width):
        own = slice(begin, begin + layout.output_width)
        found[:, own, own] = gram
    return found


def _products(left: Array, right: Array, first: IntArray, ends: IntArray) -> Array:
    """Sum of left_t (x) right_t over stretches of all rows, (n_stretches, n_left, n_right)."""
    n, length = first.shape[0], int(ends[0] - first[0]) if first.size else 0
    if bool((ends - first == length).all()):
        stacked = left.reshape(n, length, left.shape[1]).swapaxes(1, 2)
        return np.asarray(stacked @ right.reshape(n, length, right.shape[1]))
    found = np.empty((n, left.shape[1], right.shape[1]))
    for i, (begin, end) in enumerate(zip(first.tolist(), ends.tolist(), strict=True)):
        found[i] = left[begin:end].T @ right[begin:end]
    return found


def segment_cluster_sums(
    batch: Batch, model: Network, layout: Layout, length: int, loss: Loss | None = None
) -> ClusterSums:
    """Sums of one batch by the adjoint: a segment belongs to the cluster that it begins in.

    Scores are those of a `loss`, or of squared errors. Time O(n_rows n_hidden (n_inputs +
    n_hidden)), memory O(n_segments size).
    """
    signal = None if loss is None else partial(signal_of, loss=loss)
    scores = segment_scores(batch, model, layout, signal)
    labels = np.column_stack((batch.sequence, (batch.first_step + batch.before) // length))
    counted = (batch.lengths - batch.before - batch.after).astype(np.float64)
    none, nothing = np.zeros((labels.shape[0], 0, 0)), np.zeros(layout.size)
    return _by_label(labels, counted, scores, none, nothing, nothing)


@dataclass(frozen=True)
class Clusters:
    """Sums over clusters, and what they stand for.

    `sums` are those of the finest clusters. `coarse` are larger ones, the sequences, or some blocks
    of a single one together; None where the finest are the sequences, or where there are too few.
    There are `n_sequences`, `share` of which were looked at; blocks are `length` steps long.
    """

    sums: ClusterSums
    coarse: ClusterSums | None
    n_sequences: int
    share: float
    length: int


def find_clusters(
    model: Network, layout: Layout, engine: Engine, source: Source, loss: Loss | None = None
) -> Clusters:
    """Sum scores over clusters in a pass over the data, or over whole sequences from all over them.

    Many sequences are the clusters themselves; few are cut into blocks of about the root of their
    steps, so that their errors can be told from those common to a sequence. Scores are those of a
    `loss`, or of squared errors.
    """
    data, left_out = source.data, source.left_out
    n_sequences = data.n_sequences - (0 if left_out is None else left_out.size)
    mean_steps = data.n_rows / data.n_sequences
    length, share = WHOLE, 1.0
    if n_sequences < MANY_SEQUENCES:
        chosen = source.sample(source.n_segments)
        length = math.ceil(max(math.sqrt(mean_steps), data.n_rows / MOST_BLOCKS))
    else:
        least, most = SAMPLED
        wanted = min(max(int(SAMPLED_ROWS / mean_steps), least), most)
        chosen = source.whole(spread_over(data.n_sequences, wanted))
        share = np.unique(chosen.sequence).size / n_sequences

    n_rows, size = chosen.n_counted, layout.size
    affordable = max(hessian_rows(layout, source.n_rows), ROWS_TIMES_WEIGHTS // size)
    n_clusters, few = np.unique(chosen.sequence).size + n_rows // length, length < WHOLE
    hessians = bool(n_clusters * size**2 <= (MOST_NUMBERS if few else MOST_NUMBERS // 4))
    n_segments = source.room * 2**19 // size
    if loss is None and n_rows <= affordable and (hessians or few):
        at_once = max(256, ROWS_NUMBERS // ((layout.n_hidden + layout.n_outputs) * size))
        some = chunks(source, chosen, n_segments, min(at_once, source.batch_size))
        function = partial(row_cluster_sums, model=model, layout=layout, length=length)
        sums = engine.run(partial(function, hessians=hessians), some, label="spread")
    else:
        length = max(length, int(chosen.counted.max()))
        some = chunks(source, chosen, n_segments, source.batch_size)
        of_segments = partial(
            segment_cluster_sums, model=model, layout=layout, length=length, loss=loss
        )
        sums = engine.run(of_segments, some, label="spread")
    coarse = None
    if n_sequences == 1:
        coarse = sums.coarser(JOINED)
        coarse = coarse if coarse.n_clusters >= LEAST_JOINED else None
    elif few:
        coarse = sums.coarser(WHOLE)
    return Clusters(sums, coarse, n_sequences, share, length)
