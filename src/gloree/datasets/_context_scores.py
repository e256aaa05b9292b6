"""Linear scores of a word in its sentence for its tag, from the words around it and their pairs."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from gloree.datasets._tag_scores import conjugate_gradients, shifted
from gloree.sequences import Array, IntArray

NEIGHBOURS = (-1, 0, 1)
"""Places of the words whose own features have a part in the scores."""


def regress_context(
    F: sparse.csr_matrix,
    index: IntArray,
    lengths: IntArray,
    pairs: sparse.csr_matrix,
    tags: IntArray,
    n_tags: int,
    *,
    penalties: tuple[float, float, float, float],
    max_iter: int,
) -> tuple[Array, Array, Array]:
    """Ridge regression of the tag on the features of a word, its two neighbours and the pairs.

    Minimizes ``sum_t |e_{y_t} - m - sum_o F[index_{t+o}] W_o - pairs_t V|^2`` plus the squared
    weights times `penalties` (of W_-1, W_0, W_1, V) by conjugate gradients from zero, stopped after
    `max_iter` steps to regularise. m are the frequencies of the tags.

    Parameters
    ----------
    F : csr_matrix of shape (n_kinds, n_features)
        Features of the different words.
    index, tags : ndarray of shape (n_words,)
        Row of F, and number of the tag, of each word of the text.
    lengths : ndarray of shape (n_sentences,)
    pairs : csr_matrix of shape (n_words, n_pairs)
    n_tags : int
    penalties : tuple of four floats
    max_iter : int

    Returns
    -------
    W : ndarray of shape (n_features, 3 n_tags)
    V : ndarray of shape (n_pairs, n_tags)
    m : ndarray of shape (n_tags,)

    Notes
    -----
    Time O(max_iter n_tags (non-zeros of F and of pairs)), memory O(n_words n_tags).
    """
    n_kinds, n_features = F.shape
    n_words, n_pairs = pairs.shape
    places = [shifted(index, lengths, offset, n_kinds) for offset in NEIGHBOURS]
    ones, rows = np.ones(n_words, dtype=np.float32), np.arange(n_words)
    shape = (n_kinds + 1, n_words)
    gather = [sparse.csr_matrix((ones, (at, rows)), shape=shape)[:n_kinds] for at in places]
    F = F.astype(np.float32)
    F_transpose, pairs_transpose = F.T.tocsr(), pairs.T.tocsr()
    spread = [each.T.tocsr() for each in gather]
    slices = [slice(k * n_features, (k + 1) * n_features) for k in range(len(NEIGHBOURS))]
    of_pairs = slice(len(slices) * n_features, len(slices) * n_features + n_pairs)

    def scores(weights: Array) -> Array:
        found = pairs @ weights[of_pairs]
        for own, each in zip(slices, spread, strict=True):
            found += each @ (F @ weights[own])
        return np.asarray(found)

    def sums(residual: Array) -> Array:
        parts = [F_transpose @ (each @ residual) for each in gather]
        return np.vstack([*parts, pairs_transpose @ residual])

    squares = F_transpose.multiply(F_transpose)
    counts = [squares @ np.asarray(each.sum(axis=1)).ravel() for each in gather]
    counts.append(np.asarray(pairs.sum(axis=0)).ravel())
    each_penalty = zip(counts, penalties, strict=True)
    ridge = np.concatenate([np.full(len(n), p, dtype=np.float32) for n, p in each_penalty])[:, None]
    diagonal = np.concatenate(counts).astype(np.float32)[:, None] + ridge
    mean = np.bincount(tags, minlength=n_tags) / n_words
    right = sums(np.eye(n_tags, dtype=np.float32)[tags] - mean.astype(np.float32))
    weights = conjugate_gradients(lambda d: sums(scores(d)) + ridge * d, right, diagonal, max_iter)
    by_offset = [weights[own] for own in slices]
    return np.hstack(by_offset), weights[of_pairs], np.asarray(mean)


def scores_of_neighbours(table: Array, index: IntArray, lengths: IntArray) -> Array:
    """Sum of the parts of the words at `NEIGHBOURS` in the scores, (n_words, n_scores).

    A row of `table`, (n_kinds, 3 n_scores), has the parts of a word as that before, the word itself
    and that after, and `index` is the row of each word. Nothing comes from beyond a sentence.
    """
    n_kinds, size = len(table), table.shape[1] // len(NEIGHBOURS)
    padded = np.vstack([table, np.zeros(table.shape[1])])
    found = np.zeros((len(index), size))
    for place, offset in enumerate(NEIGHBOURS):
        at = shifted(index, lengths, offset, n_kinds)
        found += padded[at, place * size : (place + 1) * size]
    return found
