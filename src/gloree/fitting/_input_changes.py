"""Whether inputs of new rows follow the law of the old ones: moments of segments, two samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import special

from gloree._arrays import to_host
from gloree._sums import Sums
from gloree.diagnostics import Finding, ScoreWarning
from gloree.engine import Engine, Source
from gloree.sequences import Array, Batch
from gloree.states import step_before

PIECES = 16
"""Pieces that data are cut into, at least, where they are fewer sequences and long."""

SHORTEST = 20
"""Steps of such a piece, at least."""

FEWEST = 4
"""Pieces below which nothing is tested."""

LEVEL = 1e-4
"""Level of the test, over all moments."""

MATERIAL = 0.25
"""Difference of a mean in standard deviations, or of a second moment in variances, from which it
matters."""

MOMENTS = ("mean", "variance", "lag-one product")


@dataclass(frozen=True)
class SegmentMoments(Sums):
    """Sums over segments of totals t of x, x^2 and x_t x_(t-1), and of their lengths n.

    `totals`, `squares` (of t) and `mixed` (n t) have shape (3, n_inputs).
    """

    n_segments: float
    n_rows: float
    lengths: float
    totals: Array
    squares: Array
    mixed: Array

    @property
    def mean(self) -> Array:
        """Of each feature, (3, n_inputs)."""
        return self.totals / self.n_rows

    @property
    def variance(self) -> Array:
        """Of these means, for independent segments: sum (t - n mean)^2 / n^2, (3, n_inputs)."""
        found = self.squares - 2.0 * self.mean * self.mixed + self.mean**2 * self.lengths
        few = self.n_segments / max(self.n_segments - 1.0, 1.0)
        return np.maximum(found, 0.0) * few / self.n_rows**2


def segment_moments(batch: Batch) -> SegmentMoments:
    """Map of the pass, on inputs near mean 0 and variance 1."""
    host = replace(batch, X=to_host(batch.X))
    X, counted = host.X, batch.counted_rows
    features = np.stack((X, X**2, X * step_before(host, X)), axis=1)[counted]
    owner = np.repeat(np.arange(batch.lengths.shape[0]), batch.lengths)[counted]
    edges = np.flatnonzero(np.diff(owner, prepend=-1))
    totals = np.add.reduceat(features, edges, axis=0)
    n = np.diff(edges, append=owner.shape[0]).astype(np.float64)
    return SegmentMoments(
        float(n.shape[0]),
        float(n.sum()),
        float(n @ n),
        totals.sum(axis=0),
        (totals**2).sum(axis=0),
        np.tensordot(n, totals, axes=1),
    )


def moments_of_inputs(
    engine: Engine, source: Source, centre: Array, scale: Array
) -> SegmentMoments:
    """Moments of (x scale - centre) of the single inputs, without windows."""
    n_pieces, segment = source.n_segments, source.segment
    if n_pieces < PIECES and source.data.longest > 2 * SHORTEST:
        segment = max(SHORTEST, source.data.n_rows // PIECES)
    plain = replace(
        source, lags=1, both_ways=False, centre=centre, scale=scale, segment=segment, encode=None
    )
    return engine.run(partial(segment_moments), plain, label="inputs")


def change_of_inputs(old: SegmentMoments, new: SegmentMoments) -> Finding | None:
    """What a two-sample test of the moments finds, if it is more than chance and matters."""
    if min(old.n_segments, new.n_segments) < FEWEST:
        return None
    tiny = np.finfo(np.float64).tiny
    z = np.abs(new.mean - old.mean) / np.sqrt(np.maximum(old.variance + new.variance, tiny))
    spread = np.maximum(old.mean[1] - old.mean[0] ** 2, tiny)
    size = np.abs(new.mean - old.mean) / np.stack((np.sqrt(spread), spread, spread))
    # segments are few: quantiles of Student's t, of the side with fewer
    degrees = min(old.n_segments, new.n_segments) - 1.0
    limit = float(special.stdtrit(degrees, 1.0 - LEVEL / 2.0 / z.size))
    seen = np.where((z > limit) & (size > MATERIAL), size, 0.0)
    if not seen.any():
        return None
    kind, column = np.unravel_index(int(np.argmax(seen)), seen.shape)
    unit = "standard deviations" if kind == 0 else "variances"
    return Finding(
        ScoreWarning,
        f"the inputs of the new rows follow another law than those before: the {MOMENTS[kind]} of "
        f"input {column} differs by {size[kind, column]:.2g} {unit}, "
        f"{z[kind, column]:.1f} standard errors ({int(np.count_nonzero(seen))} of {seen.size} "
        f"moments differ)",
        "weights stay right where the class of networks is; `chain_` is that of all rows together",
    )
