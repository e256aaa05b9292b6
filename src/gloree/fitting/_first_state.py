r"""Which units are in their mirror images: told by the state before the first step.

Where f(2 z0 - z) = 2 f0 - f(z), all images of a network fit alike but for the first step
(:eq:`mirror`): the state before it is zero, where images would have 2 f0. A descent that starts in
one ends there, above the optimum. With one more column of the inputs, which is 1 at the first step
of a sequence and 0 later, e = U h_0 is free, and all images fit alike, exactly. Then

.. math:: e = U h_0, \qquad h_{0,i} \in \{0, 2 f_0\},

says which units to mirror: by rounding, and changes of one or two units at a time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gloree._arrays import to_host
from gloree.engine import Source
from gloree.models import Network, mirror_images
from gloree.sequences import Array, Batch, IntArray


def first_step(batch: Batch) -> Array:
    """A column that is 1 at the first step of a sequence, (n_rows, 1)."""
    first = (batch.local == 0) & np.repeat(batch.from_start, batch.lengths)
    return np.asarray(to_host(first)[:, None].astype(np.float64))


def with_first_step(source: Source) -> Source:
    """The same data with that column."""
    return replace(source, beside=first_step)


def widened(model: Network) -> Network:
    """Network that sees one more column, by weights of zero."""
    direct = model.direct_weights
    return model.replace(
        input_weights=np.column_stack([model.input_weights, np.zeros(model.n_hidden)]),
        direct_weights=None if direct is None else np.vstack([direct, np.zeros(model.n_outputs)]),
    )


def from_first_state(model: Network) -> Network:
    """The image whose state before the first step is zero, without the last column."""
    centre, direct = model.activation.centre, model.direct_weights
    assert centre is not None
    entering = model.input_weights[:, -1]
    units = images_of(entering, model.recurrent_weights, 2.0 * centre[1])
    narrow = model.replace(
        input_weights=model.input_weights[:, :-1],
        direct_weights=None if direct is None else direct[:-1],
    )
    return mirror_images(narrow, units)


def images_of(entering: Array, recurrent: Array, height: float) -> IntArray:
    r"""Units with h_i = `height` in min \|e - U h\|^2 over h_i in {0, `height`}.

    Rounds the least-squares solution, and none, and changes one or two units while that helps.

    Parameters
    ----------
    entering : ndarray of shape (n_hidden,)
        e.
    recurrent : ndarray of shape (n_hidden, n_hidden)
        U.
    height : float
        2 f0.

    Returns
    -------
    ndarray of int
        Numbers of the units, increasing.

    Notes
    -----
    Time O(n_hidden^2) for each change.
    """
    columns = recurrent * height
    gram, toward = columns.T @ columns, columns.T @ entering
    rounded = np.linalg.lstsq(columns, entering, rcond=1e-6)[0] > 0.5
    best, lowest = np.zeros(len(entering), dtype=bool), np.inf
    for start in (rounded, np.zeros_like(rounded)):
        chosen, error = _improved(start, gram, toward)
        if error < lowest:
            best, lowest = chosen, error
    return np.flatnonzero(best)


def _improved(start: np.ndarray, gram: Array, toward: Array) -> tuple[np.ndarray, float]:
    """Change one or two entries of h while |e - U h|^2 falls; the error is less |e|^2."""
    h = start.astype(np.float64)
    error = float(h @ gram @ h - 2 * toward @ h)
    for _ in range(4 * len(h) + 1):
        signs = 1.0 - 2.0 * h
        slope = signs * (2 * (gram @ h - toward)) + np.diag(gram)
        change = slope[:, None] + slope[None, :] + 2 * gram * np.outer(signs, signs)
        np.fill_diagonal(change, slope)
        i, j = np.unravel_index(int(np.argmin(change)), change.shape)
        if not change[i, j] < -1e-9 * (abs(error) + abs(float(np.trace(gram)))):
            break
        h[i] = 1.0 - h[i]
        if j != i:
            h[j] = 1.0 - h[j]
        error = float(h @ gram @ h - 2 * toward @ h)
    return h > 0.5, error
