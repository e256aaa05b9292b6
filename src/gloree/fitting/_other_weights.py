"""Whether networks of nearly equal likelihood have the same weights.

Where a likelihood is flat, starts end at one value of it with weights far from each other.
"""

from __future__ import annotations

from collections.abc import Iterable

from scipy import stats

from gloree.metrics import align
from gloree.models import Network
from gloree.refinement import HessianSums, Layout, without_common_part

CHANCE = 1e-3
"""Probability of a confidence region's complement: weights outside it are others."""


def squared_distance(
    model: Network, other: Network, information: HessianSums, layout: Layout
) -> float:
    """(theta - theta')^T H (theta - theta') of two networks of labels, up to their symmetries.

    `information` H is that of the canonical form of `model`. At a maximum of the likelihood this is
    twice what the log-likelihood loses on the way to the other, were it quadratic. Zero where units
    cannot be matched.
    """
    try:
        pair = align(without_common_part(other), without_common_part(model))
    except ValueError:
        return 0.0
    way = layout.vector(pair.model) - layout.vector(pair.truth)
    return float(way @ information.hessian @ way)


def any_elsewhere(
    model: Network, others: Iterable[Network], information: HessianSums, layout: Layout
) -> bool:
    """Whether one of them lies outside the confidence region of the weights of `model`."""
    allowed = stats.chi2.isf(CHANCE, layout.size)
    return any(squared_distance(model, other, information, layout) > allowed for other in others)
