r"""Which units are in their mirror images: told by the state before the first step.

Where f(2 z0 - z) = 2 f0 - f(z), all images of a network fit alike but for the first step
(:eq:`mirror`): the state before it is zero, where images would have 2 f0. A descent that starts in
one ends there, above the optimum. With one more column of the inputs, which is 1 at the first step
of a sequence and 0 later, e = U h_0 is free, and all images fit alike, exactly. Then

.. math:: e = U h_0, \qquad h_{0,i} \in \{0, 2 f_0\},

says which units to mirror. To second order, with H = J^T J at the free optimum theta, what the
squared error of an image is above it is the Wald statistic of its constraint g = e - U h = D theta,

.. math:: W(h) = g^T (D H^{-1} D^T)^{-1} g,

and the images of least W are tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gloree._arrays import to_host
from gloree.engine import Source
from gloree.models import Network, mirror_images
from gloree.refinement import Layout
from gloree.sequences import Array, Batch

ENUMERATED = 10
"""Units of which all sets are looked at."""

MOST_IMAGES = 6
"""Images that are kept, at most."""

DEPENDENT = 1e-12
"""Singular values that count as zero, relative to the largest."""


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


@dataclass(frozen=True)
class Images:
    """Sets of units, (n_sets, n_hidden) of booleans, those of least `losses` first.

    `losses`, (n_sets,), are W in noise variances; of the network that they are images of, with a
    free state before the first step.
    """

    model: Network
    sets: np.ndarray
    losses: Array

    @property
    def margin(self) -> float:
        """How much worse the second best is, in noise variances."""
        return float(self.losses[1] - self.losses[0]) if len(self.losses) > 1 else np.inf

    def network(self, place: int) -> Network:
        """The network with these units in their images, whose state before the start is zero."""
        return mirror_images(narrowed(self.model), np.flatnonzero(self.sets[place]))


def narrowed(model: Network) -> Network:
    """Network without the last column of the inputs."""
    direct = model.direct_weights
    return model.replace(
        input_weights=model.input_weights[:, :-1],
        direct_weights=None if direct is None else direct[:-1],
    )


def images_of(model: Network, layout: Layout, hessian: Array, variance: float) -> Images:
    """Images of a network with a free first state, by their Wald statistics.

    Parameters
    ----------
    model : Network
        At the optimum of all weights, the last column of the inputs marks first steps.
    layout : Layout
        Its free weights, that column included.
    hessian : ndarray of shape (size, size)
        J^T J.
    variance : float
        Of a residual.

    Returns
    -------
    Images

    Notes
    -----
    All 2^n_hidden sets of up to `ENUMERATED` units, in O(n_hidden^3) time each; of more units those
    that changes of one or two of them lead to, from none.
    """
    assert model.activation.centre is not None
    k, height = model.n_hidden, 2.0 * model.activation.centre[1]
    places = layout.indices
    own = np.concatenate((places["input_weights"][:, -1], places["recurrent_weights"].ravel()))
    size = 1.0 / np.sqrt(np.maximum(np.diag(hessian), 1e-300))
    scaled = hessian * np.outer(size, size)
    inverse = np.linalg.pinv(scaled, rcond=DEPENDENT, hermitian=True)[np.ix_(own, own)]
    covariance = inverse * np.outer(size[own], size[own])
    blocks = covariance.reshape(k * (k + 1), k * (k + 1))

    def losses(sets: np.ndarray) -> Array:
        found = np.empty(len(sets))
        for n, h in enumerate(height * sets):
            D = np.hstack([np.eye(k), -np.kron(np.eye(k), h)])
            g = model.input_weights[:, -1] - model.recurrent_weights @ h
            found[n] = g @ np.linalg.lstsq(D @ blocks @ D.T, g, rcond=DEPENDENT)[0]
        return found / max(variance, 1e-300)

    sets = _all_sets(k) if k <= ENUMERATED else _by_changes(k, losses)
    values = losses(sets)
    order = np.argsort(values, kind="stable")[:MOST_IMAGES]
    return Images(model, sets[order], values[order])


def _all_sets(k: int) -> np.ndarray:
    return (np.arange(2**k)[:, None] >> np.arange(k) & 1).astype(bool)


def _by_changes(k: int, losses: Callable[[np.ndarray], Array]) -> np.ndarray:
    """Sets on the way down from none, and all that differ from the last in one unit."""
    now, visited = np.zeros(k, dtype=bool), []
    for _ in range(2 * k):
        around = now ^ np.vstack([np.zeros(k, dtype=bool), np.eye(k, dtype=bool)])
        visited.append(around)
        best = int(np.argmin(losses(around)))
        if best == 0:
            break
        now = around[best]
    return np.unique(np.concatenate(visited), axis=0)
