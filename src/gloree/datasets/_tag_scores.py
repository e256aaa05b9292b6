"""Linear scores of a word for its own tag and those of its neighbours.

The weights of its features come from a ridge regression of the indicators of the tags, which is a
linear system, or from a log-linear model, which takes gradient steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gloree.sequences import Array, IntArray

Weights = NDArray[np.float32]

CURVATURE = 0.05  # typical p (1 - p) of a tag, the curvature per occurrence of a feature
MEMORY = 6  # steps from which L-BFGS builds its inverse Hessian
SUFFICIENT_DECREASE, SHORTEST_STEP = 1e-4, 1e-6


def shifted(index: IntArray, lengths: IntArray, offset: int, outside: int) -> IntArray:
    """Entries `offset` words to the right in the same sentence, or `outside`."""
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    ends = np.repeat(np.cumsum(lengths), lengths)
    at = np.arange(len(index)) + offset
    inside = (at >= starts) & (at < ends)
    found = np.full(len(index), outside, dtype=np.int64)
    found[inside] = index[at[inside]]
    return found


def left_out_in_turn(n_sentences: int, n_folds: int) -> Iterator[NDArray[np.bool_]]:
    """Which sentences each fold leaves out: neighbours, in parts of about the same number."""
    everything = np.arange(n_sentences)
    for fold in np.array_split(everything, n_folds):
        yield np.isin(everything, fold)


def conjugate_gradients(
    product: Callable[[Array], Array], right: Array, diagonal: Array, max_iter: int
) -> Array:
    """Solve a positive definite system for all columns of `right`, of which it keeps no copy.

    `product` multiplies a matrix of directions by the system, whose diagonal scales them. From
    zero, stopped after `max_iter` steps. A column that is solved to rounding stays as it is: what
    is left of its residual is noise, which a system that is singular to rounding would blow up.
    """
    tiny, rounding = np.finfo(right.dtype).tiny, np.finfo(right.dtype).eps ** 2
    weights, residual = np.zeros_like(right), right
    direction = scaled = residual / diagonal
    fall = np.einsum("ij,ij->j", residual, scaled)
    solved = rounding * fall
    for _ in range(max_iter):
        image = product(direction)
        step = fall / np.maximum(np.einsum("ij,ij->j", direction, image), tiny)
        step[fall <= solved] = 0.0
        weights += step * direction
        residual -= step * image
        scaled = residual / diagonal
        left = np.einsum("ij,ij->j", residual, scaled)
        direction = scaled + direction * (left / np.maximum(fall, tiny))
        fall = left
    return weights


def regress_scores(
    F: sparse.csr_matrix,
    index: IntArray,
    lengths: IntArray,
    tags: IntArray,
    n_tags: int,
    *,
    penalties: Sequence[float],
    max_iter: int,
) -> Weights:
    """Weights of the features by ridge regression of the tags; arguments as in `fit_scores`.

    Minimizes ``sum_t |e_{y_t} - F[index_{t+o}] W_o|^2 + penalties_o |W_o|^2`` for each offset o,
    with e the indicators of the tags, by conjugate gradients from zero, stopped after `max_iter`
    steps to regularise. Scores of an offset sum to zero over the tags.
    """
    n_kinds, n_features = F.shape
    width = len(penalties) // 2
    occurrences = np.bincount(index, minlength=n_kinds).astype(np.float64)
    gram = (F.T @ sparse.diags(occurrences) @ F).tocsr()
    ridge = np.repeat(np.asarray(penalties, dtype=np.float64), n_tags)
    right = np.empty((n_features, len(ridge)))
    for place, offset in enumerate(range(-width, width + 1)):
        # the word `offset` to the right of a tag is the word whose tag stands `-offset` from it
        at = shifted(index, lengths, offset, n_kinds)
        ones, shape = np.ones(len(at)), (n_kinds + 1, n_tags)
        counts = sparse.csr_matrix((ones, (at, tags)), shape=shape).tocsr()[:n_kinds]
        right[:, place * n_tags : (place + 1) * n_tags] = (F.T @ counts).toarray()
    diagonal = gram.diagonal()[:, None] + ridge
    weights = conjugate_gradients(lambda d: gram @ d + ridge * d, right, diagonal, max_iter)
    by_offset = weights.reshape(n_features, len(penalties), n_tags)
    by_offset -= by_offset.mean(axis=2, keepdims=True)
    return weights.astype(np.float32)


def fit_scores(
    F: sparse.csr_matrix,
    index: IntArray,
    lengths: IntArray,
    tags: IntArray,
    n_tags: int,
    *,
    penalties: Sequence[float],
    max_iter: int,
) -> Weights:
    """Weights of the features, for every offset in the window and every tag.

    Maximizes ``sum_t log p(y_t) - sum_o penalties_o / 2 |W_o|^2`` with ``p(y_t = k) ~ exp(sum_o
    F[index_{t+o}] W_{o,k})`` over the offsets o from -width to width that stay inside the sentence,
    by L-BFGS from zero. `F` (n_kinds, n_features) holds the features of the different words,
    `index` (n_tokens,) the row of F and `tags` (n_tokens,) the tag of each word of the text.
    Shapes: penalties (2 width + 1,), result (n_features, (2 width + 1) n_tags).
    """
    n_kinds, n_features = F.shape
    n_tokens, n_offsets = len(index), len(penalties)
    width = n_offsets // 2
    places = [shifted(index, lengths, offset, n_kinds) for offset in range(-width, width + 1)]
    rows, ones = np.arange(n_tokens), np.ones(n_tokens, dtype=np.float32)
    size = (n_kinds + 1, n_tokens)
    gather = [sparse.csr_matrix((ones, (place, rows)), shape=size) for place in places]
    counts = F.T @ np.bincount(index, minlength=n_kinds)
    scale = (1.0 / np.sqrt(CURVATURE * counts + min(penalties))).astype(np.float32)
    outside = sparse.csr_matrix((1, n_features), dtype=np.float32)
    scaled = (sparse.vstack([F, outside]) @ sparse.diags(scale)).tocsr().astype(np.float32)
    scaled_transpose = scaled.T.tocsr()
    shrinkage = np.outer(scale**2, np.repeat(penalties, n_tags)).astype(np.float32)
    observed = rows * n_tags + tags
    shape = shrinkage.shape

    def loss(flat: Weights) -> tuple[float, Weights]:
        weights = flat.reshape(shape)
        of_kinds = (scaled @ weights).reshape(n_kinds + 1, n_offsets, n_tags)
        scores = of_kinds[places[0], 0]
        for offset in range(1, n_offsets):
            scores += of_kinds[places[offset], offset]
        scores -= scores.max(axis=1, keepdims=True)
        value = -float(scores.ravel()[observed].sum(dtype=np.float64))
        np.exp(scores, out=scores)
        totals = scores.sum(axis=1, keepdims=True)
        value += float(np.log(totals).sum(dtype=np.float64))
        scores /= totals
        scores.ravel()[observed] -= 1.0
        pull = shrinkage * weights
        gradient = scaled_transpose @ np.hstack([each @ scores for each in gather]) + pull
        return value + 0.5 * float(np.vdot(weights, pull)), gradient.ravel()

    found = _minimize(loss, np.zeros(shape[0] * shape[1], dtype=np.float32), max_iter)
    weights: Weights = found.reshape(shape) * scale[:, None]
    return weights


def _minimize(
    loss: Callable[[Weights], tuple[float, Weights]], x: Weights, max_iter: int
) -> Weights:
    """L-BFGS in single precision with backtracking, stopped after `max_iter` steps."""
    value, gradient = loss(x)
    pairs: list[tuple[Weights, Weights]] = []  # steps, and changes of the gradient
    for _ in range(max_iter):
        direction = -_newton_like(gradient, pairs)
        slope = float(np.vdot(gradient, direction))
        if slope >= 0.0:
            break
        length = 1.0
        while True:
            step = np.float32(length) * direction
            new_value, new_gradient = loss(x + step)
            if new_value <= value + SUFFICIENT_DECREASE * length * slope:
                break
            length /= 2
            if length < SHORTEST_STEP:
                return x
        change = new_gradient - gradient
        x, value, gradient = x + step, new_value, new_gradient
        if np.vdot(step, change) > 0.0:
            pairs = [*pairs[1 - MEMORY :], (step, change)]
    return x


def _newton_like(gradient: Weights, pairs: list[tuple[Weights, Weights]]) -> Weights:
    """Inverse Hessian of the last steps times the gradient: the two loops of L-BFGS."""
    if not pairs:
        norm = float(np.linalg.norm(gradient))
        return gradient / np.float32(norm) if norm else gradient
    q = gradient.copy()
    shares = []
    for step, change in reversed(pairs):
        shares.append(np.vdot(step, q) / np.vdot(step, change))
        q -= shares[-1] * change
    step, change = pairs[-1]
    q *= np.vdot(step, change) / np.vdot(change, change)
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        q += (share - np.vdot(change, q) / np.vdot(step, change)) * step
    return q
