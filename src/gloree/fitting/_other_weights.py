r"""Whether the labels determine the weights, or other ones have nearly the same likelihood.

Where a likelihood is flat, starts end at one value of it with weights far from each other. And
where there is a unit too many it has many maxima, all of them within chance of the network without
that unit. The information H at a single one of them shows it. With w_i what unit i gives, its
output weights and the weights U_ji of the other units, noise alone reaches

.. math::
    w_i^\top C_i^{-1} w_i \;\le\; \bigl(\sqrt{n_i} + \sqrt{l\, m_i} + 3\bigr)^2,
    \qquad C = (H + \epsilon \operatorname{diag} H)^+ ,

the bound of `noise_limit` with n_i the free ones among the w_i and m_i the inputs and states that
the unit sees. The small epsilon turns combinations of weights that the data do not determine at
all, which an inverse holds fixed, into ones of large variance: two equal units share their output
weights in any way. Columns of X that follow from others are no matter of the units: no w_i depends
on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gloree.diagnostics import Finding, PrecisionWarning
from gloree.fitting._units import noise_limit, wald
from gloree.metrics import align
from gloree.models import Network
from gloree.refinement import (
    HessianSums,
    Layout,
    inverse_root,
    label_gauge,
    without_common_part,
)
from gloree.sequences import Array, IntArray

CHANCE = 1e-3
"""Probability of a confidence region's complement: weights outside it are others."""

HARDLY = 1e-10
"""Part of each weight's own information that is added to it: far more than rounding, and far less
than any that weights with a standard error worth the name have left once others may move."""

NEVER = 1e-90
"""Information, relative to the largest, of a weight that no row depends on."""


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


@dataclass(frozen=True)
class UnitEffects:
    """Wald statistics of what each unit gives, and what noise alone would reach; (n_hidden,)."""

    statistics: Array
    limits: Array

    @property
    def undetermined(self) -> IntArray:
        """Units whose effect noise could have made."""
        return np.flatnonzero(~(self.statistics > self.limits))

    def findings(self) -> tuple[Finding, ...]:
        """Say which units noise could have made, if there are any."""
        some = self.undetermined
        if some.size == 0:
            return ()
        each = ", ".join(
            f"{i} ({self.statistics[i]:.3g}, noise up to {self.limits[i]:.3g})" for i in some
        )
        finding = Finding(
            PrecisionWarning,
            f"the labels do not tell hidden unit(s) {each} of {self.limits.shape[0]} from noise "
            f"(in brackets the Wald statistic of what the unit gives): a unit less, or clearly "
            f"other weights, may give them nearly the same likelihood; probabilities can be relied "
            f"on, but not the weights and their standard errors, those of other units included",
            "lower `n_hidden` by 1 and fit again (two units in the place of one both look like "
            "noise), or give more data if the units are real",
        )
        return (finding,)


def unit_effects(
    model: Network, information: HessianSums, layout: Layout, order: IntArray | None = None
) -> UnitEffects:
    """Test what each unit gives by the information of the labels at a maximum.

    `order` are the old units at each new place, where the units of the model that is reported stand
    in another order. O(size^3) time.
    """
    covariance = open_covariance(model, information, layout)
    vector, index = layout.vector(model), layout.indices
    degree = model.activation.degree or 2
    statistics, limits = np.zeros(layout.n_hidden), np.zeros(layout.n_hidden)
    for part in layout.directions:
        name, n_seen = f"{part.prefix}recurrent_weights", part.columns.shape[0]
        n_free = layout.n_outputs - 1  # weights add up to zero over the labels
        if name in index:
            n_free, n_seen = n_free + part.n_units - 1, n_seen + part.n_units
        for own, unit in enumerate(range(part.units.start, part.units.stop)):
            places = index["output_weights"][unit]
            if name in index:
                places = np.concatenate((places, np.delete(index[name][:, own], own)))
            statistics[unit] = wald(vector[places], covariance[np.ix_(places, places)])
            limits[unit] = noise_limit(n_free, degree * n_seen)
    order = np.arange(layout.n_hidden) if order is None else order
    return UnitEffects(statistics[order], limits[order])


def open_covariance(model: Network, information: HessianSums, layout: Layout) -> Array:
    """Inverse of the information, (size, size), large along what the data do not determine.

    Scales of units, and what all labels have in common, are held fixed.
    """
    H = information.hessian.copy()
    diagonal = np.diag(H)
    least = NEVER * float(np.max(diagonal, initial=0.0))
    H[np.diag_indices_from(H)] = np.maximum((1.0 + HARDLY) * diagonal, least)
    root = inverse_root(H, np.vstack((layout.scale_constraints(model), label_gauge(layout))))
    return np.asarray(root @ root.T)
